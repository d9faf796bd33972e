"""Light on the relief: sun with soft shadows, sky with occlusion, a lamp, wet shine."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from extraction.rendering.canvas import Canvas, Colour
from extraction.rendering.noise import Floats, compiled, fbm, smooth, speck


class Light(NamedTuple):
    """Directions in the frame of the canvas (columns, rows, up); strengths are linear RGB."""

    east: float
    north: float
    up: float
    sun: Colour
    sky: Colour
    lamp: Colour
    softness: float
    dapple: float
    water: float
    muddy: Colour


@compiled
def occlude(height: Floats, cell: float, out: Floats) -> None:
    """Share of the sky seen from every second cell, by horizons in eight directions."""
    rows, columns = height.shape
    half_rows, half_columns = out.shape
    for i in range(half_rows):
        for j in range(half_columns):
            r = min(rows - 1, 2 * i)
            c = min(columns - 1, 2 * j)
            z = height[r, c]
            turn = speck(j, i, 5) * 0.785
            open_ = 0.0
            for k in range(8):
                dc = math.cos(turn + k * 0.785398)
                dr = math.sin(turn + k * 0.785398)
                steep = 0.0
                reach = 2.0
                for _ in range(6):
                    rr = int(r + dr * reach)
                    cc = int(c + dc * reach)
                    if rr < 0 or cc < 0 or rr >= rows or cc >= columns:
                        break
                    slope = (height[rr, cc] - z) / (reach * cell)
                    steep = max(steep, slope)
                    reach *= 2.1
                open_ += 1.0 - steep / math.sqrt(1.0 + steep * steep)
            out[i, j] = open_ / 8.0


@compiled
def soften(source: Floats, out: Floats) -> None:
    """Mean over 3 x 3 cells."""
    rows, columns = source.shape
    for r in range(rows):
        for c in range(columns):
            total = 0.0
            for dr in range(-1, 2):
                for dc in range(-1, 2):
                    total += source[min(rows - 1, max(0, r + dr)), min(columns - 1, max(0, c + dc))]
            out[r, c] = total / 9.0


@compiled
def sunlit(height: Floats, cell: float, r: int, c: int, light: Light, top: float) -> float:
    """Share of the sun seen from a cell, 0 to 1, with a penumbra that widens with distance."""
    rows, columns = height.shape
    flat = math.sqrt(light.east * light.east + light.north * light.north)
    if flat < 1e-4:
        return 1.0
    dc = light.east / flat
    dr = light.north / flat
    rise = light.up / flat * cell
    z = height[r, c]
    seen = 1.0
    reach = 1.2 + 0.5 * speck(c, r, 11)
    growth = 0.12 if light.softness < 0.1 else 0.3
    for _ in range(40):
        rr = int(r + dr * reach + 0.5)
        cc = int(c + dc * reach + 0.5)
        if rr < 0 or cc < 0 or rr >= rows or cc >= columns:
            break
        ray = z + rise * reach
        if ray > top:
            break
        clear = (ray - height[rr, cc]) / (reach * cell * light.softness + 0.35 * cell)
        seen = min(seen, clear + 0.5)
        if seen <= 0.0:
            return 0.0
        reach += max(0.9, growth * reach)
    return max(0.0, seen)


@compiled
def flood(
    height: Floats, albedo: Floats, gloss: Floats, table: Floats, light: Light, cell: float
) -> None:
    """Fill everything below the water level with still, muddy water."""
    rows, columns = height.shape
    for r in range(rows):
        for c in range(columns):
            deep = light.water - height[r, c]
            if deep <= 0.0:
                # The bank is soaked for a hand's breadth above the water.
                soak = 1.0 - smooth(0.0, 0.02, -deep)
                for k in range(3):
                    albedo[r, c, k] *= 1.0 - 0.5 * soak
                gloss[r, c] += 0.3 * soak * (1.0 - gloss[r, c])
                continue
            ripple = 0.00022 * fbm(table, c * cell * 26.0, r * cell * 19.0, 2, 0.5)
            veil = 1.0 - math.exp(-deep * 55.0)
            for k in range(3):
                albedo[r, c, k] += veil * (light.muddy[k] - albedo[r, c, k])
            height[r, c] = light.water + ripple
            gloss[r, c] = 0.97


@compiled
def openness(sky: Floats, height: Floats, cell: float, r: int, c: int) -> float:
    """Share of the sky that lights a cell, with the finest hollows darkened; 0 to 1."""
    rows, columns = height.shape
    i = min(sky.shape[0] - 1, r // 2)
    j = min(sky.shape[1] - 1, c // 2)
    i2 = min(sky.shape[0] - 1, i + (r & 1))
    j2 = min(sky.shape[1] - 1, j + (c & 1))
    seen = 0.25 * (sky[i, j] + sky[i2, j] + sky[i, j2] + sky[i2, j2])
    r0, r1 = max(0, r - 1), min(rows - 1, r + 1)
    c0, c1 = max(0, c - 1), min(columns - 1, c + 1)
    around = 0.25 * (height[r0, c] + height[r1, c] + height[r, c0] + height[r, c1])
    seen *= min(1.12, max(0.45, 1.0 + 0.55 * (height[r, c] - around) / cell))
    seen = min(1.0, seen)
    return float(seen * (0.6 + 0.4 * seen))


@compiled
def shade(
    height: Floats,
    albedo: Floats,
    gloss: Floats,
    sky: Floats,
    cell: float,
    table: Floats,
    light: Light,
    eye: tuple[float, float, float],
    top: float,
    out: Floats,
) -> None:
    """Radiance of every cell towards the eye (metres from the first cell); all lies below `top`."""
    rows, columns = height.shape
    for r in range(rows):
        for c in range(columns):
            r0 = max(0, r - 1)
            r1 = min(rows - 1, r + 1)
            c0 = max(0, c - 1)
            c1 = min(columns - 1, c + 1)
            z = height[r, c]
            gx = -(height[r, c1] - height[r, c0]) / ((c1 - c0) * cell)
            gy = -(height[r1, c] - height[r0, c]) / ((r1 - r0) * cell)
            size = math.sqrt(gx * gx + gy * gy + 1.0)
            nx, ny, nz = gx / size, gy / size, 1.0 / size
            vx = eye[0] - c * cell
            vy = eye[1] - r * cell
            vz = eye[2] - z
            away = math.sqrt(vx * vx + vy * vy + vz * vz)
            vx, vy, vz = vx / away, vy / away, vz / away
            seen = openness(sky, height, cell, r, c)
            facing = nx * light.east + ny * light.north + nz * light.up
            sun = 0.0
            if facing > 0.0 and light.sun[0] > 0.12:
                sun = sunlit(height, cell, r, c, light, top)
                if light.dapple > 0.0:
                    leaf = fbm(table, c * cell * 6.0 + 90.0, r * cell * 6.0, 3, 0.55)
                    sun *= 1.0 - light.dapple * smooth(-0.05, 0.16, leaf)
            near = max(0.0, nx * vx + ny * vy + nz * vz)
            shine = gloss[r, c]
            fresnel = 0.04 + 0.96 * (1.0 - near) ** 5
            power = 5.0 + 220.0 * shine * shine * shine
            hx, hy, hz = light.east + vx, light.north + vy, light.up + vz
            half = math.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9
            glint = 0.0
            if sun > 0.0 and shine > 0.03:
                glint = max(0.0, (nx * hx + ny * hy + nz * hz) / half) ** power
                glint *= sun * shine * (0.12 + 0.006 * power)
            spot = 0.0
            if light.lamp[0] > 0.0:
                spot = near**power * shine * (0.1 + 0.004 * power) / (away * away)
            mirror = shine * (0.25 + 0.75 * shine) * fresnel * seen * (0.4 + 0.6 * nz)
            if shine > 0.95:
                # Still water shows clouds and the dark rim of the cut.
                cloud = fbm(table, c * cell * 2.4 + 31.0, r * cell * 2.4, 3, 0.5)
                mirror *= 0.25 + 0.75 * smooth(-0.25, 0.45, cloud)
            mirror += 0.03 * shine * (1.0 - shine) * seen * nz
            for k in range(3):
                paint = albedo[r, c, k]
                level = light.sun[k] * max(0.0, facing) * sun
                level += light.sky[k] * seen * (0.6 + 0.4 * nz)
                # Light that the soil throws into its own hollows.
                level += 0.22 * (1.0 - seen) * paint * (light.sky[k] + 0.6 * light.sun[k])
                level += light.lamp[k] * (near / (away * away))
                value = paint * level + mirror * light.sky[k] * 2.0
                value += glint * light.sun[k] + spot * light.lamp[k]
                out[r, c, k] = value


def render(canvas: Canvas, table: Floats, light: Light, eye: tuple[float, float, float]) -> Floats:
    """Radiance float32 (R, C, 3) of the canvas, on which water is filled in first."""
    height, cell = canvas.height, canvas.frame.cell
    rows, columns = height.shape
    raw = np.empty(((rows + 1) // 2, (columns + 1) // 2), np.float32)
    sky = np.empty_like(raw)
    if light.water > -1.0:
        flood(height, canvas.albedo, canvas.gloss, table, light, cell)
    occlude(height, cell, raw)
    soften(raw, sky)
    out = np.empty_like(canvas.albedo)
    shade(
        height, canvas.albedo, canvas.gloss, sky, cell, table, light, eye, float(height.max()), out
    )
    return out
