"""Ids as arrays: of images uint8 (N, 16), ordered and matched without an object for each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray


def packed(images: Iterable[UUID]) -> NDArray[np.uint8]:
    """Ids as an array: uint8 (N, 16)."""
    return np.frombuffer(b"".join(image.bytes for image in images), np.uint8).reshape(-1, 16)


def unpacked(images: NDArray[np.uint8]) -> list[UUID]:
    """Ids of an array uint8 (N, 16), as `packed` makes it."""
    words = np.ascontiguousarray(images).view(">u8").tolist()
    return [UUID(int=(high << 64) | low) for high, low in words]


def parsed(texts: Iterable[str]) -> NDArray[np.uint8]:
    """Ids that are texts as `str` of each writes them, as an array: uint8 (N, 16)."""
    digits = bytes.fromhex("".join(texts).replace("-", ""))
    return np.frombuffer(digits, np.uint8).reshape(-1, 16)


def numbered(names: Iterable[str]) -> tuple[dict[str, int], NDArray[np.int64]]:
    """Numbers of texts in the order of their first place, and that of each place: int64 (N,)."""
    numbers: dict[str, int] = {}
    return numbers, np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


def halves(images: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The low and the high half of ids, uint64 (N,) each: keys of `np.lexsort`, in its order."""
    keys = np.ascontiguousarray(images).view(">u8").astype(np.uint64).reshape(-1, 2)
    return keys[:, 1], keys[:, 0]


def places(held: NDArray[np.uint8], asked: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Row in `held` uint8 (M, 16) of each id of `asked` uint8 (N, 16): int64 (N,), -1 for none.

    Ids of each side differ from one another.
    """
    every = np.concatenate([held, asked])
    low, high = halves(every)
    # Equal ids stand together, that of `held` first; each of `asked` looks one place back.
    order = np.lexsort((np.arange(len(every)), low, high))
    same = np.zeros(len(every), bool)
    same[1:] = (low[order[1:]] == low[order[:-1]]) & (high[order[1:]] == high[order[:-1]])
    found = np.full(len(asked), -1, np.int64)
    pairs = np.flatnonzero(same & (order >= len(held)))
    found[order[pairs] - len(held)] = order[pairs - 1]
    return found


def located(
    held: NDArray[np.uint8],
    order: NDArray[np.integer[Any]],
    high: NDArray[np.uint64],
    asked: NDArray[np.uint8],
) -> NDArray[np.int64]:
    """`places` of many `asked` one after another in the same `held`, whose ids differ.

    `order` int (M,) sorts `held` by id; `high` uint64 (M,) is the high half of each, in that order.
    """
    low, wanted = halves(asked)
    found = np.full(len(wanted), -1, np.int64)
    # Ids that ascend are looked up in what lies in the cache.
    left = np.argsort(wanted)
    at = np.empty(len(wanted), np.int64)
    at[left] = np.searchsorted(high, wanted[left])
    # Ids ascend by both halves: of those that share the high half, one after the other.
    while len(left):
        left = left[at[left] < len(order)]
        left = left[high[at[left]] == wanted[left]]
        rows = order[at[left]]
        same = halves(held[rows])[0] == low[left]
        found[left[same]] = rows[same]
        left = left[~same]
        at[left] += 1
    return found
