"""Products of coded rows with coded queries: compiled loops over tiles."""

# Compiled loops take many arrays, by position.
# ruff: noqa: PLR0917

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analytics.compiler import compiled
from analytics.scanning.codes import Codes, QueryCodes, ShortCodes, encode_shortly
from analytics.scanning.processor import UNIT
from analytics.scanning.vectorcode import BOTH, HIGH, fetch, fine_tile, joined_rows, rough_tile

_TOGETHER, _ASKED = 4, UNIT.queries
"""Rows and queries of a tile."""

_AHEAD = 16
"""Rows: while some are read, the memory of later ones is fetched."""

_LATER = 8
"""Rows: the same, where they lie far from each other."""

_join, _join_row = (joined_rows(rows, signed=True, ahead=_AHEAD) for rows in (_TOGETHER, 1))
_join_near = joined_rows(_TOGETHER, signed=True)
_add, _add_row = (joined_rows(rows, signed=False, ahead=_AHEAD) for rows in (_TOGETHER, 1))
_tile, _row, _query, _one = (
    fine_tile(rows, queries) for queries in (_ASKED, 1) for rows in (_TOGETHER, 1)
)
_rough, _rough_row, _rough_query, _rough_one = (
    rough_tile(rows, queries, BOTH) for queries in (_ASKED, 1) for rows in (_TOGETHER, 1)
)
_high, _high_row = (rough_tile(rows, 1, HIGH, ahead=_AHEAD) for rows in (_TOGETHER, 1))


def short_queries(queries: NDArray[np.float32]) -> ShortCodes:
    """Code queries float32 (Q, D), unit L2 norm, for `short_products` on this CPU."""
    return encode_shortly(queries, UNIT.levels)


@compiled
def fetch_low(codes: Codes, row: int) -> None:
    """Bring the lower plane of a row nearer, which `chosen_products` is about to read."""
    size = codes.low.shape[1]
    start = codes.low.ctypes.data + row * size
    for at in range(0, size, 64):
        fetch(start + at)


@compiled
def fetch_planes(codes: Codes, row: int) -> None:
    """Bring both planes of a row nearer, which `chosen_products` reads later."""
    size = codes.low.shape[1]
    high, low = codes.high.ctypes.data + row * size, codes.low.ctypes.data + row * size
    for at in range(0, size, 64):
        fetch(high + at)
        fetch(low + at)


@compiled
def _several(wanted: NDArray[np.uint8], place: int, left: int) -> bool:
    """Whether a tile of rows begins at a place of `wanted`, `left` rows before the end."""
    together = left >= _TOGETHER
    if together:
        for at in range(1, _TOGETHER):
            together = together and wanted[place + at] != 0
    return together


@compiled
def scratch(codes: Codes) -> NDArray[np.uint8]:
    """Room for the joined planes of a tile of rows."""
    return np.empty(_TOGETHER * 2 * codes.high.shape[1], np.uint8)


@compiled
def products(
    codes: Codes,
    first: int,
    last: int,
    wanted: NDArray[np.uint8],
    queries: QueryCodes,
    start: int,
    stop: int,
    room: NDArray[np.uint8],
    out: NDArray[np.float32],
) -> int:
    """Score rows first to last with queries start to stop: `out` float32 (Q, >= last - first).

    All arrays are contiguous. Rows of which `wanted` (uint8, one a row from `first` on) is 0 are
    passed over. `room`: scratch, as `scratch` makes it. Returns how many were scored.
    """
    half = codes.high.shape[1]
    size, joined = 2 * half, room.ctypes.data
    whole = stop - (stop - start) % _ASKED
    high, low, scales = codes.high.ctypes.data, codes.low.ctypes.data, codes.scales.ctypes.data
    columns, asked = queries.values.ctypes.data, queries.scales.ctypes.data
    found, stride = out.ctypes.data, 4 * out.shape[1]
    done, row = 0, first
    while row < last:
        place = row - first
        if not wanted[place]:
            row += 1
            continue
        together = _several(wanted, place, last - row)
        up, down, own = high + row * half, low + row * half, scales + 4 * row
        if together:
            _join(up, down, half, joined)
        else:
            _join_row(up, down, half, joined)
        for query in range(start, whole, _ASKED):
            values, scale = columns + 2 * query * size, asked + 4 * query
            target = found + query * stride + 4 * place
            if together:
                _tile(joined, values, size, own, scale, target, stride)
            else:
                _row(joined, values, size, own, scale, target, stride)
        for query in range(whole, stop):
            values, scale = columns + 2 * query * size, asked + 4 * query
            target = found + query * stride + 4 * place
            if together:
                _query(joined, values, size, own, scale, target, stride)
            else:
                _one(joined, values, size, own, scale, target, stride)
        taken = _TOGETHER if together else 1
        done += taken
        row += taken
    return done


