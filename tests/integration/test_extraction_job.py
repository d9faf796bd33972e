from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from cql import codec
from cql import statements as cql
from cql.errors import InputError
from cql.progress import CancelledError
from cql.records import Feature, Image
from cql.settings import Settings
from cql.store import Store
from extraction import models
from extraction.decode import decode
from extraction.features import Photo, Pipeline
from extraction.ingest import ingest
from extraction.job import extract
from tests.extraction.pictures import photo

pytestmark = [pytest.mark.service, pytest.mark.slow]

MODEL = "sightline-small"


def add(folder: Path, numbers: range) -> list[Path]:
    """Photos, all different, of twenty listings whose names have a space."""
    paths = [folder / f"listing {n % 20:02}" / f"{n:03}.jpg" for n in numbers]
    for number, path in zip(numbers, paths, strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(photo(number, width=40 + number, height=220 - number))
    return paths


def vectors(store: Store, model_id: str, images: list[Image]) -> NDArray[np.float32]:
    found = {}
    for listing in {image.listing_id for image in images}:
        for feature in store.features_of(listing, model_id):
            found[feature.image_id] = feature
    rows = [found[image.image_id] for image in images]
    return codec.decode([r.vector for r in rows], [r.crc32c for r in rows], dim=rows[0].dim)


def written(store: Store, settings: Settings) -> dict[object, int]:
    query = f"SELECT image_id, WRITETIME(feature_vector) FROM {settings.keyspace}.features"
    return {row[0]: row[1] for row in store._session.execute(query)}


def test_extraction_equals_a_naive_loop_resumes_and_records_failures(
    store: Store, settings: Settings, spark: SparkSession, tmp_path: Path
) -> None:
    for listing_id in {image.listing_id for image in store.iter_images()}:
        store.delete_listing(listing_id)  # another test's
    add(tmp_path, range(60))
    ingest(settings, store, tmp_path)
    steps: list[tuple[str, int, int, str]] = []
    report = extract(spark, settings, store, model=MODEL, progress=lambda *args: steps.append(args))
    assert (report.present, report.images, report.failed) == (0, 60, 0)
    assert report.rate > 0
    assert sum(report.shares.values()) == pytest.approx(1)
    assert steps[0] == ("plan", 0, 0, MODEL)
    assert steps[-1][:3] == ("extract", 60, 60)
    assert "images/s" in steps[-1][3]
    first = written(store, settings)

    # Of what is added, one file vanishes and one changes before it is computed.
    gone, changed = add(tmp_path, range(60, 100))[:2]
    ingest(settings, store, tmp_path)
    kept = gone.read_bytes(), changed.read_bytes()
    gone.unlink()
    changed.write_bytes(photo(999))
    report = extract(spark, settings, store, model=MODEL)
    assert (report.present, report.images, report.failed) == (60, 38, 2)
    reasons = {Path(f.uri).name: f.reason for f in store.files(f"file://{tmp_path}") if f.reason}
    assert reasons == {
        gone.name: "there is no such file",
        changed.name: "the file has changed since it was ingested: ingest it again",
    }
    # What was there was not computed again.
    assert {key: value for key, value in written(store, settings).items() if key in first} == first

    # The files come back: only they are missing. A run that is cancelled can be repeated.
    gone.write_bytes(kept[0])
    changed.write_bytes(kept[1])
    assert ingest(settings, store, tmp_path, retry=True).ready == 100

    def stop(step: str, done: int, total: int, message: str = "") -> None:
        if step == "extract":
            raise CancelledError("asked to stop")

    with pytest.raises(CancelledError):
        extract(spark, settings, store, model=MODEL, progress=stop)
    report = extract(spark, settings, store, model=MODEL)
    assert report.present >= 98
    assert (report.present + report.images, report.failed) == (100, 0)

    images = sorted(store.iter_images(), key=lambda image: image.uri)
    embedder = models.load(MODEL, settings, device="cpu", threads=1)
    assert report.model_id == embedder.model.model_id
    assert store.model(report.model_id) == embedder.model
    naive = np.concatenate(
        [
            embedder.embed([decode(Path(image.uri.removeprefix("file://")).read_bytes(), settings)])
            for image in images
        ]
    )
    assert len(naive) == 100
    np.testing.assert_allclose(vectors(store, report.model_id, images), naive, atol=1e-5)

    # Regions come with the features. Where only they are missing, only they are written.
    def coded() -> dict[object, NDArray[np.float32]]:
        return {
            each.image_id: np.frombuffer(each.codes, np.int8) * np.float32(each.scale)
            for each in store.iter_patches(report.model_id)
        }

    regions = coded()
    assert set(regions) == {image.image_id for image in images}
    before = written(store, settings)
    lost = [(image.listing_id, report.model_id, image.image_id) for image in images[:3]]
    store._access.write(cql.DELETE_PATCHES, lost)
    # One has what an older version made of it.
    held = {each.image_id: each for each in store.iter_patches(report.model_id)}
    data = bytes(6 * 6 * 48)
    store.put_patches(
        [replace(held[images[3].image_id], codes=data, side=6, dim=48, crc32c=codec.crc32c(data))]
    )
    plain = settings.replace(patches="off")
    assert extract(spark, plain, store, model=MODEL).images == 0
    report = extract(spark, settings, store, model=MODEL)
    assert (report.present, report.images, report.failed) == (96, 4, 0)
    assert (report.had, report.regions, report.fresh) == (100, 4, 0)
    assert store.patched(report.model_id) == 100
    for image_id, found in coded().items():
        np.testing.assert_array_equal(found, regions[image_id])
    assert written(store, settings) == before


def test_a_listing_that_the_store_refuses_fails_alone(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    add(tmp_path, range(100, 112))
    ingest(settings, store, tmp_path)
    embedder = models.load(MODEL, settings, device="cpu", threads=1)
    rows = [
        Photo(image.listing_id, image.image_id, image.uri, image.content_hash)
        for image in store.iter_images()
        if image.uri.startswith(f"file://{tmp_path}")
    ]
    assert len(rows) == 12
    full = rows[0].listing_id
    kept: list[Feature] = []

    def write(features: object) -> None:
        assert isinstance(features, list)
        if any(feature.listing_id == full for feature in features):
            raise InputError("a listing may have so much")
        kept.extend(features)

    heard: list[int] = []
    tally = Pipeline(embedder, settings.replace(batch_size=5), write, threads=2).run(
        rows, done=heard.append
    )
    assert sum(heard) == 12
    expected = [row.image_id for row in rows if row.listing_id != full]
    assert sorted(f.image_id for f in kept) == sorted(expected)
    assert tally.images == len(expected)
    assert {failure.photo.listing_id for failure in tally.failures} == {full}
