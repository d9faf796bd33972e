"""The Spark session: local by default, connected to the collection's Cassandra."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cql import jars, java
from cql.errors import UnavailableError
from cql.session import endpoint
from cql.settings import ROOT, Settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

log = logging.getLogger(__name__)

FORMAT = "org.apache.spark.sql.cassandra"
TASK_FAILURES = 4
"""Tries of a task; local mode has one unless told."""
ARROW_ROWS = 2_048
"""Rows of an Arrow batch: 32 MB of vectors at D=4000."""
EXECUTORS_S = 60.0
"""Seconds in which a cluster must give its first executor."""
LOST_S = 30
"""Seconds of silence after which an executor counts as lost; its tasks then run elsewhere."""
_HEARD_S = 10.0
"""Seconds in which the connector must have heard of a table."""
_RESULTS = frozenset({"queries", "query_results", "queries_by_day"})


def session(settings: Settings, *, app: str = "sightline") -> SparkSession:
    """The Spark session of this process, started on the first call.

    Local: cores + shard hosts slots (a resident host keeps its slot for ever), loopback only. A
    `spark_master` runs the same code in a cluster. `pyspark` is imported here, not before.

    Raises:
        UnavailableError: no Java 17, archives missing, or no embedded Cassandra.
    """
    spark = start(settings, app=app)
    point(spark, settings)
    return spark


def start(settings: Settings, *, app: str = "sightline") -> SparkSession:
    """The session without Cassandra's address: it takes seconds, while Cassandra still starts.

    Raises:
        UnavailableError: no Java 17, archives missing, or a cluster without executors.
    """
    os.environ["JAVA_HOME"] = str(java.java_home())
    os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    if not settings.spark_master:
        os.environ["PYSPARK_PYTHON"] = sys.executable
    # The executors of a cluster may have theirs elsewhere.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.appName(app)
    place = _cluster(settings) if settings.spark_master else _local(settings)
    for key, value in {**_common(settings), **place}.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    if settings.spark_master:
        await_executors(spark, settings)
    return spark


def await_executors(spark: SparkSession, settings: Settings) -> int:
    """Wait for an executor for each shard host, so that Spark can spread them; returns how many.

    Fewer within `EXECUTORS_S` are enough. UnavailableError for none.
    """
    context = spark.sparkContext._jsc.sc()  # noqa: SLF001 - PySpark shows no executors
    deadline = time.monotonic() + EXECUTORS_S
    found = 0
    while found < settings.shard_hosts and time.monotonic() < deadline and not context.isStopped():
        found = int(context.getExecutorMemoryStatus().size()) - 1  # one is the driver
        time.sleep(0.1)
    if found == 0:
        spark.stop()
        raise UnavailableError(
            f"{settings.spark_master} must give an executor of {settings.spark_memory_mb} MiB "
            f"within {EXECUTORS_S:.0f} s, it gave none: check the address, and that its workers "
            "have free cores and memory"
        )
    if found < settings.shard_hosts:
        log.warning("%d shard hosts share %d executors", settings.shard_hosts, found)
    return found


def point(spark: SparkSession, settings: Settings) -> None:
    """Tell a started session where Cassandra is. UnavailableError while the embedded one is not."""
    target = endpoint(settings)
    # Not in the configuration of `start`: that one becomes the command line of the Java process.
    for key, value in {
        "spark.cassandra.connection.host": ",".join(target.hosts),
        "spark.cassandra.connection.port": str(target.port),
        "spark.cassandra.connection.localDC": target.datacenter,
        **({"spark.cassandra.auth.username": target.user} if target.user else {}),
        **({"spark.cassandra.auth.password": target.password} if target.user else {}),
    }.items():
        spark.conf.set(key, value)


def read(spark: SparkSession, settings: Settings, table: str) -> DataFrame:
    """A table of the collection as a frame: lazy, filters on keys are pushed down.

    A Spark partition is a range of tokens, so it holds whole Cassandra partitions (listings). The
    connector hears of new tables a moment after they are there: it is waited for.
    """
    from pyspark.errors import AnalysisException

    deadline = time.monotonic() + _HEARD_S
    while True:
        try:
            return spark.read.format(FORMAT).options(**_where(settings, table)).load()
        except AnalysisException as error:
            if "Couldn't find" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def write(frame: DataFrame, settings: Settings, table: str) -> None:
    """Insert all rows of a frame (columns by name); a row that is there is overwritten."""
    frame.write.format(FORMAT).options(**_where(settings, table)).mode("append").save()


def _where(settings: Settings, table: str) -> dict[str, str]:
    keyspace = settings.results_keyspace if table in _RESULTS else settings.keyspace
    return {"keyspace": keyspace, "table": table}


def _common(settings: Settings) -> dict[str, str]:
    cores = settings.cores or os.cpu_count() or 1
    return {
        "spark.driver.memory": f"{settings.spark_memory_mb}m",
        "spark.scheduler.mode": "FAIR",  # the resident hosts must not hold up other jobs
        "spark.sql.extensions": "com.datastax.spark.connector.CassandraSparkExtensions",
        "spark.sql.catalog.cassandra": "com.datastax.spark.connector.datasource.CassandraCatalog",
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(max(4, 2 * cores)),
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(ARROW_ROWS),
        "spark.cassandra.input.consistency.level": "LOCAL_QUORUM",
        "spark.cassandra.output.consistency.level": "LOCAL_QUORUM",
        # A null in a frame means "not known", and a null in Cassandra is a tombstone.
        "spark.cassandra.output.ignoreNulls": "true",
        "spark.cassandra.connection.keepAliveMS": "60000",
        # The pages of a driver have no login and tell every setting.
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.python.daemon.module": "cql.daemon",
        "spark.executorEnv.PYTHONPATH": str(ROOT),
    }


def _local(settings: Settings) -> dict[str, str]:
    cores = settings.cores or os.cpu_count() or 1
    scratch = _folder(settings.data_dir / "spark")
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    return {
        "spark.master": f"local[{cores + settings.shard_hosts},{TASK_FAILURES}]",
        "spark.default.parallelism": str(cores),
        # Local mode offers slots again only when a task ends, and a resident host never ends: a
        # task that waited for a better place would wait for ever.
        "spark.locality.wait": "0s",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.local.dir": str(scratch),
        "spark.sql.warehouse.dir": (scratch / "warehouse").as_uri(),
        "spark.driver.extraClassPath": jars.classpath(settings, "spark"),
        "spark.driver.extraJavaOptions": (
            f"{_java_options(settings)} "
            f'-XX:+UseSerialGC "-Djava.io.tmpdir={scratch}" -Djava.net.preferIPv4Stack=true'
        ),
    }


def _cluster(settings: Settings) -> dict[str, str]:
    paths = jars.classpath(settings, "spark").split(":")
    return {
        "spark.master": settings.spark_master,
        "spark.executor.memory": f"{settings.spark_memory_mb}m",
        "spark.task.maxFailures": str(TASK_FAILURES),
        "spark.jars": ",".join(Path(path).as_uri() for path in paths),
        "spark.driver.extraJavaOptions": _java_options(settings),
        # A machine that vanishes says no word; by default Spark waits three minutes for it.
        "spark.executor.heartbeatInterval": "5s",
        "spark.storage.blockManagerHeartbeatTimeoutMs": str(1000 * LOST_S),
        "spark.network.timeoutInterval": "5s",
    }


def _java_options(settings: Settings) -> str:
    logs = _folder(settings.data_dir / "logs")
    config = Path(__file__).with_name("log4j2.xml").as_uri()
    return f'-Dlog4j2.configurationFile={config} "-Dsightline.logs={logs}" -Xss4m'


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
