"""Tiles of products of coded rows and queries, as vector code.

LLVM's loop vectoriser leaves half of each register empty, and a tile reads each code from the cache
once for several products. Which instructions multiply bytes is named, by the CPU there is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from analytics.scanning.codes import LANES
from analytics.scanning.processor import UNIT, Unit

HIGH, BOTH = 1, 2
"""Planes that a rough pass reads."""

PEAK = 8
"""Scores that `peak` compares."""

REACHED = 64
"""Numbers that `reached` compares."""

_HALF = LANES // 2
_BYTES = ir.VectorType(ir.IntType(8), _HALF)


def joined_rows(rows: int, *, signed: bool, ahead: int = 0) -> Callable[..., Any]:
    """An intrinsic: put the planes of `rows` coded rows together.

    As int8 codes where `signed`, else plus 128. `ahead` rows further on are fetched from memory.
    """

    @intrinsic
    def join(_context: Any, _high: Any, _low: Any, _size: Any, _out: Any) -> Any:
        """Addresses of the planes of the first row, bytes of a plane's row, where codes go."""
        signature = types.void(*[types.intp] * 4)

        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            high, low, size, out = arguments
            number = size.type
            steps = builder.udiv(builder.mul(size, number(rows)), number(_HALF))
            with cgutils.for_range(builder, steps) as loop:
                at = builder.mul(loop.index, number(_HALF))
                planes = [builder.add(plane, at) for plane in (high, low)]
                upper, lower = (_load(builder, place, _BYTES) for place in planes)
                four, least, most = (_BYTES([value] * _HALF) for value in (4, 15, 240))
                pair = (
                    builder.or_(builder.shl(upper, four), builder.and_(lower, least)),
                    builder.or_(builder.and_(upper, most), builder.lshr(lower, four)),
                )
                for half, codes in enumerate(pair):
                    found = builder.xor(codes, _BYTES([128] * _HALF)) if signed else codes
                    place = builder.add(
                        out, builder.add(builder.shl(at, number(1)), number(half * _HALF))
                    )
                    builder.store(found, builder.inttoptr(place, _BYTES.as_pointer()), align=1)
                if ahead:
                    for place in planes:
                        _fetch(builder, builder.add(place, builder.mul(size, number(ahead))))
            return context.get_dummy_value()

        return signature, generate

    return join


