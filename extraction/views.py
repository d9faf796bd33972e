"""Views of training pictures: what student and teacher are shown, drawn from a seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torch.nn import functional

from cql.progress import Progress, silent
from extraction import network

TEACHER_SIZE = 224
"""Side of the teacher's input, pixels."""

MEAN = STD = (0.5, 0.5, 0.5)
"""Normalisation of teacher and student: [0, 1] to [-1, 1]."""

CHANGE = 0.25
"""Most by which brightness, contrast and colour of a crop change, up or down."""


@dataclass(frozen=True, slots=True)
class Views:
    """Views of the training pictures and what the teacher says of them.

    `pixels`: uint8 (K, P, S, S, 3); `features`: float32 (K, P, 1280), unit L2 norm. View 0 is the
    whole picture, the others are random crops.
    """

    pixels: NDArray[np.uint8]
    features: NDArray[np.float32]


def observe(
    teacher: network.Network,
    paths: Sequence[Path],
    *,
    views: int,
    seed: int,
    size: int,
    progress: Progress = silent,
) -> Views:
    """Draw `views` views of each picture and ask the teacher about each, at the teacher's size.

    Of a whole picture the teacher also sees the mirror image, and the mean counts.
    """
    pixels = np.empty((views, len(paths), size, size, 3), dtype=np.uint8)
    features = np.empty((views, len(paths), network.TOP), dtype=np.float32)
    for index, path in enumerate(paths):
        picture = read(path)
        large = []
        for view in range(views):
            random = np.random.default_rng([seed, index, view])
            region = square(picture) if view == 0 else crop(picture, random)
            large.append(resize(region, TEACHER_SIZE))
            pixels[view, index] = resize(region, size)
        with torch.inference_mode():
            given = tensor(np.stack(large))
            found = functional.normalize(teacher(torch.cat([given, given[:1].flip(3)])))
            found[0] += found[views]
            features[:, index] = functional.normalize(found[:views]).numpy()
        progress("observe", index + 1, len(paths))
    return Views(pixels, features)


def read(path: Path) -> Image.Image:
    """An RGB picture, upright."""
    with Image.open(path) as file:
        return ImageOps.exif_transpose(file).convert("RGB")


def square(picture: Image.Image) -> Image.Image:
    """The largest centred square."""
    side = min(picture.size)
    left, top = ((edge - side) // 2 for edge in picture.size)
    return picture.crop((left, top, left + side, top + side))


def crop(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """A random part (35 % to 100 % of the area, nearly square), recoloured, maybe mirrored."""
    width, height = picture.size
    area = width * height * random.uniform(0.35, 1.0)
    aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
    w = min(width, max(1, round(math.sqrt(area * aspect))))
    h = min(height, max(1, round(math.sqrt(area / aspect))))
    left, top = int(random.integers(width - w + 1)), int(random.integers(height - h + 1))
    part = picture.crop((left, top, left + w, top + h))
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        part = enhance(part).enhance(random.uniform(1 - CHANGE, 1 + CHANGE))
    return ImageOps.mirror(part) if random.random() < 0.5 else part


def resize(picture: Image.Image, size: int) -> NDArray[np.uint8]:
    """uint8 (size, size, 3), bicubic with the filter widened when it shrinks."""
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC))


def tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 (N, S, S, 3) -> float32 (N, 3, S, S), normalised, channels last in memory."""
    batch = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
    scaled = (batch.float() / 255 - MEAN[0]) / STD[0]
    return scaled.contiguous(memory_format=torch.channels_last)
