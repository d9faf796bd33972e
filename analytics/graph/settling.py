"""Compiled loops that score lists exactly and order them: scores as the glossary defines them.

Score: float32 of the float64 sum of products in index order, ties by rank. Lists are those of
`analytics/graph/links.py`.
"""

# Compiled loops take many arrays, by position.
# ruff: noqa: PLR0917

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analytics.compiler import compiled
from analytics.graph.links import insert


@compiled
def _before(score: np.float32, rank: int, other: np.float32, other_rank: int) -> bool:
    """Whether a row goes before another: larger score, then smaller rank."""
    return bool(score > other or (score == other and rank < other_rank))


@compiled
def score(
    vectors: NDArray[np.float32],
    row: int,
    rows: NDArray[np.int32],
    out: NDArray[np.float32],
) -> None:
    """Scores of a row with `rows`: float32 of float64 sums in index order, into `out`.

    A row below 0 scores -inf.
    """
    count, dim = rows.size, vectors.shape[1]
    left = vectors[row]
    for start in range(0, count, 8):
        stop = min(start + 8, count)
        # Eight sums at once: each waits for its own last addition alone.
        n = np.empty(8, np.int64)
        for at in range(8):
            n[at] = max(rows[min(start + at, stop - 1)], 0)
        a, b, c, d = vectors[n[0]], vectors[n[1]], vectors[n[2]], vectors[n[3]]
        e, f, g, h = vectors[n[4]], vectors[n[5]], vectors[n[6]], vectors[n[7]]
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
        for at in range(dim):
            value = np.float64(left[at])
            s0 += value * np.float64(a[at])
            s1 += value * np.float64(b[at])
            s2 += value * np.float64(c[at])
            s3 += value * np.float64(d[at])
            s4 += value * np.float64(e[at])
            s5 += value * np.float64(f[at])
            s6 += value * np.float64(g[at])
            s7 += value * np.float64(h[at])
        sums = (s0, s1, s2, s3, s4, s5, s6, s7)
        for at in range(start, stop):
            # -0 becomes 0, as everywhere.
            made = np.float32(sums[at - start]) + np.float32(0)
            out[at] = made if rows[at] >= 0 else np.float32(-np.inf)


@compiled
def settle(
    vectors: NDArray[np.float32],
    ranks: NDArray[np.int32],
    rows: NDArray[np.int32],
    scores: NDArray[np.float32],
    slack: float,
    first: int,
    last: int,
    out_rows: NDArray[np.int32],
    out_scores: NDArray[np.float32],
    doubtful: NDArray[np.uint8],
) -> None:
    """Score lists exactly and keep the K best, ties by rank: `out_*` (N, K), K <= M.

    `doubtful` (N,): whether a row that is in no list could be among them, where a float32 product
    errs by at most `slack`.
    """
    size, k = rows.shape[1], out_rows.shape[1]
    exact = np.empty(size, np.float32)
    for row in range(first, last):
        score(vectors, row, rows[row], exact)
        out_rows[row] = -1
        out_scores[row] = -np.inf
        for at in range(size):
            if rows[row, at] >= 0:
                _rank(out_rows[row], out_scores[row], ranks, rows[row, at], exact[at])
        doubtful[row] = scores[row, size - 1] + slack >= out_scores[row, k - 1]


@compiled
def _rank(
    rows: NDArray[np.int32],
    scores: NDArray[np.float32],
    ranks: NDArray[np.int32],
    row: int,
    value: np.float32,
) -> None:
    """Put a row into a list that is in order of score and rank, if it is among the best."""
    at = rows.size
    while at > 0 and (
        rows[at - 1] < 0 or _before(value, ranks[row], scores[at - 1], ranks[rows[at - 1]])
    ):
        at -= 1
    if at == rows.size:
        return
    for place in range(rows.size - 1, at, -1):
        rows[place] = rows[place - 1]
        scores[place] = scores[place - 1]
    rows[at] = row
    scores[at] = value


@compiled
def search(
    vectors: NDArray[np.float32],
    ranks: NDArray[np.int32],
    row: int,
    rough: NDArray[np.float32],
    slack: float,
    out_rows: NDArray[np.int32],
    out_scores: NDArray[np.float32],
) -> None:
    """Find the K best of all N for a row from its float32 products `rough` (N,): `out_*` (K,)."""
    k = out_rows.size
    best = np.full(k, -np.inf, np.float32)
    held = np.full(k, -1, np.int32)
    for at in range(rough.size):
        if rough[at] > best[k - 1] and at != row:
            insert(held, best, at, rough[at])
    low = best[k - 1] - slack
    out_rows[:] = -1
    out_scores[:] = -np.inf
    near = np.empty(8, np.int32)
    exact = np.empty(8, np.float32)
    held_count = 0
    for at in range(rough.size):
        if rough[at] >= low and at != row:
            near[held_count] = at
            held_count += 1
        if held_count == 8 or (held_count > 0 and at == rough.size - 1):
            score(vectors, row, near[:held_count], exact)
            for place in range(held_count):
                _rank(out_rows, out_scores, ranks, near[place], exact[place])
            held_count = 0


@compiled
def spread(
    ranks: NDArray[np.int32],
    starts: NDArray[np.int64],
    members: NDArray[np.int64],
    own_scores: NDArray[np.float32],
    rows: NDArray[np.int32],
    scores: NDArray[np.float32],
    out_rows: NDArray[np.int64],
    out_scores: NDArray[np.float32],
) -> None:
    """Make lists of rows from lists of groups of equal rows.

    Group g has `members` starts[g] to starts[g + 1], by rank, which score `own_scores` (G,) with
    one another; `rows` and `scores` (G, M) are its best other groups. `out_*` (N, K).
    """
    k = out_rows.shape[1]
    best_rows = np.empty(k + 1, np.int32)
    best = np.empty(k + 1, np.float32)
    for group in range(rows.shape[0]):
        best_rows[:] = -1
        best[:] = -np.inf
        for turn in range(-1, rows.shape[1]):
            other = group if turn < 0 else rows[group, turn]
            value = own_scores[group] if turn < 0 else scores[group, turn]
            if other < 0:
                continue
            for at in range(starts[other], min(starts[other + 1], starts[other] + k + 1)):
                _rank(best_rows, best, ranks, members[at], value)
        for at in range(starts[group], starts[group + 1]):
            row, place = members[at], 0
            for turn in range(k + 1):
                if best_rows[turn] != row and best_rows[turn] >= 0 and place < k:
                    out_rows[row, place] = best_rows[turn]
                    out_scores[row, place] = best[turn]
                    place += 1
