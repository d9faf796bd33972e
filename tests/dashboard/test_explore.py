"""Explore's callbacks over the real services, a real map table and a collection in memory."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any, cast
from uuid import uuid4

import pytest
from starlette.testclient import TestClient

from analytics.request import Request
from cql.errors import UnavailableError
from cql.records import Job, Stock
from cql.settings import Settings
from cql.store import Store
from dashboard import app as apps
from dashboard import exports, ids
from dashboard.atlas import Atlas
from dashboard.components.facets import limits
from dashboard.pages import clusters as clusters_page
from dashboard.services import Services
from dashboard.state import ExploreState
from tests.dashboard import memory


class Page:
    """Calls callbacks as the browser does."""

    def __init__(self, settings: Settings, *, listings: int = 40) -> None:
        self.store, self.searcher = memory.collection(listings)
        self.ahead = 0.0
        atlas = Atlas(settings, cast("Store", self.store), clock=lambda: monotonic() + self.ahead)
        self.services = Services(settings, self.store, self.searcher, atlas=atlas)  # type: ignore[arg-type]
        self.app = apps.create(settings, self.services)
        self.client = TestClient(self.app.server, base_url="http://127.0.0.1")

    def call(self, *outputs: str, values: dict[str, Any], changed: str = "") -> dict[str, Any]:
        """Run the callback with these outputs; `values` are its inputs and states by `id.prop`."""
        key = outputs[0] if len(outputs) == 1 else f"..{'...'.join(outputs)}.."
        spec = next(c for k, c in self.app.callback_map.items() if k.split("@")[0] == key)

        def given(part: dict[str, str]) -> Any:
            if part["id"].startswith("{"):
                return []
            name = f"{part['id']}.{part['property']}"
            return {
                "id": part["id"],
                "property": part["property"],
                "value": values.get(name),
            }

        def parts(names: tuple[str, ...]) -> list[dict[str, str]]:
            return [dict(zip(("id", "property"), n.rsplit(".", 1), strict=True)) for n in names]

        shown = parts(outputs)
        answer = self.client.post(
            "/_dash-update-component",
            json={
                "output": key,
                "outputs": shown[0] if len(shown) == 1 else shown,
                "inputs": [given(part) for part in spec["inputs"]],
                "state": [given(part) for part in spec["state"]],
                "changedPropIds": [changed] if changed else [],
            },
        )
        assert answer.status_code in {200, 204}, answer.text
        response: dict[str, Any] = answer.json()["response"] if answer.status_code == 200 else {}
        return response

    def later(self) -> None:
        """Let a minute pass: what is kept of the store for seconds is read again."""
        self.ahead += 60.0

    def fill(self, search: str = "") -> tuple[str, Any]:
        found = self.call(
            f"{ids.EXPLORE_ROOT}.children",
            f"{ids.EXPLORE_TICK}.disabled",
            values={f"{ids.URL}.search": search},
        )
        return json.dumps(found[ids.EXPLORE_ROOT]), found[ids.EXPLORE_TICK]["disabled"]

    def focus(self, **what: str) -> dict[str, Any]:
        version = self.store.version
        assert version is not None
        return {"image": None, "query": None, "map": str(version.map_id), **what}

    def narrow(self, state: ExploreState | None = None) -> dict[str, Any]:
        version = self.store.version
        assert version is not None
        return {**(state or ExploreState()).selection(), "map": str(version.map_id)}


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    made = Page(Settings(data_dir=tmp_path))
    yield made
    made.client.close()


def text(component: Any) -> str:
    """All text of a component tree as the browser got it."""
    if isinstance(component, dict):
        return text(component.get("props", {}).get("children"))
    if isinstance(component, list):
        return " ".join(filter(None, map(text, component)))
    return "" if component is None else str(component)


def test_without_a_map_the_page_says_so_and_looks_again(page: Page) -> None:
    page.store.version = None
    body, stopped = page.fill()
    assert "The map is being computed" in body
    assert ids.PATH_JOBS in body
    assert stopped is False
    page.store.files, page.store.snapshot_ = 0, None
    assert "No photos yet" in page.fill()[0]


def test_a_map_fills_the_page_once(page: Page) -> None:
    body, stopped = page.fill("?colour=attr:kind")
    assert stopped is True
    assert '"colour": "attr:kind"' in body
    assert all(part in body for part in (ids.EXPLORE_MAP, ids.EXPLORE_UPLOAD, "Outlier score"))


def test_what_is_placed_comes_onto_the_page(page: Page) -> None:
    version = page.store.version
    assert version is not None
    body, _ = page.fill()
    assert '"placed": 0' in body
    assert "newer than the map" not in body
    look = {
        f"{ids.EXPLORE_LOOK}.n_intervals": 1,
        f"{ids.EXPLORE_MAP}.mapId": str(version.map_id),
        f"{ids.EXPLORE_MAP}.placed": 0,
    }
    wanted = (f"{ids.EXPLORE_MAP}.placed", f"{ids.EXPLORE_PLACED}.children")
    assert page.call(*wanted, values=look) == {}
    image = memory.arrive(page.store, 2)[0]
    page.later()
    found = page.call(*wanted, values=look)
    assert found[ids.EXPLORE_MAP]["placed"] == 2
    assert "2 images newer than the map" in found[ids.EXPLORE_PLACED]["children"]
    assert '"placed": 2' in page.fill()[0]
    # The map, its columns, its counts, the gallery and the details have them.
    client = page.client
    facets = {each["name"]: each for each in client.post(
        "/api/v1/map/facets", json={"polygons": [], "filters": {}}
    ).json()}  # fmt: skip
    assert [each["count"] for each in facets["placed"]["values"]] == [120, 2]
    chosen = client.post(
        "/api/v1/map/select", json={"polygons": [], "filters": {"placed": ["1"]}}
    ).json()
    assert (chosen["count"], chosen["total"]) == (2, 122)
    assert str(image) in {row["image_id"] for row in chosen["rows"]}
    rows = ",".join(str(row["row"]) for row in chosen["rows"])
    assert len(client.get(f"/api/v1/map/rows?rows={rows}").json()) == 2
    clusters = client.get("/api/v1/clusters").json()
    noise = sum(point.cluster < 0 for point in page.store.points_)
    assert sum(each["size"] for each in clusters) == 122 - noise
    detail = page.call(
        f"{ids.EXPLORE_DETAIL}.children",
        f"{ids.EXPLORE_GALLERY}.hidden",
        values={f"{ids.EXPLORE_FOCUS}.data": page.focus(image=str(image))},
    )
    assert "Placed since the map was made" in text(detail[ids.EXPLORE_DETAIL]["children"])
    exported = exports.rows(cast("Store", page.store), page.services._atlas)
    assert {row.cluster for row in exported if row.image_id == str(image)} == {"Group 0"}
    # So have the pages and the row of the map.
    shown = page.services.map()
    assert (shown.rows, shown.placed) == (120, 2)
    assert client.get("/api/v1/collection").json()["map"]["placed"] == 2
    said = clusters_page.summary(shown, page.services.clusters())
    assert "2 images placed since the map was made" in str(said[-1])
    page.store.put_job(Job(job_id=uuid4(), kind="extract", parameters="{}", state="done"))
    listed = page.call(
        f"{ids.JOBS_LIST}.children",
        f"{ids.JOBS_SUMMARY}.children",
        f"{ids.JOBS_TICK}.interval",
        values={},
    )
    assert listed[ids.JOBS_SUMMARY]["children"] == (
        "1 done. 2 images placed on the map since it was made"
    )
    tile = client.get(f"/api/v1/map/tiles/0/0/0?map_id={version.map_id}&column=membership&placed=2")
    assert int.from_bytes(tile.content[8:12], "little") == 122
    assert tile.headers["cache-control"].endswith("immutable")


def test_an_open_page_takes_in_columns_that_were_decided_anew(page: Page) -> None:
    version = page.store.version
    assert version is not None
    body, _ = page.fill()
    known = page.services.edition()
    assert f'"edition": "{known}"' in body
    assert '"value": "label"' not in body
    look = {
        f"{ids.EXPLORE_LOOK}.n_intervals": 1,
        f"{ids.EXPLORE_MAP}.mapId": str(version.map_id),
        f"{ids.EXPLORE_MAP}.edition": known,
        f"{ids.EXPLORE_COLOUR}.value": "label",
    }
    wanted = (
        f"{ids.EXPLORE_MAP}.edition",
        f"{ids.EXPLORE_COLOUR}.options",
        f"{ids.EXPLORE_COLOUR}.value",
    )
    assert page.call(*wanted, values=look) == {}
    images = [point.image_id for point in page.store.points_[:3]]
    page.services.decisions.label(images, "odd", author="ann")
    found = page.call(*wanted, values=look)
    assert found[ids.EXPLORE_MAP]["edition"] == page.services.edition() != known
    shown = found[ids.EXPLORE_COLOUR]
    assert {"label": "Label", "value": "label"} in shown["options"]
    assert "value" not in shown, "the colour that was chosen is there"
    # The last label is taken back: the page that colours by labels colours by clusters again.
    known = found[ids.EXPLORE_MAP]["edition"]
    page.services.decisions.label(images, "", author="ann")
    again = page.call(*wanted, values={**look, f"{ids.EXPLORE_MAP}.edition": known})
    assert again[ids.EXPLORE_COLOUR]["value"] == "cluster"


def test_tables_that_are_replaced_go_at_once(page: Page) -> None:
    """A web worker looks for garbage seldom: copies of a million rows must not wait for that."""
    atlas, held = page.services._atlas, []
    gc.collect()
    gc.disable()
    try:
        for turn in range(3):
            page.fill()
            page.services.select({})
            page.services.clusters()
            held += [weakref.ref(atlas.table(None)), weakref.ref(atlas.analysed_table(None))]
            images = [point.image_id for point in page.store.points_[turn : turn + 2]]
            page.services.decisions.label(images, f"odd{turn}", author="ann")
            memory.arrive(page.store, 3)
            page.later()
        page.fill()
        assert [each() for each in held] == [None] * 6
    finally:
        gc.enable()


def test_a_merge_holds_for_what_was_placed(page: Page) -> None:
    keys = [cluster.cluster_key for cluster in page.store.clusters_[:2]]
    before = {each.key: each for each in page.services.clusters()}
    images = memory.arrive(page.store, 3)
    page.later()
    page.services.decisions.merge([keys[1], keys[0]], versions={}, author="ann")
    page.services.decisions.set_label(images[0], "odd", author="ann", expected_version=0)
    found = {each.key: each for each in page.services.clusters()}
    assert len(found) == len(before) - 1
    (merged,) = [each for each in found.values() if each.merged]
    assert merged.size == sum(before[key].size for key in keys) + 3
    chosen = page.services.select({"polygons": [], "filters": {"label": ["odd"]}})
    assert [row.image_id for row in chosen.rows] == [images[0]]
    number = str(merged.cluster)
    both = {"polygons": [], "filters": {"placed": ["1"], "cluster": [number]}}
    assert page.services.select(both).count == 3


def test_an_unknown_map_is_an_error_with_a_way_on(page: Page) -> None:
    body, _ = page.fill("?map=11111111-2222-3333-4444-555555555555")
    assert "Not found" in body
    assert "Try again" in body


def test_details_show_photo_score_reason_and_siblings(page: Page) -> None:
    image = page.store.outliers_[0].image_id
    found = page.call(
        f"{ids.EXPLORE_DETAIL}.children",
        f"{ids.EXPLORE_GALLERY}.hidden",
        values={f"{ids.EXPLORE_FOCUS}.data": page.focus(image=str(image))},
    )
    shown = json.dumps(found[ids.EXPLORE_DETAIL])
    assert f"/api/v1/images/{image}/photo" in shown
    assert "Farther from its nearest neighbours" in shown
    assert "3 photos of this listing" in shown
    assert found[ids.EXPLORE_GALLERY]["hidden"] is True


def test_details_and_hits_show_the_stock_where_it_is_known(page: Page) -> None:
    image = page.store.outliers_[0]
    page.store.stocks_ = {
        name: Stock(listing_id=name, inventory=4 if name == image.listing_id else 0, etag="e")
        for name in [*list(page.store.listings_)[:20], image.listing_id]
    }
    found = page.call(
        f"{ids.EXPLORE_DETAIL}.children",
        f"{ids.EXPLORE_GALLERY}.hidden",
        values={f"{ids.EXPLORE_FOCUS}.data": page.focus(image=str(image.image_id))},
    )
    assert "In stock: 4" in text(found[ids.EXPLORE_DETAIL]["children"])
    tiles = text(similar(page, image=str(image.image_id))[ids.EXPLORE_HITS]["children"])
    wanted = [hit.listing_id for hit in list(page.store.hits_.values())[-1]]
    assert tiles.count("out of stock") == sum(name in page.store.stocks_ for name in wanted)
    page.store.stocks_ = {}
    assert "out of stock" not in text(similar(page, image=str(image.image_id))[ids.EXPLORE_HITS])


def similar(page: Page, **what: str) -> dict[str, Any]:
    return page.call(
        f"{ids.EXPLORE_HITS}.children",
        f"{ids.EXPLORE_MAP}.selected",
        f"{ids.EXPLORE_MAP}.highlight",
        f"{ids.EXPLORE_MAP}.dimmed",
        values={f"{ids.EXPLORE_ASK}.data": {"terms": [], **page.focus(**what)}},
    )


def test_neighbours_are_the_searchers_with_scores_and_their_rows_are_lit(page: Page) -> None:
    image = next(iter(page.store.images))
    expected = page.services.search(Request(image_ids=(image,), k=24))
    found = similar(page, image=str(image))
    shown = json.dumps(found[ids.EXPLORE_HITS])
    positions = [shown.index(f"/images/{hit.image_id}/thumbnail") for hit in expected.hits]
    assert positions == sorted(positions)
    assert len(positions) == 24
    assert all(f"{hit.score:.3f}" in shown for hit in expected.hits)
    rows = page.services.row_of([hit.image_id for hit in expected.hits])
    assert found[ids.EXPLORE_MAP]["highlight"] == [rows[hit.image_id] for hit in expected.hits]
    assert found[ids.EXPLORE_MAP]["selected"] == page.services.row_of([image])[image]
    assert found[ids.EXPLORE_MAP]["dimmed"] is True


def test_a_search_without_hosts_says_what_to_do(page: Page) -> None:
    page.searcher.down = UnavailableError("no shard host answers: start the engine")
    found = similar(page, image=str(next(iter(page.store.images))))
    shown = text(found[ids.EXPLORE_HITS]["children"])
    assert "A service does not answer" in shown
    assert "start the engine" in shown
    assert found[ids.EXPLORE_MAP]["highlight"] == []


def test_no_focus_clears_the_panel_and_the_map(page: Page) -> None:
    found = similar(page)
    assert found[ids.EXPLORE_HITS]["children"] == []
    assert found[ids.EXPLORE_MAP] == {"selected": None, "highlight": [], "dimmed": False}


def test_the_gallery_counts_exactly_what_the_api_counts(page: Page) -> None:
    state = ExploreState.read("?sel=u;0.5,0;1,0;1,1;0.5,1&f.attr:kind=kind 0&f.attr:kind=kind 1")
    found = page.call(
        f"{ids.EXPLORE_GALLERY}.children",
        values={f"{ids.EXPLORE_NARROW}.data": page.narrow(state)},
        changed=f"{ids.EXPLORE_NARROW}.data",
    )
    answer = page.client.post("/api/v1/map/select", json=state.selection()).json()
    kinds = {"kind 0", "kind 1"}
    naive = sum(
        point.x >= 0.5 and page.store.listings_[point.listing_id].attributes["kind"] in kinds
        for point in page.store.points_
    )
    assert 0 < naive < answer["total"]
    assert answer["count"] == naive
    assert f"{naive} of {answer['total']} images" in text(found[ids.EXPLORE_GALLERY]["children"])


def test_a_selection_of_nothing_says_so(page: Page) -> None:
    state = ExploreState.read("?r.outlier_score=5..")
    found = page.call(
        f"{ids.EXPLORE_GALLERY}.children",
        values={f"{ids.EXPLORE_NARROW}.data": page.narrow(state)},
        changed=f"{ids.EXPLORE_NARROW}.data",
    )
    assert "Nothing selected" in text(found[ids.EXPLORE_GALLERY]["children"])


def test_facets_follow_the_selection(page: Page) -> None:
    def shown(search: str) -> str:
        state = ExploreState.read(search)
        found = page.call(
            f"{ids.EXPLORE_FACETS}.children",
            values={
                f"{ids.EXPLORE_NARROW}.data": page.narrow(state),
                f"{ids.EXPLORE_STATE}.data": state.write(),
            },
        )
        return json.dumps(found[ids.EXPLORE_FACETS])

    everything = shown("")
    assert "kind 0: 24 of 24 images" in everything
    half = shown("?f.cluster=1")
    assert "kind 0: 0 of 24 images" in half
    assert '"aria-pressed": "true"' in half
    assert '"aria-pressed": "true"' not in everything


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0.3812, 1.3688, ("0.38", "1.37")),
        (0.0, 1.0, ("0", "1")),
        (0.1, 0.3, ("0.1", "0.3")),
        (-0.004, 12.3, ("-1", "13")),
        (2019.0, 2024.0, ("2019", "2024")),
        (3.0, 3.0, ("3", "3")),
    ],
)
def test_limits_are_short_and_hold_the_range(
    low: float, high: float, shown: tuple[str, str]
) -> None:
    assert limits(low, high) == shown


def test_a_percentile_has_no_histogram(page: Page) -> None:
    state = ExploreState()
    found = page.call(
        f"{ids.EXPLORE_FACETS}.children",
        values={
            f"{ids.EXPLORE_NARROW}.data": page.narrow(state),
            f"{ids.EXPLORE_STATE}.data": state.write(),
        },
    )
    blocks = {
        text(block["props"]["children"][0]): json.dumps(block)
        for block in found[ids.EXPLORE_FACETS]["children"]
    }
    assert "histogram" not in blocks["Outlier score"]
    assert "histogram" in blocks["Depth (m)"]
    assert list(blocks)[:2] == ["Cluster", "Outlier score"]


def test_titles_are_text_not_markup(page: Page) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    listing = next(iter(page.store.listings_.values()))
    object.__setattr__(listing, "title", hostile)
    image = page.store.images_of(listing.listing_id)[0].image_id
    found = page.call(
        f"{ids.EXPLORE_DETAIL}.children",
        f"{ids.EXPLORE_GALLERY}.hidden",
        values={f"{ids.EXPLORE_FOCUS}.data": page.focus(image=str(image))},
    )
    assert hostile in text(found[ids.EXPLORE_DETAIL]["children"])
    assert "dangerously" not in json.dumps(found).lower()
