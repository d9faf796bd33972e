"""The neighbour graph by Spark tasks over mapped files: the same as by threads in memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from analytics.graph import linking
from analytics.graph.extension import extend
from analytics.graph.linking import link
from cql.progress import CancelledError
from tests.analytics.test_neighbours import blobs, collection, same, some

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.service


@pytest.mark.parametrize("exact", [True, False])
def test_spark_and_threads_make_the_same_graph(
    spark: SparkSession, tmp_path: Path, exact: bool
) -> None:
    vectors = blobs(9000)
    vectors[100:120] = vectors[5]
    rows = collection(vectors)
    by_tasks = link(rows, 8, exact=exact, threads=2, spark=spark, folder=tmp_path / "work")
    same(by_tasks, link(rows, 8, exact=exact, threads=2))
    assert list((tmp_path / "work").iterdir()) == []


def test_spark_and_threads_bring_up_to_date_alike(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = collection(blobs(3000))
    old = link(some(every, np.arange(2950)), 6, exact=False)
    monkeypatch.setattr(linking, "EXACT", 0.0)
    by_tasks = extend(old, every, threads=2, spark=spark, folder=tmp_path)
    same(by_tasks, extend(old, every, threads=2))


def test_cancelled_tasks_leave_no_files(spark: SparkSession, tmp_path: Path) -> None:
    def stop(step: str, done: int, total: int, message: str = "") -> None:
        if message == "search":
            raise CancelledError("stop")

    with pytest.raises(CancelledError):
        link(
            collection(blobs(3000)), 5, exact=False, threads=2, spark=spark, folder=tmp_path,
            progress=stop,
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []
