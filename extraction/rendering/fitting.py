"""Joints: electrofusion couplers, flanges, clamps, bolted glands, tees and valves."""

from __future__ import annotations

import math

import numpy as np

from extraction.rendering import network, tube
from extraction.rendering.canvas import Colour, linear
from extraction.rendering.listing import Spec
from extraction.rendering.scene import Part, Tube
from extraction.rendering.slab import Puck


def joint(rng: np.random.Generator, spec: Spec, wear: float, dirt: float) -> list[Part]:
    """A pipe with one joint near the middle of the trench."""
    pipe = network.pipe(rng, spec, wear, dirt)
    shape = pipe.shape._replace(bend=0.0, x=0.0, slope=0.0)
    shape = shape._replace(z=max(shape.z, 0.25 * shape.radius))
    pipe = Tube(shape, pipe.skin, pipe.mask)
    at = float(rng.normal(0.0, 0.06))
    plastic = spec.material in {"PE, yellow", "MDPE, blue"}
    choice = rng.random()
    parts: list[Part]
    if choice < 0.5 if plastic else choice < 0.4:
        parts = coupler(rng, spec, pipe, at, dirt) if plastic else flanges(rng, pipe, at)
    elif choice < 0.75 if plastic else choice < 0.62:
        parts = tee(rng, pipe, at, dirt) if plastic else gland(rng, pipe, at)
    elif plastic or choice < 0.82:
        parts = clamp(rng, pipe, at, dirt, steel="#64696b" if plastic else "#5d6163")
    else:
        parts = valve(rng, spec, pipe, at)
    return [pipe, *parts]


def _on(shape: tube.Shape, low: float, high: float, radius: float, **more: float) -> tube.Shape:
    return shape._replace(low=low, high=high, radius=radius, **more)


def _place(shape: tube.Shape, s: float, d: float) -> tuple[float, float]:
    cos, sin = math.cos(shape.angle), math.sin(shape.angle)
    return shape.x + cos * s - sin * d, shape.y + sin * s + cos * d


def coupler(rng: np.random.Generator, spec: Spec, pipe: Tube, at: float, dirt: float) -> list[Part]:
    """An electrofusion coupler: sleeve, end rings, two shrouded terminals, marker lines."""
    shape, radius = pipe.shape, pipe.shape.radius
    code = str(rng.choice(["#1a1b1d", "#1a1b1d", "#d3a017" if spec.kind[0] == "g" else "#1f4f93"]))
    colour = network.vary(rng, code)
    half = 0.055 + 0.75 * radius
    skin = tube.Skin(
        colour,
        gloss=0.4,
        dirt=0.8 * dirt,
        scratch=0.2,
        mottle=0.08,
        print_at=at - 0.5 * half,
        print_length=half,
        print_height=0.018,
        print_tone=0.5 if code == "#1a1b1d" else 0.03,
    )
    parts: list[Part] = [
        Tube(
            _on(shape, at - half, at + half, radius * 1.24, chamfer=0.012),
            skin,
            tube.lettering(f"EF {spec.diameter} SDR11 39.5V"),
        ),
        Tube(_on(shape, at - half, at - half + 0.02, radius * 1.3, chamfer=0.004), skin),
        Tube(_on(shape, at + half - 0.02, at + half, radius * 1.3, chamfer=0.004), skin),
    ]
    lean = float(rng.uniform(-0.5, 0.5))
    for side in (-1.0, 1.0):
        s = at + side * (half - 0.035)
        d = lean * radius
        top = shape.z + math.sqrt(max(0.0, (1.24 * radius) ** 2 - d * d))
        x, y = _place(shape, s, d)
        parts.append(Puck(x, y, 0.0115, top + 0.022, colour, 0.1, 0.0, 0.35, hole=0.55))
        x, y = _place(shape, s - side * 0.03, d + 0.012)
        parts.append(Puck(x, y, 0.004, top + 0.006, (0.5, 0.06, 0.03), 0.3, 0.0, 0.4))
    if rng.random() < 0.7:
        # The scraped zone beside the coupler is brighter than the old skin.
        fresh = pipe.skin._replace(dirt=0.05, scratch=0.9, print_length=0.0, mottle=0.2)
        for low, high in ((at - half - 0.05, at - half), (at + half, at + half + 0.05)):
            parts.insert(0, Tube(_on(shape, low, high, radius * 1.004), fresh))
    return parts


def _iron(rng: np.random.Generator, pipe: Tube) -> tube.Skin:
    return pipe.skin._replace(
        colour=network.vary(rng, "#2e2825", 0.2),
        rust=min(0.7, pipe.skin.rust + 0.12),
        pit=0.0016,
        print_length=0.0,
        stripes=0.0,
        dirt=0.75 * pipe.skin.dirt,
        gloss=0.2,
    )


