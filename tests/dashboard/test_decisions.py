"""Decisions through the real callbacks of the real app, over a ledger in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from starlette.testclient import TestClient

from cql.errors import ConflictError, UnavailableError
from cql.settings import Settings
from dashboard import app, ids
from dashboard.views import ClusterDetail, ClusterView, DecisionView, VerdictView
from tests.dashboard.test_pages import NOW, a_cluster, an_id

KEY = str(a_cluster(1).key)
IMAGE = str(an_id("image"))
BASE = "http://127.0.0.1:8050"


class Ledger:
    """Services that only decide: one cluster and any image, each with a version."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.names = ["Group 1"]
        self.verdicts_: dict[UUID, list[str]] = {}
        self.down = False

    def cluster(self, key: UUID) -> ClusterDetail:
        return ClusterDetail(cluster=self._view(), decisions=(), facets=())

    def _view(self) -> ClusterView:
        made = a_cluster(1, name=self.names[-1])
        return ClusterView(**{n: getattr(made, n) for n in made.__slots__ if n != "version"},
                           version=len(self.names) - 1)  # fmt: skip

    def rename_cluster(
        self, key: UUID, name: str, *, author: str, expected_version: int
    ) -> ClusterView:
        assert str(key) == KEY
        assert author
        if self.down:
            raise UnavailableError("Cassandra must answer, it did not: start it")
        if expected_version != len(self.names) - 1:
            raise ConflictError("another version is there")
        self.names.append(name)
        return self._view()

    def verdicts(self, image_ids: list[UUID]) -> dict[UUID, VerdictView]:
        return {image: self._verdict(image) for image in image_ids}

    def _verdict(self, image: UUID) -> VerdictView:
        given = self.verdicts_.get(image, [])
        return VerdictView(image_id=image, verdict=given[-1] if given else "", version=len(given))

    def set_verdict(
        self, image: UUID, verdict: str, *, author: str, expected_version: int
    ) -> VerdictView:
        given = self.verdicts_.setdefault(image, [])
        if expected_version != len(given):
            raise ConflictError("another version is there")
        given.append(verdict)
        return self._verdict(image)

    def undo(self, subject: str, *, author: str, expected_version: int) -> DecisionView:
        if expected_version != len(self.names) - 1:
            raise ConflictError(f"version {len(self.names) - 1} is there")
        self.names.append(self.names[-2])
        return DecisionView(
            subject=subject, version=len(self.names) - 1, kind="undo", value="", author=author,
            reason="", at=NOW,
        )  # fmt: skip


