"""Cables, ducts and pipes of the six kinds, with the wear of one place."""

from __future__ import annotations

import math

import numpy as np

from extraction.rendering import tube
from extraction.rendering.canvas import Colour, linear
from extraction.rendering.listing import Spec
from extraction.rendering.scene import Part, Tube

FAR = 2.6
"""Half length of a run, metres: beyond every view."""


def line(
    rng: np.random.Generator,
    *,
    radius: float,
    bed: float,
    y: float = 0.0,
    angle: float = 0.0,
    bend: float = 0.0,
    low: float = -FAR,
    high: float = FAR,
) -> tube.Shape:
    """A run along the trench; `bed` is the share of the diameter that sticks out of the floor."""
    return tube.Shape(
        x=0.0,
        y=y,
        angle=angle,
        low=low,
        high=high,
        z=radius * (2.0 * bed - 1.0),
        radius=radius,
        slope=float(rng.normal(0.0, 0.012)),
        bend=bend,
        wave=float(rng.uniform(1.2, 3.2)),
        phase=float(rng.uniform(0.0, 6.28)),
    )


def vary(rng: np.random.Generator, code: str, amount: float = 0.1) -> Colour:
    """The colour after some years in the ground: a little off in every channel."""
    gain = 0.86 * np.exp(amount * rng.standard_normal() + 0.35 * amount * rng.standard_normal(3))
    fresh = np.array(linear(code))
    faded = fresh + 0.1 * (fresh @ np.array([0.3, 0.6, 0.1]) - fresh)
    red, green, blue = (float(v) for v in np.minimum(0.85, faded * gain))
    return red, green, blue


def pipe_skin(rng: np.random.Generator, spec: Spec, wear: float, dirt: float) -> tube.Skin:
    """Surface of a gas or water pipe."""
    gas = spec.kind.startswith("gas")
    if spec.material in {"PE, yellow", "MDPE, blue"}:
        striped = rng.random() < 0.28
        code = "#d0a018" if gas else "#1b4b88"
        second = vary(rng, code)
        colour = vary(rng, "#1d1d1f") if striped else vary(rng, code, 0.12)
        return tube.Skin(
            colour,
            second,
            8.0 if striped else 0.0,
            0.09,
            float(rng.uniform(0, 6.28)),
            gloss=0.42,
            dirt=dirt,
            scratch=0.25 + 0.7 * wear,
            mottle=0.08 + 0.12 * wear,
            print_at=float(rng.uniform(-0.5, 0.3)),
            print_length=0.42,
            print_height=0.02,
            print_arc=float(rng.uniform(-0.4, 0.4)) * spec.diameter / 2000.0,
            print_tone=0.5 if striped else 0.02,
        )
    if spec.material == "fibre cement":
        return tube.Skin(
            vary(rng, "#8f8c84"),
            gloss=0.06,
            rust=0.05 * wear,
            pit=0.0008,
            dirt=dirt,
            scratch=0.4 * wear,
            mottle=0.35,
        )
    coats = {
        "cast iron": ("#3a2f28", 0.22 + 0.45 * wear, 0.0022),
        "ductile iron": (
            str(rng.choice(["#22262b", "#1d3f6b", "#26292c"])),
            0.1 + 0.35 * wear,
            0.001,
        ),
        "steel": (str(rng.choice(["#1f1d1c", "#b98a1c", "#26221f"])), 0.12 + 0.4 * wear, 0.0014),
    }
    code, rust, pit = coats[spec.material]
    return tube.Skin(
        vary(rng, code), gloss=0.22, rust=rust, pit=pit, dirt=dirt, scratch=0.2 * wear, mottle=0.3
    )


