"""Sums of files: XXH3 with 128 bits, as 32 hex digits.

They find damage: what was cut off, and bits that flipped. They are no guard against somebody who
changes a file on purpose: whoever may write files here may write the rows with their sums, too.
"""

from __future__ import annotations

from pathlib import Path

from xxhash import xxh3_128

DIGITS = 32
_PIECE = 2**20
"""Bytes that are read at once: what the processor's caches hold."""

Checksum = xxh3_128
"""A sum in the making: `update(bytes)`, then `hexdigest()`; large pieces do not hold the GIL."""


def checksum(path: Path) -> str:
    """Sum of a file. OSError where it cannot be read."""
    total = Checksum()
    # Into one buffer, again and again: the pages of a map would count as this process's memory.
    room = memoryview(bytearray(_PIECE))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(room):
            total.update(room[:size])
    return total.hexdigest()
