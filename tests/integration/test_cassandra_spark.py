"""Spark reads and writes real Cassandra: push-down, partition awareness, retries of tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
import pytest

from cql import codec
from cql import spark as engine
from cql.records import Feature
from cql.settings import Settings
from cql.store import Store

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.service

LISTINGS, IMAGES, DIM = 40, 5, 16


@pytest.fixture(scope="module")
def features(store: Store) -> list[Feature]:
    rng = np.random.default_rng(11)
    vectors = rng.normal(size=(LISTINGS * IMAGES, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    blobs, crcs = codec.encode(vectors)
    rows = [
        Feature(
            listing_id=f"L{row // IMAGES:03}",
            model_id="one" if row % IMAGES else "two",
            image_id=uuid4(),
            vector=blob,
            dim=DIM,
            crc32c=crc,
        )
        for row, (blob, crc) in enumerate(zip(blobs, crcs, strict=True))
    ]
    store.put_features(rows)
    return rows


def test_reads_what_the_store_wrote(
    spark: SparkSession, settings: Settings, features: list[Feature]
) -> None:
    rows = engine.read(spark, settings, "features").collect()
    found = {
        (row.listing_id, row.model_id, row.image_id, bytes(row.feature_vector)) for row in rows
    }
    assert found == {(f.listing_id, f.model_id, str(f.image_id), f.vector) for f in features}


def test_pushes_a_clustering_key_down(
    spark: SparkSession, settings: Settings, features: list[Feature]
) -> None:
    frame = engine.read(spark, settings, "features")
    frame = frame.where("listing_id = 'L007' AND model_id = 'one'")
    plan = frame._jdf.queryExecution().executedPlan().toString()
    assert "listing_id" in plan
    scan, _, rest = plan.partition("BatchScan")
    assert "Filter" not in scan  # Spark itself has nothing left to filter
    assert '["listing_id" = ?, L007]' in rest
    assert '["model_id" = ?, one]' in rest
    assert frame.count() == IMAGES - 1


def test_a_spark_partition_holds_whole_listings(
    spark: SparkSession, settings: Settings, features: list[Feature]
) -> None:
    from pyspark.sql import functions as sql

    frame = engine.read(spark, settings, "features").withColumn("part", sql.spark_partition_id())
    parts = frame.groupBy("listing_id").agg(sql.countDistinct("part").alias("n")).collect()
    assert len(parts) == LISTINGS
    assert {row.n for row in parts} == {1}
    assert frame.select("part").distinct().count() > 1


def test_counts_by_listing(
    spark: SparkSession, settings: Settings, features: list[Feature]
) -> None:
    frame = engine.read(spark, settings, "features").groupBy("listing_id").count()
    assert {row["count"] for row in frame.collect()} == {IMAGES}


def test_writes_through_the_connector(
    spark: SparkSession, settings: Settings, store: Store
) -> None:
    frame = spark.createDataFrame(
        [("W1", "first"), ("W2", None)], "listing_id string, title string"
    )
    engine.write(frame, settings, "listings")
    assert store.listing("W1").title == "first"
    assert store.listing("W2").title == ""


def test_runs_python_with_the_checkout_on_its_path(spark: SparkSession) -> None:
    def work(_row: int) -> tuple[str, bool]:
        import sys

        import cql.codec

        archives = any(entry.endswith((".zip", ".jar")) for entry in sys.path)
        return cql.codec.__name__, archives

    assert set(spark.sparkContext.parallelize(range(4), 2).map(work).collect()) == {
        ("cql.codec", False)
    }


def test_tries_a_failed_task_again(spark: SparkSession, tmp_path: Path) -> None:
    flag = str(tmp_path / "seen")

    def fails_once(row: int) -> int:
        import pathlib

        if not pathlib.Path(flag).exists():
            pathlib.Path(flag).touch()
            raise OSError("first try")
        return row

    assert spark.sparkContext.parallelize([5], 1).map(fails_once).collect() == [5]


def test_takes_arrow_both_ways(spark: SparkSession) -> None:
    import pyarrow as pa

    def double(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield pa.RecordBatch.from_arrays([pa.compute.multiply(batch[0], 2)], ["x"])

    frame = spark.range(10).selectExpr("id as x").mapInArrow(double, "x long")
    assert sorted(row.x for row in frame.collect()) == list(range(0, 20, 2))


def test_keeps_the_secret_off_the_command_line(spark: SparkSession, settings: Settings) -> None:
    import psutil

    lines = []
    for child in psutil.Process().children(recursive=True):
        # A child that ends while we look has no command line left.
        with suppress(psutil.NoSuchProcess):
            lines.append(" ".join(child.cmdline()))
    assert any("java" in line for line in lines)
    assert not [line for line in lines if settings.cassandra_password in line]
