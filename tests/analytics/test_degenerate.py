"""Maps of collections that are hardly any, each by name, from hosts to what is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics.analysis import analyse
from analytics.request import Request
from analytics.search import Searcher, Stored
from analytics.tiles import MapTable, Selection
from cql.errors import InputError
from cql.records import MapPoint, MapVersion, Snapshot
from cql.store import Store
from tests.analytics.conftest import MODEL, World
from tests.naive import unit

Make = Callable[..., World]
Vectors = NDArray[np.float32]


def hosted(one: World, vectors: Vectors, owners: Sequence[str]) -> World:
    one.fill(vectors, owners)
    one.host()
    return one


def mapped(one: World, *, model: str = MODEL, **changes: Any) -> MapVersion:
    """The live map of a collection: whole, finite, and at one with itself."""
    store, rows = cast("Store", one.store), len(one.vectors)
    made = analyse(None, one.settings, store, model_id=model, **changes)
    assert one.store.live("map") == made.map_id
    assert (made.rows, made.rows_scored, made.model_id) == (rows, rows, model)
    points, odd = one.store.map_points[made.map_id], one.store.odd[made.map_id]
    assert sorted(point.image_id for point in points) == sorted(one.images)
    assert sorted(each.image_id for each in odd) == sorted(one.images)
    for point in points:
        assert 0 <= point.x < 1
        assert 0 <= point.y < 1
        assert 0 <= point.membership <= 1
        assert 0 < point.outlier_score <= 1
        assert sum(point.soft_shares) <= 1 + 1e-6
    numbers = [(point.knn_distance, point.glosh, point.trust or 0.0) for point in points]
    assert np.isfinite(numbers).all()
    assert np.isfinite([each.lof for each in odd]).all()
    assert all(each.reason for each in odd)
    assert np.isfinite(list(made.quality.values())).all()
    clusters = one.store.clusters(made.map_id)
    sizes = Counter(point.cluster for point in points)
    assert made.clusters == len(clusters)
    assert made.noise == sizes.pop(-1, 0)
    assert {cluster.cluster: cluster.size for cluster in clusters} == sizes
    for cluster in clusters:
        assert cluster.name
        assert set(cluster.exemplars) <= set(one.images)
        assert len(set(cluster.exemplars)) == len(cluster.exemplars) > 0
    table = MapTable.open(one.settings, store, made.map_id)
    assert len(table.select(Selection())) == table.rows == rows
    assert len(table.tile(0, 0, 0)) >= 16 + 16 * min(rows, one.settings.tile_points)
    return made


def by_image(one: World, made: MapVersion) -> dict[Any, MapPoint]:
    return {point.image_id: point for point in one.store.map_points[made.map_id]}


def test_one_image(world: Make) -> None:
    one = hosted(world(), unit(np.random.default_rng(1), 1, 8), ["only"])
    made = mapped(one)
    assert (made.clusters, made.noise) == (0, 1)
    # The next map starts from this one, which has nothing to compare with.
    one.end(0)
    one.store.features.clear()
    grown = mapped(hosted(one, unit(np.random.default_rng(1), 15, 8), ["only"] * 3 + ["l"] * 12))
    (told,) = one.store.comparisons(grown.map_id)
    assert told.previous == made.map_id


@pytest.mark.parametrize("owners", ["one each", "five each", "one listing"])
def test_fifteen_images(world: Make, owners: str) -> None:
    """As many as the layout has neighbours, one fewer than it would like to have."""
    sizes = {"one each": 1, "five each": 5, "one listing": 15}
    names = [f"l{row // sizes[owners]:02d}" for row in range(15)]
    made = mapped(hosted(world(), unit(np.random.default_rng(2), 15, 8), names))
    assert made.quality["neighbours"] == 14
    assert made.quality["neighbours_recall"] == 1.0


@pytest.mark.parametrize("count", [2, 15, 60])
@pytest.mark.parametrize("listings", ["one", "many"])
def test_all_identical(world: Make, count: int, listings: str) -> None:
    vectors = np.repeat(unit(np.random.default_rng(3), 1, 8), count, axis=0)
    names = [f"l{row:03d}" if listings == "many" else "one" for row in range(count)]
    one = hosted(world(), vectors, names)
    made = mapped(one)
    assert (made.clusters, made.noise) == (1, 0)
    points = list(by_image(one, made).values())
    assert len({(point.x, point.y, point.outlier_score) for point in points}) == 1
    assert max(point.knn_distance for point in points) < 1e-3  # norms are 1 but for rounding
    assert not any(each.kind for each in one.store.odd[made.map_id])
    (cluster,) = one.store.clusters(made.map_id)
    assert cluster.listings == len(set(names))


def test_two_models(world: Make) -> None:
    """Each has a map of its own vectors; the live map, and searches with it, are of the last."""
    one, rng = world(), np.random.default_rng(4)
    owners = [f"l{row // 2:02d}" for row in range(40)]
    first, second = unit(rng, 40, 8), unit(rng, 40, 12)
    for vectors, model in ((first, MODEL), (second, "other@1")):
        snapshot = one.fill(vectors, owners, model=model)
        one.store.pointers[f"snapshot:{model}"] = snapshot.snapshot_id
    one.host()
    made, other = mapped(one), mapped(one, model="other@1")
    assert made.map_id != other.map_id
    assert one.store.live("map") == other.map_id
    assert {version.model_id for version in one.store.maps()} == {MODEL, "other@1"}
    for version, vectors in ((made, first), (other, second)):
        scores = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
        np.fill_diagonal(scores, -np.inf)
        near = np.sort(scores, axis=1)[:, ::-1][:, : int(version.quality["neighbours"])]
        wanted = np.sqrt(np.maximum(0.0, 2.0 - 2.0 * near)).mean(axis=1)
        points = by_image(one, version)
        found = [points[image].knn_distance for image in one.images]
        assert np.allclose(found, wanted, atol=1e-4)
    with Searcher(one.settings, cast("Store", one.store)) as find:
        assert find.search(Request(vectors=second[[3]], k=1)).hits[0].image_id == one.images[3]
        assert find.search(Request(vectors=first[[3]], k=1, model=MODEL)).hits[0].score > 0.999


def test_nan_is_refused_and_the_earlier_map_stays(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = hosted(world(), unit(np.random.default_rng(5), 20, 8), [f"l{n}" for n in range(20)])
    made = mapped(one)
    spoilt = one.vectors.copy()
    spoilt[7, 3] = np.nan
    # Nothing that Sightline writes holds one.
    with pytest.raises(InputError, match="row 7"):
        world().fill(spoilt, one.owners)
    # And what comes from hosts with one goes no further.
    stored = Searcher.stored

    def broken(self: Searcher, snapshot: Snapshot) -> Iterator[Stored]:
        for part in stored(self, snapshot):
            yield replace(part, vectors=spoilt)

    monkeypatch.setattr(Searcher, "stored", broken)
    steps: list[str] = []
    with pytest.raises(InputError, match="row 7"):
        analyse(
            None, one.settings, cast("Store", one.store), model_id=MODEL, seed=2,
            progress=lambda step, *_: steps.append(step),
        )  # fmt: skip
    assert steps[-1] == "collect"
    assert one.store.live("map") == made.map_id
    assert [version.map_id for version in one.store.maps()] == [made.map_id]


def test_a_cluster_of_one_listing(world: Make) -> None:
    """All photos of a thing, alike and unlike everything else; and a listing in every cluster."""
    rng = np.random.default_rng(6)
    group = np.repeat(np.arange(3), 20)
    vectors = unit(rng, 3, 12)[group] + rng.normal(scale=0.05, size=(60, 12))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    owners = [("alone", f"a{row % 5}", f"b{row}")[own] for row, own in enumerate(group.tolist())]
    owners[25] = owners[45] = "both"
    one = hosted(world(), vectors, owners)
    made = mapped(one)
    clusters = one.store.clusters(made.map_id)
    held = by_image(one, made)
    members = [
        {point.listing_id for point in held.values() if point.cluster == cluster.cluster}
        for cluster in clusters
    ]
    assert {"alone"} in members
    assert [cluster.listings for cluster in clusters] == [len(own) for own in members]
    assert len({cluster.name for cluster in clusters}) == len(clusters)
    assert "alone" in clusters[members.index({"alone"})].name
