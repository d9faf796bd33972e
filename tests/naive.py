"""Oracles of search: every vector, by plain loops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analytics.neighbours import Graph
from cql import codec
from cql.records import Image
from cql.store import Store


def unit(rng: np.random.Generator, rows: int, dim: int) -> NDArray[np.float32]:
    """Random directions: float32 (rows, dim) of unit L2 norm."""
    vectors = rng.normal(size=(rows, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def low_rank(
    rng: np.random.Generator, rows: int, dim: int, *, rank: int = 8, noise: float = 0.1
) -> NDArray[np.float32]:
    """Rows that a few directions hold most of, as features do: float32 (rows, dim), unit norm."""
    vectors = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, dim)) / dim**0.5
    vectors += noise * rank**0.5 * rng.normal(size=vectors.shape) / dim**0.5
    found: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found.astype(np.float32)


def graph_of(vectors: NDArray[np.float32], k: int) -> Graph:
    """The k nearest other rows of every row, at most N - 1, by all products."""
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -9)
    rows = np.argsort(-scores, axis=1, kind="stable")[:, : max(0, min(k, len(vectors) - 1))]
    return Graph(rows.astype(np.int64), np.take_along_axis(scores, rows, 1).astype(np.float32))


def dot(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    """The score of a pair: float32 of the float64 sum of products in index order."""
    total = 0.0
    for x, y in zip(left.tolist(), right.tolist(), strict=True):
        total += x * y
    return float(np.float32(total))


def listings_among(
    images: Sequence[Image],
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    k: int,
    *,
    without: str = "",
) -> list[tuple[str, str, float]]:
    """The k best listings of these rows, by the best row for the best of the queries (Q, D)."""
    best: dict[str, tuple[float, str]] = {}
    for image, vector in zip(images, vectors, strict=True):
        score, own = max(dot(query, vector) for query in queries), str(image.image_id)
        held = best.get(image.listing_id)
        if held is None or (-score, own) < (-held[0], held[1]):
            best[image.listing_id] = (score, own)
    best.pop(without, None)
    hits = [(listing, own, score) for listing, (score, own) in best.items()]
    return sorted(hits, key=lambda hit: (-hit[2], hit[0]))[:k]


def listings_like(
    store: Store, model_id: str, example: Image, k: int
) -> list[tuple[str, str, float]]:
    """The k best other listings: (listing, winning image, score), from features in Cassandra."""
    vectors = {
        listing.listing_id: [
            (str(feature.image_id), _vector(feature.vector, feature.crc32c, feature.dim))
            for feature in store.features_of(listing.listing_id, model_id)
        ]
        for listing in store.iter_listings()
    }
    query = dict(vectors.pop(example.listing_id))[str(example.image_id)]
    hits = []
    for listing, rows in vectors.items():
        if not rows:
            continue
        score, image = min((-_score(query, vector), image) for image, vector in rows)
        hits.append((listing, image, -score))
    return sorted(hits, key=lambda hit: (-hit[2], hit[0]))[:k]


def _vector(data: bytes, crc: int, dim: int) -> NDArray[np.float32]:
    decoded: NDArray[np.float32] = codec.decode([data], [crc], dim=dim)[0]
    return decoded


def _score(query: NDArray[np.float32], vector: NDArray[np.float32]) -> float:
    return float(np.float32(np.dot(query.astype(np.float64), vector.astype(np.float64))))
