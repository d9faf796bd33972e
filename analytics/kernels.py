"""Nearest images of many vectors: a float32 pass with a proven bound, float64 where it matters.

Score of a row: float32 of the float64 sum of products over the stored float32 vectors, summed in
index order. The first pass multiplies in float32, where for any order of summation
|computed - exact| <= gamma |q| |v| with gamma = D u / (1 - D u), u = 2^-24 (Higham, Accuracy and
Stability of Numerical Algorithms, section 3.1). Every row that could reach the result within
that bound is scored again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analytics.identity import halves
from cql.codec import error_bound

if TYPE_CHECKING:
    # The compiler is imported by hosts alone: a web worker starts without it.
    from analytics.scanning.blocks import Block

_ROUNDING = 3e-7
"""Two exact scores of at most 1.01 whose float32 forms are equal differ by less than this."""

_PAIRS = 8192

Map = Callable[[Callable[[int], None], Sequence[int]], object]
"""`map` of a crew, or a plain loop."""


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Best images of each query: `scores` float32 (Q, K), `rows` int64, `images` uint8 (…, 16)."""

    scores: NDArray[np.float32]
    rows: NDArray[np.int64]
    images: NDArray[np.uint8]


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
        order = np.lexsort((*halves(block.images[rows]), -scores, who))
        starts = np.searchsorted(who[order], np.arange(len(part)))
        take = order[starts[:, None] + np.arange(k)]
        done[start] = Images(scores[take], rows[take] + block.base, block.images[rows[take]])

    starts = range(0, len(queries), group)
    for _ in each(run, starts):  # type: ignore[attr-defined]
        pass
    return Images(
        np.concatenate([done[at].scores for at in starts]),
        np.concatenate([done[at].rows for at in starts]),
        np.concatenate([done[at].images for at in starts]),
    )