class Browser:
    """Calls one callback as the browser does."""

    def __init__(self, client: TestClient, callbacks: dict[str, Any]) -> None:
        self.client = client
        self.callbacks = callbacks

    def call(self, changed: str, inputs: list[Any], state: list[Any]) -> dict[str, Any]:
        """Values of all outputs and side updates, by "id.property"."""
        name = next(
            key for key, made in self.callbacks.items()
            if any(changed.split(".")[1] == i["property"] and self._is(i, changed)
                   for i in made["inputs"])
        )  # fmt: skip
        outputs = [
            {"id": part.rsplit(".", 1)[0], "property": part.rsplit(".", 1)[1].split("@")[0]}
            for part in name.strip(".").split("...")
        ]
        answer = self.client.post(
            "/_dash-update-component",
            json={
                "output": name,
                "outputs": outputs if name.startswith("..") else outputs[0],
                "inputs": inputs,
                "state": state,
                "changedPropIds": [changed],
            },
        )
        if answer.status_code == 204:
            return {}
        assert answer.status_code == 200, answer.text
        body = answer.json()
        found = {}
        for place, values in {**body.get("response", {}), **body.get("sideUpdate", {})}.items():
            for prop, value in values.items():
                found[f"{place}.{prop}"] = value
        return found

    @staticmethod
    def _is(wanted: dict[str, Any], changed: str) -> bool:
        place = changed.rsplit(".", 1)[0]
        if not place.startswith("{"):
            return bool(wanted["id"] == place)
        pattern = wanted["id"]
        if not pattern.startswith("{"):
            return False
        return bool(json.loads(place)["type"] == json.loads(pattern)["type"])

    def rename(
        self, typed: str, known: dict[str, Any], stack: Any = None, choice: str = ""
    ) -> dict[str, Any]:
        field = {"id": ids.cluster_name(KEY), "property": "value", "value": typed}
        buttons = [
            {"id": ids.cluster_choice(KEY, c), "property": "n_clicks", "value": int(c == choice)}
            for c in ("theirs", "mine")
        ]
        where = ids.cluster_choice(KEY, choice) if choice else ids.cluster_name(KEY)
        return self.call(
            text_id(where) + (".n_clicks" if choice else ".value"),
            [[field], buttons],
            [
                [field],
                [{"id": ids.cluster_name(KEY), "property": "id", "value": ids.cluster_name(KEY)}],
                [{"id": ids.cluster_version(KEY), "property": "data", "value": known}],
                {"id": ids.UNDO, "property": "data", "value": stack},
            ],
        )

    def judge(self, value: str, known: dict[str, Any], clicks: int | None = 1) -> dict[str, Any]:
        store = ids.verdict_version(IMAGE)
        return self.call(
            text_id(ids.verdict(IMAGE, value)) + ".n_clicks",
            [[{"id": ids.verdict(IMAGE, value), "property": "n_clicks", "value": clicks}]],
            [
                [{"id": store, "property": "id", "value": store}],
                [{"id": store, "property": "data", "value": known}],
                {"id": ids.UNDO, "property": "data", "value": None},
                {
                    "id": ids.OUTLIERS_COUNTS,
                    "property": "data",
                    "value": {"ranked": 9, "total": 99, "judged": 4},
                },
            ],
        )

    def undo(self, stack: Any) -> dict[str, Any]:
        return self.call(
            f"{ids.UNDO_KEY}.n_clicks",
            [{"id": ids.UNDO_KEY, "property": "n_clicks", "value": 1}],
            [{"id": ids.UNDO, "property": "data", "value": stack}],
        )


def text_id(place: dict[str, str]) -> str:
    return json.dumps(place, sort_keys=True, separators=(",", ":"))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Settings(data_dir=tmp_path))


@pytest.fixture
def browser(ledger: Ledger) -> Iterator[Browser]:
    built = app.create(ledger.settings, ledger)  # type: ignore[arg-type]
    with TestClient(built.server, base_url=BASE) as client:
        yield Browser(client, {**built.callback_map})


def test_a_rename_is_kept_announced_and_can_be_undone(browser: Browser, ledger: Ledger) -> None:
    found = browser.rename(" Gas pipes ", {"version": 0, "name": "Group 1"})
    assert ledger.names == ["Group 1", "Gas pipes"]
    assert found[text_id(ids.cluster_version(KEY)) + ".data"] == {
        "version": 1,
        "name": "Gas pipes",
    }
    assert "Gas pipes" in json.dumps(found["toasts.children"], ensure_ascii=False)
    stack = found["undo-stack.data"]
    assert stack["versions"] == {f"cluster:{KEY}": 1}
    undone = browser.undo(stack)
    assert ledger.names[-1] == "Group 1"
    assert undone["undo-stack.data"] == {"acts": [], "versions": {}}
    assert undone["refresh.data"]


@pytest.mark.parametrize("typed", ["", "   ", "Group 1", " Group 1 "])
def test_an_empty_or_unchanged_name_decides_nothing(
    browser: Browser, ledger: Ledger, typed: str
) -> None:
    found = browser.rename(typed, {"version": 0, "name": "Group 1"})
    assert ledger.names == ["Group 1"]
    assert "toasts.children" not in found


