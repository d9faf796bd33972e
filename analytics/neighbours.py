"""The k-nearest-neighbour graph of a snapshot, exact, through the shard hosts in blocks."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from analytics.search import Searcher
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


def collect(searcher: Searcher, snapshot: Snapshot) -> Collection:
    """Read every row from the hosts."""
    parts = list(searcher.stored(snapshot))
    if not parts:
        empty = np.empty((0, snapshot.dim), np.float32)
        return Collection(empty, np.empty((0, 16), np.uint8), [], np.empty(0, np.int64))
    vectors = np.concatenate([part.vectors for part in parts])
    images = np.concatenate([part.images for part in parts])
    listings = [name for part in parts for name in part.listings]
    # Shards are in listing order within, not between: this order is the same for any sharding.
    place = np.array(
        sorted(range(len(listings)), key=lambda n: (listings[n], images[n].tobytes())), np.int64
    )
    return Collection(vectors[place], images[place], [listings[n] for n in place], place)


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
