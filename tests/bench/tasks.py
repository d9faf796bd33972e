"""What Spark tasks of the benchmarks run. Imports little: each Python worker imports it again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import UUID

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cql import codec
from cql.records import Listing
from tests.bench.vectors import Dataset

MODEL = "bench@1"
FEATURES = (
    "listing_id string, model_id string, image_id string, feature_vector binary, dim int, "
    "dtype string, crc32c bigint"
)
LISTINGS = "listing_id string, title string, attributes map<string,string>"
BEST = "listing_id string, score float"


def feature_rows(
    batches: Iterable[pa.RecordBatch], *, dataset: Dataset, path: Path
) -> Iterator[pa.RecordBatch]:
    """Run in a Spark task: rows of the table `features` for row numbers."""
    vectors = np.load(path, mmap_mode="r")
    for batch in batches:
        rows = batch.column(0).to_numpy()
        if not len(rows):
            continue
        blobs, sums = codec.encode(np.ascontiguousarray(vectors[rows[0] : rows[-1] + 1]))
        owners = dataset.owners[rows]
        count = len(rows)
        images = [str(UUID(bytes=key.tobytes())) for key in dataset.image_keys(rows)]
        yield pa.record_batch(
            [
                pa.array([dataset.listing_id(own) for own in owners]),
                pa.array([MODEL] * count),
                pa.array(images),
                pa.array(blobs, pa.binary()),
                pa.array(np.full(count, dataset.dim, np.int32)),
                pa.array(["float32"] * count),
                pa.array(sums, pa.int64()),
            ],
            names=[name.split()[0] for name in FEATURES.split(", ")],
        )


def listing_rows(
    batches: Iterable[pa.RecordBatch], *, dataset: Dataset
) -> Iterator[pa.RecordBatch]:
    """Run in a Spark task: rows of the table `listings` for listing numbers."""
    for batch in batches:
        found = [listing(dataset, int(number)) for number in batch.column(0).to_numpy()]
        yield pa.record_batch(
            [
                pa.array([each.listing_id for each in found], pa.string()),
                pa.array([each.title for each in found], pa.string()),
                pa.array(
                    [list(each.attributes.items()) for each in found],
                    pa.map_(pa.string(), pa.string()),
                ),
            ],
            names=["listing_id", "title", "attributes"],
        )


def listing(dataset: Dataset, number: int) -> Listing:
    """A listing of a data set; the attribute `kind` is rare for one of a hundred."""
    return Listing(
        listing_id=dataset.listing_id(number),
        title=f"Listing {number}",
        attributes={"kind": "rare" if dataset.rare(number) else "common"},
    )


def best_listings(
    batches: Iterable[pa.RecordBatch], *, query: NDArray[np.float32], k: int
) -> Iterator[pa.RecordBatch]:
    """Score rows (listing_id, feature_vector) and yield the k best listings of the stream.

    Run in a Spark task whose stream holds whole listings, in any order.
    """
    names: list[str] = []
    scores: list[NDArray[np.float32]] = []
    for batch in batches:
        blobs = batch.column(batch.schema.get_field_index("feature_vector")).to_pylist()
        rows = np.frombuffer(b"".join(blobs), "<f4").reshape(-1, len(query))
        scores.append(rows @ query)
        names += batch.column(batch.schema.get_field_index("listing_id")).to_pylist()
    if not names:
        return
    listings, owners = np.unique(np.array(names, object), return_inverse=True)
    best = np.full(len(listings), -np.inf, np.float32)
    np.maximum.at(best, owners, np.concatenate(scores))
    order = np.argsort(-best, kind="stable")[:k]
    yield pa.record_batch(
        [pa.array(listings[order].tolist(), pa.string()), pa.array(best[order])],
        names=["listing_id", "score"],
    )


def drain(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Run in a Spark task: take in every batch and keep nothing."""
    rows = sum(len(batch) for batch in batches)
    yield pa.record_batch([pa.array([rows], pa.int64())], names=["rows"])
