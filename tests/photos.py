"""Photos that need no file, with their vectors: what tests and benchmarks write into a store."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cql import codec
from cql.records import Feature, Image, Thumbnail, image_id_of
from cql.store import Store


def photos_of(owners: Sequence[str]) -> list[Image]:
    """A photo for each row, of the listing that owns it; ids depend on listing and row alone."""
    return [
        Image(
            listing_id=own,
            image_id=image_id_of(own, f"hash{row}"),
            uri=f"file:///photos/{row}.jpg",
            content_hash=f"hash{row}",
            width=10,
            height=10,
            format="JPEG",
            bytes=100,
        )
        for row, own in enumerate(owners)
    ]


def put_photos(
    store: Store, model_id: str, photos: Sequence[Image], vectors: NDArray[np.float32]
) -> None:
    """Write photos with their features, float32 (N, D), unit L2 norm, as ingest does."""
    store.put_images(
        (photo, Thumbnail(image_id=photo.image_id, webp=b"x", width=1, height=1))
        for photo in photos
    )
    blobs, crcs = codec.encode(vectors)
    store.put_features(
        Feature(
            listing_id=photo.listing_id,
            model_id=model_id,
            image_id=photo.image_id,
            vector=blob,
            dim=vectors.shape[1],
            crc32c=crc,
        )
        for photo, blob, crc in zip(photos, blobs, crcs, strict=True)
    )
