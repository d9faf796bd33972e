"""Clusters of the collection: HDBSCAN, membership, exemplars, and keys that outlive a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from analytics.identity import halves
from cql.records import NAMESPACE

EXEMPLARS = 9
SAME = 0.3
"""Least overlap (Jaccard, of images) at which a cluster carries on the key of an earlier one."""


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """What clustering says of each row.

    `labels` int64 (N,), -1 for noise, 0 is the largest; `membership` float64 (N,) in [0, 1];
    `glosh` float64 (N,) in [0, 1], larger is stranger.
    """

    labels: NDArray[np.int64]
    membership: NDArray[np.float64]
    glosh: NDArray[np.float64]

    @property
    def count(self) -> int:
        """Number of clusters."""
        return int(self.labels.max(initial=-1)) + 1


def least_size(rows: int) -> int:
    """Smallest cluster for N rows: grows with the root of N, so that a map stays readable."""
    return int(np.clip(round(np.sqrt(rows) / 4), 5, 200))


def cluster(
    space: NDArray[np.float32], *, min_samples: int, min_cluster_size: int | None = None
) -> Clusters:
    """Cluster float32 (N, E) by HDBSCAN (Campello, Moulavi, Sander, 2013), excess of mass.

    Too few rows for two clusters are one cluster of all (two rows or more) or noise.
    """
    count = len(space)
    size = least_size(count) if min_cluster_size is None else min_cluster_size
    none = np.zeros(count)
    if count < 2 * size or not (space != space[0]).any():
        together = np.full(count, 0 if count > 1 else -1, np.int64)
        return Clusters(together, (together == 0).astype(np.float64), none)
    import hdbscan

    model = hdbscan.HDBSCAN(
        min_cluster_size=size,
        min_samples=min(min_samples, count - 1),
        cluster_selection_method="eom",
        core_dist_n_jobs=1,
        approx_min_span_tree=False,
    ).fit(space.astype(np.float64))
    glosh = np.nan_to_num(model.outlier_scores_, nan=0.0, posinf=1.0, neginf=0.0)
    labels = np.asarray(model.labels_, np.int64)
    membership = np.nan_to_num(model.probabilities_, nan=0.0)
    return Clusters(_by_size(labels), membership, np.clip(glosh, 0.0, 1.0))


def exemplars(
    space: NDArray[np.float32], clusters: Clusters, number: int, *, most: int = EXEMPLARS
) -> NDArray[np.int64]:
    """Rows that show a cluster: first the surest, then each the farthest from those chosen.

    Chosen among the surer half, so that the spread does not end at strays.
    """
    rows = np.flatnonzero(clusters.labels == number)
    sure = rows[np.argsort(-clusters.membership[rows], kind="stable")]
    sure = sure[: max(most, (len(sure) + 1) // 2)]
    middle = space[sure].mean(axis=0)
    chosen = [int(np.argmin(((space[sure] - middle) ** 2).sum(axis=1)))]
    gap = ((space[sure] - space[sure[chosen[0]]]) ** 2).sum(axis=1)
    while len(chosen) < min(most, len(sure)):
        gap[chosen] = -1.0
        chosen.append(int(np.argmax(gap)))
        gap = np.minimum(gap, ((space[sure] - space[sure[chosen[-1]]]) ** 2).sum(axis=1))
    return sure[chosen]


def keys(members: Sequence[frozenset[UUID]], earlier: Mapping[UUID, frozenset[UUID]]) -> list[UUID]:
    """A key for each cluster: that of the earlier cluster it overlaps most, else a new one.

    Pairs are taken by falling Jaccard index down to 0.3; each key is carried on at most once.
    A new key is a UUIDv5 of the members, so the same clusters get the same keys.
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
    return [found.get(number) or _fresh(images) for number, images in enumerate(members)]


def match(
    labels: NDArray[np.int64],
    images: NDArray[np.uint8],
    was: NDArray[np.int64],
    earlier: Sequence[tuple[UUID, int]],
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
        found.get(number) or _named(images[order[ends[number] : ends[number + 1]]])
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


def _fresh(images: frozenset[UUID]) -> UUID:
    return _named(np.frombuffer(b"".join(each.bytes for each in images), np.uint8).reshape(-1, 16))


def _named(images: NDArray[np.uint8]) -> UUID:
    """UUIDv5 of the ids of images, uint8 (N, 16), in any order: as text, in order, by NUL."""
    ordered = images[np.lexsort(halves(images))]
    digits = np.stack([ordered >> 4, ordered & 15], axis=2).reshape(-1, 32)
    text = np.frombuffer(b"0123456789abcdef", np.uint8)[digits]
    text = np.insert(text, [8, 12, 16, 20], ord("-"), axis=1)
    text = np.insert(text, 36, 0, axis=1)
    return uuid5(NAMESPACE, "cluster\0" + text.tobytes()[:-1].decode())


def _by_size(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number clusters by falling size, ties by their first row."""
    known, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    order = [at for at in np.lexsort((first, -sizes)) if known[at] >= 0]
    numbers = np.full(len(known), -1, np.int64)
    numbers[order] = np.arange(len(order))
    renamed: NDArray[np.int64] = numbers[np.searchsorted(known, labels)]
    return renamed
