"""Bounds of listings from codes, and their exact scores from float32 vectors: compiled loops.

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
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from analytics.codes import Codes, QueryCodes, compiled, products

MAX, MEAN, COVERAGE = 0, 1, 2

ROUNDING = np.float32(1e-6)
"""More than the float32 forms of scores, their differences and means can differ by."""

_ROWS = 128
"""Rows scored at a time: their products stay in the nearest cache."""

_LOWEST = np.float32(-np.inf)


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
def _keep(best: NDArray[np.float32], held: int, value: np.float32) -> int:
    """Insert into descending `best`, of which `held` are filled; returns how many are now."""
    if held == best.size:
        if value <= best[held - 1]:
            return held
        held -= 1
    at = held
    while at > 0 and best[at - 1] < value:
        best[at] = best[at - 1]
        at -= 1
    best[at] = value
    return held + 1


@compiled
def _mean(best: NDArray[np.float32], held: int) -> np.float32:
    total = 0.0
    for at in range(held):
        total += np.float64(best[at])
    return np.float32(total / held)


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
    best = _LOWEST
    for column in range(first, last):
        error = queries.offsets[column] + queries.slopes[column] * residual
        best = max(best, scores[column] + sign * error)
    return best


@njit(cache=True, nogil=True, fastmath=True)
def _reach(
    scores: NDArray[np.float32],
    residuals: NDArray[np.float32],
    queries: QueryCodes,
    first: int,
    last: int,
) -> np.float32:
    """What no row of a run can exceed with any of the columns first to last.

    `scores` (Q, R) and `residuals` (R,) are of one run. Scores that were not computed are left from
    other rows: they can only make it larger.
    """
    best = np.float32(-4)
    for column in range(first, last):
        slope, most = queries.slopes[column], np.float32(-4)
        for row in range(residuals.size):
            most = max(most, scores[column, row] + slope * residuals[row])
        best = max(best, most + queries.offsets[column])
    return best


@compiled
def _bound_best(
    scores: NDArray[np.float32],
    shift: int,
    first: int,
    last: int,
    residuals: NDArray[np.float32],
    queries: QueryCodes,
    plan: Plan,
    threshold: np.float32,
) -> tuple[np.float32, np.float32, int]:
    """`_bound` for `MAX` without negatives; the lower bound only where the upper is of use."""
    # Written out: with `_bound` a scan for many takes twice as long, with `_best_of` a third more.
    most, least, taken = _LOWEST, _LOWEST, 0
    for row in range(first, last):
        if _counts(plan.rows, row):
            taken += 1
            for column in range(plan.start, plan.middle):
                error = queries.offsets[column] + queries.slopes[column] * residuals[row]
                most = max(most, scores[column, row - shift] + error)
    if most >= threshold:
        for row in range(first, last):
            if _counts(plan.rows, row):
                for column in range(plan.start, plan.middle):
                    error = queries.offsets[column] + queries.slopes[column] * residuals[row]
                    least = max(least, scores[column, row - shift] - error)
    return least, most, taken


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
        low[:] = _LOWEST
        high[:] = _LOWEST
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
            held = _keep(low, held, under - most)
            high_held = _keep(high, high_held, over - least)
    if taken == 0:
        return _LOWEST, _LOWEST, 0
    if cover:
        return low.min(), high.min(), taken
    if plan.aggregate == MEAN:
        return _mean(low, held) - ROUNDING, _mean(high, high_held) + ROUNDING, taken
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
    shift = listings[first]
    for plan in plans:
        for listing in range(first, last):
            if not _counts(plan.listings, listing):
                continue
            for row in range(listings[listing], listings[listing + 1]):
                if _counts(plan.rows, row):
                    wanted[row - shift] = 1


@compiled
def _plan(numbers: NDArray[np.int64]) -> Plan:
    return Plan(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6])


@compiled
def scan(
    codes: Codes,
    listings: NDArray[np.int64],
    first: int,
    last: int,
    queries: QueryCodes,
    numbers: NDArray[np.int64],
    thresholds: NDArray[np.float32],
    found: NDArray[np.int64],
    lower: NDArray[np.float32],
    upper: NDArray[np.float32],
    counts: NDArray[np.int64],
) -> int:
    """Bound listings first to last for all queries in one pass over their codes.

    `listings` int64 (L + 1): listing l owns rows listings[l] to listings[l + 1]. `numbers` int64
    (A, 7): the plans. A listing whose upper bound reaches its plan's threshold (float32 (A,)) is
    noted in `found`, `lower`, `upper` (A, last - first); `counts` (A,) says how many were. Returns
    the number of rows whose codes were read.
    """
    plans = [_plan(numbers[at]) for at in range(numbers.shape[0])]
    masked = True
    longest = 1
    for plan in plans:
        masked = masked and (plan.rows != 0 or plan.listings != 0)
        longest = max(longest, plan.best, plan.middle - plan.start)
    low, high = np.empty(longest, np.float32), np.empty(longest, np.float32)
    wanted = np.ones(_ROWS, np.uint8)
    scores = np.zeros((queries.values.shape[0], _ROWS), np.float32)
    counts[:] = 0
    done = 0
    at = first
    while at < last:
        shift, stop = listings[at], at + 1
        while stop < last and listings[stop + 1] - shift <= _ROWS:
            stop += 1
        rows = listings[stop] - shift
        if rows > scores.shape[1]:
            scores = np.zeros((queries.values.shape[0], rows), np.float32)
            wanted = np.ones(rows, np.uint8)
        if masked:
            _want(listings, at, stop, plans, wanted[:rows])
        done += products(codes, shift, listings[stop], wanted, queries, scores)
        for ask in range(len(plans)):
            plan, threshold = plans[ask], thresholds[ask]
            negative = plan.end > plan.middle
            if not negative and threshold > _reach(
                scores, codes.residuals[shift : listings[stop]], queries, plan.start, plan.middle
            ):
                continue
            size = plan.middle - plan.start if plan.aggregate == COVERAGE else plan.best
            for listing in range(at, stop):
                if not _counts(plan.listings, listing):
                    continue
                start, end = listings[listing], listings[listing + 1]
                if plan.aggregate == MAX and not negative:
                    least, most, taken = _bound_best(
                        scores, shift, start, end, codes.residuals, queries, plan, threshold
                    )
                else:
                    least, most, taken = _bound(
                        scores, shift, start, end, codes.residuals, queries, plan, low[:size],
                        high[:size],
                    )  # fmt: skip
                if taken and most >= threshold:
                    place = counts[ask]
                    found[ask, place] = listing
                    lower[ask, place] = least
                    upper[ask, place] = most
                    counts[ask] = place + 1
        at = stop
    return done


@compiled
def keep_largest(best: NDArray[np.float32], held: int, values: NDArray[np.float32]) -> int:
    """Keep the largest of `values` in the min-heap `best`, `held` filled; returns how many are."""
    for value in values:
        if held < best.size:
            at = held
            held += 1
            while at > 0 and best[(at - 1) // 2] > value:
                best[at] = best[(at - 1) // 2]
                at = (at - 1) // 2
            best[at] = value
        elif value > best[0]:
            at = 0
            while 2 * at + 1 < held:
                child = 2 * at + 1
                if child + 1 < held and best[child + 1] < best[child]:
                    child += 1
                if best[child] >= value:
                    break
                best[at] = best[child]
                at = child
            best[at] = value
    return held


@njit(cache=True, nogil=True, fastmath=True)
def _quick(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    """Sum products in any order: at most one step of float32 from the sum in index order."""
    total = 0.0
    for at in range(left.size):
        total += np.float64(left[at]) * np.float64(right[at])
    return total


@compiled
def in_order(
    left: NDArray[np.float32], right: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Scores of one row (D,) with rows of `right` (Q, D): float64 sums in index order, float32."""
    count, dim = right.shape
    whole = count - count % 4
    for query in range(0, whole, 4):
        # Four sums at once: each waits for its own last addition alone.
        a = b = c = d = 0.0
        for at in range(dim):
            value = np.float64(left[at])
            a += value * np.float64(right[query, at])
            b += value * np.float64(right[query + 1, at])
            c += value * np.float64(right[query + 2, at])
            d += value * np.float64(right[query + 3, at])
        out[query], out[query + 1], out[query + 2], out[query + 3] = a, b, c, d
    for query in range(whole, count):
        total = 0.0
        for at in range(dim):
            total += np.float64(left[at]) * np.float64(right[query, at])
        out[query] = total
    for query in range(count):
        # -0 becomes 0: Cassandra's order of floats tells them apart.
        out[query] += np.float32(0)


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
def _score(
    vectors: NDArray[np.float32],
    first: int,
    rows: NDArray[np.uint8],
    examples: NDArray[np.float32],
    plan: Plan,
    exact: bool,
    best: NDArray[np.float32],
) -> tuple[np.float32, int]:
    """Score a listing by its rows from `first` on of which `rows` is not 0; the row that won.

    `best`: float32 scratch of m numbers, or of one a positive for `COVERAGE`.
    """
    cover = plan.aggregate == COVERAGE
    pair, rows_of = np.empty(examples.shape[0], np.float32), np.full(plan.middle, -1, np.int64)
    held, winner, top = 0, -1, _LOWEST
    if cover:
        best[:] = _LOWEST
    for at in range(rows.size):
        if not rows[at]:
            continue
        if exact:
            in_order(vectors[first + at], examples, pair)
        else:
            for column in range(plan.end):
                pair[column] = _quick(vectors[first + at], examples[column])
        against = pair[plan.middle :].max() if plan.end > plan.middle else np.float32(0)
        if cover:
            for column in range(plan.middle):
                if pair[column] - against > best[column]:
                    best[column] = pair[column] - against
                    rows_of[column] = first + at
            continue
        value = pair[: plan.middle].max() - against
        held = _keep(best, held, value)
        # Rows of a listing lie in image id order: the first of the largest wins.
        if value > top:
            top, winner = value, first + at
    if cover:
        worst = int(np.argmin(best))
        return best[worst], rows_of[worst]
    return (_mean(best, held) if plan.aggregate == MEAN else top), winner


