"""Keys of clusters that outlive a map: mostly the same images, the same key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from analytics.identity import halves, packed
from cql.records import NAMESPACE

SAME = 0.3
"""Least overlap (Jaccard, of images) at which a cluster carries on the key of an earlier one."""


def keys(
    members: Sequence[frozenset[UUID]],
    earlier: Mapping[UUID, frozenset[UUID]],
    *,
    kind: str = "cluster",
) -> list[UUID]:
    """A key for each cluster: that of the earlier cluster it overlaps most, else a new one.

    Pairs are taken by falling Jaccard index down to 0.3; each key is carried on at most once.
    A new key is a UUIDv5 of `kind` and the members, so the same clusters get the same keys.
    """
    owner = {image: key for key, images in earlier.items() for image in images}
    pairs: list[tuple[float, int, UUID]] = []
    for number, images in enumerate(members):
        shared: dict[UUID, int] = {}
        for image in images:
            if (key := owner.get(image)) is not None:
                shared[key] = shared.get(key, 0) + 1
        for key, both in shared.items():
            pairs.append((both / (len(images) + len(earlier[key]) - both), number, key))
    found = _carried(pairs)
    return [found.get(number) or _fresh(images, kind) for number, images in enumerate(members)]


def match(
    labels: NDArray[np.int64],
    images: NDArray[np.uint8],
    was: NDArray[np.int64],
    earlier: Sequence[tuple[UUID, int]],
    *,
    kind: str = "cluster",
) -> list[UUID]:
    """`keys` for a whole collection, by arrays.

    `labels` int64 (N,) and `images` uint8 (N, 16) say what is now; `was` int64 (N,) is the number
    of the earlier cluster of each row, -1 for none; `earlier` has key and size of each of those.
    """
    count = int(labels.max(initial=-1)) + 1
    both = (labels >= 0) & (was >= 0)
    codes, shared = np.unique(labels[both] * len(earlier) + was[both], return_counts=True)
    sizes = np.bincount(labels[labels >= 0], minlength=count)
    pairs = []
    for code, common in zip(codes.tolist(), shared.tolist(), strict=True):
        number, before = divmod(code, len(earlier))
        key, size = earlier[before]
        pairs.append((common / (int(sizes[number]) + size - common), number, key))
    found = _carried(pairs)
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.r_[np.count_nonzero(labels < 0), sizes])
    return [
        found.get(number) or _named(images[order[ends[number] : ends[number + 1]]], kind)
        for number in range(count)
    ]


def _carried(pairs: Sequence[tuple[float, int, UUID]]) -> dict[int, UUID]:
    found: dict[int, UUID] = {}
    taken: set[UUID] = set()
    for overlap, number, key in sorted(pairs, key=lambda pair: (-pair[0], pair[1], str(pair[2]))):
        if overlap >= SAME and number not in found and key not in taken:
            found[number] = key
            taken.add(key)
    return found


def _fresh(images: frozenset[UUID], kind: str) -> UUID:
    return _named(packed(images), kind)


def _named(images: NDArray[np.uint8], kind: str) -> UUID:
    """UUIDv5 of the ids of images, uint8 (N, 16), in any order: as text, in order, by NUL."""
    ordered = images[np.lexsort(halves(images))]
    digits = np.stack([ordered >> 4, ordered & 15], axis=2).reshape(-1, 32)
    text = np.frombuffer(b"0123456789abcdef", np.uint8)[digits]
    text = np.insert(text, [8, 12, 16, 20], ord("-"), axis=1)
    text = np.insert(text, 36, 0, axis=1)
    return uuid5(NAMESPACE, f"{kind}\0" + text.tobytes()[:-1].decode())
