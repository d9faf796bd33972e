"""What a picture says without a model: sharpness, light, colour, and what copies are found by.

All of it is a function of the stored thumbnail alone, so that images that were ingested before
measures were taken get the same numbers later (`fill`). Measured, of one picture on one core:
1.6 ms, of which 0.7 ms decode the thumbnail again.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures

from cql.errors import NotFoundError
from cql.progress import Progress, silent
from cql.records import Image, Measures

if TYPE_CHECKING:
    from cql.store import Store

SIDE = 256
"""Longest side at which a picture is measured, pixels."""
SIGNATURE = 48
"""Side of the grey signature, pixels."""
_HASHED = 32
_KEPT = 8
_BINS = 32
_BLOCK = 256

Grey = NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Measures of one picture that has no id yet; `Measures` says what each is."""

    sharpness: float
    brightness: float
    contrast: float
    blank: float
    colour: float
    phash: int
    signature: bytes

    def to_json(self) -> dict[str, Any]:
        """As plain values, for the wire."""
        return {**asdict(self), "signature": self.signature.hex()}

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> Figures:
        """What `to_json` gave."""
        return cls(**{**values, "signature": bytes.fromhex(values["signature"])})


def measure(webp: bytes) -> Figures:
    """Measure a thumbnail that Sightline wrote. OSError for other bytes."""
    with Pictures.open(io.BytesIO(webp)) as image:
        return of_picture(image.convert("RGB"))


def of_picture(image: Pictures.Image) -> Figures:
    """Measure an upright RGB picture as it is."""
    scale = SIDE / max(image.size)
    if scale != 1.0:
        size = tuple(max(1, round(side * scale)) for side in image.size)
        image = image.resize(size, Pictures.Resampling.BILINEAR)  # type: ignore[arg-type]
    # Whole numbers: the same figures in every process, whatever its memory looks like.
    pixels = np.asarray(image, np.int32)
    small = image.convert("L")
    grey = np.asarray(small, np.int32)
    return Figures(
        sharpness=float(_laplacian(grey).var(dtype=np.float64)),
        brightness=float(grey.mean(dtype=np.float64)) / 255.0,
        contrast=float(grey.std(dtype=np.float64)) / 255.0,
        blank=_blank(grey),
        colour=_colourfulness(pixels[::2, ::2]),
        phash=_phash(small),
        signature=small.resize((SIGNATURE, SIGNATURE), Pictures.Resampling.BOX).tobytes(),
    )


def record(image: Image, figures: Figures) -> Measures:
    """The row of an image."""
    return Measures(
        listing_id=image.listing_id,
        image_id=image.image_id,
        pixels=image.width * image.height,
        **asdict(figures),
    )


def fill(store: Store, *, progress: Progress = silent) -> int:
    """Measure the images that have no measures yet, from their thumbnails; returns how many.

    An image that is deleted meanwhile, or whose thumbnail cannot be read, stays without.
    """
    from cql.access import blocks  # not for the decoders, which import this module

    known = store.measured()
    todo = [image for image in store.iter_images() if image.image_id not in known]
    done = 0
    for block in blocks(todo, _BLOCK):
        done += store.put_measures(_measured(store, block))
        progress("measures", done, len(todo))
    return done


def _measured(store: Store, block: Iterable[Image]) -> Iterator[Measures]:
    for image in block:
        try:
            figures = measure(store.thumbnail(image.image_id).webp)
        except (NotFoundError, OSError):
            continue
        yield record(image, figures)


def _laplacian(grey: Grey) -> Grey:
    """Four-neighbour Laplacian (Pech-Pacheco et al., 2000); the border repeats outwards."""
    wide = np.pad(grey, 1, mode="edge")
    found: Grey = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:] - 4 * grey
    return found


def _blank(grey: Grey) -> float:
    """Share of pixels in the fullest of 32 tones, or in two that follow each other."""
    counts = np.bincount((grey * _BINS // 256).ravel(), minlength=_BINS)
    return float((counts[:-1] + counts[1:]).max()) / grey.size


def _colourfulness(pixels: Grey) -> float:
    """Colourfulness of Hasler and Suesstrunk (2003), their M3, on 0..255 values."""
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    first, second = red - green, (red + green) / 2 - blue
    spread = np.hypot(first.std(dtype=np.float64), second.std(dtype=np.float64))
    middle = np.hypot(first.mean(dtype=np.float64), second.mean(dtype=np.float64))
    return float(spread + 0.3 * middle)


def _phash(grey: Pictures.Image) -> int:
    """64 bits: the 8 x 8 lowest frequencies of a 32 x 32 DCT above their median (Zauner, 2010).

    As a signed number, because that is what Cassandra keeps. A picture of one tone has hash 0.
    """
    small = np.asarray(grey.resize((_HASHED, _HASHED), Pictures.Resampling.BOX), np.float64)
    basis = _cosines()
    low = (basis @ small @ basis.T).ravel()
    # Rounding must not decide the bits of a picture that has no such frequency at all.
    low[np.abs(low) < 1e-6] = 0.0
    bits = low > np.median(low[1:])
    bits[0] = False
    value = int.from_bytes(np.packbits(bits).tobytes(), "big")
    return value - (1 << 64) if value >= 1 << 63 else value


@cache
def _cosines() -> NDArray[np.float64]:
    """The `_KEPT` lowest rows of the DCT-II matrix of size `_HASHED`."""
    index = np.arange(_HASHED)
    return np.cos(np.pi * (2 * index[None, :] + 1) * np.arange(_KEPT)[:, None] / (2 * _HASHED))
