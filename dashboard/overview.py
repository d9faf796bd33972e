"""The state of the whole collection: counts, freshness, jobs, readiness."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from analytics.search import Searcher
from cql.collection import Source
from cql.errors import NotFoundError, SightlineError
from cql.records import Job
from cql.store import Store
from dashboard import present
from dashboard.atlas import Atlas
from dashboard.views import Check, CollectionView, HealthView, SnapshotView

RECENT_DAYS = 2
"""Jobs of these days are read at every look."""

HISTORY_S = 30.0
"""Older jobs are read again after this time: that is one read a day of history."""

LOOK_BACK = timedelta(hours=24)
"""Changes that one ingest made are at most this much older than its end."""

PHOTO_CHANGES = frozenset({"image_added", "image_deleted"})


class Overview:
    """Thread-safe; keeps nothing but the history of jobs and whether a snapshot is outdated."""

    def __init__(
        self,
        store: Store,
        searcher: Searcher,
        atlas: Atlas,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._searcher = searcher
        self._atlas = atlas
        self._clock = clock
        self._lock = threading.Lock()
        self._history: tuple[float, int, list[Job]] = (-HISTORY_S, 0, [])
        self._outdated: dict[tuple[UUID, datetime], bool] = {}

    def collection(self) -> CollectionView:
        """How far the collection is, over all of it."""
        sources = list(self._store.sources())
        snapshot = self._snapshot()
        live = self._atlas.live_id()
        version = None
        if live:
            version = present.map_view(
                self._atlas.version(live), live=True, placed=self._atlas.late(live)
            )
        model_id = version.model_id if version else snapshot.model_id if snapshot else None
        model = self._store.model(model_id) if model_id else None
        ready = sum(source.ready for source in sources)
        recent = self._store.jobs(50, days=RECENT_DAYS)
        running = sum(job.state in {"queued", "running"} for job in recent)
        outdated = snapshot is not None and self._is_outdated(snapshot, sources)
        state = "stale" if outdated else "ready"
        if version is None:
            state = "working" if ready or running or snapshot else "empty"
        return CollectionView(
            state=state,
            files_ready=ready,
            files_failed=sum(source.failed for source in sources),
            sources=tuple(source.source for source in sources),
            model=present.model_view(model) if model else None,
            snapshot=snapshot,
            map=version,
            pending=max(0, ready - snapshot.rows) if outdated and snapshot else 0,
            running_jobs=running,
        )

    def jobs(self, limit: int) -> list[Job]:
        """Jobs, newest first; those of earlier days are at most 30 s old."""
        recent = self._store.jobs(limit, days=RECENT_DAYS)
        if len(recent) >= limit:
            return recent
        with self._lock:
            read_at, size, older = self._history
        if self._clock() - read_at >= HISTORY_S or size < limit:
            older = self._store.jobs(limit)
            with self._lock:
                self._history = (self._clock(), limit, older)
        known = {job.job_id for job in recent}
        return [*recent, *(job for job in older if job.job_id not in known)][:limit]

    def health(self) -> HealthView:
        """Whether searching works right now, and what is missing."""
        try:
            live = self._store.live("snapshot")
        except SightlineError as error:
            down = present.check("cassandra", str(error), "start Cassandra")
            return HealthView(ready=False, checks=(down,))
        checks = (
            present.check("cassandra", "", "", good="answers CQL"),
            self._loaded(live),
            self._engine(),
        )
        return HealthView(ready=all(c.ok for c in checks if c.required), checks=checks)

    def _loaded(self, live: UUID | None) -> Check:
        try:
            loaded = live is not None and self._searcher.ready()
        except SightlineError:
            loaded = False
        trouble = "no snapshot is live" if live is None else "hosts do not hold every shard"
        return present.check(
            "snapshot",
            "" if loaded else trouble,
            "start an engine; it builds and serves the snapshot",
            good=f"snapshot {live} is loaded",
        )

    def _engine(self) -> Check:
        engines = self._store.services("engine")
        return present.check(
            "engine",
            "" if engines else "no engine is alive",
            "start `python -m dashboard.engine` for jobs and upload search",
            good=f"{len(engines)} alive",
            required=False,
        )

    def _snapshot(self) -> SnapshotView | None:
        live = self._store.live("snapshot")
        if live is None:
            return None
        hosts = [host for host in self._store.services("host") if host.snapshot_id == live]
        # Between two snapshots the pointer may name one that was pruned a moment ago.
        with contextlib.suppress(NotFoundError):
            return present.snapshot_view(self._store.snapshot(live), len(hosts))
        return None

    def _is_outdated(self, snapshot: SnapshotView, sources: list[Source]) -> bool:
        """Whether an ingest that ended after the watermark changed any photo since then."""
        ended = max(
            (source.finished_at for source in sources if source.finished_at is not None),
            default=snapshot.watermark,
        )
        if ended <= snapshot.watermark:
            return False
        key = (snapshot.snapshot_id, ended)
        if key not in self._outdated:
            since = max(snapshot.watermark, ended - LOOK_BACK)
            changes = self._store.changes(since, datetime.now(UTC))
            self._outdated = {key: any(change.kind in PHOTO_CHANGES for change in changes)}
        return self._outdated[key]
