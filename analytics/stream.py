"""Streams of feature rows from Spark: cut into whole listings, decoded, checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cql import codec
from cql.errors import InputError, IntegrityError


def cut(batches: Iterable[pa.RecordBatch], shard_rows: int) -> Iterator[pa.Table]:
    """Cut a stream in which listings lie together into tables of whole listings.

    A table has at most `shard_rows` rows unless one listing alone has more.
    """
    held: list[pa.Table] = []  # whole listings
    last: list[pa.Table] = []  # slices of the listing that may go on in the next batch
    name, rows = None, 0
    for batch in batches:
        for part in _runs(batch):
            if part["listing_id"][0].as_py() != name:
                if held and rows + _size(last) > shard_rows:
                    yield pa.concat_tables(held)
                    held, rows = [], 0
                rows += _size(last)
                held.extend(last)
                last = []
                name = part["listing_id"][0].as_py()
            last.append(part)
    if held and rows + _size(last) > shard_rows:
        yield pa.concat_tables(held)
        held = []
    if held or last:
        yield pa.concat_tables(held + last)


def _runs(batch: pa.RecordBatch) -> Iterator[pa.Table]:
    """Slices of a batch that belong to one listing each."""
    table = pa.Table.from_batches([batch])
    names = table["listing_id"].to_numpy(zero_copy_only=False)
    if len(names) == 0:
        return
    starts = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
    for start, end in zip(starts, [*starts[1:], len(names)], strict=True):
        yield table.slice(start, end - start)


def _size(tables: Sequence[pa.Table]) -> int:
    return sum(len(table) for table in tables)


def decode(table: pa.Table, dim: int) -> NDArray[np.float32]:
    """Decode the blobs of a table of features, (N, dim); IntegrityError for one that is damaged."""
    for column, rule in (("dim", dim), ("dtype", "float32")):
        seen = set(table[column].unique().to_pylist())
        if seen - {rule}:
            raise IntegrityError(
                f"{column} of every feature must be {rule}, saw {sorted(map(str, seen))}: "
                "extract again with one model"
            )
    blobs, crcs = table["feature_vector"].to_pylist(), table["crc32c"].to_pylist()
    vectors = codec.decode(blobs, crcs, dim=dim)
    check_vectors(vectors, dim, "stored features")
    return vectors


def uuid_bytes(ids: pa.ChunkedArray | pa.Array) -> NDArray[np.uint8]:
    """Convert N UUID texts to uint8 (N, 16)."""
    text = "".join(ids.to_pylist()).replace("-", "")
    return np.frombuffer(bytes.fromhex(text), np.uint8).reshape(-1, 16)


def check_vectors(vectors: NDArray[Any], dim: int, name: str) -> None:
    """IntegrityError unless `vectors` are float32 (N, dim), finite, of unit norm."""
    if vectors.dtype != np.float32 or vectors.ndim != 2 or vectors.shape[1] != dim:
        raise IntegrityError(
            f"{name}: features must be float32 (N, {dim}), they are {vectors.dtype} "
            f"{vectors.shape}: extract again with the snapshot's model"
        )
    for start in range(0, len(vectors), 16_384):
        try:
            codec.check(vectors[start : start + 16_384])
        except InputError as error:
            raise IntegrityError(f"{name}, from row {start}: {error}") from error