def pipe(rng: np.random.Generator, spec: Spec, wear: float, dirt: float) -> Tube:
    """One pipe, partly bedded in the floor."""
    radius = spec.diameter / 2000.0
    plastic = spec.material in {"PE, yellow", "MDPE, blue"}
    shape = line(
        rng,
        radius=radius,
        bed=float(rng.uniform(0.55, 0.95)),
        bend=0.02 if plastic else 0.0,
        y=float(rng.normal(0, 0.03)),
        angle=float(rng.normal(0, 0.05)),
    )
    skin = pipe_skin(rng, spec, wear, dirt)
    maker = "GAS PE80 SDR11" if spec.kind.startswith("gas") else "WATER PE100 SDR17"
    text = f"{maker} {spec.diameter} mm  {2004 + int(rng.integers(0, 19))}"
    return Tube(shape, skin, tube.lettering(text) if plastic else tube.BLANK)


def main(rng: np.random.Generator, spec: Spec, wear: float, dirt: float) -> list[Part]:
    """A gas or water main alone."""
    return [pipe(rng, spec, wear, dirt)]


def electricity(rng: np.random.Generator, spec: Spec, wear: float, dirt: float) -> list[Part]:
    """One to three power cables, side by side or wandering apart."""
    radius = spec.diameter / 2000.0
    count = int(rng.choice([1, 1, 2, 3]))
    gap = radius * float(rng.uniform(2.05, 3.6))
    jute = spec.material == "PILC, jute"
    code = {"XLPE, red": "#84241b", "XLPE, black": "#232325", "PILC, jute": "#35291f"}[
        spec.material
    ]
    colour = vary(rng, code, 0.15)
    volts, square = int(rng.choice([600, 11000, 33000])), int(rng.choice([95, 185, 300]))
    mask = tube.BLANK if jute else tube.lettering(f"ELECTRIC CABLE {volts} V  3x{square} Al")
    skin = tube.Skin(
        colour,
        gloss=0.08 if jute else 0.34,
        rust=0.12 * wear if jute else 0.0,
        pit=0.0004,
        dirt=dirt,
        scratch=0.2 + 0.6 * wear,
        mottle=0.4 if jute else 0.14,
        print_at=float(rng.uniform(-0.4, 0.2)),
        print_length=0.0 if jute else 0.38,
        print_height=0.011,
        print_tone=0.6 if code == "#232325" else 0.03,
    )
    parts: list[Part] = []
    bend = float(rng.uniform(0.004, 0.03))
    phase, wave = float(rng.uniform(0, 6.28)), float(rng.uniform(1.0, 2.6))
    for n in range(count):
        shape = line(
            rng,
            radius=radius,
            bed=float(rng.uniform(0.62, 1.0)),
            y=(n - (count - 1) / 2) * gap,
            angle=float(rng.normal(0, 0.025)),
        )._replace(bend=bend, phase=phase + float(rng.normal(0, 0.25)), wave=wave)
        if jute:
            shape = shape._replace(rib=0.0011, pitch=0.03, twist=4.0)
        parts.append(Tube(shape, skin, mask))
    return parts


DUCTS = ("#c2571b", "#2d6b38", "#2c5fa0", "#7a3b8f", "#c9a21d", "#b9b6ae", "#8e2b2b", "#2a9a9a")


def telecoms(rng: np.random.Generator, spec: Spec, wear: float, dirt: float) -> list[Part]:
    """A duct or two, a fan of coloured microducts, or thin black cables."""
    radius = spec.diameter / 2000.0
    if spec.material.startswith("PVC duct"):
        return _ducts(rng, spec, radius, wear, dirt)
    if spec.material == "HDPE microduct":
        return _microducts(rng, radius, dirt)
    mask = tube.lettering(
        f"TELECOM {int(rng.choice([20, 50, 100]))} PAIR  {int(rng.integers(100, 990))} m"
    )
    parts: list[Part] = []
    for n in range(int(rng.integers(1, 5))):
        shape = line(
            rng,
            radius=radius,
            bed=float(rng.uniform(0.8, 1.2)),
            y=float(rng.normal(0, 0.05)) + n * 0.012,
            angle=float(rng.normal(0, 0.06)),
            bend=float(rng.uniform(0.01, 0.05)),
        )
        skin = tube.Skin(
            vary(rng, str(rng.choice(["#1b1c1e", "#1b1c1e", "#5d6064", "#20301f"]))),
            gloss=0.36,
            dirt=dirt,
            scratch=0.2 + 0.5 * wear,
            print_length=0.3,
            print_height=0.008,
            print_tone=0.6,
            print_at=float(rng.uniform(-0.4, 0.2)),
        )
        parts.append(Tube(shape, skin, mask))
    return parts


