"""How alike two pictures are: hashes, and grey signatures compared after alignment.

A crop moves what a picture shows, so two signatures are compared by the largest correlation over
windows of the one that may be the whole of the other. Correlation ignores brightness and contrast.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from analytics.compiler import compiled

SIDE = 48
"""Side of a signature."""
_GRID = 24
"""Side at which windows are looked for, before the best is refined."""
_SHORTER = 5
"""Most cells by which a side of a window is shorter: it has at least 0.79 of the picture's."""
_FLAT = 2.0
"""A picture whose grey values spread less than this has no structure to compare."""
_FINE = 1.0
_COARSE = 3.0
_DOUBTFUL = 0.7
_BATCH = 256
_WHOLE = 8192

Floats = NDArray[np.float32]
Table = NDArray[np.float64]


_compiled = partial(compiled, fast=("reassoc", "contract"))
"""Sums may be taken in any order."""


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """What N pictures are compared by.

    `hashes` int64 (N,) are 64 bits each, `signatures` uint8 (N, 2304), `known` bool (N,): whether
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
    enough: float = 0.99,
    threads: int | None = None,
) -> Floats:
    """How alike the pictures of each pair of rows are, float32 (P,) in [-1, 1].

    The largest correlation of one signature with a window of the other, of at least 0.79 of its
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
        own, place = np.unique(np.concatenate([left[rows], right[rows]]), return_inverse=True)
        detail = _detail(pictures.signatures[own])
        best = np.empty(len(rows), np.float32)
        coarse = detail.reshape(-1, _GRID, 2, _GRID, 2).mean(axis=(2, 4))
        _align(detail, coarse, place[: len(rows)], place[len(rows) :], _cuts(), best)
        found[rows] = best

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


def _detail(signatures: NDArray[np.uint8]) -> Floats:
    """The middle frequencies of signatures, float32 (P, 48, 48).

    Below them all pictures of a kind are alike, above them half a pixel of shift decides.
    """
    images = signatures.reshape(-1, SIDE, SIDE).astype(np.float32)
    fine = gaussian_filter(images, (0, _FINE, _FINE), mode="nearest")
    detail: Floats = fine - gaussian_filter(images, (0, _COARSE, _COARSE), mode="nearest")
    return detail


@_compiled
def _align(  # noqa: PLR0917 - numba takes arguments by place
    detail: Floats,
    coarse: Floats,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    cuts: Floats,
    out: Floats,
) -> None:
    """Largest correlation of one picture of each pair with a window of the other, into (P,)."""
    sums, squares = np.zeros((_GRID + 1, _GRID + 1)), np.zeros((_GRID + 1, _GRID + 1))
    window, best = np.zeros(4), np.zeros(4)
    for pair in range(len(left)):
        likeness, kept = -1.0, 0
        for turn in range(2):
            a = coarse[left[pair] if turn == 0 else right[pair]]
            b = coarse[right[pair] if turn == 0 else left[pair]]
            _integrate(a, sums, squares)
            value = _search(a, b, (sums, squares), cuts, window)
            if value > likeness:
                likeness, best[:] = value, window
                kept = turn
        if likeness > _DOUBTFUL:
            a = detail[left[pair] if kept == 0 else right[pair]]
            b = detail[right[pair] if kept == 0 else left[pair]]
            likeness = _refine(a, b, best * (SIDE / _GRID))
        out[pair] = likeness


@_compiled
def _search(
    a: Floats, b: Floats, tables: tuple[Table, Table], cuts: Floats, window: Table
) -> float:
    """Largest correlation of the whole of `b` with a window of `a`, of every size and place.

    `window` becomes top, left, height and width of it, in cells.
    """
    half, small = np.empty((_GRID, _GRID), np.float32), np.empty((_GRID, _GRID), np.float32)
    best = -1.0
    for ky in range(len(cuts)):
        _shrink_columns(b, cuts[ky], half, ky)
        for kx in range(len(cuts)):
            norm = _shrink_rows(half, cuts[kx], small, (_GRID - ky, _GRID - kx))
            if norm > 0.0:
                value, oy, ox = _slide(a, small, tables, (ky, kx))
                if value / norm > best:
                    best = value / norm
                    window[0], window[1] = oy, ox
                    window[2], window[3] = _GRID - ky, _GRID - kx
    return best


@_compiled
def _refine(a: Floats, b: Floats, window: Table) -> float:
    """The correlation of `b` with a window of `a` that need not begin or end at a pixel."""
    best = _between(a, b, window)
    tried = np.zeros(4)
    for step in (2.0, 1.0, 0.5, 0.25):
        for _ in range(4):
            moved = False
            for side in range(4):
                for sign in (-1.0, 1.0):
                    tried[:] = window
                    tried[side] += sign * step
                    value = _between(a, b, tried)
                    if value > best:
                        best, window[:], moved = value, tried, True
            if not moved:
                break
    return best


