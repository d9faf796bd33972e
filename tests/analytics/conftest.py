"""An in-memory store and shard hosts in this process: no services are needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4, uuid5

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics import shards
from analytics.host import Host
from cql import codec
from cql.errors import ConflictError, NotFoundError
from cql.progress import CancelledError
from cql.records import (
    NAMESPACE,
    Change,
    Cluster,
    DuplicateGroup,
    DuplicateMember,
    DuplicateRun,
    Feature,
    Hit,
    Image,
    Job,
    Listing,
    MapPoint,
    MapVersion,
    Measures,
    Outlier,
    Query,
    Service,
    Shard,
    Snapshot,
    Stock,
)
from cql.settings import Settings

MODEL = "toy@1"


class Memory:
    """What analytics asks of the store, held in dictionaries."""

    def __init__(self) -> None:
        self.pointers: dict[str, UUID] = {}
        self.snapshots: dict[UUID, tuple[Snapshot, list[Shard]]] = {}
        self.registered: dict[tuple[str, UUID], Service] = {}
        self.titles: dict[str, Listing] = {}
        self.features: dict[str, list[Feature]] = {}
        self.published: dict[tuple[UUID, UUID], list[Hit]] = {}
        self.asked: dict[UUID, Query] = {}
        self.map_rows: dict[UUID, MapVersion] = {}
        self.map_points: dict[UUID, list[MapPoint]] = {}
        self.map_clusters: dict[UUID, list[Cluster]] = {}
        self.odd: dict[UUID, list[Outlier]] = {}
        self.looks: dict[UUID, Measures] = {}
        self.runs: dict[UUID, DuplicateRun] = {}
        self.doubles: dict[UUID, tuple[list[DuplicateGroup], list[DuplicateMember]]] = {}
        self.work: dict[UUID, Job] = {}
        self.log: list[Change] = []
        self.levels: dict[str, int] = {}
        self.lock = threading.Lock()

    def changes(self, since: datetime, until: datetime) -> Iterator[Change]:
        return iter([each for each in list(self.log) if since <= each.at < until])

    def note(self, kind: str, listing_id: str) -> None:
        """Log a change."""
        self.log.append(
            Change(at=datetime.now(UTC), change_id=uuid4(), kind=kind, listing_id=listing_id)
        )

    def stock(self, listing_ids: Iterable[str]) -> dict[str, Stock]:
        return {
            name: Stock(listing_id=name, inventory=self.levels[name], etag="")
            for name in listing_ids
            if name in self.levels
        }

    def iter_stock(self) -> Iterator[Stock]:
        return iter(list(self.stock(self.levels).values()))

    def query(self, query_id: UUID) -> Query:
        if query_id not in self.asked:
            raise NotFoundError(str(query_id))
        return self.asked[query_id]

    def listing_of(self, image_id: UUID) -> str:
        return self.image(image_id).listing_id

    def live(self, name: str) -> UUID | None:
        return self.pointers.get(name)

    def set_live(self, name: str, version: UUID, *, expected: UUID | None) -> None:
        with self.lock:
            if self.pointers.get(name) != expected:
                raise ConflictError("moved")
            self.pointers[name] = version

    def put_snapshot(self, snapshot: Snapshot, own: Iterable[Shard]) -> None:
        self.snapshots[snapshot.snapshot_id] = (snapshot, list(own))

    def snapshot(self, snapshot_id: UUID) -> Snapshot:
        if snapshot_id not in self.snapshots:
            raise NotFoundError(str(snapshot_id))
        return self.snapshots[snapshot_id][0]

    def shards(self, snapshot_id: UUID) -> list[Shard]:
        return self.snapshots[snapshot_id][1]

    def heartbeat(self, service: Service, ttl_s: int) -> None:
        self.registered[service.role, service.service_id] = replace(
            service, seen_at=datetime.now(UTC)
        )

    def withdraw(self, role: str, service_id: UUID) -> None:
        self.registered.pop((role, service_id), None)

    def services(self, role: str) -> list[Service]:
        return [service for (own, _), service in list(self.registered.items()) if own == role]

    def listing(self, listing_id: str) -> Listing:
        if listing_id not in self.titles:
            raise NotFoundError(listing_id)
        return self.titles[listing_id]

    def listings(self, listing_ids: Iterable[str]) -> dict[str, Listing]:
        return {name: self.titles[name] for name in listing_ids if name in self.titles}

    def iter_listings(self) -> Iterator[Listing]:
        return iter(list(self.titles.values()))

    def image(self, image_id: UUID) -> Image:
        for listing_id, features in self.features.items():
            if any(feature.image_id == image_id for feature in features):
                return Image(
                    listing_id=listing_id,
                    image_id=image_id,
                    uri="",
                    content_hash="",
                    width=1,
                    height=1,
                    format="",
                    bytes=1,
                )
        raise NotFoundError(str(image_id))

    def features_of(self, listing_id: str, model_id: str) -> list[Feature]:
        return [f for f in self.features.get(listing_id, []) if f.model_id == model_id]

    def publish(self, query: Query, attempt: UUID, hits: Iterable[Hit]) -> Query:
        self.published[query.query_id, attempt] = sorted(
            hits, key=lambda hit: (-hit.score, hit.listing_id)
        )
        stored = replace(
            query,
            state="done",
            attempt=attempt,
            hits=len(self.published[query.query_id, attempt]),
        )
        self.asked[query.query_id] = stored
        return stored

    def hits(
        self, query_id: UUID, attempt: UUID, *, limit: int, after: Hit | None = None
    ) -> list[Hit]:
        rows = self.published[query_id, attempt]
        start = rows.index(after) + 1 if after else 0
        return rows[start : start + limit]

    def put_map(self, version: MapVersion) -> None:
        self.map_rows[version.map_id] = version

    def map(self, map_id: UUID) -> MapVersion:
        if map_id not in self.map_rows:
            raise NotFoundError(str(map_id))
        return self.map_rows[map_id]

    def maps(self) -> list[MapVersion]:
        return list(self.map_rows.values())

    def delete_map(self, map_id: UUID) -> None:
        self.map_rows.pop(map_id)

    def put_points(self, map_id: UUID, points: Iterable[MapPoint]) -> int:
        self.map_points[map_id] = list(points)
        return len(self.map_points[map_id])

    def points(self, map_id: UUID, rows: int) -> Iterator[MapPoint]:
        return iter(sorted(self.map_points[map_id], key=lambda point: point.image_id))

    def put_clusters(self, clusters: Iterable[Cluster]) -> int:
        for cluster in clusters:
            self.map_clusters.setdefault(cluster.map_id, []).append(cluster)
        return 0

    def clusters(self, map_id: UUID) -> list[Cluster]:
        return self.map_clusters.get(map_id, [])

    def put_outliers(self, map_id: UUID, outliers: Iterable[Outlier]) -> int:
        self.odd[map_id] = sorted(outliers, key=lambda each: (-each.score, each.image_id))
        return len(self.odd[map_id])

    def put_measures(self, measures: Iterable[Measures]) -> int:
        found = {each.image_id: each for each in measures}
        self.looks |= found
        return len(found)

    def iter_measures(self) -> Iterator[Measures]:
        return iter(list(self.looks.values()))

    def measured(self) -> set[UUID]:
        return set(self.looks)

    def put_duplicates(
        self,
        run: DuplicateRun,
        groups: Iterable[DuplicateGroup],
        members: Iterable[DuplicateMember],
    ) -> int:
        self.doubles[run.map_id] = (list(groups), list(members))
        self.runs[run.map_id] = run
        return run.groups

    def duplicate_run(self, map_id: UUID) -> DuplicateRun | None:
        return self.runs.get(map_id)

    def duplicate_groups(self, map_id: UUID) -> list[DuplicateGroup]:
        return self.doubles.get(map_id, ([], []))[0]

    def iter_duplicate_members(self, map_id: UUID) -> Iterator[DuplicateMember]:
        return iter(self.doubles.get(map_id, ([], []))[1])

    def put_job(self, job: Job) -> Job:
        self.work[job.job_id] = job
        return job

    def job(self, job_id: UUID) -> Job:
        return self.work[job_id]

    def jobs(self, limit: int = 50, *, days: int = 400) -> list[Job]:
        return list(self.work.values())[:limit]

    def claim_job(self, job_id: UUID, owner: UUID, *, stale_s: float | None = None) -> bool:
        with self.lock:
            job, now = self.work[job_id], datetime.now(UTC)
            silent = stale_s is not None and (
                job.heartbeat_at is None or now - job.heartbeat_at > timedelta(seconds=stale_s)
            )
            if job.state != "queued" and not (job.state == "running" and silent):
                return False
            self.work[job_id] = replace(
                job, state="running", owner=owner, started_at=now, heartbeat_at=now
            )
            return True

    def update_job(self, job_id: UUID, owner: UUID, **progress: Any) -> None:
        with self.lock:
            self._own(job_id, owner)
            self.work[job_id] = replace(
                self.work[job_id], heartbeat_at=datetime.now(UTC), **progress
            )

    def finish_job(self, job_id: UUID, owner: UUID, state: str, error: str = "") -> None:
        with self.lock:
            self._own(job_id, owner)
            self.work[job_id] = replace(self.work[job_id], state=state, error=error)

    def cancel_job(self, job_id: UUID) -> bool:
        with self.lock:
            self.work[job_id] = replace(self.work[job_id], state="cancelled")
            return True

    def _own(self, job_id: UUID, owner: UUID) -> None:
        job = self.work[job_id]
        if job.state == "cancelled":
            raise CancelledError("cancelled")
        if job.owner != owner or job.state != "running":
            raise ConflictError("not yours")


class World:
    """A collection in memory with its shard files and running hosts."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        changes.setdefault("query_deadline_s", 2.0)
        self.settings = Settings(data_dir=folder, **changes)
        self.store = Memory()
        self.hosts: list[tuple[Host, threading.Event, threading.Thread]] = []
        self.vectors = np.empty((0, 4), np.float32)
        self.owners: list[str] = []
        self.images: list[UUID] = []

    def fill(
        self, vectors: NDArray[np.float32], owners: Sequence[str], *, cuts: int = 1
    ) -> Snapshot:
        """Write features and a snapshot of about `cuts` shards of whole listings."""
        self.vectors, self.owners = vectors, list(owners)
        self.images = [uuid5(NAMESPACE, f"{row}-{own}") for row, own in enumerate(owners)]
        blobs, crcs = codec.encode(vectors) if len(vectors) else ([], [])
        for row, own in enumerate(owners):
            self.store.titles.setdefault(own, Listing(listing_id=own, title=f"Listing {own}"))
            self.store.features.setdefault(own, []).append(
                Feature(
                    listing_id=own,
                    model_id=MODEL,
                    image_id=self.images[row],
                    vector=blobs[row],
                    dim=vectors.shape[1],
                    crc32c=crcs[row],
                )
            )
        return self.cut(cuts)

    def cut(self, cuts: int) -> Snapshot:
        """Write a new snapshot of the same data in another division."""
        snapshot_id = uuid4()
        names = sorted(set(self.owners))
        made = []
        for number, group in enumerate(g for g in np.array_split(names, cuts) if len(g)):
            rows = [n for n, own in enumerate(self.owners) if own in set(group.tolist())]
            ids = b"".join(self.images[n].bytes for n in rows)
            done = shards.write(
                shards.folder(self.settings, snapshot_id),
                f"{number:05d}",
                np.array([self.owners[n] for n in rows], object),
                np.frombuffer(ids, np.uint8).reshape(-1, 16),
                self.vectors[rows],
            )
            made.append(Shard(snapshot_id=snapshot_id, shard=number, **done))
        snapshot = Snapshot(
            snapshot_id=snapshot_id,
            model_id=MODEL,
            rows=len(self.owners),
            listings=len(names),
            dim=self.vectors.shape[1],
            shards=len(made),
            watermark=datetime.now(UTC),
            created_at=datetime.now(UTC),
            code_version="test",
            fingerprint=f"{self.vectors.tobytes().hex()[:64]}{len(self.owners)}",
        )
        self.store.put_snapshot(snapshot, made)
        self.store.pointers["snapshot"] = snapshot_id
        return snapshot

    def host(self, count: int = 1) -> None:
        """Start hosts; they follow the live pointer."""
        for index in range(count):
            host = Host(self.settings, self.store, index=index, count=count, threads=2)
            stop = threading.Event()
            host.refresh()
            thread = threading.Thread(target=host.run, args=(stop,), kwargs={"poll_s": 0.05})
            thread.start()
            self.hosts.append((host, stop, thread))

    def held(self) -> Host:
        """A host that has loaded the live snapshot and follows nothing; the caller closes it."""
        host = Host(self.settings, self.store, threads=2)
        host.refresh()
        return host

    def close(self) -> None:
        for host, stop, thread in self.hosts:
            stop.set()
            thread.join()
            host.close()
        self.hosts = []


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Make collections; their hosts stop with the test."""
    made: list[World] = []

    def make(**changes: Any) -> World:
        made.append(World(tmp_path / f"world{len(made)}", **changes))
        return made[-1]

    yield make
    for one in made:
        one.close()
