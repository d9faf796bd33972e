"""Crowds of equal rows: found, laid out as one, and one cluster."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics import clustering, projection
from analytics.graph.linking import link
from analytics.layouts import crowds, landmarks
from analytics.layouts.layout import Edges
from analytics.neighbours import Collection, Graph
from tests.naive import unit


def collection(vectors: NDArray[np.float32]) -> Collection:
    count = len(vectors)
    images = np.random.default_rng(5).integers(0, 256, (count, 16), np.uint8)
    return Collection(vectors, images, [f"l{n}" for n in range(count)], np.arange(count))


def crowded(equal: int, others: int, *, k: int = 10) -> tuple[NDArray[np.float32], Graph]:
    """Vectors, shuffled, of which some are equal, and their graph."""
    rng = np.random.default_rng(3)
    vectors = np.concatenate([np.repeat(unit(rng, 1, 8), equal, axis=0), unit(rng, others, 8)])
    vectors = np.ascontiguousarray(vectors[rng.permutation(len(vectors))])
    return vectors, link(collection(vectors), k, threads=1)


@pytest.mark.parametrize("equal", [0, 1, 5, 10])
def test_a_few_equal_rows_are_no_crowd(equal: int) -> None:
    assert crowds.find(*crowded(equal, 30)) is None


@pytest.mark.parametrize("others", [0, 1, 30])
def test_a_crowd_is_one_row(others: int) -> None:
    vectors, graph = crowded(25, others)
    found = crowds.find(vectors, graph)
    assert found is not None
    assert len(found.kept) == 1 + others
    assert (vectors[found.kept[found.of]] == vectors).all()
    assert (found.of[found.kept] == np.arange(1 + others)).all()


def test_a_graph_without_marks_has_no_crowds() -> None:
    vectors, graph = crowded(25, 5)
    assert crowds.find(vectors, Graph(graph.rows, graph.scores)) is None
    assert crowds.find(vectors[:0], Graph(graph.rows[:0, :0], graph.scores[:0, :0])) is None


def test_edges_are_those_of_a_naive_loop() -> None:
    vectors, graph = crowded(25, 12)
    found = crowds.find(vectors, graph)
    assert found is not None
    given = projection.edges_of(graph, 8)
    wanted: dict[tuple[int, int], float] = {}
    for row in range(given.count):
        for at in range(given.starts[row], given.starts[row + 1]):
            pair = int(found.of[row]), int(found.of[given.rows[at]])
            if pair[0] != pair[1]:
                wanted[pair] = max(wanted.get(pair, 0.0), float(given.weights[at]))
    made = found.edges(given)
    assert made.count == 13
    rows = np.repeat(np.arange(13), np.diff(made.starts)).tolist()
    assert (
        dict(zip(zip(rows, made.rows.tolist(), strict=True), made.weights.tolist(), strict=True))
        == wanted
    )
    assert all((right, left) in wanted for left, right in wanted)
    assert made.rows.dtype == np.int32
    alone = Edges(np.zeros(26, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
    assert crowds.Crowds(np.zeros(1, np.int64), np.zeros(25, np.int64)).edges(alone).count == 1


def test_a_crowd_starts_where_it_was() -> None:
    vectors, graph = crowded(25, 3)
    found = crowds.find(vectors, graph)
    assert found is not None
    given = np.random.default_rng(1).normal(size=(28, 2)).astype(np.float32)
    given[::3] = np.nan
    for place, row in enumerate(found.start(given)):
        own = given[found.of == place]
        own = own[np.isfinite(own).all(axis=1)]
        assert np.allclose(row, own.mean(axis=0)) if len(own) else np.isnan(row).all()


@pytest.mark.parametrize("again", [False, True])
def test_a_crowd_is_laid_out_at_one_place_and_not_divided(again: bool) -> None:
    vectors, graph = crowded(2_000, 120)
    start = np.full((2_120, 2), np.nan, np.float32)
    start[:2_000] = np.random.default_rng(2).normal(size=(2_000, 2))
    placed = projection.layout(vectors, graph, seed=1, start=start if again else None)
    assert np.isfinite(placed).all()
    equal = np.flatnonzero((vectors == vectors[np.argmax(graph.scores[:, -1])]).all(axis=1))
    assert len(equal) == 2_000
    assert (placed[equal] == placed[equal[0]]).all()
    assert len(np.unique(placed, axis=0)) == 121
    labels = clustering.cluster(placed, min_samples=5, min_cluster_size=20).labels
    assert len(set(labels[equal].tolist())) == 1


def test_a_collection_of_crowds_alone_is_laid_out() -> None:
    """Nobody knows anybody else: each crowd is where its principal axes put it, or near."""
    heads = unit(np.random.default_rng(4), 20, 8)
    vectors = np.repeat(heads, 15, axis=0)
    graph = link(collection(vectors), 10, threads=1)
    for start in (None, np.where(np.arange(300)[:, None] < 150, vectors[:, :2], np.nan)):
        placed = projection.layout(vectors, graph, seed=1, start=start)
        assert np.isfinite(placed).all()
        assert len(np.unique(placed, axis=0)) == 20
        assert (placed == np.repeat(placed[::15], 15, axis=0)).all()


def test_a_hundred_thousand_equal_rows_cost_no_more_than_one() -> None:
    vectors, graph = crowded(100_000, 300)
    start = time.process_time()
    placed = projection.layout(vectors, graph, seed=1)
    assert time.process_time() - start < 30
    assert len(np.unique(placed, axis=0)) == 301


def test_landmarks_take_a_crowd_as_one() -> None:
    vectors, graph = crowded(2_000, 400)
    placed = landmarks.layout(vectors, graph, seed=1, landmarks=60)
    assert np.isfinite(placed).all()
    assert len(np.unique(placed, axis=0)) == 401
    few = landmarks.layout(vectors, graph, seed=1)
    assert np.array_equal(few, projection.layout(vectors, graph, seed=1))
