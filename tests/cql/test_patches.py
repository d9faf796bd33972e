"""Features of regions: what is refused, what is read back, and what leaves with an image."""

from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

import pytest

from cql import codec
from cql import statements as cql
from cql.errors import InputError, IntegrityError
from cql.records import Image, Listing, Patches, Thumbnail
from cql.store import Store

pytestmark = pytest.mark.service

SHAPE = (2, 5)


def patches(listing_id: str, model_id: str) -> Patches:
    codes = bytes(range(2 * 2 * 5))
    return Patches(
        listing_id=listing_id,
        model_id=model_id,
        image_id=uuid4(),
        codes=codes,
        scale=0.5,
        side=2,
        dim=5,
        crc32c=codec.crc32c(codes),
    )


def image(of: Patches) -> tuple[Image, Thumbnail]:
    made = Image(
        listing_id=of.listing_id, image_id=of.image_id, uri="file:///a", content_hash="a",
        width=1, height=1, format="JPEG", bytes=1,
    )  # fmt: skip
    return made, Thumbnail(image_id=of.image_id, webp=b"x", width=1, height=1)


def test_patches_come_back_by_model_and_leave_with_their_image_or_listing(store: Store) -> None:
    model = f"m@{uuid4().hex}"
    own = [patches("p-1", model), patches("p-1", model), patches("p-2", model)]
    other = patches("p-1", f"{model}-other")
    store.put_listings([Listing(listing_id=name) for name in ("p-1", "p-2")])
    store.put_images([image(each) for each in own])
    assert store.put_patches([*own, other]) == 4
    assert store.put_patches(own) == 3

    def there() -> set[Patches]:
        return set(store.iter_patches(model))

    assert there() == set(own)
    assert store.patched(model, SHAPE) == 3
    assert store.patched(model) == 0, "another shape is none that a map takes in"
    assert store.patched("nobody", SHAPE) == 0
    store.delete_image(own[0].image_id)
    assert there() == set(own[1:])
    store.delete_listing("p-2")
    assert there() == {own[1]}
    store.delete_listing("p-1")
    assert there() == set()
    assert store.patched(other.model_id, SHAPE) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda own: replace(own, crc32c=own.crc32c ^ 1),
        lambda own: replace(own, side=3),
        lambda own: replace(own, dim=4),
        lambda own: replace(own, side=0),
        lambda own: replace(own, scale=float("nan")),
        lambda own: replace(own, scale=-1.0),
    ],
)
def test_patches_that_do_not_fit_are_refused(
    store: Store, wrong: Callable[[Patches], Patches]
) -> None:
    own = patches("p-3", f"m@{uuid4().hex}")
    with pytest.raises(InputError, match="patches of D="):
        store.put_patches([wrong(own)])
    assert store.patched(own.model_id, SHAPE) == 0


def test_damaged_patches_are_noticed_when_they_are_read(store: Store) -> None:
    own = patches("p-4", f"m@{uuid4().hex}")
    store._access.write(
        cql.PUT_PATCHES,
        [(own.listing_id, own.model_id, own.image_id, b"\0" * 20, 1.0, 2, 5, own.crc32c)],
    )
    with pytest.raises(IntegrityError, match="CRC-32C"):
        list(store.iter_patches(own.model_id))
    store._access.run(cql.DELETE_ALL_PATCHES, own.listing_id)
