"""A map as new images are placed on it: where they go, to which cluster, how strange they are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from analytics.hierarchy.assignment import Assigner
from analytics.hierarchy.grown import Grown
from analytics.identity import places
from analytics.layouts.transform import transform
from analytics.making.resize import parameters
from analytics.maps.appended import Tables, points_of
from analytics.projection import Frame
from analytics.tiles import MapTable
from cql.records import Feature, MapPoint, MapVersion
from cql.settings import Settings
from cql.store import Store

_SIDE = 20.0
"""Width of a layout where a map made by an older Sightline does not say it."""


class Ground:
    """What placing on one map needs of it: its layout, the space of its clusters and their tree."""

    def __init__(
        self, settings: Settings, store: Store, version: MapVersion, tables: Tables
    ) -> None:
        """Read what the map holds. NotFoundError where that has no space of its clusters."""
        self._store, self._version, self._tables = store, version, tables
        self._chosen = parameters(version)
        self._threads = settings.cores or os.cpu_count() or 1
        frame = {name: version.quality.get(f"frame_{name}") for name in ("x", "y", "side")}
        known = {name: value for name, value in frame.items() if value is not None}
        self._frame = Frame(**{"x": 0.0, "y": 0.0, "side": _SIDE, **known})
        grown = Grown.open(settings, store, version.map_id)
        table = tables.table(version.map_id)
        # In the order of the table's rows; those that came later follow, batch by batch.
        at = places(grown.images, table.images[: table.made])
        self._space = [np.ascontiguousarray(grown.space[at])]
        self._assigner = Assigner(
            grown.space,
            grown.linkage,
            min_samples=grown.min_samples,
            min_cluster_size=self._chosen.min_cluster_size,
        )
        self._distances = np.sort(table.numbers("knn_distance")[: table.made])

    @property
    def neighbours(self) -> int:
        """Nearest images on the map that `points` wants of each new one."""
        chosen = self._chosen
        return max(chosen.map_neighbours, chosen.cluster_neighbours, chosen.outlier_neighbours)

    def points(
        self,
        table: MapTable,
        features: Sequence[Feature],
        near: NDArray[np.int64],
        gaps: NDArray[np.float32],
    ) -> Iterator[MapPoint]:
        """Points of M new images, from their nearest rows of the table (M, K), -1 for none.

        `gaps` float32 (M, K) are their distances, ascending.
        """
        chosen, seed = self._chosen, self._version.seed
        few = slice(0, chosen.map_neighbours)
        laid = transform(
            near[:, few], gaps[:, few], self._frame.placed(table.placed), seed=seed,
            min_dist=chosen.map_min_dist, pushing=table.made, threads=self._threads,
        )  # fmt: skip
        shown = self._frame.shown(laid)
        few = slice(0, chosen.cluster_neighbours)
        space = transform(
            near[:, few], gaps[:, few], self._spaces(), seed=seed, min_dist=0.0,
            pushing=table.made, threads=self._threads,
        )  # fmt: skip
        found = self._assigner.assign(space, threads=self._threads)
        few = slice(0, chosen.outlier_neighbours)
        distance, score = self._strange(near[:, few], gaps[:, few])
        raw = np.ascontiguousarray(space, "<f4")
        for row, feature in enumerate(features):
            clusters, shares = found.shares(row)
            yield MapPoint(
                image_id=feature.image_id,
                listing_id=feature.listing_id,
                x=float(shown[row, 0]),
                y=float(shown[row, 1]),
                cluster=int(found.labels[row]),
                membership=float(found.membership[row]),
                outlier_score=float(score[row]),
                knn_distance=float(distance[row]),
                glosh=float(found.glosh[row]),
                soft_clusters=clusters,
                soft_shares=shares,
                space=raw[row].tobytes(),
            )

    def _spaces(self) -> NDArray[np.float32]:
        """The space of the clusters in the order of the table's rows, float32 (N, E)."""
        for batch in self._tables.batches(self._version.map_id)[len(self._space) - 1 :]:
            points = points_of(self._store, batch)
            raw = np.frombuffer(b"".join(point.space for point in points), "<f4")
            self._space.append(raw.reshape(len(points), -1).astype(np.float32))
        return np.concatenate(self._space)

    def _strange(
        self, near: NDArray[np.int64], gaps: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean distance to the neighbours, and its percentile among those of the map's images.

        That alone is the score: what else counts for the ranking of a map is not known of them.
        """
        held = near >= 0
        sums = np.where(held, gaps, 0).sum(axis=1, dtype=np.float64)
        distance = sums / np.maximum(1, held.sum(axis=1))
        count = max(1, len(self._distances))
        below = np.searchsorted(self._distances, distance.astype(np.float32), side="right")
        return distance, np.clip(below / count, 1 / count, 1.0)
