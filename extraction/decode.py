"""Hostile bytes to RGB pictures: what a format may be, how large, and why a file was refused.

The colours of an embedded ICC profile are ignored; everything else that changes how a viewer shows
the picture (EXIF orientation, palette, transparency, bit depth) is honoured.
"""

from __future__ import annotations

import hashlib
import io
import logging
import struct
import warnings
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from cql.errors import InputError
from cql.settings import Settings
from extraction.measures import Figures, measure

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
"""What may be decoded, recognised by content; the file's name plays no part."""

# Pillow's own limit warns through the warnings module and is process-wide. The cap of `_open`
# replaces it: it is a setting, it is lower, and it is tested before any pixel is decoded.
Image.MAX_IMAGE_PIXELS = None
ImageFile.LOAD_TRUNCATED_IMAGES = False
# Pillow warns and logs about metadata that it skips; what matters ends as the reason of an error.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\b")
logging.getLogger("PIL").setLevel(logging.CRITICAL)

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPPED = frozenset({5, 6, 7, 8})
_WEBP_QUALITY = 78
_WEBP_EFFORT = 2
# Everything that Pillow's parsers are known to raise on damaged input.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class DecodeError(InputError):
    """A file that is no usable picture; the message is the reason, in plain words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What ingest keeps of a photo: size after orientation, a WebP thumbnail, what it says."""

    width: int
    height: int
    format: str
    webp: bytes
    thumbnail_width: int
    thumbnail_height: int
    figures: Figures


def decode(data: bytes, settings: Settings, *, detail: int = 0) -> Image.Image:
    """RGB picture of a photo's bytes, upright, alpha composited on white, the first frame.

    With `detail` above 0 a JPEG may come smaller than it is (by 2, 4 or 8 while decoding, which is
    several times faster), but never with a shorter side below `detail` pixels. `DecodeError` tells
    why the bytes are no usable picture.
    """
    return _decode(data, settings, detail=detail)[0]


def inspect(data: bytes, settings: Settings) -> Picture:
    """Decode once, measure and make the thumbnail. `DecodeError` as for `decode`."""
    image, width, height, name = _decode(data, settings, detail=2 * settings.thumbnail_px)
    image.thumbnail((settings.thumbnail_px, settings.thumbnail_px), Image.Resampling.LANCZOS)
    target = io.BytesIO()
    image.save(target, "WEBP", quality=_WEBP_QUALITY, method=_WEBP_EFFORT)
    webp = target.getvalue()
    return Picture(
        width=width,
        height=height,
        format=name,
        webp=webp,
        thumbnail_width=image.width,
        thumbnail_height=image.height,
        figures=measure(webp),
    )


def content_hash(data: bytes) -> str:
    """SHA-256 of a photo's bytes in hex: what its image id is derived from."""
    return hashlib.sha256(data).hexdigest()


def _decode(data: bytes, settings: Settings, *, detail: int) -> tuple[Image.Image, int, int, str]:
    """The picture, its full width and height (upright) and its format."""
    if not data:
        raise DecodeError("the file is empty")
    if len(data) > settings.max_image_mb << 20:
        raise DecodeError(
            f"the file has {len(data) / 2**20:.1f} MiB, at most {settings.max_image_mb} are read: "
            "raise max_image_mb or shrink it"
        )
    try:
        with _open(data, settings) as image:
            name = "JPEG" if image.format == "MPO" else str(image.format)
            width, height = image.size
            if detail and image.format in {"JPEG", "MPO"}:
                _draft(image, detail)
            image.load()
            turn = _orientation(image)
            picture = _rgb(image)
    except DecodeError:
        raise
    except MemoryError as error:
        raise DecodeError("decoding it needs more memory than one picture may take") from error
    except _DAMAGE as error:
        raise DecodeError(_reason(data, error)) from error
    if turn in _TURNS:
        picture = picture.transpose(_TURNS[turn])
    if turn in _SWAPPED:
        width, height = height, width
    return picture, width, height, name


def _open(data: bytes, settings: Settings) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    width, height = image.size
    if width < 1 or height < 1:
        raise DecodeError(f"the picture has no pixels ({width} x {height})")
    if width * height > settings.max_image_pixels:
        raise DecodeError(
            f"the picture has {width} x {height} pixels, at most {settings.max_image_pixels} are "
            "decoded: raise max_image_pixels or shrink it"
        )
    if image.format == "PNG":
        # Pillow skips the checksums of pixel data when it decodes; `verify` reads them.
        try:
            image.verify()
        except LookupError as error:
            raise DecodeError("the PNG file holds no pixel data") from error
        image = Image.open(io.BytesIO(data), formats=("PNG",))
    return image


def _draft(image: Image.Image, detail: int) -> None:
    """Let libjpeg halve the picture as often as its shorter side stays at or above `detail`."""
    shorter = min(image.size)
    divisor = 8
    while divisor > 1 and shorter // divisor < detail:
        divisor //= 2
    if divisor > 1:
        image.draft(None, (image.width // divisor, image.height // divisor))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; a damaged EXIF block means 1, as viewers take it."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _DAMAGE:
        return 1
    return value if isinstance(value, int) else 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.copy()
    if image.mode.startswith("I;16") or image.mode in {"I", "F"}:
        return _from_deep(image)
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        ground = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, layered).convert("RGB")
    return image.convert("RGB")


def _from_deep(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits: 16-bit values / 257; other ranges are stretched to 0..255."""
    values = np.asarray(image).astype(np.float64)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        finite = values[np.isfinite(values)]
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
        values = np.nan_to_num((values - low) / ((high - low) or 1.0), nan=0.0, posinf=1, neginf=0)
        grey = values * 255.0
    else:
        grey = values / 257.0
    return Image.fromarray(np.rint(grey.clip(0.0, 255.0)).astype(np.uint8)).convert("RGB")


def _reason(data: bytes, error: BaseException) -> str:
    """Why decoding failed, in plain words and with the decoder's own."""
    if isinstance(error, UnidentifiedImageError):
        known = _signature(data)
        if known:
            return f"the header of this {known} file is damaged"
        return (
            f"not a picture in a supported format ({', '.join(FORMATS)}): starts with {data[:8]!r}"
        )
    text = " ".join(str(error).split()) or type(error).__name__
    if "truncated" in text.lower():
        return f"the file is cut short ({text})"
    return f"the picture data is damaged ({text[:200]})"


def _signature(data: bytes) -> str:
    if data[1:8] == b"PNG\r\n\x1a\n" or data.startswith(b"\x89PNG"):
        return "PNG"
    if data.startswith(b"\xff\xd8"):
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:4] in {b"II*\0", b"MM\0*"}:
        return "TIFF"
    if data.startswith(b"BM"):
        return "BMP"
    return "GIF" if data.startswith(b"GIF8") else ""
