"""Two passes over codes: compiled loops.

The first pass bounds every row and decides nothing: by its upper bits, here, or group by group by
all bits or by principal components (`analytics.scanning.tops`); `analytics.scanning.firstpass`
chooses. Then it is known about
what the k-th best listing will have, and the second one scores the rows that reach that: far fewer
than reach what a single pass (`analytics.scanning.sweep`) has found by the time that it comes to
them.
"""

# Compiled loops take many arrays, by position.
# ruff: noqa: PLR0917

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analytics.compiler import compiled
from analytics.scanning.bounds import LOWEST, counts, planned
from analytics.scanning.codes import Codes, QueryCodes, ShortCodes
from analytics.scanning.components import ComponentCodes, sift
from analytics.scanning.notes import Found
from analytics.scanning.products import chosen_products, high_products, scratch
from analytics.scanning.sweep import Run, all_masked, note_best, owner, stop_of, want
from analytics.scanning.vectorcode import REACHED, lowest, reached

_ROWS = 8192
"""Rows after which the second pass looks at what it has found."""

_TILE = 512
"""Rows that the first pass scores at a time: their products stay in the nearest caches."""

_SPARSE = 16
"""Where at most one row in so many counts, bounding them roughly first is not worth it."""

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
    place: int,
) -> int:
    """Bound the scores of the rows of listings first to last from above.

    `listings`, `numbers`: as `sweep.scan` has them, of plans that are `MAX` without negatives.
    Fills `uppers` float32 (A, R) from column `place` on, with -inf for rows that do not count.
    Returns the number of rows whose codes were read.
    """
    begin, behind = listings[first], listings[last]
    plans = [planned(numbers[at]) for at in range(numbers.shape[0])]
    wanted = np.ones(behind - begin, np.uint8)
    if all_masked(plans):
        want(listings, first, last, plans, wanted)
    rough = np.empty((short.values.shape[0], _TILE), np.float32)
    done = 0
    for shift in range(begin, behind, _TILE):
        end = min(shift + _TILE, behind)
        done += high_products(codes, shift, end, wanted[shift - begin :], short, rough)
        lost = codes.coarse[shift:end]
        for ask in range(len(plans)):
            plan = plans[ask]
            own = uppers[ask, place + shift - begin : place + end - begin]
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
                    uppers[ask, place + row - begin] = LOWEST
    return done


@compiled
def only_pass(
    codes: Codes,
    listings: NDArray[np.int64],
    task: tuple[int, int, int, int],
    queries: QueryCodes,
    numbers: NDArray[np.int64],
    found: Found,
) -> int:
    """Note what a task has where so few rows count that each is scored by all of its codes.

    Returns how many there were; -1, and nothing is noted, where more count.
    """
    first, last, listing_base, row_base = task
    begin, behind = listings[first], listings[last]
    plans = [planned(numbers[at]) for at in range(numbers.shape[0])]
    if not all_masked(plans):
        return -1
    # A multiple of eight, so that it can be looked at eight rows at a time.
    wanted = np.zeros((behind - begin + 7) // 8 * 8, np.uint8)
    want(listings, first, last, plans, wanted[: behind - begin])
    places = _chosen(wanted)
    if places.size * _SPARSE > behind - begin:
        return -1
    run = Run(first, last, begin, behind, listing_base, row_base)
    joined, own = scratch(codes), np.empty(places.size, np.int64)
    scores = np.empty((queries.values.shape[0], behind - begin), np.float32)
    for ask in range(len(plans)):
        plan, count = plans[ask], 0
        for place in places:
            if counts(plan.rows, begin + place):
                own[count] = place
                count += 1
        chosen_products(codes, begin, own[:count], queries, plan.start, plan.middle, joined, scores)
        note_best(scores, own[:count], listings, run, codes.residuals, queries, plan, ask, found)
    return places.size


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
def second_pass(
    codes: Codes,
    listings: NDArray[np.int64],
    task: tuple[int, int, int, int],
    queries: QueryCodes,
    numbers: NDArray[np.int64],
    uppers: NDArray[np.float32],
    place: int,
    group: int,
    least: NDArray[np.float32],
    components: ComponentCodes,
    rough: ShortCodes,
    where: NDArray[np.int64],
    found: Found,
) -> int:
    """Note what a task has, as `sweep.scan` does, where upper bounds reach the limits.

    `uppers` float32 (A, G), from column `place` on: one for each `group` rows of the task; those
    below `least` float32 (A,) are passed over, too. Where there are `components` each row of a
    group is bounded by them, and by the queries as these take them, before it is scored. Goes on
    from the listing and ask that `where` int64 (2,) says. Returns 0, or for how many more listings
    there must be room first.
    """
    first, last, listing_base, row_base = task
    start = listings[first]
    joined = scratch(codes)
    places, groups = np.empty(_ROWS, np.int64), np.empty(_ROWS + 2, np.int64)
    scores = np.empty((queries.values.shape[0], _ROWS), np.float32)
    at = where[0]
    while at < last:
        shift, stop = listings[at], stop_of(listings, at, last, _ROWS)
        end = listings[stop]
        if end - shift > places.size:
            places, groups = np.empty(end - shift, np.int64), np.empty(end - shift + 2, np.int64)
            scores = np.empty((queries.values.shape[0], end - shift), np.float32)
        run = Run(at, stop, shift, end, listing_base, row_base)
        # The groups that have rows of the run; the first and the last may have others, too.
        begin, behind = (shift - start) // group, (end - start + group - 1) // group
        for ask in range(where[1], numbers.shape[0]):
            plan, count = planned(numbers[ask]), 0
            limit = max(found.limits[ask], least[ask])
            reaching = _reaching(uppers, ask, place + begin, place + behind, limit, groups)
            listing = run.first
            for each in groups[:reaching]:
                lower = start + (begin + each) * group
                for row in range(max(lower, shift), min(lower + group, end)):
                    if plan.listings != 0:
                        listing = owner(listings, listing, row)
                    if counts(plan.rows, row) and counts(plan.listings, listing):
                        places[count] = row - shift
                        count += 1
            if count > 0 and components.scales.size > 0:
                count = sift(
                    components, shift, places[:count], rough, plan.start, plan.middle, limit
                )
            if count == 0:
                continue
            if found.counts[ask] + count > found.upper.shape[1]:
                where[0], where[1] = at, ask
                return count
            reached = places[:count]
            chosen_products(codes, shift, reached, queries, plan.start, plan.middle, joined, scores)
            note_best(scores, reached, listings, run, codes.residuals, queries, plan, ask, found)
        at, where[1] = stop, 0
    return 0


@compiled
def _reaching(
    uppers: NDArray[np.float32],
    ask: int,
    first: int,
    last: int,
    limit: np.float32,
    places: NDArray[np.int64],
) -> int:
    """Fill `places` with the columns first to last, less first, of an ask that reach a limit.

    -inf never reaches one. Returns how many do.
    """
    count, least = 0, max(limit, _FINITE)
    address = uppers.ctypes.data + 4 * (ask * uppers.shape[1] + first)
    whole = (last - first) // REACHED * REACHED
    for start in range(0, whole, REACHED):
        bits = reached(address + 4 * start, least)
        while bits != 0:
            places[count] = start + np.int64(lowest(bits))
            count += 1
            bits = bits & (bits - np.uint64(1))
    for at in range(whole, last - first):
        if uppers[ask, first + at] >= least:
            places[count] = at
            count += 1
    return count
