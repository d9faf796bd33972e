"""Codes of vectors (int8) and of queries (int16): a scan reads a quarter of the bytes.

A row v is kept as v' = scale * codes with the norm of what is lost, |v - v'|. For a query q coded
as q' the product of the codes errs by at most |q - q'| |v'| + |q| |v - v'| (Cauchy-Schwarz), so
that a scan of codes tells which rows the float32 vectors must decide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from cql.codec import NORM_TOLERANCE

Function = TypeVar("Function", bound=Callable[..., Any])

LANES = 32
"""Codes are padded with zeros to a multiple of this: no loop has a tail."""

LEVELS = 127
ROUNDING = 1.5e-6
"""More than float32 arithmetic adds to the error of a product of codes of unit vectors."""

_TOGETHER = 4


def compiled(function: Function) -> Function:
    """Compile with numba for this CPU, cached on disk; strict IEEE arithmetic, without the GIL."""
    return cast("Function", njit(cache=True, nogil=True, error_model="numpy")(function))


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
    rows, dim = vectors.shape
    codes = Codes(
        np.zeros((rows, width(dim)), np.int8),
        np.empty(rows, np.float32),
        np.empty(rows, np.float32),
    )
    _encode(np.ascontiguousarray(vectors), codes.values, codes.scales, codes.residuals)
    return codes


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


@compiled
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


def _vector_products(count: int, lanes: int) -> Any:
    """An intrinsic: products of one row of int8 codes with `count` rows of int16 codes.

    Written as vector code that LLVM turns into multiply-add instructions of the CPU it finds: the
    loop vectoriser leaves half of each register empty.
    """

    @intrinsic
    def products(_context: Any, _row: Any, _queries: Any, _stride: Any, _size: Any) -> Any:
        """Addresses of the row and the queries, bytes from query to query, codes -> int32 each."""
        signature = types.UniTuple(types.int32, count)(  # type: ignore[no-untyped-call]
            types.intp, types.intp, types.intp, types.intp
        )

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            row, queries, stride, size = arguments
            narrow, middle, wide, half = (
                ir.VectorType(ir.IntType(bits), lanes // (2 if part else 1))
                for bits, part in ((8, 0), (16, 0), (32, 0), (32, 1))
            )
            number = row.type
            sums = [
                cgutils.alloca_once_value(  # type: ignore[no-untyped-call]
                    builder, ir.Constant(half, [0] * (lanes // 2))
                )
                for _ in range(count)
            ]
            steps = builder.udiv(size, ir.Constant(number, lanes))
            with cgutils.for_range(builder, steps) as loop:
                at = builder.mul(loop.index, ir.Constant(number, lanes))
                codes = _load(builder, builder.add(row, at), narrow)
                codes = builder.sext(builder.sext(codes, middle), wide)
                for each, total in enumerate(sums):
                    start = builder.add(
                        builder.add(queries, builder.mul(stride, ir.Constant(number, each))),
                        builder.mul(at, ir.Constant(number, 2)),
                    )
                    product = builder.mul(codes, builder.sext(_load(builder, start, middle), wide))
                    pairs = builder.add(
                        _pick(builder, product, range(0, lanes, 2)),
                        _pick(builder, product, range(1, lanes, 2)),
                    )
                    builder.store(builder.add(builder.load(total), pairs), total)
            found = []
            for total in sums:
                value, left = builder.load(total), lanes // 2
                while left > 1:
                    left //= 2
                    value = builder.add(
                        _pick(builder, value, range(left)),
                        _pick(builder, value, range(left, 2 * left)),
                    )
                found.append(builder.extract_element(value, ir.Constant(ir.IntType(32), 0)))
            return context.make_tuple(builder, signature.return_type, found)

        return signature, generate

    return products


def _load(builder: Any, address: Any, kind: Any) -> Any:
    value = builder.load(builder.inttoptr(address, kind.as_pointer()))
    value.align = 1
    return value


def _pick(builder: Any, vector: Any, lanes: range) -> Any:
    order = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), order)


_four = _vector_products(_TOGETHER, LANES)


@compiled
def products(
    codes: Codes,
    first: int,
    last: int,
    wanted: NDArray[np.uint8],
    queries: QueryCodes,
    out: NDArray[np.float32],
) -> int:
    """Score rows first to last against the queries: `out` float32 (Q, >= last - first).

    Codes are contiguous. Rows of which `wanted` (uint8, one a row from `first` on) is 0 are passed
    over. Returns how many were scored.
    """
    count, size = queries.values.shape
    whole = count - count % _TOGETHER
    rows, columns = codes.values.ctypes.data, queries.values.ctypes.data
    done = 0
    for row in range(first, last):
        place = row - first
        if not wanted[place]:
            continue
        done += 1
        for query in range(0, whole, _TOGETHER):
            found = _four(rows + row * size, columns + 2 * query * size, 2 * size, size)
            for each in range(_TOGETHER):
                scale = codes.scales[row] * queries.scales[query + each]
                out[query + each, place] = np.float32(found[each]) * scale
        for query in range(whole, count):
            total = np.int32(0)
            for at in range(size):
                product = np.int32(
                    np.int32(codes.values[row, at]) * np.int32(queries.values[query, at])
                )
                total = np.int32(total + product)
            scale = codes.scales[row] * queries.scales[query]
            out[query, place] = np.float32(total) * scale
    return done