@_compiled
def _between(a: Floats, b: Floats, window: Table) -> float:
    """Correlation of a window of `a` with `b`, read between its pixels; -1 for no such window."""
    top, begin, tall, wide = window
    inside = top > -0.51 and begin > -0.51 and top + tall < SIDE + 0.51
    if not inside or begin + wide > SIDE + 0.51 or min(tall, wide) < 0.76 * SIDE:
        return -1.0
    sum_a, sum_b, square_a, square_b, product, count = 0.0, 0.0, 0.0, 0.0, 0.0, 0
    for y in range(SIDE):
        at_y = (y + 0.5 - top) * SIDE / tall - 0.5
        if at_y < 0.0 or at_y > SIDE - 1.0:
            continue
        y0 = min(int(at_y), SIDE - 2)
        fy = at_y - y0
        for x in range(SIDE):
            at_x = (x + 0.5 - begin) * SIDE / wide - 0.5
            if at_x < 0.0 or at_x > SIDE - 1.0:
                continue
            x0 = min(int(at_x), SIDE - 2)
            fx = at_x - x0
            value = (1.0 - fy) * ((1.0 - fx) * b[y0, x0] + fx * b[y0, x0 + 1])
            value += fy * ((1.0 - fx) * b[y0 + 1, x0] + fx * b[y0 + 1, x0 + 1])
            sum_b += value
            square_b += value * value
            sum_a += a[y, x]
            square_a += a[y, x] * a[y, x]
            product += value * a[y, x]
            count += 1
    power = (square_a - sum_a * sum_a / count) * (square_b - sum_b * sum_b / count)
    return (product - sum_a * sum_b / count) / math.sqrt(power) if power > 1.0 else -1.0


@_compiled
def _slide(
    a: Floats, small: Floats, tables: tuple[Table, Table], shorter: tuple[int, int]
) -> tuple[float, int, int]:
    """Largest product of `small`, zero mean, with a normed window of `a`, and where that begins."""
    tall, wide = _GRID - shorter[0], _GRID - shorter[1]
    sums, squares = tables
    best, top, begin = -1e30, 0, 0
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
            if power > 1.0 and float(total) / math.sqrt(power) > best:
                best, top, begin = float(total) / math.sqrt(power), oy, ox
    return best, top, begin


@_compiled
def _integrate(a: Floats, sums: Table, squares: Table) -> None:
    """Sums and sums of squares of everything above and left of each place."""
    for y in range(_GRID):
        line, line2 = 0.0, 0.0
        for x in range(_GRID):
            line += a[y, x]
            line2 += a[y, x] * a[y, x]
            sums[y + 1, x + 1] = sums[y, x + 1] + line
            squares[y + 1, x + 1] = squares[y, x + 1] + line2


@_compiled
def _shrink_columns(b: Floats, cut: Floats, half: Floats, less: int) -> None:
    """Shrink the columns of `b` by `less` cells into `half`."""
    for y in range(_GRID - less):
        for x in range(_GRID):
            total = np.float32(0.0)
            for n in range(y, y + less + 1):
                total += cut[y, n] * b[n, x]
            half[y, x] = total


@_compiled
def _shrink_rows(half: Floats, cut: Floats, small: Floats, size: tuple[int, int]) -> float:
    """Shrink the rows of `half` to `size` (rows, columns) into `small`, zero mean; its norm."""
    tall, wide = size
    mean, power = 0.0, 0.0
    for y in range(tall):
        for x in range(wide):
            total = np.float32(0.0)
            for n in range(x, x + _GRID - wide + 1):
                total += cut[x, n] * half[y, n]
            small[y, x] = total
            mean += float(total)
    mean /= tall * wide
    for y in range(tall):
        for x in range(wide):
            small[y, x] -= np.float32(mean)
            power += small[y, x] * small[y, x]
    return math.sqrt(power)


@cache
def _cuts() -> Floats:
    """Box filters from 24 cells to 24, 23, ... 19, float32 (6, 24, 24); unused rows are zero."""
    found = np.zeros((_SHORTER + 1, _GRID, _GRID), np.float32)
    for less in range(_SHORTER + 1):
        cells = _GRID - less
        edges = np.arange(cells + 1) * _GRID / cells
        low, high = edges[:-1, None], edges[1:, None]
        pixel = np.arange(_GRID)[None, :]
        share = np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0.0, None)
        found[less, :cells] = share / (high - low)
    return found


def _parts(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, start + size)
