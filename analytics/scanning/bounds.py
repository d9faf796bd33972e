"""Bounds of listings from codes: compiled loops.

The score of a row is its best product with a positive example, less its best with a negative one.
A listing scores its best row (`MAX`), the mean of its best m rows (`MEAN`; of n rows where n < m),
or its worst matched positive (`COVERAGE`: the least, over the positives, of the best row). Bounds
of each row's products bound all three, because each of them only grows when a positive product
grows or a negative one falls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from analytics.compiler import compiled
from analytics.scanning.codes import Codes, QueryCodes, ShortCodes
from analytics.scanning.heaps import keep, mean
from analytics.scanning.products import products, scratch

MAX, MEAN, COVERAGE = 0, 1, 2

ROUNDING = np.float32(1e-6)
"""More than the float32 forms of scores, their differences and means can differ by."""

LOWEST = np.float32(-np.inf)


class Plan(NamedTuple):
    """What a query asks of compiled code; its examples are columns of all queries of a scan.

    Positives are columns `start` to `middle`, negatives `middle` to `end`; `best` is m; `rows` and
    `listings` are the addresses of its masks (a byte each), or 0 where everything counts.
    """

    start: int
    middle: int
    end: int
    aggregate: int
    best: int
    rows: int
    listings: int


@intrinsic
def _byte_at(_context: Any, _address: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], ir.IntType(8).as_pointer()))

    return types.uint8(types.intp), generate


byte = cast("Callable[[int], int]", _byte_at)


@compiled
def counts(mask: int, at: int) -> bool:
    """Whether a row or listing counts by a mask that begins at an address (0: all do)."""
    return mask == 0 or byte(mask + at) != 0


@compiled
def _best_of(
    scores: NDArray[np.float32],
    queries: QueryCodes | ShortCodes,
    first: int,
    last: int,
    residual: np.float32,
    sign: np.float32,
) -> np.float32:
    """The best of columns first to last with their error added (sign 1) or taken off (-1)."""
    best = LOWEST
    for column in range(first, last):
        error = queries.offsets[column] + queries.slopes[column] * residual
        best = max(best, scores[column] + sign * error)
    return best


@compiled
def bound(
    scores: NDArray[np.float32],
    shift: int,
    first: int,
    last: int,
    residuals: NDArray[np.float32],
    queries: QueryCodes | ShortCodes,
    plan: Plan,
    low: NDArray[np.float32],
    high: NDArray[np.float32],
) -> tuple[np.float32, np.float32, int]:
    """Lower and upper bound of a listing of rows first to last, and how many of them count.

    `scores` (Q, R), row r in column r - shift. `low`, `high`: float32 scratch of m numbers, of one
    a positive for `COVERAGE`; they are left with the best m bounds, or the best of each positive.
    """
    taken, held, high_held = 0, 0, 0
    cover = plan.aggregate == COVERAGE
    if cover:
        low[:] = LOWEST
        high[:] = LOWEST
    negative = plan.end > plan.middle
    for row in range(first, last):
        if not counts(plan.rows, row):
            continue
        taken += 1
        own, residual = scores[:, row - shift], residuals[row]
        least = most = np.float32(0)
        if negative:
            least = _best_of(own, queries, plan.middle, plan.end, residual, np.float32(-1))
            most = _best_of(own, queries, plan.middle, plan.end, residual, np.float32(1))
            least -= ROUNDING
            most += ROUNDING
        if cover:
            for column in range(plan.start, plan.middle):
                error = queries.offsets[column] + queries.slopes[column] * residual
                each = column - plan.start
                low[each] = max(low[each], own[column] - error - most)
                high[each] = max(high[each], own[column] + error - least)
        else:
            under = _best_of(own, queries, plan.start, plan.middle, residual, np.float32(-1))
            over = _best_of(own, queries, plan.start, plan.middle, residual, np.float32(1))
            held = keep(low, held, under - most)
            high_held = keep(high, high_held, over - least)
    if taken == 0:
        return LOWEST, LOWEST, 0
    if cover:
        return low.min(), high.min(), taken
    if plan.aggregate == MEAN:
        return mean(low, held) - ROUNDING, mean(high, high_held) + ROUNDING, taken
    return low[0], high[0], taken


@compiled
def kept_of(plan: Plan) -> int:
    """How many bounds or scores of a listing a plan keeps: m, for `COVERAGE` one a positive."""
    return plan.middle - plan.start if plan.aggregate == COVERAGE else plan.best


@compiled
def planned(numbers: NDArray[np.int64]) -> Plan:
    """The plan that an array of its seven numbers says."""
    return Plan(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6])


@compiled
def _matters(
    scores: NDArray[np.float32],
    queries: QueryCodes,
    plan: Plan,
    residual: np.float32,
    low: NDArray[np.float32],
    needed: np.float32,
) -> bool:
    """Whether a row's upper bounds reach what its listing is sure to have without it."""
    against = np.float32(0)
    if plan.end > plan.middle:
        against = _best_of(scores, queries, plan.middle, plan.end, residual, np.float32(-1))
        against -= ROUNDING
    if plan.aggregate != COVERAGE:
        over = _best_of(scores, queries, plan.start, plan.middle, residual, np.float32(1))
        return bool(over - against >= needed)
    for column in range(plan.start, plan.middle):
        error = queries.offsets[column] + queries.slopes[column] * residual
        if scores[column] + error - against >= low[column]:
            return True
    return False


@compiled
def narrow(
    codes: Codes,
    listings: NDArray[np.int64],
    chosen: NDArray[np.int64],
    queries: QueryCodes,
    numbers: NDArray[np.int64],
    rows: NDArray[np.int64],
    starts: NDArray[np.int64],
) -> int:
    """Find the rows of chosen listings that can change how these score.

    `queries` are one plan's own, `numbers` int64 (7,): the plan, from column 0. Fills `rows` (large
    enough for all rows of the listings); those of listing c are rows[starts[c]] to
    rows[starts[c + 1]], `starts` int64 (C + 1,). Returns how many there are.
    """
    plan = planned(numbers)
    cover = plan.aggregate == COVERAGE
    low, high = np.empty(kept_of(plan), np.float32), np.empty(kept_of(plan), np.float32)
    most = 0
    for listing in chosen:
        most = max(most, listings[listing + 1] - listings[listing])
    examples = queries.values.shape[0]
    scores, joined = np.zeros((examples, most), np.float32), scratch(codes)
    wanted = np.ones(most, np.uint8)
    count = 0
    for place in range(chosen.size):
        starts[place] = count
        first, last = listings[chosen[place]], listings[chosen[place] + 1]
        for row in range(first, last):
            wanted[row - first] = counts(plan.rows, row)
        products(codes, first, last, wanted, queries, 0, examples, joined, scores)
        _, _, taken = bound(scores, first, first, last, codes.residuals, queries, plan, low, high)
        # A row below the least of the best m lower bounds is not among the best m.
        needed = LOWEST if cover else low[min(taken, plan.best) - 1]
        for row in range(first, last):
            if wanted[row - first] and _matters(
                scores[:, row - first], queries, plan, codes.residuals[row], low, needed
            ):
                rows[count] = row
                count += 1
    starts[chosen.size] = count
    return count
