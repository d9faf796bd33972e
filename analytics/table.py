"""Making the map table: rows in Morton order with their attributes, in one Arrow file."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analytics import columns as attributes
from analytics.columns import Column
from cql.errors import IntegrityError
from cql.records import MapPoint, MapVersion
from cql.store import Store

FORMAT = "4"
BITS = 24
"""Bits of a Morton code per axis: as many as the mantissa of float32 has, so cells are exact."""

SOFT = 3
"""Clusters of largest share that the table holds of each row."""

_NUMBERS = {
    "outlier_score": "Outlier score",
    "membership": "Cluster membership",
    "knn_distance": "Distance to neighbours",
}


def morton(x: NDArray[np.integer[Any]], y: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
    """Interleave the bits of cell numbers below 2^24: x in the even bits, y in the odd ones."""
    return _spread(x.astype(np.uint64)) | (_spread(y.astype(np.uint64)) << np.uint64(1))


def cells(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Cell numbers of coordinates in [0, 1): scaling float32 by 2^24 is exact."""
    scaled = np.floor(values.astype(np.float64) * 2**BITS)
    found: NDArray[np.int64] = np.clip(scaled, 0, 2**BITS - 1).astype(np.int64)
    return found


def order(
    x: NDArray[np.float32], y: NDArray[np.float32], images: NDArray[np.uint8]
) -> NDArray[np.intp]:
    """Order of rows in a map: Morton code, then image id (uint8 (N, 16))."""
    keys = np.ascontiguousarray(images).view(">u8").astype(np.uint64)
    rows: NDArray[np.intp] = np.lexsort((keys[:, 1], keys[:, 0], morton(cells(x), cells(y))))
    return rows


def build(store: Store, version: MapVersion, path: Path) -> None:
    """Write the table of a map from Cassandra, atomically; its rows do not depend on the reader."""
    points = list(store.points(version.map_id, version.rows_scored))
    if len(points) != version.rows_scored:
        raise IntegrityError(
            f"map {version.map_id} must have {version.rows_scored} points, {len(points)} are "
            "stored: run analyse again"
        )
    images = np.frombuffer(b"".join(p.image_id.bytes for p in points), np.uint8).reshape(-1, 16)
    x = np.array([point.x for point in points], np.float32)
    y = np.array([point.y for point in points], np.float32)
    rows = order(x, y, images)
    points = [points[row] for row in rows]
    images, x, y = images[rows], x[rows], y[rows]
    found = attributes.read(
        store, [point.listing_id for point in points], {point.listing_id for point in points}
    )
    known, arrays = _measures(store, version, points)
    for column, values in found:
        known.append(column)
        arrays[column.name] = values
    keys = images.view(">u8").astype(np.uint64)
    arrays |= {
        "x": x,
        "y": y,
        "morton": morton(cells(x), cells(y)),
        "rank": _ranks(keys),
        "by_image": np.lexsort((keys[:, 1], keys[:, 0])).astype(np.int64),
        "cluster_number": np.array([point.cluster for point in points], np.int32),
    }
    for place in range(SOFT):
        known_to = [len(point.soft_clusters) > place for point in points]
        pairs = list(zip(points, known_to, strict=True))
        arrays[f"soft_cluster_{place}"] = np.array(
            [point.soft_clusters[place] if has else -1 for point, has in pairs], np.int32
        )
        arrays[f"soft_share_{place}"] = np.array(
            [point.soft_shares[place] if has else 0.0 for point, has in pairs], np.float32
        )
    data: dict[str, pa.Array] = {name: pa.array(values) for name, values in arrays.items()}
    data["image_id"] = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(points), [None, pa.py_buffer(np.ascontiguousarray(images))]
    )
    data["listing_id"] = pa.array([point.listing_id for point in points], pa.string())
    meta = {
        "format": FORMAT,
        "map_id": str(version.map_id),
        "columns": json.dumps([attributes.form(column) for column in known]),
    }
    _write(pa.table(data).replace_schema_metadata(meta), path)


def _measures(
    store: Store, version: MapVersion, points: Sequence[MapPoint]
) -> tuple[list[Column], dict[str, NDArray[Any]]]:
    clusters = sorted(store.clusters(version.map_id), key=lambda cluster: cluster.cluster)
    numbers = [cluster.cluster for cluster in clusters] + [-1]
    codes = {number: code for code, number in enumerate(numbers)}
    known = [
        Column(
            name="cluster",
            label="Cluster",
            kind="category",
            keys=tuple(str(number) for number in numbers),
            categories=(*(cluster.name for cluster in clusters), "No cluster"),
        )
    ]
    arrays: dict[str, NDArray[Any]] = {
        "cluster": np.array([codes[point.cluster] for point in points], np.float32)
    }
    groups = [group for group in store.groups(version.map_id) if group.level == 1]
    if groups:
        # Codes are the groups' numbers, and the one after them for those in none.
        family = {cluster.cluster: cluster.family for cluster in clusters}
        none = len(groups)
        known.append(
            Column(
                name="group",
                label="Cluster group",
                kind="category",
                keys=(*(str(group.number) for group in groups), "-1"),
                categories=(*(group.name for group in groups), "No cluster"),
            )
        )
        codes = {-1: none} | {
            number: none if own is None else own for number, own in family.items()
        }
        arrays["group"] = np.array([codes[point.cluster] for point in points], np.float32)
    for name, label in _NUMBERS.items():
        values = np.array([getattr(point, name) for point in points], np.float32)
        arrays[name] = values
        known.append(attributes.number(name, label, values))
    return known, arrays


def _ranks(keys: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """A fixed pseudo-random order of image ids (N, 2), unequal for every row."""
    mixed = keys[:, 0] ^ (keys[:, 1] * np.uint64(0x9E3779B97F4A7C15))
    mixed ^= mixed >> np.uint64(31)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(29)
    ranks = np.empty(len(keys), np.uint32)
    ranks[np.lexsort((keys[:, 1], keys[:, 0], mixed))] = np.arange(len(keys), dtype=np.uint32)
    return ranks


def _spread(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    for shift, pattern in (
        (16, 0x0000FFFF0000FFFF),
        (8, 0x00FF00FF00FF00FF),
        (4, 0x0F0F0F0F0F0F0F0F),
        (2, 0x3333333333333333),
        (1, 0x5555555555555555),
    ):
        values = (values | (values << np.uint64(shift))) & np.uint64(pattern)
    return values


def _write(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{time.time_ns()}")
    try:
        with draft.open("wb") as file:
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
