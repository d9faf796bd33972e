"""Round things lying in the trench: pipes, cables, ducts, sleeves, flanges, bolts, roots, bones."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from extraction.rendering.canvas import Canvas, Colour, Frame, bounds
from extraction.rendering.ground import Soil
from extraction.rendering.noise import Floats, compiled, fbm, gradient, smooth


class Shape(NamedTuple):
    """Axis and profile in metres: from (x, y) at `angle`, s in [low, high], centre height `z`."""

    x: float
    y: float
    angle: float
    low: float
    high: float
    z: float
    radius: float
    slope: float = 0.0
    bend: float = 0.0
    wave: float = 1.0
    phase: float = 0.0
    chamfer: float = 0.0
    rib: float = 0.0
    pitch: float = 1.0
    twist: float = 0.0
    lump: float = 0.0


class Skin(NamedTuple):
    """Surface: colours, stripes along the axis, gloss, and wear (rust, pits, dirt, scratches)."""

    colour: Colour
    second: Colour = (0.0, 0.0, 0.0)
    stripes: float = 0.0
    stripe_width: float = 0.12
    stripe_phase: float = 0.0
    gloss: float = 0.25
    rust: float = 0.0
    pit: float = 0.0
    dirt: float = 0.3
    scratch: float = 0.3
    mottle: float = 0.1
    print_at: float = 0.0
    print_length: float = 0.0
    print_height: float = 0.01
    print_arc: float = 0.0
    print_tone: float = 0.0


BLANK = np.zeros((2, 2), np.uint8)


def lettering(text: str) -> np.ndarray:
    """The text as a uint8 (H, W) mask, in the font that Pillow carries."""
    font = ImageFont.load_default(28)
    box = font.getbbox(text)
    mask = Image.new("L", (int(box[2]) + 8, 36), 0)
    ImageDraw.Draw(mask).text((4, 1), text, fill=255, font=font)
    return np.asarray(mask)


@compiled
def inked(skin: Skin, mask: np.ndarray, s: float, arc: float) -> float:
    """How much print there is at s and arc (metres), 0 to 1; the line repeats along the tube."""
    if skin.print_length <= 0.0:
        return 0.0
    period = 2.2 * skin.print_length
    u = (s - skin.print_at) - period * math.floor((s - skin.print_at) / period)
    v = (arc - skin.print_arc) / skin.print_height + 0.5
    if u >= skin.print_length or v < 0.0 or v >= 1.0:
        return 0.0
    px = u / skin.print_length * (mask.shape[1] - 1)
    py = v * (mask.shape[0] - 1)
    i = int(px)
    j = int(py)
    i2 = min(i + 1, mask.shape[1] - 1)
    j2 = min(j + 1, mask.shape[0] - 1)
    fu = px - i
    fv = py - j
    top = mask[j, i] * (1.0 - fu) + mask[j, i2] * fu
    low = mask[j2, i] * (1.0 - fu) + mask[j2, i2] * fu
    return float((top * (1.0 - fv) + low * fv) / 255.0)


@compiled
def colour_at(
    skin: Skin,
    mask: np.ndarray,
    table: Floats,
    s: float,
    around: float,
    arc: float,
) -> tuple[float, float, float, float, float]:
    """Red, green, blue, gloss and relief (0 to 1 rust crust) of the clean skin."""
    red, green, blue = skin.colour
    shine = skin.gloss
    if skin.stripes > 0.0:
        turn = (around + skin.stripe_phase) * skin.stripes / (2.0 * math.pi)
        off = abs(turn - math.floor(turn + 0.5)) * 2.0 * math.pi / skin.stripes
        hit = 1.0 - smooth(skin.stripe_width * 0.85, skin.stripe_width * 1.1, off)
        red += hit * (skin.second[0] - red)
        green += hit * (skin.second[1] - green)
        blue += hit * (skin.second[2] - blue)
    cloud = fbm(table, s * 7.0 + 3.0, arc * 11.0, 3, 0.55)
    fade = 1.0 + skin.mottle * cloud
    red *= fade
    green *= fade
    blue *= fade
    ink = inked(skin, mask, s, arc) * (0.75 + 0.5 * cloud)
    ink = 0.85 * min(1.0, max(0.0, ink))
    red += ink * (skin.print_tone - red)
    green += ink * (skin.print_tone - green)
    blue += ink * (skin.print_tone - blue)
    if skin.scratch > 0.0:
        line = gradient(table, s * 5.0, arc * 420.0 + 1.3 * cloud)
        chafe = gradient(table, s * 60.0 + 8.0, arc * 160.0)
        mark = skin.scratch * (smooth(0.42, 0.62, line) * 0.3 + smooth(0.5, 0.8, chafe) * 0.18)
        red += mark * (0.55 - red)
        green += mark * (0.53 - green)
        blue += mark * (0.5 - blue)
        shine *= 1.0 - 0.6 * mark
    crust = 0.0
    if skin.rust > 0.0:
        scale = fbm(table, s * 22.0, arc * 22.0 + 31.0, 4, 0.62)
        crust = smooth(0.52 - skin.rust, 0.72 - skin.rust, 0.5 * scale + 0.35 * cloud)
        hue = 0.5 + 0.9 * fbm(table, s * 48.0 + 5.0, arc * 48.0, 3, 0.6)
        hue = 0.85 * min(1.0, max(0.0, hue))
        red += crust * (0.05 + 0.19 * hue - red)
        green += crust * (0.026 + 0.07 * hue * hue + 0.018 * hue - green)
        blue += crust * (0.016 + 0.028 * hue * hue - blue)
        shine *= 1.0 - 0.9 * crust
    return red, green, blue, shine, crust


@compiled
def offset(shape: Shape, s: float, d: float) -> float:
    """Distance from the bent axis, where `d` is the distance from the straight one."""
    if shape.bend <= 0.0:
        return d
    lean = shape.bend * shape.wave * math.cos(shape.wave * s + shape.phase)
    off = d - shape.bend * math.sin(shape.wave * s + shape.phase)
    return off / math.sqrt(1.0 + lean * lean)


@compiled
def radius_at(shape: Shape, table: Floats, s: float, d: float) -> float:
    """Radius at s and offset d: rounded ends, irregular growth, ribs."""
    radius = shape.radius
    if shape.chamfer > 0.0:
        edge = min(s - shape.low, shape.high - s)
        if edge < shape.chamfer:
            rest = 1.0 - edge / shape.chamfer
            radius -= shape.chamfer * (1.0 - math.sqrt(max(0.0, 1.0 - rest * rest)))
    if shape.lump > 0.0:
        radius *= 1.0 + shape.lump * fbm(table, s * 14.0 + shape.z * 90.0, d * 9.0, 2, 0.5)
    if shape.rib > 0.0:
        turn = math.asin(min(1.0, max(-1.0, d / (shape.radius + shape.rib))))
        wave = math.cos(2.0 * math.pi * s / shape.pitch + shape.twist * turn)
        radius += shape.rib * min(1.0, max(-1.0, 1.6 * wave))
    return radius


@compiled
def paint(
    height: Floats,
    albedo: Floats,
    gloss: Floats,
    frame: Frame,
    table: Floats,
    shape: Shape,
    skin: Skin,
    mask: np.ndarray,
    soil: Soil,
) -> None:
    """Draw one tube where it is above what is there."""
    rows, columns = height.shape
    cos = math.cos(shape.angle)
    sin = math.sin(shape.angle)
    middle = 0.5 * (shape.low + shape.high)
    half = 0.5 * (shape.high - shape.low)
    reach = shape.radius * (1.0 + shape.lump) + shape.rib + shape.bend
    r0, r1, c0, c1 = bounds(
        frame, rows, columns, shape.x + cos * middle, shape.y + sin * middle, half, reach, cos, sin
    )
    for r in range(r0, r1):
        for c in range(c0, c1):
            wx = frame.x + frame.cell * (c * frame.cos - r * frame.sin)
            wy = frame.y + frame.cell * (c * frame.sin + r * frame.cos)
            s = (wx - shape.x) * cos + (wy - shape.y) * sin
            if s < shape.low or s > shape.high:
                continue
            d = (wy - shape.y) * cos - (wx - shape.x) * sin
            d = offset(shape, s, d)
            if abs(d) > shape.radius * (1.0 + shape.lump) + shape.rib:
                continue
            radius = radius_at(shape, table, s, d)
            if abs(d) >= radius:
                continue
            z = shape.z + shape.slope * s + math.sqrt(radius * radius - d * d)
            if z + 0.003 <= height[r, c]:
                continue
            around = math.asin(d / radius)
            arc = around * shape.radius
            red, green, blue, shine, crust = colour_at(skin, mask, table, s, around, arc)
            z += skin.pit * (crust - 0.6 + 0.8 * fbm(table, s * 110.0, arc * 110.0, 2, 0.6))
            # Dirt lies on top and in the lee of the soil beside the tube.
            low = smooth(0.55, 1.0, abs(d) / radius)
            film = fbm(table, wx * 9.0 + 70.0, wy * 9.0, 4, 0.62)
            film += 0.25 * low + 0.12 * gradient(table, wx * 140.0, wy * 140.0)
            cover = smooth(0.5 - 0.75 * skin.dirt, 0.85 - 0.75 * skin.dirt, 0.5 * film + 0.28)
            thick = cover * (0.0006 + 0.0016 * cover)
            grain = fbm(table, wx * 95.0, wy * 95.0, 2, 0.7)
            z += thick * (1.0 + 0.9 * grain)
            if z <= height[r, c]:
                continue
            cover = min(1.0, (0.05 + 0.3 * skin.dirt) * (0.7 + 0.6 * film) + 0.9 * cover)
            cover = max(0.0, cover)
            tone = 1.05 + 0.3 * grain + 0.2 * film
            height[r, c] = z
            gloss[r, c] = shine * (1.0 - cover)
            albedo[r, c, 0] = max(0.004, red + cover * (soil.mid[0] * tone - red))
            albedo[r, c, 1] = max(0.004, green + cover * (soil.mid[1] * tone - green))
            albedo[r, c, 2] = max(0.004, blue + cover * (soil.mid[2] * tone - blue))


def draw(
    canvas: Canvas,
    table: Floats,
    shape: Shape,
    skin: Skin,
    soil: Soil,
    mask: np.ndarray = BLANK,
) -> None:
    """Draw one tube on the canvas."""
    paint(canvas.height, canvas.albedo, canvas.gloss, canvas.frame, table, shape, skin, mask, soil)
