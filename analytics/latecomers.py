"""Images that came after the map was made: found in the change log, placed on the live map.

Nothing that is on the map moves, and no cluster changes. The next analysis has such images as it
has all others.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray

from analytics.appended import Tables
from analytics.assignment import Assigner
from analytics.clustering import Clusters
from analytics.grown import Grown
from analytics.identity import places
from analytics.making import Parameters
from analytics.projection import Frame
from analytics.resize import parameters
from analytics.search import Searcher
from analytics.tiles import MapTable
from analytics.transform import transform
from cql import codec
from cql.errors import ConflictError, NotFoundError
from cql.progress import Progress, silent
from cql.records import Change, Feature, MapPoint, MapVersion, PlacedBatch
from cql.settings import Settings
from cql.store import Store

log = logging.getLogger(__name__)

OVERLAP = timedelta(minutes=2)
"""How far back the change log is read again: clocks differ, and a write takes a moment."""

UNKNOWN = timedelta(days=1)
"""How much older than a map its snapshot's watermark may be, where nobody knows it any more."""

BLOCK = 1_000
"""Images placed at a time: those of later blocks find those of earlier ones on the map."""

_SPARE = 16
_WIDEST = 1_024
_ANSWERS = 200_000
"""Neighbours asked for at once, in all."""
_SIDE = 20.0
"""Width of a layout where a map made by an older Sightline does not say it."""


class Latecomers:
    """Places what came on the live map; keeps what it needs of one map. Thread-safe."""

    def __init__(self, settings: Settings, store: Store, searcher: Searcher) -> None:
        self._settings, self._store, self._searcher = settings, store, searcher
        self._lock = threading.Lock()
        self._ground: _Ground | None = None

    def place(self, *, progress: Progress = silent) -> int:
        """Place every image that has a feature of the live map's model and is not on it.

        Returns how many were. Each block of them is seen whole or not at all, so that whoever was
        interrupted goes on behind the last one. The step that `progress` hears of is called place.

        Raises:
            UnavailableError: hosts do not answer.
            NotFoundError: no snapshot of the map's model is live, or the map holds no space of its
                clusters.
        """
        with self._lock:
            live = self._store.live("map")
            if live is None:
                return 0
            if self._ground is None or self._ground.version.map_id != live:
                try:
                    version = self._store.map(live)
                except NotFoundError:
                    return 0  # between two maps the pointer may name one that was just deleted
                tables = Tables(self._settings, self._store, most=1)
                self._ground = _Ground(version, tables, _begin(self._store, version))
            return self._place(self._ground, progress)

    def _place(self, ground: _Ground, progress: Progress) -> int:
        began = datetime.now(UTC)
        changes = list(ground.arrived(self._store, began + OVERLAP))
        wanted = ground.missing(changes)
        done = 0
        if wanted:
            progress("place", 0, len(wanted))
        for start in range(0, len(wanted), BLOCK):
            block = wanted[start : start + BLOCK]
            last = start + BLOCK >= len(wanted)
            read_to = began if last else ground.read_to
            try:
                done += self._block(ground, block, read_to)
            except ConflictError as error:
                log.info("images are placed by another engine: %s", error)
                return done
            progress("place", start + len(block), len(wanted))
        ground.took(changes, began)
        return done

    def _block(
        self, ground: _Ground, wanted: Sequence[tuple[str, UUID]], read_to: datetime
    ) -> int:
        version = ground.version
        keys = [(listing_id, version.model_id, image_id) for listing_id, image_id in wanted]
        found = [each for each in self._store.features_at(keys) if each is not None]
        if not found:
            return 0  # they were deleted since, or have features of other models
        snapshot = self._searcher.snapshot(version.model_id)
        vectors: NDArray[np.float32] = codec.decode(
            [each.vector for each in found], [each.crc32c for each in found], dim=snapshot.dim
        )
        table = ground.tables.table(version.map_id)
        chosen = ground.chosen
        most = max(chosen.map_neighbours, chosen.cluster_neighbours, chosen.outlier_neighbours)
        near, gaps = nearest(self._searcher, version.model_id, vectors, table, most)
        threads = self._settings.cores or os.cpu_count() or 1
        points = list(self._points(ground, table, found, near, gaps, threads))
        known = ground.tables.batches(version.map_id)
        batch = PlacedBatch(
            map_id=version.map_id,
            number=known[-1].number + 1 if known else 1,
            batch_id=uuid4(),
            first=table.rows - table.made,
            rows=len(points),
            read_to=read_to,
            placed_at=datetime.now(UTC),
        )
        self._store.append_placed(batch, points)
        return len(points)

    def _points(
        self,
        ground: _Ground,
        table: MapTable,
        features: Sequence[Feature],
        near: NDArray[np.int64],
        gaps: NDArray[np.float32],
        threads: int,
    ) -> Iterator[MapPoint]:
        chosen, seed, frame = ground.chosen, ground.version.seed, ground.frame
        ground.prepare(self._settings, self._store, table)
        few = slice(0, chosen.map_neighbours)
        laid = transform(
            near[:, few], gaps[:, few], frame.placed(table.placed), seed=seed,
            min_dist=chosen.map_min_dist, pushing=table.made, threads=threads,
        )  # fmt: skip
        few = slice(0, chosen.cluster_neighbours)
        space = transform(
            near[:, few], gaps[:, few], ground.space(), seed=seed, min_dist=0.0,
            pushing=table.made, threads=threads,
        )  # fmt: skip
        found = ground.assigned(space, threads)
        few = slice(0, chosen.outlier_neighbours)
        distance, score = ground.strange(near[:, few], gaps[:, few])
        shown = frame.shown(laid)
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


