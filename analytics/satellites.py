"""Satellites: rows that are placed around anchors, by threads or by Spark tasks.

UMAP's transform (McInnes, Healy, Melville, 2018), in rounds: every satellite begins among its
nearest anchors and follows the sampled gradient to its neighbours in the graph. In a round all
others stand where they were when it began, so that rows can be divided among tasks in any way.
Anchors stay where they are, bit for bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analytics import layout as optimiser
from analytics.anchors import Anchors
from analytics.neighbours import Graph
from analytics.parts import Arrays, Parts, cut
from analytics.transform import SAME, keys_of, settle, transform
from cql.progress import Progress, silent

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROUNDS, EPOCHS = 20, 5
"""Rounds, and epochs in each: a satellite sees the others move this often."""

RATE = 0.5
"""Rate that the first round begins with, as that of all rows which landmarks have placed."""

_PART = 16_384


def place(
    anchors: Anchors,
    laid: NDArray[np.float32],
    stands: NDArray[np.int64],
    graph: Graph,
    *,
    seed: int,
    neighbours: int = 15,
    min_dist: float = 0.1,
    rounds: int = ROUNDS,
    threads: int = 1,
    spark: SparkSession | None = None,
    folder: Path | None = None,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """Place N rows around their anchors, which are at `laid` float32 (A, dims): float32 (N, dims).

    `stands` int64 (N,): the row that each is placed with, an anchor or one of the others. A row
    that is equal to an anchor stands where that does, one without any neighbour among its nearest
    anchors. Spark's tasks do the work when a session is given, over files in `folder`; the result
    is the same without, however the rows are divided.
    """
    stand, more = len(anchors.rows), len(anchors.others)
    number = np.full(len(stands), -1, np.int32)
    number[anchors.rows] = np.arange(stand)
    number[anchors.others] = np.arange(stand, stand + more)
    number = number[stands]
    shape = optimiser.curve(min_dist)
    given = {"seed": seed, "a": shape.a, "b": shape.b, "epochs": rounds * EPOCHS}
    with Parts(threads, spark=spark, folder=folder) as parts:
        places = parts.make("places", (stand + more, laid.shape[1]), np.float32)
        places[:stand] = laid
        if more:
            _prepare(parts, anchors, graph, number, neighbours)
            names = ("near", "pull", "keys", "places", "moved")
            parts.run(
                _begin, cut(more, _PART), ("first", "first_gaps", "near", "gaps", *names[1:]),
                progress=_turn(progress, 0, rounds), step="placed", seed=seed, stand=stand,
            )  # fmt: skip
            for turn in range(rounds):
                places[stand:] = parts["moved"]
                parts.run(
                    _round, cut(more, _PART), names, progress=_turn(progress, turn + 1, rounds),
                    step="placed", turn=turn, **given,
                )  # fmt: skip
            places[stand:] = parts["moved"]
        found: NDArray[np.float32] = np.asarray(places)[number]
    return found


def _prepare(
    parts: Parts, anchors: Anchors, graph: Graph, number: NDArray[np.int32], neighbours: int
) -> None:
    """Make the arrays of the satellites: their neighbours by number, their nearest anchors."""
    more, width = len(anchors.others), max(1, min(neighbours - 1, graph.rows.shape[1]))
    near = parts.make("near", (more, width), np.int32)
    gaps = parts.make("gaps", (more, width), np.float32)
    near[:], gaps[:] = -1, np.inf
    for first, last in cut(more, _PART):
        rows = anchors.others[first:last]
        own = graph.rows[rows, :width]
        # Of a crowd a row may have several, which are one; its own is none.
        to = np.where(own >= 0, number[own], -1)
        to[to == number[rows][:, None]] = -1
        score = graph.scores[rows, :width].astype(np.float64)
        gap = np.sqrt(np.maximum(0.0, 2.0 - 2.0 * score))
        near[first:last, : own.shape[1]] = to
        gaps[first:last, : own.shape[1]] = np.where(to >= 0, gap, np.inf)
    parts.put("first", anchors.near)
    parts.put("first_gaps", anchors.gaps)
    parts.make("pull", (more, width), np.float32)
    parts.make("keys", (more,), np.uint64)
    parts.make("moved", (more, parts["places"].shape[1]), np.float32)


def _turn(progress: Progress, turn: int, rounds: int) -> Progress:
    """Progress of one round of all."""

    def told(step: str, done: int, total: int, message: str = "") -> None:
        progress(step, (turn * total + done) // (rounds + 1), total, message)

    return told


def _begin(arrays: Arrays, first: int, last: int, *, seed: int, stand: int) -> int:
    """Begin at the mean of the nearest anchors; what pulls each row, and its number."""
    part = slice(first, last)
    near, gaps = arrays["near"][part].astype(np.int64), arrays["gaps"][part]
    nearest, far = arrays["first"][part].astype(np.int64), arrays["first_gaps"][part]
    arrays["moved"][part] = transform(
        nearest, far, arrays["places"][:stand], seed=seed, epochs=0, threads=1
    )
    # Those nearest come first: where a crowd takes the first places, the others move up.
    order = np.argsort(near < 0, axis=1, kind="stable")
    near, gaps = np.take_along_axis(near, order, 1), np.take_along_axis(gaps, order, 1)
    pull = arrays["pull"][part]
    # None of these is the row itself, whatever its number among the rows of this part.
    known = np.where(near >= 0, len(near), -1)
    optimiser.memberships(known, np.where(near >= 0, gaps, 0), 0, len(near), pull)
    # Equal to an anchor: it stays there.
    pull[far[:, 0] < SAME] = 0
    arrays["near"][part] = near
    arrays["keys"][part] = keys_of(near, gaps, seed)
    return 0


def _round(
    arrays: Arrays,
    first: int,
    last: int,
    *,
    turn: int,
    epochs: int,
    seed: int,
    a: float,
    b: float,
) -> int:
    del seed
    places, moved = arrays["places"], arrays["moved"]
    settle(
        arrays["near"], arrays["pull"], places, moved, arrays["keys"], len(places),
        turn * EPOCHS, (turn + 1) * EPOCHS, epochs, RATE, np.float32(a), np.float32(b), first, last,
    )  # fmt: skip
    return 0
