"""Resident shard hosts: a long-running Spark job whose tasks map shards and serve scans.

A host reads which snapshot it should hold from the live pointer `hosting` and registers with a
heartbeat what it does hold, so that hosts come back by themselves after a crash. One that finds a
damaged shard says so by heartbeat too; the engine's supervisor then rebuilds the snapshot.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID, uuid4, uuid5

import numpy as np

from analytics import kernels, shards
from analytics.kernels import Block
from cql.errors import (
    ConflictError,
    IntegrityError,
    NotFoundError,
    SightlineError,
    UnavailableError,
)
from cql.records import NAMESPACE, Service, Shard, Snapshot
from cql.settings import Settings
from cql.store import Store
from cql.wire import Beacon, Message, Server, follow_parent, own_address

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

ROLE = "host"
DAMAGED = "host-damaged"
LIVE = "snapshot"
TARGET = "hosting"
_POLL_S = 0.5
_RETRY_S = 2.0
_GROUP = "sightline-hosts"


class Registry(Protocol):
    """The part of the store that a host needs."""

    def live(self, name: str) -> UUID | None:
        """Version that a pointer names."""

    def snapshot(self, snapshot_id: UUID) -> Snapshot:
        """A snapshot."""

    def shards(self, snapshot_id: UUID) -> list[Shard]:
        """Its shards."""

    def heartbeat(self, service: Service, ttl_s: int) -> None:
        """Write a service's row."""

    def withdraw(self, role: str, service_id: UUID) -> None:
        """Delete a service's row."""


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """What a host holds of one snapshot."""

    snapshot: Snapshot
    blocks: tuple[Block, ...]

    @property
    def rows(self) -> int:
        """Rows held."""
        return sum(block.rows for block in self.blocks)


