"""Features of the regions of a picture: what the model sees in each, kept in one byte a number.

They are taken early in the network, where maps tell colours, edges and textures and still say what
is where; after pooling over the whole picture a small thing in it is lost.
docs/decisions/0009-regional-outliers.md has the layer, the grid and their figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from cql import codec
from cql.records import Patches

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 6
"""Regions a side that a picture is cut into."""
_MOST = 127


def pooled(maps: Tensor) -> Tensor:
    """Mean and deviation of each channel in each region: (N, C, H, W) -> (N, SIDE * SIDE, 2 C).

    Regions come row by row. Where the sides are no multiple of `SIDE`, neighbouring regions share
    a line of the map.
    """
    import torch
    from torch.nn import functional

    def mean(values: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(values, SIDE)

    middle = mean(maps)
    spread = (mean(maps * maps) - middle * middle).clamp(min=0.0).sqrt()
    return torch.cat([middle, spread], dim=1).flatten(2).transpose(1, 2)


def encode(regions: NDArray[np.float32]) -> tuple[NDArray[np.int8], float]:
    """Codes int8 (R, D) of the regions of one picture, float32 (R, D), and their scale.

    A number is its code times the scale, off by at most half of it; the scale of zeros is 0, and so
    are numbers that are not finite.
    """
    values = np.nan_to_num(regions.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    scale = float(np.float32(np.abs(values).max(initial=0.0) / _MOST))
    if scale == 0.0:
        return np.zeros(values.shape, np.int8), 0.0
    codes = np.clip(np.rint(values / np.float32(scale)), -_MOST, _MOST)
    return codes.astype(np.int8), scale


def record(listing_id: str, model_id: str, image_id: UUID, regions: NDArray[np.float32]) -> Patches:
    """The row of an image whose regions are float32 (SIDE * SIDE, D)."""
    codes, scale = encode(regions)
    data = codes.tobytes()
    return Patches(
        listing_id=listing_id,
        model_id=model_id,
        image_id=image_id,
        codes=data,
        scale=scale,
        side=SIDE,
        dim=regions.shape[1],
        crc32c=codec.crc32c(data),
    )
