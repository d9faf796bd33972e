"""Rows placed around anchors: what stays, what follows, and who does the work."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from analytics import projection
from analytics.layouts import anchors, satellites
from analytics.layouts import landmarks as sketches
from analytics.layouts.anchors import Anchors
from analytics.layouts.layout import curve
from analytics.layouts.satellites import EPOCHS, RATE, place
from analytics.layouts.transform import keys_of, settle, transform
from analytics.neighbours import Graph
from tests.analytics.layouts.test_anchors import marked
from tests.analytics.layouts.test_layout import groups
from tests.analytics.test_neighbours import Tasks, collection
from tests.naive import unit

Laid = tuple[Graph, Anchors, NDArray[np.int64], NDArray[np.float32]]


def laid(vectors: NDArray[np.float32], count: int, *, dims: int = 2, least: float = 0.1) -> Laid:
    """The graph of rows, their anchors and where those are."""
    rows = collection(vectors)
    graph = marked(rows, 15)
    chosen = anchors.landmarks(rows, graph, count, seed=1)
    found = anchors.around(rows, graph, chosen)
    placed = sketches.layout(vectors[chosen.rows], chosen.graph, seed=1, dims=dims, min_dist=least)
    return graph, found, chosen.stands, placed


@pytest.mark.parametrize(("dims", "least"), [(2, 0.1), (10, 0.0)])
@pytest.mark.parametrize("free", [True, False])
def test_rows_come_to_lie_in_their_groups(dims: int, least: float, free: bool) -> None:
    vectors = groups(1200)
    graph, found, stands, where = laid(vectors, 200, dims=dims, least=least)
    moves = None if free else np.zeros(200, bool)
    placed = place(found, where, stands, graph, seed=1, min_dist=least, free=moves)
    assert placed.shape == (1200, dims)
    assert np.array_equal(placed[found.rows], where) == (not free)
    assert projection.trust(vectors, placed).value > 0.9
    middles = np.array([placed[np.arange(1200) % 20 == own].mean(axis=0) for own in range(20)])
    gap = ((placed[:, None] - middles) ** 2).sum(axis=2)
    assert (gap.argmin(axis=1) == np.arange(1200) % 20).mean() > 0.95
    assert not np.array_equal(placed, place(found, where, stands, graph, seed=2, min_dist=least))


@pytest.mark.parametrize("free", [True, False])
def test_it_is_what_a_loop_over_single_rows_does(free: bool) -> None:
    graph, found, stands, where = laid(groups(300), 60)
    rounds, shape = 3, curve(0.1)
    placed = np.empty((300, 2), np.float32)
    placed[found.rows] = where
    order = np.r_[found.rows, found.others]
    number, moving = np.argsort(order), order if free else found.others
    for at, row in enumerate(found.others):
        placed[row] = transform(
            found.near[[at]].astype(np.int64), found.gaps[[at]], where, seed=1, epochs=0
        )[0]
    for turn in range(rounds):
        still = placed[order].copy()
        for row in moving:
            near, gaps = graph.rows[row, :14], graph.distances[row, :14].astype(np.float64)
            beyond = np.maximum(0, gaps - gaps[gaps > 0].min())
            low, high = 1e-9, 1e3
            for _ in range(100):
                scale = (low + high) / 2
                over = np.exp(-beyond / scale).sum() > np.log2(15)
                low, high = (low, scale) if over else (scale, high)
            pull = np.exp(-beyond / scale)[None].astype(np.float32)
            to = number[near][None]
            moved = placed[[row]]
            key = keys_of(to, graph.distances[[row], :14], 1)
            settle(
                to, pull, still, moved, key, 300, turn * EPOCHS, (turn + 1) * EPOCHS,
                rounds * EPOCHS, RATE, np.float32(shape.a), np.float32(shape.b), 0, 1,
            )  # fmt: skip
            placed[row] = moved[0]
    moves = np.full(60, free)
    result = place(found, where, stands, graph, seed=1, rounds=rounds, free=moves)
    near = np.abs(result - placed).max(axis=1) < 1e-2
    # Where a weight differs in its last bit an edge may be due an epoch sooner.
    assert near.mean() > 0.97


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_it_does_not_matter_how_rows_are_divided(
    size: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A part for each row costs a hundred times what the row does.
    rows = 500 if size > 1 else 200
    vectors = groups(rows)
    vectors[100:140] = vectors[7]
    graph, found, stands, where = laid(vectors, 80)
    tasks = Tasks()
    spark = cast("SparkSession", tasks)
    for free in (np.zeros(80, bool), np.ones(80, bool), np.arange(80) % 3 > 0):
        wanted = place(found, where, stands, graph, seed=1, rounds=2, free=free)
        assert np.array_equal(wanted[found.rows[~free]], where[~free])
        monkeypatch.setattr(satellites, "_PART", size)
        again = place(found, where, stands, graph, seed=1, rounds=2, free=free, threads=2)
        assert np.array_equal(again, wanted)
        again = place(
            found, where, stands, graph, seed=1, rounds=2, free=free, spark=spark, folder=tmp_path
        )
        assert np.array_equal(again, wanted)
        monkeypatch.undo()
    assert tasks.done >= 2 * 3
    assert list(tmp_path.iterdir()) == []


def test_equal_rows_stand_together() -> None:
    vectors = groups(400)
    vectors[200:260] = vectors[3]
    graph, found, stands, where = laid(vectors, 80)
    placed = place(found, where, stands, graph, seed=1)
    assert (placed[200:260] == placed[3]).all()
    twin, own = int(found.others[0]), int(found.rows[5])
    near, gaps = found.near.copy(), found.gaps.copy()
    near[0, 0], gaps[0, 0] = 5, 4e-4  # what float32 leaves of a score of 1
    equal = Anchors(found.rows, found.others, near, gaps)
    placed = place(equal, where, stands, graph, seed=1, free=np.arange(80) != 5)
    assert np.array_equal(placed[twin], where[5])
    assert np.array_equal(placed[own], where[5])


def test_a_row_without_any_neighbour_stays_among_its_nearest_anchors() -> None:
    rows = collection(unit(np.random.default_rng(3), 60, 8))
    nobody = Graph(np.full((60, 4), -1), np.full((60, 4), -np.inf, np.float32))
    chosen = anchors.landmarks(rows, nobody, 20, seed=1)
    found = anchors.around(rows, nobody, chosen)
    where = np.random.default_rng(1).normal(size=(20, 2)).astype(np.float32)
    placed = place(found, where, chosen.stands, nobody, seed=1)
    begin = transform(found.near.astype(np.int64), found.gaps, where, seed=1, epochs=0)
    assert np.array_equal(placed[found.others], begin)


@pytest.mark.parametrize("count", [1, 2, 11, 40])
def test_all_rows_identical_and_hardly_any_landmarks(count: int) -> None:
    vectors = np.tile(unit(np.random.default_rng(1), 1, 8), (40, 1))
    graph, found, stands, where = laid(vectors, count)
    placed = place(found, where, stands, graph, seed=1)
    assert placed.shape == (40, 2)
    assert (placed == where[0]).all()
    vectors = groups(40)
    graph, found, stands, where = laid(vectors, count)
    for free in (True, False):
        placed = place(found, where, stands, graph, seed=1, free=np.full(len(where), free))
        assert np.isfinite(placed).all()
    assert np.array_equal(placed[found.rows], where)
