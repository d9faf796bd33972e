"""Neighbours of many rows, approximately: cells propose, neighbours' neighbours improve.

K-means cells from a seeded sample (the inverted file of Sivic and Zisserman, 2003) are searched by
one matrix product per cell and part of the rows; then rounds of NN-descent (Dong, Moses, Li, 2011)
run until hardly anything changes. Every row is in a cell, and every row gets a list.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analytics.graph import links
from analytics.parts import Arrays, Parts, cut
from cql.progress import Progress, silent

ROWS = 128
"""Rows of a cell, on average: few, so that the nearest cells hold little that is far."""

MOST_CELLS = 4096
"""Above, cells grow: finding each row's cells would cost more than searching them."""

PROBES = 10
"""Cells that a row is compared with, its own among them."""

DRY = 0.01
"""The cells that are left are not searched when two more gave less than this share of entries."""

SPLIT = 8
"""A cell of more than this many times the average is halved until it is not: rows that lie
together, a hundred thousand near copies even, never cost a product of all with all."""

ROUNDS = 12
SETTLED = 0.004
"""Rounds end when fewer of all entries than this share were new in one."""

_SAMPLE = 20
_STEPS = 2
_PART = 8192
_BLOCK = 2048
_BACK = 24
_TURN = 2


def spare(k: int) -> int:
    """Entries of a list beyond k: the farther ones lead to better ones, too."""
    return max(4, k // 5)


def propose(
    parts: Parts, size: int, *, seed: int, progress: Progress = silent
) -> NDArray[np.int64]:
    """List the `size` best rows of each row of the array `given`, float32 (N, D), in its cells.

    Makes `vectors`, the rows in the order of their cells, and lists in their numbers: `rows` int32
    (N, size), `scores` and `fresh`; `given` is dropped. Returns that order: vector n was row
    `order[n]`, int64 (N,).
    """
    given = parts["given"]
    count, dim = given.shape
    cells = max(1, min(MOST_CELLS, count // ROWS))
    rng = np.random.default_rng([seed, 11])
    centres = _centres(parts, cells, rng)
    near = _nearest(parts, "given", centres, PROBES, progress)
    labels = near[:, 0].astype(np.int64)
    limit = SPLIT * max(1, -(-count // len(centres)))
    if np.bincount(labels, minlength=cells).max() > limit:
        labels, centres = _split(given, labels, centres, limit)
        near = _nearest(parts, "given", centres, PROBES, progress)
        near = _own_first(near, labels)
    turn = _chain(centres)
    place = np.argsort(turn)
    labels = place[labels]
    order = np.argsort(labels, kind="stable").astype(np.int64)
    vectors = parts.make("vectors", (count, dim), np.float32)
    for first, last in cut(count, _PART):
        vectors[first:last] = given[order[first:last]]
    parts.drop("given", "best", "centres", "near")
    parts.put("near", place[near[order]].astype(np.int32))
    starts = np.r_[0, np.cumsum(np.bincount(labels, minlength=len(centres)))]
    parts.put("starts", starts.astype(np.int64))
    parts.make("rows", (count, size), np.int32)
    parts.make("scores", (count, size), np.float32)
    parts.run(
        _search, cut(count, _PART), ("vectors", "near", "starts", "rows", "scores"),
        progress=progress, step="search",
    )  # fmt: skip
    parts.drop("near", "starts")
    parts.make("fresh", (count, size), np.uint8)[:] = parts["rows"] >= 0
    return order


def improve(parts: Parts, *, rounds: int = ROUNDS, progress: Progress = silent) -> None:
    """Run rounds of NN-descent over the arrays `vectors`, `rows`, `scores`, `fresh`."""
    count, size = parts["rows"].shape
    for name, dtype in (("rows", np.int32), ("scores", np.float32), ("fresh", np.uint8)):
        parts.make(f"new_{name}", (count, size), dtype)
    back = parts.make("back", (count, min(_BACK, max(1, count - 1))), np.int32)
    back_fresh = parts.make("back_fresh", back.shape, np.uint8)
    names = ("vectors", "rows", "scores", "fresh", "back", "back_fresh")
    lists = ("rows", "scores", "fresh")
    for turn in range(rounds):
        links.reverse(parts["rows"], parts["scores"], parts["fresh"], back, back_fresh)
        changed = sum(
            parts.run(
                _refine,
                cut(count, _PART),
                (*names, *(f"new_{name}" for name in lists)),
                progress=_turn(progress, turn),
                step="rounds",
            )
        )
        for name in lists:
            parts.swap(name, f"new_{name}")
        if changed <= SETTLED * count * size:
            break
    parts.drop("back", "back_fresh", "fresh", *(f"new_{name}" for name in lists))


def _turn(progress: Progress, turn: int) -> Progress:
    """Progress of one round of several: each is half of what is left."""

    def told(step: str, done: int, total: int, message: str = "") -> None:
        progress(step, int(total * (1 - 0.5**turn * (1 - done / total / 2))), total, message)

    return told


def _centres(parts: Parts, cells: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Means of cells of a sample: float32 (C, D), C at most `cells`."""
    given = parts["given"]
    chosen = np.sort(rng.choice(len(given), min(len(given), _SAMPLE * cells), replace=False))
    sample = np.ascontiguousarray(given[chosen])
    centres = sample[np.sort(rng.choice(len(sample), cells, replace=False))]
    parts.put("sample", sample)
    for _ in range(_STEPS):
        labels = _nearest(parts, "sample", centres, 1, silent)[:, 0]
        centres = _means(sample, labels, len(centres))
    parts.drop("sample", "best", "near", "centres")
    return centres


def _means(vectors: NDArray[np.float32], labels: NDArray[Any], cells: int) -> NDArray[np.float32]:
    """Means of the cells that have rows."""
    counts = np.bincount(labels, minlength=cells)
    starts = np.r_[0, np.cumsum(counts)[:-1]][counts > 0]
    sums = np.add.reduceat(vectors[np.argsort(labels, kind="stable")], starts, axis=0)
    return (sums / counts[counts > 0][:, None]).astype(np.float32)


def _nearest(
    parts: Parts, source: str, centres: NDArray[np.float32], probes: int, progress: Progress
) -> NDArray[np.int32]:
    """The nearest cells of each row, nearest first: int32 (N, min(probes, C))."""
    count, probes = len(parts[source]), min(probes, len(centres))
    parts.put("centres", centres)
    near = parts.make("near", (count, probes), np.int32)
    parts.make("best", (count, probes), np.float32)
    parts.run(
        _assign, cut(count, _PART), (source, "centres", "near", "best"), progress=progress,
        step="cells", source=source,
    )  # fmt: skip
    return near


def _assign(arrays: Arrays, first: int, last: int, *, source: str) -> int:
    centres = arrays["centres"]
    half = np.einsum("cd,cd->c", centres, centres) / np.float32(2)
    near, best = arrays["near"][first:last], arrays["best"][first:last]
    near[:], best[:] = -1, -np.inf
    for low, high in cut(last - first, _BLOCK):
        # |x - c|^2 = |x|^2 - 2 (x c - |c|^2 / 2)
        found = arrays[source][first + low : first + high] @ centres.T
        found -= half
        who = np.arange(high - low)
        cells = np.arange(len(centres))
        # No row is its own cell: as if the rows were numbered behind all of them.
        links.take(found, who, len(centres), cells, near[low:high], best[low:high])
    return 0


def _split(
    vectors: NDArray[np.float32],
    labels: NDArray[np.int64],
    centres: NDArray[np.float32],
    limit: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Halve cells of more than `limit` rows; labels of all rows and the means of the cells."""
    labels = labels.copy()
    means = list(centres)
    waiting = [
        np.flatnonzero(labels == cell)
        for cell in np.flatnonzero(np.bincount(labels, minlength=len(centres)) > limit)
    ]
    while waiting:
        rows = waiting.pop()
        own = labels[rows[0]]
        if len(rows) <= limit:
            means[own] = vectors[rows].mean(axis=0, dtype=np.float64).astype(np.float32)
            continue
        # By the median along the way from the mean to the row that is farthest from it.
        part = vectors[rows]
        middle = part.mean(axis=0, dtype=np.float64).astype(np.float32)
        away = np.argmax(np.einsum("nd,nd->n", part, part) - 2 * (part @ middle))
        along = np.argsort(part @ (part[away] - middle), kind="stable")
        half = len(rows) // 2
        labels[rows[along[half:]]] = len(means)
        means.append(middle)
        waiting += [np.sort(rows[along[:half]]), np.sort(rows[along[half:]])]
    return labels, np.stack(means)


def _chain(centres: NDArray[np.float32]) -> NDArray[np.int64]:
    """An order of cells in which each is followed by the nearest that is left: int64 (C,).

    What is near lies near in memory then, and in the same part.
    """
    near = centres @ centres.T - np.einsum("cd,cd->c", centres, centres) / np.float32(2)
    turn = np.zeros(len(centres), np.int64)
    for at in range(1, len(turn)):
        near[:, turn[at - 1]] = -np.inf
        turn[at] = np.argmax(near[turn[at - 1]])
    return turn


def _own_first(near: NDArray[np.int32], labels: NDArray[np.int64]) -> NDArray[np.int32]:
    """Put each row's own cell first, in place of itself or of the farthest."""
    own = near == labels[:, None]
    place = np.where(own.any(axis=1), own.argmax(axis=1), near.shape[1] - 1)
    moved = near.copy()
    np.put_along_axis(moved, place[:, None], near[:, :1], 1)
    moved[:, 0] = labels
    return moved


def _search(arrays: Arrays, first: int, last: int) -> int:
    """Compare rows first to last with the rows of their nearest cells."""
    vectors, starts = arrays["vectors"], arrays["starts"]
    rows, scores = arrays["rows"][first:last], arrays["scores"][first:last]
    rows[:], scores[:] = -1, -np.inf
    near = arrays["near"][first:last]
    own = vectors[first:last]
    # Nearest cells first: lists fill with what is good, and little is taken in later.
    for low in range(0, near.shape[1], _TURN):
        taken = 0
        some = np.ascontiguousarray(near[:, low : low + _TURN])
        turn = np.argsort(some, axis=None, kind="stable")
        cells, at = np.unique(some.ravel()[turn], return_index=True)
        for cell, begin, end in zip(cells, at, [*at[1:], len(turn)], strict=True):
            who = turn[begin:end] // some.shape[1]
            base, stop = int(starts[cell]), int(starts[cell + 1])
            for near_low, near_high in cut(len(who), _BLOCK):
                asked = who[near_low:near_high]
                if base < stop:
                    found = own[asked] @ vectors[base:stop].T
                    others = np.arange(base, stop)
                    taken += links.take(found, asked, first, others, rows, scores)
        if low and taken < DRY * rows.size:
            break
    return 0


def _refine(arrays: Arrays, first: int, last: int) -> int:
    return int(
        links.refine(
            arrays["vectors"],
            arrays["rows"],
            arrays["scores"],
            arrays["fresh"],
            arrays["back"],
            arrays["back_fresh"],
            first,
            last,
            arrays["new_rows"],
            arrays["new_scores"],
            arrays["new_fresh"],
        )
    )
