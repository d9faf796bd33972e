"""Clods, stones, crumbs and rubble: rounded or broken lumps that lie on whatever is below them."""

from __future__ import annotations

import math

import numpy as np

from extraction.rendering.canvas import Canvas, Frame, bounds
from extraction.rendering.noise import Floats, compiled, gradient

COLUMNS = 14
"""x, y, half sizes (2), cos, sin, height, embedding, red, green, blue, gloss, rough, cut."""


def scatter(
    rng: np.random.Generator,
    count: int,
    *,
    area: tuple[float, float, float, float],
    smallest: float,
    largest: float,
    power: float,
    flat: float,
    embed: float,
    colours: np.ndarray,
    spread: float,
    gloss: float,
    rough: float,
    cut: float,
) -> Floats:
    """Random lumps: float32 (count, COLUMNS), largest first, diameters by a power law.

    `area` is x0, x1, y0, y1 in metres; `colours` (n, 3) linear; `flat` height over width.
    """
    u = rng.random(count)
    exponent = 1.0 - power
    size = (smallest**exponent + u * (largest**exponent - smallest**exponent)) ** (1.0 / exponent)
    size = np.sort(size)[::-1]
    angle = rng.random(count) * math.pi
    long = 0.5 * size * (0.85 + 0.5 * rng.random(count))
    wide = 0.5 * size * (0.6 + 0.4 * rng.random(count))
    pick = colours[rng.integers(0, len(colours), count)]
    tint = np.exp(spread * rng.standard_normal((count, 1))) * np.exp(
        0.25 * spread * rng.standard_normal((count, 3))
    )
    table = np.column_stack(
        [
            area[0] + (area[1] - area[0]) * rng.random(count),
            area[2] + (area[3] - area[2]) * rng.random(count),
            long,
            wide,
            np.cos(angle),
            np.sin(angle),
            2.0 * wide * flat * (0.7 + 0.5 * rng.random(count)),
            embed * (0.4 + rng.random(count)),
            np.clip(pick * tint, 0.004, 0.9),
            gloss * (0.5 + rng.random(count)),
            np.full(count, rough),
            np.full(count, cut),
        ]
    )
    return table.astype(np.float32)


@compiled
def rise(height: Floats, r: int, c: int) -> float:
    """Height difference among the neighbours of a cell, metres; huge at the edge of the canvas."""
    rows, columns = height.shape
    if r < 1 or c < 1 or r > rows - 2 or c > columns - 2:
        return 1e9
    low = min(height[r - 1, c], height[r + 1, c], height[r, c - 1], height[r, c + 1])
    high = max(height[r - 1, c], height[r + 1, c], height[r, c - 1], height[r, c + 1])
    return float(high - low)


@compiled
def paint(
    height: Floats,
    albedo: Floats,
    gloss: Floats,
    frame: Frame,
    table: Floats,
    lumps: Floats,
    steepest: float,
) -> None:
    """Draw the lumps in order; one whose place is steeper than `steepest` rolled away."""
    rows, columns = height.shape
    for i in range(lumps.shape[0]):
        x, y, a, b, cos, sin = lumps[i, :6]
        if a < 0.9 * frame.cell:
            continue
        r0, r1, c0, c1 = bounds(frame, rows, columns, x, y, a * 1.2, b * 1.2, cos, sin)
        if r1 - r0 < 2 or c1 - c0 < 2:
            continue
        mr = (r0 + r1) // 2
        mc = (c0 + c1) // 2
        if rise(height, mr, mc) > steepest * 2.0 * frame.cell + 0.003:
            continue
        tall = lumps[i, 6]
        base = height[mr, mc] - lumps[i, 7] * tall
        rough = lumps[i, 12]
        cut = lumps[i, 13]
        f1 = math.sin(i * 12.9898)
        f2 = math.cos(i * 78.233)
        pitch = 1.7 / a
        for r in range(r0, r1):
            for c in range(c0, c1):
                wx = frame.x + frame.cell * (c * frame.cos - r * frame.sin) - x
                wy = frame.y + frame.cell * (c * frame.sin + r * frame.cos) - y
                u = (wx * cos + wy * sin) / a
                v = (wy * cos - wx * sin) / b
                q = u * u + v * v
                if q > 1.5:
                    continue
                bump = gradient(table, wx * pitch + i * 3.7, wy * pitch + i * 1.3)
                q *= 1.0 + rough * bump
                if q >= 1.0:
                    continue
                dome = math.sqrt(1.0 - q)
                # Two planes cut the dome: broken stone and clods have faces.
                if cut > 0.0:
                    face = 1.15 - 0.45 * cut + 0.6 * cut * (u * f1 + v * f2)
                    side = 1.25 - 0.45 * cut + 0.7 * cut * (v * f1 - u * f2)
                    dome = min(dome, face, side)
                z = base + tall * dome + 0.06 * rough * tall * bump
                if z <= height[r, c]:
                    continue
                fine = gradient(table, wx * 210.0 + i, wy * 210.0)
                shade = 1.0 + 0.16 * fine + 0.12 * bump
                height[r, c] = z + 0.0006 * fine
                gloss[r, c] = lumps[i, 11]
                for k in range(3):
                    albedo[r, c, k] = lumps[i, 8 + k] * shade


def draw(canvas: Canvas, table: Floats, lumps: Floats, *, steepest: float = 1.1) -> None:
    """Draw lumps (n, COLUMNS) on the canvas."""
    paint(canvas.height, canvas.albedo, canvas.gloss, canvas.frame, table, lumps, steepest)
