"""Listings, images, thumbnails, measures, files and the change log: what is known about photos."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid1

from cassandra.util import datetime_from_uuid1

from cql import statements as cql
from cql.access import PAGE_ROWS, Access, blocks, now, record, values_of
from cql.errors import InputError, NotFoundError
from cql.records import Change, FileState, Image, Listing, Measures, Suggestion, Thumbnail
from cql.taught import line_key

FILE_BUCKETS = 64
CHANGE_SLOTS = 8
_FILE = "source bucket uri state reason listing_id image_id bytes mtime_ns"
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A folder or manifest that was ingested, and how its files ended."""

    source: str
    kind: str
    manifest: str
    files: int
    ready: int
    failed: int
    finished_at: datetime | None = None


class Collection:
    """The part of the store about photos."""

    _access: Access

    # Listings

    def put_listings(self, listings: Iterable[Listing]) -> int:
        """Write listings and note each in the change log; returns how many."""
        written = 0
        for block in blocks(listings, PAGE_ROWS):
            for listing in block:
                if not listing.listing_id:
                    raise InputError("a listing must have an id, got an empty one: name it")
            written += self._access.write(
                cql.PUT_LISTING,
                ((each.listing_id, each.title, dict(each.attributes)) for each in block),
            )
            self._log("listing_changed", ((each.listing_id, None) for each in block))
        return written

    def listing(self, listing_id: str) -> Listing:
        """One listing. NotFoundError."""
        row = self._access.one(cql.LISTING, listing_id)
        if row is None:
            raise NotFoundError(f"no listing has the id {listing_id!r}")
        return record(Listing, row)

    def listings(self, listing_ids: Iterable[str]) -> dict[str, Listing]:
        """The listings of those ids that exist."""
        found = self._access.keyed(cql.LISTINGS_OF, listing_ids)
        return {row.listing_id: record(Listing, row) for row in found}

    def titles_of(self, listing_ids: Iterable[str]) -> dict[str, str]:
        """Titles of the listings of those ids that exist."""
        found = self._access.keyed(cql.TITLES_OF, listing_ids)
        return {row.listing_id: row.title or "" for row in found}

    def iter_listings(self) -> Iterator[Listing]:
        """All listings, in no particular order."""
        for row in self._access.each(cql.LISTINGS):
            yield record(Listing, row)

    # Images

    def put_image(self, image: Image, thumbnail: Thumbnail) -> None:
        """Write one image, as `put_images` does."""
        self.put_images([(image, thumbnail)])

    def put_images(
        self, pairs: Iterable[tuple[Image, Thumbnail]], measures: Iterable[Measures] = ()
    ) -> int:
        """Write images with their thumbnails; returns how many, when all of them are durable.

        `measures` are of the same images, as far as they were taken; they are written first.

        An image that is there keeps the time it was added at. The image row comes after what it
        needs, and its entry in the change log last: whoever was interrupted writes them again.
        """
        self.put_measures(measures)
        written = 0
        for block in blocks(pairs, 256):
            for image, thumbnail in block:
                if thumbnail.image_id != image.image_id:
                    raise InputError(
                        f"the thumbnail must be of image {image.image_id}, "
                        f"it is of {thumbnail.image_id}"
                    )
            images = [image for image, _ in block]
            known = self._access.many(
                cql.IMAGE_ADDED, ((each.listing_id, each.image_id) for each in images)
            )
            added = {rows[0].image_id: rows[0].added_at for rows in known if rows}
            moment = now()
            self._access.write(
                cql.PUT_THUMBNAIL,
                ((each.image_id, each.webp, each.width, each.height) for _, each in block),
            )
            self._access.write(
                cql.PUT_IMAGE_LISTING, ((each.image_id, each.listing_id) for each in images)
            )
            written += self._access.write(
                cql.PUT_IMAGE,
                (
                    values_of(
                        each,
                        cql.IMAGE_COLUMNS,
                        added_at=added.get(each.image_id) or each.added_at or moment,
                    )
                    for each in images
                ),
            )
            self._log("image_added", ((each.listing_id, each.image_id) for each in images))
        return written

    def image(self, image_id: UUID) -> Image:
        """One image. NotFoundError."""
        found = self._access.one(cql.IMAGE_LISTING, image_id)
        row = found and self._access.one(cql.IMAGE, found.listing_id, image_id)
        if not row:
            raise NotFoundError(f"no image has the id {image_id}")
        return record(Image, row)

    def listing_of(self, image_id: UUID) -> str:
        """Id of the listing that an image belongs to. NotFoundError."""
        found = self._access.one(cql.IMAGE_LISTING, image_id)
        if found is None:
            raise NotFoundError(f"no image has the id {image_id}")
        return str(found.listing_id)

    def owners(self, image_ids: Iterable[UUID]) -> dict[UUID, str]:
        """The listing of each image that is there."""
        wanted = list(dict.fromkeys(image_ids))
        found = self._access.many(cql.IMAGE_LISTING, ((each,) for each in wanted))
        return {
            each: str(rows[0].listing_id) for each, rows in zip(wanted, found, strict=True) if rows
        }

    def images_of(self, listing_id: str) -> list[Image]:
        """Images of a listing, by position, then id; empty where there is none."""
        rows = self._access.each(cql.IMAGES_OF, listing_id)
        images = [record(Image, row) for row in rows]
        return sorted(images, key=lambda image: (image.position, image.image_id))

    def iter_images(self) -> Iterator[Image]:
        """All images; those of one listing follow each other."""
        for row in self._access.each(cql.IMAGES):
            yield record(Image, row)

    def thumbnail(self, image_id: UUID) -> Thumbnail:
        """One thumbnail. NotFoundError."""
        row = self._access.one(cql.THUMBNAIL, image_id)
        if row is None:
            raise NotFoundError(f"no thumbnail has the image id {image_id}")
        return record(Thumbnail, row)

    # Measures

    def put_measures(self, measures: Iterable[Measures]) -> int:
        """Write what was measured of images; returns how many. NaN is refused."""
        return self._access.write(cql.PUT_MEASURES, (_measures_row(each) for each in measures))

    def measures(self, listing_id: str, image_id: UUID) -> Measures | None:
        """Measures of one image; None where none were taken."""
        row = self._access.one(cql.MEASURES, listing_id, image_id)
        return None if row is None else record(Measures, row)

    def iter_measures(self) -> Iterator[Measures]:
        """Measures of all images that have them; those of one listing follow each other."""
        for row in self._access.each(cql.ALL_MEASURES):
            yield record(Measures, row)

    def measured(self) -> set[UUID]:
        """Ids of all images that have measures."""
        return {row.image_id for row in self._access.each(cql.MEASURED)}

    def delete_image(self, image_id: UUID) -> None:
        """Remove an image everywhere: features, patches, thumbnail, measures, suggestions, row.

        The index goes last, so that an interrupted delete can be repeated. NotFoundError where
        there is no such image. Decisions about it stay: they are a ledger.
        """
        found = self._access.one(cql.IMAGE_LISTING, image_id)
        if found is None:
            raise NotFoundError(f"no image has the id {image_id}")
        self._delete_images(found.listing_id, [image_id])

    def delete_listing(self, listing_id: str) -> None:
        """Remove a listing with all its images, features and stock. NotFoundError."""
        images = self.images_of(listing_id)
        if not images:
            self.listing(listing_id)
        self._delete_images(listing_id, [image.image_id for image in images])
        self._access.run(cql.DELETE_FEATURES, listing_id)
        self._access.run(cql.DELETE_ALL_PATCHES, listing_id)
        self._access.cas(
            cql.DELETE_STOCK,
            (listing_id,),
            settled=lambda: self._access.serial(cql.STOCK, listing_id) is None,
        )
        self._log("listing_changed", [(listing_id, None)])
        self._access.run(cql.DELETE_LISTING, listing_id)

    def _delete_images(self, listing_id: str, image_ids: list[UUID]) -> None:
        gone = set(image_ids)
        keys = [
            (listing_id, row.model_id, row.image_id)
            for row in self._access.each(cql.FEATURE_KEYS, listing_id)
            if row.image_id in gone
        ]
        self._access.write(cql.DELETE_FEATURE, keys)
        patches = [
            (listing_id, row.model_id, row.image_id)
            for row in self._access.each(cql.PATCH_KEYS, listing_id)
            if row.image_id in gone
        ]
        self._access.write(cql.DELETE_PATCHES, patches)
        self._access.write(cql.DELETE_THUMBNAIL, ((each,) for each in image_ids))
        self._access.write(cql.DELETE_MEASURES, ((listing_id, each) for each in image_ids))
        # The lists by concept first: their keys are known from the suggestions alone.
        suggested = self._access.many(cql.SUGGESTIONS, ((each,) for each in image_ids))
        self._access.write(
            cql.DELETE_SUGGESTION_DAY,
            (line_key(record(Suggestion, row)) for rows in suggested for row in rows),
        )
        self._access.write(cql.DELETE_SUGGESTIONS, ((each,) for each in image_ids))
        self._access.write(cql.DELETE_IMAGE, ((listing_id, each) for each in image_ids))
        self._log("image_deleted", ((listing_id, each) for each in image_ids))
        self._access.write(cql.DELETE_IMAGE_LISTING, ((each,) for each in image_ids))

    # Files and sources

    def put_files(self, states: Iterable[FileState]) -> int:
        """Write the terminal states of files; returns how many."""
        return self._access.write(
            cql.PUT_FILE,
            (values_of(state, _FILE, bucket=_file_bucket(state.uri)) for state in states),
        )

    def files(self, source: str) -> Iterator[FileState]:
        """States of all files of a source, in no particular order."""
        for bucket in range(FILE_BUCKETS):
            for row in self._access.each(cql.FILES, source, bucket):
                yield record(FileState, row)

    def file(self, source: str, uri: str) -> FileState | None:
        """State of one file, or None where the source has no such file."""
        row = self._access.one(cql.FILE, source, _file_bucket(uri), uri)
        return None if row is None else record(FileState, row)

    def put_source(
        self, *, source: str, kind: str, manifest: str, files: int, ready: int, failed: int
    ) -> Source:
        """Note that a source was ingested to its end, now."""
        row = Source(
            source=source,
            kind=kind,
            manifest=manifest,
            files=files,
            ready=ready,
            failed=failed,
            finished_at=now(),
        )
        columns = "source kind manifest files ready failed finished_at"
        self._access.run(cql.PUT_SOURCE, *values_of(row, columns))
        return row

    def sources(self) -> list[Source]:
        """Sources that were ingested to their end, by name."""
        rows = self._access.each(cql.SOURCES)
        return sorted((record(Source, row) for row in rows), key=lambda source: source.source)

    # Change log

    def changes(self, since: datetime, until: datetime) -> Iterator[Change]:
        """Changes in [since, until), oldest first; both must be aware."""
        if since.tzinfo is None or until.tzinfo is None:
            raise InputError("times of the change log must have a time zone: use UTC")
        since, until = since.astimezone(UTC), until.astimezone(UTC)
        start = since.replace(minute=0, second=0, microsecond=0)
        hours = int((until - start) / _HOUR) + 1 if until > since else 0
        # A month of hours at a time keeps the memory bounded and quiet times quick.
        for chunk in blocks((start + count * _HOUR for count in range(hours)), 64):
            keys = [(_hour(at), slot, since, until) for at in chunk for slot in range(CHANGE_SLOTS)]
            found = self._access.many(cql.CHANGES, keys)
            rows = [row for block in found for row in block]
            for row in sorted(rows, key=lambda row: (row.change_id.time, row.change_id.bytes)):
                at = datetime_from_uuid1(row.change_id).replace(tzinfo=UTC)
                yield record(Change, row, at=at)

    def _log(self, kind: str, keys: Iterable[tuple[str, UUID | None]]) -> None:
        def rows() -> Iterator[tuple[object, ...]]:
            for listing_id, image_id in keys:
                change_id = uuid1()
                slot = zlib.crc32(listing_id.encode()) % CHANGE_SLOTS
                hour = _hour(datetime_from_uuid1(change_id))
                yield hour, slot, change_id, kind, listing_id, image_id

        self._access.write(cql.PUT_CHANGE, rows())


def _hour(moment: datetime) -> int:
    return int(moment.strftime("%Y%m%d%H"))


def _measures_row(each: Measures) -> tuple[object, ...]:
    for name in ("sharpness", "brightness", "contrast", "blank", "colour"):
        value = getattr(each, name)
        if not math.isfinite(value):
            raise InputError(f"{name} of image {each.image_id} must be finite, got {value}")
    return values_of(each, cql.MEASURE_COLUMNS)


def _file_bucket(uri: str) -> int:
    return zlib.crc32(uri.encode()) % FILE_BUCKETS