def fine_tile(rows: int, queries: int) -> Callable[..., Any]:
    """An intrinsic: scores of `rows` rows of int8 codes with `queries` int16 queries."""

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
            lanes = UNIT.size // 2
            narrow, middle, wide, half = (
                ir.VectorType(ir.IntType(bits), count)
                for bits, count in ((8, lanes), (16, lanes), (32, lanes), (32, lanes // 2))
            )
            sums = _zeros(builder, rows * queries, half)
            with cgutils.for_range(builder, builder.udiv(size, number(lanes))) as loop:
                at = builder.mul(loop.index, number(lanes))
                held = []
                for each in range(rows):
                    place = builder.add(builder.add(row, builder.mul(size, number(each))), at)
                    held.append(
                        builder.sext(builder.sext(_load(builder, place, narrow), middle), wide)
                    )
                for each in range(queries):
                    start = builder.add(query, builder.mul(size, number(2 * each)))
                    place = builder.add(start, builder.mul(at, number(2)))
                    values = builder.sext(_load(builder, place, middle), wide)
                    for total, codes in zip(sums[each * rows :], held, strict=False):
                        product = builder.mul(codes, values)
                        pairs = _pairs(builder, product)
                        builder.store(builder.add(builder.load(total), pairs), total)
            floats = ir.VectorType(ir.FloatType(), rows)
            own = _load(builder, scale, floats)
            for each in range(queries):
                found = _folded(builder, sums[each * rows : (each + 1) * rows])
                _put(builder, found, own, asked, out, stride, each)
            return context.get_dummy_value()

        return signature, generate

    return scores


def rough_tile(
    rows: int,
    queries: int,
    planes: int,
    *,
    ahead: int = 0,
    unit: Unit = UNIT,
    lanes: int = LANES,
) -> Callable[..., Any]:
    """An intrinsic: scores of `rows` coded rows with `queries` int8 queries.

    Rows are joined ones, plus 128, where `planes` is BOTH, and queries then have the levels of the
    `unit` at most; where it is HIGH their upper and middle planes are read, and `ahead` rows
    further on fetched from memory. Of joined ones the length is a multiple of `lanes`.
    """

    @intrinsic
    def scores(
        _context: Any, _row: Any, _middle: Any, _query: Any, _size: Any, _scale: Any, _asked: Any,
        _sums: Any, _out: Any, _stride: Any,
    ) -> Any:  # fmt: skip
        """Addresses of the first row, its middle plane and the first query, codes of each.

        Then addresses of their scales and of the sums of the queries' codes, where float32 scores
        go, and the bytes from those of one query to those of the next.
        """
        signature = types.void(*[types.intp] * 9)

        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            row, middle, query, size, scale, asked, lost, out, stride = arguments
            number = size.type
            kind = ir.VectorType(ir.IntType(8), unit.size)
            sums = _zeros(builder, rows * queries, ir.VectorType(ir.IntType(32), unit.size // 4))
            with cgutils.for_range(builder, builder.udiv(size, number(lanes))) as loop:
                at = builder.mul(loop.index, number(lanes))
                places = [
                    builder.add(at, builder.mul(size, number(each)))
                    for each in range(max(rows, queries))
                ]
                # Of whole codes a register's width at a time: few of them are needed at once.
                length = lanes if planes == HIGH else unit.size
                for step in range(0, lanes, length):
                    values = [
                        _run(builder, builder.add(query, place), step, length, kind)
                        for place in places[:queries]
                    ]
                    for each, place in enumerate(places[:rows]):
                        if planes == HIGH:
                            start = builder.add(row, builder.udiv(place, number(2)))
                            bits = builder.add(middle, builder.udiv(place, number(8)))
                            codes = _upper(builder, start, bits, kind)
                        else:
                            codes = _run(builder, builder.add(row, place), step, length, kind)
                        for total, own in zip(sums[each::rows], values, strict=True):
                            added = _multiply_add(builder, unit, builder.load(total), codes, own)
                            builder.store(added, total)
                        if planes == HIGH and ahead:
                            later = builder.mul(builder.udiv(size, number(2)), number(ahead))
                            _fetch(builder, builder.add(start, later))
            floats = ir.VectorType(ir.FloatType(), rows)
            numbers = ir.VectorType(ir.IntType(32), rows)
            own = _load(builder, scale, floats)
            if planes == HIGH:
                # 8 u - 124 for each u is 4 (2 u - 31).
                own = builder.fmul(own, floats([4.0] * rows))
            for each in range(queries):
                found = _folded(builder, sums[each * rows : (each + 1) * rows])
                taken = _spread(builder, builder.add(lost, number(4 * each)), numbers)
                if planes == HIGH:
                    found = builder.shl(found, numbers([1] * rows))
                    taken = builder.mul(taken, numbers([31] * rows))
                else:
                    taken = builder.shl(taken, numbers([7] * rows))
                _put(builder, builder.sub(found, taken), own, asked, out, stride, each)
            return context.get_dummy_value()

        return signature, generate

    return scores


def _zeros(builder: Any, count: int, kind: Any) -> list[Any]:
    sums = [cgutils.alloca_once(builder, kind) for _ in range(count)]  # type: ignore[no-untyped-call]
    for total in sums:
        builder.store(kind([0] * kind.count), total)
    return sums


def _run(builder: Any, place: Any, step: int, length: int, kind: Any) -> list[Any]:
    """Vectors of the `length` bytes from a step behind an address on."""
    return [
        _load(builder, builder.add(place, place.type(at)), kind)
        for at in range(step, step + length, kind.count)
    ]


def _upper(builder: Any, high: Any, middle: Any, kind: Any) -> list[Any]:
    """The upper five bits of the codes of a step, in vectors."""
    bits = ir.VectorType(ir.IntType(1), kind.count)
    one, three, mask = (kind([value] * kind.count) for value in (1, 3, 30))
    found: tuple[list[Any], list[Any]] = ([], [])
    for at in range(0, _HALF, kind.count):
        four = _load(builder, builder.add(high, high.type(at)), kind)
        halves = builder.shl(four, one), builder.lshr(four, three)
        for half, (moved, own) in enumerate(zip(halves, found, strict=True)):
            place = builder.add(middle, middle.type((_HALF * half + at) // 8))
            fifth = builder.bitcast(_load(builder, place, ir.IntType(kind.count)), bits)
            # A bit that is set is -1 in a lane.
            own.append(builder.sub(builder.and_(moved, mask), builder.sext(fifth, kind)))
    return [*found[0], *found[1]]


def _multiply_add(
    builder: Any, unit: Unit, total: Any, codes: Sequence[Any], values: Sequence[Any]
) -> Any:
    """Add products of unsigned codes and signed values to sums, those of four neighbours to one."""
    wide = total.type
    if unit.fused:
        for pair in zip(codes, values, strict=True):
            factors = [builder.bitcast(each, wide) for each in pair]
            total = _called(builder, unit.fused, wide, [total, *factors])
        return total
    if unit.paired:
        bytes_first, words = unit.paired
        half = ir.VectorType(ir.IntType(16), 2 * wide.count)
        # Four sums of two products of upper codes (to 31) fit 16 bits; of whole codes one does.
        pairs = [
            _called(builder, bytes_first, half, list(pair))
            for pair in zip(codes, values, strict=True)
        ]
        while len(pairs) > 1:
            pairs = [builder.add(*each) for each in zip(pairs[::2], pairs[1::2], strict=True)]
        ones = half([1] * half.count)
        return builder.add(total, _called(builder, words, wide, [pairs[0], ones]))
    middle, large = (ir.VectorType(ir.IntType(bits), unit.size) for bits in (16, 32))
    for code, value in zip(codes, values, strict=True):
        product = builder.mul(
            builder.sext(builder.zext(code, middle), large),
            builder.sext(builder.sext(value, middle), large),
        )
        total = builder.add(total, _pairs(builder, _pairs(builder, product)))
    return total


def _called(builder: Any, name: str, kind: Any, arguments: Sequence[Any]) -> Any:
    """What an instruction gives, by the name that LLVM has for it."""
    made = ir.FunctionType(kind, [each.type for each in arguments])
    call = cgutils.get_or_insert_function(builder.module, made, name)  # type: ignore[no-untyped-call]
    return builder.call(call, list(arguments))


def _spread(builder: Any, place: Any, kind: Any) -> Any:
    """The number at an address, in every lane."""
    one = builder.load(builder.inttoptr(place, kind.element.as_pointer()))
    lane = ir.IntType(32)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), one, lane(0))
    same = ir.VectorType(lane, kind.count)([0] * kind.count)
    return builder.shuffle_vector(first, first, same)


def _put(  # noqa: PLR0917 - as the tiles have them
    builder: Any, found: Any, own: Any, asked: Any, out: Any, stride: Any, query: int
) -> None:
    """Store sums of products times the scales of the rows, `own`, and of a query."""
    number, kind = stride.type, own.type
    factor = _spread(builder, builder.add(asked, number(4 * query)), kind)
    scores = builder.fmul(builder.sitofp(found, kind), builder.fmul(own, factor))
    place = builder.add(out, builder.mul(stride, number(query)))
    builder.store(scores, builder.inttoptr(place, kind.as_pointer()), align=4)


def _folded(builder: Any, sums: list[Any]) -> Any:
    """Sums of the lanes of each of n vectors (n a power of two), as one vector of n lanes."""
    vectors, blocks = [builder.load(each) for each in sums], 1
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


def _pairs(builder: Any, vector: Any) -> Any:
    """Sums of each two lanes that lie side by side."""
    even, odd = (_pick(builder, vector, range(at, vector.type.count, 2)) for at in range(2))
    return builder.add(even, odd)


def _pick(builder: Any, vector: Any, lanes: range) -> Any:
    return _blend(builder, vector, vector, list(lanes))


def _blend(builder: Any, left: Any, right: Any, lanes: list[int]) -> Any:
    """Lanes of two vectors, numbered through both."""
    order = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
    return builder.shuffle_vector(left, right, order)


@intrinsic
def _peak(_context: Any, _scores: Any, _lost: Any, _slope: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        scores, lost, slope = arguments
        kind = ir.VectorType(ir.FloatType(), PEAK)
        first = builder.insert_element(ir.Constant(kind, ir.Undefined), slope, ir.IntType(32)(0))
        factors = _blend(builder, first, first, [0] * PEAK)
        vector = builder.fadd(
            _load(builder, scores, kind), builder.fmul(factors, _load(builder, lost, kind))
        )
        count = PEAK
        while count > 1:
            count //= 2
            low, high = (_pick(builder, vector, range(at, at + count)) for at in (0, count))
            vector = builder.select(builder.fcmp_ordered(">", low, high), low, high)
        return builder.extract_element(vector, ir.IntType(32)(0))

    return types.float32(types.intp, types.intp, types.float32), generate


peak = cast("Callable[[int, int, np.float32], np.float32]", _peak)
"""The best of `PEAK` scores, each with a slope times what was lost added: addresses of both."""


@intrinsic
def _reached(_context: Any, _values: Any, _least: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        values, least = arguments
        kind = ir.VectorType(ir.FloatType(), REACHED)
        first = builder.insert_element(ir.Constant(kind, ir.Undefined), least, ir.IntType(32)(0))
        found = builder.fcmp_ordered(
            ">=", _load(builder, values, kind), _blend(builder, first, first, [0] * REACHED)
        )
        return builder.bitcast(found, ir.IntType(REACHED))

    return types.uint64(types.intp, types.float32), generate


reached = cast("Callable[[int, np.float32], np.uint64]", _reached)
"""Bits of those of `REACHED` floats at an address that reach a number; the lowest is the first."""


@intrinsic
def _lowest(_context: Any, _bits: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return types.uint64(types.uint64), generate


lowest = cast("Callable[[np.uint64], np.uint64]", _lowest)
"""The place of the lowest bit that is set: one must be."""


@intrinsic
def _soon(_context: Any, _place: Any) -> Any:
    """Bring the line of memory at an address nearer."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        _fetch(builder, arguments[0])
        return context.get_dummy_value()

    return types.void(types.intp), generate


fetch = cast("Callable[[int], None]", _soon)
