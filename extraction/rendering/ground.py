"""Trench and soil: the relief that everything else lies in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from extraction.rendering.canvas import Canvas, Colour, Frame
from extraction.rendering.noise import Floats, compiled, fbm, gradient, smooth


class Trench(NamedTuple):
    """Cross-section in metres: floor half widths, run and rise of the walls, ends, layers."""

    left: float
    right: float
    run_left: float
    run_right: float
    rise: float
    end_low: float
    end_high: float
    topsoil: float
    wander: float


class Soil(NamedTuple):
    """Colours (linear) and habit of one soil. `relief` scales lumps, `grain` sand, `wet` 0 to 1."""

    dark: Colour
    mid: Colour
    light: Colour
    top: Colour
    surface: Colour
    relief: float
    grain: float
    wet: float
    contrast: float
    tooling: float


COARSE = 8
"""Cells between two samples of the slow noises, which are interpolated."""


@compiled
def slow(table: Floats, frame: Frame, out: Floats) -> None:
    """Noises longer than a hand, on every COARSE-th cell: wander of the cut, swell of the floor."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            c = j * COARSE
            r = i * COARSE
            x = frame.x + frame.cell * (c * frame.cos - r * frame.sin)
            y = frame.y + frame.cell * (c * frame.sin + r * frame.cos)
            out[i, j, 0] = fbm(table, x * 3.1 + 40.0, y * 3.1, 2, 0.5)
            out[i, j, 1] = fbm(table, x * 2.3, y * 2.3, 2, 0.5)


@compiled
def between(samples: Floats, r: int, c: int, k: int) -> float:
    """A slow noise at a cell."""
    i = r // COARSE
    j = c // COARSE
    v = (r - i * COARSE) / COARSE
    u = (c - j * COARSE) / COARSE
    top = samples[i, j, k] * (1.0 - u) + samples[i, j + 1, k] * u
    low = samples[i + 1, j, k] * (1.0 - u) + samples[i + 1, j + 1, k] * u
    return float(top * (1.0 - v) + low * v)


@compiled
def wall(trench: Trench, table: Floats, x: float, y: float, wander: float) -> float:
    """Height of the bare cut, metres above the floor; `wander` in [-1, 1] moves its edge."""
    side = y + trench.wander * wander
    if side < 0.0:
        t = (-side - trench.left) / trench.run_left
    else:
        t = (side - trench.right) / trench.run_right
    # Broken edges: the cut steps back where clods fell out.
    if -0.1 < t < 1.3:
        t += 0.16 * fbm(table, x * 9.0, y * 9.0 + 11.0, 2, 0.5) * smooth(-0.1, 0.3, t)
    z = trench.rise * min(1.0, max(0.0, t)) ** 0.85
    end = max(smooth(0.0, 0.45, x - trench.end_high), smooth(0.0, 0.45, trench.end_low - x))
    return float(max(z, 0.8 * trench.rise * end))


@compiled
def paint(
    height: Floats,
    albedo: Floats,
    gloss: Floats,
    frame: Frame,
    table: Floats,
    trench: Trench,
    soil: Soil,
) -> None:
    """Fill the canvas with the trench in this soil."""
    rows, columns = height.shape
    samples = np.empty((rows // COARSE + 2, columns // COARSE + 2, 2), np.float32)
    slow(table, frame, samples)
    fine = 4 if frame.cell < 0.0009 else 3 if frame.cell < 0.0018 else 2
    for r in range(rows):
        for c in range(columns):
            x = frame.x + frame.cell * (c * frame.cos - r * frame.sin)
            y = frame.y + frame.cell * (c * frame.sin + r * frame.cos)
            z = wall(trench, table, x, y, between(samples, r, c, 0))
            # On the walls the grain follows the cut, not its projection.
            y += 1.1 * z if y > 0.0 else -1.1 * z
            broad = between(samples, r, c, 1)
            lump = fbm(table, x * 13.0 + broad, y * 13.0 - broad, 3, 0.55)
            sand = fbm(table, x * 95.0, y * 95.0, fine, 0.7)
            # Spade and bucket teeth leave flat strips along the floor of stiff soil.
            strip = 0.0
            if soil.tooling > 0.15:
                strip = gradient(table, x * 2.1 + 9.0, y * 16.0 + 0.7 * broad)
            bare = z
            z += soil.relief * (0.022 * broad + 0.020 * lump * abs(lump) + 0.006 * lump)
            z += soil.tooling * 0.006 * strip + soil.grain * 0.0024 * sand
            tone = 0.5 + soil.contrast * (0.30 * broad + 0.45 * lump + 0.55 * sand)
            tone = min(1.0, max(0.0, tone))
            damp = smooth(0.75 - soil.wet, 1.25 - soil.wet, 0.5 + 0.7 * broad - 0.35 * lump)
            layer = smooth(-0.02, 0.02, bare - (trench.rise - trench.topsoil) + 0.05 * lump)
            crust = smooth(-0.012, 0.006, bare - trench.rise + 0.004 + 0.008 * sand)
            shade = (1.0 - 0.45 * damp) * (1.0 + 0.16 * sand)
            if crust > 0.01 and soil.surface[1] > 1.1 * soil.surface[0]:
                # Turf: short blades in two leanings.
                blade = gradient(table, x * 60.0 + 4.0 * lump, y * 270.0 + x * 90.0)
                blade += gradient(table, x * 270.0 - y * 80.0, y * 60.0 + 4.0 * sand)
                shade *= 1.0 + crust * (0.75 * blade + 0.25 * lump)
                z += crust * 0.007 * blade
            for k in range(3):
                if tone < 0.5:
                    value = soil.dark[k] + (soil.mid[k] - soil.dark[k]) * 2.0 * tone
                else:
                    value = soil.mid[k] + (soil.light[k] - soil.mid[k]) * (2.0 * tone - 1.0)
                value += layer * (soil.top[k] * (0.5 + tone) - value)
                value += crust * (soil.surface[k] * (0.55 + 0.9 * tone) - value)
                albedo[r, c, k] = max(0.004, value * shade)
            height[r, c] = z
            gloss[r, c] = 0.02 + 0.3 * damp


def draw(canvas: Canvas, table: Floats, trench: Trench, soil: Soil) -> None:
    """Draw trench and soil on an empty canvas."""
    paint(canvas.height, canvas.albedo, canvas.gloss, canvas.frame, table, trench, soil)
