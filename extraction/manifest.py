"""Which photo belongs to which listing: from a folder tree, or from a CSV or Parquet manifest.

Folder tree: the listing of a photo is its folder's path below the root; a photo that lies in the
root itself is a listing of its own, named like the file.

Manifest: columns `listing_id` and `path` (a URL, absolute, or below the photos folder); optional
`pos` or `position` (order in the listing), `title`, `stock` (whole number for sale). Every other
column becomes a text attribute of the listing; of several rows the first value that is not empty
counts.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from cql.errors import InputError
from cql.records import Listing
from extraction import photos
from extraction.photos import Facts, Ignored

NAMES = ("listings.csv", "listings.parquet")
"""Manifests that are found by themselves at the top of a photos folder."""

REQUIRED = ("listing_id", "path")
_POSITION = ("pos", "position")
_LONGEST_ID = 1000
_LONGEST_PATH = 4000


@dataclass(frozen=True, slots=True)
class Entry:
    """One file to ingest. `key` names its state: its URL; for a second listing URL#listing=<id>."""

    key: str
    uri: str
    listing_id: str
    position: int
    facts: Facts | None = None
    problem: str = ""


@dataclass(slots=True)
class Collection:
    """What a source says: its files in order, its listings, its stock, and what it passes over."""

    source: str
    kind: str
    manifest: str = ""
    entries: list[Entry] = field(default_factory=list)
    listings: dict[str, Listing] = field(default_factory=dict)
    stock: dict[str, int] = field(default_factory=dict)
    ignored: Ignored = field(default_factory=Ignored)
    repeated: int = 0


def find(root: str, manifest: str | None) -> str:
    """URL of the manifest to use: the one asked for, else one in the root, else empty."""
    if manifest:
        return photos.url_of(manifest)
    for name in NAMES:
        url = photos.join(root, name)
        try:
            photos.facts_of(url)
        except photos.ReadError:
            continue
        return url
    return ""


def from_folder(root: str) -> Collection:
    """Walk a folder tree. `InputError` when there is no such folder."""
    collection = Collection(source=root, kind="folder")
    counts: dict[str, int] = {}
    for found in photos.walk(root, collection.ignored):
        parent = str(PurePosixPath(found.path).parent)
        listing_id = found.path if parent == "." else parent
        if len(found.path) > _LONGEST_PATH:
            raise InputError(
                f"a path must be at most {_LONGEST_PATH} characters, {found.path[:80]}... has "
                f"{len(found.path)}: shorten it"
            )
        position = counts.get(listing_id, 0)
        counts[listing_id] = position + 1
        collection.entries.append(
            Entry(found.uri, found.uri, listing_id, position, found.facts, found.problem)
        )
        if listing_id not in collection.listings:
            collection.listings[listing_id] = Listing(
                listing_id=listing_id, title=PurePosixPath(listing_id).name
            )
    return collection


def from_manifest(root: str, manifest: str) -> Collection:
    """Read a CSV or Parquet manifest. `InputError` names the first row that breaks a rule."""
    collection = Collection(source=root, kind="manifest", manifest=manifest)
    drafts: dict[str, _Draft] = {}
    owners: dict[str, set[str]] = {}
    for where, row in _rows(manifest):
        listing_id, path = row["listing_id"].strip(), row["path"].strip()
        _check_row(where, listing_id, path)
        draft = drafts.setdefault(listing_id, _Draft())
        draft.add(where, row)
        uri = photos.join(root, path)
        named_by = owners.setdefault(uri, set())
        if listing_id in named_by:
            collection.repeated += 1
            continue
        key = f"{uri}#listing={listing_id}" if named_by else uri
        named_by.add(listing_id)
        position = _whole(where, "pos", _first(row, _POSITION), default=draft.files)
        draft.files += 1
        collection.entries.append(Entry(key, uri, listing_id, position))
    for listing_id, draft in drafts.items():
        collection.listings[listing_id] = Listing(
            listing_id=listing_id, title=draft.title, attributes=draft.attributes
        )
        if draft.stock is not None:
            collection.stock[listing_id] = draft.stock
    return collection


