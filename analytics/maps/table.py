"""Making the map table: rows in Morton order with their attributes, in one Arrow file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analytics import arrowfile
from analytics.identity import halves
from analytics.maps import columns as attributes
from analytics.maps.columns import Column
from cql.access import blocks
from cql.errors import IntegrityError
from cql.progress import Progress, silent
from cql.records import MapVersion
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
    "trust": "Neighbours kept on the map",
}
_READ = {
    "x": np.float32,
    "y": np.float32,
    "cluster": np.int32,
    **dict.fromkeys(_NUMBERS, np.float32),
}
_BLOCK = 5_000


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
    rows: NDArray[np.intp] = np.lexsort((*halves(images), morton(cells(x), cells(y))))
    return rows


@dataclass(frozen=True, slots=True, eq=False)
class _Points:
    """Stored points as arrays: `images` uint8 (N, 16), N `listings`, `values` by column."""

    images: NDArray[np.uint8]
    listings: list[str]
    values: Mapping[str, NDArray[Any]]


def build(store: Store, version: MapVersion, path: Path, *, progress: Progress = silent) -> None:
    """Write the table of a map from Cassandra, atomically; its rows do not depend on the reader.

    The step that `progress` hears of is called tiles.
    """
    points = _points(store, version, progress)
    images, x, y = points.images, points.values["x"], points.values["y"]
    found = attributes.read(store, points.listings, set(points.listings), progress=progress)
    known, arrays = _measures(store, version, points)
    for column, values in found:
        known.append(column)
        arrays[column.name] = values
    keys = images.view(">u8").astype(np.uint64)
    arrays |= {
        "x": x,
        "y": y,
        "morton": morton(cells(x), cells(y)),
        "rank": _ranks(images),
        "by_image": np.lexsort((keys[:, 1], keys[:, 0])).astype(np.int64),
        "cluster_number": points.values["cluster"],
    }
    for place in range(SOFT):
        arrays[f"soft_cluster_{place}"] = points.values["soft_clusters"][:, place]
        arrays[f"soft_share_{place}"] = points.values["soft_shares"][:, place]
    data: dict[str, pa.Array] = {name: pa.array(values) for name, values in arrays.items()}
    data["image_id"] = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(images), [None, pa.py_buffer(np.ascontiguousarray(images))]
    )
    data["listing_id"] = pa.array(points.listings, pa.string())
    meta = {
        "format": FORMAT,
        "map_id": str(version.map_id),
        "columns": json.dumps([attributes.form(column) for column in known]),
    }
    arrowfile.write(pa.table(data).replace_schema_metadata(meta), path)


def _points(store: Store, version: MapVersion, progress: Progress) -> _Points:
    """All points of a map in table order, read block by block: a record lives for a moment."""
    images: list[bytes] = []
    listings: list[str] = []
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in _READ}
    soft_clusters = [np.empty((0, SOFT), np.int32)]
    soft_shares = [np.empty((0, SOFT), np.float32)]
    for block in blocks(store.points(version.map_id, version.rows_scored), _BLOCK):
        images.append(b"".join(point.image_id.bytes for point in block))
        listings += [point.listing_id for point in block]
        for name, dtype in _READ.items():
            parts[name].append(np.array([getattr(point, name) for point in block], dtype))
        soft_clusters.append(_filled([point.soft_clusters for point in block], -1, np.int32))
        soft_shares.append(_filled([point.soft_shares for point in block], 0.0, np.float32))
        progress("tiles", len(listings), version.rows_scored, "reading points")
    if len(listings) != version.rows_scored:
        raise IntegrityError(
            f"map {version.map_id} must have {version.rows_scored} points, {len(listings)} are "
            "stored: run analyse again"
        )
    keys = np.frombuffer(b"".join(images), np.uint8).reshape(-1, 16)
    values = {
        name: np.concatenate([np.empty(0, dtype), *parts[name]]) for name, dtype in _READ.items()
    }
    values["soft_clusters"] = np.concatenate(soft_clusters)
    values["soft_shares"] = np.concatenate(soft_shares)
    rows = order(values["x"], values["y"], keys)
    return _Points(
        keys[rows],
        [listings[row] for row in rows],
        {name: own[rows] for name, own in values.items()},
    )


def _filled(rows: Sequence[Sequence[float]], missing: float, dtype: Any) -> NDArray[Any]:
    """Rows of at most `SOFT` numbers as (N, SOFT), with `missing` where there are fewer."""
    held = [[*row[:SOFT], *[missing] * (SOFT - len(row))] for row in rows]
    return np.array(held, dtype).reshape(-1, SOFT)


def _measures(
    store: Store, version: MapVersion, points: _Points
) -> tuple[list[Column], dict[str, NDArray[Any]]]:
    clusters = sorted(store.clusters(version.map_id), key=lambda cluster: cluster.cluster)
    numbers = [cluster.cluster for cluster in clusters] + [-1]
    known = [
        Column(
            name="cluster",
            label="Cluster",
            kind="category",
            keys=tuple(str(number) for number in numbers),
            categories=(*(cluster.name for cluster in clusters), "No cluster"),
        )
    ]
    # Numbers ascend but for -1 at the end, which has the first place in the sorted ones.
    places = np.searchsorted([-1, *numbers[:-1]], points.values["cluster"])
    arrays: dict[str, NDArray[Any]] = {
        "cluster": np.where(places > 0, places - 1, len(clusters)).astype(np.float32)
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
        # By the cluster's place among the sorted numbers; -1 has the first one.
        codes = [none, *(none if family[each] is None else family[each] for each in numbers[:-1])]
        arrays["group"] = np.array(codes, np.float32)[places]
    for name, label in _NUMBERS.items():
        if name == "trust" and np.isnan(points.values[name]).all():
            continue  # an older Sightline made the map
        arrays[name] = points.values[name]
        known.append(attributes.number(name, label, arrays[name]))
    return known, arrays


def mixed(images: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """A fixed hash of image ids uint8 (N, 16), evenly spread: uint64 (N,)."""
    keys = np.ascontiguousarray(images).view(">u8").astype(np.uint64)
    found: NDArray[np.uint64] = keys[:, 0] ^ (keys[:, 1] * np.uint64(0x9E3779B97F4A7C15))
    found ^= found >> np.uint64(31)
    found *= np.uint64(0xBF58476D1CE4E5B9)
    found ^= found >> np.uint64(29)
    return found


def _ranks(images: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """A fixed pseudo-random order of image ids uint8 (N, 16), unequal for every row."""
    keys = images.view(">u8").astype(np.uint64)
    ranks = np.empty(len(keys), np.uint32)
    ranks[np.lexsort((keys[:, 1], keys[:, 0], mixed(images)))] = np.arange(len(keys))
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
