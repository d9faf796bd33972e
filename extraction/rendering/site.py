"""Sites: the soils of the districts, how a trench is cut, and what is strewn in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from extraction.rendering import ground, lumps
from extraction.rendering.canvas import Colour, linear
from extraction.rendering.noise import Floats
from extraction.rendering.scene import Heap

REACH = (-1.7, 1.7, -1.35, 1.35)
"""Ground that a camera may see, metres: x0, x1, y0, y1."""


@dataclass(frozen=True, slots=True)
class Earth:
    """A soil type: colours dark to light, topsoil, stones, and how lumpy, stony and sandy it is."""

    colours: tuple[str, str, str]
    top: str
    stones: tuple[str, ...]
    relief: float
    grain: float
    clods: float
    stony: float
    tooling: float
    rootedness: float


EARTHS = {
    "clay": Earth(
        ("#4d3a2a", "#7c5f45", "#a08468"),
        "#43352a",
        ("#8d8375", "#6f675e", "#a79a88"),
        1.35,
        0.45,
        1.7,
        0.25,
        1.0,
        0.5,
    ),
    "blue clay": Earth(
        ("#3a3b3a", "#5d5f5b", "#85857d"),
        "#38332c",
        ("#77746d", "#5a5954", "#989286"),
        1.3,
        0.4,
        1.6,
        0.2,
        1.0,
        0.3,
    ),
    "loam": Earth(
        ("#2e231a", "#54402f", "#7b634b"),
        "#33271d",
        ("#7f776a", "#9a907f", "#5d564c"),
        1.0,
        0.9,
        1.2,
        0.6,
        0.3,
        1.0,
    ),
    "sand": Earth(
        ("#7d6546", "#b0946a", "#d0b990"),
        "#4b3d2c",
        ("#b8aa92", "#8f8573", "#d6cbb6"),
        0.55,
        1.0,
        0.35,
        0.45,
        0.2,
        0.4,
    ),
    "gravel": Earth(
        ("#4f4539", "#7b6d5c", "#a09380"),
        "#453a2e",
        ("#8c8478", "#a89f90", "#675f57", "#b7a98f", "#7a6a58"),
        0.9,
        1.1,
        0.5,
        3.6,
        0.1,
        0.3,
    ),
    "chalk": Earth(
        ("#8b8472", "#bdb6a3", "#dedacb"),
        "#574736",
        ("#d9d5c8", "#c5c0b1", "#5b5b58"),
        1.0,
        0.7,
        1.3,
        1.6,
        0.3,
        0.5,
    ),
    "made ground": Earth(
        ("#2b2826", "#4d4843", "#736b62"),
        "#3d372f",
        ("#7d4a38", "#8c8680", "#5c5955", "#a19a90", "#6d3f30"),
        1.15,
        1.0,
        0.9,
        2.0,
        0.1,
        0.3,
    ),
    "peat": Earth(
        ("#17120e", "#31261c", "#4c3d2e"),
        "#241c15",
        ("#56504a", "#6b645b"),
        1.2,
        0.7,
        1.4,
        0.15,
        0.5,
        1.6,
    ),
}
MIXES = {
    "Harbour": ("sand", "made ground", "gravel"),
    "Old Town": ("made ground", "loam", "clay"),
    "Millfield": ("loam", "clay"),
    "Northgate": ("clay", "blue clay", "loam"),
    "Riverside": ("gravel", "sand", "peat"),
    "Castle Hill": ("chalk", "loam", "made ground"),
    "Eastmoor": ("peat", "loam", "blue clay"),
    "Quarry Bank": ("gravel", "chalk", "clay"),
}
SURFACES = ("#47512c", "#5b5c33", "#4a4a49", "#7c7870", "#3f4627", "#6a5b45")


def shade(colour: Colour, gain: float, grey: float = 0.0) -> Colour:
    """The colour made brighter or darker, and mixed with `grey` of its own lightness."""
    light = 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2]
    colour = (
        colour[0] + grey * (light - colour[0]),
        colour[1] + grey * (light - colour[1]),
        colour[2] + grey * (light - colour[2]),
    )
    return colour[0] * gain, colour[1] * gain, colour[2] * gain


def soil(rng: np.random.Generator, earth: Earth) -> ground.Soil:
    """One place's soil of this type."""
    gain = float(np.exp(0.16 * rng.standard_normal() - 0.15))
    grey = float(rng.uniform(0.1, 0.5))
    dark, mid, light = (shade(linear(code), gain, grey) for code in earth.colours)
    return ground.Soil(
        dark=dark,
        mid=mid,
        light=light,
        top=shade(linear(earth.top), gain),
        surface=linear(str(rng.choice(SURFACES))),
        relief=earth.relief * float(rng.uniform(0.75, 1.3)),
        grain=earth.grain * float(rng.uniform(0.7, 1.2)),
        wet=float(rng.beta(1.3, 2.4)),
        contrast=float(rng.uniform(0.5, 0.95)),
        tooling=earth.tooling * float(rng.uniform(0.2, 1.2)),
    )