class Host:
    """One host: share `index` of `count` of every snapshot that is wanted, served until closed."""

    def __init__(
        self,
        settings: Settings,
        store: Registry,
        *,
        index: int = 0,
        count: int = 1,
        threads: int = 1,
        address: str = "127.0.0.1",
    ) -> None:
        self._settings, self._store = settings, store
        self._index, self._count = index, count
        self._id = uuid4()
        self._held: dict[UUID, Held] = {}
        self._beacons: dict[UUID, Beacon] = {}
        self._gone: dict[UUID, float] = {}
        self._again: dict[UUID, float] = {}
        self._damage: Beacon | None = None
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="scan")
        self._server = Server(
            settings,
            {"scan": self.scan, "neighbours": self.neighbours, "rows": self.rows},
            host=address,
        )

    def run(self, stop: threading.Event, *, poll_s: float = _POLL_S) -> None:
        """Follow the pointers until `stop` is set; a store that does not answer is asked again."""
        while not stop.is_set():
            try:
                self.refresh()
            except SightlineError as error:
                log.warning("host %d: %s", self._index, error)
            stop.wait(poll_s)

    def refresh(self) -> None:
        """Load the snapshot that is wanted and let go of what nobody wants."""
        live, target = self._store.live(LIVE), self._store.live(TARGET)
        wanted = {version for version in (live, target) if version is not None}
        now = time.monotonic()
        for version in sorted(wanted - set(self._held), key=str):
            if now >= self._again.get(version, 0.0):
                self._load(version)
        for version in set(self._held) - wanted:
            if (beacon := self._beacons.pop(version, None)) is not None:
                beacon.close()
            # A query that found this host a moment ago still gets its answer.
            if now - self._gone.setdefault(version, now) > self._settings.query_deadline_s:
                del self._held[version], self._gone[version]

    def close(self) -> None:
        """Withdraw and stop serving."""
        for beacon in (*self._beacons.values(), *([self._damage] if self._damage else ())):
            beacon.close()
        self._server.close()
        self._threads.shutdown()

    def scan(self, message: Message) -> Message:
        """Find the k best listings of this host's shards: values snapshot, shards, k, excluded."""
        held, blocks = self._blocks(message)
        best = kernels.best_listings(
            blocks,
            self._queries(message, held),
            int(message.values["k"]),
            excluded=message.values["excluded"],
            each=self._threads.map,
        )
        return Message(
            {"listings": best.ids, "rows": sum(block.rows for block in blocks)},
            {"scores": best.scores, "images": best.images},
        )

    def neighbours(self, message: Message) -> Message:
        """Find the k best images of each query: values snapshot, shards, k."""
        held, blocks = self._blocks(message)
        queries = self._queries(message, held)
        best = kernels.best_images(
            blocks, queries, int(message.values["k"]), each=self._threads.map
        )
        return Message(
            {"rows": sum(block.rows for block in blocks)},
            {"scores": best.scores, "rows": best.rows, "images": best.images},
        )

    def rows(self, message: Message) -> Message:
        """Return stored rows of one shard from `start`: vectors, image ids, listing ids."""
        _, (block,) = self._blocks(message)
        start = int(message.values["start"])
        end = min(block.rows, start + int(message.values["count"]))
        owners = np.searchsorted(block.offsets, np.arange(start, end), side="right") - 1
        first = int(owners[0]) if len(owners) else 0
        last = int(owners[-1]) + 1 if len(owners) else 0
        return Message(
            {"listings": block.listings[first:last].to_pylist()},
            {
                "vectors": block.vectors[start:end],
                "images": block.images[start:end],
                "owners": owners - first,
            },
        )

    def _blocks(self, message: Message) -> tuple[Held, list[Block]]:
        version = UUID(message.values["snapshot"])
        held = self._held.get(version)
        numbers = {block.number: block for block in held.blocks} if held else {}
        asked = message.values["shards"]
        if held is None or not set(asked) <= set(numbers):
            raise UnavailableError(
                f"this host must hold shards {asked} of snapshot {version}, it holds "
                f"{sorted(numbers)}: look the hosts up again"
            )
        return held, [numbers[number] for number in asked]

    def _queries(self, message: Message, held: Held) -> Any:
        queries = message.arrays["queries"]
        if queries.ndim != 2 or queries.shape[1] != held.snapshot.dim:
            raise IntegrityError(f"queries must have D={held.snapshot.dim}, have {queries.shape}")
        return queries

    def _load(self, version: UUID) -> None:
        try:
            snapshot, every = self._store.snapshot(version), self._store.shards(version)
        except NotFoundError:
            return
        bases = np.r_[0, np.cumsum([shard.rows for shard in every])].tolist()
        own = [n for n in range(len(every)) if n % self._count == self._index]
        path = shards.folder(self._settings, version)
        try:
            blocks = tuple(
                shards.open_block(path, every[n], dim=snapshot.dim, base=bases[n]) for n in own
            )
        except IntegrityError as error:
            if self._damage is None or self._damage.service.snapshot_id != version:
                log.error("host %d: %s", self._index, error)  # noqa: TRY400 - the message says it
            self._report(version)
            # Checking every byte is work: not at each poll, while it waits to be built again.
            self._again[version] = time.monotonic() + _RETRY_S
            return
        self._held[version] = Held(snapshot, blocks)
        self._gone.pop(version, None)
        if self._damage is not None:
            self._damage.close()
            self._damage = None
        self._beacons[version] = Beacon(
            self._store, self._service(ROLE, version, tuple(every[n].shard for n in own))
        )

    def _report(self, version: UUID) -> None:
        if self._damage is None:
            self._damage = Beacon(self._store, self._service(DAMAGED, version, ()))
        elif self._damage.service.snapshot_id != version:
            self._damage.update(snapshot_id=version)

    def _service(self, role: str, version: UUID, numbers: tuple[int, ...]) -> Service:
        return Service(
            role=role,
            service_id=uuid5(NAMESPACE, f"{role}\0{self._id}\0{version}"),
            address=self._server.address,
            snapshot_id=version,
            shards=numbers,
            pid=os.getpid(),
        )


