"""Shards: immutable, listing-ordered blocks of features in files, built by Spark from Cassandra."""

from __future__ import annotations

import io
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID, uuid5

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analytics.checksum import DIGITS, Checksum, checksum
from analytics.hosting.pointers import live_snapshots
from analytics.hosting.shelf import folder, here, is_whole, numbered
from analytics.hosting.stream import Rows, check_vectors, cut, uuid_bytes
from analytics.identity import halves
from analytics.scanning.blocks import Block
from analytics.scanning.codes import Codes, encode_into, unwritten
from analytics.scanning.components import Components, Directions
from analytics.scanning.rowfile import RowFile
from cql.errors import IntegrityError
from cql.progress import Progress, silent
from cql.records import NAMESPACE, Shard, Snapshot
from cql.settings import Settings
from cql.spark import ARROW_ROWS
from cql.store import Store
from cql.wire import own_address

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

log = logging.getLogger(__name__)

FORMAT = 4
_PARTS = (
    "vectors.npy", "high.npy", "middle.npy", "low.npy", "scales.npy", "residuals.npy", "coarse.npy",
    "offsets.npy", "images.npy", "listings.arrow",
)  # fmt: skip
_SMALLEST = 4096
"""Rows below which a shard is not split to keep more cores busy."""

_CHUNK = 2**19

