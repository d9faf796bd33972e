"""Anchors: which rows stand, and what is nearest to the others, beside naive loops."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from analytics.layouts import anchors
from analytics.layouts.anchors import Anchors, Landmarks, around, landmarks
from analytics.neighbours import Collection, Graph
from tests.analytics.layouts.test_layout import groups
from tests.analytics.test_neighbours import Tasks, collection
from tests.naive import graph_of, unit


def marked(rows: Collection, k: int) -> Graph:
    """The exact graph with the marks that tell which rows are equal."""
    found = graph_of(rows.vectors, k)
    marks = np.unique(rows.vectors, axis=0, return_inverse=True)[1].astype(np.uint64)
    return Graph(found.rows, found.scores, marks=marks.ravel())


def naive(
    vectors: NDArray[np.float32], found: Anchors, k: int
) -> tuple[list[list[int]], list[list[float]]]:
    """The k nearest anchors of each other row and how far they are, by a loop."""
    rows, gaps = [], []
    for row in found.others:
        gap = np.linalg.norm(
            vectors[found.rows].astype(np.float64) - vectors[row].astype(np.float64), axis=1
        )
        order = np.argsort(gap, kind="stable")[:k]
        rows.append(order.tolist())
        gaps.append(gap[order].tolist())
    return rows, gaps


def same(one: Anchors, other: Anchors) -> None:
    for name in ("rows", "others", "near", "gaps"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


def test_the_nearest_anchors_are_those_of_a_naive_loop() -> None:
    rows = collection(groups(1500))
    graph = marked(rows, 15)
    chosen = landmarks(rows, graph, 300, seed=1)
    assert len(chosen.rows) == 300
    found = around(rows, graph, chosen)
    assert np.array_equal(found.rows, chosen.rows)
    assert np.array_equal(np.sort(np.r_[found.rows, found.others]), np.arange(1500))
    wanted, gaps = naive(rows.vectors, found, anchors.NEAR)
    hits = [len(set(a) & set(b)) for a, b in zip(found.near.tolist(), wanted, strict=True)]
    assert sum(hits) >= 0.98 * anchors.NEAR * len(wanted)
    assert found.gaps.mean() == pytest.approx(np.mean(gaps), rel=1e-3)
    assert (np.diff(found.gaps, axis=1) >= 0).all()


def test_rows_without_any_neighbour_find_their_nearest_among_all() -> None:
    rows = collection(unit(np.random.default_rng(2), 400, 16))
    nobody = Graph(np.full((400, 6), -1), np.full((400, 6), -np.inf, np.float32))
    chosen = landmarks(rows, nobody, 60, seed=1)
    found = around(rows, nobody, chosen)
    wanted, gaps = naive(rows.vectors, found, anchors.NEAR)
    assert found.near.tolist() == wanted
    np.testing.assert_allclose(found.gaps, gaps, atol=1e-3)


def test_a_part_of_the_graph_without_landmarks_walks_on_through_theirs() -> None:
    vectors = groups(600)
    rows, graph = collection(vectors), graph_of(vectors, 10)
    near = np.flatnonzero(np.arange(600) % 20 != 7)  # of one group none is a landmark
    ties = graph_of(vectors[near[::4]], 10)
    chosen = Landmarks(near[::4], ties.rows, ties.scores, np.arange(600))
    found = around(rows, graph, chosen)
    assert (found.near >= 0).all()
    lone = np.flatnonzero(found.others % 20 == 7)
    wanted, _ = naive(vectors, found, anchors.NEAR)
    assert [found.near[at, 0] for at in lone] == [wanted[at][0] for at in lone]


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_it_does_not_matter_how_rows_are_divided(
    size: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = collection(groups(500))
    graph = marked(rows, 12)
    chosen = landmarks(rows, graph, 80, seed=1)
    wanted = around(rows, graph, chosen)
    monkeypatch.setattr(anchors, "_PART", size)
    same(around(rows, graph, chosen, threads=2), wanted)
    spark = cast("SparkSession", Tasks())
    same(around(rows, graph, chosen, spark=spark, folder=tmp_path), wanted)
    assert list(tmp_path.iterdir()) == []


def test_rows_that_are_known_are_anchors_too() -> None:
    rows = collection(groups(500))
    graph = marked(rows, 12)
    chosen = landmarks(rows, graph, 50, seed=1)
    known = np.arange(500) >= 40
    found = around(rows, graph, chosen, known=known)
    assert np.array_equal(
        found.others, [row for row in range(40) if row not in chosen.rows.tolist()]
    )
    wanted, _ = naive(rows.vectors, found, anchors.NEAR)
    hits = [len(set(a) & set(b)) for a, b in zip(found.near.tolist(), wanted, strict=True)]
    assert np.mean(hits) >= 0.98 * anchors.NEAR
    every = around(rows, graph, chosen, known=np.ones(500, bool))
    assert every.near.shape == (0, anchors.NEAR)
    assert len(every.rows) == 500


def test_of_a_crowd_one_row_stands_for_all() -> None:
    vectors = groups(300)
    vectors[100:200] = vectors[7]
    rows = collection(vectors)
    graph = marked(rows, 10)
    chosen = landmarks(rows, graph, 60, seed=1)
    assert set(chosen.stands[[7, *range(100, 200)]].tolist()) == {7}
    assert not set(range(100, 200)) & set(chosen.rows.tolist())
    known = np.zeros(300, bool)
    known[150:160] = True
    found = around(rows, graph, chosen, known=known)
    assert 7 in found.rows
    assert not set(range(100, 200)) & {*found.rows.tolist(), *found.others.tolist()}
    start = np.full((300, 2), np.nan, np.float32)
    start[150:160] = np.arange(20).reshape(10, 2)
    moved = chosen.start(start)
    assert moved[7].tolist() == start[150:160].mean(axis=0).tolist()
    assert np.isnan(np.delete(moved, 7, axis=0)).all()


def test_all_rows_identical_are_one_landmark() -> None:
    rows = collection(np.tile(unit(np.random.default_rng(1), 1, 8), (40, 1)))
    graph = marked(rows, 10)
    chosen = landmarks(rows, graph, 12, seed=1)
    assert (chosen.rows.tolist(), chosen.ties.shape) == ([0], (1, 0))
    found = around(rows, graph, chosen)
    assert (found.rows.tolist(), found.near.shape) == ([0], (0, 1))


def test_more_landmarks_than_rows_are_all_of_them() -> None:
    rows = collection(groups(60))
    chosen = landmarks(rows, marked(rows, 10), 100, seed=1)
    assert chosen.rows.tolist() == list(range(60))
    assert len(around(rows, marked(rows, 10), chosen).others) == 0
