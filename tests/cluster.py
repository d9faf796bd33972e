"""Sightline on a real cluster of this machine, and queries that go on while it is harmed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import psutil
from numpy.typing import NDArray

from analytics.jobs import submit, wait
from analytics.search import Request, Searcher
from cql.errors import UnavailableError
from cql.migrations import migrate
from cql.records import Image, Listing, Service
from cql.session import close, connect
from cql.settings import ROOT, Settings
from cql.store import Store
from deploy.cluster import JAVA_OPTIONS, Cluster
from extraction.models import describe
from tests.cql.test_wire import certificates
from tests.photos import photos_of, put_photos

MODEL = "sightline-small"
LISTINGS = 300

Answer = list[tuple[str, str, float]]
"""Listing, winning image and score of each hit, in order."""


class Installation:
    """A collection on a cluster: schema, toy features, the real engine, a searcher."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        *,
        nodes: int = 3,
        disks: bool = True,
        options: Sequence[str] = (),
    ) -> None:
        self.cluster = Cluster(settings, folder, nodes=nodes, disks=disks, options=options)
        self.settings = self.cluster.settings.replace(
            shard_rows=100,
            query_deadline_s=30.0,
            model=MODEL,
            cores=1,
            wire_tls=str(certificates(folder / "tls")) if shutil.which("openssl") else "",
        )
        self._engine: subprocess.Popen[bytes] | None = None
        self._store: Store | None = None
        try:
            session = connect(self.settings)
            try:
                migrate(session, self.settings)
            finally:
                close(session)
            self.store = self._store = Store.open(self.settings)
            self.model_id = describe(MODEL, self.settings).model_id
            self.images, self.vectors = fill(self.store, self.settings)
            self._start_engine()
            job = submit(self.store, "snapshot", {"model": MODEL})
            done = wait(self.store, job.job_id, timeout_s=400)  # a first start compiles the scan
            assert done.state == "done", f"{done.error}\n{self.said()}"
        except BaseException:
            self.close()
            raise

    def hosts(self) -> list[Service]:
        """The living hosts of the live snapshot; none when they do not hold all of it."""
        with Searcher(self.settings, self.store) as find:
            snapshot = find.snapshot()
        held = [
            host
            for host in self.store.services("host")
            if host.snapshot_id == snapshot.snapshot_id and psutil.pid_exists(host.pid)
        ]
        numbers = {number for host in held for number in host.shards}
        return held if numbers == set(range(snapshot.shards)) else []

    def executor(self, *, pick: int = 0) -> list[psutil.Process]:
        """An executor with a host: its Java process, then those that it started."""
        executors = set(self.cluster.spark.executors())
        found = []
        for host in self.hosts():
            with contextlib.suppress(psutil.NoSuchProcess):
                above = {process.pid for process in psutil.Process(host.pid).parents()}
                found += sorted(above & executors)
        java = psutil.Process(found[pick % len(found)])
        return [java, *java.children(recursive=True)]

    def kill_executor(self, *, pick: int = 0) -> str:
        """End an executor with a host as a power cut would; returns its worker's address."""
        family = self.executor(pick=pick)
        worker = self.cluster.spark.executors()[family[0].pid]
        # Else its Python processes would serve on until they see that the executor is gone.
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=10)
        return worker

    def engine_lives(self) -> bool:
        """Whether the engine that was started first still runs."""
        return self._engine is not None and self._engine.poll() is None

    def said(self) -> str:
        """The end of the engine's log."""
        text = (self.settings.data_dir / "logs" / "engine.log").read_text(errors="replace")
        return text[-4000:]

    def close(self) -> None:
        """Stop the engine and the cluster."""
        if self._engine is not None:
            self._engine.terminate()
            try:
                self._engine.wait(40)
            except subprocess.TimeoutExpired:
                self._engine.kill()
                self._engine.wait()
        if self._store is not None:
            self._store.close()
        self.cluster.close()

    def _start_engine(self) -> None:
        logs = self.settings.data_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        with (logs / "engine.log").open("wb") as out:
            self._engine = subprocess.Popen(
                [sys.executable, "-m", "dashboard.engine"],
                cwd=ROOT,
                stdout=out,
                stderr=out,
                env={
                    **os.environ,
                    **self.settings.environment(),
                    "SPARK_LOCAL_IP": self.cluster.spark.address,
                    "JAVA_TOOL_OPTIONS": JAVA_OPTIONS,
                },
            )


