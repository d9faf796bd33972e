"""Clusters for rows that came after a tree was grown; the tree stays as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from analytics import clustering
from analytics.clustering import Clusters
from analytics.hierarchy import tree as trees
from analytics.hierarchy.soft import KEPT, Late, soft
from analytics.hierarchy.tree import Linkage


class Assigner:
    """Gives rows the clusters that a map has, as `hdbscan.approximate_predict` does.

    A row joins the tree at its nearest row by mutual reachability, at that distance. It belongs to
    the cluster which that row was in at this level, or to none (McInnes, Healy, Astels, 2017).
    """

    def __init__(
        self,
        space: NDArray[np.float32],
        linkage: Linkage,
        *,
        min_samples: int,
        min_cluster_size: int | None = None,
    ) -> None:
        """Cut the tree of float32 (N, E) as `clustering.cluster` does: the same numbers."""
        from scipy.spatial import cKDTree

        count = len(space)
        size = clustering.least_size(count) if min_cluster_size is None else min_cluster_size
        self._space, self._near = space, min(min_samples, max(0, count - 1))
        self._most: float = linkage.most
        self._cut: clustering.Cut | None = None
        if clustering.together(count, size) or not (space != space[0]).any():
            return
        self._cut = clustering.cut(linkage, size)
        self._number = np.full(len(self._cut.tree.parent), -1)
        self._number[self._cut.chosen] = np.arange(len(self._cut.chosen))
        self._index = cKDTree(space.astype(np.float64))

    def assign(self, points: NDArray[np.float32], *, threads: int | None = None) -> Clusters:
        """Clusters of float32 (M, E); groups are those of the map and left out."""
        if self._cut is None:
            return self._one(len(points))
        cut, tree = self._cut, self._cut.tree
        nearest, level = self._joins(points.astype(np.float64))
        owner = tree.owner[nearest]
        level = np.minimum(level, self._most)
        # Below the level at which its neighbour left, it leaves an ancestor of that cluster.
        early = tree.level[nearest] > level
        while True:
            up = early & (owner > 0) & (tree.birth[owner] >= level)
            if not up.any():
                break
            owner[up] = tree.parent[owner[up]]
        own = cut.inside[owner]
        most = np.where(own >= 0, tree.death[own], 1.0)
        share = np.where(most > 0, np.minimum(level, most) / np.where(most > 0, most, 1.0), 1.0)
        shared = soft(
            self._space, tree, cut.chosen, cut.inside,
            late=Late(points, owner, level), threads=threads,
        )  # fmt: skip
        return Clusters(
            np.where(own >= 0, self._number[own], -1),
            np.where(own >= 0, share, 0.0),
            np.maximum(0.0, trees.glosh(replace(tree, owner=owner, level=level))),
            shared.clusters,
            shared.shares,
        )

    def _joins(self, points: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Nearest row by mutual reachability of each point, and lambda there."""
        width = min(2 * self._near, len(self._space))
        gaps, near = self._index.query(points, width, workers=-1)
        gaps, near = gaps.reshape(len(points), width), near.reshape(len(points), width)
        known, back = np.unique(near, return_inverse=True)
        # A row is its own nearest, so that its min_samples-th other comes one later.
        core = self._index.query(self._space[known], [self._near + 1], workers=-1)[0][:, 0]
        reach = np.maximum(gaps, gaps[:, self._near - 1][:, None])
        reach = np.maximum(reach, core[back.reshape(near.shape)])
        best = reach.argmin(axis=1)[:, None]
        length = np.take_along_axis(reach, best, 1)[:, 0]
        level = np.where(length > 0, 1.0 / np.where(length > 0, length, 1.0), np.inf)
        return np.take_along_axis(near, best, 1)[:, 0].astype(np.int64), level

    def _one(self, count: int) -> Clusters:
        """All rows of the map are one cluster, and so are those that come."""
        labels = np.full(count, 0 if len(self._space) > 1 else -1, np.int64)
        clusters, shares = np.full((count, KEPT), -1, np.int32), np.zeros((count, KEPT), np.float32)
        clusters[:, 0], shares[:, 0] = labels, labels >= 0
        return Clusters(labels, shares[:, 0].astype(np.float64), np.zeros(count), clusters, shares)
