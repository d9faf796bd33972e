"""Images that came after the map was made: found in the change log, placed on the live map.

Nothing that is on the map moves, and no cluster changes. The next analysis has such images as it
has all others.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray

from analytics.identity import packed
from analytics.maps.appended import Tables
from analytics.neighbours import distances
from analytics.search import Searcher
from analytics.tiles import MapTable
from cql import codec
from cql.errors import ConflictError, IntegrityError, NotFoundError, UnavailableError
from cql.progress import Progress, silent
from cql.records import Change, Feature, MapVersion, PlacedBatch
from cql.settings import Settings
from cql.store import Store

if TYPE_CHECKING:
    from analytics.making.ground import Ground

log = logging.getLogger(__name__)

OVERLAP = timedelta(minutes=2)
"""How far back the change log is read again: clocks differ, and a write takes a moment."""

UNKNOWN = timedelta(days=1)
"""How much older than a map its snapshot's watermark may be, where nobody knows it any more."""

BLOCK = 1_000
"""Images placed at a time: those of later blocks find those of earlier ones on the map."""

_SPARE = 16
_WIDEST = 1_024
_ANSWERS, _PAIRS = 200_000, 200_000_000
"""Neighbours asked for at once, in all, and pairs of vectors that hosts compare for it."""


class Latecomers:
    """Places what came on the live map; keeps what it needs of one map. Thread-safe."""

    def __init__(self, settings: Settings, store: Store, searcher: Searcher) -> None:
        self._settings, self._store, self._searcher = settings, store, searcher
        self._lock = threading.Lock()
        self._watch: _Watch | None = None

    def place(self, *, progress: Progress = silent) -> int:
        """Place every image that has a feature of the live map's model and is not on it.

        Returns how many were. Each block of them is seen whole or not at all, so that whoever was
        interrupted goes on behind the last one. The step that `progress` hears of is called place.

        Raises:
            UnavailableError: hosts do not answer.
            NotFoundError: no snapshot of the map's model is live, or the map holds no space of its
                clusters.
        """
        while not self._lock.acquire(timeout=1.0):
            progress("place", 0, 0, "waiting")
        try:
            live = self._store.live("map")
            if live is None:
                return 0
            if self._watch is None or self._watch.version.map_id != live:
                try:
                    version = self._store.map(live)
                except NotFoundError:
                    return 0  # between two maps the pointer may name one that was just deleted
                tables = Tables(self._settings, self._store, most=1)
                self._watch = _Watch(version, tables, _begin(self._store, version))
            return self._place(self._watch, progress)
        finally:
            self._lock.release()

    def _place(self, watch: _Watch, progress: Progress) -> int:
        if watch.bare:
            return 0
        began = datetime.now(UTC)
        changes = list(watch.arrived(self._store, began + OVERLAP))
        wanted = watch.missing(changes)
        done = 0
        if wanted:
            progress("place", 0, len(wanted))
        for start in range(0, len(wanted), BLOCK):
            if start and self._store.live("map") != watch.version.map_id:
                return done  # the map that is live now has them, or gets them next
            block = wanted[start : start + BLOCK]
            last = start + BLOCK >= len(wanted)
            read_to = began if last else watch.read_to
            try:
                done += self._block(watch, block, read_to)
            except ConflictError as error:
                log.info("images are placed by another engine: %s", error)
                return done
            progress("place", start + len(block), len(wanted))
        watch.took(changes, began)
        return done

    def _block(self, watch: _Watch, wanted: Sequence[tuple[str, UUID]], read_to: datetime) -> int:
        from analytics.making.ground import Ground

        version = watch.version
        keys = [(listing_id, version.model_id, image_id) for listing_id, image_id in wanted]
        found = [each for each in self._store.features_at(keys) if each is not None]
        if not found:
            return 0  # they were deleted since, or have features of other models
        snapshot = self._searcher.snapshot(version.model_id)
        found = [each for each in found if each.dim == snapshot.dim]
        found, vectors = _decoded(found, snapshot.dim)
        if not found:
            return 0
        if watch.ground is None:
            try:
                watch.ground = Ground(self._settings, self._store, version, watch.tables)
            except NotFoundError:
                watch.bare = True
                raise
        table = watch.tables.table(version.map_id)
        near, gaps = nearest(
            self._searcher, version.model_id, vectors, table, watch.ground.neighbours
        )
        if (near[:, 0] < 0).any():
            raise UnavailableError(
                "hosts must hold images of the map to say what is near a new one, they hold none: "
                "analyse again if this lasts"
            )
        points = list(watch.ground.points(table, found, near, gaps))
        known = watch.tables.batches(version.map_id)
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


@dataclass(slots=True, eq=False)
class _Watch:
    """The live map, and what of the change log it has: all before `read_to`, and what was `seen`.

    The ground is laid when there is an image to place: an engine that waits reads no map. `bare`:
    it cannot be laid, the map was made before spaces were stored.
    """

    version: MapVersion
    tables: Tables
    read_to: datetime
    seen: dict[UUID, datetime] = field(default_factory=dict)
    ground: Ground | None = None
    bare: bool = False

    def arrived(self, store: Store, until: datetime) -> Iterator[Change]:
        """New features that the log tells of, but for those that were taken in before."""
        self.tables.late(self.version.map_id)
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
        on_map = table.rows_of(packed(named)) >= 0
        left = [pair for pair, held in zip(named.items(), on_map, strict=True) if not held]
        return sorted((listing_id, image_id) for image_id, listing_id in left)

    def took(self, changes: Sequence[Change], began: datetime) -> None:
        """Take note that all of these are placed, or need not be."""
        self.read_to = max(self.read_to, began)
        self.seen |= {each.change_id: each.at for each in changes}
        least = self.read_to - OVERLAP
        self.seen = {key: at for key, at in self.seen.items() if at >= least}


def _decoded(features: Sequence[Feature], dim: int) -> tuple[list[Feature], NDArray[np.float32]]:
    """Features with their vectors (M, dim); one that is damaged is left out, and said."""
    found, vectors = [], []
    for each in features:
        try:
            vectors.append(codec.decode([each.vector], [each.crc32c], dim=dim))
            found.append(each)
        except IntegrityError as error:
            log.warning("image %s is not placed on the map: %s", each.image_id, error)
    return found, np.concatenate(vectors) if vectors else np.empty((0, dim), np.float32)


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
    total = searcher.snapshot(model_id).rows
    while len(left) and total:
        held = np.zeros(len(left), np.int64)
        width = max(1, min(_ANSWERS // k, _PAIRS // total))
        for start in range(0, len(left), width):
            part = left[start : start + width]
            snapshot = searcher.snapshot(model_id)
            total = snapshot.rows
            if not total:
                break
            found = searcher.neighbours(vectors[part], min(k, total), snapshot=snapshot)
            at = table.rows_of(found.images.reshape(-1, 16)).reshape(len(part), -1)
            order = np.argsort(at < 0, axis=1, kind="stable")[:, :most]
            at = np.take_along_axis(at, order, 1)
            gap = distances(np.take_along_axis(found.scores, order, 1))
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
