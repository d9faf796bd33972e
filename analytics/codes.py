"""Codes of vectors (int8) and of queries (int16): a scan reads a quarter of the bytes.

A row v is kept as v' = scale * codes with the norm of what is lost, |v - v'|. For a query q coded
as q' the product of the codes errs by at most |q - q'| |v'| + |q| |v - v'| (Cauchy-Schwarz), so
that a scan of codes tells which rows the float32 vectors must decide.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from analytics.compiler import compiled
from cql.codec import NORM_TOLERANCE

LANES = 32
"""Codes are padded with zeros to a multiple of this: no loop has a tail."""

LEVELS = 127
ROUNDING = 1.5e-6
"""More than float32 arithmetic adds to the error of a product of codes of unit vectors."""

_TOGETHER = 4
_AHEAD = 16
"""Rows: while many queries are scored with some rows, the memory of later ones is read already."""


class Codes(NamedTuple):
    """Coded rows: `values` int8 (N, W), `scales` and `residuals` (|v - v'|, rounded up) float32."""

    values: NDArray[np.int8]
    scales: NDArray[np.float32]
    residuals: NDArray[np.float32]


class QueryCodes(NamedTuple):
    """Coded queries: `values` int16 (Q, W), `scales` float32 (Q,).

    The product of a row with residual r errs by at most `offsets` + `slopes` * r, float32 (Q,).
    """

    values: NDArray[np.int16]
    scales: NDArray[np.float32]
    offsets: NDArray[np.float32]
    slopes: NDArray[np.float32]


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
    return Codes(
        np.zeros((rows, width(dim)), np.int8),
        np.empty(rows, np.float32),
        np.empty(rows, np.float32),
    )


def encode_into(codes: Codes, at: int, vectors: NDArray[np.float32]) -> None:
    """Code rows float32 (R, D) as rows `at` and following of `codes`."""
    own = slice(at, at + len(vectors))
    _encode(
        np.ascontiguousarray(vectors), codes.values[own], codes.scales[own], codes.residuals[own]
    )


def encode_queries(queries: NDArray[np.float32]) -> QueryCodes:
    """Code queries float32 (Q, D), unit L2 norm, as finely as int32 sums of products allow."""
    count, dim = queries.shape
    levels = min(32_767, (2**31 - 1) // (LEVELS * width(dim)))
    wide = queries.astype(np.float64)
    scales = (np.abs(wide).max(axis=1, initial=0.0) / levels).astype(np.float32)
    steps = np.where(scales > 0, scales, 1).astype(np.float64)[:, None]
    values = np.zeros((count, width(dim)), np.int16)
    # A scale rounded down to float32 could code the largest number one level too high.
    values[:, :dim] = np.clip(np.rint(wide / steps), -levels, levels)
    lost = np.linalg.norm(wide - values[:, :dim] * steps, axis=1) * (1 + 1e-6)
    norm = np.linalg.norm(wide, axis=1) * (1 + 1e-6)
    return QueryCodes(
        values,
        scales,
        # |v'| is at most |v| + |v - v'|.
        _up(lost * (1 + NORM_TOLERANCE) + ROUNDING),
        _up(lost + norm),
    )


def _up(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.nextafter(values.astype(np.float32), np.float32(np.inf))


@partial(compiled, fast=True)
def _encode(
    vectors: NDArray[np.float32],
    values: NDArray[np.int8],
    scales: NDArray[np.float32],
    residuals: NDArray[np.float32],
) -> None:
    rows, dim = vectors.shape
    for row in range(rows):
        largest = np.float32(0)
        for at in range(dim):
            largest = max(largest, abs(vectors[row, at]))
        scale = np.float32(largest / np.float32(LEVELS))
        inverse = np.float32(0) if scale == 0 else np.float32(1) / scale
        lost = 0.0
        for at in range(dim):
            level = np.rint(vectors[row, at] * inverse)
            level = min(max(level, np.float32(-LEVELS)), np.float32(LEVELS))
            values[row, at] = np.int8(level)
            gap = np.float64(vectors[row, at]) - np.float64(level) * np.float64(scale)
            lost += gap * gap
        scales[row] = scale
        residuals[row] = np.float32(np.sqrt(lost) * (1 + 1e-6))


def _tile_scores(rows: int, queries: int, *, ahead: int = 0) -> Any:
    """An intrinsic: scores of `rows` rows of int8 codes against `queries` rows of int16 codes.

    Written as vector code that LLVM turns into multiply-add instructions of the CPU it finds: the
    loop vectoriser leaves half of each register empty, and a tile reads every code from the cache
    once for several products. `ahead` rows further on are fetched from memory meanwhile.
    """

    @intrinsic
    def scores(
        _context: Any, _row: Any, _query: Any, _size: Any, _scale: Any, _asked: Any, _out: Any,
        _stride: Any,
    ) -> Any:  # fmt: skip
        """Addresses of the first row and query, codes of each, addresses of their scales.

        Then where float32 scores go, and the bytes from those of one query to those of the next.
        """
        signature = types.void(*[types.intp] * 7)

        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            row, query, size, scale, asked, out, stride = arguments
            number = size.type
            narrow, middle, wide, half = (
                ir.VectorType(ir.IntType(bits), LANES // (2 if part else 1))
                for bits, part in ((8, 0), (16, 0), (32, 0), (32, 1))
            )
            nothing = ir.Constant(half, [0] * (LANES // 2))
            sums = [
                cgutils.alloca_once(builder, half)  # type: ignore[no-untyped-call]
                for _ in range(rows * queries)
            ]
            for total in sums:
                builder.store(nothing, total)
            steps = builder.udiv(size, ir.Constant(number, LANES))
            with cgutils.for_range(builder, steps) as loop:
                at = builder.mul(loop.index, ir.Constant(number, LANES))
                held = []
                for each in range(rows):
                    start = builder.add(row, builder.mul(size, ir.Constant(number, each)))
                    codes = _load(builder, builder.add(start, at), narrow)
                    held.append(builder.sext(builder.sext(codes, middle), wide))
                    if ahead:
                        later = builder.mul(size, ir.Constant(number, ahead))
                        _fetch(builder, builder.add(builder.add(start, at), later))
                for each in range(queries):
                    start = builder.add(query, builder.mul(size, ir.Constant(number, 2 * each)))
                    place = builder.add(start, builder.mul(at, ir.Constant(number, 2)))
                    values = builder.sext(_load(builder, place, middle), wide)
                    for total, codes in zip(sums[each * rows :], held, strict=False):
                        product = builder.mul(codes, values)
                        pairs = builder.add(
                            _pick(builder, product, range(0, LANES, 2)),
                            _pick(builder, product, range(1, LANES, 2)),
                        )
                        builder.store(builder.add(builder.load(total), pairs), total)
            floats = ir.VectorType(ir.FloatType(), rows)
            own = _load(builder, scale, floats)
            for each in range(queries):
                totals = [builder.load(total) for total in sums[each * rows : (each + 1) * rows]]
                found = builder.sitofp(_folded(builder, totals), floats)
                place = builder.add(asked, ir.Constant(number, 4 * each))
                factor = builder.load(builder.inttoptr(place, ir.FloatType().as_pointer()))
                spread = builder.insert_element(
                    ir.Constant(floats, ir.Undefined), factor, ir.Constant(ir.IntType(32), 0)
                )
                spread = builder.shuffle_vector(
                    spread, spread, ir.Constant(ir.VectorType(ir.IntType(32), rows), [0] * rows)
                )
                place = builder.add(out, builder.mul(stride, ir.Constant(number, each)))
                target = builder.inttoptr(place, floats.as_pointer())
                builder.store(builder.fmul(found, builder.fmul(own, spread)), target, align=4)
            return context.get_dummy_value()

        return signature, generate

    return scores


def _folded(builder: Any, vectors: list[Any]) -> Any:
    """Sums of the lanes of each of n vectors (n a power of two), as one vector of n lanes."""
    blocks = 1
    while len(vectors) > 1 or vectors[0].type.count > blocks:
        # A vector holds `blocks` runs of lanes; the halves of each run are added.
        width = vectors[0].type.count
        half = width // blocks // 2
        low = [2 * half * block + lane for block in range(blocks) for lane in range(half)]
        pairs = [(vectors[0], vectors[0])]
        if len(vectors) > 1:
            low += [width + lane for lane in low]
            pairs = list(zip(vectors[::2], vectors[1::2], strict=True))
            blocks *= 2
        high = [lane + half for lane in low]
        vectors = [
            builder.add(_blend(builder, *pair, low), _blend(builder, *pair, high)) for pair in pairs
        ]
    return vectors[0]


def _load(builder: Any, address: Any, kind: Any) -> Any:
    value = builder.load(builder.inttoptr(address, kind.as_pointer()))
    value.align = 1
    return value


def _fetch(builder: Any, address: Any) -> None:
    """Bring a line of memory nearer; an address that is not there does no harm."""
    flag = ir.IntType(32)
    pointer = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag])
    module = builder.module
    prefetch = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
        module, kind, "llvm.prefetch.p0"
    )
    read, soon, data = (ir.Constant(flag, number) for number in (0, 3, 1))
    builder.call(prefetch, [builder.inttoptr(address, pointer), read, soon, data])


def _pick(builder: Any, vector: Any, lanes: range) -> Any:
    return _blend(builder, vector, vector, list(lanes))


def _blend(builder: Any, left: Any, right: Any, lanes: list[int]) -> Any:
    """Lanes of two vectors, numbered through both."""
    order = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
    return builder.shuffle_vector(left, right, order)


_TILES = {
    (rows, queries): _tile_scores(rows, queries)
    for rows in (1, _TOGETHER)
    for queries in (1, _TOGETHER)
}
_one, _one_row, _one_query, _tile = (
    _TILES[shape] for shape in ((1, 1), (1, _TOGETHER), (_TOGETHER, 1), (_TOGETHER, _TOGETHER))
)
_first_tile = _tile_scores(_TOGETHER, _TOGETHER, ahead=_AHEAD)
_first_query = _tile_scores(_TOGETHER, 1, ahead=_AHEAD)


@compiled
def products(
    codes: Codes,
    first: int,
    last: int,
    wanted: NDArray[np.uint8],
    queries: QueryCodes,
    out: NDArray[np.float32],
) -> int:
    """Score rows first to last against the queries: `out` float32 (Q, >= last - first), contiguous.

    Codes are contiguous. Rows of which `wanted` (uint8, one a row from `first` on) is 0 are passed
    over. Returns how many were scored.
    """
    count, size = queries.values.shape
    whole = count - count % _TOGETHER
    rows, columns = codes.values.ctypes.data, queries.values.ctypes.data
    scales, asked = codes.scales.ctypes.data, queries.scales.ctypes.data
    found, stride = out.ctypes.data, 4 * out.shape[1]
    done, row = 0, first
    while row < last:
        place = row - first
        if not wanted[place]:
            row += 1
            continue
        together = row + _TOGETHER <= last
        if together:
            for at in range(1, _TOGETHER):
                together = together and wanted[place + at] != 0
        start, own = rows + row * size, scales + 4 * row
        for query in range(0, whole, _TOGETHER):
            values, scale = columns + 2 * query * size, asked + 4 * query
            target = found + query * stride + 4 * place
            if together and query == 0:
                _first_tile(start, values, size, own, scale, target, stride)
            elif together:
                _tile(start, values, size, own, scale, target, stride)
            else:
                _one_row(start, values, size, own, scale, target, stride)
        for query in range(whole, count):
            values, scale = columns + 2 * query * size, asked + 4 * query
            target = found + query * stride + 4 * place
            if together and query == 0:
                _first_query(start, values, size, own, scale, target, stride)
            elif together:
                _one_query(start, values, size, own, scale, target, stride)
            else:
                _one(start, values, size, own, scale, target, stride)
        taken = _TOGETHER if together else 1
        done += taken
        row += taken
    return done
