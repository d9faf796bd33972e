"""What changed between two maps: the reader, the page and the REST route."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast
from uuid import UUID, uuid4

import numpy as np
import pytest

from analytics.making.resize import resize
from analytics.search import Searcher
from analytics.tiles import Selection
from cql.errors import NotFoundError
from cql.records import ClusterChange, Comparison, Listing, MapVersion, NewOutlier
from cql.store import Store
from dashboard import figures
from dashboard.atlas import Atlas
from dashboard.changes import Changes, ChangesView
from dashboard.decisions import Decisions
from dashboard.pages import changes as page
from dashboard.state import ChangesState
from tests.analytics.conftest import World
from tests.analytics.test_analysis import blobs, run
from tests.dashboard.test_pages import HOSTILE, parts, props, text

Make = Callable[..., World]


@pytest.fixture
def world(tmp_path: Any) -> Iterator[World]:
    one = World(tmp_path)
    yield one
    one.close()


def reader(one: World) -> Changes:
    store = cast("Store", one.store)
    return Changes(store, Atlas(one.settings, store, clock=iter(range(0, 10**6, 10)).__next__))


def maps(one: World, count: int) -> list[MapVersion]:
    """`count` maps, each with ten images more than the one before."""
    vectors, labels = blobs(size=30)
    made = []
    for number in range(count):
        rows = 60 + 10 * number
        one.store.features.clear()
        one.fill(vectors[:rows], [f"l{n:03d}" for n in range(rows)])
        if not one.hosts:
            one.host()
        made.append(run(one))
    assert len(labels) == 90
    return made


def test_pairs_of_maps_are_read_or_compared(world: World) -> None:
    first, second, third = maps(world, 3)
    changes = reader(world)
    found = changes.read(None, None, limit=5)
    assert found is not None
    assert (found.after.map_id, found.after.live) == (third.map_id, True)
    assert found.before is not None
    assert found.before.map_id == second.map_id
    assert (found.tested, found.added, found.removed) == (True, 10, 0)
    assert all(each.title.startswith("Listing") for each in found.outliers)
    # Two that never followed each other: compared by what is stored of them.
    across = changes.read(first.map_id, third.map_id, limit=5)
    assert across is not None
    assert (across.tested, across.added) == (False, 20)
    assert all(each.q is None for each in across.clusters)
    assert any(each.shift is not None for each in across.clusters)
    back = changes.read(third.map_id, first.map_id, limit=5)
    assert back is not None
    assert (back.added, back.removed, back.after.live) == (0, 20, False)
    same = changes.read(third.map_id, third.map_id, limit=5)
    assert same is not None
    assert "Nothing changed" in text(page.summary(same))
    assert {each.map_id for each in changes.versions()} == {
        each.map_id for each in (first, second, third)
    }
    with pytest.raises(NotFoundError):
        changes.read(None, uuid4(), limit=5)
    with pytest.raises(NotFoundError):
        changes.read(uuid4(), None, limit=5)


def test_decisions_do_not_change_what_changed(world: World) -> None:
    """Maps are compared as they were made: a part of a split has no mean and no key there."""
    first, _, third = maps(world, 3)
    store = cast("Store", world.store)
    wanted = reader(world).read(first.map_id, third.map_id, limit=5)
    atlas = Atlas(world.settings, store, clock=iter(range(0, 10**6, 10)).__next__)
    decisions = Decisions(store, cast("Searcher", None), atlas)
    largest, other = [each.cluster for each in atlas.view(third.map_id).clusters][:2]
    images = [
        image
        for image, _ in atlas.table(third.map_id).ids(
            np.flatnonzero(atlas.table(third.map_id).clusters == largest.cluster)[:3]
        )
    ]
    chosen: dict[str, Any] = {"selection": Selection(), "images": images, "map_id": third.map_id}
    seen = decisions.split_preview(**chosen)
    decisions.split(**chosen, name="Apart", author="ann", versions=seen.versions)
    keys = [largest.cluster_key, other.cluster_key]
    merging = decisions.merge_preview(keys)
    decisions.merge(keys, author="ann", versions=merging.versions)
    found = Changes(store, atlas).read(first.map_id, third.map_id, limit=5)
    assert found == wanted
    assert any(each.origin for each in atlas.view(third.map_id).clusters)


def test_a_size_is_compared_with_the_data_before(world: World) -> None:
    first, second = maps(world, 2)
    store = cast("Store", world.store)
    sized = resize(world.settings, store, 9)
    changes = reader(world)
    found = changes.read(None, None, limit=5)
    assert found is not None
    assert found.before is not None
    assert (found.before.map_id, found.after.map_id) == (first.map_id, sized.map_id)
    # With vectors, as the map that it was made of was.
    assert (found.added, found.tested) == (10, True)
    assert any(each.shift is not None for each in found.clusters)
    again = resize(world.settings, store, 8)
    after = changes.read(None, again.map_id, limit=5)
    assert after is not None
    assert after.before is not None
    assert (after.before.map_id, after.tested) == (first.map_id, True)
    # The pair as it was stored.
    pair = changes.read(second.map_id, sized.map_id, limit=5)
    assert pair is not None
    stored = world.store.comparisons(sized.map_id)
    assert {each.previous for each in stored} == {first.map_id, second.map_id}
    assert (pair.added, pair.tested) == (0, True)
    kept = [each for each in pair.clusters if each.kind == "kept"]
    assert kept
    assert all(each.shift is not None for each in kept)
    assert "Drift is tested" not in text(page.listing(pair, changes.versions()))
    # An older Sightline stored no means of another size.
    world.store.mean_rows[sized.map_id] = {}
    pair = changes.read(second.map_id, sized.map_id, limit=5)
    assert pair is not None
    assert (pair.added, pair.tested) == (0, False)
    assert "Drift is tested when a map is made" in text(page.listing(pair, changes.versions()))


def test_sizes_of_the_first_map_have_nothing_before_them(world: World) -> None:
    maps(world, 1)
    resize(world.settings, cast("Store", world.store), 9)
    changes = reader(world)
    assert changes.read(None, None, limit=5) is None
    assert "of the same images" in text(page.listing(None, changes.versions()))


def test_the_first_map_has_nothing_before_it(world: World) -> None:
    (first,) = maps(world, 1)
    changes = reader(world)
    assert changes.read(None, None, limit=5) is None
    shown = page.listing(None, changes.versions())
    assert "first map" in text(shown)
    assert "No map yet" in text(page.listing(None, ()))
    assert page.controls(changes.versions(), None) == []
    assert first.clusters >= 1


def a_view(one: World) -> ChangesView:
    first, second = maps(one, 2)
    store = one.store
    store.titles["l001"] = Listing(listing_id="l001", title=HOSTILE)
    pair: dict[str, Any] = {"map_id": second.map_id, "previous": first.map_id}
    key = uuid4()
    changes = [
        ClusterChange(
            **pair, number=0, kind="new", cluster_key=key, name=HOSTILE, before=0, after=1200,
            joined=1200, added=1000, departed=0, removed=0, exemplars=(one.images[0],),
            parts=json.dumps([[None, "Not in the collection", 1000], [str(uuid4()), "Pipes", 150],
                              [None, "No cluster", 30], [str(uuid4()), "A", 9],
                              [str(uuid4()), "B", 8], [str(uuid4()), "C", 3]]),
        ),
        ClusterChange(
            **pair, number=1, kind="vanished", cluster_key=uuid4(), name="Gone", before=7, after=0,
            joined=0, added=0, departed=7, removed=2, parts=json.dumps([[None, "No cluster", 5]]),
        ),
        ClusterChange(
            **pair, number=2, kind="kept", cluster_key=uuid4(), name="Moved", before=50, after=80,
            joined=30, added=30, departed=0, removed=0, shift=0.125, energy=0.2, p=0.002, q=0.004,
        ),
        ClusterChange(
            **pair, number=3, kind="kept", cluster_key=uuid4(), name="Still", before=50, after=50,
            joined=0, added=0, departed=0, removed=0, shift=0.0,
        ),
    ]  # fmt: skip
    odd = [
        NewOutlier(
            **pair, rank=rank, image_id=one.images[rank], listing_id=f"l00{rank}", score=1.0,
            score_before=None if rank else 0.25,
        )
        for rank in range(2)
    ]  # fmt: skip
    summary = Comparison(
        **pair, rows_before=60, rows_after=70, added=10, removed=3, outliers=70, seed=1,
        created_at=second.created_at,
    )  # fmt: skip
    store.compared = {(second.map_id, first.map_id): (summary, changes, odd)}
    found = reader(one).read(None, None, limit=2)
    assert found is not None
    return found


def test_the_page_tells_all_of_it(world: World) -> None:
    view = a_view(world)
    said = text(page.summary(view))
    for expected in (
        "10 images added", "3 removed", "1 new cluster", "1 cluster vanished", "1 cluster drifted",
        "70 new outliers", "60 images before, 70 now",
    ):  # fmt: skip
        assert expected in said
    shown = page.listing(view, reader(world).versions())
    told = text(shown)
    for expected in (
        "New clusters", "1,200 images", "1,000 new to the collection",
        "Was in Pipes (150), no cluster (30), A (9), and 2 others", "Vanished clusters",
        "2 no longer in the collection", "Now in no cluster (5)", "drifted", "0.125", "0.004",
        "not tested", "The strangest 2 of 70", "before 0.25", "new", HOSTILE,
    ):  # fmt: skip
        assert expected in told
    assert told.index("Moved") < told.index("Still")
    assert not [part for part in parts(shown) if "dangerously" in str(vars(part))]
    versions = reader(world).versions()
    controls = page.controls(versions, view)
    links = [href for href in props(controls, "href") if href]
    assert len(links) == 2 * len(versions)
    pairs = {ChangesState.read(href.partition("?")[2]) for href in links}
    assert ChangesState(versions[0].map_id, view.after.map_id) in pairs


def test_untested_pairs_say_so(world: World) -> None:
    view = replace(a_view(world), tested=False)
    assert "Drift is tested when a map is made" in text(page.listing(view, ()))
    empty = replace(view, clusters=(), outliers=(), new_outliers=0)
    assert "Nothing changed" in text(page.listing(empty, ()))


def test_the_chart_shows_how_far_each_moved(world: World) -> None:
    view = a_view(world)
    figure = figures.cluster_shifts([each for each in view.clusters if each.shift], "dark")
    (bars,) = figure["data"]
    assert bars["y"] == [0.125]
    assert bars["marker"]["color"] == [figures.PALETTES["dark"].accent]


def test_an_address_that_is_no_pair_is_the_default() -> None:
    own = UUID(int=5, version=4)
    for state in (
        ChangesState(),
        ChangesState(own),
        ChangesState(None, own),
        ChangesState(own, own),
    ):
        assert ChangesState.read(state.write()) == state
    assert ChangesState.read("?from=x&to=") == ChangesState()
