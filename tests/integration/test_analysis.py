"""A map on real parts: hosted by Spark, killed, continued, stored in Cassandra, read back."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics import shards
from analytics.analysis import analyse
from analytics.hosting.hosts import Hosts
from analytics.making.latecomers import Latecomers
from analytics.making.plan import STEPS
from analytics.making.resize import resize
from analytics.making.steps import KEPT
from analytics.maps.appended import Tables
from analytics.search import Searcher
from analytics.tiles import MapTable, Selection
from cql import codec
from cql.errors import ConflictError
from cql.records import Feature, Listing, image_id_of
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


def arrived(
    settings: Settings, store: Store, vectors: NDArray[np.float32], twins: list[UUID]
) -> None:
    """Copies of two images and a strange one come: they are on the map, and nothing moved."""
    strange = -vectors[:1]
    blobs, crcs = codec.encode(np.concatenate([vectors, strange]))
    images = [image_id_of("late", f"late-{row}") for row in range(3)]
    store.put_listings([Listing(listing_id="late", title="Late", attributes={"kind": "kind 0"})])
    store.put_features(
        Feature(
            listing_id="late", model_id=MODEL, image_id=image, vector=blob,
            dim=vectors.shape[1], crc32c=crc,
        )
        for image, blob, crc in zip(images, blobs, crcs, strict=True)
    )  # fmt: skip
    live = store.live("map")
    assert live is not None
    moment = [0.0]
    worker = Tables(settings, store, clock=lambda: moment[0])
    before = worker.table(live)
    began = time.monotonic()
    with Searcher(settings, store) as searcher:
        late = Latecomers(settings, store, searcher)
        assert late.place() == 3
        assert late.place() == 0
        assert Latecomers(settings, store, searcher).place() == 0
    assert time.monotonic() - began < 300
    assert worker.table(live, max_age_s=1.0).rows == before.rows
    moment[0] = 2.0
    table = worker.table(live, max_age_s=1.0)
    assert (table.made, table.rows) == (before.rows, before.rows + 3)
    assert np.array_equal(table.placed[: before.rows], before.placed)
    for image, twin in zip(images[:2], twins, strict=True):
        gap = table.placed[table.row_of(image)] - table.placed[table.row_of(twin)]
        assert np.hypot(*gap) < 0.01
    batch = store.placed_batches(live)[0]
    assert (batch.number, batch.first, batch.rows) == (1, 0, 3)
    points = {point.image_id: point for point in store.placed_points(batch)}
    assert set(points) == set(images)
    assert points[images[2]].outlier_score == pytest.approx(1.0)
    assert points[images[0]].trust is None
    # Another engine that counts from the same batch places nothing.
    rival = replace(batch, batch_id=uuid4())
    with pytest.raises(ConflictError):
        store.append_placed(rival, list(points.values()))
    assert store.placed_batches(live) == [batch]
    assert store.placed_points(rival) == []
    store.delete_placed(live)
    assert store.placed_batches(live) == []
    assert store.placed_points(batch) == []
    store.delete_listing("late")


def sized(
    settings: Settings, store: Store, size: int, vectors: dict[UUID, NDArray[np.float32]]
) -> None:
    """Clusters of another size, whose means are those of a loop over their images."""
    base = store.live("map")
    made = resize(settings, store, size)
    assert base != made.map_id == store.live("map")
    own: dict[int, list[NDArray[np.float32]]] = {}
    for point in store.points(made.map_id, made.rows_scored):
        own.setdefault(point.cluster, []).append(vectors[point.image_id])
    own.pop(-1, None)
    means = store.means(made.map_id)
    assert set(means) == set(own) == set(range(made.clusters))
    for number, members in own.items():
        wanted = np.mean(np.array(members, np.float64), axis=0)
        np.testing.assert_allclose(np.frombuffer(means[number], "<f4"), wanted, atol=1e-6)
    assert base in {each.previous for each in store.comparisons(made.map_id)}


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
        arrived(settings, store, vectors[:2], [image.image_id for image in images[:2]])
        known = {image.image_id: own for image, own in zip(images, vectors, strict=True)}
        sized(settings, store, 7, known)
    finally:
        hosts.stop()
    sized(settings, store, 11, known)  # by Cassandra alone
    assert resize(settings, store, None).map_id == made.map_id
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
