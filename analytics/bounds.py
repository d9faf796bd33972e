"""Bounds of listings from codes: compiled loops.

The score of a row is its best product with a positive example, less its best with a negative one.
A listing scores its best row (`MAX`), the mean of its best m rows (`MEAN`; of n rows where n < m),
or its worst matched positive (`COVERAGE`: the least, over the positives, of the best row). Bounds
of each row's products bound all three, because each of them only grows when a positive product
grows or a negative one falls.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from analytics.codes import Codes, QueryCodes, products
from analytics.compiler import compiled
from analytics.heaps import keep, keep_largest, mean

MAX, MEAN, COVERAGE = 0, 1, 2

ROUNDING = np.float32(1e-6)
"""More than the float32 forms of scores, their differences and means can differ by."""

_ROWS = 128
"""Rows scored at a time: their products stay in the nearest cache."""

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


_byte = cast("Callable[[int], int]", _byte_at)


@compiled
def _counts(mask: int, at: int) -> bool:
    return mask == 0 or _byte(mask + at) != 0


@compiled
def _best_of(
    scores: NDArray[np.float32],
    queries: QueryCodes,
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


@partial(compiled, fast=True)
def _reach(
    scores: NDArray[np.float32],
    residuals: NDArray[np.float32],
    queries: QueryCodes,
    first: int,
    last: int,
    upper: NDArray[np.float32],
) -> np.float32:
    """Fill `upper` (R,) with what each row of a run can reach with the columns first to last.

    `scores` (Q, >= R) and `residuals` (R,) are of the run. Returns the largest. Scores that were
    not computed are left from other rows: they can only make it larger.
    """
    count = residuals.size
    for column in range(first, last):
        slope, offset = queries.slopes[column], queries.offsets[column]
        own = scores[column]
        if column == first:
            for row in range(count):
                upper[row] = own[row] + slope * residuals[row] + offset
        else:
            for row in range(count):
                upper[row] = max(upper[row], own[row] + slope * residuals[row] + offset)
    most = np.float32(-4)
    for row in range(count):
        most = max(most, upper[row])
    return most


@compiled
def _surely(
    scores: NDArray[np.float32],
    shift: int,
    first: int,
    last: int,
    residuals: NDArray[np.float32],
    queries: QueryCodes,
    plan: Plan,
) -> np.float32:
    """Lower bound of a listing of rows first to last for `MAX` without negatives."""
    least = LOWEST
    for row in range(first, last):
        if _counts(plan.rows, row):
            for column in range(plan.start, plan.middle):
                error = queries.offsets[column] + queries.slopes[column] * residuals[row]
                least = max(least, scores[column, row - shift] - error)
    return least


@compiled
def _bound(
    scores: NDArray[np.float32],
    shift: int,
    first: int,
    last: int,
    residuals: NDArray[np.float32],
    queries: QueryCodes,
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
        if not _counts(plan.rows, row):
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
def _want(
    listings: NDArray[np.int64],
    first: int,
    last: int,
    plans: list[Plan],
    wanted: NDArray[np.uint8],
) -> None:
    """Mark the rows of listings first to last that count for any query."""
    wanted[:] = 0
    shift, end = listings[first], listings[last]
    for plan in plans:
        if plan.listings == 0:
            # Without a branch: sixteen rows at a time and more.
            for row in range(shift, end):
                wanted[row - shift] |= _byte(plan.rows + row) if plan.rows != 0 else 1
            continue
        for listing in range(first, last):
            if not _counts(plan.listings, listing):
                continue
            for row in range(listings[listing], listings[listing + 1]):
                if _counts(plan.rows, row):
                    wanted[row - shift] = 1


@compiled
def planned(numbers: NDArray[np.int64]) -> Plan:
    """The plan that an array of its seven numbers says."""
    return Plan(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6])


class Found(NamedTuple):
    """What a scan notes of A plans: listings that can be hits, and how good the best surely are.

    `listings` int64, `lower` and `upper` float32 (A, L), of each row `counts` int64 (A,) filled.
    `rows` int64 (A, L): the only row that can win its listing and be its score, -1 where the scan
    does not know one.
    `limits` float32 (A,): what an upper bound must reach. `best` float32 (A, k): heaps of lower
    bounds, `held` int64 (A,) of each filled; `sizes` int64 (A,): how many a plan wants, 0 where
    that is more than there are listings.
    """

    listings: NDArray[np.int64]
    rows: NDArray[np.int64]
    lower: NDArray[np.float32]
    upper: NDArray[np.float32]
    counts: NDArray[np.int64]
    limits: NDArray[np.float32]
    best: NDArray[np.float32]
    held: NDArray[np.int64]
    sizes: NDArray[np.int64]


@compiled
def _note(
    found: Found, ask: int, listing: int, row: int, least: np.float32, most: np.float32
) -> None:
    place = found.counts[ask]
    found.listings[ask, place] = listing
    found.rows[ask, place] = row
    found.lower[ask, place] = least
    found.upper[ask, place] = most
    found.counts[ask] = place + 1
    size = found.sizes[ask]
    if size:
        own = found.lower[ask, place : place + 1]
        found.held[ask] = keep_largest(found.best[ask, :size], found.held[ask], own)
        if found.held[ask] == size:
            found.limits[ask] = max(found.limits[ask], found.best[ask, 0])


@compiled
def _only(reach: NDArray[np.float32], first: int, last: int, least: np.float32) -> int:
    """The only one of places first to last that reaches `least`; -1 where there are several."""
    only = -1
    for at in range(first, last):
        if reach[at] >= least:
            if only >= 0:
                return -1
            only = at
    return only


@compiled
def _note_best(
    scores: NDArray[np.float32],
    reach: NDArray[np.float32],
    listings: NDArray[np.int64],
    run: tuple[int, int],
    residuals: NDArray[np.float32],
    queries: QueryCodes,
    plan: Plan,
    ask: int,
    found: Found,
) -> None:
    """Note listings of a run for `MAX` without negatives; `reach`: upper bounds of its rows."""
    first, last = run
    shift = listings[first]
    if plan.rows != 0:
        for row in range(shift, listings[last]):
            if not _counts(plan.rows, row):
                reach[row - shift] = LOWEST
    for listing in range(first, last):
        if not _counts(plan.listings, listing):
            continue
        start, end = listings[listing], listings[listing + 1]
        most = LOWEST
        for row in range(start - shift, end - shift):
            most = max(most, reach[row])
        if most >= found.limits[ask] and most > LOWEST:
            least = _surely(scores, shift, start, end, residuals, queries, plan)
            only = _only(reach, start - shift, end - shift, least)
            _note(found, ask, listing, shift + only if only >= 0 else -1, least, most)


@compiled
def _note_any(
    scores: NDArray[np.float32],
    listings: NDArray[np.int64],
    run: tuple[int, int],
    residuals: NDArray[np.float32],
    queries: QueryCodes,
    plan: Plan,
    ask: int,
    found: Found,
) -> None:
    """Note listings of a run, whatever the plan."""
    first, last = run
    shift = listings[first]
    size = plan.middle - plan.start if plan.aggregate == COVERAGE else plan.best
    low, high = np.empty(size, np.float32), np.empty(size, np.float32)
    for listing in range(first, last):
        if not _counts(plan.listings, listing):
            continue
        least, most, taken = _bound(
            scores, shift, listings[listing], listings[listing + 1], residuals, queries, plan, low,
            high,
        )  # fmt: skip
        if taken and most >= found.limits[ask]:
            _note(found, ask, listing, -1, least, most)


@compiled
def scan(
    codes: Codes,
    listings: NDArray[np.int64],
    first: int,
    last: int,
    queries: QueryCodes,
    numbers: NDArray[np.int64],
    found: Found,
) -> int:
    """Bound listings first to last for all queries in one pass over their codes.

    `listings` int64 (L + 1): listing l owns rows listings[l] to listings[l + 1]. `numbers` int64
    (A, 7): the plans. A listing whose upper bound reaches its plan's limit is noted in `found`;
    limits rise to the k-th best lower bound seen. Returns the number of rows whose codes were read.
    """
    plans = [planned(numbers[at]) for at in range(numbers.shape[0])]
    masked = True
    for plan in plans:
        masked = masked and (plan.rows != 0 or plan.listings != 0)
    wanted, reach = np.ones(_ROWS, np.uint8), np.empty(_ROWS, np.float32)
    scores = np.zeros((queries.values.shape[0], _ROWS), np.float32)
    done = 0
    at = first
    while at < last:
        shift, stop = listings[at], at + 1
        while stop < last and listings[stop + 1] - shift <= _ROWS:
            stop += 1
        rows = listings[stop] - shift
        if rows > scores.shape[1]:
            scores = np.zeros((queries.values.shape[0], rows), np.float32)
            wanted, reach = np.ones(rows, np.uint8), np.empty(rows, np.float32)
        if masked:
            _want(listings, at, stop, plans, wanted[:rows])
        scored = products(codes, shift, listings[stop], wanted, queries, scores)
        done += scored
        if scored == 0:
            at = stop
            continue
        own = codes.residuals[shift : listings[stop]]
        for ask in range(len(plans)):
            plan = plans[ask]
            negative = plan.end > plan.middle
            if not negative and found.limits[ask] > _reach(
                scores, own, queries, plan.start, plan.middle, reach
            ):
                continue
            run = (at, stop)
            if plan.aggregate == MAX and not negative:
                _note_best(scores, reach, listings, run, codes.residuals, queries, plan, ask, found)
            else:
                _note_any(scores, listings, run, codes.residuals, queries, plan, ask, found)
        at = stop
    return done


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
    size = plan.middle if cover else plan.best
    low, high = np.empty(size, np.float32), np.empty(size, np.float32)
    most = 0
    for listing in chosen:
        most = max(most, listings[listing + 1] - listings[listing])
    scores = np.zeros((queries.values.shape[0], most), np.float32)
    wanted = np.ones(most, np.uint8)
    count = 0
    for place in range(chosen.size):
        starts[place] = count
        first, last = listings[chosen[place]], listings[chosen[place] + 1]
        for row in range(first, last):
            wanted[row - first] = _counts(plan.rows, row)
        products(codes, first, last, wanted, queries, scores)
        _, _, taken = _bound(scores, first, first, last, codes.residuals, queries, plan, low, high)
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
