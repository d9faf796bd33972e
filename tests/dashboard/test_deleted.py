"""What was deleted is gone from every answer about it, and no page fails on a map that has it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from starlette.testclient import TestClient

from analytics.request import Request
from cql.errors import NotFoundError
from cql.settings import Settings
from dashboard import app as apps
from dashboard import ids
from dashboard.services import Services
from tests.dashboard import memory
from tests.dashboard.test_explore import Page, text

LISTING = "listing-007"
EVERYTHING: dict[str, Any] = {"polygons": [], "filters": {}}


@dataclass(frozen=True)
class Gone:
    """A collection whose map was made before a listing was deleted."""

    page: Page
    listing: str
    images: tuple[UUID, ...]
    query: UUID
    total: int


@pytest.fixture
def gone(tmp_path: Path) -> Iterator[Gone]:
    page = Page(Settings(data_dir=tmp_path), listings=40)
    store = page.store
    images = tuple(image.image_id for image in store.images_of(LISTING))
    # A published query whose hits name what goes.
    sibling = store.images_of("listing-012")[0].image_id
    query = page.services.search(Request(image_ids=(sibling,), k=40))
    assert LISTING in {hit.listing_id for hit in query.hits}
    total = page.services.select(EVERYTHING).total
    store.delete_listing(LISTING)
    yield Gone(page, LISTING, images, query.query_id, total)
    page.client.close()


def test_questions_about_it_are_404_with_a_way_on(gone: Gone) -> None:
    image = gone.images[0]
    asked = (
        ("GET", f"images/{image}", None),
        ("GET", f"images/{image}/thumbnail", None),
        ("GET", f"images/{image}/photo", None),
        ("GET", f"listings/{gone.listing}", None),
        ("POST", "search", {"image_ids": [str(image)]}),
        ("PUT", f"outliers/{image}/verdict", {"verdict": "fine", "expected_version": 0}),
    )
    for method, path, body in asked:
        answer = gone.page.client.request(method, f"/api/v1/{path}", json=body)
        assert answer.status_code == 404, f"{path}: {answer.text}"
        assert answer.json()["error"]
        assert answer.json()["fix"]


def test_a_verdict_on_it_is_not_written(gone: Gone) -> None:
    with pytest.raises(NotFoundError):
        gone.page.services.set_verdict(gone.images[0], "fine", author="a", expected_version=0)
    assert gone.page.store.decisions_ == {}


def test_every_view_of_the_older_map_still_answers(gone: Gone) -> None:
    client, version = gone.page.client, gone.page.store.version
    assert version is not None
    rows = gone.page.services.row_of(gone.images)
    assert set(rows) == set(gone.images)
    numbers = ",".join(map(str, rows.values()))
    for query in ("", f"map_id={version.map_id}"):
        for method, path, body in (
            ("GET", "map", None),
            ("GET", "map/columns", None),
            ("GET", f"map/rows?rows={numbers}", None),
            ("GET", "map/tiles/0/0/0?column=cluster", None),
            ("POST", "map/select?limit=200", EVERYTHING),
            ("POST", "map/facets", EVERYTHING),
            ("GET", "clusters", None),
            ("GET", f"clusters/{gone.page.store.clusters_[0].cluster_key}", None),
            ("GET", "outliers?limit=200", None),
        ):
            mark = "&" if "?" in path else "?"
            answer = client.request(method, f"/api/v1/{path}{mark}{query}", json=body)
            assert answer.status_code == 200, f"{path}: {answer.text}"
    shown = client.get(f"/api/v1/map/rows?rows={numbers}").json()
    assert {row["image_id"] for row in shown} == {str(image) for image in gone.images}
    assert {row["title"] for row in shown} == {""}
    assert gone.page.services.select(EVERYTHING).total == gone.total


def test_another_map_is_never_answered_from_the_live_one(gone: Gone) -> None:
    other = "11111111-2222-3333-4444-555555555555"
    for path in (
        "map",
        "map/columns",
        "map/rows?rows=0",
        "map/tiles/0/0/0",
        "clusters",
        "outliers",
    ):
        mark = "&" if "?" in path else "?"
        answer = gone.page.client.get(f"/api/v1/{path}{mark}map_id={other}")
        assert answer.status_code == 404, path
        assert other in answer.json()["error"]
    for path in ("map/select", "map/facets"):
        answer = gone.page.client.post(f"/api/v1/{path}?map_id={other}", json=EVERYTHING)
        assert answer.status_code == 404, path


def test_no_answer_of_a_search_names_it(gone: Gone) -> None:
    client = gone.page.client
    sibling = gone.page.store.images_of("listing-012")[0].image_id
    fresh = client.post("/api/v1/search", json={"image_ids": [str(sibling)], "k": 40})
    for answer in (client.get(f"/api/v1/queries/{gone.query}"), fresh):
        assert answer.status_code == 200
        found = answer.json()
        listings = [hit["listing_id"] for hit in found["hits"]]
        assert gone.listing not in listings
        assert [hit["rank"] for hit in found["hits"]] == list(range(1, 39))
        assert found["hits_total"] == len(set(listings)) == 38
        assert all(hit["title"] for hit in found["hits"])


def test_the_panel_says_that_it_is_gone(gone: Gone) -> None:
    image = gone.images[0]
    panel = gone.page.call(
        f"{ids.EXPLORE_DETAIL}.children",
        f"{ids.EXPLORE_GALLERY}.hidden",
        values={f"{ids.EXPLORE_FOCUS}.data": gone.page.focus(image=str(image))},
    )
    assert "Not found" in text(panel[ids.EXPLORE_DETAIL]["children"])
    hits = gone.page.call(
        f"{ids.EXPLORE_HITS}.children",
        f"{ids.EXPLORE_MAP}.selected",
        f"{ids.EXPLORE_MAP}.highlight",
        f"{ids.EXPLORE_MAP}.dimmed",
        values={f"{ids.EXPLORE_ASK}.data": {"terms": [], **gone.page.focus(image=str(image))}},
    )
    assert "Not found" in json.dumps(hits)


def test_negative_offsets_are_refused(tmp_path: Path) -> None:
    store, searcher = memory.collection(4)
    services = Services(Settings(data_dir=tmp_path), store, searcher)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="offset must be at least 0"):
        services.select(EVERYTHING, offset=-1)
    client = TestClient(
        apps.create(services.settings, services).server, base_url="http://127.0.0.1"
    )
    assert client.post("/api/v1/map/select?offset=-1", json=EVERYTHING).status_code == 400
