"""The content-addressed store: bytes kept under their SHA-256, in a folder or a bucket."""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import Any

from cql.errors import InputError, IntegrityError, NotFoundError
from cql.settings import Settings

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Content:
    """Uploads and weights. Writing the same bytes twice changes nothing; nothing is overwritten."""

    def __init__(self, settings: Settings) -> None:
        import fsspec

        self._fs, root = fsspec.core.url_to_fs(settings.content)
        self._root = str(root).rstrip("/")

    def put(self, data: bytes) -> str:
        """Keep the bytes and return their SHA-256 in hex; durable when it returns."""
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(digest)
        if self._fs.exists(path):
            return digest
        self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        draft = f"{path}.{uuid.uuid4().hex}"
        with self._fs.open(draft, "wb") as file:
            file.write(data)
        self._fs.mv(draft, path)
        return digest

    def get(self, digest: str) -> bytes:
        """Read bytes back. NotFoundError; IntegrityError when they do not match their name."""
        path = self._path(digest)
        try:
            with self._fs.open(path, "rb") as file:
                data: bytes = file.read()
        except FileNotFoundError as error:
            raise NotFoundError(f"the content store holds nothing called {digest}") from error
        found = hashlib.sha256(data).hexdigest()
        if found != digest:
            raise IntegrityError(
                f"content {digest} must have that hash, its bytes have {found}: delete the file"
            )
        return data

    def _path(self, digest: Any) -> str:
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise InputError(f"a content name must be 64 hex digits, got {str(digest)[:80]!r}")
        return f"{self._root}/{digest[:2]}/{digest}"
