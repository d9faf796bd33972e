"""Sizes of clusters on their page: real services, an engine's answers over the wire."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import numpy as np
import pytest

from analytics import clustering
from analytics.hierarchy.catalogue import Earlier, catalogue
from cql.errors import InputError, UnavailableError
from cql.records import Service
from cql.settings import Settings
from cql.store import Store
from cql.wire import Server
from dashboard import figures, ids
from dashboard.components import details, sizes
from dashboard.pages import clusters
from dashboard.previews import Previews
from dashboard.state import ClustersState
from dashboard.views import GroupView, StabilityView
from tests.dashboard import memory
from tests.dashboard.test_explore import Page
from tests.dashboard.test_pages import MAP, a_cluster, a_map, an_id, css, parts, text


def regroup(store: memory.MemoryStore, searcher: memory.MemorySearcher, size: int) -> None:
    """Cluster the collection anew, in the space of its vectors: three groups of two."""
    points = sorted(store.points_, key=lambda point: (point.listing_id, point.image_id.bytes))
    shift = np.array([int(point.listing_id[-3:]) % 6 // 2 for point in points])
    turn = np.array([int(point.listing_id[-3:]) % 6 for point in points])
    space = np.array([searcher.vectors[point.image_id][:4] for point in points])
    space = (space + 40 * shift[:, None] + 0.7 * turn[:, None]).astype(np.float32)
    found = clustering.cluster(space, min_samples=3, min_cluster_size=size)
    version = cast("Any", store.version)
    described, groups = catalogue(
        version.map_id,
        found,
        images=np.frombuffer(b"".join(p.image_id.bytes for p in points), np.uint8).reshape(-1, 16),
        owners=[point.listing_id for point in points],
        placed=np.array([(point.x, point.y) for point in points], np.float32),
        space=space,
        listings=store.listings_,
        earlier=Earlier(),
    )
    store.clusters_, store.groups_ = described, groups
    store.points_ = [
        replace(
            point,
            cluster=int(found.labels[row]),
            membership=float(found.membership[row]),
            soft_clusters=found.shares(row)[0],
            soft_shares=found.shares(row)[1],
            space=space[row].tobytes(),
        )
        for row, point in enumerate(points)
    ]
    store.version = replace(
        version,
        clusters=found.count,
        noise=int((found.labels < 0).sum()),
        parameters=json.dumps({"min_samples": 3, "min_cluster_size": size}),
    )


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    settings = Settings(data_dir=tmp_path)
    made = Page(settings, listings=60)
    regroup(made.store, made.searcher, 9)
    previews, store = Previews(settings), cast("Store", made.store)
    answers = {
        "stability": lambda message: previews.stability(store, message),
        "preview": lambda message: previews.preview(store, message),
    }
    with Server(settings, answers) as server:
        engine = Service(role="engine", service_id=uuid4(), address=server.address)
        made.store.services = lambda role: [engine] * (role == "engine")  # type: ignore[method-assign]
        yield made
        made.services.close()


def test_the_curve_and_a_preview_come_from_the_tree(page: Page) -> None:
    found = page.services.stability()
    assert (found.size, found.automatic) == (9, 5)
    assert len(found.sizes) == len(found.clusters) == len(found.noise) == len(found.same)
    assert found.sizes[0] == 2
    assert page.services.stability() is found
    now = page.services.preview_size(9)
    assert now.clusters == len(page.services.clusters())
    assert now.noise == pytest.approx(page.services.live_map().noise / 180)  # type: ignore[union-attr]
    for size, count, noise in zip(found.sizes, found.clusters, found.noise, strict=True):
        one = page.services.preview_size(size)
        assert one.clusters == count
        assert one.noise == pytest.approx(noise)
    with pytest.raises(InputError, match="at least 2 images"):
        page.services.preview_size(1)


def test_without_an_engine_it_says_what_to_start(page: Page) -> None:
    page.store.services = lambda role: []  # type: ignore[method-assign]
    with pytest.raises(UnavailableError, match="start one to see"):
        page.services.stability()


def test_the_api_answers_and_queues(page: Page) -> None:
    client = page.client
    curve = client.get("/api/v1/clusters/stability").json()
    assert curve["size"] == 9
    one = client.get("/api/v1/clusters/preview", params={"size": 30}).json()
    assert one["clusters"] == page.services.preview_size(30).clusters
    assert client.get("/api/v1/clusters/preview", params={"size": 1}).status_code == 400
    groups = client.get("/api/v1/clusters/groups").json()
    assert {group["clusters"] for group in groups if group["level"] == 1} == {2}
    queued = client.post("/api/v1/clusters/size", json={"size": 30})
    assert (queued.status_code, queued.json()["kind"]) == (202, "cluster_size")
    live = str(page.store.version.map_id)  # type: ignore[union-attr]
    assert json.loads(page.store.jobs_[0].parameters) == {"map_id": live, "size": 30}
    assert client.post("/api/v1/clusters/size", json={"size": None}).status_code == 202
    assert client.post("/api/v1/clusters/size", json={"size": 0}).status_code == 400


def test_the_panel_previews_a_size(page: Page) -> None:
    shown = page.call(
        f"{ids.CLUSTERS_SIZE}.children",
        f"{ids.CLUSTERS_SIZE}.hidden",
        values={f"{ids.URL}.search": "?size=30"},
    )
    assert not shown[ids.CLUSTERS_SIZE]["hidden"]
    assert '"value": 4.9068' in json.dumps(shown)
    place = {f"{ids.CLUSTERS_SIZE_SLIDER}.value": math.log2(30), f"{ids.THEME}.data": "dark"}
    found = page.call(
        f"{ids.CLUSTERS_SIZE_PREVIEW}.children",
        f"{ids.CLUSTERS_SIZE_CHART}.figure",
        f"{ids.CLUSTERS_SIZE_USE}.disabled",
        values=place,
    )
    assert "With 30" in json.dumps(found)
    assert found[ids.CLUSTERS_SIZE_USE]["disabled"] is False
    back = page.call(
        f"{ids.CLUSTERS_SIZE_PREVIEW}.children",
        f"{ids.CLUSTERS_SIZE_CHART}.figure",
        f"{ids.CLUSTERS_SIZE_USE}.disabled",
        values={f"{ids.CLUSTERS_SIZE_SLIDER}.value": math.log2(9)},
    )
    assert "Now" in json.dumps(back)
    assert back[ids.CLUSTERS_SIZE_USE]["disabled"] is True


def test_the_address_says_which_size_is_looked_at() -> None:
    assert sizes.address("?text=gas", math.log2(30), 9) == "?text=gas&size=30"
    assert sizes.address("?text=gas&size=30", math.log2(9), 9) == "?text=gas"
    assert sizes.address("?size=30", math.log2(30), 9) is None
    assert sizes.address("", None, 9) is None


def test_an_image_says_what_it_belongs_to(page: Page) -> None:
    point = next(p for p in page.store.points_ if len(p.soft_clusters) > 1)
    image = page.services.image(point.image_id)
    assert [share.share for share in image.shares] == pytest.approx(list(point.soft_shares))
    shown = text(details.details(image, page.services.listing(image.listing_id)))
    assert "Belongs to" in shown
    assert image.shares[0].name in shown
    names = {column.name for column in page.services.columns()}
    assert "group" in names


def a_group(number: int, clusters: int, size: int, parent: int | None, level: int = 1) -> GroupView:
    return GroupView(
        key=an_id(f"group {level} {number}"), level=level, number=number,
        name=f"Family {level}.{number}", size=size, listings=9, clusters=clusters, share=0.5,
        parent=parent,
    )  # fmt: skip


def test_cards_stand_in_sections_by_their_groups() -> None:
    found = [replace(a_cluster(n, 50 - n), group=(0, 1, 1, 2, 0, None)[n]) for n in range(6)]
    groups = [
        a_group(0, 2, 96, 1), a_group(1, 2, 97, 0), a_group(2, 1, 47, 1),
        a_group(0, 2, 97, None, 2), a_group(1, 3, 143, None, 2),
    ]  # fmt: skip
    drawn = clusters.listing(a_map(), found, ClustersState(), 60, groups)
    titles = [text(p) for p in parts(drawn) if type(p).__name__ == "H2"]
    assert titles == ["Family 1.0", "Family 1.1", "In no group"]
    sections = [p for p in parts(drawn) if "cluster-group" in css(p).split()]
    held = [sum("cluster-card" in css(card) for card in parts(part)) for part in sections]
    assert held == [2, 2, 2]
    # Said where the wider group holds more than this one.
    assert "Family 2.1" in text(sections[0])
    assert "Family 2.0" not in text(sections[1])
    assert "2 clusters, 96 images" in text(sections[0])
    flat = clusters.listing(a_map(), found, ClustersState(sort="name"), 60, groups)
    assert not [p for p in parts(flat) if type(p).__name__ == "H2"]
    bare = clusters.listing(a_map(), found, ClustersState(), 60, [a_group(0, 1, 9, None)])
    assert not [p for p in parts(bare) if type(p).__name__ == "H2"]


def a_curve(**changes: Any) -> StabilityView:
    made = StabilityView(
        map_id=MAP, size=13, automatic=13, sizes=(2, 5, 20, 80), clusters=(90, 60, 12, 0),
        noise=(0.1, 0.2, 0.3, 1.0), mass=(1.0, 1.0, 0.5, 0.0), same=(0.95, 0.4, 0.1, 1.0),
    )  # fmt: skip
    return replace(made, **changes)


def test_the_plot_marks_cliffs_and_sizes() -> None:
    figure = figures.stability(a_curve(), 20, "light")
    lines, noise, cliffs = figure["data"]
    assert lines["y"] == [90, 60, 12, 0]
    assert noise["yaxis"] == "y2"
    assert cliffs["x"] == [5, 20]
    assert [shape["x0"] for shape in figure["layout"]["shapes"]] == [13, 20]
    assert len(figures.stability(a_curve(), 13, "dark")["layout"]["shapes"]) == 1


def test_the_panel_says_what_is_chosen() -> None:
    assert "chosen for this map" not in text(sizes.panel(a_curve(), None, None))
    assert "chosen for this map" in text(sizes.panel(a_curve(size=40), None, None))
    assert "start one" in text(sizes.shown(UnavailableError("no engine: start one"), None, None))


@pytest.mark.parametrize("largest", [2, 3, 17, 1000, 250_000])
def test_marks_of_the_slider_are_few(largest: int) -> None:
    marks = sizes.marks(largest)
    assert 1 <= len(marks) <= 8
    assert all(0.9 <= at <= math.log2(max(largest, 4)) for at in marks)


@pytest.mark.parametrize(("value", "size"), [(None, None), (0.0, 2), (1.0, 2), (4.9069, 30)])
def test_a_place_of_the_slider_is_a_size(value: float | None, size: int | None) -> None:
    assert sizes.size_at(value) == size


@pytest.mark.parametrize("size", ["1", "-3", "x", "1e3", "9" * 10, ""])
def test_a_size_in_the_address_that_cannot_be_is_dropped(size: str) -> None:
    assert ClustersState.read(f"?size={size}").size is None
    assert ClustersState.read("?size=40&text=a").write() == "?text=a&size=40"
