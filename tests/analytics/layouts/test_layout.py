"""The layout optimiser against umap-learn, and layouts that start from an earlier one."""

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics import projection
from analytics.layouts import layout
from analytics.layouts.layout import Edges
from analytics.neighbours import Graph
from tests.naive import graph_of, unit


def groups(rows: int, seed: int = 3) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    own = np.arange(rows) % 20
    vectors = unit(rng, 20, 32)[own] + rng.normal(scale=0.06, size=(rows, 32))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def dense(edges: Edges) -> NDArray[np.float32]:
    full = np.zeros((edges.count, edges.count), np.float32)
    for row in range(edges.count):
        part = slice(edges.starts[row], edges.starts[row + 1])
        assert np.all(np.diff(edges.rows[part]) > 0)
        full[row, edges.rows[part]] = edges.weights[part]
    return full


@pytest.mark.parametrize("kind", ["spread", "duplicates", "identical", "a row without neighbours"])
def test_the_fuzzy_graph_is_that_of_umap_learn(kind: str) -> None:
    vectors = unit(np.random.default_rng(1), 120, 8)
    if kind == "duplicates":
        vectors[40:70] = vectors[7]
    elif kind == "identical":
        vectors[:] = vectors[0]
    graph = graph_of(vectors, 9)
    if kind == "a row without neighbours":
        graph.rows[5] = -1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from umap.umap_ import fuzzy_simplicial_set
    wanted, _, _ = fuzzy_simplicial_set(
        vectors,
        10,
        np.random.RandomState(1),
        "euclidean",
        knn_indices=np.column_stack([np.arange(120), graph.rows]),
        knn_dists=np.column_stack([np.zeros(120, np.float32), graph.distances]),
    )
    found = dense(layout.edges(graph.rows, graph.distances))
    np.testing.assert_allclose(found, wanted.toarray(), atol=1e-4)
    assert np.array_equal(found, found.T)


