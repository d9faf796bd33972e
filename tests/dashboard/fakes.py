"""Three-line fakes of the services, for tests of the layers above them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from cql.errors import ConflictError, InputError, NotFoundError, UnavailableError
from cql.settings import Settings
from dashboard.views import (
    Check,
    CollectionView,
    HealthView,
    JobView,
    MapRow,
    MapView,
    PhotoView,
    SelectionView,
    VerdictView,
)

IMAGE = UUID("11111111-1111-5111-8111-111111111111")
MAP = UUID("22222222-2222-5222-8222-222222222222")
JOB = UUID("33333333-3333-5333-8333-333333333333")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class FakeServices:
    """Answers that a test can recognise; errors by well-known ids."""

    def __init__(self, settings: Settings, *, ready: bool = True, name: str = "") -> None:
        self.settings = settings
        self.ready = ready
        self.name = name
        self.calls: list[tuple[Any, ...]] = []

    def collection(self) -> CollectionView:
        return CollectionView(
            state="empty", files_ready=0, files_failed=0, sources=(self.name,), model=None,
            snapshot=None, map=None, pending=0, running_jobs=0,
        )  # fmt: skip

    def live_map(self) -> MapView | None:
        return None

    def map(self, map_id: UUID | None = None) -> MapView:
        return MapView(
            map_id=map_id or MAP, model_id="m", snapshot_id=MAP, rows=2, rows_scored=2, clusters=1,
            noise=0, seed=1, quality={}, created_at=NOW, live=map_id is None,
        )  # fmt: skip

    def tile(self, *asked: Any) -> bytes:
        self.calls.append(("tile", *asked))
        return b"tile" * 1000

    def tile_version(
        self, column: str, map_id: UUID, placed: int | None = None, edition: str = ""
    ) -> tuple[str, bool]:
        if column == "cluster":
            return f"{map_id}-decided-3", False
        return f"{map_id}-3", placed == 3

    def rows(self, rows: list[int], map_id: UUID | None = None) -> tuple[MapRow, ...]:
        return tuple(MapRow(row=row, image_id=IMAGE, listing_id="<b>") for row in rows)

    def select(self, selection: Any, **page: Any) -> SelectionView:
        self.calls.append(("select", selection, page))
        return SelectionView(map_id=MAP, count=7, total=9, rows=(), offset=0, next_offset=None)

    def thumbnail(self, image_id: UUID) -> PhotoView:
        if image_id != IMAGE:
            raise NotFoundError(f"no image is called {image_id}: check the id")
        return PhotoView(data=b"RIFFxxxxWEBP", media_type="image/webp", etag=str(image_id))

    def search_upload(self, pictures: list[tuple[bytes, str]], request: Any) -> Any:
        self.calls.append(("upload", [(len(data), name) for data, name in pictures], request))
        raise UnavailableError("no engine is alive: start one")

    def search(self, request: Any) -> Any:
        self.calls.append(("search", request))
        request.check()
        raise InputError("k must be at most 3, got 50: ask for fewer")

    def set_verdict(self, image_id: UUID, verdict: str, **given: Any) -> VerdictView:
        if given["expected_version"] != 0:
            raise ConflictError("version 1 was expected, 2 is stored: reload")
        return VerdictView(image_id=image_id, verdict=verdict, version=1, at=NOW)

    def jobs(self, limit: int) -> tuple[JobView, ...]:
        raise RuntimeError("a bug")

    def changes(self, before: Any, after: Any, *, limit: int) -> None:
        self.calls.append(("changes", before, after, limit))

    def health(self) -> HealthView:
        check = Check(name="snapshot", ok=self.ready, required=True, detail="d", fix="f")
        return HealthView(ready=self.ready, checks=(check,))
