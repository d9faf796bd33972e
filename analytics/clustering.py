"""Clusters of the collection: HDBSCAN of any size from one tree, exemplars, lasting keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analytics.hierarchy import tree as trees
from analytics.hierarchy.levels import levels
from analytics.hierarchy.soft import KEPT, soft
from analytics.hierarchy.spanning import spanning
from analytics.hierarchy.tree import Linkage
from cql.errors import InputError

EXEMPLARS = 9
LIBRARY_ROWS = 20_000
"""Rows up to which the hdbscan library grows the tree."""


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

    Up to 20,000 rows the hdbscan library grows it; above, our own, many times faster.
    InputError for a coordinate that is not finite.
    """
    if not np.isfinite(space).all():
        raise InputError("the space that clusters are found in must be finite: lay it out again")
    if min_samples + 1 < len(space) <= LIBRARY_ROWS and (space != space[0]).any():
        return _by_hdbscan(space, min_samples)
    return trees.link(spanning(space, min_samples=min_samples), len(space))


def _by_hdbscan(space: NDArray[np.float32], min_samples: int) -> Linkage:
    import hdbscan

    model = hdbscan.HDBSCAN(
        min_cluster_size=max(2, min_samples),
        min_samples=min_samples,
        approx_min_span_tree=False,
        core_dist_n_jobs=1,
    ).fit(space.astype(np.float64))
    merges = model.single_linkage_tree_.to_numpy()
    return Linkage(
        merges[:, 0].astype(np.int32),
        merges[:, 1].astype(np.int32),
        merges[:, 2].astype(np.float64),
        merges[:, 3].astype(np.int32),
    )


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
    found = cut(linkage or grow(space, min_samples=min_samples), size)
    tree, labels, chosen = found.tree, found.labels, found.chosen
    shared = soft(space, tree, chosen, found.inside)
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
        trees.membership(tree, found.inside[tree.owner]),
        trees.glosh(tree),
        shared.clusters,
        shared.shares,
        *groups,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """A tree cut into clusters: `labels` int64 (N,) of the rows, numbered by falling size.

    `chosen` int64 (K,): the cluster of the tree that each is; `inside` int64 (C,): the chosen one
    that each cluster of the tree is or lies in, else -1.
    """

    tree: trees.Condensed
    inside: NDArray[np.int64]
    labels: NDArray[np.int64]
    chosen: NDArray[np.int64]


def cut(linkage: Linkage, size: int) -> Cut:
    """Cut a tree into clusters of at least `size` rows, by excess of mass."""
    tree = trees.condense(linkage, size)
    inside = trees.above(tree, trees.heaviest(tree))
    return Cut(tree, inside, *by_size(inside[tree.owner]))


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


def by_size(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number clusters by falling size, ties by their first row: labels, and what each was."""
    known, first, back, sizes = np.unique(
        labels, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.array([at for at in np.lexsort((first, -sizes)) if known[at] >= 0], np.int64)
    number = np.full(len(known), -1)
    number[order] = np.arange(len(order))
    return number[back], known[order]