@pytest.mark.parametrize("min_dist", [0.0, 0.1, 0.5])
def test_the_curve_is_that_of_umap_learn(min_dist: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from umap.umap_ import find_ab_params
    found = layout.curve(min_dist)
    assert (found.a, found.b) == pytest.approx(find_ab_params(1.0, min_dist), rel=1e-6)


@pytest.mark.parametrize("exponent", [0.79, 0.895, 1.5])
def test_powers_are_near(exponent: float) -> None:
    for base in np.geomspace(1e-12, 1e5, 200):
        found = layout.power32(np.float32(base), np.float32(exponent))
        assert float(found) == pytest.approx(base**exponent, rel=2e-4)


@pytest.mark.parametrize("blocks", [2, 4, 16])
def test_parts_of_a_round_share_no_row_and_hold_every_edge_once(blocks: int) -> None:
    graph = graph_of(groups(300), 8)
    edges = layout.edges(graph.rows, graph.distances)
    rounds, heads, tails, _ = layout._schedule(edges, np.ones(300, bool), blocks, 200)
    wanted = int((edges.weights * 200 >= edges.weights.max()).sum())
    assert sum(last - first for parts in rounds for first, last in parts) == wanted
    assert len({*zip(heads.tolist(), tails.tolist(), strict=True)}) == wanted
    for parts in rounds:
        held = [{*heads[a:b].tolist(), *tails[a:b].tolist()} for a, b in parts]
        assert sum(map(len, held)) == len(set().union(*held))


@pytest.mark.parametrize("dims", [2, 10])
def test_the_number_of_threads_changes_nothing(dims: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_SMALL", 100)
    vectors = groups(700)
    graph = graph_of(vectors, 10)
    one, three = (
        projection.layout(vectors, graph, seed=4, dims=dims, epochs=15, threads=threads)
        for threads in (1, 3)
    )
    assert np.array_equal(one, three)
    assert np.isfinite(one).all()


def test_the_earlier_map_stays_put() -> None:
    vectors, old = groups(1050), np.arange(1050) < 1000
    earlier = projection.layout(vectors[old], graph_of(vectors[old], 15), seed=1, epochs=200)
    frame = projection.Frame.around(earlier)
    before = frame.shown(earlier)
    start = np.full((1050, 2), np.nan, np.float32)
    start[old] = frame.placed(before)
    graph = graph_of(vectors, 15)
    again = projection.layout(vectors, graph, seed=2, start=start)
    after = projection.Frame.around(again, frame).shown(again)
    moved = np.linalg.norm(after[old] - before, axis=1)
    assert np.median(moved) < 0.02
    assert moved.max() > 0
    cold = projection.layout(vectors, graph, seed=2, epochs=200)
    assert projection.trust(vectors, again).value > projection.trust(vectors, cold).value - 0.01
    own = np.arange(1050) % 20
    middles = np.array([np.median(after[old][own[old] == at], axis=0) for at in range(20)])
    nearest = np.linalg.norm(after[~old][:, None] - middles, axis=2).argmin(axis=1)
    assert (nearest == own[~old]).mean() > 0.95


def test_a_new_part_of_the_graph_goes_beside_what_is_most_like_it() -> None:
    vectors = np.zeros((30, 4), np.float32)
    vectors[:10, 0] = vectors[10:20, 1] = 1
    vectors[20:] = (0.1, 0.9, 0.4, 0)
    rows = np.array([[n // 10 * 10 + (n + s) % 10 for s in range(1, 6)] for n in range(30)])
    graph = Graph(rows, np.full((30, 5), 0.99, np.float32))
    placed = np.full((30, 2), np.nan, np.float32)
    placed[:10], placed[10:20] = (0, 0), (50, 50)
    edges = projection.edges_of(graph, 6)
    found = projection.filled(vectors, edges, placed, seed=1)
    like, unlike = (np.linalg.norm(found[20:] - at, axis=1) for at in (50, 0))
    assert (like < unlike / 50).all()
    moved = projection.layout(vectors, graph, seed=1, start=placed)
    like, unlike = (np.linalg.norm(moved[20:] - at, axis=1) for at in (50, 0))
    assert (like < unlike).all()


def test_alignment_undoes_a_turn_a_mirror_and_a_shift() -> None:
    rng = np.random.default_rng(5)
    earlier = rng.normal(size=(50, 2)).astype(np.float32)
    turned = (earlier @ np.array([[0, 1], [1, 0]], np.float32) + (3, -2)).astype(np.float32)
    known = np.arange(50) < 30
    np.testing.assert_allclose(projection.align(turned, earlier, known), earlier, atol=1e-5)


def test_a_frame_is_kept_until_a_row_leaves_it() -> None:
    placed = np.array([[0, 0], [10, 5]], np.float32)
    frame = projection.Frame.around(placed)
    assert projection.Frame.around(placed + 0.1, frame) == frame
    assert projection.Frame.around(placed + 5, frame) != frame
    np.testing.assert_allclose(frame.placed(frame.shown(placed)), placed, atol=1e-5)


def naive_kept(graph: Graph, placed: NDArray[np.float32], k: int) -> list[float]:
    flat = placed.astype(np.float64)
    shares = []
    for row in range(len(flat)):
        gaps = [float(np.hypot(*(flat[row] - each))) for each in flat]
        others = sorted(gap for at, gap in enumerate(gaps) if at != row)
        reach = others[k - 1] + 1e-9
        shares.append(sum(gaps[near] <= reach for near in graph.rows[row, :k]) / k)
    return shares


@pytest.mark.parametrize("kind", ["spread", "some on one spot", "all on one spot"])
def test_the_share_kept_equals_a_naive_loop(kind: str) -> None:
    rng = np.random.default_rng(2)
    vectors, placed = groups(150), rng.normal(size=(150, 2)).astype(np.float32)
    if kind == "some on one spot":
        placed[30:80] = placed[0]
    elif kind == "all on one spot":
        placed[:] = 1
    graph = graph_of(vectors, 12)
    found = projection.kept(graph, placed, 7)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, naive_kept(graph, placed, 7), atol=1e-6)


def test_the_share_kept_of_few_rows_and_of_a_row_without_neighbours() -> None:
    for count in (0, 1, 2, 7):
        vectors = unit(np.random.default_rng(1), count, 6)
        graph = graph_of(vectors, max(0, count - 1))
        assert (projection.kept(graph, vectors[:, :2], 15) == 1).all()
    vectors = groups(40)
    graph = graph_of(vectors, 5)
    graph.rows[3] = -1
    assert projection.kept(graph, vectors[:, :2], 5)[3] == 1


@pytest.mark.parametrize("count", [0, 1, 2, 7, 15])
@pytest.mark.parametrize("kind", ["spread", "identical", "k >= N", "two parts", "none near"])
def test_degenerate_graphs_stay_finite(count: int, kind: str) -> None:
    vectors = unit(np.random.default_rng(1), count, 6)
    if kind == "identical":
        vectors = np.repeat(unit(np.random.default_rng(1), 1, 6), count, axis=0)
    elif kind == "two parts" and count:
        vectors[: count // 2] = vectors[0]
    graph = graph_of(vectors, max(0, count - 1) if kind == "k >= N" else min(5, max(0, count - 1)))
    if kind == "none near" and count:
        graph.rows[0] = -1
    start = np.full((count, 2), np.nan, np.float32)
    for known in (0, 1, count // 2, count):
        start[:known] = 1.5
        found = projection.layout(vectors, graph, seed=1, start=start.copy())
        assert found.shape == (count, 2)
        assert np.isfinite(found).all()


def test_a_hundred_thousand_duplicates_are_laid_out() -> None:
    count = 100_000
    vectors = unit(np.random.default_rng(1), 2, 4)[np.arange(count) % 2]
    rows = np.arange(1, 6)[None, :] * 2 + np.arange(count)[:, None] % 2
    graph = Graph(rows.astype(np.int64), np.ones((count, 5), np.float32))
    placed = projection.layout(vectors, graph, seed=1, neighbours=6, epochs=2)
    assert np.isfinite(placed).all()
    assert np.isfinite(projection.kept(graph, placed, 5)).all()
    assert (projection.kept(graph, np.zeros((count, 2), np.float32), 5) == 1).all()


def test_principal_axes_in_chunks_equal_those_of_all_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors = groups(500)
    whole = projection.principal(vectors, 5)
    monkeypatch.setattr(projection, "_CHUNK", 64)
    np.testing.assert_allclose(projection.principal(vectors, 5), whole, atol=1e-6)
    centred = vectors - vectors.mean(axis=0)
    values = np.linalg.svd(centred.astype(np.float64))[1]
    np.testing.assert_allclose(np.linalg.norm(whole, axis=0), values[:5], rtol=1e-5)
