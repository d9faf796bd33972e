"""Placing new images on a map: `python -m tests.bench.placing [--rows N]`.

A map of N images in 200 groups, its tree grown from the space of the clusters as an analysis grows
it, shards in a host of this process, the rest of the store in memory. Seconds of: the first image
(which reads the map's tree and cuts it), another one, a thousand, a look that finds nothing, and of
a web worker that takes in the thousand.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import cast
from uuid import uuid4, uuid5

import numpy as np

from analytics import clustering
from analytics.hierarchy.grown import Grown, path_of
from analytics.identity import packed
from analytics.making.latecomers import Latecomers
from analytics.maps.appended import Tables
from analytics.search import Searcher
from cql import codec
from cql.records import NAMESPACE, Change, Cluster, Feature, MapPoint, MapVersion
from cql.store import Store
from tests.analytics.conftest import MODEL, World
from tests.bench.vectors import CENTRES, Dataset

SAMPLES, DIMS = 5, 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.placing", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--new", type=int, default=1_000)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        for name, seconds in measured(Path(folder), options.rows, options.dim, options.new):
            sys.stdout.write(f"{name:<40} {seconds:8.2f} s\n")
    return 0


def measured(folder: Path, rows: int, dim: int, new: int) -> list[tuple[str, float]]:
    """Seconds of each piece of the work."""
    count = rows + new + 2
    vectors = np.concatenate(list(Dataset(count, dim, "clustered").chunks()))
    order = np.random.default_rng(1).permutation(count)
    vectors = vectors[order]
    one = World(folder, query_deadline_s=120.0)
    try:
        one.fill(vectors[:rows], [f"l{row // 4:07d}" for row in range(rows)])
        one.host()
        mapped(one, order[:rows] % CENTRES)
        store = cast("Store", one.store)
        live = one.store.live("map")
        assert live is not None
        worker = Tables(one.settings, store)
        with Searcher(one.settings, store) as searcher:
            late = Latecomers(one.settings, store, searcher)
            worker.table(live)
            found = []
            for name, part in (
                ("the first image", vectors[rows : rows + 1]),
                ("another image", vectors[rows + 1 : rows + 2]),
                (f"{new:,} images", vectors[rows + 2 :]),
            ):
                come(one, part)
                found.append((name, timed(late.place)))
                found.append((f"{name}: a worker takes in", timed(lambda: worker.table(live))))
            found.append(("a look that finds nothing", timed(late.place)))
        assert worker.table(live).rows == count
    finally:
        one.close()
    return found


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def mapped(one: World, groups: np.ndarray) -> None:
    """Store and make live a map that has every group of images around a place of its own."""
    rng, count = np.random.default_rng(2), len(groups)
    placed = rng.uniform(-10, 10, (CENTRES, 2))[groups] + rng.normal(scale=0.3, size=(count, 2))
    space = rng.uniform(-9, 9, (CENTRES, DIMS))[groups] + rng.normal(scale=0.4, size=(count, DIMS))
    shown, space = (placed / 24 + 0.5).astype(np.float32), space.astype(np.float32)
    linkage = clustering.grow(space, min_samples=SAMPLES)
    found = clustering.cluster(space, min_samples=SAMPLES, linkage=linkage)
    map_id = uuid4()
    Grown(packed(one.images), space, linkage, SAMPLES).save(path_of(one.settings, map_id))
    one.store.put_points(
        map_id,
        (
            MapPoint(
                image_id=one.images[row], listing_id=one.owners[row], x=float(shown[row, 0]),
                y=float(shown[row, 1]), cluster=int(found.labels[row]), membership=0.5,
                outlier_score=0.5, knn_distance=float(rng.random()), glosh=0.0, trust=1.0,
            )
            for row in range(count)
        ),
    )  # fmt: skip
    one.store.put_clusters(
        Cluster(
            map_id=map_id, cluster=number, cluster_key=uuid4(), size=1, listings=1,
            name=str(number), exemplars=(), x=0.5, y=0.5,
        )
        for number in range(found.count)
    )  # fmt: skip
    snapshot = one.store.snapshot(one.store.pointers["snapshot"])
    one.store.put_map(
        MapVersion(
            map_id=map_id, model_id=MODEL, snapshot_id=snapshot.snapshot_id, rows=count,
            rows_scored=count, clusters=found.count, noise=int((found.labels < 0).sum()), seed=1,
            parameters="{}", quality={"frame_x": 0.0, "frame_y": 0.0, "frame_side": 24.0},
            code_version="bench", created_at=datetime.now(UTC), watermark=snapshot.watermark,
        )
    )  # fmt: skip
    one.store.pointers["map"] = map_id


def come(one: World, vectors: np.ndarray) -> None:
    """New images have features, and the change log tells of them."""
    blobs, crcs = codec.encode(np.ascontiguousarray(vectors))
    for blob, crc in zip(blobs, crcs, strict=True):
        image = uuid5(NAMESPACE, f"late-{len(one.store.log)}")
        listing = f"late-{len(one.store.log)}"
        one.store.features[listing] = [
            Feature(
                listing_id=listing, model_id=MODEL, image_id=image, vector=blob,
                dim=vectors.shape[1], crc32c=crc,
            )
        ]  # fmt: skip
        one.store.log.append(
            Change(
                at=datetime.now(UTC), change_id=uuid4(), kind="feature_added",
                listing_id=listing, image_id=image,
            )
        )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
