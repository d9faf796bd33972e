"""The callbacks of the pages about decisions, called as a browser does, over a map in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from analytics.decisions import decided
from cql.errors import UnavailableError
from dashboard import app, ids
from dashboard.pages import decide
from tests.dashboard.test_deciding import World
from tests.dashboard.test_decisions import text_id

BASE = "http://127.0.0.1:8050"


class Page:
    """Calls the callback that has an output, with values by "id.property"."""

    def __init__(self, client: TestClient, callbacks: dict[str, Any]) -> None:
        self.client, self.callbacks = client, callbacks

    def call(self, output: str, changed: str, **values: Any) -> dict[str, Any]:
        """`values` by place, dots and dashes as in the id; a list for a pattern's parts."""
        name, made = next(
            (key, made) for key, made in self.callbacks.items()
            if output in key and any(changed == _place(part) for part in made["inputs"])
        )  # fmt: skip
        pressed, value = values.pop("pressed", None), values
        filled = {
            part: [self._fill(item, value) for item in made[part]] for part in ("inputs", "state")
        }
        trigger = changed if pressed is None else f"{pressed}.{changed.rsplit('.', 1)[1]}"
        outputs = [
            {"id": each.rsplit(".", 1)[0], "property": each.rsplit(".", 1)[1].split("@")[0]}
            for each in name.strip(".").split("...")
        ]
        answer = self.client.post(
            "/_dash-update-component",
            json={
                "output": name,
                "outputs": outputs if name.startswith("..") else outputs[0],
                **filled,
                "changedPropIds": [trigger],
            },
        )
        if answer.status_code == 204:
            return {}
        assert answer.status_code == 200, answer.text
        return {
            f"{place}.{prop}": value
            for place, props in answer.json()["response"].items()
            for prop, value in props.items()
        }

    @staticmethod
    def _fill(item: dict[str, Any], values: dict[str, Any]) -> Any:
        found = values.get(_place(item))
        if item["id"].startswith("{"):
            kind = json.loads(item["id"])["type"]
            found = values.get(kind, [])
            filled = [
                {"id": place, "property": item["property"], "value": value}
                for place, value in found
            ]
            # One named part is one value, a pattern is a list of them.
            if "ALL" in item["id"]:
                return filled
            own = next((each for each in filled if each["id"] == json.loads(item["id"])), None)
            return own or {**item, "value": None}
        return {"id": item["id"], "property": item["property"], "value": found}


def _place(item: dict[str, Any]) -> str:
    place = item["id"]
    if place.startswith("{"):
        place = json.loads(place)["type"]
    return f"{place}.{item['property']}"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def page(world: World) -> Iterator[Page]:
    built = app.create(world.settings, world.services)
    with TestClient(built.server, base_url=BASE) as client:
        yield Page(client, {**built.callback_map})


def shown(found: dict[str, Any], place: str) -> str:
    return json.dumps(found[place], ensure_ascii=False)


def test_the_history_is_listed_and_an_act_taken_back(page: Page, world: World) -> None:
    world.decisions.label(world.images_in(0)[:3], "pipe", author="ann")
    found = page.call(ids.DECISIONS_LIST, "url.search", **{"url.search": "?kind=label"})
    assert "Labelled 3 images “pipe”" in shown(found, "decisions-list.children")
    assert "pipe" in shown(found, "decisions-side.children")
    (act,) = world.services.history.page(limit=3).acts
    place = ids.decision_undo(act.subject, "1")
    done = page.call(
        "toasts",
        "decision-undo.n_clicks",
        pressed=text_id(place),
        **{"decision-undo": [(place, 1)]},
    )
    assert "Undone" in shown(done, "toasts.children")
    assert done["refresh.data"]
    assert decided.labels(world.store) == {}
    again = page.call(
        "toasts",
        "decision-undo.n_clicks",
        pressed=text_id(place),
        **{"decision-undo": [(place, 1)]},
    )
    assert "nothing to undo" in shown(again, "toasts.children")


