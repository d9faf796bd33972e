"""The tree of a map, kept beside its table: clusters of another size need no new analysis."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analytics import arrowfile, clustering
from analytics.hierarchy import tree
from analytics.hierarchy.tree import Coarse, Curve, Linkage
from analytics.identity import packed
from cql.errors import InputError, IntegrityError, NotFoundError
from cql.progress import Progress, silent, telling
from cql.records import MapVersion
from cql.settings import Settings
from cql.store import Store

log = logging.getLogger(__name__)

FORMAT = "1"


@dataclass(frozen=True, slots=True, eq=False)
class Grown:
    """The space of a map's clusters and the tree grown in it.

    `images` uint8 (N, 16) and `space` float32 (N, E), rows by listing, then image id.
    """

    images: NDArray[np.uint8]
    space: NDArray[np.float32]
    linkage: Linkage
    min_samples: int

    @classmethod
    def open(
        cls, settings: Settings, store: Store, map_id: UUID, *, progress: Progress = silent
    ) -> Grown:
        """Map the file of a map's tree into memory; grown from Cassandra if missing or damaged.

        NotFoundError for a map that does not exist, or was made before spaces were stored.
        """
        version = store.map(map_id)
        path = path_of(settings, map_id)
        try:
            return read(path, version)
        except FileNotFoundError:
            log.info("the tree %s is grown from Cassandra", path.name)
        except (IntegrityError, pa.ArrowException, KeyError, ValueError, OSError) as error:
            log.warning("the tree %s is grown again: %s", path.name, error)
        grown = _stored(store, version, progress)
        progress("tree", len(grown.images), len(grown.images), "writing the tree")
        grown.save(path)
        return grown

    def save(self, path: Path) -> None:
        """Write the file with the sha256 of each column; it appears whole."""
        count = len(self.images)
        fill = [(0, 1 if count else 0)]
        link = self.linkage
        columns: dict[str, NDArray[Any]] = {
            "left": np.pad(link.left, fill),
            "right": np.pad(link.right, fill),
            "distance": np.pad(link.distance, fill),
            "size": np.pad(link.size, fill),
        }
        data: dict[str, pa.Array] = {name: pa.array(values) for name, values in columns.items()}
        data["image_id"] = _wide(self.images, 16)
        data["space"] = _wide(self.space, 4 * self.space.shape[1])
        table = pa.table(data)
        sums = {name: _digest(table[name].chunk(0)) for name in data} if count else {}
        meta = {
            "format": FORMAT,
            "min_samples": str(self.min_samples),
            "dims": str(self.space.shape[1]),
            "sha256": json.dumps(sums),
        }
        arrowfile.write(table.replace_schema_metadata(meta), path)


def path_of(settings: Settings, map_id: UUID) -> Path:
    """Where the tree of a map lies."""
    return settings.data_dir / "maps" / f"{map_id}.tree.arrow"


def read(path: Path, version: MapVersion) -> Grown:
    """Open a file. FileNotFoundError; IntegrityError where it is damaged or of another map."""
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    meta = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    samples = min_samples(version)
    if (meta.get("format"), meta.get("min_samples")) != (FORMAT, str(samples)):
        raise IntegrityError(
            f"{path.name} must be a tree of format {FORMAT} and {samples} samples: delete it"
        )
    count, dims = len(table), int(meta["dims"])
    if count != version.rows_scored:
        raise IntegrityError(f"{path.name} must hold {version.rows_scored} rows: delete it")
    wanted = json.loads(meta["sha256"])
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    for name, column in columns.items():
        if count and _digest(column) != wanted[name]:
            raise IntegrityError(f"{name} of {path.name} does not have its sha256: delete it")

    def raw(name: str, kind: type[Any], width: int) -> NDArray[Any]:
        held = columns[name].buffers()[1] if count else b""
        return np.frombuffer(held, kind)[: count * width].reshape(count, width)

    merges = slice(0, max(0, count - 1))
    plain = {
        name: columns[name].to_numpy(zero_copy_only=True)[merges]
        for name in ("left", "right", "distance", "size")
    }
    return Grown(
        raw("image_id", np.uint8, 16), raw("space", np.float32, dims), Linkage(**plain), samples
    )


def min_samples(version: MapVersion) -> int:
    """Neighbours that the core distances of a map reach to."""
    return int(json.loads(version.parameters).get("min_samples", 5))


class Preview:
    """What sizes would give, answered from one condensed tree: milliseconds for a million rows."""

    def __init__(self, grown: Grown) -> None:
        self.rows = len(grown.images)
        self._coarse = Coarse.of(grown.linkage)
        self._curve: Curve | None = None
        self._flat = not self.rows or not (grown.space != grown.space[0]).any()

    def at(self, size: int) -> tuple[int, float]:
        """Clusters, and the share of rows in none."""
        check(size)
        if self._flat or clustering.together(self.rows, size):
            return (1, 0.0) if self.rows > 1 else (0, 1.0 if self.rows else 0.0)
        clusters, noise, _, _ = self._coarse.at(size)
        return clusters, noise

    def curve(self) -> Curve:
        """What a range of sizes gives."""
        if self._curve is None:
            self._curve = tree.curve(self._coarse)
        return self._curve


def check(size: int) -> None:
    """InputError for a size that no cluster can have."""
    if not 2 <= size <= 10**9:
        raise InputError(
            f"a cluster must have at least 2 images, got {size}: ask for a larger size"
        )


def _stored(store: Store, version: MapVersion, progress: Progress) -> Grown:
    """Grow the tree of a map from the space that its points hold."""
    count = version.rows_scored
    every = telling(store.points(version.map_id, count), progress, "tree", count, "reading points")
    points = sorted(every, key=lambda point: (point.listing_id, point.image_id.bytes))
    if len(points) != version.rows_scored or any(not point.space for point in points):
        raise NotFoundError(
            f"map {version.map_id} does not hold the space of its clusters: run `sightline analyse`"
        )
    images = packed(point.image_id for point in points)
    raw = np.frombuffer(b"".join(point.space for point in points), "<f4")
    space = raw.reshape(len(points), -1) if points else raw.reshape(0, 2)
    samples = min_samples(version)
    progress("tree", len(points), len(points), "growing the tree")
    return Grown(images, space, clustering.grow(space, min_samples=samples), samples)


def _wide(rows: NDArray[Any], width: int) -> pa.Array:
    """Rows of bytes of one width."""
    held = pa.py_buffer(np.ascontiguousarray(rows))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(rows), [None, held])


def _digest(column: pa.Array) -> str:
    width = column.type.bit_width // 8
    return hashlib.sha256(memoryview(column.buffers()[1])[: width * len(column)]).hexdigest()