@compiled
def chosen_products(
    codes: Codes,
    shift: int,
    places: NDArray[np.int64],
    queries: QueryCodes,
    start: int,
    stop: int,
    room: NDArray[np.uint8],
    out: NDArray[np.float32],
) -> None:
    """Score a few rows, those at `shift` + `places` int64 (C,), ascending, as `products`.

    The score of a row and a query is out[query, place].
    """
    half = codes.high.shape[1]
    size, joined = 2 * half, room.ctypes.data
    whole = stop - (stop - start) % _ASKED
    high, low, scales = codes.high.ctypes.data, codes.low.ctypes.data, codes.scales.ctypes.data
    columns, asked = queries.values.ctypes.data, queries.scales.ctypes.data
    found, stride = out.ctypes.data, 4 * out.shape[1]
    at = 0
    while at < places.size:
        place, taken = places[at], 1
        if at + _TOGETHER <= places.size and places[at + _TOGETHER - 1] - place == _TOGETHER - 1:
            taken = _TOGETHER
        for later in range(at + _LATER, min(at + _LATER + taken, places.size)):
            fetch_planes(codes, shift + places[later])
        row = shift + place
        own = scales + 4 * row
        if taken > 1:
            _join_near(high + row * half, low + row * half, half, joined)
        else:
            _join_row(high + row * half, low + row * half, half, joined)
        for query in range(start, whole, _ASKED):
            values, scale = columns + 2 * query * size, asked + 4 * query
            target = found + query * stride + 4 * place
            if taken > 1:
                _tile(joined, values, size, own, scale, target, stride)
            else:
                _row(joined, values, size, own, scale, target, stride)
        for query in range(whole, stop):
            values, scale = columns + 2 * query * size, asked + 4 * query
            target = found + query * stride + 4 * place
            if taken > 1:
                _query(joined, values, size, own, scale, target, stride)
            else:
                _one(joined, values, size, own, scale, target, stride)
        at += taken


@compiled
def high_products(
    codes: Codes,
    first: int,
    last: int,
    wanted: NDArray[np.uint8],
    queries: ShortCodes,
    out: NDArray[np.float32],
) -> int:
    """Score rows first to last by their upper five bits with short queries, as `products`.

    The queries' offsets and slopes bound the error with the `coarse` residuals of the rows.
    """
    count, half = queries.values.shape[0], codes.high.shape[1]
    size, bits = 2 * half, codes.middle.shape[1]
    high, middle = codes.high.ctypes.data, codes.middle.ctypes.data
    scales, columns = codes.scales.ctypes.data, queries.values.ctypes.data
    asked, sums = queries.scales.ctypes.data, queries.sums.ctypes.data
    found, stride = out.ctypes.data, 4 * out.shape[1]
    done, row = 0, first
    while row < last:
        place = row - first
        if not wanted[place]:
            row += 1
            continue
        together = _several(wanted, place, last - row)
        up, fifth, own = high + row * half, middle + row * bits, scales + 4 * row
        for query in range(count):
            values, scale, lost = columns + query * size, asked + 4 * query, sums + 4 * query
            target = found + query * stride + 4 * place
            if together:
                _high(up, fifth, values, size, own, scale, lost, target, stride)
            else:
                _high_row(up, fifth, values, size, own, scale, lost, target, stride)
        taken = _TOGETHER if together else 1
        done += taken
        row += taken
    return done


@compiled
def short_products(
    codes: Codes,
    first: int,
    last: int,
    wanted: NDArray[np.uint8],
    queries: ShortCodes,
    room: NDArray[np.uint8],
    out: NDArray[np.float32],
) -> int:
    """Score rows first to last with queries of `short_queries`, as `products`.

    The queries' offsets and slopes bound the error with the `residuals` of the rows.
    """
    count, half = queries.values.shape[0], codes.high.shape[1]
    size, joined = 2 * half, room.ctypes.data
    whole = count - count % _ASKED
    high, low, scales = codes.high.ctypes.data, codes.low.ctypes.data, codes.scales.ctypes.data
    columns, asked = queries.values.ctypes.data, queries.scales.ctypes.data
    sums, found, stride = queries.sums.ctypes.data, out.ctypes.data, 4 * out.shape[1]
    done, row = 0, first
    while row < last:
        place = row - first
        if not wanted[place]:
            row += 1
            continue
        together = _several(wanted, place, last - row)
        up, down, own = high + row * half, low + row * half, scales + 4 * row
        if together:
            _add(up, down, half, joined)
        else:
            _add_row(up, down, half, joined)
        for query in range(0, whole, _ASKED):
            values, scale, lost = columns + query * size, asked + 4 * query, sums + 4 * query
            target = found + query * stride + 4 * place
            if together:
                _rough(joined, 0, values, size, own, scale, lost, target, stride)
            else:
                _rough_row(joined, 0, values, size, own, scale, lost, target, stride)
        for query in range(whole, count):
            values, scale, lost = columns + query * size, asked + 4 * query, sums + 4 * query
            target = found + query * stride + 4 * place
            if together:
                _rough_query(joined, 0, values, size, own, scale, lost, target, stride)
            else:
                _rough_one(joined, 0, values, size, own, scale, lost, target, stride)
        taken = _TOGETHER if together else 1
        done += taken
        row += taken
    return done
