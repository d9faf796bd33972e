"""Flat things with a picture on them (staff, tape, paper, brick, blade) and upright round ones."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from extraction.rendering.canvas import Canvas, Colour, Frame, bounds
from extraction.rendering.ground import Soil
from extraction.rendering.noise import Floats, compiled, fbm, gradient, smooth


class Slab(NamedTuple):
    """A rectangle at (x, y), half sizes in metres; at `z` or, by `drape`, on what is below."""

    x: float
    y: float
    angle: float
    long: float
    wide: float
    z: float
    thick: float = 0.01
    drape: float = 0.0
    tilt: float = 0.0
    corner: float = 0.002
    gloss: float = 0.1
    dirt: float = 0.2
    rough: float = 0.0
    crease: float = 0.0


class Puck(NamedTuple):
    """An upright cylinder at (x, y): radius, top height, dome and facets (0 round, 6 a nut)."""

    x: float
    y: float
    radius: float
    z: float
    colour: Colour
    dome: float = 0.2
    facets: float = 0.0
    gloss: float = 0.3
    rust: float = 0.0
    hole: float = 0.0
    skirt: float = 9.0


@compiled
def paint(
    height: Floats,
    albedo: Floats,
    gloss: Floats,
    frame: Frame,
    table: Floats,
    slab: Slab,
    picture: Floats,
    soil: Soil,
) -> None:
    """Draw a slab whose face shows `picture` float32 (H, W, 3)."""
    rows, columns = height.shape
    cos = math.cos(slab.angle)
    sin = math.sin(slab.angle)
    r0, r1, c0, c1 = bounds(
        frame, rows, columns, slab.x, slab.y, slab.long * 1.05, slab.wide * 1.05, cos, sin
    )
    tall, broad = picture.shape[0], picture.shape[1]
    for r in range(r0, r1):
        for c in range(c0, c1):
            wx = frame.x + frame.cell * (c * frame.cos - r * frame.sin)
            wy = frame.y + frame.cell * (c * frame.sin + r * frame.cos)
            u = (wx - slab.x) * cos + (wy - slab.y) * sin
            v = (wy - slab.y) * cos - (wx - slab.x) * sin
            if slab.rough > 0.0:
                u += slab.rough * fbm(table, wx * 40.0, wy * 40.0, 3, 0.6)
                v += slab.rough * fbm(table, wx * 40.0 + 50.0, wy * 40.0, 3, 0.6)
            inside = min(slab.long - abs(u), slab.wide - abs(v))
            if inside <= 0.0:
                continue
            crease = gradient(table, u * 14.0 + 3.0, v * 22.0) + 0.5 * gradient(
                table, u * 45.0, v * 30.0
            )
            z = slab.z + slab.thick + slab.tilt * u + slab.crease * crease
            if slab.drape > 0.0:
                z = max(z, height[r, c] * slab.drape + (1.0 - slab.drape) * z + slab.thick)
            if inside < slab.corner:
                z -= slab.corner - inside
            if slab.rough > 0.0:
                z += 0.5 * slab.rough * fbm(table, wx * 120.0, wy * 120.0, 2, 0.6)
            if z <= height[r, c]:
                continue
            px = min(broad - 1.001, max(0.0, (u / slab.long * 0.5 + 0.5) * (broad - 1)))
            py = min(tall - 1.001, max(0.0, (v / slab.wide * 0.5 + 0.5) * (tall - 1)))
            i = int(px)
            j = int(py)
            fu = px - i
            fv = py - j
            film = fbm(table, wx * 12.0 + 20.0, wy * 12.0, 3, 0.6)
            cover = slab.dirt * smooth(-0.3, 0.5, film) + 0.5 * slab.dirt * smooth(0.2, 0.5, film)
            cover = min(1.0, cover)
            tone = 1.0 + 0.3 * film
            height[r, c] = z
            gloss[r, c] = slab.gloss * (1.0 - cover)
            for k in range(3):
                top = picture[j, i, k] * (1.0 - fu) + picture[j, i + 1, k] * fu
                low = picture[j + 1, i, k] * (1.0 - fu) + picture[j + 1, i + 1, k] * fu
                value = top * (1.0 - fv) + low * fv
                albedo[r, c, k] = value + cover * (soil.mid[k] * tone - value)


@compiled
def stand(
    height: Floats,
    albedo: Floats,
    gloss: Floats,
    frame: Frame,
    table: Floats,
    puck: Puck,
    soil: Soil,
) -> None:
    """Draw one upright cylinder."""
    rows, columns = height.shape
    r0, r1, c0, c1 = bounds(
        frame, rows, columns, puck.x, puck.y, puck.radius, puck.radius, 1.0, 0.0
    )
    for r in range(r0, r1):
        for c in range(c0, c1):
            u = frame.x + frame.cell * (c * frame.cos - r * frame.sin) - puck.x
            v = frame.y + frame.cell * (c * frame.sin + r * frame.cos) - puck.y
            q = math.sqrt(u * u + v * v) / puck.radius
            if puck.facets > 0.0:
                step = 2.0 * math.pi / puck.facets
                turn = math.atan2(v, u) + 0.4
                turn = turn - step * math.floor(turn / step + 0.5)
                q *= math.cos(turn) / math.cos(0.5 * step)
            if q >= 1.0:
                continue
            z = puck.z - puck.dome * puck.radius * q * q
            if q > 0.82:
                z -= puck.radius * (q - 0.82) * 0.8
            dark = 1.0
            if puck.hole > 0.0 and q < puck.hole:
                z -= puck.radius * 0.9
                dark = 0.35
            if z <= height[r, c] or z > height[r, c] + puck.skirt:
                continue
            stain = fbm(table, (puck.x + u) * 60.0, (puck.y + v) * 60.0, 3, 0.6)
            crust = smooth(0.45 - puck.rust, 0.7 - puck.rust, 0.5 * stain + 0.1) * min(
                1.0, puck.rust * 9.0
            )
            cover = smooth(0.15, 0.55, stain + 0.3 * q)
            shade = dark * (1.0 + 0.15 * stain)
            height[r, c] = z
            gloss[r, c] = puck.gloss * (1.0 - crust) * (1.0 - 0.6 * cover)
            hue = 0.5 + 0.5 * stain
            for k in range(3):
                value = puck.colour[k] * shade
                rust = (0.25, 0.095, 0.035)[k] * (0.4 + hue)
                value += crust * (rust - value)
                albedo[r, c, k] = value + 0.5 * cover * (soil.mid[k] - value)


def draw(canvas: Canvas, table: Floats, slab: Slab, picture: Floats, soil: Soil) -> None:
    """Draw a slab on the canvas."""
    paint(canvas.height, canvas.albedo, canvas.gloss, canvas.frame, table, slab, picture, soil)


def erect(canvas: Canvas, table: Floats, puck: Puck, soil: Soil) -> None:
    """Draw an upright cylinder on the canvas."""
    stand(canvas.height, canvas.albedo, canvas.gloss, canvas.frame, table, puck, soil)


def plain(colour: Colour) -> Floats:
    """A picture of one colour."""
    return np.broadcast_to(np.asarray(colour, np.float32), (2, 2, 3)).copy()
