"""Exact scores at BLAS speed: a float32 pass with a proven bound, float64 where it matters.

Score of a row: float32 of the float64 sum of products over the stored float32 vectors, summed in
index order. The first pass multiplies in float32, where for any order of summation
|computed - exact| <= gamma |q| |v| with gamma = D u / (1 - D u), u = 2^-24 (Higham, Accuracy and
Stability of Numerical Algorithms, section 3.1). Every row that could reach the result within
that bound is scored again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cql.codec import NORM_TOLERANCE

_ROUNDING = 3e-7
"""Two exact scores of at most 1.01 whose float32 forms are equal differ by less than this."""

_PAIRS = 8192
_CHUNK = 16_384

Map = Callable[[Callable[[int], None], Sequence[int]], object]
"""`map` of a thread pool, or a plain loop."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """An opened shard. Rows are ordered by (listing, image id); a listing is never empty.

    `vectors` float32 (N, D), `offsets` int64 (L + 1): listing l owns rows offsets[l] to
    offsets[l + 1]; `listings`: L ids ascending; `images` uint8 (N, 16); `base`: row number in the
    snapshot of the first row; `number`: of the shard.
    """

    number: int
    base: int
    vectors: NDArray[np.float32]
    offsets: NDArray[np.int64]
    listings: pa.Array
    images: NDArray[np.uint8]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.vectors.shape[0])

    def find(self, listing_id: str) -> int:
        """Index of a listing, or -1."""
        low, high = 0, len(self.listings)
        while low < high:
            middle = (low + high) // 2
            if self.listings[middle].as_py() < listing_id:
                low = middle + 1
            else:
                high = middle
        held = low < len(self.listings) and self.listings[low].as_py() == listing_id
        return low if held else -1


@dataclass(frozen=True, slots=True, eq=False)
class Listings:
    """Best listings: `scores` float32 (K,) descending, ties by id; `images` uint8 (K, 16) won."""

    scores: NDArray[np.float32]
    ids: list[str]
    images: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Best images of each query: `scores` float32 (Q, K), `rows` int64, `images` uint8 (…, 16)."""

    scores: NDArray[np.float32]
    rows: NDArray[np.int64]
    images: NDArray[np.uint8]


def error_bound(dim: int) -> float:
    """Return the most by which a float32 dot product of two vectors of the norm allowed can err."""
    unit = dim * 2.0**-24
    return 1.01 * unit / (1 - unit) * (1 + NORM_TOLERANCE) ** 2


