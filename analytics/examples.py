"""From a request to vectors: examples read from Cassandra, listings to leave out or to stay in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from analytics.request import K_MAX, Request, check_examples
from cql import codec
from cql.errors import NotFoundError
from cql.records import Feature
from cql.store import Store


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """`positives` (P, D) and `negatives` (M, D) float32, unit L2 norm.

    `excluded` listings may not be found; `within`: only these may, None: all. `model_id`: of the
    vectors that came from Cassandra, None where all were given.
    """

    positives: NDArray[np.float32]
    negatives: NDArray[np.float32]
    excluded: list[str]
    within: list[str] | None
    model_id: str | None


def resolve(store: Store, request: Request, model_id: str) -> Examples:
    """Read a request's examples. NotFoundError for what is not there, or has no feature yet."""
    owners: dict[str, None] = {}
    features: list[Feature] = []
    if request.listing_id is not None:
        store.listing(request.listing_id)
        owners[request.listing_id] = None
        own = store.features_of(request.listing_id, model_id)
        if not own:
            raise NotFoundError(
                f"listing {request.listing_id} has no feature of model {model_id}: "
                "run extract first"
            )
        features += own
    named = list(dict.fromkeys(request.image_ids))
    features += _features(store, named, model_id, owners)
    against = _features(store, list(dict.fromkeys(request.negatives)), model_id, {})
    given = request.vectors
    dim = features[0].dim if features else (given.shape[1] if given is not None else 0)
    positives = [_decoded(features, dim)] if features else []
    if given is not None:
        check_examples(given, dim)
        positives.append(given)
    return Examples(
        positives=np.concatenate(positives) if len(positives) > 1 else positives[0],
        negatives=_decoded(against, dim) if against else np.empty((0, dim), np.float32),
        excluded=list(owners) if request.exclude else [],
        within=None if request.within is None else _within(store, request.within),
        model_id=model_id if features or against else None,
    )


def _features(
    store: Store, images: Sequence[UUID], model_id: str, owners: dict[str, None]
) -> list[Feature]:
    """Features of images, in order; their listings are added to `owners`."""
    found: list[Feature] = []
    for image_id in images:
        listing_id = store.listing_of(image_id)
        owners[listing_id] = None
        own = [
            each for each in store.features_of(listing_id, model_id) if each.image_id == image_id
        ]
        if not own:
            raise NotFoundError(
                f"image {image_id} has no feature of model {model_id}: run extract first"
            )
        found += own
    return found


def _decoded(features: Sequence[Feature], dim: int) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = codec.decode(
        [feature.vector for feature in features],
        [feature.crc32c for feature in features],
        dim=dim,
    )
    return vectors


def _within(store: Store, query_id: UUID) -> list[str]:
    """Listings of a published query. NotFoundError where they are not all there any more."""
    query = store.query(query_id)
    if query.attempt is None:
        raise NotFoundError(f"query {query_id} has published nothing yet: wait for it")
    return [hit.listing_id for hit in store.hits_of(query, limit=K_MAX)]