def test_the_second_of_two_renames_sees_both_and_may_choose(
    browser: Browser, ledger: Ledger
) -> None:
    old = {"version": 0, "name": "Group 1"}
    browser.rename("Theirs", old)
    found = browser.rename("Mine", old)
    assert ledger.names == ["Group 1", "Theirs"]
    shown = json.dumps(found[text_id(ids.cluster_message(KEY)) + ".children"], ensure_ascii=False)
    assert "“Theirs” (version 1)" in shown
    assert "“Mine”" in shown
    known = found[text_id(ids.cluster_version(KEY)) + ".data"]
    theirs = browser.rename("Mine", known, choice="theirs")
    assert theirs[text_id(ids.cluster_name(KEY)) + ".value"] == "Theirs"
    assert ledger.names == ["Group 1", "Theirs"]
    browser.rename("Mine", known, choice="mine")
    assert ledger.names == ["Group 1", "Theirs", "Mine"]


def test_a_rename_that_fails_says_why_and_keeps_what_was_typed(
    browser: Browser, ledger: Ledger
) -> None:
    ledger.down = True
    found = browser.rename("Gas", {"version": 0, "name": "Group 1"})
    assert "start it" in found[text_id(ids.cluster_message(KEY)) + ".children"]
    assert text_id(ids.cluster_name(KEY)) + ".value" not in found


def test_a_verdict_is_kept_shown_and_counted(browser: Browser, ledger: Ledger) -> None:
    found = browser.judge("outlier", {"version": 0, "verdict": ""})
    assert ledger.verdicts_ == {UUID(IMAGE): ["outlier"]}
    assert found[text_id(ids.verdict(IMAGE, "outlier")) + ".aria-pressed"] == "true"
    assert found[text_id(ids.verdict(IMAGE, "fine")) + ".aria-pressed"] == "false"
    assert found[f"{ids.OUTLIERS_COUNTS}.data"]["judged"] == 5
    known = found[text_id(ids.verdict_version(IMAGE)) + ".data"]
    assert known == {"version": 1, "verdict": "outlier"}
    changed = browser.judge("fine", known)
    assert ledger.verdicts_ == {UUID(IMAGE): ["outlier", "fine"]}
    assert f"{ids.OUTLIERS_COUNTS}.data" not in changed


@pytest.mark.parametrize(
    ("known", "clicks"),
    [({"version": 1, "verdict": "outlier"}, 1), ({"version": 0, "verdict": ""}, None)],
    ids=["the same again", "a button that just appeared"],
)
def test_nothing_is_decided(
    browser: Browser, ledger: Ledger, known: dict[str, Any], clicks: int | None
) -> None:
    browser.judge("outlier", known, clicks)
    assert ledger.verdicts_ == {}


def test_the_second_of_two_verdicts_sees_the_first(browser: Browser, ledger: Ledger) -> None:
    ledger.verdicts_[UUID(IMAGE)] = ["fine"]
    found = browser.judge("outlier", {"version": 0, "verdict": ""})
    assert ledger.verdicts_ == {UUID(IMAGE): ["fine"]}
    shown = json.dumps(found["toasts.children"])
    assert "Another analyst was first: fine (version 1)" in shown
    assert found[text_id(ids.verdict(IMAGE, "fine")) + ".aria-pressed"] == "true"


def test_undo_of_a_decision_that_somebody_changed_says_so(browser: Browser, ledger: Ledger) -> None:
    stack = browser.rename("Mine", {"version": 0, "name": "Group 1"})["undo-stack.data"]
    ledger.names.append("Theirs")
    found = browser.undo(stack)
    assert ledger.names[-1] == "Theirs"
    assert "ersion 2 is there" in json.dumps(found["toasts.children"])
    assert found["undo-stack.data"] == {"acts": [], "versions": {}}


def test_undo_of_nothing_says_so(browser: Browser) -> None:
    assert "Nothing to undo" in json.dumps(browser.undo(None)["toasts.children"])
