"""Two passes over codes for few queries: compiled loops.

The first pass bounds every row by its upper bits and decides nothing. Then it is known about what
the k-th best listing will have, and the second one scores the rows that reach that: far fewer than
reach what a single pass (`analytics.sweep`) has found by the time that it comes to them.
"""

# Compiled loops take many arrays, by position.
# ruff: noqa: PLR0917

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analytics.bounds import LOWEST, Plan, counts, planned
from analytics.codes import Codes, QueryCodes, ShortCodes
from analytics.compiler import compiled
from analytics.notes import Found
from analytics.products import chosen_high_products, chosen_products, high_products, scratch
from analytics.sweep import Run, all_masked, note_best, stop_of, want

_ROWS = 8192
"""Rows after which the second pass looks at what it has found."""

_TILE = 512
"""Rows that the first pass scores at a time: their products stay in the nearest caches."""

_SPARSE = 4
"""Where fewer than one row in so many counts, rows are read one by one."""

_TOGETHER = 16
"""Rows that are compared with a limit at a time."""

_FINITE = np.finfo(np.float32).min


@compiled
def first_pass(
    codes: Codes,
    listings: NDArray[np.int64],
    first: int,
    last: int,
    short: ShortCodes,
    numbers: NDArray[np.int64],
    uppers: NDArray[np.float32],
) -> int:
    """Bound the scores of the rows of listings first to last from above.

    `listings`, `numbers`: as `sweep.scan` has them, of plans that are `MAX` without negatives.
    Fills `uppers` float32 (A, R), with -inf for rows that do not count. Returns the number of rows
    whose codes were read.
    """
    begin, behind = listings[first], listings[last]
    plans = [planned(numbers[at]) for at in range(numbers.shape[0])]
    masked = all_masked(plans)
    # A multiple of eight, so that it can be looked at eight rows at a time.
    wanted = np.zeros((behind - begin + 7) // 8 * 8, np.uint8)
    if masked:
        want(listings, first, last, plans, wanted[: behind - begin])
        places = _chosen(wanted)
        if places.size * _SPARSE <= behind - begin:
            _bound_some(codes, listings, first, places, short, plans, uppers)
            return places.size
    else:
        wanted[:] = 1
    return _bound_all(codes, listings, first, last, wanted, short, plans, uppers)


@compiled
def _chosen(wanted: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Places of what is not 0."""
    count = 0
    for at in range(wanted.size):
        count += wanted[at] != 0
    places = np.empty(count, np.int64)
    words, count = wanted.view(np.uint64), 0
    for word in range(words.size):
        if words[word] != 0:
            for at in range(8 * word, 8 * word + 8):
                if wanted[at] != 0:
                    places[count] = at
                    count += 1
    return places


@compiled
def _bound_some(
    codes: Codes,
    listings: NDArray[np.int64],
    first: int,
    places: NDArray[np.int64],
    short: ShortCodes,
    plans: list[Plan],
    uppers: NDArray[np.float32],
) -> None:
    """Fill `uppers` where few rows count, those at `places`, for any plan."""
    begin, queries = listings[first], short.values.shape[0]
    rough = np.empty((queries, places.size), np.float32)
    chosen_high_products(codes, begin, places, short, rough)
    for ask in range(len(plans)):
        plan, own, listing = plans[ask], uppers[ask], first
        own[:] = LOWEST
        for at in range(places.size):
            row = begin + places[at]
            while listings[listing + 1] <= row:
                listing += 1
            if not (counts(plan.listings, listing) and counts(plan.rows, row)):
                continue
            for column in range(plan.start, plan.middle):
                error = short.offsets[column] + short.slopes[column] * codes.coarse[row]
                own[places[at]] = max(own[places[at]], rough[column, at] + error)


@compiled
def _bound_all(
    codes: Codes,
    listings: NDArray[np.int64],
    first: int,
    last: int,
    wanted: NDArray[np.uint8],
    short: ShortCodes,
    plans: list[Plan],
    uppers: NDArray[np.float32],
) -> int:
    """Fill `uppers` tile by tile; how many rows were read."""
    begin, behind = listings[first], listings[last]
    rough = np.empty((short.values.shape[0], _TILE), np.float32)
    done = 0
    for shift in range(begin, behind, _TILE):
        end = min(shift + _TILE, behind)
        done += high_products(codes, shift, end, wanted[shift - begin :], short, rough)
        lost = codes.coarse[shift:end]
        for ask in range(len(plans)):
            plan, own = plans[ask], uppers[ask, shift - begin : end - begin]
            own[:] = LOWEST
            for column in range(plan.start, plan.middle):
                scores, offset, slope = rough[column], short.offsets[column], short.slopes[column]
                for at in range(own.size):
                    own[at] = max(own[at], scores[at] + (offset + slope * lost[at]))
    for ask in range(len(plans)):
        plan = plans[ask]
        if plan.listings == 0 and plan.rows == 0:
            continue
        for listing in range(first, last):
            eligible = counts(plan.listings, listing)
            for row in range(listings[listing], listings[listing + 1]):
                if not (eligible and counts(plan.rows, row)):
                    uppers[ask, row - begin] = LOWEST
    return done


@compiled
def second_pass(
    codes: Codes,
    listings: NDArray[np.int64],
    task: tuple[int, int, int, int],
    queries: QueryCodes,
    numbers: NDArray[np.int64],
    uppers: NDArray[np.float32],
    found: Found,
) -> None:
    """Note what a task has, as `sweep.scan` does; `uppers` float32 (A, R) are the first pass's."""
    first, last, listing_base, row_base = task
    start = listings[first]
    joined = scratch(codes)
    places = np.empty(_ROWS, np.int64)
    scores = np.empty((queries.values.shape[0], _ROWS), np.float32)
    at = first
    while at < last:
        shift, stop = listings[at], stop_of(listings, at, last, _ROWS)
        end = listings[stop]
        if end - shift > places.size:
            places = np.empty(end - shift, np.int64)
            scores = np.empty((queries.values.shape[0], end - shift), np.float32)
        run = Run(at, stop, shift, end, listing_base, row_base)
        at = stop
        for ask in range(numbers.shape[0]):
            plan, own = planned(numbers[ask]), uppers[ask, shift - start : end - start]
            reached = places[: _reaching(own, found.limits[ask], places)]
            if reached.size == 0:
                continue
            chosen_products(codes, shift, reached, queries, plan.start, plan.middle, joined, scores)
            note_best(scores, reached, listings, run, codes.residuals, queries, plan, ask, found)


@compiled
def _reaching(uppers: NDArray[np.float32], limit: np.float32, places: NDArray[np.int64]) -> int:
    """Fill `places` with the rows that reach a limit, which -inf never does; how many."""
    count, least = 0, max(limit, _FINITE)
    for start in range(0, uppers.size, _TOGETHER):
        some = 0
        for at in range(start, min(start + _TOGETHER, uppers.size)):
            some += uppers[at] >= least
        if some == 0:
            continue
        for at in range(start, min(start + _TOGETHER, uppers.size)):
            if uppers[at] >= least:
                places[count] = at
                count += 1
    return count