@dataclass(slots=True)
class _Draft:
    """A listing while its rows are read."""

    title: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    stock: int | None = None
    files: int = 0

    def add(self, where: str, row: Mapping[str, str]) -> None:
        self.title = self.title or row.get("title", "").strip()
        stock = row.get("stock", "").strip()
        if stock and self.stock is None:
            self.stock = _whole(where, "stock", stock, default=0)
        for name, value in row.items():
            if name not in _RESERVED and value.strip():
                self.attributes.setdefault(name, value.strip())


_RESERVED = frozenset({*REQUIRED, *_POSITION, "title", "stock"})


def _check_row(where: str, listing_id: str, path: str) -> None:
    if not listing_id or not path:
        missing = "path" if listing_id else "listing_id"
        raise InputError(f"every row of a manifest needs {missing}, {where} has none: fill it in")
    if len(listing_id) > _LONGEST_ID or len(path) > _LONGEST_PATH or "\0" in listing_id + path:
        raise InputError(
            f"listing_id may have {_LONGEST_ID} characters and path {_LONGEST_PATH}, without NUL; "
            f"{where} breaks that: shorten it"
        )


def _first(row: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((row[name].strip() for name in names if row.get(name, "").strip()), "")


def _whole(where: str, column: str, text: str, *, default: int) -> int:
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value < 2**31:
        raise InputError(
            f"{column} must be a whole number from 0 to {2**31 - 1}, {where} has {text!r}: correct "
            "the cell"
        )
    return value


def _rows(manifest: str) -> Iterator[tuple[str, dict[str, str]]]:
    suffix = PurePosixPath(manifest).suffix.lower()
    readers = {".csv": _csv_rows, ".parquet": _parquet_rows, ".pq": _parquet_rows}
    if suffix not in readers:
        raise InputError(
            f"a manifest must be .csv or .parquet, got {manifest}: rename or convert it"
        )
    try:
        photos.facts_of(manifest)
    except photos.ReadError as error:
        raise InputError(f"manifest {manifest}: {error}: check the path") from error
    yield from readers[suffix](manifest)


def _check_columns(manifest: str, columns: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise InputError(
            f"a manifest needs the columns {' and '.join(REQUIRED)}, {manifest} lacks "
            f"{' and '.join(missing)}; it has {', '.join(columns) or 'none'}: rename them"
        )
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise InputError(f"columns of a manifest must differ, {manifest} has two {twice[0]!r}")


def _csv_rows(manifest: str) -> Iterator[tuple[str, dict[str, str]]]:
    import fsspec

    try:
        with fsspec.open(manifest, "r", encoding="utf-8-sig", newline="", expand=False) as file:
            reader = csv.reader(file, strict=True)
            columns = [name.strip() for name in next(reader, [])]
            _check_columns(manifest, columns)
            for cells in reader:
                where = f"line {reader.line_num} of {manifest}"
                if not cells:
                    continue
                if len(cells) != len(columns):
                    raise InputError(
                        f"every row of a manifest needs {len(columns)} cells, {where} has "
                        f"{len(cells)}: quote cells that contain commas"
                    )
                yield where, dict(zip(columns, cells, strict=True))
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{manifest} must be CSV in UTF-8: {error}") from error


def _parquet_rows(manifest: str) -> Iterator[tuple[str, dict[str, str]]]:
    import fsspec
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with fsspec.open(manifest, "rb", expand=False) as file:
            table = pq.ParquetFile(file)
            columns = list(table.schema_arrow.names)
            _check_columns(manifest, columns)
            number = 0
            for batch in table.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield (
                        f"row {number} of {manifest}",
                        {name: _cell(value) for name, value in row.items()},
                    )
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{manifest} must be a Parquet file: {error}") from error


def _cell(value: object) -> str:
    if value is None or value != value:  # noqa: PLR0124 - the test for NaN
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
