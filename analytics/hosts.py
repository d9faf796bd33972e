"""Keeping resident shard hosts: a long-running Spark job whose tasks serve scans.

Spark places the hosts and runs one that died again elsewhere; a supervisor starts the job again,
and builds a snapshot again whose files a host reports as damaged.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from threadpoolctl import threadpool_limits

from analytics import shards
from analytics.host import Host
from analytics.placement import DAMAGED, LIVE, ROLE, TARGET, cover
from cql.errors import ConflictError, SightlineError, UnavailableError
from cql.records import Snapshot
from cql.settings import Settings
from cql.store import Store
from cql.wire import follow_parent, own_address

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

_GROUP = "sightline-hosts"
_STEADY_S = 15.0
"""A host job that ran for this long had started well."""


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
            # Spark gives a task up that was lost four times: no reason to wait, if hosts did serve.
            pause = 1.0 if time.monotonic() - began > _STEADY_S else min(30.0, 2 * pause)
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
                said = str(error).splitlines()
                cause = next((line for line in said if "Job aborted" in line), said[0])
                log.warning("host job: %s", cause)

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
    # Scans bring their own threads: a matrix product on one of them must not start more.
    with threadpool_limits(1), Store.open(settings) as store:
        host = Host(settings, store, index=index, count=count, threads=threads, address=address)
        try:
            host.run(threading.Event())
        finally:
            host.close()
    yield index