def exact(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score pairs: float32 (P, D) and (P, D) -> float32 (P,), float64 sums in index order."""
    scores = np.empty(len(left), np.float32)
    for start in range(0, len(left), _PAIRS):
        part = slice(start, start + _PAIRS)
        # Transposed, so that each step adds one contiguous product to every sum: the order of
        # additions within a sum is that of a plain loop, for every P.
        a = np.ascontiguousarray(left[part].T, np.float64)
        b = np.ascontiguousarray(right[part].T, np.float64)
        total = np.zeros(a.shape[1])
        for x, y in zip(a, b, strict=True):
            total += x * y
        scores[part] = total
    return scores + np.float32(0)  # -0 becomes 0: Cassandra's float order tells them apart


def best_listings(
    blocks: Sequence[Block],
    queries: NDArray[np.float32],
    k: int,
    *,
    excluded: Sequence[str] = (),
    each: Map = map,
) -> Listings:
    """Find the k best listings: queries float32 (Q, D); a row scores its maximum over the queries.

    A listing scores its best row; of equal rows the smallest image id wins.
    """
    slack = 2 * error_bound(queries.shape[1]) + _ROUNDING
    rough = [_rough(block, queries, each) for block in blocks]
    tops = [_tops(block, rows, excluded) for block, rows in zip(blocks, rough, strict=True)]
    found: list[tuple[float, str, bytes]] = []
    threshold = _kth(np.concatenate(tops) if tops else np.empty(0, np.float32), k) - slack
    for block, rows, top in zip(blocks, rough, tops, strict=True):
        chosen = np.flatnonzero((top >= threshold) & (top > -np.inf))
        found += _settle(block, queries, rows, top, chosen, slack=slack, k=k)
    found.sort(key=lambda hit: (-hit[0], hit[1]))
    del found[k:]
    images = np.frombuffer(b"".join(hit[2] for hit in found), np.uint8).reshape(-1, 16)
    scores = np.array([hit[0] for hit in found], np.float32)
    return Listings(scores, [hit[1] for hit in found], images)


def best_images(
    blocks: Sequence[Block], queries: NDArray[np.float32], k: int, *, each: Map = map
) -> Images:
    """Find the k best images of each query; ties by image id. K = min(k, rows of the blocks)."""
    parts = [_nearest(block, queries, k, each) for block in blocks]
    return merge_images(parts, len(queries), k)


def merge_images(parts: Sequence[Images], queries: int, k: int) -> Images:
    """Merge results of the same queries over different rows into the k best of all."""
    if not parts:
        empty = np.empty((queries, 0))
        return Images(
            empty.astype(np.float32), empty.astype(np.int64), np.empty((queries, 0, 16), np.uint8)
        )
    scores = np.concatenate([part.scores for part in parts], axis=1)
    rows = np.concatenate([part.rows for part in parts], axis=1)
    images = np.concatenate([part.images for part in parts], axis=1)
    keys = np.ascontiguousarray(images).view(">u8").astype(np.uint64)
    order = np.lexsort((keys[..., 1], keys[..., 0], -scores), axis=1)[:, :k]
    return Images(
        np.take_along_axis(scores, order, 1),
        np.take_along_axis(rows, order, 1),
        np.take_along_axis(images, order[..., None], 1),
    )


def _chunks(rows: int, size: int = _CHUNK) -> list[int]:
    return list(range(0, rows, size))


def _rough(block: Block, queries: NDArray[np.float32], each: Map) -> NDArray[np.float32]:
    """Score rows in float32, (N,): the maximum over the queries."""
    scores = np.empty(block.rows, np.float32)
    columns = np.ascontiguousarray(queries.T)

    def run(start: int) -> None:
        part = slice(start, start + _CHUNK)
        product = block.vectors[part] @ columns
        scores[part] = product[:, 0] if product.shape[1] == 1 else product.max(axis=1)

    for _ in each(run, _chunks(block.rows)):  # type: ignore[attr-defined]
        pass
    return scores


def _tops(block: Block, rows: NDArray[np.float32], excluded: Sequence[str]) -> NDArray[np.float32]:
    top = np.maximum.reduceat(rows, block.offsets[:-1]) if len(rows) else np.empty(0, np.float32)
    for listing_id in excluded:
        at = block.find(listing_id)
        if at >= 0:
            top[at] = -np.inf
    return top


def _kth(values: NDArray[np.float32], k: int) -> float:
    if len(values) <= k:
        return -np.inf
    return float(np.partition(values, len(values) - k)[len(values) - k])


def _settle(
    block: Block,
    queries: NDArray[np.float32],
    rough: NDArray[np.float32],
    top: NDArray[np.float32],
    chosen: NDArray[np.intp],
    *,
    slack: float,
    k: int,
) -> Iterator[tuple[float, str, bytes]]:
    """Score the chosen listings exactly; yield the k best of this block."""
    if len(chosen) == 0:
        return
    starts, ends = block.offsets[chosen], block.offsets[chosen + 1]
    sizes = ends - starts
    owner = np.repeat(np.arange(len(chosen)), sizes)
    rows = np.arange(sizes.sum()) + np.repeat(starts - (np.cumsum(sizes) - sizes), sizes)
    keep = rough[rows] >= top[chosen][owner] - slack
    owner, rows = owner[keep], rows[keep]
    scores = np.full(len(rows), -np.inf, np.float32)
    for start in range(0, len(rows), _PAIRS):
        part = slice(start, start + _PAIRS)
        vectors = block.vectors[rows[part]]
        for query in queries:
            pair = exact(vectors, np.broadcast_to(query, vectors.shape))
            np.maximum(scores[part], pair, out=scores[part])
    # Rows of a listing lie in image id order: the first of the largest has the smallest id.
    best = np.lexsort((rows, -scores, owner))
    first = np.r_[True, np.diff(owner[best]) > 0]
    winners = best[first]
    # Listings lie in id order: a stable sort breaks ties by id.
    for at in winners[np.argsort(-scores[winners], kind="stable")[:k]]:
        listing = block.listings[int(chosen[owner[at]])].as_py()
        yield float(scores[at]), listing, block.images[rows[at]].tobytes()


def _nearest(block: Block, queries: NDArray[np.float32], k: int, each: Map) -> Images:
    k = min(k, block.rows)
    slack = 2 * error_bound(queries.shape[1]) + _ROUNDING
    group = max(1, 16_000_000 // max(block.rows, 1))
    done: dict[int, Images] = {}

    def run(start: int) -> None:
        part = queries[start : start + group]
        rough = part @ block.vectors.T
        if k < block.rows:
            cut = np.partition(rough, block.rows - k, axis=1)[:, block.rows - k] - slack
        else:
            cut = np.full(len(part), -np.inf, np.float32)
        who, rows = np.nonzero(rough >= cut[:, None])
        scores = np.empty(len(rows), np.float32)
        for at in range(0, len(rows), _PAIRS):
            pair = slice(at, at + _PAIRS)
            scores[pair] = exact(part[who[pair]], block.vectors[rows[pair]])
        keys = block.images[rows].view(">u8").astype(np.uint64)
        order = np.lexsort((keys[:, 1], keys[:, 0], -scores, who))
        starts = np.searchsorted(who[order], np.arange(len(part)))
        take = order[starts[:, None] + np.arange(k)]
        done[start] = Images(scores[take], rows[take] + block.base, block.images[rows[take]])

    starts = _chunks(len(queries), group)
    for _ in each(run, starts):  # type: ignore[attr-defined]
        pass
    return Images(
        np.concatenate([done[at].scores for at in starts]),
        np.concatenate([done[at].rows for at in starts]),
        np.concatenate([done[at].images for at in starts]),
    )
