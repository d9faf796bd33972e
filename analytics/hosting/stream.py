"""Streams of feature rows from Spark: cut into whole listings, decoded, checked."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analytics.compiler import compiled
from cql import codec
from cql.errors import InputError, IntegrityError

_BLOCK = 256
"""Rows that are compared with their sums, checked and copied while the cache holds them."""

_SURELY = 1.9 * codec.NORM_TOLERANCE
"""A square of a norm that is nearer to 1 than this is of a norm within the tolerance."""


def cut(batches: Iterable[pa.RecordBatch], shard_rows: int) -> Iterator[pa.Table]:
    """Cut a stream in which listings lie together into tables of whole listings.

    A table has at most `shard_rows` rows unless one listing alone has more.
    """
    held: list[pa.Table] = []
    rows = 0
    starts: list[int] = []
    """Rows of `held` at which a listing starts; the last of them may go on in the next batch."""
    name = None
    for batch in batches:
        if not len(batch):
            continue
        names = batch.column(batch.schema.get_field_index("listing_id"))
        runs = pc.run_end_encode(names)
        first = runs.values[0].as_py()
        ends = runs.run_ends.to_numpy()
        if first != name:
            starts.append(rows)
        starts += (rows + ends[:-1]).tolist()
        name = runs.values[-1].as_py()
        held.append(pa.Table.from_batches([batch]))
        rows += len(batch)
        while rows > shard_rows and len(starts) > 1:
            # What is before the last start is whole; of that, as much as a table may hold.
            place = max(1, bisect_right(starts, shard_rows) - 1)
            size = starts[place]
            every = pa.concat_tables(held)
            yield every.slice(0, size)
            held, rows = [every.slice(size)], rows - size
            starts = [start - size for start in starts[place:]]
    if rows:
        yield pa.concat_tables(held)


class Rows:
    """Vectors (N, dim) float32 of a stream, decoded as they come and kept until they are written.

    They take the place of the batches that brought them: these can be reused at once.
    """

    def __init__(self, dim: int, *, room: int) -> None:
        self._held = np.empty((room, dim), np.float32)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in a batch of features; IntegrityError for one that is damaged."""
        dim = self._held.shape[1]
        for column, rule in (("dim", dim), ("dtype", "float32")):
            seen = set(batch.column(column).unique().to_pylist())
            if seen - {rule}:
                raise IntegrityError(
                    f"{column} of every feature must be {rule}, saw {sorted(map(str, seen))}: "
                    "extract again with one model"
                )
        self._make_room(len(batch))
        blobs, crcs = batch.column("feature_vector"), batch.column("crc32c").to_numpy()
        for start in range(0, len(batch), _BLOCK):
            found = _rows(blobs.slice(start, _BLOCK), crcs[start:], dim)
            check_vectors(found, dim, f"stored features from row {start} of a batch")
            self._held[self._count : self._count + len(found)] = found
            self._count += len(found)

    def first(self, count: int) -> NDArray[np.float32]:
        """The first `count` that came: a view, until `drop` or `add`."""
        return self._held[: min(count, self._count)]

    def drop(self, count: int) -> None:
        """Forget the first `count`."""
        left = self._count - count
        self._held[:left] = self._held[count : self._count].copy()
        self._count = left

    def _make_room(self, count: int) -> None:
        needed = self._count + count
        if needed > len(self._held):
            larger = np.empty((needed + needed // 4, self._held.shape[1]), np.float32)
            larger[: self._count] = self._held[: self._count]
            self._held = larger


def _rows(chunk: pa.BinaryArray, crcs: NDArray[np.int64], dim: int) -> NDArray[np.float32]:
    """The vectors of an array of blobs, (N, dim): a view of its memory where that can be."""
    width, sums = 4 * dim, crcs[: len(chunk)].tolist()
    _, places, data = chunk.buffers()
    offsets = np.frombuffer(places, "<i4")[chunk.offset : chunk.offset + len(chunk) + 1]
    if chunk.null_count or (np.diff(offsets) != width).any() or data is None:
        return codec.decode(chunk.to_pylist(), sums, dim=dim)
    first = int(offsets[0])
    found = np.frombuffer(data, "<f4", len(chunk) * dim, first).reshape(-1, dim)
    codec.verify(found, sums)
    return found


def uuid_bytes(ids: pa.ChunkedArray | pa.Array) -> NDArray[np.uint8]:
    """Convert N UUID texts to uint8 (N, 16)."""
    flat = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    # As one text: no object for each.
    (text,) = pc.binary_join(pa.ListArray.from_arrays([0, len(flat)], flat), "").to_pylist()
    return np.frombuffer(bytes.fromhex(text.replace("-", "")), np.uint8).reshape(-1, 16)


def check_vectors(vectors: NDArray[Any], dim: int, name: str) -> None:
    """IntegrityError unless `vectors` are float32 (N, dim), finite, of unit norm."""
    if vectors.dtype != np.float32 or vectors.ndim != 2 or vectors.shape[1] != dim:
        raise IntegrityError(
            f"{name}: features must be float32 (N, {dim}), they are {vectors.dtype} "
            f"{vectors.shape}: extract again with the snapshot's model"
        )
    for start in range(0, len(vectors), 16_384):
        block = vectors[start : start + 16_384]
        if _are_units(block):
            continue
        try:
            codec.check(block)
        except InputError as error:
            raise IntegrityError(f"{name}, from row {start}: {error}") from error


@partial(compiled, fast=("reassoc", "contract"))
def _are_units(vectors: NDArray[np.float32]) -> bool:
    """Whether `codec.check` would surely find nothing: it takes a third of its time."""
    for row in range(vectors.shape[0]):
        total = 0.0
        for at in range(vectors.shape[1]):
            total += np.float64(vectors[row, at]) * np.float64(vectors[row, at])
        # A NaN or an infinity makes this false.
        if not abs(total - 1) <= _SURELY:
            return False
    return True
