"""Scores of listings from float32 vectors of the rows that matter: compiled loops.

The score of a row and a query is float32 of the float64 sum of products over the stored float32
vectors, added in index order.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from analytics.compiler import compiled
from analytics.scanning.bounds import COVERAGE, LOWEST, MEAN, Plan, kept_of, planned
from analytics.scanning.heaps import keep, mean

_TOGETHER = 4
"""Sums that are added to in turn: each addition waits for the last one of its own sum alone."""


@partial(compiled, fast=True)
def roughly(
    vectors: NDArray[np.float32], examples: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Score rows (R, D) with examples (E, D) into `out` (R, E), in any order of summation.

    Within one step of float32 of the sum in index order.
    """
    for row in range(vectors.shape[0]):
        for query in range(examples.shape[0]):
            total = 0.0
            for at in range(vectors.shape[1]):
                total += np.float64(vectors[row, at]) * np.float64(examples[query, at])
            out[row, query] = total


@compiled
def exactly(
    vectors: NDArray[np.float32], examples: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Score rows (R, D) with examples (E, D) into `out` (R, E): float64 sums in index order."""
    count, dim = vectors.shape
    whole = count - count % _TOGETHER
    for query in range(examples.shape[0]):
        example = examples[query]
        for row in range(0, whole, _TOGETHER):
            a = b = c = d = 0.0
            for at in range(dim):
                value = np.float64(example[at])
                a += np.float64(vectors[row, at]) * value
                b += np.float64(vectors[row + 1, at]) * value
                c += np.float64(vectors[row + 2, at]) * value
                d += np.float64(vectors[row + 3, at]) * value
            out[row, query], out[row + 1, query] = a, b
            out[row + 2, query], out[row + 3, query] = c, d
        for row in range(whole, count):
            total = 0.0
            for at in range(dim):
                total += np.float64(vectors[row, at]) * np.float64(example[at])
            out[row, query] = total
        for row in range(count):
            # -0 becomes 0: Cassandra's order of floats tells them apart.
            out[row, query] += np.float32(0)


@compiled
def best_of(
    vectors: NDArray[np.float32],
    examples: NDArray[np.float32],
    starts: NDArray[np.int64],
    who: NDArray[np.int64],
    out: NDArray[np.float32],
) -> None:
    """Score rows (R, D), each by the best of the examples of its own ask: `out` (R,), exact.

    Those of row r are starts[who[r]] to starts[who[r] + 1] of all (E, D).
    """
    dim = vectors.shape[1]
    out[:] = LOWEST
    for start in range(0, who.size, _TOGETHER):
        last = min(start + _TOGETHER, who.size) - 1
        most = 0
        for pair in range(start, last + 1):
            most = max(most, starts[who[pair] + 1] - starts[who[pair]])
        one, two, three = min(start + 1, last), min(start + 2, last), min(start + 3, last)
        v, w, x, y = vectors[start], vectors[one], vectors[two], vectors[three]
        for turn in range(most):
            e = examples[min(starts[who[start]] + turn, starts[who[start] + 1] - 1)]
            f = examples[min(starts[who[one]] + turn, starts[who[one] + 1] - 1)]
            g = examples[min(starts[who[two]] + turn, starts[who[two] + 1] - 1)]
            h = examples[min(starts[who[three]] + turn, starts[who[three] + 1] - 1)]
            a = b = c = d = 0.0
            for at in range(dim):
                a += np.float64(v[at]) * np.float64(e[at])
                b += np.float64(w[at]) * np.float64(f[at])
                c += np.float64(x[at]) * np.float64(g[at])
                d += np.float64(y[at]) * np.float64(h[at])
            out[start] = max(out[start], np.float32(a))
            out[one] = max(out[one], np.float32(b))
            out[two] = max(out[two], np.float32(c))
            out[three] = max(out[three], np.float32(d))
    for pair in range(who.size):
        # -0 becomes 0, as above.
        out[pair] += np.float32(0)


@compiled
def _best(
    pairs: NDArray[np.float32], first: int, last: int, plan: Plan, best: NDArray[np.float32]
) -> tuple[np.float32, int]:
    """Score and winning row of rows first to last: the mean, or the best; see `listings`."""
    held, winner, top = 0, -1, LOWEST
    for at in range(first, last):
        value = pairs[at, : plan.middle].max()
        if plan.end > plan.middle:
            value -= pairs[at, plan.middle : plan.end].max()
        held = keep(best, held, value)
        # Rows of a listing lie in image id order: the first of the largest wins.
        if value > top:
            top, winner = value, at
    return (mean(best, held) if plan.aggregate == MEAN else top), winner


@compiled
def _covered(
    pairs: NDArray[np.float32], first: int, last: int, plan: Plan, best: NDArray[np.float32]
) -> tuple[np.float32, int]:
    """The positive that rows first to last match worst: its best score, and that row."""
    rows = np.full(plan.middle, -1, np.int64)
    best[:] = LOWEST
    for at in range(first, last):
        against = np.float32(0)
        if plan.end > plan.middle:
            against = pairs[at, plan.middle : plan.end].max()
        for column in range(plan.middle):
            if pairs[at, column] - against > best[column]:
                best[column] = pairs[at, column] - against
                rows[column] = at
    worst = int(np.argmin(best))
    return best[worst], rows[worst]


@compiled
def listings(
    pairs: NDArray[np.float32],
    starts: NDArray[np.int64],
    rows: NDArray[np.int64],
    numbers: NDArray[np.int64],
    values: NDArray[np.float32],
    winners: NDArray[np.int64],
) -> None:
    """Score listings from the scores of their rows.

    `pairs` float32 (R, P + M); listing c has rows starts[c] to starts[c + 1] of it, which are rows
    `rows` of the block. `numbers` int64 (7,): the plan, from column 0. Fills `values` float32 (C,)
    and `winners` int64 (C,): the row of the block that won.
    """
    plan = planned(numbers)
    cover = plan.aggregate == COVERAGE
    best = np.empty(kept_of(plan), np.float32)
    for place in range(starts.size - 1):
        if cover:
            value, at = _covered(pairs, starts[place], starts[place + 1], plan, best)
        else:
            value, at = _best(pairs, starts[place], starts[place + 1], plan, best)
        values[place], winners[place] = value, rows[at]
