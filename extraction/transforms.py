"""From an RGB picture to the numbers that a network takes: resize, crop, scale."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cql.errors import InputError

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_MODES = ("square", "center", "squash")


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform:
    """Resize to `scale` pixels, cut the centre of `size` x `size`, then (x / 255 - mean) / std.

    `center` resizes the shorter side and keeps the aspect ratio, `squash` resizes both sides,
    `square` cuts the largest centred square first and resizes that.
    """

    size: int
    scale: int
    mode: str
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if self.mode not in _MODES or self.interpolation not in _FILTERS:
            raise InputError(
                f"a transform needs one of the modes {', '.join(_MODES)} and one of the filters "
                f"{', '.join(_FILTERS)}, got {self.mode} and {self.interpolation}"
            )
        if not 1 <= self.size <= self.scale:
            raise InputError(f"a transform needs 1 <= size <= scale, got {self.size}, {self.scale}")

    @classmethod
    def square(cls, size: int, *, mean: Sequence[float], std: Sequence[float]) -> Transform:
        """The largest centred square at `size` x `size` (bicubic, antialiased)."""
        return cls(
            size=size,
            scale=size,
            mode="square",
            interpolation="bicubic",
            mean=_three(mean),
            std=_three(std),
        )

    @classmethod
    def from_timm(cls, config: Mapping[str, Any]) -> Transform:
        """The evaluation transform that timm's data config describes."""
        channels, height, width = config["input_size"]
        if channels != 3 or height != width:
            raise InputError(
                f"a model must take square RGB pictures, this one takes {config['input_size']}: "
                "choose another"
            )
        return cls(
            size=height,
            scale=math.floor(height / config.get("crop_pct", 1.0)),
            mode=config.get("crop_mode", "center"),
            interpolation=config.get("interpolation", "bicubic"),
            mean=_three(config["mean"]),
            std=_three(config["std"]),
        )

    @property
    def detail(self) -> int:
        """Shorter side, pixels, that a decoded picture needs at least (see `decode.decode`)."""
        return 2 * self.scale

    @property
    def text(self) -> str:
        """Canonical JSON; two transforms of one text give the same numbers."""
        return json.dumps(asdict(self) | {"detail": self.detail}, sort_keys=True)

    @property
    def digest(self) -> str:
        """First 8 hex digits of the text's SHA-256."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:8]

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """uint8 (size, size, 3) of an RGB picture; deterministic."""
        width, height = image.size
        if self.mode == "square":
            side = min(width, height)
            left, top = (width - side) // 2, (height - side) // 2
            image = image.crop((left, top, left + side, top + side))
            wide, tall = self.scale, self.scale
        elif self.mode == "squash":
            wide, tall = self.scale, self.scale
        elif width <= height:
            wide, tall = self.scale, int(self.scale * height / width)
        else:
            wide, tall = int(self.scale * width / height), self.scale
        resized = image.resize((wide, tall), _FILTERS[self.interpolation])
        # Python's round to even is what torchvision's CenterCrop uses.
        left, top = round((wide - self.size) / 2), round((tall - self.size) / 2)
        box = (left, top, left + self.size, top + self.size)
        return np.asarray(resized.crop(box) if resized.size != (self.size, self.size) else resized)


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
