"""Fixtures for every test: one Cassandra and one Spark a session, a fresh keyspace a module.

Tests with a browser come first, then those of the session's Cassandra and Spark, so that the demo
that a browser looks at ends when it is no longer needed. With workers (`-n 2`) one has the browser
and its demo, another the session's Cassandra and Spark; each file of other tests goes to whichever
is free. `--half` chooses tests that may run so, or those that need all processors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from cql.embedded import Cassandra
from cql.jars import fetch
from cql.migrations import migrate
from cql.session import close, connect
from cql.settings import ROOT, Settings
from cql.store import Store
from deploy.cluster import JAVA_OPTIONS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from extraction.ingest import IngestReport
    from extraction.job import ExtractReport

# Java that lives for seconds does not earn back what its second compiler costs: a third of the
# processor time of the tests of Cassandra.
os.environ.setdefault("JDK_JAVA_OPTIONS", JAVA_OPTIONS)

QUICK = "-Dcassandra.test.flush_local_schema_changes=false"
"""For a Cassandra that no test kills: each of 25 tables costs half a second of disk syncs."""

CASSANDRA_HEAP_MB = 512
SPARK_MEMORY_MB = 1024


BROWSER = "tests/browser/"
SERVICES = (
    "tests/cql/",
    "tests/integration/",
    "tests/dashboard/test_services.py",
    "tests/dashboard/test_stocks.py",
    "tests/faults/test_step_kills.py",
)
"""Whose tests use the session's Cassandra; others would start a second one beside it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make test` runs both halves, one after the other."""
    parser.addoption(
        "--half",
        choices=["beside", "alone"],
        help="only tests that may run beside others, or only those that need all processors",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What one worker has alone comes first, then, with workers, files with slow tests."""
    for item in items:
        used = "cassandra" in getattr(item, "fixturenames", ())
        if used and lane(item.nodeid) != SERVICES[0]:
            raise pytest.UsageError(f"{item.nodeid} starts another Cassandra: add it to SERVICES")
    half = config.getoption("half")
    if half is not None:
        other = [item for item in items if _alone(item) != (half == "alone")]
        items[:] = [item for item in items if _alone(item) == (half == "alone")]
        config.hook.pytest_deselected(items=other)
    slow = {lane(item.nodeid) for item in items if item.get_closest_marker("slow")}
    if not hasattr(config, "workerinput"):
        slow = set()  # one process: the order decides nothing, so it stays random
    turns = [BROWSER, SERVICES[0]]
    items.sort(
        key=lambda item: (
            turns.index(own) if (own := lane(item.nodeid)) in turns else len(turns),
            own not in slow,
        )
    )


def _alone(item: pytest.Item) -> bool:
    """Whether a test waits for something that comes too late beside other work."""
    return any(item.get_closest_marker(name) for name in ("browser", "alone"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give whole lanes to workers; the plugin's own groups do nothing with this pytest."""
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Lanes(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return lane(nodeid)

    config.option.loadscopereorder = False  # the order of `pytest_collection_modifyitems` counts
    return Lanes(config, log)


def lane(nodeid: str) -> str:
    """What tests share that one worker runs: an expensive fixture, or their file."""
    path = nodeid.partition("::")[0]
    if path.startswith(BROWSER):
        return BROWSER
    return SERVICES[0] if path.startswith(SERVICES) else path


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
    with Cassandra.start(cassandra_settings, options=[QUICK]) as running:
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
