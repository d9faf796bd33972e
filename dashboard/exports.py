"""Decisions as files: what is in force for every image, or the whole ledger; streamed.

`csv` and `parquet` have a row an image (or, of the ledger, a row a decision). `coco` is JSON of the
form of COCO (Lin et al., 2014): images, categories, and annotations of whole images, so without
boxes; the ledger is its list `decisions`.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from analytics.decisions.decided import LABEL, PREFIXES, VERDICT
from analytics.identity import packed
from analytics.tiles import MapTable
from cql.errors import InputError
from cql.records import Decision, Image
from cql.store import Store
from dashboard import doubles, ledger
from dashboard.atlas import Atlas

FORMATS = {"csv": "csv", "parquet": "parquet", "coco": "json"}
"""Formats and the endings of their files."""
TYPES = {
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "coco": "application/json",
}
_BLOCK = 10_000
LEDGER = ("subject", "version", "kind", "value", "author", "reason", "at", "batch_id")
"""Columns of an exported ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is in force for an image; the cluster's name and key are of the live map as decided.

    `duplicate_group` is the key of its group of near-duplicates on that map, `duplicate_verdict`
    what stands decided of the group: `duplicate`, `distinct` or nothing.
    """

    image_id: str
    listing_id: str
    uri: str
    width: int
    height: int
    label: str
    verdict: str
    cluster: str
    cluster_key: str
    duplicate_group: str
    duplicate_verdict: str


def file_name(fmt: str, *, history: bool, now: datetime | None = None) -> str:
    """A name of letters, digits and dashes that says what is in the file, and when it was made."""
    moment = now or datetime.now(UTC)
    what = "ledger" if history else "decisions"
    return f"sightline-{what}-{moment:%Y%m%d-%H%M%S}.{FORMATS[checked(fmt)]}"


def checked(fmt: str) -> str:
    """The format, if there is such a one. InputError."""
    if fmt not in FORMATS:
        raise InputError(f"a format must be one of {', '.join(FORMATS)}, got {fmt[:40]!r}")
    return fmt


def stream(
    store: Store, atlas: Atlas, fmt: str, *, history: bool = False, version: str = ""
) -> Iterator[bytes]:
    """The file piece by piece, in memory for 10,000 rows at once. InputError for another format."""
    form = {"csv": _csv, "parquet": _parquet}
    if checked(fmt) in form:
        if history:
            return form[fmt](LEDGER, _ledger_blocks(store), _LEDGER_SCHEMA)
        names = tuple(field.name for field in fields(Row))
        return form[fmt](names, _row_blocks(store, atlas), _ROW_SCHEMA)
    return _coco(store, atlas, history=history, version=version)


def write(path: Path, pieces: Iterator[bytes]) -> int:
    """Write a file whole or not at all; returns its size in bytes."""
    draft = path.with_name(f".{path.name}.draft")
    size = 0
    try:
        with draft.open("wb") as file:
            for piece in pieces:
                size += file.write(piece)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return size


def rows(store: Store, atlas: Atlas) -> Iterator[Row]:
    """What is in force, image by image, over the whole collection."""
    standing = atlas.standing.read()
    labels, verdicts = (
        {s.removeprefix(PREFIXES[kind]): d.value for s, d in standing.of(kind).items()}
        for kind in (LABEL, VERDICT)
    )
    places_of = _places(store, atlas)
    images = store.iter_images()
    while block := list(islice(images, _BLOCK)):
        for image, (name, key, group, verdict) in zip(block, places_of(block), strict=True):
            text = str(image.image_id)
            yield Row(
                image_id=text,
                listing_id=image.listing_id,
                uri=image.uri,
                width=image.width,
                height=image.height,
                label=labels.get(text, ""),
                verdict=verdicts.get(text, ""),
                cluster=name,
                cluster_key=key,
                duplicate_group=group,
                duplicate_verdict=verdict,
            )


def _places(
    store: Store, atlas: Atlas
) -> Callable[[Sequence[Image]], list[tuple[str, str, str, str]]]:
    """Name and key of the cluster, key and verdict of the group of near-duplicates of each image.

    Empty for none, or without a map.
    """
    map_id = atlas.live_id()
    if map_id is None:
        return lambda block: [("", "", "", "")] * len(block)
    view, table = atlas.decided(map_id)
    names = ledger.names(store, [each.cluster.cluster_key for each in view.clusters])
    shown: dict[int, tuple[str, str]] = {}
    for each in view.clusters:
        cluster = each.cluster
        renamed = names.get(cluster.cluster_key, ("", 0))[0]
        shown[cluster.cluster] = (renamed or cluster.name, str(cluster.cluster_key))
    copies = _copies(atlas, map_id)
    group_of = _group_of(store, table, map_id)

    def find(block: Sequence[Image]) -> list[tuple[str, str, str, str]]:
        places = table.rows_of(packed(image.image_id for image in block))
        numbers = np.where(places >= 0, table.clusters[places], -1) if table.rows else places
        groups = np.where(places >= 0, group_of[places], -1) if table.rows else places
        return [
            (*shown.get(number, ("", "")), *copies.get(group, ("", "")))
            for number, group in zip(numbers.tolist(), groups.tolist(), strict=True)
        ]

    return find


def _copies(atlas: Atlas, map_id: UUID) -> dict[int, tuple[str, str]]:
    """Key and verdict of each group of near-duplicates, by its number."""
    standing = atlas.standing.read().of(doubles.KIND)
    found = {}
    for group in atlas.duplicates(map_id)[1]:
        decision = standing.get(doubles.subject(group.group_key))
        verdict = decision.value.partition(":")[0] if decision else ""
        found[group.number] = (str(group.group_key), verdict)
    return found


def _group_of(store: Store, table: MapTable, map_id: UUID) -> NDArray[np.int32]:
    """The number of the group of near-duplicates of each row of a map, -1 for none."""
    found = np.full(table.rows, -1, np.int32)
    members = store.iter_duplicate_members(map_id)
    while block := list(islice(members, _BLOCK)):
        rows = table.rows_of(packed(member.image_id for member in block))
        numbers = np.array([member.number for member in block], np.int32)
        found[rows[rows >= 0]] = numbers[rows >= 0]
    return found


def _row_blocks(store: Store, atlas: Atlas) -> Iterator[list[tuple[Any, ...]]]:
    found = rows(store, atlas)
    while block := [astuple(row) for row in islice(found, _BLOCK)]:
        yield block


def _ledger_blocks(store: Store) -> Iterator[list[tuple[Any, ...]]]:
    found = store.iter_decisions()
    while block := [tuple(_plain(each).values()) for each in islice(found, _BLOCK)]:
        yield block


def _plain(decision: Decision) -> dict[str, Any]:
    batch = "" if decision.batch_id is None else str(decision.batch_id)
    given = {name: getattr(decision, name) for name in LEDGER}
    return {**given, "at": decision.at.isoformat(timespec="milliseconds"), "batch_id": batch}


_ROW_SCHEMA = pa.schema(
    [(f.name, pa.int32() if f.type == "int" else pa.string()) for f in fields(Row)]
)
_LEDGER_SCHEMA = pa.schema(
    [(name, pa.int32() if name == "version" else pa.string()) for name in LEDGER]
)


def _csv(
    names: Sequence[str], blocks: Iterator[list[tuple[Any, ...]]], _schema: pa.Schema
) -> Iterator[bytes]:
    def text(lines: Sequence[Sequence[Any]]) -> bytes:
        out = io.StringIO(newline="")
        csv.writer(out).writerows(lines)
        return out.getvalue().encode()

    yield text([names])
    for block in blocks:
        yield text(block)


class _Sink(io.RawIOBase):
    """Bytes written and not yet taken."""

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._held.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        held, self._held = b"".join(self._held), []
        return held


def _parquet(
    names: Sequence[str], blocks: Iterator[list[tuple[Any, ...]]], schema: pa.Schema
) -> Iterator[bytes]:
    sink = _Sink()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for block in blocks:
            columns = dict(zip(names, zip(*block, strict=True), strict=True))
            writer.write_table(pa.table(columns, schema=schema))
            yield sink.take()
    yield sink.take()


def _coco(store: Store, atlas: Atlas, *, history: bool, version: str) -> Iterator[bytes]:
    """Annotations wait in a temporary file until the images, which they follow, are written."""
    made = datetime.now(UTC).isoformat(timespec="seconds")
    info = {
        "description": "Labels, clusters and verdicts of an image collection",
        "version": version,
        "date_created": made,
        "contributor": "Sightline",
    }
    yield b'{"info":' + _json(info) + b',"licenses":[],"images":['
    # Two clusters may have one name, and are two categories.
    categories: dict[tuple[str, str, str], int] = {}
    with tempfile.TemporaryFile() as waiting:
        annotations = 0
        for number, row in enumerate(rows(store, atlas), 1):
            shown: dict[str, Any] = {
                "id": number,
                "file_name": row.uri,
                "width": row.width,
                "height": row.height,
                "image_id": row.image_id,
                "listing_id": row.listing_id,
            }
            for name in ("verdict", "duplicate_group", "duplicate_verdict"):
                if value := getattr(row, name):
                    shown[name] = value
            yield (b"," if number > 1 else b"") + _json(shown)
            clustered = ("cluster", row.cluster, row.cluster_key)
            for named in (("label", row.label, ""), clustered):
                if named[1]:
                    category = categories.setdefault(named, len(categories) + 1)
                    annotations += 1
                    line = {"id": annotations, "image_id": number, "category_id": category}
                    waiting.write((b"," if annotations > 1 else b"") + _json(line))
        listed = [
            {"id": category, "name": name, "supercategory": kind}
            | ({"cluster_key": key} if key else {})
            for (kind, name, key), category in categories.items()
        ]
        yield b'],"categories":' + _json(listed) + b',"annotations":['
        waiting.seek(0)
        while piece := waiting.read(1 << 20):
            yield piece
    yield b"]"
    if history:
        yield b',"decisions":['
        for number, decision in enumerate(store.iter_decisions()):
            yield (b"," if number else b"") + _json(_plain(decision))
        yield b"]"
    yield b"}"


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def read_ledger(path: Path) -> list[Decision]:
    """Decisions of an exported ledger: CSV, Parquet, or COCO-style JSON. InputError."""
    try:
        if path.suffix == ".parquet":
            held: Sequence[Mapping[str, Any]] = pq.read_table(path).to_pylist()
        elif path.suffix == ".json":
            held = json.loads(path.read_text(encoding="utf-8"))["decisions"]
        else:
            limit = csv.field_size_limit(2**31 - 1)  # a split names every image of a cluster
            try:
                with path.open(newline="", encoding="utf-8") as file:
                    held = list(csv.DictReader(file))
            finally:
                csv.field_size_limit(limit)
        return [_decision(each) for each in held]
    except FileNotFoundError:
        raise InputError(f"no file is called {path}: check the name") from None
    except (KeyError, ValueError, TypeError, pa.ArrowException) as error:
        raise InputError(
            f"{path.name} must be a ledger that was exported with its history, it is not "
            f"({type(error).__name__}: {str(error)[:80]}): run `sightline export --history`"
        ) from error


def _decision(given: Mapping[str, Any]) -> Decision:
    return Decision(
        subject=str(given["subject"]),
        version=int(given["version"]),
        kind=str(given["kind"]),
        value=str(given["value"]),
        author=str(given["author"]),
        reason=str(given["reason"]),
        at=datetime.fromisoformat(given["at"]),
        batch_id=UUID(given["batch_id"]) if given["batch_id"] else None,
    )
