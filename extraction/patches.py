"""Features of the regions of a picture: light, colour and texture of each, one byte a number.

They come from the picture itself, all of it, and not from a model: what a network has after pooling
has lost a small thing, and its maps were measured to find fewer.
docs/decisions/0018-regions-of-colour.md has the grid, the numbers and their figures.
"""

from __future__ import annotations

import math
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cql import codec
from cql.records import Patches
from cql.vectors import PATCH_SHAPE

SIDE, DIM = PATCH_SHAPE
"""Regions a side that a picture is cut into, and numbers of each."""

_PIXELS = 24
"""Side of a region, pixels of the picture that is looked at."""
_DARK = 0.02
"""Light, of 1, below which differences of it are noise."""
_FLAT, _EVEN = 0.02, 0.003
"""What deviations and gradients are counted from, so that their logarithm ends."""
_STILL = 1e-5
"""Squared gradient beside which a direction is one."""
_LUMA = np.array([0.3, 0.59, 0.11], np.float32) / 255
_LOGS = np.log(np.arange(256, dtype=np.float32) / 255 + np.float32(_DARK))
_MOST = 127

Plane = NDArray[np.float32]


def regions(picture: Image.Image) -> NDArray[np.float32]:
    """Features of the regions of an RGB picture of any size, row by row: float32 (R, D).

    R = SIDE^2 of the whole picture, stretched to a square. D = 10: mean and logarithm of the
    deviation of the logarithm of light, of red to green and of blue to green; then, at one and at
    two pixels, the logarithm of the gradients' strength and how far they agree in direction (the
    coherence of the structure tensor: Bigun and Granlund, ICCV 1987).
    """
    size = SIDE * _PIXELS
    pixels = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
    light = np.asarray(np.log(pixels @ _LUMA + _DARK), np.float32)
    red, green, blue = (_LOGS[pixels[..., at]] for at in range(3))
    found: list[Plane] = []
    for plane in (light, red - green, blue - green):
        mean = _mean(plane)
        spread = np.sqrt(_variance(plane, mean))
        found += [mean, np.log(spread + np.float32(_FLAT))]
    halved: Plane = light.reshape(size // 2, 2, size // 2, 2).mean(axis=(1, 3))
    for plane in (light, halved):
        found += _texture(plane)
    return np.stack(found, axis=-1).reshape(SIDE * SIDE, DIM)


def _texture(plane: Plane) -> list[Plane]:
    across, down = np.zeros_like(plane), np.zeros_like(plane)
    np.subtract(plane[:, 2:], plane[:, :-2], out=across[:, 1:-1])
    np.subtract(plane[2:], plane[:-2], out=down[1:-1])
    xx, yy, xy = (_products(*pair) / 4 for pair in ((across, across), (down, down), (across, down)))
    agreed = np.sqrt((xx - yy) ** 2 + 4 * xy**2) / (xx + yy + np.float32(_STILL))
    return [np.log(np.sqrt(xx + yy) + np.float32(_EVEN)), agreed]


def _mean(plane: Plane) -> Plane:
    """Mean of each region: (S, S) -> (SIDE, SIDE)."""
    mean: Plane = _cut(plane).mean(axis=3).mean(axis=1)
    return mean


def _variance(plane: Plane, mean: Plane) -> Plane:
    """Variance of each region, whose `mean` is known: (S, S) -> (SIDE, SIDE)."""
    left = _cut(plane) - mean[:, None, :, None]
    return _products(left, left)


def _cut(plane: Plane) -> Plane:
    side = math.isqrt(plane.size) // SIDE
    return plane.reshape(SIDE, side, SIDE, side)


def _products(one: Plane, other: Plane) -> Plane:
    """Mean of the products in each region: (S, S), however shaped, -> (SIDE, SIDE)."""
    found: Plane = np.einsum("ryqx,ryqx->rq", _cut(one), _cut(other))
    return found / np.float32(one.size / SIDE**2)


def encode(given: NDArray[np.float32]) -> tuple[NDArray[np.int8], float]:
    """Codes int8 (R, D) of the regions of one picture, float32 (R, D), and their scale.

    A number is its code times the scale, off by at most half of it; the scale of zeros is 0, and so
    are numbers that are not finite.
    """
    values = np.nan_to_num(given.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    scale = float(np.float32(np.abs(values).max(initial=0.0) / _MOST))
    if scale == 0.0:
        return np.zeros(values.shape, np.int8), 0.0
    codes = np.clip(np.rint(values / np.float32(scale)), -_MOST, _MOST)
    return codes.astype(np.int8), scale


def record(listing_id: str, model_id: str, image_id: UUID, values: NDArray[np.float32]) -> Patches:
    """The row of an image the features of whose regions are float32 (SIDE * SIDE, D)."""
    codes, scale = encode(values)
    data = codes.tobytes()
    return Patches(
        listing_id=listing_id,
        model_id=model_id,
        image_id=image_id,
        codes=data,
        scale=scale,
        side=SIDE,
        dim=values.shape[1],
        crc32c=codec.crc32c(data),
    )
