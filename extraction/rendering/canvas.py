"""The relief that a picture is made from: height, colour and gloss of the visible ground."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from extraction.rendering.noise import Floats, compiled

Colour = tuple[float, float, float]
"""Linear RGB, 0 to 1."""


class Frame(NamedTuple):
    """Where a canvas lies: world position of cell (0, 0), direction of columns, cell size (m)."""

    x: float
    y: float
    cos: float
    sin: float
    cell: float


@dataclass(frozen=True, slots=True)
class Canvas:
    """float32 `height` (R, C) metres above the floor, `albedo` (R, C, 3) linear, `gloss` (R, C)."""

    frame: Frame
    height: Floats
    albedo: Floats
    gloss: Floats

    @classmethod
    def empty(cls, frame: Frame, rows: int, columns: int) -> Canvas:
        """A canvas far below everything that is drawn on it."""
        return cls(
            frame,
            np.full((rows, columns), -9.0, np.float32),
            np.zeros((rows, columns, 3), np.float32),
            np.zeros((rows, columns), np.float32),
        )


def linear(code: str) -> Colour:
    """`#rrggbb` in sRGB as linear RGB."""
    values = [int(code[i : i + 2], 16) / 255.0 for i in (1, 3, 5)]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
    return red, green, blue


@compiled
def bounds(
    frame: Frame,
    rows: int,
    columns: int,
    x: float,
    y: float,
    along: float,
    across: float,
    cos: float,
    sin: float,
) -> tuple[int, int, int, int]:
    """Cells (r0, r1, c0, c1) that may hold a rectangle at (x, y), half sizes `along`, `across`."""
    dx = x - frame.x
    dy = y - frame.y
    column = (dx * frame.cos + dy * frame.sin) / frame.cell
    row = (dy * frame.cos - dx * frame.sin) / frame.cell
    # The rectangle's axes in the frame of the canvas.
    ca = abs(cos * frame.cos + sin * frame.sin)
    sa = abs(sin * frame.cos - cos * frame.sin)
    wide = (along * ca + across * sa) / frame.cell + 1.0
    tall = (along * sa + across * ca) / frame.cell + 1.0
    r0 = max(0, math.floor(row - tall))
    r1 = min(rows, math.ceil(row + tall) + 1)
    c0 = max(0, math.floor(column - wide))
    c1 = min(columns, math.ceil(column + wide) + 1)
    return r0, r1, c0, c1
