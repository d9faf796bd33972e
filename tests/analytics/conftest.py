"""An in-memory store and shard hosts in this process: no services are needed."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4, uuid5

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics import shards
from analytics.hosting import shelf
from analytics.hosting.host import Host, warm
from cql import codec
from cql.errors import ConflictError, NotFoundError
from cql.progress import CancelledError
from cql.records import (
    NAMESPACE,
    Change,
    Cluster,
    ClusterChange,
    Comparison,
    DuplicateGroup,
    DuplicateMember,
    DuplicateRun,
    Feature,
    Group,
    Hit,
    Image,
    Job,
    Listing,
    MapPoint,
    MapVersion,
    Measures,
    Model,
    NewOutlier,
    Outlier,
    Patches,
    Query,
    Service,
    Shard,
    Snapshot,
    Stock,
)
from cql.results import OutlierPage
from cql.settings import Settings
from cql.vectors import PATCH_SHAPE
from tests.ledger import MemoryLedger
from tests.placed import MemoryPlaced
from tests.predicted import MemoryPredicted

MODEL = "toy@1"


class Memory(MemoryPlaced, MemoryPredicted, MemoryLedger):
    """What analytics asks of the store, held in dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.pointers: dict[str, UUID] = {}
        self.cut: dict[UUID, tuple[Snapshot, list[Shard]]] = {}
        self.registered: dict[tuple[str, UUID], Service] = {}
        self.titles: dict[str, Listing] = {}
        self.features: dict[str, list[Feature]] = {}
        self.published: dict[tuple[UUID, UUID], list[Hit]] = {}
        self.asked: dict[UUID, Query] = {}
        self.map_rows: dict[UUID, MapVersion] = {}
        self.map_points: dict[UUID, list[MapPoint]] = {}
        self.map_clusters: dict[UUID, list[Cluster]] = {}
        self.map_groups: dict[UUID, list[Group]] = {}
        self.odd: dict[UUID, list[Outlier]] = {}
        self.mean_rows: dict[UUID, dict[int, bytes]] = {}
        self.compared: dict[
            tuple[UUID, UUID], tuple[Comparison, list[ClusterChange], list[NewOutlier]]
        ] = {}
        self.looks: dict[UUID, Measures] = {}
        self.parts: dict[UUID, Patches] = {}
        self.runs: dict[UUID, DuplicateRun] = {}
        self.doubles: dict[UUID, tuple[list[DuplicateGroup], list[DuplicateMember]]] = {}
        self.work: dict[UUID, Job] = {}
        self.log: list[Change] = []
        self.levels: dict[str, int] = {}
        self.lock = threading.Lock()

    def changes(self, since: datetime, until: datetime) -> Iterator[Change]:
        return iter([each for each in list(self.log) if since <= each.at < until])

    def features_at(self, keys: Iterable[tuple[str, str, UUID]]) -> list[Feature | None]:
        return [
            next(
                (
                    each for each in self.features.get(listing_id, [])
                    if each.image_id == image_id and each.model_id == model_id
                ),
                None,
            )
            for listing_id, model_id, image_id in keys
        ]  # fmt: skip

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

    def live_versions(self) -> dict[str, UUID]:
        return dict(self.pointers)

    def drop_live(self, name: str, *, expected: UUID) -> None:
        with self.lock:
            if self.pointers.get(name) != expected:
                raise ConflictError("moved")
            del self.pointers[name]

    def set_live(self, name: str, version: UUID, *, expected: UUID | None) -> None:
        with self.lock:
            if self.pointers.get(name) != expected:
                raise ConflictError("moved")
            self.pointers[name] = version

    def put_snapshot(self, snapshot: Snapshot, own: Iterable[Shard]) -> None:
        self.cut[snapshot.snapshot_id] = (snapshot, list(own))

    def snapshot(self, snapshot_id: UUID) -> Snapshot:
        if snapshot_id not in self.cut:
            raise NotFoundError(str(snapshot_id))
        return self.cut[snapshot_id][0]

    def shards(self, snapshot_id: UUID) -> list[Shard]:
        return self.cut[snapshot_id][1] if snapshot_id in self.cut else []

    def snapshots(self) -> list[Snapshot]:
        return sorted((own for own, _ in self.cut.values()), key=lambda own: own.created_at)

    def delete_snapshot(self, snapshot_id: UUID) -> None:
        self.cut.pop(snapshot_id, None)

    def model(self, model_id: str) -> Model:
        return Model(
            model_id=model_id,
            name=model_id.partition("@")[0],
            architecture="",
            weights_sha256="",
            transform="",
            dim=0,
        )

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

    def titles_of(self, listing_ids: Iterable[str]) -> dict[str, str]:
        return {key: listing.title for key, listing in self.listings(listing_ids).items()}

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

    def publish_and_read(
        self, query: Query, attempt: UUID, hits: Iterable[Hit], *, limit: int
    ) -> tuple[Query, list[Hit]]:
        done = self.publish(query, attempt, hits)
        return done, self.hits(query.query_id, attempt, limit=limit)

    def hits(
        self, query_id: UUID, attempt: UUID, *, limit: int, after: Hit | None = None
    ) -> list[Hit]:
        rows = self.published[query_id, attempt]
        start = rows.index(after) + 1 if after else 0
        return rows[start : start + limit]

    def hits_of(self, query: Query, *, limit: int) -> list[Hit]:
        attempt = query.attempt
        return [] if attempt is None else self.hits(query.query_id, attempt, limit=limit)

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
            held = self.map_clusters.setdefault(cluster.map_id, [])
            held[:] = [each for each in held if each.cluster != cluster.cluster]
            held.append(cluster)
        return 0

    def put_groups(self, groups: Iterable[Group]) -> int:
        for group in groups:
            held = self.map_groups.setdefault(group.map_id, [])
            own = (group.level, group.number)
            held[:] = [each for each in held if (each.level, each.number) != own]
            held.append(group)
        return 0

    def groups(self, map_id: UUID) -> list[Group]:
        return self.map_groups.get(map_id, [])

    def clusters(self, map_id: UUID) -> list[Cluster]:
        return self.map_clusters.get(map_id, [])

    def put_outliers(
        self, map_id: UUID, outliers: Iterable[Outlier], *, ranked: int | None = None
    ) -> int:
        given = list(outliers)
        self.odd[map_id] = sorted(given, key=lambda each: (-np.float32(each.score), each.image_id))
        assert ranked in {None, len(given)}
        assert ranked is None or given == self.odd[map_id]
        return len(self.odd[map_id])

    def outliers(self, map_id: UUID, *, limit: int, page_state: str | None = None) -> OutlierPage:
        start = int(page_state or 0)
        rows = self.odd[map_id]
        end = start + limit
        return OutlierPage(
            rows=tuple(rows[start:end]), next_page=str(end) if end < len(rows) else None
        )

    def put_means(self, map_id: UUID, means: Mapping[int, bytes]) -> None:
        self.mean_rows[map_id] = dict(means)

    def means(self, map_id: UUID) -> dict[int, bytes]:
        return self.mean_rows.get(map_id, {})

    def put_comparison(
        self,
        comparison: Comparison,
        clusters: Iterable[ClusterChange],
        outliers: Iterable[NewOutlier],
    ) -> None:
        key = comparison.map_id, comparison.previous
        self.compared[key] = (comparison, list(clusters), list(outliers))

    def comparisons(self, map_id: UUID) -> list[Comparison]:
        return [each[0] for (own, _), each in self.compared.items() if own == map_id]

    def cluster_changes(self, map_id: UUID, previous: UUID) -> list[ClusterChange]:
        return self.compared[map_id, previous][1]

    def new_outliers(self, map_id: UUID, previous: UUID, *, limit: int) -> list[NewOutlier]:
        return self.compared[map_id, previous][2][:limit]

    def delete_comparisons(self, map_id: UUID) -> None:
        self.mean_rows.pop(map_id, None)
        self.compared = {key: each for key, each in self.compared.items() if key[0] != map_id}

    def put_measures(self, measures: Iterable[Measures]) -> int:
        found = {each.image_id: each for each in measures}
        self.looks |= found
        return len(found)

    def iter_measures(self) -> Iterator[Measures]:
        return iter(list(self.looks.values()))

    def measured(self) -> set[UUID]:
        return set(self.looks)

    def put_patches(self, patches: Iterable[Patches]) -> int:
        found = {each.image_id: each for each in patches}
        self.parts |= found
        return len(found)

    def iter_patches(self, model_id: str) -> Iterator[Patches]:
        return iter([each for each in self.parts.values() if each.model_id == model_id])

    def patched(self, model_id: str, shape: tuple[int, int] = PATCH_SHAPE) -> int:
        return sum((each.side, each.dim) == shape for each in self.iter_patches(model_id))

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
        oldest = datetime.now(UTC).date() - timedelta(days=days - 1)
        found = [
            job
            for job in self.work.values()
            if (job.created_at or datetime.now(UTC)).date() >= oldest
        ]
        return found[:limit]

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
        changes.setdefault("query_deadline_s", 10.0)
        self.settings = Settings(data_dir=folder, **changes)
        self.store = Memory()
        self.hosts: list[tuple[Host, threading.Event, threading.Thread]] = []
        self.model = MODEL
        self.vectors = np.empty((0, 4), np.float32)
        self.owners: list[str] = []
        self.images: list[UUID] = []

    def fill(
        self,
        vectors: NDArray[np.float32],
        owners: Sequence[str],
        *,
        cuts: int = 1,
        model: str = MODEL,
    ) -> Snapshot:
        """Write features and a snapshot of about `cuts` shards of whole listings."""
        self.model = model
        self.vectors, self.owners = vectors, list(owners)
        self.images = [uuid5(NAMESPACE, f"{row}-{own}") for row, own in enumerate(owners)]
        blobs, crcs = codec.encode(vectors) if len(vectors) else ([], [])
        for row, own in enumerate(owners):
            self.store.titles.setdefault(own, Listing(listing_id=own, title=f"Listing {own}"))
            self.store.features.setdefault(own, []).append(
                Feature(
                    listing_id=own,
                    model_id=model,
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
            held = set(group.tolist())
            rows = [n for n, own in enumerate(self.owners) if own in held]
            ids = b"".join(self.images[n].bytes for n in rows)
            done = shards.write(
                shelf.folder(self.settings, snapshot_id),
                f"{number:05d}",
                np.array([self.owners[n] for n in rows], object),
                np.frombuffer(ids, np.uint8).reshape(-1, 16),
                self.vectors[rows],
            )
            made.append(Shard(snapshot_id=snapshot_id, shard=number, **done))
        snapshot = Snapshot(
            snapshot_id=snapshot_id,
            model_id=self.model,
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
        # That of the default model stands as an older Sightline has left it.
        name = "snapshot" if self.model == MODEL else f"snapshot:{self.model}"
        self.store.pointers[name] = snapshot_id
        return snapshot

    def host(self, count: int = 1) -> None:
        """Start hosts; they follow the live pointer."""
        for index in range(count):
            host = Host(self.settings, self.store, index=index, count=count, threads=2)
            host.refresh()
            self._start(host)

    def machines(self, count: int, *, copies: int = 1, divided: bool = True) -> list[Path]:
        """Start hosts on disks of their own; the live snapshot's files are divided among them.

        Returns the folders that take the place of `shards`.
        """
        warm(self.vectors.shape[1])  # tests that wait for hosts do not wait for the compiler
        version = self.store.pointers["snapshot"]
        disks = [self.settings.data_dir / f"disk{index}" for index in range(count)]
        if divided:
            source = shelf.folder(self.settings, version)
            for number, shard in enumerate(self.store.shards(version)):
                # Not where it will be held: every host must fetch what it holds.
                target = disks[(number + 1) % count] / str(version)
                target.mkdir(parents=True, exist_ok=True)
                for name in shard.files:
                    shutil.move(source / name, target / name)
        for index, disk in enumerate(disks):
            disk.mkdir(parents=True, exist_ok=True)
            own = self.settings.replace(shards_dir=str(disk), shard_copies=copies)
            self._start(Host(own, self.store, index=index, count=count, threads=2))
        return disks

    def held(self) -> Host:
        """A host that has loaded the live snapshot and follows nothing; the caller closes it."""
        host = Host(self.settings, self.store, threads=2)
        host.refresh()
        return host

    def end(self, index: int) -> Host:
        """End one host, as a task does; returns it."""
        host, stop, thread = self.hosts.pop(index)
        stop.set()
        thread.join()
        host.close()
        return host

    def close(self) -> None:
        while self.hosts:
            self.end(0)

    def _start(self, host: Host) -> None:
        stop = threading.Event()
        thread = threading.Thread(target=host.run, args=(stop,), kwargs={"poll_s": 0.05})
        thread.start()
        self.hosts.append((host, stop, thread))


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