def test_a_selection_is_split_and_labelled(page: Page, world: World) -> None:
    search = "?f.cluster=2"
    found = page.call(ids.DECIDE_BODY, "url.search", **{"url.search": search})
    assert "It is all of “Group 2”" in shown(found, "decide-body.children")
    chosen = [str(image) for image in world.images_in(2)[:3]]
    seen = decide.seen(len(world.images_in(2)), None)
    found = page.call(
        ids.DECIDE_FACTS, "decide-picks.value",
        **{"decide-picks.value": chosen, "decide-seen.data": seen, "url.search": search},
    )  # fmt: skip
    assert "3 checked" in shown(found, "decide-facts.children")
    given = {
        "decide-picks.value": chosen, "decide-seen.data": found["decide-seen.data"],
        "url.search": search,
    }  # fmt: skip
    done = page.call(
        "undo-stack", "decide-split-do.n_clicks",
        **{"decide-split-do.n_clicks": 1, "decide-split.value": "Three", **given},
    )  # fmt: skip
    assert "Split off as “Three”" in shown(done, "toasts.children")
    (subject,) = done["undo-stack.data"]["versions"]
    assert subject.startswith("batch:")
    late = page.call(
        "undo-stack", "decide-split-do.n_clicks",
        **{"decide-split-do.n_clicks": 1, "decide-split.value": "Other", **given},
    )  # fmt: skip
    assert "somebody moved it to 1" in shown(late, "toasts.children")
    labelled = page.call(
        "undo-stack", "decide-label-do.n_clicks",
        **{"decide-label-do.n_clicks": 1, "decide-label.value": "pipe", **given,
           "decide-picks.value": []},
    )  # fmt: skip
    assert "images labelled “pipe”" in shown(labelled, "toasts.children")
    assert len(decided.labels(world.store)) == len(world.images_in(2)) - 3
    nothing = page.call(
        "undo-stack", "decide-label-do.n_clicks",
        **{"decide-label-do.n_clicks": 1, "decide-label.value": "x" * 99, **given},
    )  # fmt: skip
    assert "80 characters" in shown(nothing, "toasts.children")
    empty = page.call(ids.DECIDE_BODY, "url.search", **{"url.search": ""})
    assert "Nothing selected" in shown(empty, "decide-body.children")


def test_a_label_is_spread_after_a_look(page: Page, world: World) -> None:
    world.decisions.label(world.images_in(0)[:3], "pipe", author="ann")
    search = "?label=pipe&k=5"
    found = page.call(ids.SPREAD_BODY, "url.search", **{"url.search": search})
    assert "over all 120" in shown(found, "spread-facts.children")
    near = [each.image_id for each in world.decisions.spread_preview("pipe", 5).near]
    assert all(str(image) in shown(found, "spread-body.children") for image in near)
    given = {"url.search": search, "spread-seen.data": found["spread-seen.data"]}
    none = page.call(
        "undo-stack", "spread-do.n_clicks",
        **{"spread-do.n_clicks": 1, "spread-picks.value": [], **given},
    )  # fmt: skip
    assert "at least one" in shown(none, "toasts.children")
    done = page.call(
        "undo-stack", "spread-do.n_clicks",
        **{"spread-do.n_clicks": 1, "spread-picks.value": [str(i) for i in near[:4]], **given},
    )  # fmt: skip
    assert "4 images labelled “pipe”" in shown(done, "toasts.children")
    assert len(decided.labels(world.store)) == 7
    world.searcher.down = UnavailableError("hosts must answer, they did not: start them")
    lost = page.call(ids.SPREAD_BODY, "url.search", **{"url.search": search})
    assert "start them" in shown(lost, "spread-body.children")
    assert lost["spread-do.disabled"]


def test_chosen_clusters_are_merged_from_their_bar(page: Page, world: World) -> None:
    def boxes(*chosen: int) -> list[Any]:
        keys = [str(world.key(number)) for number in range(5)]
        return [
            (ids.cluster_pick(key), [key] if number in chosen else [])
            for number, key in enumerate(keys)
        ]

    pressed = text_id(ids.cluster_pick(str(world.key(0))))
    for chosen, says in (((), "null"), ((0,), "another cluster"), ((0, 1), "would be one of")):
        found = page.call(
            ids.CLUSTERS_MERGE, "cluster-pick.value", pressed=pressed,
            **{"cluster-pick": boxes(*chosen)},
        )  # fmt: skip
        assert says in shown(found, "clusters-merge.children")
    assert found["clusters-merge-ask.data"]["versions"]
    done = page.call(
        "undo-stack", "clusters-merge-part.n_clicks", pressed=text_id(ids.merge_part("do")),
        **{
            "clusters-merge-part": [(ids.merge_part("do"), 1), (ids.merge_part("name"), "Both")],
            "clusters-merge-ask.data": found["clusters-merge-ask.data"],
        },
    )  # fmt: skip
    assert "2 clusters merged as" in shown(done, "toasts.children")
    assert len(world.services.clusters()) == 4
