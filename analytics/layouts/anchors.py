"""Anchors: the rows that stand before others are placed, and for each other row those nearest.

They are landmarks, which are laid out by themselves, and whatever an earlier map has. Nearest
anchors are found by walking: from those that a row has in the neighbour graph along the anchors'
own ties, as graph indexes of nearest neighbours do (NSW: Malkov et al., 2014). Each row walks
alone, so that what it finds does not depend on how the rows are divided among tasks.
"""

# Compiled loops take many arrays, by position.
# ruff: noqa: PLR0917

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analytics.compiler import compiled
from analytics.graph import linking
from analytics.graph.links import LOOKED, Looked, forget, insert, look_at, none_looked, product
from analytics.layouts import crowds
from analytics.layouts.landmarks import choose
from analytics.neighbours import Collection, Graph, distances
from analytics.parts import Arrays, Parts, cut
from cql.progress import Progress, silent

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NEAR = 5
"""Anchors that a row is placed by, as the decision on distributed placement measured it."""

SAMPLE = LOOKED // 2
"""Anchors, evenly spaced, from which a row starts that has none within two steps of the graph; it
looks at as many more at most. Up to so many anchors it finds the nearest exactly."""

_PART = 8192


@dataclass(frozen=True, slots=True, eq=False)
class Landmarks:
    """Rows that one node lays out: `rows` int64 (L,), ascending, and their graph.

    `ties` int64 (L, T), by number of the landmark, and `scores` float32: the nearest among
    themselves. `stands` int64 (N,): the row that each row is placed with, itself but in a crowd of
    equals (`analytics.layouts.crowds`).
    """

    rows: NDArray[np.int64]
    ties: NDArray[np.int64]
    scores: NDArray[np.float32]
    stands: NDArray[np.int64]

    @property
    def graph(self) -> Graph:
        """The landmarks' own graph."""
        return Graph(self.ties, self.scores)

    def start(self, given: NDArray[np.float32]) -> NDArray[np.float32]:
        """Where rows were, float32 (N, dims): of a crowd, what it stands with, the mean of all.

        `given` float32 (N, dims), NaN for new rows.
        """
        known = np.isfinite(given).all(axis=1)
        of = self.stands[known]
        held = np.bincount(of, minlength=len(given))
        found = np.full(given.shape, np.nan, np.float32)
        for axis in range(given.shape[1]):
            total = np.bincount(of, given[known, axis], minlength=len(given))
            found[held > 0, axis] = total[held > 0] / held[held > 0]
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Anchors:
    """Rows that stand, `rows` int64 (A,), and those placed, `others` int64 (R,), both ascending.

    `near` int32 (R, K) and `gaps` float32: the nearest anchors of each other row, by number, and
    how far they are; -1 and infinity where there are fewer. Rows that stand with another are in
    neither.
    """

    rows: NDArray[np.int64]
    others: NDArray[np.int64]
    near: NDArray[np.int32]
    gaps: NDArray[np.float32]


def landmarks(
    rows: Collection,
    graph: Graph,
    count: int,
    *,
    seed: int,
    neighbours: int = 15,
    threads: int = 1,
    spark: SparkSession | None = None,
    folder: Path | None = None,
    progress: Progress = silent,
) -> Landmarks:
    """Choose at most `count` landmarks of N rows, and link each with `neighbours` - 1 others."""
    size = len(rows.vectors)
    crowd = crowds.find(rows.vectors, graph)
    if crowd is None:
        stands, chosen = np.arange(size, dtype=np.int64), choose(graph, count, seed=seed)
    else:
        stands = crowd.kept[crowd.of]
        chosen = crowd.kept[choose(crowd.graph(graph), count, seed=seed)]
    linked = linking.link(
        Collection(rows.vectors[chosen], rows.images[chosen], [], chosen),
        max(0, neighbours - 1),
        seed=seed,
        threads=threads,
        spark=spark if len(chosen) >= linking.SPARK_ROWS else None,
        folder=folder,
        progress=progress,
    )
    return Landmarks(chosen, linked.rows, linked.scores, stands)


