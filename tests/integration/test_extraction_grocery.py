from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from analytics import shards
from analytics.hosting.hosts import Hosts
from analytics.retrieval import knn_accuracy, precision_at_1
from analytics.search import Request, Searcher
from cql import codec
from dashboard import commands
from extraction import models
from tests import naive
from tests.conftest import Grocery

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.service, pytest.mark.shared, pytest.mark.slow]


def test_every_photo_of_the_manifest_is_an_image_with_features(grocery: Grocery) -> None:
    assert (grocery.ingested.files, grocery.ingested.ready) == (2640, 2640)
    images = list(grocery.store.iter_images())
    listings = {image.listing_id for image in images}
    assert (len(images), len(listings)) == (grocery.ingested.images, 559)
    assert grocery.extracted.images == len(images)
    assert grocery.extracted.failed == 0
    for name in sorted(listings)[:20]:
        found = grocery.store.features_of(name, grocery.model_id)
        assert {f.image_id for f in found} == {i.image_id for i in grocery.store.images_of(name)}
        assert set(grocery.store.listing(name).attributes) == {"fine", "coarse"}


def test_features_equal_a_naive_loop_on_a_sample(grocery: Grocery) -> None:
    embedder = models.load(grocery.settings.model, grocery.settings, device="cpu", threads=1)
    for name in ("train-00-000", "train-40-003"):
        for image in grocery.store.images_of(name):
            data = Path(image.uri.removeprefix("file://")).read_bytes()
            expected = embedder.embed([embedder.read(data, grocery.settings)])
            (row,) = [
                feature
                for feature in grocery.store.features_of(name, grocery.model_id)
                if feature.image_id == image.image_id
            ]
            found = codec.decode([row.vector], [row.crc32c], dim=row.dim)
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_retrieval_figures_agree_with_a_naive_computation(grocery: Grocery) -> None:
    vectors, labels = commands.features(grocery.store, grocery.model_id, "fine")
    assert len(vectors) == grocery.ingested.images
    wide = vectors.astype(np.float64)
    right = {1: 0, 5: 0}
    for row, vector in enumerate(wide):
        scores = (wide @ vector).astype(np.float32)
        scores[row] = -np.inf
        order = np.argsort(-scores, kind="stable")
        for k in right:
            voters = [labels[other] for other in order[:k]]
            winner = max(voters, key=lambda label: (voters.count(label), -voters.index(label)))
            right[k] += winner == labels[row]
    # A sum in another order may turn a tie of the float32 scores, in an image or two.
    slack = 2 / len(labels)
    assert abs(precision_at_1(vectors, np.array(labels)) - right[1] / len(labels)) <= slack
    assert abs(knn_accuracy(vectors, np.array(labels), k=5) - right[5] / len(labels)) <= slack
    assert 0.5 < right[5] / len(labels) < 1


def test_search_equals_a_naive_loop_over_all_features(
    spark: SparkSession, grocery: Grocery
) -> None:
    store, settings = grocery.store, grocery.settings.replace(query_deadline_s=60.0)
    snapshot = shards.build(spark, settings, store, grocery.model_id)
    hosts = Hosts(spark, settings, store)
    hosts.start(snapshot)
    try:
        hosts.ready(120)
        with Searcher(settings, store) as searcher:
            for name in ("train-00-000", "train-23-002", "train-80-001"):
                example = store.images_of(name)[0]
                found = searcher.search(Request(image_ids=(example.image_id,), k=20))
                wanted = naive.listings_like(store, grocery.model_id, example, 20)
                assert (found.rows, found.rows_scanned) == (snapshot.rows, snapshot.rows)
                assert [(h.listing_id, str(h.image_id)) for h in found.hits] == [
                    (listing, image) for listing, image, _ in wanted
                ]
                np.testing.assert_allclose(
                    [hit.score for hit in found.hits], [hit[2] for hit in wanted], atol=1e-5
                )
    finally:
        hosts.stop()
