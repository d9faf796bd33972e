"""Neighbours of all rows, exactly: every product in float32, float64 where it decides.

Each pair of blocks of rows is multiplied once and serves both. A row keeps a few more than it was
asked for; where the error of float32 (`analytics/kernels.py`) leaves open whether a row beyond
them belongs among the best, all products of that row are looked at again.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from analytics.graph import links, settling
from analytics.parts import Arrays, Parts, cut
from cql.codec import error_bound
from cql.progress import Progress, silent

BLOCK = 2048
SPARE = 16
"""Rows that are kept beyond those that were asked for."""

_PART = 8192
_AGAIN = 128
_ROUNDING = 3e-7
"""As in `analytics/kernels.py`: exact scores of equal float32 form differ by less."""


def slack(dim: int) -> float:
    """By how much a float32 product can differ from the score."""
    return error_bound(dim) + _ROUNDING


def exhaustive(
    parts: Parts, k: int, *, block: int = BLOCK, progress: Progress = silent
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find the k best rows of each row of the array `vectors`, ties by the array `ranks`.

    `vectors` float32 (N, D), `ranks` int32 (N,), 1 <= k < N. Returns int32 (N, k), float32.
    """
    count = len(parts["vectors"])
    size = min(k + SPARE, count - 1)
    parts.make("rows", (count, size), np.int32)[:] = -1
    parts.make("scores", (count, size), np.float32)[:] = -np.inf
    names = ("vectors", "rows", "scores")
    total, done = -(-count // block), 0
    for pairs in turns(total):
        parts.run(_pair, pairs, names, block=block)
        done += len(pairs)
        progress("every pair", 2 * done, total * (total + 1))
    return settle(parts, k, complete=True, progress=progress)


def turns(blocks: int) -> Iterator[list[tuple[int, int]]]:
    """All pairs of blocks, each with itself first; in a list no block occurs twice.

    The circle method of tournaments: whoever does the pairs of a list writes to nobody else's rows.
    """
    yield [(block, block) for block in range(blocks)]
    seats = list(range(blocks + blocks % 2))
    for _ in range(len(seats) - 1):
        met = [(seats[at], seats[-1 - at]) for at in range(len(seats) // 2)]
        playing = [pair for pair in met if max(pair) < blocks]
        if playing:
            yield playing
        seats = [seats[0], seats[-1], *seats[1:-1]]


def settle(
    parts: Parts, k: int, *, complete: bool, progress: Progress = silent
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Score the lists `rows` and `scores` exactly and keep the k best.

    `complete`: what is not in a list scored no better than its last, so that the best of the list
    are the best of all. A row for which that is not certain, and one whose list is too short, is
    compared with all others.
    """
    count, size = parts["rows"].shape
    rows = parts.make("near", (count, k), np.int32)
    scores = parts.make("near_scores", (count, k), np.float32)
    doubtful = parts.make("doubtful", (count,), np.uint8)
    parts.run(
        _settle,
        cut(count, _PART),
        ("vectors", "ranks", "rows", "scores", "near", "near_scores", "doubtful"),
        progress=progress,
        step="scores",
    )
    short = rows[:, -1] < 0
    if complete and size < count - 1:
        short = short | (doubtful > 0)
    again(parts, np.flatnonzero(short), progress=progress)
    parts.drop("doubtful", "rows", "scores")
    return rows, scores


def again(parts: Parts, rows: NDArray[np.int64], *, progress: Progress = silent) -> None:
    """Compare `rows` with all rows: fills their lists in `near` and `near_scores`."""
    parts.put("asked", rows)
    parts.run(
        _again,
        cut(len(rows), _AGAIN),
        ("vectors", "ranks", "asked", "near", "near_scores"),
        progress=progress,
        step="again",
    )
    parts.drop("asked")


def _pair(arrays: Arrays, one: int, other: int, *, block: int) -> int:
    vectors, rows, scores = arrays["vectors"], arrays["rows"], arrays["scores"]
    first, second = slice(one * block, (one + 1) * block), slice(other * block, (other + 1) * block)
    found = vectors[first] @ vectors[second].T
    if one == other:
        who = np.arange(len(found))
        links.take(found, who, first.start, first.start + who, rows[first], scores[first])
    else:
        links.take_both(
            found, first.start, second.start,
            rows[first], scores[first], rows[second], scores[second],
        )  # fmt: skip
    return 0


def _settle(arrays: Arrays, first: int, last: int) -> int:
    settling.settle(
        arrays["vectors"],
        arrays["ranks"],
        arrays["rows"],
        arrays["scores"],
        slack(arrays["vectors"].shape[1]),
        first,
        last,
        arrays["near"],
        arrays["near_scores"],
        arrays["doubtful"],
    )
    return 0


def _again(arrays: Arrays, first: int, last: int) -> int:
    vectors, asked = arrays["vectors"], arrays["asked"][first:last]
    rough = vectors[asked] @ vectors.T
    for row, products in zip(asked, rough, strict=True):
        settling.search(
            vectors,
            arrays["ranks"],
            row,
            products,
            2 * slack(vectors.shape[1]),
            arrays["near"][row],
            arrays["near_scores"][row],
        )
    return 0
