"""A map on real parts: hosted by Spark, killed, continued, stored in Cassandra, read back."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from analytics import shards
from analytics.analysis import analyse
from analytics.hosts import Hosts
from analytics.making import STEPS
from analytics.steps import KEPT
from analytics.tiles import MapTable, Selection
from cql.settings import ROOT, Settings
from cql.store import Store
from tests.integration.test_search import MODEL, fill, planted

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.service


CHILD = """
import pickle, sys, time
from analytics.analysis import analyse
from cql.store import Store
settings = pickle.loads(bytes.fromhex(sys.argv[1]))
def told(step, *_):
    if step == sys.argv[4]:
        print(step, flush=True)
        time.sleep(60)
with Store.open(settings) as store:
    analyse(None, settings, store, model_id=sys.argv[2], seed=int(sys.argv[3]), progress=told)
"""


def killed_in(step: str, settings: Settings, *, seed: int) -> None:
    """Analyse in a process that waits where a step begins, and is killed (-9) there."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, pickle.dumps(settings).hex(), MODEL, str(seed), step],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == step
        process.kill()
    assert process.returncode == -signal.SIGKILL


def test_a_collection_gets_a_map(spark: SparkSession, settings: Settings, store: Store) -> None:
    vectors, owners = planted()
    images = fill(store, vectors, owners)
    hosts = Hosts(spark, settings, store)
    try:
        hosts.start(shards.build(spark, settings, store, MODEL))
        hosts.ready(90)
        first = analyse(spark, settings, store, model_id=MODEL)
        kept: list[str] = []
        for step in ("layout", "changes"):  # by then all but the map's own row is stored
            killed_in(step, settings, seed=2)
            assert store.live("map") == first.map_id
            assert [version.map_id for version in store.maps()] == [first.map_id]
        made = analyse(
            spark,
            settings,
            store,
            model_id=MODEL,
            seed=2,
            progress=lambda step, _done, _total, message="": (
                kept.append(step) if message == KEPT else None
            ),
        )
        assert kept == [step.name for step in STEPS]
        again = analyse(spark, settings, store, model_id=MODEL, seed=2)
    finally:
        hosts.stop()
    assert made.map_id == again.map_id == store.live("map")
    assert (made.rows, made.rows_scored) == (len(images), len(images))
    points = list(store.points(made.map_id, made.rows_scored))
    assert {point.image_id for point in points} == {image.image_id for image in images}
    page = store.outliers(made.map_id, limit=len(images) + 1)
    scores = [row.score for row in page.rows]
    assert len(scores) == len(images)
    assert scores == sorted(scores, reverse=True)
    assert all(row.reason for row in page.rows)
    clusters = store.clusters(made.map_id)
    assert made.clusters == len(clusters) >= 3
    assert sum(cluster.size for cluster in clusters) == len(images) - made.noise
    table = MapTable.open(settings, store, made.map_id)
    assert table.rows == len(images)
    assert len(table.select(Selection((), {"attr:kind": ("kind 0",)}))) == sum(
        int(own[1:]) % 3 == 0 for own in owners
    )
    assert sorted(table.row_of(image.image_id) for image in images) == list(range(len(images)))
    assert np.isfinite([point.x for point in points]).all()
