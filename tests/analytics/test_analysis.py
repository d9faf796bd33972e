"""The map: layout, clusters, names, outliers, and all of it over hosts in this process."""

from collections.abc import Callable
from typing import Any, cast
from uuid import UUID, uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics import clustering, outliers, projection
from analytics.analysis import Parameters, analyse
from analytics.clustering import Clusters
from analytics.evidence.reasons import reasons
from analytics.hierarchy import keys as lasting
from analytics.hierarchy import naming
from analytics.tiles import MapTable
from cql.errors import UnavailableError
from cql.progress import CancelledError
from cql.records import Listing, MapVersion
from cql.store import Store
from tests.analytics.conftest import MODEL, World
from tests.naive import graph_of, unit

Make = Callable[..., World]
QUICK = Parameters(neighbours=10, outlier_neighbours=10)


def blobs(groups: int = 3, size: int = 40, dim: int = 16) -> tuple[NDArray[np.float32], list[int]]:
    rng = np.random.default_rng(7)
    labels = [group for group in range(groups) for _ in range(size)]
    vectors = unit(rng, groups, dim)[labels] + rng.normal(scale=0.05, size=(len(labels), dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), labels


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 9, 20])
@pytest.mark.parametrize("kind", ["spread", "identical", "two places"])
def test_layouts_of_degenerate_collections_are_finite(count: int, kind: str) -> None:
    vectors = unit(np.random.default_rng(1), count, 6)
    if kind == "identical":
        vectors = np.repeat(unit(np.random.default_rng(1), 1, 6), count, axis=0)
    elif kind == "two places":
        vectors = unit(np.random.default_rng(1), 2, 6)[np.arange(count) % 2]
    graph = graph_of(vectors, max(0, min(10, count - 1)))
    for dims in (2, max(2, min(10, count - 2))):
        placed = projection.layout(vectors, graph, seed=1, dims=dims)
        assert placed.shape == (count, dims)
        assert placed.dtype == np.float32
        assert np.isfinite(placed).all()
    fitted = projection.Frame.around(placed[:, :2]).shown(placed[:, :2])
    assert ((fitted >= 0) & (fitted < 1)).all()
    found = clustering.cluster(placed, min_samples=5)
    assert found.labels.shape == (count,)
    assert np.isfinite(found.membership).all()
    odd = outliers.score(graph, found)
    assert ((odd.score > 0) & (odd.score <= 1)).all()


def test_a_frame_keeps_the_aspect() -> None:
    placed = np.array([[0, 0], [10, 5], [5, 2]], np.float32)
    fitted = projection.Frame.around(placed).shown(placed).astype(np.float64)
    assert np.ptp(fitted[:, 0]) == pytest.approx(0.96, abs=1e-6)
    assert np.ptp(fitted[:, 1]) == pytest.approx(0.48, abs=1e-6)


def test_trust_equals_scikit_learn() -> None:
    from sklearn.manifold import trustworthiness

    vectors, _ = blobs()
    placed = vectors[:, :2] + np.random.default_rng(2).normal(scale=0.2, size=(120, 2))
    found = projection.trust(vectors, placed.astype(np.float32), k=7)
    wanted = trustworthiness(vectors, placed.astype(np.float32), n_neighbors=7)
    assert found.value == pytest.approx(wanted, abs=1e-6)
    assert (found.k, found.rows) == (7, 120)


def test_planted_groups_are_found_and_trusted() -> None:
    vectors, labels = blobs()
    graph = graph_of(vectors, 15)
    space = projection.layout(vectors, graph, seed=3, dims=5, min_dist=0.0)
    found = clustering.cluster(space, min_samples=5, min_cluster_size=10)
    assert found.count == 3
    assert len(set(zip(labels, found.labels.tolist(), strict=True))) == 3
    placed = projection.layout(vectors, graph, seed=3)
    assert projection.trust(vectors, placed).value > 0.8


def test_one_seed_gives_one_layout() -> None:
    vectors, _ = blobs(size=15)
    graph = graph_of(vectors, 10)
    first = projection.layout(vectors, graph, seed=5)
    assert np.array_equal(first, projection.layout(vectors, graph, seed=5))
    assert not np.array_equal(first, projection.layout(vectors, graph, seed=6))


def test_exemplars_are_members_and_differ() -> None:
    vectors, labels = blobs()
    found = Clusters(np.array(labels), np.ones(120), np.zeros(120))
    rows = clustering.exemplars(vectors, found, 1)
    assert len(rows) == len(set(rows.tolist())) == 9
    assert {labels[row] for row in rows} == {1}
    few = Clusters(np.array([0] * 4 + [-1] * 116), np.ones(120), np.zeros(120))
    assert sorted(clustering.exemplars(vectors, few, 0).tolist()) == [0, 1, 2, 3]


def test_clusters_are_numbered_by_size() -> None:
    labels, was = clustering.by_size(np.array([4, 4, 0, 0, 0, -1, 2, 2]))
    assert labels.tolist() == [1, 1, 0, 0, 0, -1, 2, 2]
    assert was.tolist() == [0, 4, 2]


def test_keys_follow_the_members() -> None:
    images = [uuid4() for _ in range(30)]
    a, b, c = (frozenset(images[start : start + 10]) for start in (0, 10, 20))
    first = lasting.keys([a, b], {})
    assert first == lasting.keys([a, b], {})
    earlier = dict(zip(first, (a, b), strict=True))
    moved = lasting.keys([b | {images[0]}, c, a - {images[0]}], earlier)
    assert moved[0] == first[1]
    assert moved[2] == first[0]
    assert moved[1] not in first
    halves = lasting.keys([frozenset(images[:6]), frozenset(images[6:10])], earlier)
    assert halves[0] == first[0]
    assert halves[1] not in first


def listing(name: str, title: str, **attributes: str) -> Listing:
    return Listing(listing_id=name, title=title, attributes=attributes)


def test_names_come_from_text() -> None:
    listings = {
        f"{kind}{n}": listing(
            f"{kind}{n}", f"{kind} pipe, Mill Road {n}", district=("North", "South")[n % 2]
        )
        for kind in ("Gas", "Water")
        for n in range(8)
    }
    members = [{f"{kind}{n}": 2 for n in range(8)} for kind in ("Gas", "Water")]
    found = naming.names(members, listings)
    assert found[0].startswith("Gas pipe")
    assert found[1].startswith("Water pipe")
    assert found == naming.names(members, listings)


def test_names_keep_case_and_whole_values_with_the_kind_first() -> None:
    texts = {
        "w": ("Water main", "water main", "MDPE, blue"),
        "g": ("Gas main", "gas main", "ductile iron"),
        "t": ("Telecoms cable", "telecoms cable", "HDPE microduct"),
    }
    listings = {
        f"{key}{n}": listing(
            f"{key}{n}",
            f"{noun}, {60 + n} mm {material.split(',')[0]}, {('Tower', 'High')[n % 2]} Street",
            kind=kind,
            material=material,
            depth_m=f"0.{n}",
        )
        for key, (noun, kind, material) in texts.items()
        for n in range(6)
    }
    members = [{f"{key}{n}": 1 + n % 2 for n in range(6)} for key in texts]
    found = naming.names(members, listings)
    assert found == [
        "Water main · MDPE, blue",
        "Gas main · ductile iron",
        "Telecoms cable · HDPE microduct",
    ]
    backwards = dict(reversed(listings.items()))
    assert naming.names([dict(reversed(m.items())) for m in members], backwards) == found


def test_a_name_repeats_no_word_and_no_quantity() -> None:
    listings = {f"l{n}": listing(f"l{n}", f"Valve, 80 mm brass valve {n}") for n in range(4)}
    listings |= {f"o{n}": listing(f"o{n}", "12 V pump") for n in range(4)}
    members = [{f"{key}{n}": 1 for n in range(4)} for key in "lo"]
    assert naming.names(members, listings) == ["Brass valve", "Pump"]


def test_a_listing_of_many_images_does_not_name_a_cluster() -> None:
    listings = {f"l{n}": listing(f"l{n}", ("Pump", "Valve")[n > 0]) for n in range(8)}
    members = [{f"l{n}": 9 if n == 0 else 1 for n in range(8)}]
    assert naming.names(members, listings) == ["Valve"]


def test_names_are_distinct_and_never_bare_numbers() -> None:
    same = {f"l{n}": listing(f"l{n}", "Gas pipe") for n in range(6)}
    found = naming.names([{"l0": 1, "l1": 1}, {"l2": 1, "l3": 1}, {"l4": 1}], same)
    assert len(set(found)) == 3
    assert all(name.startswith("Gas pipe") for name in found)
    bare = {f"l{n}": listing(f"l{n}", "") for n in range(3)}
    assert naming.names([{"l0": 1}, {"l1": 5, "l2": 1}], bare) == ["Like l0", "Like l1"]
    assert naming.names([], {}) == []


def test_percentiles() -> None:
    values = np.array([3.0, 1.0, 2.0, 2.0])
    assert outliers.percentile(values).tolist() == [1.0, 0.25, 0.75, 0.75]


def test_a_planted_outlier_ranks_first_and_says_why() -> None:
    vectors, labels = blobs()
    far = unit(np.random.default_rng(99), 1, 16)
    vectors = np.concatenate([vectors, far])
    graph = graph_of(vectors, 12)
    nearest = [*labels, labels[graph.rows[120, 0]]]
    found = Clusters(
        np.array([*labels, -1]), np.ones(121), np.zeros(121), np.array(nearest, np.int32)[:, None]
    )
    odd = outliers.score(graph, found, k=12)
    assert int(np.argmax(odd.score)) == 120
    assert odd.score[120] == 1.0
    words = list(reasons(odd, found, found.nearest, ["A", "B", "C"]))[120]
    assert "12 nearest images" in words
    assert f"nearest is “{'ABC'[nearest[120]]}”" in words


