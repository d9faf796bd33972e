"""Things beside the pipe (staff, warning tape), and the finds and subjects of outliers."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from extraction.rendering import network, tube
from extraction.rendering.canvas import Colour, linear
from extraction.rendering.noise import Floats
from extraction.rendering.scene import Flat, Part, Tube
from extraction.rendering.slab import Slab


def linearised(image: Image.Image) -> Floats:
    """An sRGB picture as linear float32 (H, W, 3)."""
    value = np.asarray(image.convert("RGB"), np.float32) / 255.0
    curve = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return curve.astype(np.float32)


def staff(rng: np.random.Generator, room: float) -> list[Part]:
    """A scale bar, a ranging rod or a folding rule beside the pipe."""
    sort = int(rng.integers(3))
    side = float(rng.choice([-1.0, 1.0]))
    x, y = float(rng.uniform(-0.25, 0.25)), side * (room + 0.05)
    angle = float(rng.normal(0, 0.12))
    if sort == 0:
        colours = [("#d8d5cc", "#1c1c1c"), ("#d8d5cc", "#a3231c")][int(rng.integers(2))]
        image = Image.new("RGB", (400, 24), colours[0])
        draw = ImageDraw.Draw(image)
        for n in range(0, 10, 2):
            draw.rectangle((n * 40, 0, n * 40 + 39, 23), fill=colours[1])
        return [
            Flat(
                Slab(
                    x,
                    y,
                    angle,
                    0.25,
                    0.014,
                    0.03,
                    0.006,
                    drape=0.15,
                    tilt=float(rng.normal(0, 0.05)),
                    dirt=0.3,
                ),
                linearised(image),
            )
        ]
    if sort == 1:
        parts: list[Part] = []
        for n in range(-4, 4):
            shape = tube.Shape(x, y, angle, n * 0.2, (n + 1) * 0.2, 0.035, 0.0125)
            code = "#a8261d" if n % 2 else "#d5d2c9"
            parts.append(Tube(shape, tube.Skin(linear(code), gloss=0.35, dirt=0.35, scratch=0.5)))
        return parts
    image = Image.new("RGB", (1000, 34), "#c9a437")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(16)
    for n in range(100):
        tall = 14 if n % 10 == 0 else 10 if n % 5 == 0 else 6
        draw.line((n * 10, 0, n * 10, tall), fill="#1b1b1b", width=2 if n % 10 == 0 else 1)
        if n % 10 == 0:
            draw.text((n * 10 + 3, 13), str(n), fill="#7b1d14", font=font)
    return [
        Flat(
            Slab(
                x,
                y,
                angle,
                0.5,
                0.0125,
                0.025,
                0.004,
                drape=0.1,
                tilt=float(rng.normal(0, 0.04)),
                dirt=0.3,
            ),
            linearised(image),
        )
    ]


def worn(rng: np.random.Generator, colour: Colour) -> Floats:
    """A blotchy picture of one colour, float32 (40, 60, 3)."""
    fine = rng.standard_normal((40, 60, 1)) * 0.1
    broad = np.kron(rng.standard_normal((8, 12, 1)), np.ones((5, 5, 1))) * 0.16
    return (np.asarray(colour) * np.exp(fine + broad)).astype(np.float32)


TAPES = {
    "electricity cable": ("#d9b21c", "CAUTION  ELECTRIC CABLE BELOW", "#1a1a1a"),
    "telecoms cable": ("#3e8a4c", "CAUTION  TELECOM CABLE BELOW", "#f0f0e8"),
    "gas": ("#d6b022", "CAUTION  GAS MAIN BELOW", "#1a1a1a"),
    "water": ("#2f6db5", "CAUTION  WATER MAIN BELOW", "#f0f0e8"),
}


def tape(rng: np.random.Generator, kind: str) -> list[Part]:
    """A torn length of warning tape, half buried."""
    back, text, ink = TAPES[kind if kind in TAPES else kind.split(maxsplit=1)[0]]
    image = Image.new("RGB", (900, 96), back)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(44)
    draw.text((20, 22), text, fill=ink, font=font)
    long = float(rng.uniform(0.3, 0.75))
    return [
        Flat(
            Slab(
                float(rng.uniform(-0.4, 0.4)),
                float(rng.choice([-1.0, 1.0]) * rng.uniform(0.08, 0.2)),
                float(rng.normal(0, 0.35)),
                long,
                0.06,
                0.012,
                0.004,
                drape=0.9,
                corner=0.001,
                gloss=0.4,
                dirt=0.55,
                crease=0.008,
            ),
            linearised(image),
        )
    ]


def bones(rng: np.random.Generator) -> list[Part]:
    """Old bones beside the pipe."""
    parts: list[Part] = []
    for _ in range(int(rng.integers(3, 7))):
        x, y = float(rng.normal(0, 0.14)), float(rng.choice([-1, 1]) * rng.uniform(0.06, 0.2))
        angle, radius = float(rng.uniform(0, 3.14)), float(rng.uniform(0.008, 0.016))
        half = float(rng.uniform(0.05, 0.16))
        skin = tube.Skin(
            network.vary(rng, "#b5a67f", 0.12), gloss=0.15, dirt=0.25, mottle=0.35, scratch=0.1
        )
        base = tube.Shape(x, y, angle, -half, half, 0.05, radius, bend=0.006, wave=9.0, lump=0.15)
        parts.append(Tube(base, skin))
        for end in (-1.0, 1.0):
            for way in (-1.0, 1.0):
                knob = base._replace(
                    x=x + math.cos(angle) * end * half - math.sin(angle) * way * radius * 0.7,
                    y=y + math.sin(angle) * end * half + math.cos(angle) * way * radius * 0.7,
                    low=-radius * 1.5,
                    high=radius * 1.5,
                    radius=radius * 1.35,
                    chamfer=radius * 1.3,
                    bend=0.0,
                )
                parts.append(Tube(knob, skin))
    return parts


def bricks(rng: np.random.Generator) -> list[Part]:
    """Bricks and a broken slab thrown into the trench."""
    parts: list[Part] = []
    for _ in range(int(rng.integers(4, 9))):
        code = str(rng.choice(["#74503f", "#80594a", "#684439", "#7d796f"]))
        face = worn(rng, network.vary(rng, code, 0.15))
        parts.append(
            Flat(
                Slab(
                    float(rng.normal(0, 0.22)),
                    float(rng.normal(0, 0.15)),
                    float(rng.uniform(0, 3.14)),
                    float(rng.uniform(0.06, 0.11)),
                    0.051,
                    0.02,
                    float(rng.uniform(0.045, 0.07)),
                    drape=0.35,
                    tilt=float(rng.normal(0, 0.25)),
                    corner=0.006,
                    gloss=0.03,
                    dirt=0.5,
                    rough=0.006,
                ),
                face,
            )
        )
    return parts


def bundle(rng: np.random.Generator) -> list[Part]:
    """A bundle of bright ducts that nobody expected there, across the trench."""
    parts: list[Part] = []
    angle = float(rng.uniform(0.9, 2.2))
    for n in range(12):
        shape = tube.Shape(
            float(rng.normal(0, 0.003)),
            0.0,
            angle,
            -2.0,
            2.0,
            0.09 + 0.014 * (n % 3),
            0.0085,
            bend=0.02 + 0.004 * (n % 5),
            wave=3.0,
            phase=0.16 * n,
        )._replace(x=(n - 6) * 0.014)
        skin = tube.Skin(
            network.vary(rng, network.DUCTS[n % 8]), gloss=0.45, dirt=0.15, scratch=0.15
        )
        parts.append(Tube(shape, skin))
    return parts


def bottle(rng: np.random.Generator) -> list[Part]:
    """A glass bottle and a crushed can."""
    x, y = float(rng.normal(0, 0.1)), float(rng.choice([-1, 1]) * rng.uniform(0.1, 0.18))
    angle = float(rng.uniform(0, 6.28))
    glass = tube.Skin(
        network.vary(rng, str(rng.choice(["#1f4a2a", "#4a2c12", "#5f7f86"]))),
        gloss=0.85,
        dirt=0.2,
        scratch=0.05,
    )
    body = tube.Shape(x, y, angle, -0.09, 0.08, 0.05, 0.037, chamfer=0.008)
    label = tube.Skin(network.vary(rng, "#c9bd9a"), gloss=0.08, dirt=0.35, mottle=0.3)
    return [
        Tube(body, glass),
        Tube(body._replace(low=0.05, high=0.14, radius=0.028, chamfer=0.03), glass),
        Tube(body._replace(low=0.1, high=0.2, radius=0.0145), glass),
        Tube(body._replace(low=0.19, high=0.204, radius=0.0165, chamfer=0.002), glass),
        Tube(body._replace(low=-0.05, high=0.035, radius=0.0374), label),
        Tube(
            tube.Shape(x + 0.2, -y, angle + 1.0, -0.06, 0.06, 0.04, 0.032, lump=0.2, chamfer=0.006),
            tube.Skin(network.vary(rng, "#a3241f"), (0.6, 0.6, 0.6), 3.0, 0.3, gloss=0.7, dirt=0.2),
        ),
    ]


FINDS = {"bones": bones, "bricks": bricks, "duct bundle": bundle, "bottle": bottle}
