"""One sweep over the codes of a block for all queries of a scan: compiled loops.

A rough pass reads the upper bits of the codes, or all of them with short queries, and leaves few
rows; those are scored by all that is coded. A listing whose upper bound reaches what its query
has found already is noted; `analytics.scanning.bounds` says how bounds of rows bound listings.
"""

# Compiled loops take many arrays, by position.
# ruff: noqa: PLR0917

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analytics.compiler import compiled
from analytics.scanning.bounds import LOWEST, MAX, Plan, bound, byte, counts, kept_of, planned
from analytics.scanning.codes import Codes, QueryCodes, ShortCodes, encode_shortly
from analytics.scanning.notes import Found, note
from analytics.scanning.products import (
    chosen_products,
    fetch_low,
    high_products,
    products,
    scratch,
    short_products,
    short_queries,
)

_ROWS = 128
"""Rows scored at a time: their products stay in the nearest cache."""

MANY = 4
"""Queries from which on both planes are read: their arithmetic takes longer than that."""

_TOGETHER = 16
"""Rows that are compared with a limit at a time."""

_OFTEN = 0.5
_RUNS = 16
"""Where a rough pass leaves more than this share of rows, so many runs are scored without one."""


Room = tuple[
    NDArray[np.uint8],
    NDArray[np.uint8],
    NDArray[np.int64],
    NDArray[np.float32],
    NDArray[np.float32],
]


class Run(NamedTuple):
    """Listings of a block that are scored together.

    Listings `first` to `last`; `shift` is their first row and `end` the one behind, `listing` and
    `row` are the numbers of the block's first ones.
    """

    first: int
    last: int
    shift: int
    end: int
    listing: int
    row: int


def rough(queries: NDArray[np.float32]) -> ShortCodes:
    """Code queries float32 (Q, D), unit L2 norm, as the first look at so many takes them."""
    return (encode_shortly if len(queries) < MANY else short_queries)(queries)


@compiled
def _room(queries: int, rows: int) -> Room:
    """Scratch for runs of at most so many rows.

    Which are wanted, and which kept, uint8 (R,), places int64 (R,), scores and rough ones float32
    (Q, R). Not a named tuple: whatever reads one of its arrays counts references, run by run.
    """
    return (
        np.ones(rows, np.uint8),
        np.ones(rows, np.uint8),
        np.empty(rows, np.int64),
        np.zeros((queries, rows), np.float32),
        np.zeros((queries, rows), np.float32),
    )


@compiled
def all_masked(plans: list[Plan]) -> bool:
    """Whether there may be rows that count for no plan."""
    masked = True
    for plan in plans:
        masked = masked and (plan.rows != 0 or plan.listings != 0)
    return masked


