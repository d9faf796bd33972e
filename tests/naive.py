"""The oracle of search on a whole collection: every stored vector, one listing at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cql import codec
from cql.records import Image
from cql.store import Store


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