class Hosts:
    """Keeps the host job running and moves the live pointer once hosts serve a snapshot."""

    def __init__(self, spark: SparkSession, settings: Settings, store: Store) -> None:
        self._spark, self._settings, self._store = spark, settings, store
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._target: Snapshot | None = None
        self._lock = threading.Lock()

    def start(self, snapshot: Snapshot) -> None:
        """Ask for a snapshot to be hosted; submits the host job when none runs yet."""
        _point(self._store, TARGET, snapshot.snapshot_id)
        with self._lock:
            self._target = snapshot
            if not self._threads:
                self._threads = [
                    threading.Thread(target=self._submit, name="hosts", daemon=True),
                    threading.Thread(target=self._supervise, name="hosts-care", daemon=True),
                ]
                for thread in self._threads:
                    thread.start()

    def ready(self, timeout: float = 60.0) -> Snapshot:
        """Wait until the hosts hold the wanted snapshot, then make it live.

        Returns it. UnavailableError after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            target = self._target
            if target is not None and cover(self._store.services(ROLE), target) is not None:
                _point(self._store, LIVE, target.snapshot_id)
                shards.prune(self._settings, self._store, target)
                return target
            if self._stop.wait(0.1):
                break
        raise UnavailableError(
            f"hosts must hold the snapshot within {timeout:.0f} s, they do not: "
            "see the engine's log for the host job"
        )

    def stop(self) -> None:
        """End the host job and its threads."""
        self._stop.set()
        context = self._spark.sparkContext
        for thread in self._threads:
            if thread.name == "hosts":
                context.cancelJobGroup(_GROUP)
            thread.join(15)
        self._threads = []
        for role in (ROLE, DAMAGED):
            for service in self._store.services(role):
                self._store.withdraw(role, service.service_id)

    def _submit(self) -> None:
        from pyspark import InheritableThread

        pause = 1.0
        while not self._stop.is_set():
            began = time.monotonic()
            worker = InheritableThread(target=self._job)
            worker.start()
            worker.join()
            if self._stop.is_set():
                return
            pause = 1.0 if time.monotonic() - began > 60 else min(30.0, 2 * pause)
            log.warning("the host job ended; it starts again in %.0f s", pause)
            self._stop.wait(pause)

    def _job(self) -> None:
        context = self._spark.sparkContext
        context.setLocalProperty("spark.scheduler.pool", "hosts")
        context.setJobGroup(_GROUP, "resident shard hosts", interruptOnCancel=True)
        count = self._settings.shard_hosts
        work = partial(_serve, settings=self._settings, count=count)
        try:
            context.parallelize(range(count), count).mapPartitionsWithIndex(work).count()
        except Exception as error:  # noqa: BLE001 - whatever ended it, it is started again
            if not self._stop.is_set():
                log.warning("host job: %s", str(error).splitlines()[0])

    def _supervise(self) -> None:
        while not self._stop.wait(2.0):
            try:
                self._care()
            except SightlineError as error:
                log.warning("care of the hosts: %s", error)

    def _care(self) -> None:
        target = self._target
        if target is None:
            return
        broken = {service.snapshot_id for service in self._store.services(DAMAGED)}
        if target.snapshot_id not in broken:
            return
        log.warning("snapshot %s is damaged on disk: it is built again", target.snapshot_id)
        fresh = shards.build(self._spark, self._settings, self._store, target.model_id, reuse=False)
        self.start(fresh)
        self.ready(self._settings.query_deadline_s * 4)


def cover(services: list[Service], snapshot: Snapshot) -> list[tuple[Service, list[int]]] | None:
    """Choose hosts that together hold every shard of a snapshot once, or None.

    Of two that hold one shard the newer takes it.
    """
    left = set(range(snapshot.shards))
    chosen: list[tuple[Service, list[int]]] = []
    held = [service for service in services if service.snapshot_id == snapshot.snapshot_id]
    held.sort(key=lambda s: (s.seen_at.timestamp() if s.seen_at else 0.0, str(s.service_id)))
    for service in reversed(held):
        take = sorted(left & set(service.shards))
        if take:
            chosen.append((service, take))
            left -= set(take)
    return None if left else chosen


def _point(store: Store, name: str, version: UUID) -> None:
    for _ in range(5):
        seen = store.live(name)
        if seen == version:
            return
        try:
            store.set_live(name, version, expected=seen)
        except ConflictError:
            continue
        return
    raise ConflictError(f"the pointer {name} must move to {version}: others keep moving it")


def _serve(index: int, _: Iterator[int], *, settings: Settings, count: int) -> Iterator[int]:
    """Run one host in a Spark task until the task is killed."""
    follow_parent()
    faulthandler.register(signal.SIGUSR1, file=2)  # shows where a host is
    cores = settings.cores or os.cpu_count() or 1
    # Hosts of a cluster are spread over its machines, else they share this one.
    threads = cores if settings.spark_master else max(1, cores // count)
    address = own_address(settings)
    with Store.open(settings) as store:
        host = Host(settings, store, index=index, count=count, threads=threads, address=address)
        try:
            host.run(threading.Event())
        finally:
            host.close()
    yield index
