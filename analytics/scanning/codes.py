"""Codes of vectors (int8, in planes of bits) and of queries: a scan reads a fifth of the bytes.

A row v is kept as v' = scale * codes with the norm of what is lost, |v - v'|. For a query q coded
as q' the product of the codes errs by at most |q - q'| |v'| + |q| |v - v'| (Cauchy-Schwarz), so
that a scan of codes tells which rows the float32 vectors must decide. The upper five bits of each
code lie apart from the lower ones: alone they are a code of their own, with a larger norm lost,
which tells of most rows that even the lower bits need not be read.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analytics.compiler import compiled
from cql.codec import NORM_TOLERANCE

LANES = 128
"""Codes are padded with zeros to a multiple of this: no loop has a tail."""

LEVELS = 127
ROUNDING = 1.5e-6
"""More than float32 arithmetic adds to the error of a product of codes of unit vectors."""

_HALF = LANES // 2
_EIGHTS = _HALF // 8
_UNSIGNED = np.uint32(0x7FFFFFFF)
# Of eight bytes in a number of 64 bits: the lower half of each, the first bit of each.
_LOWER = np.uint64(0x0F0F0F0F0F0F0F0F)
_FIRSTS = np.uint64(0x0101010101010101)
_TOGETHER = np.uint64(0x0102040810204080)
_THREE, _FOUR, _LAST = np.uint64(3), np.uint64(4), np.uint64(56)


class Codes(NamedTuple):
    """Coded rows: planes `high`, `low` uint8 (N, W / 2), `middle` uint8 (N, W / 8), and scales.

    A code c, int8, is kept as c + 128: its upper four bits in `high`, the lower four in `low`, and
    of these the first once more in `middle`. Of each 128 numbers a byte of `high` and `low` holds
    one of the first 64 in its lower half, and the one that is 64 further on in its upper half;
    `middle` has a bit a number, in order, the lowest of a byte first.

    The codes times `scales` float32 (N,) are v'. `residuals` float32 (N,): |v - v'|, rounded up;
    `coarse` float32 (N,): the same where a code is known by its upper five bits u alone, as
    8 u - 124.
    """

    high: NDArray[np.uint8]
    middle: NDArray[np.uint8]
    low: NDArray[np.uint8]
    scales: NDArray[np.float32]
    residuals: NDArray[np.float32]
    coarse: NDArray[np.float32]


class QueryCodes(NamedTuple):
    """Coded queries: `values` int16 (Q, W), `scales` float32 (Q,).

    The product of a row with residual r errs by at most `offsets` + `slopes` * r, float32 (Q,).
    """

    values: NDArray[np.int16]
    scales: NDArray[np.float32]
    offsets: NDArray[np.float32]
    slopes: NDArray[np.float32]


class ShortCodes(NamedTuple):
    """Queries as `QueryCodes`, `values` int8 (Q, W), with their `sums` int32 (Q,)."""

    values: NDArray[np.int8]
    scales: NDArray[np.float32]
    offsets: NDArray[np.float32]
    slopes: NDArray[np.float32]
    sums: NDArray[np.int32]


def width(dim: int) -> int:
    """W, the length of a coded row: `dim` rounded up to a multiple of `LANES`."""
    return -(-dim // LANES) * LANES


def encode(vectors: NDArray[np.float32]) -> Codes:
    """Code rows: float32 (N, D), finite and not zero."""
    codes = unwritten(*vectors.shape)
    encode_into(codes, 0, vectors)
    return codes


def unwritten(rows: int, dim: int) -> Codes:
    """Room for the codes of rows of `dim` numbers."""
    high, middle, low = (np.empty((rows, width(dim) // share), np.uint8) for share in (2, 8, 2))
    scales, residuals, coarse = (np.empty(rows, np.float32) for _ in range(3))
    return Codes(high, middle, low, scales, residuals, coarse)


def encode_into(codes: Codes, at: int, vectors: NDArray[np.float32]) -> None:
    """Code rows float32 (R, D) as rows `at` and following of `codes`."""
    own = slice(at, at + len(vectors))
    _encode(np.ascontiguousarray(vectors, np.float32), Codes._make(each[own] for each in codes))


def joined(codes: Codes) -> NDArray[np.int8]:
    """The planes together: int8 (N, W), in the order of the numbers."""
    rows, half = codes.high.shape
    groups = (rows, half // _HALF, _HALF)
    high, low = codes.high.reshape(groups), codes.low.reshape(groups)
    first = (high << 4) | (low & 15)
    second = (high & 240) | (low >> 4)
    found: NDArray[np.int8] = np.stack([first, second], axis=2).reshape(rows, 2 * half) ^ 128
    return found.view(np.int8)


def encode_queries(queries: NDArray[np.float32]) -> QueryCodes:
    """Code queries float32 (Q, D), unit L2 norm, as finely as int32 sums of products allow."""
    levels = min(32_767, (2**31 - 1) // (LEVELS * width(queries.shape[1])))
    values, scales, offsets, slopes = _coded(queries, levels)
    return QueryCodes(values.astype(np.int16), scales, offsets, slopes)


def encode_shortly(queries: NDArray[np.float32], levels: int = LEVELS) -> ShortCodes:
    """Code queries float32 (Q, D), unit L2 norm, in `levels`, by default as many as rows have."""
    values, scales, offsets, slopes = _coded(queries, levels)
    sums = values.sum(axis=1).astype(np.int32)
    return ShortCodes(values.astype(np.int8), scales, offsets, slopes, sums)


def _coded(
    queries: NDArray[np.float32], levels: int
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    count, dim = queries.shape
    wide = queries.astype(np.float64)
    scales = (np.abs(wide).max(axis=1, initial=0.0) / levels).astype(np.float32)
    steps = np.where(scales > 0, scales, 1).astype(np.float64)[:, None]
    values = np.zeros((count, width(dim)))
    # A scale rounded down to float32 could code the largest number one level too high.
    values[:, :dim] = np.clip(np.rint(wide / steps), -levels, levels)
    lost = np.linalg.norm(wide - values[:, :dim] * steps, axis=1) * (1 + 1e-6)
    norm = np.linalg.norm(wide, axis=1) * (1 + 1e-6)
    # |v'| is at most |v| + |v - v'|.
    return values, scales, _up(lost * (1 + NORM_TOLERANCE) + ROUNDING), _up(lost + norm)


def _up(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.nextafter(values.astype(np.float32), np.float32(np.inf))


@partial(compiled, fast=True)
def _encode(vectors: NDArray[np.float32], codes: Codes) -> None:
    """`encode_into` for all of `codes`: loops apart, so that the compiler makes vectors of each."""
    rows, dim = vectors.shape
    # Without their signs float32 numbers have the order of their bits; a maximum of floats would be
    # taken one by one, since NaN has no place in it.
    sizes = vectors.view(np.uint32)
    most = np.empty(1, np.uint32)
    values = np.empty(dim, np.float32)
    # What is beyond `dim` is coded as 0.
    levels = np.full(2 * codes.high.shape[1], LEVELS + 1, np.uint8)
    # Planes are packed eight numbers at a time.
    words = levels.view(np.uint64)
    high, low = codes.high.view(np.uint64), codes.low.view(np.uint64)
    for row in range(rows):
        vector, size = vectors[row], sizes[row]
        largest = np.uint32(0)
        for at in range(dim):
            largest = max(largest, size[at] & _UNSIGNED)
        most[0] = largest
        scale = np.float32(most.view(np.float32)[0] / np.float32(LEVELS))
        inverse = np.float32(0) if scale == 0 else np.float32(1) / scale
        for at in range(dim):
            level = np.rint(vector[at] * inverse)
            level = min(max(level, np.float32(-LEVELS)), np.float32(LEVELS))
            values[at] = level
            levels[at] = np.uint8(np.int32(level) + np.int32(LEVELS + 1))
        lost, more = 0.0, 0.0
        step = np.float64(scale)
        for at in range(dim):
            number = np.float64(vector[at])
            gap = number - np.float64(values[at]) * step
            lost += gap * gap
            upper = np.float64((np.int32(levels[at]) & np.int32(248)) - np.int32(124))
            gap = number - upper * step
            more += gap * gap
        for place in range(high.shape[1]):
            group, eight = place // _EIGHTS, place % _EIGHTS
            one = words[2 * group * _EIGHTS + eight]
            other = words[(2 * group + 1) * _EIGHTS + eight]
            high[row, place] = ((one >> _FOUR) & _LOWER) | (other & ~_LOWER)
            low[row, place] = (one & _LOWER) | ((other & _LOWER) << _FOUR)
        for place in range(codes.middle.shape[1]):
            # The product moves the first bit of byte n to bit n of the last byte.
            bits = (words[place] >> _THREE) & _FIRSTS
            codes.middle[row, place] = np.uint8((bits * _TOGETHER) >> _LAST)
        codes.scales[row] = scale
        codes.residuals[row] = np.float32(np.sqrt(lost) * (1 + 1e-6))
        codes.coarse[row] = np.float32(np.sqrt(more) * (1 + 1e-6))
