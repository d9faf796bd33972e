"""Every form of search through REST, pages and command line, over a collection in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cql.errors import InputError
from cql.records import Stock
from cql.settings import Settings
from dashboard import conditions, finder, ids
from dashboard.searches import Cursor
from dashboard.terms import Terms
from dashboard.views import ColumnView
from tests.dashboard.test_explore import Page, text


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    made = Page(Settings(data_dir=tmp_path), listings=40)
    yield made
    made.client.close()


def image(page: Page, number: int) -> UUID:
    return page.store.images_of(f"listing-{number:03d}")[0].image_id


def post(page: Page, path: str, body: Any) -> Any:
    answer = page.client.post(f"/api/v1/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def naive(page: Page, plus: list[UUID], minus: list[UUID], keep: Any = lambda _: True) -> list[str]:
    """Listings by best photo: best product for, less best product against."""
    own = {page.store.images[each].listing_id for each in plus}
    vectors = page.searcher.vectors
    best: dict[str, float] = {}
    for image_id, vector in vectors.items():
        listing = page.store.images[image_id].listing_id
        if listing in own or not keep(listing):
            continue
        score = max(float(vector @ vectors[each]) for each in plus)
        score -= max((float(vector @ vectors[each]) for each in minus), default=0.0)
        best[listing] = max(best.get(listing, -9.0), score)
    return sorted(best, key=lambda name: (-best[name], name))


def test_examples_filters_and_stock_reach_the_searcher(page: Page) -> None:
    plus, minus = [image(page, 1), image(page, 2)], [image(page, 3)]
    page.store.stocks_ = {
        name: Stock(listing_id=name, inventory=number % 3, etag="e")
        for number, name in enumerate(page.store.listings_)
    }
    body = {
        "image_ids": list(map(str, plus)),
        "negatives": list(map(str, minus)),
        "selection": {"filters": {"attr:kind": ["kind 0", "kind 4"]}},
        "in_stock": True,
        "k": 7,
    }
    found = post(page, "search", body)
    kept = naive(
        page,
        plus,
        minus,
        lambda name: (
            page.store.listings_[name].attributes["kind"] in {"kind 0", "kind 4"}
            and page.store.stocks_[name].inventory > 0
        ),
    )
    assert [hit["listing_id"] for hit in found["hits"]] == kept[:7]
    assert all(hit["inventory"] > 0 and hit["stock_read_at"] for hit in found["hits"])
    assert (found["exact"], found["rescored"], found["lag_s"], found["behind"]) == (
        True, 17, 0.4, 0,
    )  # fmt: skip
    assert found["followed_at"]
    assert found["negatives"] == body["negatives"]
    inside = post(
        page, "search", {"image_ids": [str(plus[0])], "within": found["query_id"], "k": 40}
    )
    assert {hit["listing_id"] for hit in inside["hits"]} <= set(kept[:7])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image_ids": []}, "at least one positive"),
        ({"k": 0}, "k"),
        ({"k": 10_001}, "k"),
        ({"best": 0}, "best"),
        ({"best": 101}, "best"),
        ({"aggregate": "sum"}, "aggregate"),
        ({"negatives": "same"}, "both"),
        ({"image_ids": ["x"]}, "image_ids"),
        ({"selection": {"filters": {"attr:kind": 3}}}, "filter on attr:kind"),
        ({"selection": {"filters": {"attr:kind": {"low": "soon"}}}}, "YYYY-MM-DD"),
        ({"selection": {"polygons": [{"points": [[0, 0]]}]}}, "points"),
        ({"selection": {"colour": 1}}, "colour"),
        ({"name": "x" * 121}, "name"),
        ({"kk": 1}, "kk"),
        ({"within": "x"}, "within"),
    ],
)
def test_a_request_that_breaks_a_rule_is_400_with_the_rule(
    page: Page, change: dict[str, Any], told: str
) -> None:
    body = {"image_ids": [str(image(page, 1))], **change}
    if body.get("negatives") == "same":
        body["negatives"] = body["image_ids"]
    answer = page.client.post("/api/v1/search", json=body)
    assert answer.status_code == 400, answer.text
    assert told in answer.json()["error"]


def test_what_is_not_there_is_404(page: Page) -> None:
    nobody = str(UUID(int=7))
    asked = (
        ("search", {"image_ids": [nobody]}),
        ("search", {"image_ids": [str(image(page, 1))], "negatives": [nobody]}),
        ("search", {"image_ids": [str(image(page, 1))], "within": nobody}),
        (f"queries/{nobody}/name", {"name": "a"}),
        (f"queries/{nobody}/run", None),
    )
    for path, body in asked:
        assert page.client.post(f"/api/v1/{path}", json=body).status_code == 404, path


def test_a_long_result_is_read_page_by_page(page: Page) -> None:
    found = post(page, "search", {"image_ids": [str(image(page, 0))], "k": 10_000})
    whole = [hit["listing_id"] for hit in found["hits"]]
    assert len(whole) == 39
    assert found["next_after"] is None
    page.store.delete_listing(whole[5])
    read, ranks, after = [], [], ""
    for _ in range(10):
        part = page.client.get(
            f"/api/v1/queries/{found['query_id']}", params={"limit": 7, "after": after}
        ).json()
        read += [hit["listing_id"] for hit in part["hits"]]
        ranks += [hit["rank"] for hit in part["hits"]]
        after = part["next_after"]
        if after is None:
            break
    assert read == [name for name in whole if name != whole[5]]
    assert ranks == list(range(1, 39))
    assert part["hits_total"] == 38
    own = UUID(int=1)
    for broken in (
        "x", "1,2,3", f"1,2,9,{own},nan,a", f"1,2,9,{own},0.5,a", f"-1,0,9,{own},0.5,a",
        f"8,0,7,{own},0.5,a", f"8,0,10001,{own},0.5,a", "8,0,9,me,0.5,a", "8,0,0.5,a",
    ):  # fmt: skip
        path = f"/api/v1/queries/{found['query_id']}"
        answer = page.client.get(path, params={"after": broken})
        assert answer.status_code == 400, broken
        assert "next_after" in answer.json()["error"]


def test_a_cursor_keeps_ids_with_commas() -> None:
    cursor = Cursor(200, 3, 900, UUID(int=7), 0.1 + 0.2, "a,b,,c")
    assert Cursor.parse(cursor.write()) == cursor


def test_a_query_is_renamed_and_run_again(page: Page) -> None:
    found = post(page, "search", {"image_ids": [str(image(page, 4))], "k": 5, "aggregate": "mean"})
    path = f"queries/{found['query_id']}"
    assert post(page, f"{path}/name", {"name": "trucks, été"})["name"] == "trucks, été"
    assert page.client.get(f"/api/v1/{path}").json()["name"] == "trucks, été"
    assert page.client.post(f"/api/v1/{path}/name", json={"name": "a\nb"}).status_code == 400
    again = post(page, f"{path}/run", None)
    assert (again["aggregate"], again["k"], again["name"]) == ("mean", 5, "trucks, été")
    assert again["hits"] == found["hits"]
    assert again["query_id"] != found["query_id"]


def test_an_upload_takes_the_options_of_a_search(page: Page) -> None:
    files = [("file", ("a.jpg", b"\xff\xd8\xff", "image/jpeg"))]
    for data, status, told in (
        ({"selection": "{"}, 400, "must be JSON"),
        ({"selection": '{"colour": 1}'}, 400, "a selection must have"),
        ({"k": "0"}, 400, "k"),
        ({"aggregate": "sum"}, 400, "aggregate"),
        ({"k": "10000", "in_stock": "true", "selection": '{"filters": {}}'}, 503, "engine"),
    ):
        answer = page.client.post("/api/v1/search/upload", data=data, files=files)
        assert answer.status_code == status, answer.text
        assert told in answer.json()["error"]
    answer = page.client.post("/api/v1/search/upload", files=files * 17)
    assert answer.status_code == 400
    assert "1 to 16 pictures" in answer.json()["error"]


def ask(page: Page, terms: Terms, **what: Any) -> Any:
    return page.call(
        f"{ids.EXPLORE_HITS}.children",
        f"{ids.EXPLORE_MAP}.selected",
        f"{ids.EXPLORE_MAP}.highlight",
        f"{ids.EXPLORE_MAP}.dimmed",
        values={f"{ids.EXPLORE_ASK}.data": {**page.focus(), "terms": terms.pairs(), **what}},
    )[ids.EXPLORE_HITS]["children"]


def newest(page: Page) -> Any:
    return list(page.store.queries_.values())[-1]


def test_the_panel_asks_on_the_terms_of_the_address(page: Page) -> None:
    first, second, third = (image(page, number) for number in (1, 2, 3))
    page.searcher.behind = 2
    terms = Terms(plus=(second,), minus=(third,), by="coverage", scope="filter", k=60)
    chosen = {"polygons": [], "filters": {"attr:kind": ["kind 0"]}}
    shown = ask(page, terms, image=str(first), selection=chosen)
    spec = json.loads(newest(page).spec)
    assert spec["image_ids"] == [str(first), str(second)]
    assert spec["negatives"] == [str(third)]
    assert (spec["aggregate"], spec["k"], spec["selection"]) == ("coverage", 60, chosen)
    said = text(shown)
    assert "exact: 120 of 120 images, 17 rescored" in said
    assert "2 changes wait for the next snapshot" in said
    kinds = {
        page.store.listings_[hit.listing_id].attributes["kind"]
        for hit in page.store.hits_[newest(page).query_id]
    }
    assert kinds == {"kind 0"}


def test_an_open_search_is_read_until_something_is_added(page: Page) -> None:
    first, second = image(page, 1), image(page, 2)
    found = post(page, "search", {"image_ids": [str(first), str(second)], "k": 9})
    asked = len(page.store.queries_)
    ask(page, Terms(), query=found["query_id"])
    assert len(page.store.queries_) == asked
    ask(page, Terms(dropped=(first,), minus=(image(page, 3),)), query=found["query_id"])
    spec = json.loads(newest(page).spec)
    assert (spec["image_ids"], spec["k"]) == ([str(second)], 9)
    assert spec["negatives"] == [str(image(page, 3))]
    said = text(ask(page, Terms(dropped=(first, second)), query=found["query_id"]))
    assert "at least one positive example" in said
    assert "In stock only" in said


def test_a_search_names_its_model(page: Page) -> None:
    page.store.models_ = ["other@1"]
    asked = {"image_ids": [str(image(page, 1))], "k": 3}
    plain = post(page, "search", asked)
    assert (plain["model"], plain["model_id"]) == (None, "m")
    # By name or id it is the same model; the searcher proper keeps the id of both.
    for given in ("other", "other@1"):
        found = post(page, "search", {**asked, "model": given})
        assert (found["model"], found["model_id"]) == (given, "other@1")
        again = page.client.get(f"/api/v1/queries/{found['query_id']}").json()
        assert (again["model"], again["model_id"], again["current"]) == (given, "other@1", True)
    lost = page.client.post("/api/v1/search", json={**asked, "model": "none"})
    assert lost.status_code == 404
    assert "sightline-small (m), other (other@1)" in lost.json()["error"]
    assert lost.json()["fix"] == "run `sightline extract --model none`"
    listed = page.client.get("/api/v1/models").json()
    assert [each["model_id"] for each in listed] == ["m", "other@1"]


def test_a_search_of_replaced_weights_is_asked_of_the_new_ones(page: Page) -> None:
    page.store.models_ = ["other@1"]
    asked = {"image_ids": [str(image(page, 1))], "k": 3, "model": "other@1"}
    found = post(page, "search", asked)
    page.store.models_ = ["other@2"]
    again = post(page, f"queries/{found['query_id']}/run", None)
    assert (again["model"], again["model_id"]) == ("other@2", "other@2")
    page.store.models_ = []
    lost = page.client.post(f"/api/v1/queries/{found['query_id']}/run")
    assert lost.status_code == 404
    assert "'other@1' has no snapshot" in lost.json()["error"]


def test_the_panel_has_a_choice_of_models_where_there_are_several(page: Page) -> None:
    first = str(image(page, 1))
    assert "Model" not in text(ask(page, Terms(), image=first))
    page.store.models_ = ["other@1", "file:/weights/wide.safetensors:resnet@2"]
    shown = ask(page, Terms(), image=first)
    assert "Search in Model" in text(shown)
    offered = json.dumps(shown)
    for label in ("sightline-small", "wide", "other"):
        assert f'"label": "Model {label}"' in offered
    ask(page, Terms(model="other@1"), image=first)
    assert json.loads(newest(page).spec)["model"] == "other@1"
    page.store.models_ = []
    assert "'other@1' has no snapshot" in text(ask(page, Terms(model="other@1"), image=first))


COLUMNS = (
    ColumnView(name="cluster", label="Cluster", kind="category", keys=("0",), labels=("Pipes",)),
    ColumnView(
        name="attr:kind", label="Kind", kind="category", keys=("a=b", "c"), labels=("a=b", "c")
    ),
    ColumnView(name="attr:depth", label="Depth", kind="number"),
    ColumnView(name="attr:built", label="Built", kind="number", scale="date"),
)  # fmt: skip


def test_conditions_of_the_command_line() -> None:
    texts = ["kind=a=b", "kind=c", "cluster=Pipes", "depth=0.5..", "attr:built=2024-01-01"]
    assert conditions.selection(texts, COLUMNS)["filters"] == {
        "attr:kind": ["a=b", "c"],
        "cluster": ["0"],
        "attr:depth": {"low": 0.5, "high": None},
        "attr:built": {"low": "2024-01-01", "high": "2024-01-01"},
    }


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("kind", "attribute=value"),
        ("nothing=1", "the attributes are cluster, kind"),
        ("kind=z", "the values are a=b, c"),
        ("depth=deep", "a number"),
        ("depth=..", "low..high"),
        ("built=7", "YYYY-MM-DD"),
    ],
)
def test_a_condition_that_means_nothing_says_what_does(condition: str, told: str) -> None:
    with pytest.raises(InputError, match=told.replace(".", r"\.")):
        conditions.selection([condition], COLUMNS)
    with pytest.raises(InputError, match="one range"):
        conditions.selection(["depth=1..", "depth=..2"], COLUMNS)


def test_the_command_line_asks_what_its_flags_say(
    page: Page, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = finder.Flags(
        images=[str(image(page, 1))],
        listings=["listing-002", "listing-003"],
        negatives=[str(image(page, 4))],
        filters=["kind=kind 0", "depth_m=0.1..9"],
        aggregate="mean",
        best=2,
        model="m",
        k=12,
    )
    found = finder.run(page.services, flags)
    spec = json.loads(newest(page).spec)
    others = [each.image_id for each in page.store.images_of("listing-003")]
    assert spec["image_ids"] == [str(each) for each in (image(page, 1), *others)]
    assert (spec["listing_id"], spec["best"], spec["k"]) == ("listing-002", 2, 12)
    assert spec["model"] == "m"
    assert spec["selection"]["filters"]["attr:depth_m"] == {"low": 0.1, "high": 9.0}
    from dashboard.api import to_json

    finder.show(to_json(found))
    said = capsys.readouterr().out
    assert "exact: 120 of 120 images, 17 rescored" in said
    assert str(found.query_id) in said


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (finder.Flags(), "needs an example"),
        (finder.Flags(examples=["no-such-file.jpg"]), "or an existing file"),
        (finder.Flags(files=[Path("no-such-file.jpg")]), "must be a picture file"),
        (finder.Flags(listings=["a"], negatives=["b"]), "an image id"),
        (finder.Flags(listings=["a"], within="b"), "a query id"),
        (finder.Flags(listings=["a"], k=10_001), "k must be"),
        (finder.Flags(listings=["a"], aggregate="sum"), "aggregate must be"),
        (finder.Flags(listings=["a"], best=0), "best must be"),
    ],
)
def test_flags_that_cannot_be_are_refused_before_anything_starts(
    tmp_path: Path, flags: finder.Flags, told: str
) -> None:
    with pytest.raises(InputError, match=told):
        finder.search(Settings(data_dir=tmp_path), flags)
    assert not list(tmp_path.iterdir())
