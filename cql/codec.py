"""Feature vectors to bytes and back: raw little-endian float32, CRC-32C, unit L2 norm."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cql.errors import InputError, IntegrityError

NORM_TOLERANCE = 1e-4
"""How far an L2 norm may be from 1; float32 rounding of a normalised row stays below 1e-6."""

_POLYNOMIAL = 0x82F63B78
_BLOCK_ROWS = 256


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli, reflected, as in RFC 3720) of `data`, 0 to 2**32 - 1."""
    return int(_checksums(np.frombuffer(data, np.uint8).reshape(1, -1))[0])


def encode(vectors: NDArray[np.float32]) -> tuple[list[bytes], list[int]]:
    """Bytes and CRC-32C of each row of `vectors`: float32 (N, D), finite, unit L2 norm.

    Raises `InputError` for another dtype or shape, and for rows that `check` refuses.
    """
    check(vectors)
    rows = np.ascontiguousarray(vectors, dtype="<f4")
    sums = _checksums(rows.view(np.uint8)) if rows.size else np.empty(0, np.uint32)
    return [row.tobytes() for row in rows], [int(value) for value in sums]


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
    raw = np.frombuffer(b"".join(blobs), np.uint8).reshape(len(blobs), 4 * dim)
    wrong = np.flatnonzero(_checksums(raw) != np.asarray(crcs, np.uint32))
    if wrong.size:
        raise IntegrityError(
            f"stored vectors must match their CRC-32C, {wrong.size} of {len(blobs)} do not "
            f"(first: row {wrong[0]}): extract their images again"
        )
    return raw.view("<f4").astype(np.float32, copy=True)


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


def _checksums(raw: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """CRC-32C of each row of uint8 (N, L): uint32 (N,).

    A CRC is linear over GF(2): the sum of one table entry per byte position, plus the CRC of zeros.
    """
    rows, length = raw.shape
    tables, zeros = _tables(length)
    offsets = np.arange(length, dtype=np.int64) * 256
    sums = np.empty(rows, np.uint32)
    for start in range(0, rows, _BLOCK_ROWS):
        block = raw[start : start + _BLOCK_ROWS]
        picked = tables.take(block + offsets)
        sums[start : start + _BLOCK_ROWS] = np.bitwise_xor.reduce(picked, axis=1)
    return sums ^ zeros


@lru_cache(maxsize=8)
def _tables(length: int) -> tuple[NDArray[np.uint32], np.uint32]:
    """What each byte value contributes at each position of `length` bytes, and the CRC of zeros."""
    last = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        last = np.where(last & 1, (last >> 1) ^ np.uint32(_POLYNOMIAL), last >> 1)
    tables = np.empty((length, 256), np.uint32)
    current = last
    state = 0xFFFFFFFF
    for position in range(length - 1, -1, -1):
        tables[position] = current
        current = (current >> 8) ^ last[current & 0xFF]
        state = (state >> 8) ^ int(last[state & 0xFF])
    return tables.reshape(-1), np.uint32(state ^ 0xFFFFFFFF)