@dataclass(frozen=True)
class Outcome:
    """One query: when it was asked and answered (monotonic seconds) and what came."""

    asked: float
    answered: float
    name: str
    right: bool
    error: str = ""


class Users:
    """Threads that ask queries without a pause and compare each answer with the oracle's."""

    def __init__(
        self,
        installation: Installation,
        wanted: Mapping[str, tuple[Request, Answer]],
        *,
        threads: int = 3,
    ) -> None:
        self._find = Searcher(installation.settings, installation.store)
        self._wanted = list(wanted.items())
        self._stop = threading.Event()
        self._number = count()
        self.outcomes: list[Outcome] = []
        self.wrong: list[str] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(120)
        self._find.close()

    def right_since(self, moment: float) -> list[Outcome]:
        """Right answers to queries that were asked after a moment."""
        return [each for each in list(self.outcomes) if each.right and each.asked >= moment]

    def seconds_to_right(self, moment: float, *, within_s: float, each: int = 1) -> float:
        """Wait until each form of query was right `each` times; seconds from the moment on.

        A wrong answer ends the wait at once, and so does the end of the time.
        """
        while True:
            assert not self.wrong, self.wrong[0]
            found = self.right_since(moment)
            names = [outcome.name for outcome in found]
            if all(names.count(name) >= each for name, _ in self._wanted):
                return max(outcome.answered for outcome in found) - moment
            errors = {outcome.error for outcome in self.outcomes if not outcome.right}
            assert time.monotonic() - moment < within_s, (names, errors)
            time.sleep(0.02)

    def _ask(self) -> None:
        while not self._stop.is_set():
            name, (request, answer) = self._wanted[next(self._number) % len(self._wanted)]
            asked = time.monotonic()
            try:
                found = seen(self._find, request)
            except UnavailableError as error:
                self.outcomes.append(Outcome(asked, time.monotonic(), name, False, str(error)))
            except BaseException as error:
                self.wrong.append(f"{name}: {error!r}")
                raise
            else:
                self.outcomes.append(Outcome(asked, time.monotonic(), name, found == answer))
                if found != answer:
                    self.wrong.append(f"{name}: {found[:3]} is not {answer[:3]}")


def seen(find: Searcher, request: Request) -> Answer:
    """The published answer of a request, which must be exact and over all rows."""
    result = find.search(request)
    assert result.exact
    assert result.rows_scanned == result.rows
    return [(hit.listing_id, str(hit.image_id), hit.score) for hit in result.hits]


def fill(
    store: Store, settings: Settings, *, listings: int = LISTINGS
) -> tuple[list[Image], NDArray[np.float32]]:
    """Write listings, images and features of random near groups; images and vectors by row."""
    model = describe(MODEL, settings)
    store.put_model(model)
    random = np.random.default_rng(7)
    owners = [f"l{n:03d}" for n in range(listings) for _ in range(int(random.integers(1, 5)))]
    centres = random.normal(size=(12, model.dim))
    vectors = centres[random.integers(0, 12, len(owners))]
    vectors = vectors + random.normal(scale=0.5, size=vectors.shape)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    vectors[40:44] = vectors[3]  # pictures that tie
    store.put_listings(Listing(listing_id=own, title=own) for own in dict.fromkeys(owners))
    images = photos_of(owners)
    put_photos(store, model.model_id, images, vectors)
    return images, vectors
