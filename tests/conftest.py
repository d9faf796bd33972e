"""Fixtures for every test: one Cassandra and one Spark a session, a fresh keyspace a module.

With workers (`-n 2 --dist loadgroup`) one has the browser and the demo that it looks at, another the
session's Cassandra and Spark, and each file of the other tests goes to whichever is free.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from cql.embedded import Cassandra
from cql.jars import fetch
from cql.migrations import migrate
from cql.session import close, connect
from cql.settings import ROOT, Settings
from cql.store import Store

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from extraction.ingest import IngestReport
    from extraction.job import ExtractReport

CASSANDRA_HEAP_MB = 512
SPARK_MEMORY_MB = 1024


@pytest.hookimpl(tryfirst=True)  # before the plugin reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Divide tests among workers, those that take longest first."""
    if config.getoption("dist", "no") != "loadgroup":
        return
    turns = {item: _turn(item) for item in items}
    for item, (_, group) in turns.items():
        item.add_marker(pytest.mark.xdist_group(group))
    slow = {group for item, (_, group) in turns.items() if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (turns[item][0], turns[item][1] not in slow))


def _turn(item: pytest.Item) -> tuple[int, str]:
    """When a test's group comes, and its name: what shares an expensive fixture is one group."""
    if item.get_closest_marker("browser"):
        return 0, "browser"
    if "cassandra" in getattr(item, "fixturenames", ()):
        return 1, "services"
    return 2, item.nodeid.partition("::")[0]


@pytest.fixture(scope="session")
def cassandra_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of the session's Cassandra: its own data folder, the checkout's jars."""
    jars = os.environ.get("SIGHTLINE_JARS_DIR", str(ROOT / ".sightline" / "jars"))
    return Settings(
        data_dir=tmp_path_factory.mktemp("cassandra"),
        jars_dir=Path(jars),
        cassandra_heap_mb=CASSANDRA_HEAP_MB,
        spark_memory_mb=SPARK_MEMORY_MB,
    )


@pytest.fixture(scope="session")
def cassandra(cassandra_settings: Settings) -> Iterator[Cassandra]:
    """One real Cassandra for the session. Nobody stops it; tests that do start their own."""
    fetch(cassandra_settings)
    # A keyspace for every module is 25 tables, each of which costs half a second of disk syncs.
    quick = "-Dcassandra.test.flush_local_schema_changes=false"
    with Cassandra.start(cassandra_settings, options=[quick]) as running:
        yield running


@pytest.fixture(scope="module")
def settings(
    cassandra: Cassandra, cassandra_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    """Settings with a fresh, migrated keyspace and data folder on the session's Cassandra."""
    return _fresh(cassandra, cassandra_settings, tmp_path_factory)


def _fresh(
    cassandra: Cassandra, cassandra_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    """Cassandra is reached as an external one: the data folder is the caller's own."""
    endpoint = cassandra.endpoint
    fresh = cassandra_settings.replace(
        data_dir=tmp_path_factory.mktemp("data"),
        keyspace=f"test_{uuid4().hex[:12]}",
        cassandra_hosts=endpoint.hosts,
        cassandra_port=endpoint.port,
        cassandra_user=endpoint.user,
        cassandra_password=endpoint.password,
        replication=1,
    )
    session = connect(fresh)
    try:
        migrate(session, fresh)
    finally:
        close(session)
    return fresh


@pytest.fixture(scope="module")
def store(settings: Settings) -> Iterator[Store]:
    """A store on the module's keyspace."""
    with Store.open(settings) as opened:
        yield opened


@pytest.fixture(scope="session")
def spark(cassandra_settings: Settings, cassandra: Cassandra) -> Iterator[SparkSession]:
    """One real Spark for the session."""
    from cql.spark import session

    running = session(cassandra_settings, app="tests")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The shared photos and weights beside the checkout; skips where they are absent."""
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("../shared/data is absent")
    return path


@dataclass(frozen=True)
class Grocery:
    """The shared grocery photos (2,640 of 559 listings), ingested and extracted by the teacher."""

    settings: Settings
    store: Store
    model_id: str
    ingested: IngestReport
    extracted: ExtractReport


@pytest.fixture(scope="session")
def grocery(
    cassandra: Cassandra,
    cassandra_settings: Settings,
    spark: SparkSession,
    shared_data: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Grocery]:
    """One a session, because it costs a minute or two: tests only read it."""
    from extraction.ingest import ingest
    from extraction.job import extract

    weights = shared_data / "weights" / "mobilenetv2_100_tf2ptq_fp16.safetensors"
    fresh = _fresh(cassandra, cassandra_settings, tmp_path_factory).replace(
        model=f"file:{weights}:torchvision/mobilenet_v2_tf"
    )
    with Store.open(fresh) as opened:
        ingested = ingest(fresh, opened, shared_data / "grocery")
        extracted = extract(spark, fresh, opened, model=fresh.model)
        yield Grocery(fresh, opened, extracted.model_id, ingested, extracted)
