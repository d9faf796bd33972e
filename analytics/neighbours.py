"""The k-nearest-neighbour graph of a snapshot, exact, through the shard hosts in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analytics.identity import halves
from analytics.search import Searcher
from cql.errors import IntegrityError
from cql.progress import Progress, silent
from cql.records import Snapshot

_BLOCK = 512


@dataclass(frozen=True, slots=True, eq=False)
class Collection:
    """All rows of a snapshot in canonical order (listing id, image id), however it is sharded.

    `vectors` float32 (N, D), `images` uint8 (N, 16), N `listings`; row n is row `place[n]` of the
    snapshot.
    """

    vectors: NDArray[np.float32]
    images: NDArray[np.uint8]
    listings: list[str]
    place: NDArray[np.int64]

    def image_id(self, row: int) -> UUID:
        """Image id of a row."""
        return UUID(bytes=self.images[row].tobytes())


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Each row's k nearest other rows: `rows` int64 (N, K), `scores` float32, descending.

    K = min(k, N - 1); ties are in the order of image ids.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]

    @property
    def distances(self) -> NDArray[np.float32]:
        """Euclidean distances of the unit vectors, (N, K), ascending."""
        gap = np.maximum(0.0, 2.0 - 2.0 * self.scores.astype(np.float64))
        return np.sqrt(gap).astype(np.float32)


def collect(searcher: Searcher, snapshot: Snapshot, *, progress: Progress = silent) -> Collection:
    """Read every row from the hosts. IntegrityError when they hold more or fewer than it says."""
    vectors = np.empty((snapshot.rows, snapshot.dim), np.float32)
    images = np.empty((snapshot.rows, 16), np.uint8)
    listings: list[str] = []
    for part in searcher.stored(snapshot):
        span = slice(len(listings), len(listings) + len(part.listings))
        listings += part.listings
        if len(listings) <= snapshot.rows:
            vectors[span], images[span] = part.vectors, part.images
        progress("collect", len(listings), snapshot.rows)
    if len(listings) != snapshot.rows:
        raise IntegrityError(
            f"all {snapshot.rows} rows must be read, {len(listings)} were: try again"
        )
    # Shards are in listing order within, not between: this order is the same for any sharding.
    place = np.lexsort((*halves(images), codes(listings)[1])).astype(np.int64)
    return Collection(vectors[place], images[place], [listings[n] for n in place], place)


def codes(listings: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Distinct listing ids in order, and for each row the number of its own: int64 (N,)."""
    coded = pa.array(listings, pa.string()).dictionary_encode()
    names: list[str] = coded.dictionary.to_pylist()
    ordered = sorted(range(len(names)), key=names.__getitem__)
    rank = np.empty(len(names), np.int64)
    rank[ordered] = np.arange(len(names))
    return [names[n] for n in ordered], rank[coded.indices.to_numpy(zero_copy_only=False)]


def graph(
    searcher: Searcher,
    snapshot: Snapshot,
    rows: Collection,
    k: int,
    *,
    block: int = _BLOCK,
    progress: Progress = silent,
) -> Graph:
    """Find the k nearest other images of every row."""
    count = len(rows.listings)
    k = max(0, min(k, count - 1))
    near, scores = np.empty((count, k), np.int64), np.empty((count, k), np.float32)
    back = np.empty(count, np.int64)
    back[rows.place] = np.arange(count)
    for start in range(0, count, block):
        part = slice(start, min(start + block, count))
        # One more than asked: the row itself is among them, unless k + 1 equal rows go before it.
        found = searcher.neighbours(rows.vectors[part], k + 1, snapshot=snapshot)
        own = back[found.rows] == np.arange(part.start, part.stop)[:, None]
        keep = np.argsort(own, axis=1, kind="stable")[:, :k]
        near[part] = np.take_along_axis(back[found.rows], keep, 1)
        scores[part] = np.take_along_axis(found.scores, keep, 1)
        progress("neighbours", part.stop, count)
    return Graph(near, scores)
