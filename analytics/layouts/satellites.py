"""Satellites: rows that are placed around anchors, by threads or by Spark tasks.

UMAP's transform (McInnes, Healy, Melville, 2018), in rounds: every satellite begins among its
nearest anchors and follows the sampled gradient to its neighbours in the graph. In a round all
others stand where they were when it began, so that rows can be divided among tasks in any way.
Landmarks, which did not know of the others when they were laid out, move on with them; rows of an
earlier map stay where they are, bit for bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analytics.layouts import layout as optimiser
from analytics.layouts.anchors import Anchors
from analytics.layouts.transform import SAME, keys_of, settle, transform
from analytics.neighbours import Graph, distances
from analytics.parts import Arrays, Parts, cut
from cql.progress import Progress, silent

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROUNDS, EPOCHS = 20, 5
"""Rounds, and epochs in each: a satellite sees the others move this often."""

RATE = 0.5
"""Rate that the first round begins with, as that of all rows which landmarks have placed."""

_PART = 16_384
_ROUND = ("near", "pull", "keys", "places", "moved")


def place(
    anchors: Anchors,
    laid: NDArray[np.float32],
    stands: NDArray[np.int64],
    graph: Graph,
    *,
    seed: int,
    free: NDArray[np.bool_] | None = None,
    neighbours: int = 15,
    min_dist: float = 0.1,
    rounds: int = ROUNDS,
    threads: int = 1,
    spark: SparkSession | None = None,
    folder: Path | None = None,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """Place N rows around their anchors, which are at `laid` float32 (A, dims): float32 (N, dims).

    `free` bool (A,): anchors that move on with the others; None: all. `stands` int64 (N,): the row
    that each is placed with, an anchor or one of the others. A row that is equal to an anchor that
    stays stands where that does, one without any neighbour among its nearest anchors. Spark's tasks
    do the work when a session is given, over files in `folder`; the result is the same without,
    however the rows are divided.
    """
    moves = np.ones(len(anchors.rows), np.bool_) if free is None else free
    order = np.r_[anchors.rows[~moves], anchors.rows[moves], anchors.others]
    stay, begun = int((~moves).sum()), len(anchors.rows)
    number = np.full(len(stands), -1, np.int32)
    number[order] = np.arange(len(order))
    number = number[stands]
    shape = optimiser.curve(min_dist)
    with Parts(threads, spark=spark, folder=folder) as parts:
        places = parts.make("places", (len(order), laid.shape[1]), np.float32)
        places[:stay], places[stay:begun] = laid[~moves], laid[moves]
        if len(order) > stay:
            _surround(parts, anchors, laid, moves, seed, _turn(progress, 0, rounds))
            _prepare(parts, graph, number, order[stay:], neighbours)
            names = ("near", "gaps", "pull", "keys")
            parts.run(_pulls, cut(len(order) - stay, _PART), names, seed=seed)
            parts.make("moved", (len(order) - stay, laid.shape[1]), np.float32)
            for turn in range(rounds):
                parts.run(
                    _round, cut(len(order) - stay, _PART), _ROUND, step="placed",
                    progress=_turn(progress, turn + 1, rounds), turn=turn, stay=stay,
                    epochs=rounds * EPOCHS, a=shape.a, b=shape.b,
                )  # fmt: skip
                places[stay:] = parts["moved"]
        found: NDArray[np.float32] = np.asarray(places)[number]
    return found


def _surround(  # noqa: PLR0917 - one caller
    parts: Parts,
    anchors: Anchors,
    laid: NDArray[np.float32],
    moves: NDArray[np.bool_],
    seed: int,
    progress: Progress,
) -> None:
    """Place the others at the mean of their nearest anchors, all in the array `places`."""
    more = len(anchors.others)
    twins = parts.make("twins", (len(parts["places"]),), np.uint8)
    twins[:] = 0
    if not more:
        return
    parts.put("laid", laid)
    parts.put("first", anchors.near)
    parts.put("first_gaps", anchors.gaps)
    parts.run(
        _begin, cut(more, _PART), ("laid", "first", "first_gaps", "places"), step="placed",
        progress=progress, seed=seed, shift=len(laid),
    )  # fmt: skip
    # Equal to an anchor that stays: it stays there.
    own = anchors.near[:, 0]
    twins[len(laid) :] = (anchors.gaps[:, 0] < SAME) & (own >= 0) & ~moves[own]
    parts.drop("laid", "first", "first_gaps")


def _prepare(
    parts: Parts,
    graph: Graph,
    number: NDArray[np.int32],
    rows: NDArray[np.int64],
    neighbours: int,
) -> None:
    """Make the arrays of the rows that move: their neighbours by number, and how far they are."""
    width = max(1, min(neighbours - 1, graph.rows.shape[1]))
    near = parts.make("near", (len(rows), width), np.int32)
    gaps = parts.make("gaps", (len(rows), width), np.float32)
    near[:], gaps[:] = -1, np.inf
    twins = parts["twins"][len(parts["places"]) - len(rows) :]
    for first, last in cut(len(rows), _PART):
        some = rows[first:last]
        own = graph.rows[some, :width]
        # Of a crowd a row may have several, which are one; its own is none.
        to = np.where((own >= 0) & (twins[first:last, None] == 0), number[own], -1)
        to[to == number[some][:, None]] = -1
        gap = distances(graph.scores[some, :width])
        near[first:last, : own.shape[1]] = to
        gaps[first:last, : own.shape[1]] = np.where(to >= 0, gap, np.inf)
    parts.drop("twins")
    parts.make("pull", (len(rows), width), np.float32)
    parts.make("keys", (len(rows),), np.uint64)


def _turn(progress: Progress, turn: int, rounds: int) -> Progress:
    """Progress of one round of all."""

    def told(step: str, done: int, total: int, message: str = "") -> None:
        progress(step, (turn * total + done) // (rounds + 1), total, message)

    return told


def _begin(arrays: Arrays, first: int, last: int, *, seed: int, shift: int) -> int:
    near, gaps = arrays["first"][first:last], arrays["first_gaps"][first:last]
    arrays["places"][shift + first : shift + last] = transform(
        near.astype(np.int64), gaps, arrays["laid"], seed=seed, epochs=0, threads=1
    )
    return 0


def _pulls(arrays: Arrays, first: int, last: int, *, seed: int) -> int:
    """What pulls each row, and a number of its own."""
    part = slice(first, last)
    near, gaps = arrays["near"][part].astype(np.int64), arrays["gaps"][part]
    # Where a crowd takes several places the others move up.
    order = np.argsort(near < 0, axis=1, kind="stable")
    near, gaps = np.take_along_axis(near, order, 1), np.take_along_axis(gaps, order, 1)
    # None of these is the row itself, whatever its number among the rows of this part.
    known = np.where(near >= 0, len(near), -1)
    far = np.where(near >= 0, gaps, np.float32(0))
    optimiser.memberships(known, far, 0, len(near), arrays["pull"][part])
    arrays["near"][part] = near
    arrays["keys"][part] = keys_of(near, gaps, seed)
    return 0


def _round(
    arrays: Arrays,
    first: int,
    last: int,
    *,
    turn: int,
    stay: int,
    epochs: int,
    a: float,
    b: float,
) -> int:
    places, moved = arrays["places"], arrays["moved"]
    moved[first:last] = places[stay + first : stay + last]
    settle(
        arrays["near"], arrays["pull"], places, moved, arrays["keys"], len(places),
        turn * EPOCHS, (turn + 1) * EPOCHS, epochs, RATE, np.float32(a), np.float32(b), first, last,
    )  # fmt: skip
    return 0
