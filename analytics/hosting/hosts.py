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
from analytics.hosting.host import Host, copies_of
from analytics.hosting.placement import COPIES, DAMAGED, FILES, ROLE, copied, cover
from analytics.hosting.pointers import go_live, live_of, point, target_of
from analytics.hosting.shelf import here, prune
from cql.errors import SightlineError, UnavailableError
from cql.records import Snapshot
from cql.settings import Settings
from cql.store import Store
from cql.wire import follow_parent, own_address

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

_GROUP = "sightline-hosts"
_CARE_S = 2.0
"""Seconds between two looks at what hosts report."""

_COPIES_S = 30.0
"""Seconds for which a snapshot that hosts hold waits for its copies before it becomes live."""

_STEADY_S = 15.0
"""A host job that ran for this long had started well."""


class Hosts:
    """Keeps the host job running and moves live pointers once hosts serve a snapshot.

    One snapshot of every model that was asked for is hosted, side by side.
    """

    def __init__(self, spark: SparkSession, settings: Settings, store: Store) -> None:
        self._spark, self._settings, self._store = spark, settings, store
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._targets: dict[str, Snapshot] = {}
        self._covered: dict[UUID, float] = {}
        self._lock = threading.Lock()

    def start(self, snapshot: Snapshot) -> None:
        """Ask for a snapshot of its model to be hosted; submits the host job if none runs yet."""
        point(self._store, target_of(snapshot.model_id), snapshot.snapshot_id)
        with self._lock:
            self._targets.pop(snapshot.model_id, None)
            self._targets[snapshot.model_id] = snapshot  # the last one, now
            if not self._threads:
                self._threads = [
                    threading.Thread(target=self._submit, name="hosts", daemon=True),
                    threading.Thread(target=self._supervise, name="hosts-care", daemon=True),
                ]
                for thread in self._threads:
                    thread.start()

    def ready(self, timeout: float = 60.0, *, model_id: str | None = None) -> Snapshot:
        """Wait until the hosts hold the snapshot of a model, then make it live.

        Of the model that was asked for last, unless one is named. Returns it. UnavailableError
        after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with self._lock:
                wanted = model_id or next(reversed(self._targets), None)
                target = self._targets.get(wanted) if wanted is not None else None
            if target is not None and self._settle(target):
                return target
            if self._stop.wait(0.1):
                break
        raise UnavailableError(
            f"hosts must hold the snapshot within {timeout:.0f} s, they do not: "
            "see the engine's log for the host job"
        )

    def _settle(self, target: Snapshot) -> bool:
        """Make a snapshot live that hosts hold, copies included; whether they do."""
        if cover(self._store.services(ROLE), target) is None or not self._safe(target):
            return False
        go_live(self._store, target)
        prune(self._settings, self._store)
        return True

    def _safe(self, target: Snapshot) -> bool:
        """Whether the loss of one machine would cost no new build, or that was waited for enough.

        What has been live is served again as it is.
        """
        copies = copies_of(self._settings, self._settings.shard_hosts)
        if copies < 2:
            return True
        if self._store.live(live_of(target.model_id)) == target.snapshot_id:
            return True
        if copied(self._store.services(COPIES), target, self._settings.shard_hosts):
            return True
        began = self._covered.setdefault(target.snapshot_id, time.monotonic())
        if time.monotonic() - began < _COPIES_S:
            return False
        log.warning(
            "snapshot %s becomes live before its shards have %d copies: they are still made",
            target.snapshot_id,
            copies,
        )
        return True

    def stop(self) -> None:
        """End the host job and its threads."""
        self._stop.set()
        context = self._spark.sparkContext
        for thread in self._threads:
            if thread.name == "hosts":
                context.cancelJobGroup(_GROUP)
            thread.join(15)
        self._threads = []
        for role in (ROLE, DAMAGED, FILES, COPIES):
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
        pause = _CARE_S
        while not self._stop.wait(pause):
            try:
                self._care()
                pause = _CARE_S
            except SightlineError as error:
                # Building a snapshot again is work, and what stands in its way may stay.
                pause = min(60.0, 2 * pause)
                log.warning("care of the hosts: %s", error)

    def _care(self) -> None:
        with self._lock:
            targets = list(self._targets.values())
        broken = {service.snapshot_id for service in self._store.services(DAMAGED)}
        for target in targets:
            if target.snapshot_id in broken:
                log.warning("snapshot %s is damaged on disk: it is built again", target.snapshot_id)
                fresh = shards.build(
                    self._spark, self._settings, self._store, target.model_id, reuse=False
                )
                self.start(fresh)
                self.ready(self._settings.query_deadline_s * 4, model_id=target.model_id)
            elif self._late(target):
                self._settle(target)

    def _late(self, target: Snapshot) -> bool:
        """Whether it is still wanted and not live: whoever waited may have given up too early."""
        model_id, version = target.model_id, target.snapshot_id
        wanted = self._store.live(target_of(model_id)) == version
        return wanted and self._store.live(live_of(model_id)) != version


def _serve(index: int, _: Iterator[int], *, settings: Settings, count: int) -> Iterator[int]:
    """Run one host in a Spark task until the task is killed."""
    follow_parent()
    faulthandler.register(signal.SIGUSR1, file=2)  # shows where a host is
    cores = settings.cores or os.cpu_count() or 1
    # Hosts of a cluster are spread over its machines, else they share this one.
    threads = cores if settings.spark_master else max(1, cores // count)
    address = own_address(settings)
    settings = here(settings)
    # Scans bring their own threads: a matrix product on one of them must not start more.
    with threadpool_limits(1), Store.open(settings) as store:
        host = Host(settings, store, index=index, count=count, threads=threads, address=address)
        try:
            host.run(threading.Event())
        finally:
            host.close()
    yield index
