"""A scene: soil, trench and everything in it, in the order in which it was laid down."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from extraction.rendering import ground, lumps, slab, tube
from extraction.rendering.canvas import Canvas
from extraction.rendering.noise import Floats


@dataclass(frozen=True, slots=True)
class Tube:
    """A round part."""

    shape: tube.Shape
    skin: tube.Skin
    mask: np.ndarray = field(default_factory=lambda: tube.BLANK)


@dataclass(frozen=True, slots=True)
class Flat:
    """A flat part with a picture on it."""

    slab: slab.Slab
    picture: Floats


@dataclass(frozen=True, slots=True)
class Heap:
    """Lumps that fall on what lies below."""

    lumps: Floats
    steepest: float = 1.1


Part: TypeAlias = Tube | Flat | Heap | slab.Puck


@dataclass(frozen=True, slots=True)
class Scene:
    """What is there to photograph. `water` is a level in metres, -9 for a dry trench."""

    table: Floats
    trench: ground.Trench
    soil: ground.Soil
    parts: tuple[Part, ...]
    water: float = -9.0

    def draw(self, canvas: Canvas) -> None:
        """Draw everything on an empty canvas."""
        ground.draw(canvas, self.table, self.trench, self.soil)
        for part in self.parts:
            if isinstance(part, Tube):
                tube.draw(canvas, self.table, part.shape, part.skin, self.soil, part.mask)
            elif isinstance(part, Flat):
                slab.draw(canvas, self.table, part.slab, part.picture, self.soil)
            elif isinstance(part, Heap):
                lumps.draw(canvas, self.table, part.lumps, steepest=part.steepest)
            else:
                slab.erect(canvas, self.table, part, self.soil)

    def having(self, *parts: Part) -> Scene:
        """The same scene with something more in it."""
        return replace(self, parts=(*self.parts, *parts))