def _bolts(
    rng: np.random.Generator,
    shape: tube.Shape,
    at: float,
    ring: float,
    count: int,
    half: float,
    size: float,
    skin: tube.Skin,
) -> list[Part]:
    """Bolts parallel to the axis on a ring: shank through the joint, a nut at both ends."""
    parts: list[Part] = []
    first = float(rng.uniform(0.0, 1.0))
    for n in range(count):
        turn = math.pi * 2.0 * (n + first) / count
        lift = math.sin(turn)
        if lift < -0.15:
            continue
        d = ring * math.cos(turn)
        x, y = _place(shape, 0.0, d)
        rod = shape._replace(x=x, y=y, z=shape.z + ring * lift)
        stick = float(rng.uniform(0.012, 0.028))
        parts.append(Tube(_on(rod, at - half - stick, at + half + stick, size * 0.6), skin))
        for side in (-1.0, 1.0):
            a = at + side * half
            low, high = min(a, a + side * size * 1.3), max(a, a + side * size * 1.3)
            parts.append(Tube(_on(rod, low, high, size, chamfer=0.002), skin))
    return parts


def flanges(rng: np.random.Generator, pipe: Tube, at: float) -> list[Part]:
    """Two bolted flanges with a gasket between."""
    shape, radius = pipe.shape, pipe.shape.radius
    shape = shape._replace(z=max(shape.z, 0.7 * radius))
    skin = _iron(rng, pipe)
    rim = radius * 1.45 + 0.018
    half = 0.026
    gasket = tube.Skin(
        network.vary(rng, str(rng.choice(["#1b1b1b", "#7a2a22"]))), gloss=0.1, dirt=0.3
    )
    bolt = skin._replace(rust=skin.rust + 0.1, colour=linear("#57534e"))
    parts: list[Part] = [
        Tube(_on(shape, at - 0.12, at + 0.12, radius * 1.12, chamfer=0.02), skin),
        Tube(_on(shape, at - half, at - 0.0025, rim, chamfer=0.003), skin),
        Tube(_on(shape, at + 0.0025, at + half, rim, chamfer=0.003), skin),
        Tube(_on(shape, at - 0.0025, at + 0.0025, rim - 0.006), gasket),
    ]
    count = 8 if radius < 0.08 else 12
    parts += _bolts(rng, shape, at, radius * 1.22 + 0.012, count, half, 0.0115, bolt)
    return parts


def gland(rng: np.random.Generator, pipe: Tube, at: float) -> list[Part]:
    """A socket whose gland ring is pulled up by bolts."""
    shape, radius = pipe.shape, pipe.shape.radius
    skin = _iron(rng, pipe)
    bolt = skin._replace(colour=linear("#5f5b55"), rust=skin.rust + 0.08)
    parts: list[Part] = [
        Tube(_on(shape, at, at + 0.11, radius * 1.3, chamfer=0.016), skin),
        Tube(_on(shape, at + 0.1, at + 0.19, radius * 1.16, chamfer=0.025), skin),
        Tube(_on(shape, at - 0.004, at + 0.022, radius * 1.5, chamfer=0.005), skin),
        Tube(_on(shape, at - 0.055, at - 0.032, radius * 1.48, chamfer=0.005), skin),
        Tube(
            _on(shape, at - 0.032, at - 0.004, radius * 1.13),
            skin._replace(colour=linear("#191919")),
        ),
    ]
    parts += _bolts(rng, shape, at - 0.016, radius * 1.36, 6, 0.038, 0.012, bolt)
    return parts


def clamp(
    rng: np.random.Generator, pipe: Tube, at: float, dirt: float, *, steel: str
) -> list[Part]:
    """A stainless repair clamp: ribbed band, lug along one side, row of bolts."""
    shape, radius = pipe.shape, pipe.shape.radius
    half = float(rng.uniform(0.09, 0.16))
    colour = network.vary(rng, steel)
    band = tube.Skin(colour, gloss=0.62, dirt=0.7 * dirt, scratch=0.5, mottle=0.1)
    rubber = tube.Skin((0.02, 0.02, 0.02), gloss=0.1, dirt=0.4)
    parts: list[Part] = [
        Tube(_on(shape, at - half - 0.006, at + half + 0.006, radius * 1.035), rubber),
        Tube(_on(shape, at - half, at + half, radius * 1.06, rib=0.0012, pitch=half / 4.0), band),
    ]
    side = float(rng.choice([-1.0, 1.0])) * float(rng.uniform(0.3, 0.75))
    d = side * radius
    top = shape.z + math.sqrt(max(0.0, radius * radius - d * d))
    x, y = _place(shape, 0.0, d)
    lug = shape._replace(x=x, y=y, z=top)
    parts.append(Tube(_on(lug, at - half * 0.97, at + half * 0.97, 0.016, chamfer=0.004), band))
    count = int(rng.choice([2, 3, 4]))
    for n in range(count):
        s = at + half * (2.0 * (n + 0.5) / count - 1.0)
        bx, by = _place(shape, s, d)
        across = lug._replace(x=bx, y=by, angle=shape.angle + math.pi / 2, z=top + 0.008)
        nut = tube.Skin(network.vary(rng, "#8a8880"), gloss=0.5, dirt=0.4, rust=0.08)
        parts.append(Tube(_on(across, -0.045, 0.045, 0.0065), nut))
        parts.extend(
            Tube(_on(across, low, low + 0.013, 0.0125, chamfer=0.002), nut)
            for low in (-0.04, 0.024)
        )
    return parts


