"""How alike two pictures are: hashes, and grey signatures compared after alignment.

A crop moves what a picture shows, so two signatures are compared by the largest correlation over
windows of the one that may be the whole of the other. Correlation ignores brightness and contrast.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

SIDE = 32
"""Side of a signature."""
_SHORTER = 7
"""Most pixels by which a side of a window is shorter: it has at least 0.78 of the picture's."""
_FLAT = 2.0
"""A picture whose grey values spread less than this has no structure to compare."""
_BATCH = 256
_WHOLE = 8192

Floats = NDArray[np.float32]
Table = NDArray[np.float64]
Function = TypeVar("Function", bound=Callable[..., Any])


def _compiled(function: Function) -> Function:
    """Compile with numba, cached on disk; sums may be taken in any order."""
    return cast(
        "Function",
        njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})(
            function
        ),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """What N pictures are compared by.

    `hashes` int64 (N,) are 64 bits each, `signatures` uint8 (N, 1024), `known` bool (N,): whether
    a picture has them at all.
    """

    hashes: NDArray[np.int64]
    signatures: NDArray[np.uint8]
    known: NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.hashes)


def bits(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Hamming distance of hashes, pair by pair."""
    return np.bitwise_count((left ^ right).view(np.uint64)).astype(np.int64)


def alike(
    pictures: Pictures,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    *,
    enough: float = 0.995,
    threads: int | None = None,
) -> Floats:
    """How alike the pictures of each pair of rows are, float32 (P,) in [-1, 1].

    The largest correlation of one signature with a window of the other, of at least 0.78 of its
    sides; windows are not tried where the whole pictures reach `enough`. Of two pictures without
    structure it is 1 where they are equally bright, of one such and another picture 0.
    """
    found = whole(pictures, left, right)
    todo = np.flatnonzero(found < enough)
    flat = _spread(pictures.signatures[left[todo]]) < _FLAT
    flat |= _spread(pictures.signatures[right[todo]]) < _FLAT
    todo = todo[~flat]

    def align(part: slice) -> None:
        rows = todo[part]
        best = np.empty(len(rows), np.float32)
        _align(pictures.signatures, left[rows], right[rows], _cuts(), best)
        found[rows] = np.maximum(found[rows], best)

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        list(pool.map(align, _parts(len(todo), _BATCH)))
    return found


def whole(pictures: Pictures, left: NDArray[np.int64], right: NDArray[np.int64]) -> Floats:
    """`alike` without windows: float32 (P,)."""
    found = np.empty(len(left), np.float32)
    for part in _parts(len(left), _WHOLE):
        a = pictures.signatures[left[part]].astype(np.float32)
        b = pictures.signatures[right[part]].astype(np.float32)
        level = np.abs(a.mean(axis=1) - b.mean(axis=1))
        a -= a.mean(axis=1, keepdims=True)
        b -= b.mean(axis=1, keepdims=True)
        wide, tall = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            value = np.einsum("ij,ij->i", a, b) / (wide * tall)
        poor_a, poor_b = wide < _FLAT * SIDE, tall < _FLAT * SIDE
        value[poor_a ^ poor_b] = 0.0
        both = poor_a & poor_b
        value[both] = (level[both] <= _FLAT).astype(np.float32)
        found[part] = value
    return found


def _spread(signatures: NDArray[np.uint8]) -> Floats:
    spread: Floats = signatures.astype(np.float32).std(axis=1)
    return spread


@_compiled
def _align(
    signatures: NDArray[np.uint8],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    cuts: Floats,
    out: Floats,
) -> None:
    """Largest correlation of one picture of each pair with a window of the other, into (P,)."""
    a, b = np.empty((SIDE, SIDE), np.float32), np.empty((SIDE, SIDE), np.float32)
    half = np.empty((SIDE, SIDE), np.float32)
    sums, squares = np.zeros((SIDE + 1, SIDE + 1)), np.zeros((SIDE + 1, SIDE + 1))
    for pair in range(len(left)):
        _soften(signatures[left[pair]], a, half)
        _soften(signatures[right[pair]], b, half)
        _integrate(a, sums, squares)
        best = _search(a, b, sums, squares, cuts)
        _integrate(b, sums, squares)
        out[pair] = max(best, _search(b, a, sums, squares, cuts))


@_compiled
def _search(a: Floats, b: Floats, sums: Table, squares: Table, cuts: Floats) -> float:
    """Largest correlation of the whole of `b` with a window of `a`, of every size and place."""
    half, small = np.empty((SIDE, SIDE), np.float32), np.empty((SIDE, SIDE), np.float32)
    best = -1.0
    for ky in range(len(cuts)):
        _shrink_columns(b, cuts[ky], half, ky)
        for kx in range(len(cuts)):
            norm = _shrink_rows(half, cuts[kx], small, (SIDE - ky, SIDE - kx))
            if norm > 0.0:
                best = max(best, _slide(a, small, sums, squares, (ky, kx)) / norm)
    return best


@_compiled
def _slide(
    a: Floats, small: Floats, sums: Table, squares: Table, shorter: tuple[int, int]
) -> float:
    """Largest product of `small`, zero mean, with a normed window of `a` of the same size."""
    tall, wide = SIDE - shorter[0], SIDE - shorter[1]
    best = -1e30
    for oy in range(shorter[0] + 1):
        for ox in range(shorter[1] + 1):
            total = np.float32(0.0)
            for y in range(tall):
                for x in range(wide):
                    total += small[y, x] * a[y + oy, x + ox]
            low = sums[oy + tall, ox + wide] - sums[oy, ox + wide]
            low += sums[oy, ox] - sums[oy + tall, ox]
            power = squares[oy + tall, ox + wide] - squares[oy, ox + wide]
            power += squares[oy, ox] - squares[oy + tall, ox] - low * low / (tall * wide)
            if power > 1.0:
                best = max(best, float(total) / math.sqrt(power))
    return best


@_compiled
def _integrate(a: Floats, sums: Table, squares: Table) -> None:
    """Sums and sums of squares of everything above and left of each place."""
    for y in range(SIDE):
        line, line2 = 0.0, 0.0
        for x in range(SIDE):
            line += a[y, x]
            line2 += a[y, x] * a[y, x]
            sums[y + 1, x + 1] = sums[y, x + 1] + line
            squares[y + 1, x + 1] = squares[y, x + 1] + line2


@_compiled
def _shrink_columns(b: Floats, cut: Floats, half: Floats, less: int) -> None:
    """Shrink the columns of `b` by `less` cells into `half`."""
    for y in range(SIDE - less):
        for x in range(SIDE):
            total = np.float32(0.0)
            for n in range(y, y + less + 1):
                total += cut[y, n] * b[n, x]
            half[y, x] = total


@_compiled
def _soften(signature: NDArray[np.uint8], out: Floats, half: Floats) -> None:
    """A signature under a 1-2-1 filter both ways: half a pixel of shift must not matter."""
    for y in range(SIDE):
        for x in range(SIDE):
            before, after = max(x - 1, 0), min(x + 1, SIDE - 1)
            row = y * SIDE
            half[y, x] = (
                signature[row + before] + 2.0 * signature[row + x] + signature[row + after]
            ) * 0.25
    for y in range(SIDE):
        before, after = max(y - 1, 0), min(y + 1, SIDE - 1)
        for x in range(SIDE):
            out[y, x] = (half[before, x] + 2.0 * half[y, x] + half[after, x]) * 0.25


@_compiled
def _shrink_rows(half: Floats, cut: Floats, small: Floats, size: tuple[int, int]) -> float:
    """Shrink the rows of `half` to `size` (rows, columns) into `small`, zero mean; its norm."""
    tall, wide = size
    mean, power = 0.0, 0.0
    for y in range(tall):
        for x in range(wide):
            total = np.float32(0.0)
            for n in range(x, x + SIDE - wide + 1):
                total += cut[x, n] * half[y, n]
            small[y, x] = total
            mean += total
    mean /= tall * wide
    for y in range(tall):
        for x in range(wide):
            small[y, x] -= np.float32(mean)
            power += small[y, x] * small[y, x]
    return math.sqrt(power)


@cache
def _cuts() -> Floats:
    """Box filters from 32 pixels to 32, 31, ... 25 cells, (8, 32, 32); unused rows are zero."""
    found = np.zeros((_SHORTER + 1, SIDE, SIDE), np.float32)
    for less in range(_SHORTER + 1):
        cells = SIDE - less
        edges = np.arange(cells + 1) * SIDE / cells
        low, high = edges[:-1, None], edges[1:, None]
        pixel = np.arange(SIDE)[None, :]
        share = np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0.0, None)
        found[less, :cells] = share / (high - low)
    return found


def _parts(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, start + size)
