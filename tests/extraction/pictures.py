"""Pictures in every format and state that the tests of extraction decode."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def gradient(width: int = 64, height: int = 48, *, seed: int = 0) -> Image.Image:
    """A smooth RGB picture without symmetry: every turn and flip of it differs."""
    rows, columns = np.mgrid[0:height, 0:width]
    red = columns * 255 // max(1, width - 1)
    green = rows * 255 // max(1, height - 1)
    blue = (rows + columns + 37 * seed) * 255 // (width + height) % 256
    return Image.fromarray(np.stack([red, green, blue], axis=2).astype(np.uint8))


def encoded(image: Image.Image, name: str, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, name, **options)
    return target.getvalue()


def photo(seed: int = 0, *, width: int = 64, height: int = 48) -> bytes:
    """A JPEG whose bytes differ by seed."""
    return encoded(gradient(width, height, seed=seed), "JPEG", quality=92)


def png(width: int, height: int, rows: bytes, *, colour: int = 2, depth: int = 8) -> bytes:
    """A PNG whose header says `width` x `height`, whatever `rows` holds."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows, 1))
        + chunk(b"IEND", b"")
    )