def tee(rng: np.random.Generator, pipe: Tube, at: float, dirt: float) -> list[Part]:
    """A tapping saddle with a service pipe that leaves across the trench."""
    shape, radius = pipe.shape, pipe.shape.radius
    colour: Colour = network.vary(rng, "#1b1c1e")
    body = tube.Skin(colour, gloss=0.38, dirt=0.8 * dirt, scratch=0.25)
    half = 0.05 + 0.4 * radius
    way = float(rng.choice([-1.0, 1.0]))
    x, y = _place(shape, at, 0.0)
    small = min(0.6 * radius, 0.032)
    lift = shape.z + radius * 0.9
    branch = tube.Shape(
        x,
        y,
        shape.angle + way * math.pi / 2 + float(rng.normal(0, 0.06)),
        0.0,
        network.FAR,
        lift,
        small,
        slope=-0.06,
    )
    parts: list[Part] = [
        Tube(_on(shape, at - half, at + half, radius * 1.14, chamfer=0.012), body),
        Tube(branch, pipe.skin._replace(print_length=0.0)),
        Tube(_on(branch, 0.0, radius + 0.1, small * 1.45, chamfer=0.006), body),
        Tube(_on(branch, radius + 0.07, radius + 0.1, small * 1.6, chamfer=0.004), body),
        Puck(x, y, radius * 0.5 + 0.012, shape.z + radius * 1.14 + 0.055, colour, 0.15, 0.0, 0.36),
        Puck(x, y, radius * 0.42 + 0.008, shape.z + radius * 1.14 + 0.075, colour, 0.1, 6.0, 0.4),
    ]
    for sign in (-1.0, 1.0):
        for edge in (-1.0, 1.0):
            bx, by = _place(shape, at + sign * half * 0.75, edge * radius * 0.95)
            steel = network.vary(rng, "#86857f")
            parts.append(Puck(bx, by, 0.009, shape.z + radius * 0.75, steel, 0.2, 6.0, 0.5, 0.15))
    return parts


def valve(rng: np.random.Generator, spec: Spec, pipe: Tube, at: float) -> list[Part]:
    """A gate valve: two flanges, a swollen body, a bonnet and the square spindle."""
    shape, radius = pipe.shape, pipe.shape.radius
    shape = shape._replace(z=max(shape.z, 0.7 * radius))
    skin = _iron(rng, pipe)
    if spec.kind.startswith("water") and rng.random() < 0.6:
        skin = skin._replace(colour=network.vary(rng, "#1e4a86"), rust=0.5 * skin.rust, gloss=0.35)
    span = 0.1 + 0.4 * radius
    rim = radius * 1.4 + 0.015
    bolt = skin._replace(colour=linear("#5d5953"), rust=skin.rust + 0.1)
    x, y = _place(shape, at, 0.0)
    top = shape.z + radius * 1.35
    parts: list[Part] = [
        Tube(_on(shape, at - span, at + span, radius * 1.3, chamfer=span * 0.75), skin),
    ]
    for side in (-1.0, 1.0):
        a = at + side * span
        parts.append(Tube(_on(shape, a - 0.02, a + 0.02, rim, chamfer=0.003), skin))
        parts += _bolts(rng, shape, a, radius * 1.2 + 0.01, 8, 0.02, 0.0105, bolt)
    rust = 0.3 + 0.4 * skin.rust
    parts += [
        Puck(x, y, radius * 1.15, top, skin.colour, 0.12, 0.0, skin.gloss, rust),
        Puck(x, y, radius * 0.62, top + 0.05, skin.colour, 0.3, 0.0, skin.gloss, rust),
        Puck(x, y, 0.016, top + 0.1, linear("#6a645c"), 0.1, 4.0, 0.4, rust),
    ]
    for n in range(6):
        turn = n * math.pi / 3.0
        parts.append(
            Puck(
                x + radius * 0.95 * math.cos(turn),
                y + radius * 0.95 * math.sin(turn),
                0.01,
                top + 0.012,
                linear("#5d5953"),
                0.2,
                6.0,
                0.35,
                rust,
            )
        )
    return parts
