"""Feature vectors to bytes and back: raw little-endian float32, CRC-32C, unit L2 norm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from cql.errors import InputError, IntegrityError

NORM_TOLERANCE = 1e-4
"""How far an L2 norm may be from 1; float32 rounding of a normalised row stays below 1e-6."""


def error_bound(dim: int) -> float:
    """Return the most by which a float32 dot product of two vectors of the norm allowed can err."""
    unit = dim * 2.0**-24
    return 1.01 * unit / (1 - unit) * (1 + NORM_TOLERANCE) ** 2


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli, reflected, as in RFC 3720) of `data`, 0 to 2**32 - 1."""
    return int(google_crc32c.value(data))


def encode(vectors: NDArray[np.float32]) -> tuple[list[bytes], list[int]]:
    """Bytes and CRC-32C of each row of `vectors`: float32 (N, D), finite, unit L2 norm.

    Raises `InputError` for another dtype or shape, and for rows that `check` refuses.
    """
    check(vectors)
    rows = np.ascontiguousarray(vectors, dtype="<f4")
    blobs = [row.tobytes() for row in rows]
    return blobs, [crc32c(blob) for blob in blobs]


def decode(blobs: Sequence[bytes], crcs: Sequence[int], *, dim: int) -> NDArray[np.float32]:
    """float32 (N, dim) from stored bytes; `IntegrityError` where length or CRC-32C disagree."""
    for row, blob in enumerate(blobs):
        if len(blob) != 4 * dim:
            raise IntegrityError(
                f"a stored vector of D={dim} has {4 * dim} bytes, row {row} has {len(blob)}: "
                "extract its image again"
            )
    if not blobs:
        return np.empty((0, dim), np.float32)
    verify(blobs, crcs)
    flat = np.frombuffer(b"".join(blobs), "<f4")
    return flat.reshape(len(blobs), dim).astype(np.float32)


def verify(blobs: Iterable[bytes] | NDArray[np.float32], crcs: Sequence[int]) -> None:
    """`IntegrityError` where a stored vector's CRC-32C is not what was stored with it.

    The vectors: bytes each, or an array (N, D) with rows in one piece, of which none is copied.
    """
    # Bytes, not floats: where it has no C library, it takes numbers below 256 alone.
    parts = blobs.view(np.uint8) if isinstance(blobs, np.ndarray) else blobs
    found = map(google_crc32c.value, parts)
    wrong = [row for row, (own, crc) in enumerate(zip(found, crcs, strict=True)) if own != crc]
    if wrong:
        raise IntegrityError(
            f"stored vectors must match their CRC-32C, {len(wrong)} of {len(crcs)} do not "
            f"(first: row {wrong[0]}): extract their images again"
        )


def check(vectors: NDArray[np.float32]) -> None:
    """`InputError` unless `vectors` is float32 (N, D), D > 0, finite, each row of unit L2 norm."""
    if vectors.ndim != 2 or vectors.dtype != np.float32 or vectors.shape[1] == 0:
        raise InputError(
            f"features must be float32 (N, D) with D > 0, got {vectors.dtype} {vectors.shape}"
        )
    norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    # A NaN or an infinity makes the norm compare false, so one test finds every bad row.
    wrong = np.flatnonzero(~(np.abs(norms - 1.0) <= NORM_TOLERANCE))
    if wrong.size:
        raise InputError(
            f"features must be finite and of unit L2 norm, row {wrong[0]} has norm "
            f"{norms[wrong[0]]:.6g} ({wrong.size} of {len(norms)} rows): normalise them"
        )
