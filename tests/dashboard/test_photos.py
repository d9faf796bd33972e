"""Photos by id and uploads, over files of this machine: no service starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from PIL import Image as Pictures

from analytics.request import Request
from cql.errors import InputError, NotFoundError, UnavailableError
from cql.settings import Settings
from cql.wire import Message
from dashboard.photos import Photos
from dashboard.searches import Searches
from tests.dashboard import memory

JPEG = b"\xff\xd8\xff" + bytes(20)


class EngineStore(memory.MemoryStore):
    """Two engines answer to their names."""

    def services(self, role: str) -> list[Any]:
        names = ("gone", "here") if role == "engine" else ()
        return [SimpleNamespace(address=name) for name in names]


class FakePool:
    """The first engine is gone; the second embeds what starts like a JPEG."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def call(self, address: str, method: str, message: Message, *, timeout_s: float) -> Message:
        self.asked.append(address)
        if address == "gone":
            raise UnavailableError("no answer: wait")
        if not message.arrays["image"].tobytes().startswith(b"\xff\xd8"):
            raise InputError("an uploaded picture must decode, this one does not: text")
        vector = np.zeros((1, 16), np.float32)
        vector[0, 0] = 1
        return Message({}, {"vectors": vector})

    def close(self) -> None: ...


@pytest.fixture
def photos(tmp_path: Path) -> Iterator[Photos]:
    store, _ = memory.collection(2, photos=1)
    made = Photos(Settings(data_dir=tmp_path / "data", max_image_mb=1), store)  # type: ignore[arg-type]
    yield made
    made.close()


def at(photos: Photos, uri: str) -> UUID:
    """An image of the store whose photo is at `uri`."""
    images: dict[UUID, Any] = photos._store.images  # type: ignore[attr-defined]
    image_id, image = next(iter(images.items()))
    images[image_id] = replace(image, uri=uri, format="JPEG")
    return image_id


@pytest.mark.parametrize(
    "name", ["a.jpg", "a b.jpg", "a::b.jpg", "50%20.jpg", "a#b?c.jpg", "ü*.jpg"]
)
def test_a_photo_is_read_whatever_its_file_is_called(
    name: str, photos: Photos, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(JPEG)
    found = photos.photo(at(photos, f"file://{tmp_path / name}"))
    assert (found.data, found.media_type) == (JPEG, "image/jpeg")


@pytest.mark.parametrize("uri", ["file:///no/such/file.jpg", "nosuchscheme://x/y.jpg", "file:///"])
def test_a_photo_that_cannot_be_read_is_not_found(uri: str, photos: Photos) -> None:
    with pytest.raises(NotFoundError, match="can no longer be read"):
        photos.photo(at(photos, uri))


def test_a_photo_that_grew_past_the_limit_is_refused(photos: Photos, tmp_path: Path) -> None:
    (tmp_path / "large.jpg").write_bytes(JPEG + bytes(2**20))
    with pytest.raises(InputError, match="raise max_image_mb"):
        photos.photo(at(photos, f"file://{tmp_path / 'large.jpg'}"))


def test_a_file_that_claims_to_be_a_photo_is_shown_as_what_it_is(
    photos: Photos, tmp_path: Path
) -> None:
    path = tmp_path / "really.jpg"
    Pictures.new("RGB", (8, 6)).save(path, "TIFF")
    found = photos.photo(at(photos, f"file://{path}"))
    assert (found.media_type, found.data[8:12]) == ("image/webp", b"WEBP")


@pytest.fixture
def searches(photos: Photos, tmp_path: Path) -> tuple[Searches, FakePool, Path]:
    made, searcher = memory.collection(6)
    store = EngineStore(**vars(made))
    searcher.store = store
    pool = FakePool()
    settings = photos._settings
    found = Searches(settings, store, searcher, photos, pool=pool)  # type: ignore[arg-type]
    return found, pool, tmp_path / "data" / "content"


def kept(content: Path) -> list[bytes]:
    return [path.read_bytes() for path in content.rglob("*") if path.is_file()]


def test_an_upload_is_kept_and_names_its_query(searches: tuple[Searches, FakePool, Path]) -> None:
    asked, pool, content = searches
    found = asked.upload([(JPEG, "two\nlines.jpg")], Request(k=3))
    assert pool.asked == ["gone", "here"]
    assert (found.name, len(found.hits), kept(content)) == ("two lines.jpg", 3, [JPEG])
    again = asked.published(found.query_id, limit=10)
    assert again.uploads == found.uploads
    assert len(again.uploads) == 1
    assert [hit.listing_id for hit in again.hits] == [hit.listing_id for hit in found.hits]


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"", "empty"), (b"<svg onload=alert(1)>", "must decode"), (bytes(2**20 + 1), "at most")],
    ids=["empty", "no picture", "too large"],
)
def test_what_is_no_picture_is_refused_and_not_kept(
    data: bytes, text: str, searches: tuple[Searches, FakePool, Path]
) -> None:
    asked, _, content = searches
    with pytest.raises(InputError, match=text):
        asked.upload([(JPEG, "good.jpg"), (data, "x.jpg")], Request(k=3))
    assert kept(content) == []
