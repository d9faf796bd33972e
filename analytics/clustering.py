"""Clusters of the collection: HDBSCAN of any size from one tree, exemplars, lasting keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from analytics import tree as trees
from analytics.identity import halves
from analytics.levels import levels
from analytics.soft import KEPT, soft
from analytics.spanning import spanning
from analytics.tree import Linkage
from cql.errors import InputError
from cql.records import NAMESPACE

EXEMPLARS = 9
SAME = 0.3
"""Least overlap (Jaccard, of images) at which a cluster carries on the key of an earlier one."""


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """What clustering says of each row.

    `labels` int64 (N,), -1 for noise, 0 is the largest; `membership` float64 (N,) in [0, 1];
    `glosh` float64 (N,) in [0, 1], larger is stranger. The clusters of largest share of each row:
    `soft_clusters` int32 (N, 3) and `soft_shares` float32 (N, 3), -1 and 0 where there are fewer;
    no rows where that is not known. `groups` int64 (K,): the group of each cluster, 0 is the
    largest; `wider` int64 (G,): the wider group of each group; empty where nothing is grouped.
    """

    labels: NDArray[np.int64]
    membership: NDArray[np.float64]
    glosh: NDArray[np.float64]
    soft_clusters: NDArray[np.int32] = field(default_factory=lambda: _none(np.int32))
    soft_shares: NDArray[np.float32] = field(default_factory=lambda: _none(np.float32))
    groups: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    wider: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def count(self) -> int:
        """Number of clusters."""
        return int(self.labels.max(initial=-1)) + 1

    @property
    def nearest(self) -> NDArray[np.int64]:
        """The cluster of largest share of each row, int64 (N,): also of those in none; -1."""
        if not len(self.soft_clusters):
            return np.full(len(self.labels), -1)
        return self.soft_clusters[:, 0].astype(np.int64)

    def shares(self, row: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Clusters of largest share of a row, and their shares, falling."""
        if not len(self.soft_clusters):
            return (), ()
        known = self.soft_clusters[row] >= 0
        return (
            tuple(self.soft_clusters[row][known].tolist()),
            tuple(self.soft_shares[row][known].tolist()),
        )


def least_size(rows: int) -> int:
    """Smallest cluster for N rows: grows with the root of N, so that a map stays readable."""
    return int(np.clip(round(np.sqrt(rows) / 4), 5, 200))


def grow(space: NDArray[np.float32], *, min_samples: int) -> Linkage:
    """The tree of float32 (N, E), from which clusters of any size are cut without the space.

    InputError for a coordinate that is not finite.
    """
    if not np.isfinite(space).all():
        raise InputError("the space that clusters are found in must be finite: lay it out again")
    return trees.link(spanning(space, min_samples=min_samples), len(space))


def cluster(
    space: NDArray[np.float32],
    *,
    min_samples: int,
    min_cluster_size: int | None = None,
    linkage: Linkage | None = None,
) -> Clusters:
    """Cluster float32 (N, E) by HDBSCAN (Campello, Moulavi, Sander, 2013), excess of mass.

    Too few rows for two clusters are one cluster of all (two rows or more) or noise. `linkage` is
    what `grow` made of the space, where it is there already.
    """
    count = len(space)
    size = least_size(count) if min_cluster_size is None else min_cluster_size
    if together(count, size) or not (space != space[0]).any():
        return _one(count)
    linkage = linkage or grow(space, min_samples=min_samples)
    tree = trees.condense(linkage, size)
    inside = trees.above(tree, trees.heaviest(tree))
    own = inside[tree.owner]
    labels, chosen = _by_size(own)
    shared = soft(space, tree, chosen, inside)
    cuts = levels(tree, chosen)
    groups = [cut.group for cut in cuts]
    held = np.bincount(labels[labels >= 0], minlength=len(chosen))
    for at, group in enumerate(groups):
        # Groups too are numbered by falling size; what is grouped further follows.
        held = np.bincount(group, held, minlength=len(cuts[at].node)).astype(np.int64)
        order = np.argsort(-held, kind="stable")
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        groups[at], held = place[group], held[order]
        if at + 1 < len(groups):
            groups[at + 1] = groups[at + 1][order]
    return Clusters(
        labels,
        trees.membership(tree, own),
        trees.glosh(tree),
        shared.clusters,
        shared.shares,
        *groups,
    )


def together(rows: int, size: int) -> bool:
    """Whether N rows are too few for two clusters of a size: all of them are one then."""
    return rows < 2 * size


def _one(count: int) -> Clusters:
    labels = np.full(count, 0 if count > 1 else -1, np.int64)
    clusters, shares = np.full((count, KEPT), -1, np.int32), np.zeros((count, KEPT), np.float32)
    clusters[:, 0] = labels
    shares[:, 0] = labels >= 0
    return Clusters(labels, shares[:, 0].astype(np.float64), np.zeros(count), clusters, shares)


def _none(kind: Any) -> NDArray[Any]:
    return np.empty((0, KEPT), kind)


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
    ids = np.frombuffer(b"".join(each.bytes for each in images), np.uint8).reshape(-1, 16)
    return _named(ids, kind)


def _named(images: NDArray[np.uint8], kind: str) -> UUID:
    """UUIDv5 of the ids of images, uint8 (N, 16), in any order: as text, in order, by NUL."""
    ordered = images[np.lexsort(halves(images))]
    digits = np.stack([ordered >> 4, ordered & 15], axis=2).reshape(-1, 32)
    text = np.frombuffer(b"0123456789abcdef", np.uint8)[digits]
    text = np.insert(text, [8, 12, 16, 20], ord("-"), axis=1)
    text = np.insert(text, 36, 0, axis=1)
    return uuid5(NAMESPACE, f"{kind}\0" + text.tobytes()[:-1].decode())


def _by_size(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number clusters by falling size, ties by their first row: labels, and what each was."""
    known, first, back, sizes = np.unique(
        labels, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.array([at for at in np.lexsort((first, -sizes)) if known[at] >= 0], np.int64)
    number = np.full(len(known), -1)
    number[order] = np.arange(len(order))
    return number[back], known[order]
