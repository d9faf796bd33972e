"""`sightline demo` on the real parts: Cassandra dies in the middle of an ingest, then all dies."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from PIL import Image

from cql.settings import Settings
from cql.store import Store
from tests.faults.demos import Demo, jars_dir

PHOTOS = 600
PER_LISTING = 4


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos of a survey")
    random = np.random.default_rng(5)
    for number in range(PHOTOS):
        pixels = random.integers(0, 256, (12, 16, 3), np.uint8)
        path = folder / f"asset-{number // PER_LISTING:03d}" / f"{number % PER_LISTING}.jpg"
        path.parent.mkdir(exist_ok=True)
        # Enough pixels to decode that the ingest takes some seconds.
        Image.fromarray(pixels).resize((1600, 1200)).save(path, quality=80)
    return folder


def newest(demo: Demo, kind: str) -> dict[str, Any]:
    return next(job for job in demo.jobs() if job["kind"] == kind)


def images(data_dir: Path) -> Counter[UUID]:
    settings = Settings(data_dir=data_dir, jars_dir=Path(jars_dir()))
    with Store.open(settings) as store:
        return Counter(image.image_id for image in store.iter_images())


@pytest.mark.service
@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_acknowledged_is_lost_and_nothing_is_there_twice(
    photos: Path, tmp_path: Path
) -> None:
    data_dir = tmp_path / "a collection"
    with Demo(photos, data_dir) as demo:
        url = demo.url()
        refused = demo.second()
        assert refused.returncode == 1
        assert url in refused.stderr
        demo.until(lambda: newest(demo, "ingest")["state"] == "running" and images(data_dir), 240)
        acknowledged = images(data_dir)
        victim = demo.cassandra_pid()
        demo.remember()
        os.kill(victim, signal.SIGKILL)
        assert 0 < len(acknowledged) < PHOTOS, "the kill must fall into the ingest"
        demo.until(lambda: "cassandra died" in demo.said(), 30)
        # It comes back by itself, and what was acknowledged is there before anything is repeated.
        demo.until(lambda: demo.cassandra_pid() != victim and images(data_dir), 180)
        assert set(acknowledged) <= set(images(data_dir))
        demo.remember()
        demo.stop(signal.SIGINT)

    with Demo(photos, data_dir) as demo:
        demo.url()
        demo.until(lambda: newest(demo, "ingest")["state"] in {"done", "failed"}, 300)
        assert newest(demo, "ingest")["state"] == "done", newest(demo, "ingest")["error"]
        found = images(data_dir)
        assert len(found) == PHOTOS
        assert set(found.values()) == {1}
        assert set(acknowledged) <= set(found)
        settings = Settings(data_dir=data_dir, jars_dir=Path(jars_dir()))
        with Store.open(settings) as store:
            (source,) = store.sources()
            assert (source.files, source.ready, source.failed) == (PHOTOS, PHOTOS, 0)
            states = Counter(file.image_id for file in store.files(source.source))
            assert states == Counter(found)
            for image_id in list(found)[::50]:
                assert store.thumbnail(image_id).webp[8:12] == b"WEBP"
        assert demo.remember() >= 4
        demo.stop(signal.SIGKILL)
