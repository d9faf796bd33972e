"""Copies of stored pictures, made as people make them: to measure how well copies are found."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from cql.errors import NotFoundError
from cql.progress import Progress, silent
from cql.store import Store
from extraction.measures import Figures, measure
from extraction.models import Embedder

HOW = ("resized", "cropped", "re-encoded", "brightened")
_QUALITY = 78
_BLOCK = 64
"""Copies embedded at a time: a cancel is heard between two blocks."""


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """C copies: of which of the images asked (int64 (C,)), measured, with vectors (C, D)."""

    origins: NDArray[np.int64]
    figures: tuple[Figures, ...]
    vectors: NDArray[np.float32]


def make(
    store: Store,
    images: Sequence[UUID],
    embedder: Embedder | None,
    *,
    seed: int,
    progress: Progress = silent,
) -> Made:
    """Alter each image in four ways, from its thumbnail, and measure and embed the copies.

    Images whose thumbnail cannot be read are left out; without an `embedder` D is 0. The step that
    `progress` hears of is called curve.
    """
    origins: list[int] = []
    pictures: list[Image.Image] = []
    figures: list[Figures] = []
    for number, image_id in enumerate(images):
        progress("curve", number, len(images), "making copies")
        rng = np.random.default_rng([seed, 9, number])
        try:
            with Image.open(io.BytesIO(store.thumbnail(image_id).webp)) as stored:
                original = stored.convert("RGB")
        except (NotFoundError, OSError):
            continue
        for how in HOW:
            copy = altered(original, how, rng)
            origins.append(number)
            pictures.append(copy)
            figures.append(measure(_webp(copy)))
    dim = embedder.model.dim if embedder else 0
    vectors = np.empty((0, dim), np.float32)
    if embedder is not None and pictures:
        parts = []
        for start in range(0, len(pictures), _BLOCK):
            progress("curve", start, len(pictures), "features of copies")
            parts.append(embedder.embed(pictures[start : start + _BLOCK]))
        vectors = np.concatenate(parts)
    elif pictures:
        vectors = np.empty((len(pictures), 0), np.float32)
    return Made(np.array(origins, np.int64), tuple(figures), vectors)


def altered(image: Image.Image, how: str, rng: np.random.Generator) -> Image.Image:
    """A copy of a picture: resized, cropped by 10 % of its sides, re-encoded or brightened."""
    wide, tall = image.size
    if how == "resized":
        scale = float(rng.uniform(0.4, 0.85))
        size = max(1, round(wide * scale)), max(1, round(tall * scale))
        return image.resize(size, Image.Resampling.LANCZOS)
    if how == "cropped":
        left, top = rng.uniform(0.0, 0.1, 2) * (wide, tall)
        right, low = left + max(1.0, 0.9 * wide), top + max(1.0, 0.9 * tall)
        return image.crop((int(left), int(top), round(right), round(low)))
    if how == "brightened":
        return ImageEnhance.Brightness(image).enhance(float(rng.choice([0.8, 1.2])))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=int(rng.integers(40, 70)))
    with Image.open(data) as again:
        return again.convert("RGB")


def _webp(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "WEBP", quality=_QUALITY, method=2)
    return data.getvalue()