@compiled
def want(
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
                wanted[row - shift] |= byte(plan.rows + row) if plan.rows != 0 else 1
            continue
        for listing in range(first, last):
            if not counts(plan.listings, listing):
                continue
            for row in range(listings[listing], listings[listing + 1]):
                if counts(plan.rows, row):
                    wanted[row - shift] = 1


@compiled
def _reaching(
    scores: NDArray[np.float32],
    lost: NDArray[np.float32],
    queries: QueryCodes | ShortCodes,
    plans: list[Plan],
    limits: NDArray[np.float32],
    asks: NDArray[np.int64],
) -> int:
    """Fill `asks` with the plans that have to look at a run: upper bounds reach their limits.

    `scores` (Q, >= R) and `lost` (R,), the rows' residuals, are of the run. Scores that were not
    computed are left from other rows: they can only bring a plan in. Returns how many there are.
    """
    reaching = 0
    for ask in range(len(plans)):
        plan = plans[ask]
        count = 0
        if plan.aggregate != MAX or plan.end > plan.middle:
            count = 1
        for column in range(plan.start, plan.middle if count == 0 else plan.start):
            own, slope = scores[column], queries.slopes[column]
            least = limits[ask] - queries.offsets[column]
            # A sum of comparisons is made sixteen rows at a time, a maximum is not.
            for row in range(lost.size):
                count += own[row] + slope * lost[row] >= least
        if count > 0:
            asks[reaching] = ask
            reaching += 1
    return reaching


@compiled
def near(
    scores: NDArray[np.float32],
    lost: NDArray[np.float32],
    queries: QueryCodes | ShortCodes,
    plan: Plan,
    limit: np.float32,
    wanted: NDArray[np.uint8],
    shift: int,
    places: NDArray[np.int64],
) -> int:
    """Fill `places` with the rows of a run that count and reach a limit; how many.

    `scores` (Q, >= R) and `lost` (R,), the rows' residuals, are of the run, which begins with row
    `shift`.
    """
    count = 0
    for start in range(0, lost.size, _TOGETHER):
        end = min(start + _TOGETHER, lost.size)
        some = 0
        for column in range(plan.start, plan.middle):
            own, slope = scores[column], queries.slopes[column]
            least = limit - queries.offsets[column]
            for at in range(start, end):
                some += own[at] + slope * lost[at] >= least
        if some == 0:
            continue
        for at in range(start, end):
            reaches = False
            for column in range(plan.start, plan.middle):
                least = limit - queries.offsets[column]
                upper = scores[column, at] + queries.slopes[column] * lost[at]
                reaches = reaches or upper >= least
            if reaches and wanted[at] != 0 and counts(plan.rows, shift + at):
                places[count] = at
                count += 1
    return count


@compiled
def owner(listings: NDArray[np.int64], listing: int, row: int) -> int:
    """The listing of a row, which is `listing` or a later one: the steps grow, then halve."""
    step = 1
    while listing + step < listings.size - 1 and listings[listing + step] <= row:
        listing += step
        step *= 2
    while step > 0:
        if listing + step < listings.size - 1 and listings[listing + step] <= row:
            listing += step
        step //= 2
    return listing


@compiled
def note_best(
    scores: NDArray[np.float32],
    places: NDArray[np.int64],
    listings: NDArray[np.int64],
    run: Run,
    residuals: NDArray[np.float32],
    queries: QueryCodes,
    plan: Plan,
    ask: int,
    found: Found,
) -> None:
    """Note listings of a run for `MAX` without negatives.

    `places` int64 (C,): rows that may count and were scored; all others are below the limit.
    """
    at, listing = 0, run.first
    while at < places.size:
        listing = owner(listings, listing, run.shift + places[at])
        end = listings[listing + 1] - run.shift
        # The best upper bound and the next one, the best lower bound, and whose the first is.
        most = second = least = LOWEST
        only = -1
        while at < places.size and places[at] < end:
            place = places[at]
            upper = lower = LOWEST
            for column in range(plan.start, plan.middle):
                error = queries.offsets[column]
                error += queries.slopes[column] * residuals[run.shift + place]
                upper = max(upper, scores[column, place] + error)
                lower = max(lower, scores[column, place] - error)
            if upper > most:
                second, most, only = most, upper, place
            else:
                second = max(second, upper)
            least = max(least, lower)
            at += 1
        if most >= found.limits[ask] and counts(plan.listings, listing):
            row = run.row + run.shift + only if second < least else -1
            note(found, ask, run.listing + listing, row, least, most)


@compiled
def _note_any(
    scores: NDArray[np.float32],
    kept: NDArray[np.uint8],
    listings: NDArray[np.int64],
    run: Run,
    residuals: NDArray[np.float32],
    queries: QueryCodes,
    plan: Plan,
    ask: int,
    found: Found,
) -> None:
    """Note listings of a run, whatever the plan; `kept` (uint8): those whose rows were scored."""
    low, high = np.empty(kept_of(plan), np.float32), np.empty(kept_of(plan), np.float32)
    for listing in range(run.first, run.last):
        if not kept[listings[listing] - run.shift] or not counts(plan.listings, listing):
            continue
        least, most, taken = bound(
            scores, run.shift, listings[listing], listings[listing + 1], residuals, queries, plan,
            low, high,
        )  # fmt: skip
        if taken and most >= found.limits[ask]:
            note(found, ask, run.listing + listing, -1, least, most)


@compiled
def _keep_listings(
    scores: NDArray[np.float32],
    listings: NDArray[np.int64],
    run: Run,
    residuals: NDArray[np.float32],
    queries: ShortCodes,
    plan: Plan,
    limit: np.float32,
    kept: NDArray[np.uint8],
) -> int:
    """Mark all rows of the listings of a run that reach a limit; how many."""
    low, high = np.empty(kept_of(plan), np.float32), np.empty(kept_of(plan), np.float32)
    count = 0
    for listing in range(run.first, run.last):
        start, end = listings[listing], listings[listing + 1]
        marked = 0
        if counts(plan.listings, listing):
            _, most, taken = bound(
                scores, run.shift, start, end, residuals, queries, plan, low, high
            )
            marked = 1 if taken > 0 and most >= limit else 0
        kept[start - run.shift : end - run.shift] = marked
        count += (end - start) * marked
    return count


@compiled
def _best_rows(
    codes: Codes,
    listings: NDArray[np.int64],
    run: Run,
    queries: QueryCodes,
    short: ShortCodes,
    residuals: NDArray[np.float32],
    roughly: bool,
    plan: Plan,
    ask: int,
    wanted: NDArray[np.uint8],
    places: NDArray[np.int64],
    joined: NDArray[np.uint8],
    scores: NDArray[np.float32],
    rough: NDArray[np.float32],
    found: Found,
) -> int:
    """Note what a run has for `MAX` without negatives; how many rows the rough pass left."""
    shift, limit = run.shift, found.limits[ask]
    lost = residuals[shift : run.end]
    if roughly:
        count = near(rough, lost, short, plan, limit, wanted, shift, places)
        if count == 0:
            return 0
        for place in places[:count]:
            fetch_low(codes, shift + place)
        chosen_products(
            codes, shift, places[:count], queries, plan.start, plan.middle, joined, scores
        )
    else:
        count = near(scores, lost, queries, plan, limit, wanted, shift, places)
    note_best(scores, places[:count], listings, run, codes.residuals, queries, plan, ask, found)
    return count


@compiled
def _any_rows(
    codes: Codes,
    listings: NDArray[np.int64],
    run: Run,
    queries: QueryCodes,
    short: ShortCodes,
    residuals: NDArray[np.float32],
    roughly: bool,
    plan: Plan,
    ask: int,
    kept: NDArray[np.uint8],
    joined: NDArray[np.uint8],
    scores: NDArray[np.float32],
    rough: NDArray[np.float32],
    found: Found,
) -> int:
    """Note what a run has, whatever the plan; how many rows the rough pass left."""
    kept[:] = 1
    count = 0
    if roughly:
        count = _keep_listings(
            rough, listings, run, residuals, short, plan, found.limits[ask], kept
        )
        if count == 0:
            return 0
        products(codes, run.shift, run.end, kept, queries, plan.start, plan.end, joined, scores)
    _note_any(scores, kept, listings, run, codes.residuals, queries, plan, ask, found)
    return count


@compiled
def stop_of(listings: NDArray[np.int64], first: int, last: int, rows: int) -> int:
    """Where a run of listings from `first` on ends, of at most `rows` rows or of one listing."""
    stop = first + 1
    while stop < last and listings[stop + 1] - listings[first] <= rows:
        stop += 1
    return stop


@compiled
def scan(
    codes: Codes,
    listings: NDArray[np.int64],
    task: tuple[int, int, int, int],
    queries: QueryCodes,
    short: ShortCodes,
    numbers: NDArray[np.int64],
    found: Found,
) -> int:
    """Bound listings of a block for all queries in one pass over their codes.

    `listings` int64 (L + 1): listing l owns rows listings[l] to listings[l + 1]. `task`: the first
    listing and the last, and the numbers of the block's first listing and row. `queries` and
    `short` are the same ones, `numbers` int64 (A, 7) the plans. A rough pass over the upper bits,
    or by short queries, leaves few rows to be scored by all of their codes. A listing whose upper
    bound reaches its plan's limit is noted in `found`; limits rise to the k-th best lower bound
    seen. Returns the number of rows whose codes were read.
    """
    first, last, listing_base, row_base = task
    plans = [planned(numbers[at]) for at in range(numbers.shape[0])]
    masked = all_masked(plans)
    count = queries.values.shape[0]
    joined = scratch(codes)
    wanted, kept, places, scores, rough = _room(count, _ROWS)
    asks = np.empty(len(plans), np.int64)
    done, rest, at = 0, 0, first
    while at < last:
        shift, stop = listings[at], stop_of(listings, at, last, _ROWS)
        end = listings[stop]
        if end - shift > wanted.size:
            wanted, kept, places, scores, rough = _room(count, end - shift)
        run = Run(at, stop, shift, end, listing_base, row_base)
        at = stop
        if masked:
            want(listings, run.first, stop, plans, wanted[: end - shift])
        residuals, roughly = codes.residuals, rest == 0
        if not roughly:
            rest -= 1
            lost = residuals[shift:end]
            scored = products(codes, shift, end, wanted, queries, 0, count, joined, scores)
            reaching = _reaching(scores, lost, queries, plans, found.limits, asks)
        else:
            if count >= MANY:
                scored = short_products(codes, shift, end, wanted, short, joined, rough)
            else:
                residuals = codes.coarse
                scored = high_products(codes, shift, end, wanted, short, rough)
            reaching = _reaching(rough, residuals[shift:end], short, plans, found.limits, asks)
        done += scored
        if scored == 0:
            continue
        left = 0
        for ask in asks[:reaching]:
            plan = plans[ask]
            if plan.aggregate == MAX and plan.end == plan.middle:
                left += _best_rows(
                    codes, listings, run, queries, short, residuals, roughly, plan, ask, wanted,
                    places, joined, scores, rough, found,
                )  # fmt: skip
            else:
                left += _any_rows(
                    codes, listings, run, queries, short, residuals, roughly, plan, ask,
                    kept[: end - shift], joined, scores, rough, found,
                )  # fmt: skip
        if roughly and left > _OFTEN * scored * len(plans):
            rest = _RUNS
    return done