def trench(rng: np.random.Generator, room: float) -> ground.Trench:
    """A trench with at least `room` metres of floor on each side of its axis."""
    rise = float(rng.uniform(0.22, 0.5))
    pit = rng.random() < 0.22
    width = room + float(rng.uniform(0.1, 0.22)) + (0.3 if pit else 0.0)
    shift = float(rng.uniform(-0.05, 0.08))
    return ground.Trench(
        left=width + shift,
        right=width - shift,
        run_left=rise * float(rng.uniform(0.4, 0.9)),
        run_right=rise * float(rng.uniform(0.4, 0.9)),
        rise=rise,
        end_low=-float(rng.uniform(0.75, 1.6)),
        end_high=float(rng.uniform(0.75, 1.6)),
        topsoil=float(rng.uniform(0.06, 0.2)),
        wander=float(rng.uniform(0.03, 0.09)),
    )


def tones(here: ground.Soil) -> np.ndarray:
    """Colours of crumbs and clods: shades of the soil itself, (n, 3) linear."""
    dark, mid, light = (np.array(c) for c in (here.dark, here.mid, here.light))
    mixes = [0.6 * dark + 0.4 * mid, mid, 0.5 * dark + 0.5 * mid, 0.75 * mid + 0.25 * light, mid]
    return np.array(mixes)


def stones(earth: Earth, here: ground.Soil) -> np.ndarray:
    """Colours of stones, dusted with the soil: (n, 3) linear."""
    dust = np.array(here.mid)
    return np.array([0.55 * np.array(linear(code)) + 0.45 * dust for code in earth.stones])


def below(rng: np.random.Generator, earth: Earth, here: ground.Soil) -> list[Heap]:
    """Clods and stones that lie under and beside the pipe."""
    clods = lumps.scatter(
        rng,
        int(900 * earth.clods),
        area=REACH,
        smallest=0.02,
        largest=0.13,
        power=2.7,
        flat=0.6,
        embed=0.45,
        colours=tones(here),
        spread=0.1,
        gloss=0.03,
        rough=0.65,
        cut=0.55,
    )
    rocks = lumps.scatter(
        rng,
        int(1_900 * earth.stony),
        area=REACH,
        smallest=0.006,
        largest=0.085,
        power=2.7,
        flat=0.7,
        embed=0.4,
        colours=stones(earth, here),
        spread=0.16,
        gloss=0.08,
        rough=0.3,
        cut=float(rng.uniform(0.1, 0.6)),
    )
    crumbs = lumps.scatter(
        rng,
        int(24_000 * min(1.5, 0.5 + 0.6 * earth.clods)),
        area=REACH,
        smallest=0.0045,
        largest=0.045,
        power=3.0,
        flat=0.7,
        embed=0.4,
        colours=tones(here),
        spread=0.1,
        gloss=0.03,
        rough=0.6,
        cut=0.45,
    )
    return [Heap(clods), Heap(rocks), Heap(crumbs)]


def above(rng: np.random.Generator, earth: Earth, here: ground.Soil) -> list[Heap]:
    """Crumbs and pebbles that fell last, on everything that is flat enough."""
    crumbs = lumps.scatter(
        rng,
        int(6_000 * min(1.5, 0.5 + 0.6 * earth.clods)),
        area=REACH,
        smallest=0.0045,
        largest=0.022,
        power=3.2,
        flat=0.7,
        embed=0.35,
        colours=tones(here),
        spread=0.12,
        gloss=0.03,
        rough=0.55,
        cut=0.45,
    )
    pebbles = lumps.scatter(
        rng,
        int(1_100 * earth.stony),
        area=REACH,
        smallest=0.005,
        largest=0.03,
        power=2.8,
        flat=0.7,
        embed=0.4,
        colours=stones(earth, here),
        spread=0.2,
        gloss=0.08,
        rough=0.25,
        cut=0.25,
    )
    return [Heap(crumbs, 0.5), Heap(pebbles, 0.45)]


def spill(
    rng: np.random.Generator, here: ground.Soil, x: float, y: float, spread: float, count: int
) -> Heap:
    """A little slide of soil at (x, y) that buries part of what lies there."""
    heap = lumps.scatter(
        rng,
        count,
        area=(0.0, 1.0, 0.0, 1.0),
        smallest=0.02,
        largest=0.11,
        power=2.2,
        flat=0.75,
        embed=0.3,
        colours=tones(here),
        spread=0.1,
        gloss=0.03,
        rough=0.7,
        cut=0.5,
    )
    at = rng.standard_normal((count, 2)) * spread
    heap[:, 0] = x + at[:, 0]
    heap[:, 1] = y + at[:, 1] * 0.6
    return Heap(heap, 9.0)


def table(rng: np.random.Generator) -> Floats:
    """The noise field of one site."""
    from extraction.rendering.noise import lattice

    return lattice(rng)
