"""The rows of a snapshot as the hosts have them, and the graph of their k nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analytics.identity import halves, numbered
from analytics.search import Searcher
from cql import codec
from cql.errors import IntegrityError
from cql.progress import Progress, silent
from cql.records import Snapshot


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

    @property
    def owners(self) -> NDArray[np.int64]:
        """The listing of each row by number, int64 (N,), in the order of their first rows."""
        return numbered(self.listings)[1]


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Each row's k nearest other rows: `rows` int64 (N, K), `scores` float32, descending.

    K = min(k, N - 1); ties are in the order of image ids. `recall`: share of the true neighbours
    that were found for `audited` rows chosen by chance; 1.0 when `exact`. `images` uint8 (N, 16)
    and `marks` uint64 (N,), a hash of each vector, tell later which rows are still the same.
    `data`: fingerprint of the snapshot.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    exact: bool = True
    recall: float = 1.0
    audited: int = 0
    method: str = "exact"
    seed: int = 0
    model_id: str = ""
    data: str = ""
    images: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 16), np.uint8))
    marks: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))

    @property
    def distances(self) -> NDArray[np.float32]:
        """Euclidean distances of the unit vectors, (N, K), ascending."""
        return distances(self.scores)

    @property
    def summary(self) -> str:
        """How it was made, in words."""
        if self.exact:
            return "exact"
        return f"approximate, recall {self.recall:.3f} on {self.audited:,} rows"


def distances(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Euclidean distances of unit vectors that score float32 (...) with each other."""
    gap = np.maximum(0.0, 2.0 - 2.0 * scores.astype(np.float64))
    return np.sqrt(gap).astype(np.float32)


def collect(searcher: Searcher, snapshot: Snapshot, *, progress: Progress = silent) -> Collection:
    """Read every row from the hosts.

    IntegrityError when they hold more or fewer than the snapshot says, InputError for vectors that
    are not finite or not of unit norm: no step that follows meets one.
    """
    vectors = np.empty((snapshot.rows, snapshot.dim), np.float32)
    images = np.empty((snapshot.rows, 16), np.uint8)
    listings: list[str] = []
    for part in searcher.stored(snapshot):
        codec.check(part.vectors)
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