_TABLE = pa.schema(
    [
        ("listing_id", pa.string()),
        ("image_id", pa.string()),
        ("feature_vector", pa.binary()),
        ("dim", pa.int32()),
        ("dtype", pa.string()),
        ("crc32c", pa.int64()),
        ("mark", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What the features of a model amount to: `mark` is a sum of row hashes modulo 2^64."""

    rows: int
    listings: int
    mark: int

    def fingerprint(self, model_id: str) -> str:
        """Return the text that equal data share, whatever their order."""
        return f"{FORMAT}:{model_id}:{self.rows}:{self.listings}:{self.mark:016x}"


def code_version() -> str:
    """Version of the code that makes a stored result."""
    try:
        return version("sightline")
    except PackageNotFoundError:
        return "source"


def build(
    spark: SparkSession,
    settings: Settings,
    store: Store,
    model_id: str,
    progress: Progress = silent,
    *,
    reuse: bool = True,
) -> Snapshot:
    """Write the shards of a model's features and then the snapshot's row; not yet live.

    The model's live snapshot is returned as it is when the features have not changed and its files
    are there (and `reuse`). Features may change meanwhile: hosts read again what the change log
    names from the snapshot's watermark on. IntegrityError for a stored vector that breaks its
    checksum, dimension or norm.
    """
    model = store.model(model_id)
    watermark = datetime.now(UTC)
    frame = _features(spark, settings, model_id)
    live = live_snapshots(store).get(model_id)
    rows = 0 if live is None else live.rows
    if reuse or live is None:
        contents = _contents(frame)
        rows = contents.rows
        progress("shards", 0, rows, "counted")
        same = live is not None and live.fingerprint == contents.fingerprint(model_id)
        if reuse and live is not None and same and is_whole(settings, store, live):
            progress("shards", rows, rows, "unchanged")
            return live
    snapshot_id = uuid5(NAMESPACE, f"snapshot\0{model_id}\0{time.time_ns()}\0{os.getpid()}")
    shards, written = _write_all(frame, settings, store, snapshot_id, rows=rows, dim=model.dim)
    progress("shards", written.rows, written.rows, "written")
    snapshot = Snapshot(
        snapshot_id=snapshot_id,
        model_id=model_id,
        rows=written.rows,
        listings=written.listings,
        dim=model.dim,
        shards=len(shards),
        watermark=watermark,
        created_at=datetime.now(UTC),
        code_version=code_version(),
        fingerprint=written.fingerprint(model_id),
    )
    store.put_snapshot(snapshot, shards)
    return store.snapshot(snapshot_id)  # times as Cassandra keeps them


def write(
    path: Path,
    stem: str,
    listings: NDArray[np.object_],
    images: NDArray[np.uint8],
    vectors: NDArray[np.float32],
) -> dict[str, Any]:
    """Write the files of one shard: N listing ids, uint8 (N, 16), float32 (N, D), in any order.

    Returns rows, listings, first_listing, last_listing and files (name to sum).
    """
    return _write(path, stem, pa.array(listings, pa.string()), images, vectors)


def _write(
    path: Path,
    stem: str,
    listings: pa.Array | pa.ChunkedArray,
    images: NDArray[np.uint8],
    vectors: NDArray[np.float32],
) -> dict[str, Any]:
    """`write` with the listing ids as Arrow has them."""
    order, starts, names = _sorted(listings, images)
    path.mkdir(parents=True, exist_ok=True)
    rows = len(vectors)
    files = _write_rows(path, stem, vectors, order)
    contents = {
        "offsets.npy": np.append(starts, rows).astype("<i8"),
        "images.npy": images[order],
        "listings.arrow": pa.table({"listing_id": names}),
    }
    for suffix, content in contents.items():
        with _Draft(path / f"{stem}.{suffix}") as draft:
            draft.write(_bytes(content))
            files[draft.target.name] = draft.finish()
    return {
        "rows": rows,
        "listings": len(names),
        "first_listing": names[0].as_py(),
        "last_listing": names[-1].as_py(),
        "files": files,
    }


def _write_rows(
    path: Path, stem: str, vectors: NDArray[np.float32], order: NDArray[np.intp]
) -> dict[str, str]:
    """Write the vectors of a shard, in order, and their codes, side by side; files with sums."""
    rows, dim = vectors.shape
    step = max(1, _CHUNK // (4 * dim))
    codes = unwritten(rows=min(step, rows), dim=dim)
    with ExitStack() as opened:
        drafts = [
            opened.enter_context(_Draft(path / f"{stem}.{name}.npy"))
            for name in ("vectors", *Codes._fields)
        ]
        like: list[NDArray[Any]] = [np.empty((0, dim), "<f4"), *codes]
        for draft, empty in zip(drafts, like, strict=True):
            draft.write(_head(empty.dtype, (rows, *empty.shape[1:])))
        for at in range(0, rows, step):
            # Put in order, coded, summed and written while the processor's caches hold them.
            part = np.ascontiguousarray(np.take(vectors, order[at : at + step], axis=0), "<f4")
            own = Codes._make(each[: len(part)] for each in codes)
            encode_into(own, 0, part)
            arrays: list[NDArray[Any]] = [part, *own]
            for draft, each in zip(drafts, arrays, strict=True):
                draft.write(each.reshape(-1).view(np.uint8))
        return {draft.target.name: draft.finish() for draft in drafts}


class _Draft:
    """A file that appears whole when it is finished.

    It is not forced to the disk: whoever opens it compares it with its sum, and what a machine lost
    with its power is built again.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self._path = target.with_name(f".{target.name}.{os.getpid()}.{time.time_ns()}")
        self._sum = Checksum()
        self._file = self._path.open("wb", buffering=0)

    def write(self, data: Any) -> None:
        """Add some bytes."""
        whole = memoryview(data)
        for at in range(0, len(whole), _CHUNK):
            # Summed while the processor's caches hold it.
            rest = whole[at : at + _CHUNK]
            self._sum.update(rest)
            while rest:  # unbuffered, a write may take less than it is given
                rest = rest[self._file.write(rest) :]

    def finish(self) -> str:
        """Put the file in its place; its sum."""
        self._file.close()
        self._path.replace(self.target)
        return self._sum.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _head(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """How an .npy file of an array begins."""
    head = io.BytesIO()
    described = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(head, described)
    return head.getvalue()


def _bytes(content: NDArray[Any] | pa.Table) -> bytes | pa.Buffer:
    """What a file of an array (.npy) or a table (Arrow) has in it."""
    if isinstance(content, pa.Table):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, content.schema) as writer:
            writer.write_table(content)
        return sink.getvalue()
    return _head(content.dtype, content.shape) + content.tobytes()


def check_known(shard: Shard) -> None:
    """IntegrityError for a shard of an older Sightline: with fewer files, or with other sums."""
    missing = set(_PARTS) - {name.split(".", 1)[1] for name in shard.files}
    if missing:
        raise IntegrityError(
            f"shard {shard.shard} must have {', '.join(sorted(missing))}, an older Sightline wrote "
            "it without: rebuild the snapshot"
        )
    for name, digest in shard.files.items():
        if len(digest) != DIGITS:
            raise IntegrityError(
                f"shard {shard.shard}: the sum of {name} must have {DIGITS} digits, it has "
                f"{len(digest)}, an older Sightline wrote it: rebuild the snapshot"
            )


def check_files(path: Path, shard: Shard) -> dict[str, Path]:
    """Compare every byte of a shard's files with their sums; the files by suffix.

    IntegrityError when one is missing or differs from its sum, and as of `check_known`.
    """
    found: dict[str, Path] = {}
    check_known(shard)
    for name, digest in shard.files.items():
        file = path / name
        if not file.exists():
            raise IntegrityError(f"shard {shard.shard}: {name} must exist: rebuild the snapshot")
        if (seen := checksum(file)) != digest:
            raise IntegrityError(
                f"shard {shard.shard}: {name} must have the sum {digest[:12]}…, has {seen[:12]}…: "
                "rebuild the snapshot"
            )
        found[name.split(".", 1)[1]] = file
    return found


def open_block(
    path: Path,
    shard: Shard,
    *,
    dim: int,
    base: int = 0,
    like: Directions | None = None,
) -> Block:
    """Map a shard into memory after checking all of it, and make its components.

    `like`: directions of another shard, as `Components.of` takes them.

    IntegrityError when a file is missing, differs from its sum, or holds anything but
    finite float32 vectors of unit norm and `dim` numbers.
    """
    found = check_files(path, shard)
    vectors = np.load(found["vectors.npy"], mmap_mode="r", allow_pickle=False)
    check_vectors(vectors, dim, f"shard {shard.shard}")
    names = _names(found["listings.arrow"])
    offsets = np.load(found["offsets.npy"], allow_pickle=False)
    images = np.load(found["images.npy"], mmap_mode="r", allow_pickle=False)
    codes = _codes(found, dim, f"shard {shard.shard}")
    sizes = {len(each) for each in (vectors, images, *codes)}
    if sizes | {int(offsets[-1])} != {shard.rows} or len(names) + 1 != len(offsets):
        raise IntegrityError(
            f"shard {shard.shard} must hold {shard.rows} rows: rebuild the snapshot"
        )
    return Block(
        number=shard.shard,
        base=base,
        vectors=vectors,
        codes=codes,
        offsets=offsets,
        listings=names,
        images=images,
        file=RowFile(found["vectors.npy"], start=vectors.offset, dim=dim),
        components=Components.of(vectors, like=like),
    )


def _codes(found: Mapping[str, Path], dim: int, name: str) -> Codes:
    """Open the codes of a shard: planes are mapped, numbers of a row are read."""
    opened: list[NDArray[Any]] = []
    for field, empty in unwritten(0, dim)._asdict().items():
        like: NDArray[Any] = empty
        mode: Any = "r" if like.ndim == 2 else None
        each = np.load(found[f"{field}.npy"], mmap_mode=mode, allow_pickle=False)
        if each.shape[1:] != like.shape[1:] or each.dtype != like.dtype:
            raise IntegrityError(
                f"{name}: {field} must be {like.dtype} {('N', *like.shape[1:])}, it is "
                f"{each.dtype} {each.shape}: rebuild the snapshot"
            )
        opened.append(each)
    return Codes._make(opened)


def is_names(file: str) -> bool:
    """Whether it is the file of a shard's listing ids."""
    return file.endswith("listings.arrow")


def open_names(path: Path, shard: Shard) -> pa.Array:
    """Listing ids of a shard, ascending. IntegrityError where their file is missing."""
    name = next(name for name in shard.files if is_names(name))
    if not (path / name).exists():
        raise IntegrityError(f"shard {shard.shard}: {name} must exist: rebuild the snapshot")
    return _names(path / name)


def _names(path: Path) -> pa.Array:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all().column("listing_id").combine_chunks()


def _features(spark: SparkSession, settings: Settings, model_id: str) -> DataFrame:
    from pyspark.sql import functions as sql

    from cql.spark import read

    frame = read(spark, settings, "features").where(sql.col("model_id") == model_id)
    mark = sql.xxhash64("listing_id", "image_id", "crc32c")
    marked: DataFrame = frame.withColumn("mark", mark).select(*_TABLE.names)
    return marked


def _contents(frame: DataFrame) -> Contents:
    from pyspark.sql import functions as sql

    row = frame.agg(
        sql.count("*").alias("rows"),
        sql.countDistinct("listing_id").alias("listings"),
        sql.sum(sql.col("mark").cast("decimal(38,0)")).alias("mark"),
    ).first()
    if row is None or row["rows"] == 0:
        return Contents(rows=0, listings=0, mark=0)
    return Contents(rows=row["rows"], listings=row["listings"], mark=int(row["mark"]) % 2**64)


def _write_all(
    frame: DataFrame, settings: Settings, store: Store, snapshot_id: UUID, *, rows: int, dim: int
) -> tuple[list[Shard], Contents]:
    cores = settings.cores or os.cpu_count() or 1
    tasks = max(
        settings.shard_hosts,
        -(-rows // settings.shard_rows),
        min(cores, -(-rows // _SMALLEST)),
    )
    # Fewer partitions without a shuffle: a listing stays in one token range, so in one task.
    written = (
        frame.coalesce(tasks)
        .mapInArrow(
            partial(
                _task,
                settings=settings,
                snapshot_id=snapshot_id,
                dim=dim,
            ),
            "shard string, mark decimal(20,0)",
        )
        .collect()
    )
    made = [json.loads(row["shard"]) for row in written]
    order = numbered(settings, store, [(each["stem"], each["machine"]) for each in made])
    shards = [
        Shard(
            snapshot_id=snapshot_id,
            shard=number,
            rows=shard["rows"],
            listings=shard["listings"],
            first_listing=shard["first_listing"],
            last_listing=shard["last_listing"],
            files=shard["files"],
        )
        for number, shard in enumerate(made[at] for at in order)
    ]
    mark = sum(int(row["mark"]) for row in written) % 2**64
    return shards, Contents(
        rows=sum(shard.rows for shard in shards),
        listings=sum(shard.listings for shard in shards),
        mark=mark,
    )


def _task(
    batches: Iterator[pa.RecordBatch], *, settings: Settings, snapshot_id: UUID, dim: int
) -> Iterator[pa.RecordBatch]:
    """Run in a Spark task: cut a stream of whole listings into shards, on this machine's disk."""
    from decimal import Decimal

    from pyspark import TaskContext

    context = TaskContext.get()
    partition = context.partitionId() if context is not None else 0
    path = folder(here(settings), snapshot_id)
    machine = own_address(settings)
    # `cut` gives a shard once it has a batch too many.
    rows = Rows(dim, room=settings.shard_rows + ARROW_ROWS)
    for number, table in enumerate(cut(_without_vectors(batches, rows), settings.shard_rows)):
        stem = f"{partition:05d}-{number:05d}"
        images = uuid_bytes(table.column("image_id"))
        made = _write(path, stem, table.column("listing_id"), images, rows.first(len(table)))
        rows.drop(len(table))
        # Unsigned, a sum is one modulo 2^64.
        mark = int(table.column("mark").to_numpy().astype(np.uint64).sum())
        yield pa.record_batch(
            [
                pa.array([json.dumps({"stem": stem, "machine": machine, **made})]),
                pa.array([Decimal(mark)], pa.decimal128(20, 0)),
            ],
            names=["shard", "mark"],
        )


def _without_vectors(batches: Iterator[pa.RecordBatch], rows: Rows) -> Iterator[pa.RecordBatch]:
    """What is left of each batch when `rows` has its vectors."""
    for batch in batches:
        rows.add(batch)
        small = batch.select(["listing_id", "image_id", "mark"])
        # A copy: slices would keep the memory of the whole batch, with its vectors.
        yield small.take(pa.array(np.arange(len(small))))


def _sorted(
    listings: pa.Array | pa.ChunkedArray, images: NDArray[np.uint8]
) -> tuple[NDArray[np.intp], NDArray[np.intp], pa.Array]:
    """Order of rows by listing id, then image id (uint8 (N, 16)); where in it which listing starts.

    Returns intp (N,), intp (L,), and the L ids.
    """
    coded = listings.dictionary_encode()
    coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    by_name = pc.array_sort_indices(coded.dictionary)
    ranks = np.empty(len(by_name), np.intp)
    ranks[by_name.to_numpy()] = np.arange(len(by_name))
    own = ranks[coded.indices.to_numpy()]
    # Rows of a listing come together, from Cassandra in the order of their images, too: then no
    # row has to be moved within its run.
    runs = np.flatnonzero(np.r_[True, own[1:] != own[:-1]])
    turn = np.argsort(own[runs], kind="stable")
    sizes = np.diff(np.r_[runs, len(own)])[turn]
    order = np.arange(len(own)) + np.repeat(runs[turn] - np.cumsum(sizes) + sizes, sizes)
    low, high = halves(images[order])
    later = (high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] >= low[:-1]))
    starts = np.flatnonzero(np.r_[True, np.diff(own[order]) != 0])
    later[starts[1:] - 1] = True
    if not later.all():
        order = np.lexsort((*halves(images), own))
    return order, starts, coded.dictionary.take(by_name)
