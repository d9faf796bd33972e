"""Gradient noise in compiled loops: the grain of soil, rust and cloud without a visible lattice."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Function = TypeVar("Function", bound=Callable[..., Any])

PERIOD = 256
"""Lattice cells after which the noise repeats; a power of two."""


def compiled(function: Function) -> Function:
    """Compile with numba, cached on disk; strict IEEE arithmetic keeps bytes the same."""
    return cast("Function", njit(cache=True, error_model="numpy")(function))


def lattice(rng: np.random.Generator) -> Floats:
    """Unit gradients of one noise field: float32 (PERIOD, PERIOD, 2)."""
    angle = rng.random((PERIOD, PERIOD)) * (2.0 * math.pi)
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1).astype(np.float32)


@compiled
def gradient(table: Floats, x: float, y: float) -> float:
    """Perlin's improved noise at (x, y), about [-1, 1]; method: Perlin, SIGGRAPH 2002."""
    fx = math.floor(x)
    fy = math.floor(y)
    u = x - fx
    v = y - fy
    ix = int(fx) & 255
    iy = int(fy) & 255
    jx = (ix + 1) & 255
    jy = (iy + 1) & 255
    a = table[iy, ix, 0] * u + table[iy, ix, 1] * v
    b = table[iy, jx, 0] * (u - 1.0) + table[iy, jx, 1] * v
    c = table[jy, ix, 0] * u + table[jy, ix, 1] * (v - 1.0)
    d = table[jy, jx, 0] * (u - 1.0) + table[jy, jx, 1] * (v - 1.0)
    su = u * u * u * (u * (u * 6.0 - 15.0) + 10.0)
    sv = v * v * v * (v * (v * 6.0 - 15.0) + 10.0)
    top = a + su * (b - a)
    low = c + su * (d - c)
    return float(1.5 * (top + sv * (low - top)))


@compiled
def fbm(table: Floats, x: float, y: float, octaves: int, gain: float) -> float:
    """Sum of `octaves` rotated octaves, each `gain` times the last; about [-1, 1]."""
    total = 0.0
    weight = 1.0
    norm = 0.0
    for _ in range(octaves):
        total += weight * gradient(table, x, y)
        norm += weight
        weight *= gain
        # A rotation by an irrational angle keeps the lattices of the octaves apart.
        x, y = 1.62 * x - 1.21 * y + 17.3, 1.21 * x + 1.62 * y + 5.9
    return total / norm


@compiled
def smooth(low: float, high: float, value: float) -> float:
    """Smooth step from 0 at `low` to 1 at `high`."""
    t = min(1.0, max(0.0, (value - low) / (high - low)))
    return t * t * (3.0 - 2.0 * t)


@compiled
def speck(column: int, row: int, seed: int) -> float:
    """White noise in [0, 1) of an integer cell."""
    h = (column * 374761393 + row * 668265263 + seed * 2246822519) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    return float((h ^ (h >> 16)) & 0xFFFF) / 65536.0