def around(
    rows: Collection,
    graph: Graph,
    chosen: Landmarks,
    *,
    known: NDArray[np.bool_] | None = None,
    near: int = NEAR,
    threads: int = 1,
    spark: SparkSession | None = None,
    folder: Path | None = None,
    progress: Progress = silent,
) -> Anchors:
    """Find the `near` nearest anchors of all rows that are none.

    Anchors are the landmarks and the rows `known`, bool (N,), which have a place already. Spark's
    tasks do the work when a session is given, over files in `folder`; the result is the same
    without, however the rows are divided.
    """
    size, stands = len(rows.vectors), chosen.stands
    distinct = stands == np.arange(size)
    standing = np.zeros(size, np.bool_)
    if known is not None:
        standing[stands[known]] = True
    standing[chosen.rows] = True
    anchors, others = np.flatnonzero(standing), np.flatnonzero(distinct & ~standing)
    number = np.full(size, -1, np.int32)
    number[anchors] = np.arange(len(anchors))
    number = number[stands]
    width = min(near, len(anchors))
    with Parts(threads, spark=spark, folder=folder) as parts:
        found = parts.make("near", (len(others), width), np.int32)
        scores = parts.make("scores", (len(others), width), np.float32)
        if len(others):
            parts.put("vectors", rows.vectors)
            parts.put("graph", graph.rows if graph.rows.shape[1] else np.full((size, 1), -1))
            parts.put("anchors", anchors)
            parts.put("number", number)
            parts.put("others", others)
            parts.put("ties", _ties(graph, anchors, chosen, number))
            parts.run(
                _part, cut(len(others), _PART),
                ("vectors", "graph", "anchors", "number", "others", "ties", "near", "scores"),
                progress=progress, step="nearest",
            )  # fmt: skip
        found, scores = np.array(found), np.array(scores)
    gaps = np.where(found >= 0, distances(scores), np.float32(np.inf))
    return Anchors(anchors, others, found, gaps)


def _ties(
    graph: Graph, anchors: NDArray[np.int64], chosen: Landmarks, number: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Where a walk goes on from each anchor, by number: int32 (A, T), -1 for nowhere.

    From a landmark to those that are its nearest, from any other to anchors among its neighbours.
    """
    width, own = chosen.ties.shape[1], number[chosen.rows]
    found = np.full((len(anchors), max(1, width)), -1, np.int32)
    near = graph.rows[anchors, :width]
    found[:, : near.shape[1]] = np.where(near >= 0, number[near], -1)
    found[own, :width] = own[chosen.ties]
    return found


def _part(arrays: Arrays, first: int, last: int) -> int:
    _walk(
        arrays["vectors"], arrays["graph"], arrays["anchors"], arrays["number"], arrays["others"],
        arrays["ties"], first, last, arrays["near"], arrays["scores"],
    )  # fmt: skip
    return 0


@compiled
def _meet(
    graph: NDArray[np.int64],
    number: NDArray[np.int32],
    row: int,
    least: int,
    looked: Looked,
) -> int:
    """Note the anchors that a row has as neighbours; where fewer than `least`, theirs, too."""
    count = 0
    for place in range(graph.shape[1]):
        step = graph[row, place]
        if step >= 0 and number[step] >= 0:
            count = look_at(looked, count, number[step])
    if count >= least:
        return count
    for place in range(graph.shape[1]):
        step = graph[row, place]
        for beyond in range(graph.shape[1] if step >= 0 else 0):
            to = graph[step, beyond]
            if to >= 0 and number[to] >= 0:
                count = look_at(looked, count, number[to])
    return count


@compiled
def _onward(near: NDArray[np.int32], went: NDArray[np.int32], walked: int) -> int:
    """The best of a list that was not walked from; -1 where all were."""
    for place in range(near.size):
        fresh = near[place] >= 0
        for step in range(walked):
            fresh = fresh and went[step] != near[place]
        if fresh:
            return int(near[place])
    return -1


@compiled
def _walk(
    vectors: NDArray[np.float32],
    graph: NDArray[np.int64],
    anchors: NDArray[np.int64],
    number: NDArray[np.int32],
    others: NDArray[np.int64],
    ties: NDArray[np.int32],
    first: int,
    last: int,
    near: NDArray[np.int32],
    scores: NDArray[np.float32],
) -> None:
    """Find the nearest anchors of the others first to last: `near` and `scores` (R, K)."""
    width, sample = near.shape[1], min(SAMPLE, anchors.size)
    looked, went = none_looked(), np.empty(LOOKED, np.int32)
    for at in range(first, last):
        row = others[at]
        near[at], scores[at] = -1, -np.inf
        count = _meet(graph, number, row, width, looked)
        if count == 0:
            for turn in range(sample):
                count = look_at(looked, count, turn * anchors.size // sample)
        done, walked, best = 0, 0, 0
        while best >= 0:
            for place in range(done, count):
                anchor = looked.rows[place]
                found = product(vectors[row], vectors[anchors[anchor]])
                if found > scores[at, width - 1]:
                    insert(near[at], scores[at], anchor, found)
            done = count
            best = _onward(near[at], went, walked)
            if best >= 0:
                went[walked] = best
                walked += 1
                for step in range(ties.shape[1]):
                    if ties[best, step] >= 0:
                        count = look_at(looked, count, ties[best, step])
        forget(looked, count)
