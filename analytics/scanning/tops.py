"""Upper bounds of groups of rows: compiled loops.

All that is coded is read once for all queries. A bound is kept for eight rows, not for each:
what is written then is a small part of what is read.
"""

# Compiled loops take many arrays, by position.
# ruff: noqa: PLR0917

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analytics.compiler import compiled
from analytics.scanning.bounds import LOWEST, planned
from analytics.scanning.codes import Codes, QueryCodes, ShortCodes
from analytics.scanning.components import ComponentCodes, component_products
from analytics.scanning.products import products, scratch, short_products
from analytics.scanning.vectorcode import PEAK, peak

GROUP = PEAK
"""Rows of a group, which lie side by side."""

_ROWS = 16 * GROUP
"""Rows scored at a time: their products stay in the nearest cache."""


@compiled
def fill(
    codes: Codes,
    begin: int,
    behind: int,
    short: ShortCodes,
    numbers: NDArray[np.int64],
    uppers: NDArray[np.float32],
    place: int,
) -> None:
    """Bound the scores of rows begin to behind, group by group, whether they count or not.

    `numbers` int64 (A, 7): plans that are `MAX` without negatives. Fills `uppers` float32 (A, G)
    from column `place` on, one for each `GROUP` rows.
    """
    wanted, room = np.ones(_ROWS, np.uint8), scratch(codes)
    rough, lost = np.empty((short.values.shape[0], _ROWS), np.float32), np.empty(_ROWS, np.float32)
    for shift in range(begin, behind, _ROWS):
        end = min(shift + _ROWS, behind)
        short_products(codes, shift, end, wanted, short, room, rough)
        column = place + (shift - begin) // GROUP
        _keep_best(rough, lost, codes.residuals, shift, end, short, numbers, uppers, column)


@compiled
def fill_finely(
    codes: Codes,
    begin: int,
    behind: int,
    queries: QueryCodes,
    numbers: NDArray[np.int64],
    uppers: NDArray[np.float32],
    place: int,
) -> None:
    """`fill` by int16 queries: slower, and the bounds are nearly as tight as codes allow."""
    count = queries.values.shape[0]
    wanted, room = np.ones(_ROWS, np.uint8), scratch(codes)
    fine, lost = np.empty((count, _ROWS), np.float32), np.empty(_ROWS, np.float32)
    for shift in range(begin, behind, _ROWS):
        end = min(shift + _ROWS, behind)
        products(codes, shift, end, wanted, queries, 0, count, room, fine)
        column = place + (shift - begin) // GROUP
        _keep_best(fine, lost, codes.residuals, shift, end, queries, numbers, uppers, column)


@compiled
def fill_roughly(
    codes: ComponentCodes,
    begin: int,
    behind: int,
    short: ShortCodes,
    numbers: NDArray[np.int64],
    uppers: NDArray[np.float32],
    place: int,
) -> None:
    """`fill` by the components of rows; `short` are of `Components.asked`."""
    rough, lost = np.empty((short.values.shape[0], _ROWS), np.float32), np.empty(_ROWS, np.float32)
    for shift in range(begin, behind, _ROWS):
        end = min(shift + _ROWS, behind)
        component_products(codes, shift, end, short, rough)
        column = place + (shift - begin) // GROUP
        _keep_best(rough, lost, codes.rests, shift, end, short, numbers, uppers, column)


@compiled
def _keep_best(
    found: NDArray[np.float32],
    lost: NDArray[np.float32],
    residuals: NDArray[np.float32],
    first: int,
    last: int,
    queries: QueryCodes | ShortCodes,
    numbers: NDArray[np.int64],
    uppers: NDArray[np.float32],
    place: int,
) -> None:
    """Fill `uppers` from column `place` on with the best bounds of the groups of some rows.

    `found` float32 (Q, R): scores of rows first to last; `lost` float32 (R,): scratch.
    """
    count = last - first
    lost[:count] = residuals[first:last]
    # Rows that are not there have no bound.
    found[:, count:] = LOWEST
    lost[count:] = 0
    groups = (count + GROUP - 1) // GROUP
    scores, losses, rows = found.ctypes.data, lost.ctypes.data, lost.size
    for ask in range(numbers.shape[0]):
        plan = planned(numbers[ask])
        for column in range(plan.start, plan.middle):
            offset, slope = queries.offsets[column], queries.slopes[column]
            for group in range(groups):
                at = GROUP * group
                own = peak(scores + 4 * (column * rows + at), losses + 4 * at, slope) + offset
                if column == plan.start or own > uppers[ask, place + group]:
                    uppers[ask, place + group] = own


@compiled
def peaks(
    uppers: NDArray[np.float32],
    first: int,
    last: int,
    out: NDArray[np.float32],
    place: int,
    count: int,
) -> None:
    """Fill `out` float32 (A, P) from column `place` on with `count` maxima of `uppers` (A, G).

    The first is that of columns first, first + count, and so on to the last: bounds that lie side
    by side are often high together.
    """
    for ask in range(uppers.shape[0]):
        most = out[ask, place : place + count]
        most[:] = LOWEST
        for start in range(first, last, count):
            own = uppers[ask, start : min(start + count, last)]
            for at in range(own.size):
                most[at] = max(most[at], own[at])
