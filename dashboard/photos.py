"""Pictures by id: photos (re-encoded where no browser shows the format), thumbnails, uploads."""

from __future__ import annotations

import hashlib
import io
from uuid import UUID

from cql.content import Content
from cql.errors import InputError, NotFoundError
from cql.records import Image
from cql.settings import Settings
from cql.store import Store
from dashboard.views import PhotoView
from extraction import photos as files
from extraction.sandbox import Sandbox

MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}
"""Formats that every browser shows, by Pillow's name."""

SHOWN_PX = 4096
"""Longest side of a picture that is encoded again for browsers."""

SIGNATURES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


class Photos:
    """Reads pictures; a caller names an image id or a content hash, never a path."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._content = Content(settings)
        self._sandbox = Sandbox(settings, workers=1)

    def close(self) -> None:
        """End the decoder."""
        self._sandbox.close()

    def photo(self, image_id: UUID) -> PhotoView:
        """The photo itself. NotFoundError when the image is unknown or its file is gone."""
        image = self._store.image(image_id)
        return self._shown(self._read(image), image.format.upper())

    def thumbnail(self, image_id: UUID) -> PhotoView:
        """The stored WebP; immutable, since an image id names its bytes."""
        found = self._store.thumbnail(image_id)
        return PhotoView(data=found.webp, media_type="image/webp", etag=str(image_id))

    def check(self, data: bytes) -> None:
        """InputError for an upload that is empty or larger than `max_image_mb`."""
        limit = self._settings.max_image_mb * 1024 * 1024
        if not data:
            raise InputError(
                "an uploaded picture must have bytes, got an empty file: choose another"
            )
        if len(data) > limit:
            raise InputError(
                f"a picture may have at most {limit:,} bytes, got {len(data):,}: "
                "send a smaller one, or raise max_image_mb"
            )

    def keep(self, data: bytes) -> str:
        """Keep an uploaded picture in the content store and return its SHA-256."""
        self.check(data)
        return self._content.put(data)

    def kept(self, digest: str) -> bytes:
        """An uploaded picture as it was sent, by the SHA-256 that `keep` returned."""
        return self._content.get(digest)

    def upload(self, digest: str) -> PhotoView:
        """An uploaded picture as a browser shows it."""
        return self._shown(self.kept(digest), "")

    def _read(self, image: Image) -> bytes:
        limit = self._settings.max_image_mb * 1024 * 1024
        try:
            data = files.read(image.uri, limit=limit)
        except files.ReadError as error:
            raise NotFoundError(
                f"the photo of image {image.image_id} can no longer be read ({error}): "
                "put the file back, or delete the image"
            ) from error
        if len(data) > limit:
            raise InputError(
                f"the photo of image {image.image_id} has more than {limit:,} bytes: "
                "raise max_image_mb"
            )
        return data

    def _shown(self, data: bytes, kind: str) -> PhotoView:
        media_type = sniffed(data)
        if media_type is None or MEDIA_TYPES.get(kind, media_type) != media_type:
            data, media_type = self._encoded(data), "image/webp"
        return PhotoView(
            data=data, media_type=media_type, etag=hashlib.sha256(data).hexdigest()[:32]
        )

    def _encoded(self, data: bytes) -> bytes:
        picture = self._sandbox.decode(data, detail=SHOWN_PX)
        picture.thumbnail((SHOWN_PX, SHOWN_PX))
        out = io.BytesIO()
        picture.save(out, "WEBP", quality=90, method=2)
        return out.getvalue()


def sniffed(data: bytes) -> str | None:
    """Media type by the first bytes, for the formats that every browser shows; else None."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for start, kind in SIGNATURES if data.startswith(start)), None)
