"""A new map beside the one before it, through the whole of `analyse`."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast
from uuid import UUID, uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics import drift
from analytics.making import comparison
from analytics.making.publish import Made
from analytics.tiles import MapTable
from cql.records import Cluster, MapVersion
from cql.store import Store
from tests.analytics.conftest import Memory, World
from tests.analytics.test_analysis import blobs, run
from tests.naive import unit

Make = Callable[..., World]


def grown(world: Make, more: NDArray[np.float32]) -> tuple[World, MapVersion, MapVersion]:
    """A map of three groups, then one with `more` images of listings of their own."""
    one = world()
    vectors, labels = blobs(size=30)
    one.fill(vectors, [f"l{n:03d}" for n in range(len(labels))])
    one.host()
    first = run(one)
    owners = [*one.owners, *(f"m{n:03d}" for n in range(len(more)))]
    one.store.features.clear()
    one.fill(np.concatenate([vectors, more]), owners)
    return one, first, run(one)


def test_a_new_group_is_a_new_cluster_and_the_rest_stays(world: Make) -> None:
    rng = np.random.default_rng(3)
    fresh = unit(np.random.default_rng(50), 1, 16) + rng.normal(scale=0.05, size=(30, 16))
    fresh /= np.linalg.norm(fresh, axis=1, keepdims=True)
    one, first, second = grown(world, fresh.astype(np.float32))
    (found,) = one.store.comparisons(second.map_id)
    assert (found.previous, found.added, found.removed) == (first.map_id, 30, 0)
    assert (found.rows_before, found.rows_after) == (90, 120)
    changes = one.store.cluster_changes(second.map_id, first.map_id)
    assert [each.kind for each in changes] == ["new", "kept", "kept", "kept"]
    assert (changes[0].after, changes[0].added, len(changes[0].exemplars)) == (30, 30, 9)
    assert json.loads(changes[0].parts) == [[None, "Not in the collection", 30]]
    assert all(each.shift is not None and each.shift < 0.05 for each in changes[1:])
    odd = one.store.new_outliers(second.map_id, first.map_id, limit=9)
    assert len(odd) == found.outliers
    assert not one.store.comparisons(first.map_id)


def test_newcomers_that_differ_are_drift(world: Make) -> None:
    vectors, _ = blobs(size=30)
    rng = np.random.default_rng(3)
    # Beside the first group, closer to it than to any other, and on one side of it.
    more = vectors[:30] + 0.15 * unit(rng, 1, 16) + rng.normal(scale=0.01, size=(30, 16))
    more = (more / np.linalg.norm(more, axis=1, keepdims=True)).astype(np.float32)
    one, first, second = grown(world, more)
    changes = one.store.cluster_changes(second.map_id, first.map_id)
    tested = [each for each in changes if each.q is not None]
    assert tested
    assert min(each.q for each in tested if each.q is not None) <= drift.LEVEL
    assert all(each.joined >= 2 for each in tested)


def test_stored_maps_compare_as_when_they_were_made(world: Make) -> None:
    vectors, _ = blobs(size=30)
    one, first, second = grown(world, vectors[:10][:, ::-1].copy())
    store = cast("Store", one.store)
    sides = [
        comparison.side(store, MapTable.open(one.settings, store, each.map_id))
        for each in (first, second)
    ]
    found = drift.compare(*sides)
    stored = one.store.cluster_changes(second.map_id, first.map_id)
    pair = (second.map_id, first.map_id)
    assert [
        (each.cluster_key, each.after, each.joined, each.departed, each.parts, each.shift)
        for each in comparison.changes(pair, found, {})
    ] == [
        (each.cluster_key, each.after, each.joined, each.departed, each.parts, each.shift)
        for each in stored
    ]
    (kept,) = one.store.comparisons(second.map_id)
    assert (kept.added, kept.removed, kept.outliers) == (
        found.added, found.removed, len(found.outliers),
    )  # fmt: skip


def test_a_vanished_cluster_shows_what_is_still_there() -> None:
    store, previous = Memory(), uuid4()
    there, gone = [uuid4() for _ in range(3)], [uuid4() for _ in range(2)]

    def cluster(number: int, exemplars: list[UUID], map_id: UUID = previous) -> Cluster:
        return Cluster(
            map_id=map_id, cluster=number, cluster_key=UUID(int=number), size=9, listings=9,
            name="n", exemplars=tuple(exemplars), x=0, y=0,
        )  # fmt: skip

    store.put_clusters([cluster(0, there), cluster(1, [there[0], gone[0], there[2]])])
    store.put_clusters([cluster(2, gone), cluster(3, [])])
    images = np.frombuffer(b"".join(image.bytes for image in there), np.uint8).reshape(-1, 16)
    made = SimpleNamespace(previous=previous, rows=SimpleNamespace(images=images))
    now = [cluster(0, there[:1], uuid4())]
    found = comparison._shown(cast("Store", store), cast("Made", made), now)
    assert found == {
        UUID(int=0): tuple(there[:1]),
        UUID(int=1): (there[0], there[2]),
        UUID(int=2): (),
    }


@pytest.mark.parametrize("count", [0, 1, 5])
def test_the_first_map_has_nothing_before_it(world: Make, count: int) -> None:
    one = world()
    vectors = unit(np.random.default_rng(1), count, 8)
    if count:
        one.fill(vectors, [f"l{n}" for n in range(count)])
        one.host()
    else:
        one.vectors = vectors
        one.cut(1)
    made = run(one)
    assert one.store.comparisons(made.map_id) == []
    again = run(one, seed=2)
    (found,) = one.store.comparisons(again.map_id)
    assert (found.added, found.removed, found.outliers) == (0, 0, 0)
