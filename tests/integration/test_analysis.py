"""A map on real parts: hosted by Spark, stored in Cassandra, read back as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from analytics import shards
from analytics.analysis import analyse
from analytics.hosts import Hosts
from analytics.tiles import MapTable, Selection
from cql.settings import Settings
from cql.store import Store
from tests.integration.test_search import MODEL, fill, planted

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.service


def test_a_collection_gets_a_map(spark: SparkSession, settings: Settings, store: Store) -> None:
    vectors, owners = planted()
    images = fill(store, vectors, owners)
    hosts = Hosts(spark, settings, store)
    try:
        hosts.start(shards.build(spark, settings, store, MODEL))
        hosts.ready(90)
        made = analyse(spark, settings, store, model_id=MODEL)
        again = analyse(spark, settings, store, model_id=MODEL)
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