def _ducts(
    rng: np.random.Generator, spec: Spec, radius: float, wear: float, dirt: float
) -> list[Part]:
    green = spec.material.endswith("green")
    ribbed = rng.random() < 0.55
    count = int(rng.choice([1, 2, 2]))
    colour = vary(rng, "#3f6f4c" if green else "#77797a", 0.15)
    skin = tube.Skin(
        colour,
        gloss=0.24,
        dirt=dirt,
        scratch=0.2 + 0.5 * wear,
        mottle=0.12,
        print_length=0.0 if ribbed else 0.3,
        print_height=0.018,
        print_tone=0.04,
        print_at=float(rng.uniform(-0.4, 0.2)),
    )
    mask = tube.lettering("TELECOM DUCT 54D")
    parts: list[Part] = []
    for n in range(count):
        shape = line(
            rng,
            radius=radius,
            bed=float(rng.uniform(0.55, 0.95)),
            y=(n - (count - 1) / 2) * radius * 2.25,
            angle=float(rng.normal(0, 0.012)),
        )
        if ribbed:
            shape = shape._replace(rib=0.0035, pitch=float(rng.uniform(0.016, 0.024)))
        parts.append(Tube(shape, skin, mask))
    return parts


def _microducts(rng: np.random.Generator, radius: float, dirt: float) -> list[Part]:
    count = int(rng.integers(4, 9))
    order = rng.permutation(len(DUCTS))
    bend, wave = float(rng.uniform(0.01, 0.05)), float(rng.uniform(1.5, 3.5))
    phase = float(rng.uniform(0, 6.28))
    parts: list[Part] = []
    for n in range(count):
        layer = n // 4
        shape = tube.Shape(
            x=0.0,
            y=(n % 4 - 1.5 + 0.5 * layer) * radius * 2.3 + float(rng.normal(0, 0.004)),
            angle=float(rng.normal(0, 0.02)),
            low=-FAR,
            high=FAR,
            z=radius * (0.9 + 1.7 * layer),
            radius=radius,
            bend=bend,
            wave=wave,
            phase=phase + float(rng.normal(0, 0.22)),
        )
        skin = tube.Skin(
            vary(rng, DUCTS[int(order[n % len(DUCTS)])]),
            (0.8, 0.8, 0.78),
            1.0 if rng.random() < 0.3 else 0.0,
            0.3,
            gloss=0.4,
            dirt=0.8 * dirt,
            scratch=0.2,
        )
        parts.append(Tube(shape, skin))
    return parts


def roots(rng: np.random.Generator, amount: float) -> list[Part]:
    """Roots that cross the trench."""
    parts: list[Part] = []
    for _ in range(int(rng.poisson(2.2 * amount))):
        radius = float(rng.uniform(0.0015, 0.007))
        length = float(rng.uniform(0.15, 0.6))
        shape = tube.Shape(
            x=float(rng.uniform(-0.9, 0.9)),
            y=float(rng.uniform(-0.4, 0.4)),
            angle=float(rng.uniform(0, math.pi)),
            low=-length,
            high=length,
            z=float(rng.uniform(0.0, 0.03)),
            radius=radius,
            bend=float(rng.uniform(0.01, 0.06)),
            wave=float(rng.uniform(4, 11)),
            phase=float(rng.uniform(0, 6.28)),
            lump=0.35,
            chamfer=radius,
        )
        code = str(rng.choice(["#5d4530", "#7a5f43", "#3b2b1f"]))
        parts.append(Tube(shape, tube.Skin(vary(rng, code), gloss=0.1, dirt=0.3, mottle=0.4)))
    return parts