@dataclass(slots=True, eq=False)
class _Ground:
    """The live map as new images are placed on it. `read_to`: what the change log has before it."""

    version: MapVersion
    tables: Tables
    read_to: datetime
    seen: dict[UUID, datetime] = field(default_factory=dict)
    made: NDArray[np.float32] | None = None
    assigner: Assigner | None = None
    distances: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    late: list[NDArray[np.float32]] = field(default_factory=list)

    @property
    def chosen(self) -> Parameters:
        """What the map was made with."""
        return parameters(self.version)

    @property
    def frame(self) -> Frame:
        """The square of the layout that the map shows."""
        quality = self.version.quality
        if "frame_side" not in quality:
            return Frame(0.0, 0.0, _SIDE)
        return Frame(**{name: quality[f"frame_{name}"] for name in ("x", "y", "side")})

    def arrived(self, store: Store, until: datetime) -> Iterator[Change]:
        """New features that the log tells of, but for those that were taken in before."""
        for batch in self.tables.batches(self.version.map_id)[-1:]:
            self.read_to = max(self.read_to, batch.read_to)
        for change in store.changes(self.read_to - OVERLAP, until):
            new = change.kind == "feature_added" and change.change_id not in self.seen
            if new and change.image_id is not None:
                yield change

    def missing(self, changes: Sequence[Change]) -> list[tuple[str, UUID]]:
        """Listing and image of those that the map does not hold, in order."""
        named = {each.image_id: each.listing_id for each in changes if each.image_id is not None}
        if not named:
            return []
        table = self.tables.table(self.version.map_id)
        raw = np.frombuffer(b"".join(image.bytes for image in named), np.uint8).reshape(-1, 16)
        on_map = table.rows_of(raw) >= 0
        left = [pair for pair, held in zip(named.items(), on_map, strict=True) if not held]
        return sorted((listing_id, image_id) for image_id, listing_id in left)

    def took(self, changes: Sequence[Change], began: datetime) -> None:
        """Take note that all of these are placed, or need not be."""
        self.read_to = max(self.read_to, began)
        self.seen |= {each.change_id: each.at for each in changes}
        least = self.read_to - OVERLAP
        self.seen = {key: at for key, at in self.seen.items() if at >= least}

    def prepare(self, settings: Settings, store: Store, table: MapTable) -> None:
        """Read what placing needs: the space and the tree once, and the space of what came."""
        if self.made is None:
            grown = Grown.open(settings, store, self.version.map_id)
            at = places(grown.images, table.images[: table.made])
            self.assigner = Assigner(
                grown.space,
                grown.linkage,
                min_samples=grown.min_samples,
                min_cluster_size=self.chosen.min_cluster_size,
            )
            self.distances = np.sort(table.numbers("knn_distance")[: table.made])
            self.made = np.ascontiguousarray(grown.space[at])
        for batch in self.tables.batches(self.version.map_id)[len(self.late) :]:
            points = sorted(store.placed_points(batch), key=lambda point: point.image_id.bytes)
            raw = np.frombuffer(b"".join(point.space for point in points), "<f4")
            self.late.append(raw.reshape(len(points), -1))

    def space(self) -> NDArray[np.float32]:
        """The space of the clusters in the order of the table's rows, float32 (N, E)."""
        assert self.made is not None
        return np.concatenate([self.made, *self.late]).astype(np.float32, copy=False)

    def assigned(self, space: NDArray[np.float32], threads: int) -> Clusters:
        """Clusters of new rows of the space."""
        assert self.assigner is not None
        return self.assigner.assign(space, threads=threads)

    def strange(
        self, near: NDArray[np.int64], gaps: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean distance to the neighbours, and its percentile among those of the map's images.

        That alone is the score: what else counts for the ranking of a map is not known of them.
        """
        held = near >= 0
        sums = np.where(held, gaps, 0).sum(axis=1, dtype=np.float64)
        distance = sums / np.maximum(1, held.sum(axis=1))
        count = max(1, len(self.distances))
        below = np.searchsorted(self.distances, distance.astype(np.float32), side="right")
        return distance, np.clip(below / count, 1 / count, 1.0)


def nearest(
    searcher: Searcher, model_id: str, vectors: NDArray[np.float32], table: MapTable, most: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The `most` images on the map nearest to float32 (M, D): rows int64 (M, most), distances.

    Exact over the rows of the hosts; ascending, -1 and infinity where there are no more. More are
    asked for where the nearest ones are not on the map, up to all; beyond 1,024 one is enough.
    """
    rows = np.full((len(vectors), most), -1, np.int64)
    gaps = np.full((len(vectors), most), np.inf, np.float32)
    left, k = np.arange(len(vectors)), most + _SPARE
    while len(left):
        held, width = np.zeros(len(left), np.int64), max(1, _ANSWERS // k)
        total = 0
        for start in range(0, len(left), width):
            part = left[start : start + width]
            snapshot = searcher.snapshot(model_id)
            total = snapshot.rows
            if not total:
                return rows, gaps
            found = searcher.neighbours(vectors[part], min(k, total), snapshot=snapshot)
            at = table.rows_of(found.images.reshape(-1, 16)).reshape(found.scores.shape)
            order = np.argsort(at < 0, axis=1, kind="stable")[:, :most]
            at = np.take_along_axis(at, order, 1)
            score = np.take_along_axis(found.scores, order, 1).astype(np.float64)
            gap = np.sqrt(np.maximum(0.0, 2.0 - 2.0 * score)).astype(np.float32)
            rows[part, : at.shape[1]] = at
            gaps[part, : at.shape[1]] = np.where(at >= 0, gap, np.inf)
            held[start : start + width] = (at >= 0).sum(axis=1)
        need = most if k < _WIDEST else 1
        left = left[held < need] if k < total else left[:0]
        k *= 8
    return rows, gaps


def _begin(store: Store, version: MapVersion) -> datetime:
    """Up to when the map has what the change log tells of."""
    if version.watermark is not None:
        return version.watermark
    with contextlib.suppress(NotFoundError):
        return store.snapshot(version.snapshot_id).watermark
    return version.created_at - UNKNOWN
