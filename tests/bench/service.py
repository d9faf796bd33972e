"""The service under measurement: Cassandra with a prepared collection, Spark, hosts, Searcher."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Self
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from analytics import shards
from analytics.hosting import shelf
from analytics.hosting.hosts import Hosts
from analytics.request import Request
from analytics.scanning import firstpass
from analytics.scanning.ask import Ask
from analytics.scanning.firstpass import Asked
from analytics.search import Searcher
from cql import garbage, jars
from cql import spark as sparks
from cql.embedded import Cassandra
from cql.errors import IntegrityError, UnavailableError
from cql.records import (
    NAMESPACE,
    Cluster,
    Group,
    Listing,
    MapPoint,
    MapVersion,
    Model,
    Snapshot,
    Stock,
)
from cql.session import close, connect
from cql.settings import Settings
from cql.store import Store
from dashboard.connection import open_store
from tests.bench.tasks import (
    FEATURES,
    LISTINGS,
    MODEL,
    feature_rows,
    listing,
    listing_rows,
)
from tests.bench.vectors import Dataset

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

READY_S = 600.0
CROWD = 32
"""Users who ask at once."""

WARM_S = 120.0
"""Seconds of queries before anything is measured: by then Java has compiled what they run."""

# A keyspace is 25 tables, each of which would cost half a second of disk syncs.
_QUICK_SCHEMA = "-Dcassandra.test.flush_local_schema_changes=false"


class Service:
    """One collection, served as in production: shards that Spark built, hosts in Spark tasks.

    `folder` keeps vectors and Cassandra's data between runs, so a second run loads nothing.
    """

    def __init__(self, dataset: Dataset, folder: Path, *, large: bool = False) -> None:
        self.dataset, self.large = dataset, large
        self.folder = folder / dataset.name
        self.settings = Settings.load(
            {
                "data_dir": self.folder / "data",
                "cassandra_heap_mb": 3072 if large else 1024,
                "spark_memory_mb": 3072 if large else 1024,
                "query_deadline_s": 120.0,
            }
        )
        self.load_s = self.build_s = 0.0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        jars.fetch(self.settings)
        if not self.path.exists():
            self.dataset.write(self.path)
        self._stack.enter_context(Cassandra.start(self.settings, options=[_QUICK_SCHEMA]))
        self.store: Store = self._stack.enter_context(open_store(self.settings))
        self.spark: SparkSession = sparks.session(self.settings, app="sightline bench")
        self._stack.callback(self.spark.stop)
        self._load()
        began = time.perf_counter()
        self.snapshot: Snapshot = shards.build(
            self.spark, self.settings, self.store, MODEL, reuse=False
        )
        self.build_s = time.perf_counter() - began
        if self.snapshot.rows != self.dataset.rows:
            # Rows that were loaded past the commit log are lost where Cassandra was killed.
            (self.folder / "loaded.json").unlink()
            raise IntegrityError(
                f"{self.dataset.rows:,} rows must be stored, {self.snapshot.rows:,} are: run it "
                "again, and they are loaded anew"
            )
        self.hosts = Hosts(self.spark, self.settings, self.store)
        self._stack.callback(self.stop_hosts)
        self.hosts.start(self.snapshot)
        self.hosts.ready(READY_S)
        self.searcher: Searcher = self._stack.enter_context(Searcher(self.settings, self.store))
        # As a web worker does, which is what searches; peers of this process gain as much.
        garbage.seldom()
        self._settle()

    def _settle(self) -> None:
        """Wait until Cassandra has compacted what was loaded, and answer queries for a while.

        One user asks, then 32 at once, in turn: each makes Java compile other code.
        """
        session = connect(self.settings)
        try:
            began = time.monotonic()
            while session.execute("SELECT task_id FROM system_views.sstable_tasks").one():
                if time.monotonic() - began > READY_S:
                    raise UnavailableError(
                        f"compaction must end within {READY_S:g} s: run it again"
                    )
                time.sleep(1)
        finally:
            close(session)
        queries = self.dataset.queries(CROWD, self.vectors)

        def ask(query: NDArray[np.float32]) -> None:
            self.searcher.search(Request(vectors=query[None], k=100))

        began = time.monotonic()
        with ThreadPoolExecutor(CROWD) as pool:
            while time.monotonic() - began < WARM_S * (1 if self.large else 0.25):
                list(map(ask, queries))
                list(pool.map(ask, queries))

    @property
    def path(self) -> Path:
        """File of the vectors."""
        return self.folder / "vectors.npy"

    @cached_property
    def vectors(self) -> NDArray[np.float32]:
        """The vectors, mapped: float32 (N, D)."""
        mapped: NDArray[np.float32] = np.load(self.path, mmap_mode="r")
        return mapped

    def stop_hosts(self) -> None:
        """End the hosts; a second call does nothing."""
        if not self.hosts_stopped:
            self.hosts_stopped = True
            self.hosts.stop()

    hosts_stopped = False

    def host_pids(self) -> list[int]:
        """Process ids of the live hosts."""
        return sorted({service.pid for service in self.store.services("host")})

    def scanned_bytes(self, query: NDArray[np.float32], k: int) -> int:
        """Bytes that the first pass of a query float32 (1, D) reads: two planes, or components."""
        every = self.store.shards(self.snapshot.snapshot_id)
        folder = shelf.folder(self.settings, self.snapshot.snapshot_id)
        blocks = [shards.open_block(folder, each, dim=self.dataset.dim) for each in every]
        plan = np.array([Ask(query, query[:0], k).plan(0)], np.int64)
        asked = [Asked.of(block, query, plan) for block in blocks]
        trials = [block.trial for block in blocks]
        way, *_ = firstpass.chosen(trials, self.dataset.rows, asked, np.array([k]), np.ones(1))
        read = 0
        for block in blocks:
            if way is firstpass.COMPONENT and block.components is not None:
                read += sum(each.nbytes for each in block.components.codes)
            else:
                codes = block.codes
                read += codes.high.nbytes
                read += (codes.middle if way is firstpass.UPPER else codes.low).nbytes
            block.release()
        return read

    def features(self) -> DataFrame:
        """The columns of the stored features that a build reads."""
        frame = sparks.read(self.spark, self.settings, "features")
        return frame.select("listing_id", "image_id", "feature_vector", "dim", "dtype", "crc32c")

    def _load(self) -> None:
        done = self.folder / "loaded.json"
        for number in range(16):
            with contextlib.suppress(Exception):
                self.store.delete_listing(fresh_listing(number))
        if done.exists():
            self.load_s = float(json.loads(done.read_text(encoding="utf-8"))["seconds"])
            return
        began = time.perf_counter()
        load(self.spark, self.settings, self.store, self.dataset, self.path)
        self.load_s = time.perf_counter() - began
        done.write_text(json.dumps({"seconds": self.load_s}), encoding="utf-8")


def fresh_listing(number: int) -> str:
    """Id of a listing that a run adds and the next one takes away."""
    return f"new{number:05d}"


def load(
    spark: SparkSession, settings: Settings, store: Store, dataset: Dataset, path: Path
) -> None:
    """Write model, features, listings and stock of a data set; vectors come from its file."""
    with _unlogged(settings):
        _load(spark, settings, store, dataset, path)


@contextlib.contextmanager
def _unlogged(settings: Settings) -> Iterator[None]:
    """Write past the commit log, which would wait for the disk at each row: it is loaded anew."""
    session = connect(settings)
    try:
        session.execute(f"ALTER KEYSPACE {settings.keyspace} WITH durable_writes = false")
        yield
        session.execute(f"ALTER KEYSPACE {settings.keyspace} WITH durable_writes = true")
    finally:
        close(session)


def _load(
    spark: SparkSession, settings: Settings, store: Store, dataset: Dataset, path: Path
) -> None:
    store.put_model(model(dataset.dim))
    cores = settings.cores or 2
    for key, value in (("batch.size.bytes", "65536"), ("concurrent.writes", "32")):
        spark.conf.set(f"spark.cassandra.output.{key}", value)
    numbers = spark.range(0, dataset.rows, 1, 4 * cores)
    made = numbers.mapInArrow(partial(feature_rows, dataset=dataset, path=path), FEATURES)
    sparks.write(made, settings, "features")
    numbers = spark.range(0, dataset.listings, 1, 4 * cores)
    named = numbers.mapInArrow(
        partial(listing_rows, dataset=dataset),
        LISTINGS,
    )
    sparks.write(named, settings, "listings")
    store.load_stock(
        Stock(listing_id=dataset.listing_id(n), inventory=int(dataset.rare(n)), etag="loaded")
        for n in range(dataset.listings)
    )


def model(dim: int) -> Model:
    """The model that the vectors are said to be of."""
    return Model(
        model_id=MODEL,
        name="bench",
        architecture="none",
        weights_sha256="0" * 64,
        transform="none",
        dim=dim,
    )


class Points:
    """What `analytics.maps.table.build` reads from a store, computed instead: at random places.

    A real map of a million images takes minutes of layout, and a filter asks for its columns only.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def points(self, _map_id: UUID, rows: int) -> Iterator[MapPoint]:
        """A point for each image."""
        dataset = self._dataset
        places = np.random.default_rng(dataset.seed).random((rows, 2))
        keys = dataset.image_keys(np.arange(rows))
        for row, (own, key, (x, y)) in enumerate(
            zip(dataset.owners.tolist(), keys, places.tolist(), strict=True)
        ):
            yield MapPoint(
                image_id=UUID(bytes=key.tobytes()),
                listing_id=dataset.listing_id(own),
                x=x,
                y=y,
                cluster=row % 4,
                membership=1.0,
                outlier_score=0.0,
                knn_distance=0.0,
                glosh=0.0,
            )

    def listings(self, listing_ids: Iterable[str]) -> dict[str, Listing]:
        """Listings by id."""
        return {name: listing(self._dataset, int(name[1:])) for name in listing_ids}

    def groups(self, map_id: UUID) -> list[Group]:
        """No groups."""
        return []

    def clusters(self, map_id: UUID) -> list[Cluster]:
        """Four clusters without a meaning."""
        return [
            Cluster(
                map_id=map_id,
                cluster=number,
                cluster_key=uuid5(NAMESPACE, f"bench cluster {number}"),
                size=1,
                listings=1,
                name=f"Cluster {number}",
                exemplars=(),
                x=0.5,
                y=0.5,
            )
            for number in range(4)
        ]


def put_map(service: Service) -> UUID:
    """Make a map of the collection live, for filters to be about; returns its id."""
    from analytics.maps import table

    dataset, store = service.dataset, service.store
    map_id = uuid5(NAMESPACE, f"bench map {dataset.name}")
    version = MapVersion(
        map_id=map_id,
        model_id=MODEL,
        snapshot_id=service.snapshot.snapshot_id,
        rows=dataset.rows,
        rows_scored=dataset.rows,
        clusters=4,
        noise=0,
        seed=dataset.seed,
        parameters="{}",
        quality={},
        code_version=service.snapshot.code_version,
        created_at=datetime.now(UTC),
    )
    path = service.settings.data_dir / "maps" / f"{map_id}.arrow"
    if not path.exists():
        table.build(Points(dataset), version, path)  # type: ignore[arg-type]
    store.put_map(version)
    seen = store.live("map")
    if seen != map_id:
        store.set_live("map", map_id, expected=seen)
    return map_id