@compiled
def settle(
    vectors: NDArray[np.float32],
    codes: Codes,
    listings: NDArray[np.int64],
    chosen: NDArray[np.int64],
    examples: NDArray[np.float32],
    queries: QueryCodes,
    numbers: NDArray[np.int64],
    exact: bool,
    values: NDArray[np.float32],
    winners: NDArray[np.int64],
) -> int:
    """Score chosen listings from float32 vectors; only rows that can matter are read.

    `examples` float32 (P + M, D) and their `queries`; `numbers` int64 (7,): the plan, from column
    0. Fills `values` float32 (C,), within `ROUNDING` of the score or (`exact`) the score itself,
    and `winners` int64 (C,), the row that won. Returns the number of rows read.
    """
    plan = _plan(numbers)
    cover = plan.aggregate == COVERAGE
    size = plan.middle if cover else plan.best
    low, high = np.empty(size, np.float32), np.empty(size, np.float32)
    most = 0
    for listing in chosen:
        most = max(most, listings[listing + 1] - listings[listing])
    scores, wanted = np.zeros((examples.shape[0], most), np.float32), np.ones(most, np.uint8)
    read = 0
    for place in range(chosen.size):
        first, last = listings[chosen[place]], listings[chosen[place] + 1]
        for row in range(first, last):
            wanted[row - first] = _counts(plan.rows, row)
        products(codes, first, last, wanted, queries, scores)
        _, _, taken = _bound(scores, first, first, last, codes.residuals, queries, plan, low, high)
        # A row below the least of the best m lower bounds is not among the best m.
        needed = _LOWEST if cover else low[min(taken, plan.best) - 1]
        for row in range(first, last):
            at = row - first
            if wanted[at]:
                wanted[at] = _matters(
                    scores[:, at], queries, plan, codes.residuals[row], low, needed
                )
                read += wanted[at]
        values[place], winners[place] = _score(
            vectors, first, wanted[: last - first], examples, plan, exact, high
        )
    return read