def run(one: World, **changes: Any) -> MapVersion:
    changes.setdefault("parameters", QUICK)
    store = cast("Store", one.store)
    return analyse(None, one.settings, store, model_id=MODEL, **changes)


def planted(make: Make, cuts: int = 2) -> World:
    one = make()
    vectors, labels = blobs(size=30)
    one.fill(vectors, [f"l{n // 3:03d}" for n in range(len(labels))], cuts=cuts)
    one.host()
    return one


def test_a_map_is_stored_whole_and_live(world: Make) -> None:
    one = planted(world)
    steps: list[str] = []
    made = run(one, progress=lambda step, *_: steps.append(step))
    assert one.store.live("map") == made.map_id
    assert (made.rows, made.rows_scored, made.clusters) == (90, 90, 3)
    assert list(dict.fromkeys(steps)) == [
        "texts", "collect", "graph", "before", "layout", "space", "tree", "clusters",
        "appearance", "patches", "spots", "outliers", "curve", "duplicates", "store", "changes",
        "tiles",
    ]  # fmt: skip
    points = one.store.map_points[made.map_id]
    assert {point.image_id for point in points} == set(one.images)
    assert len(one.store.odd[made.map_id]) == 90
    assert made.quality["trustworthiness_rows"] == 90
    clusters = one.store.clusters(made.map_id)
    assert sum(cluster.size for cluster in clusters) == 90 - made.noise
    assert all(cluster.name.startswith("Listing") or "Like" in cluster.name for cluster in clusters)
    table = MapTable.open(one.settings, cast("Store", one.store), made.map_id)
    assert [table.row_of(point.image_id) for point in points] == list(range(90))


def test_one_seed_gives_one_map_however_it_is_sharded(world: Make) -> None:
    one, two = planted(world, cuts=1), planted(world, cuts=4)
    first, second = run(one), run(two)
    assert first.map_id == second.map_id
    assert one.store.map_points[first.map_id] == two.store.map_points[second.map_id]
    assert one.store.odd[first.map_id] == two.store.odd[second.map_id]
    assert one.store.clusters(first.map_id) == two.store.clusters(second.map_id)
    other = run(one, seed=2)
    assert other.map_id != first.map_id
    keys = {cluster.cluster_key for cluster in one.store.clusters(first.map_id)}
    assert {cluster.cluster_key for cluster in one.store.clusters(other.map_id)} == keys


def test_a_stored_map_is_not_made_again(world: Make) -> None:
    one = planted(world)
    first = run(one)
    one.cut(3)
    steps: list[str] = []
    again = run(one, progress=lambda step, *_: steps.append(step))
    assert again.map_id == first.map_id
    assert again.snapshot_id == one.store.live("snapshot")
    assert set(steps) == {"texts", "tiles"}


def test_a_failed_step_leaves_the_earlier_map_live(world: Make) -> None:
    one = planted(world)
    first = run(one)

    def stop(step: str, *_: object) -> None:
        if step == "store":
            raise CancelledError("stopped")

    with pytest.raises(CancelledError):
        run(one, seed=9, progress=stop)
    assert one.store.live("map") == first.map_id
    assert [version.map_id for version in one.store.maps()] == [first.map_id]


def test_another_model_is_refused(world: Make) -> None:
    one = planted(world)
    with pytest.raises(UnavailableError, match="build and host"):
        analyse(None, one.settings, cast("Store", one.store), model_id="other")


@pytest.mark.parametrize("count", [0, 1, 2, 3, 9])
def test_hardly_any_images_have_a_map(world: Make, count: int) -> None:
    one = world()
    vectors = unit(np.random.default_rng(1), count, 8)
    if count:
        one.fill(vectors, [f"l{n}" for n in range(count)])
        one.host()
    else:
        one.vectors = vectors
        one.cut(1)
    made = run(one)
    assert made.rows_scored == count
    assert len(one.store.map_points[made.map_id]) == count


def test_old_maps_leave(world: Make) -> None:
    one = world()
    one.fill(unit(np.random.default_rng(1), 4, 8), list("abcd"))
    one.host()
    made: list[UUID] = [run(one, seed=seed).map_id for seed in range(7)]
    kept = {version.map_id for version in one.store.maps()}
    assert kept == set(made[-5:])
    files = list((one.settings.data_dir / "maps").iterdir())
    assert {path.name.partition(".")[0] for path in files} == {str(map_id) for map_id in kept}
    assert len(files) == 2 * 5  # the table, and the tree of the clusters
