"""Pictures and copies of them, for tests that need no photos: shapes on a textured ground."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from analytics.evidence.copies import Pictures
from extraction.measures import Figures, measure


def scene(seed: int, size: tuple[int, int] = (256, 192)) -> Image.Image:
    """A picture of its own: clouds of light, and a dozen shapes."""
    rng = np.random.default_rng([77, seed])
    ground = np.zeros((*size[::-1], 3), np.float32)
    for cells in (3, 7, 15):
        patch = rng.uniform(0, 255 / cells**0.5, (cells, cells, 3)).astype(np.uint8)
        ground += np.asarray(Image.fromarray(patch).resize(size, Image.Resampling.BICUBIC))
    image = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = rng.uniform(0, size[0]), rng.uniform(0, size[1])
        wide, tall = rng.uniform(10, 80, 2)
        tone = tuple(int(v) for v in rng.uniform(0, 255, 3))
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)(
            (x, y, x + wide, y + tall), fill=tone
        )
    grain = rng.normal(0, 6, (*size[::-1], 3))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


def blurred(image: Image.Image) -> Image.Image:
    """The picture out of focus."""
    return image.filter(ImageFilter.GaussianBlur(6))


def webp(image: Image.Image) -> bytes:
    """The picture as a thumbnail is stored."""
    small = image.copy()
    small.thumbnail((256, 256), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    small.save(data, "WEBP", quality=78, method=2)
    return data.getvalue()


def figures(images: Sequence[Image.Image]) -> list[Figures]:
    """What is measured of pictures."""
    return [measure(webp(image)) for image in images]


def pictures(found: Sequence[Figures]) -> Pictures:
    """What pictures are compared by."""
    signatures = b"".join(each.signature for each in found)
    return Pictures(
        np.array([each.phash for each in found], np.int64),
        np.frombuffer(signatures, np.uint8).reshape(len(found), 2304),
        np.ones(len(found), bool),
    )
