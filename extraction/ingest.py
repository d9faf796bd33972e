"""Photos into the collection: every file ends in one recorded state, every photo is one image.

The order of writes makes a run that is killed at any moment repeatable: listings, then images with
their thumbnails, then the removal of images that a changed file had before, then the files' states.
A file whose state is stored needs nothing more; any other file is simply ingested again, which
changes nothing that is already there, because an image id is derived from listing and content.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from uuid import UUID

from cql.errors import NotFoundError
from cql.progress import Progress, silent
from cql.records import FileState, Image, Measures, Thumbnail, image_id_of
from cql.settings import Settings
from cql.store import Store
from extraction import manifest as manifests
from extraction import photos as files
from extraction.decode import DecodeError, Picture, content_hash
from extraction.manifest import Collection, Entry
from extraction.measures import record as measured
from extraction.photos import Facts, ReadError
from extraction.register import Clock, chunks, load_stock, put_listings
from extraction.sandbox import Sandbox

READY = "ready"
FAILED = "failed"

_BATCH = 64
_AHEAD = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What an ingest saw. `files` = `ready` + `failed`; `unchanged` of them were not even read.

    `images` counts images written by this run, `removed` images deleted by it. `gone` counts files
    of earlier runs that are no longer there; their images stay unless `prune` was asked for.
    `hidden` and `other` count files of the tree that are no candidates, `repeated` manifest rows
    that name the same file for the same listing again. `reasons` counts failures by reason.
    """

    source: str
    kind: str
    manifest: str
    files: int
    ready: int
    failed: int
    unchanged: int
    images: int
    listings: int
    removed: int
    gone: int
    hidden: int
    other: int
    repeated: int
    seconds: float
    reasons: dict[str, int]

    @property
    def rate(self) -> float:
        """Files per second."""
        return self.files / self.seconds if self.seconds > 0 else 0.0


def ingest(
    settings: Settings,
    store: Store,
    photos: str | Path,
    *,
    manifest: str | Path | None = None,
    prune: bool = False,
    retry: bool = False,
    progress: Progress = silent,
) -> IngestReport:
    """Ingest a folder (path or fsspec URL), or what a CSV or Parquet manifest names in it.

    Without `manifest`, `listings.csv` or `listings.parquet` at the top of the folder is used when
    there is one, else the folder tree. Files of unchanged size and time are skipped; `retry` reads
    those again that failed. `prune` removes images all of whose files are gone.

    Raises `InputError` for a folder or manifest that cannot be used (nothing is written then) and
    `UnavailableError` when Cassandra stops answering (what was acknowledged stays; run it again).
    """
    start = time.monotonic()
    root = files.url_of(photos)
    progress("scan", 0, 0, root)
    found = manifests.find(root, str(manifest) if manifest else None)
    collection = manifests.from_manifest(root, found) if found else manifests.from_folder(root)
    listings = put_listings(store, collection.listings)
    load_stock(store, collection.stock)
    run = _Run(settings, store, collection, retry=retry, progress=progress)
    run.work()
    gone = run.finish(prune=prune)
    store.put_source(
        source=root,
        kind=collection.kind,
        manifest=collection.manifest,
        files=len(collection.entries),
        ready=run.counts[READY],
        failed=run.counts[FAILED],
    )
    return IngestReport(
        source=root,
        kind=collection.kind,
        manifest=collection.manifest,
        files=len(collection.entries),
        ready=run.counts[READY],
        failed=run.counts[FAILED],
        unchanged=run.unchanged,
        images=len(run.written),
        listings=listings,
        removed=run.removed,
        gone=gone,
        hidden=collection.ignored.hidden,
        other=collection.ignored.other,
        repeated=collection.repeated,
        seconds=time.monotonic() - start,
        reasons=dict(run.reasons.most_common()),
    )


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How a file ended. `state` is None for an unchanged file, `image` None for a failed one."""

    entry: Entry
    known: FileState | None
    state: FileState | None
    image: Image | None = None
    thumbnail: Thumbnail | None = None
    measures: Measures | None = None


class _Run:
    """One ingest of one collection: threads read and decode, the caller's thread writes."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        collection: Collection,
        *,
        retry: bool,
        progress: Progress,
    ) -> None:
        self._settings = settings
        self._store = store
        self._collection = collection
        self._retry = retry
        self._progress = progress
        self._known = {state.uri: state for state in store.files(collection.source)}
        self._stored = {
            state.image_id
            for state in self._known.values()
            if state.state == READY and state.image_id
        }
        self._claims: dict[UUID, Future[Picture]] = {}
        self._lock = Lock()
        self._replaced: list[tuple[FileState, FileState]] = []
        self.written: set[UUID] = set()
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.unchanged = 0
        self.removed = 0

    def work(self) -> None:
        """Bring every file of the collection to its state."""
        total = len(self._collection.entries)
        clock = Clock(self._progress, total)
        workers = self._settings.cores or os.cpu_count() or 1
        batch: list[_Outcome] = []
        # Threads that still work when a write fails are done before their decoders go.
        with (
            Sandbox(self._settings, workers=workers) as sandbox,
            contextlib.closing(
                _ordered(
                    self._collection.entries, lambda entry: self._settle(entry, sandbox), workers
                )
            ) as outcomes,
        ):
            for done, outcome in enumerate(outcomes, 1):
                state = outcome.state or outcome.known
                assert state is not None  # noqa: S101 - for the type checker; one of both is set
                self.counts[state.state] += 1
                if state.state == FAILED:
                    self.reasons[state.reason] += 1
                if outcome.state is None:
                    self.unchanged += 1
                else:
                    batch.append(outcome)
                if len(batch) >= _BATCH:
                    self._write(batch)
                    batch = []
                clock.tick(done, self.unchanged, self.counts[FAILED])
            self._write(batch)
        clock.tick(total, self.unchanged, self.counts[FAILED], last=True)

    def finish(self, *, prune: bool) -> int:
        """Delete images that no file has any more, then store the states of replaced files.

        Returns how many files of earlier runs are gone. Their images count as unused with `prune`.
        """
        seen = {entry.key for entry in self._collection.entries}
        gone = [
            state for uri, state in self._known.items() if uri not in seen and state.state == READY
        ]
        if prune:
            unread = [s for s in self._known.values() if s.state == FAILED and s.image_id]
            self._replaced += [(state, replace(state, image_id=None)) for state in unread]
            self._replaced += [(state, _pruned(state)) for state in gone]
        if self._replaced:
            self._delete_unused()
            for batch in chunks([state for _, state in self._replaced], _BATCH):
                self._store.put_files(batch)
        return len(gone)

    def _delete_unused(self) -> None:
        for _, state in self._replaced:
            self._known[state.uri] = state
        users = {state.image_id: state for state in self._known.values() if state.image_id}
        for old, _ in self._replaced:
            if old.image_id is None:
                continue
            user = users.get(old.image_id)
            if user is None:
                with contextlib.suppress(NotFoundError):
                    self._store.delete_image(old.image_id)
                    self.removed += 1
            else:
                self._move(old.image_id, _uri_of(user))

    def _move(self, image_id: UUID, uri: str) -> None:
        """Let an image name a file that still has its bytes."""
        with contextlib.suppress(NotFoundError):
            image = self._store.image(image_id)
            if image.uri != uri:
                self._store.put_image(replace(image, uri=uri), self._store.thumbnail(image_id))

    def _settle(self, entry: Entry, sandbox: Sandbox) -> _Outcome:
        """Bring one file to its state, without writing anything. Runs in a thread."""
        known = self._known.get(entry.key)
        facts = entry.facts
        try:
            facts = self._facts(entry)
            if known and self._is_unchanged(entry, known, facts):
                return _Outcome(entry, known, None)
            data = files.read(entry.uri, limit=self._settings.max_image_mb << 20)
            return self._image(entry, known, facts, data, sandbox)
        except (ReadError, DecodeError) as error:
            same = known is not None and known.listing_id == entry.listing_id
            state = FileState(
                source=self._collection.source,
                uri=entry.key,
                state=FAILED,
                reason=str(error),
                listing_id=entry.listing_id,
                # The photo may come back: its image stays until `prune` is asked for.
                image_id=known.image_id if known and same else None,
                bytes=facts.bytes if facts else 0,
                mtime_ns=facts.mtime_ns if facts else 0,
            )
            return _Outcome(entry, known, None if state == known else state)

    def _facts(self, entry: Entry) -> Facts:
        """Size and time of a file that may be read; nothing is read of one that is too large."""
        if entry.problem:
            raise ReadError(entry.problem)
        facts = entry.facts or files.facts_of(entry.uri)
        if facts.bytes > self._settings.max_image_mb << 20:
            raise DecodeError(
                f"the file has {facts.bytes / 2**20:.1f} MiB, at most "
                f"{self._settings.max_image_mb} are read: raise max_image_mb or shrink it"
            )
        return facts

    def _is_unchanged(self, entry: Entry, known: FileState, facts: Facts) -> bool:
        if known.listing_id != entry.listing_id or not facts.mtime_ns:
            return False
        if known.state == FAILED and self._retry:
            return False
        return (known.bytes, known.mtime_ns) == (facts.bytes, facts.mtime_ns)

    def _image(
        self, entry: Entry, known: FileState | None, facts: Facts, data: bytes, sandbox: Sandbox
    ) -> _Outcome:
        digest = content_hash(data)
        image_id = image_id_of(entry.listing_id, digest)
        state = FileState(
            source=self._collection.source,
            uri=entry.key,
            state=READY,
            listing_id=entry.listing_id,
            image_id=image_id,
            bytes=facts.bytes,
            mtime_ns=facts.mtime_ns,
        )
        if image_id in self._stored or image_id in self.written:
            return _Outcome(entry, known, state)
        picture = self._picture(image_id, data, sandbox)
        image = Image(
            listing_id=entry.listing_id,
            image_id=image_id,
            uri=entry.uri,
            content_hash=digest,
            width=picture.width,
            height=picture.height,
            format=picture.format,
            bytes=len(data),
            position=entry.position,
        )
        thumbnail = Thumbnail(
            image_id=image_id,
            webp=picture.webp,
            width=picture.thumbnail_width,
            height=picture.thumbnail_height,
        )
        measures = measured(image, picture.figures)
        return _Outcome(entry, known, state, image, thumbnail, measures)

    def _picture(self, image_id: UUID, data: bytes, sandbox: Sandbox) -> Picture:
        """Decode, or wait for the thread that decodes the same bytes for the same listing."""
        with self._lock:
            claim = self._claims.get(image_id)
            mine = claim is None
            if claim is None:
                claim = self._claims[image_id] = Future()
        if mine:
            try:
                claim.set_result(sandbox.inspect(data))
            except BaseException as error:  # noqa: BLE001 - handed to every thread that waits
                claim.set_exception(error)
        return claim.result()

    def _write(self, batch: list[_Outcome]) -> None:
        if not batch:
            return
        pairs: dict[UUID, tuple[Image, Thumbnail]] = {}
        measures: dict[UUID, Measures] = {}
        for outcome in batch:
            image, thumbnail = outcome.image, outcome.thumbnail
            if image and thumbnail and image.image_id not in self.written:
                pairs.setdefault(image.image_id, (image, thumbnail))
                if outcome.measures:
                    measures.setdefault(image.image_id, outcome.measures)
        if pairs:
            self._store.put_images(pairs.values(), measures.values())
            self.written |= pairs.keys()
        states = []
        for outcome in batch:
            known, state = outcome.known, outcome.state
            if state is None:
                continue
            # The state of a file with new content waits until its former image is dealt with.
            if known and known.image_id and state.image_id != known.image_id:
                self._replaced.append((known, state))
            else:
                self._known[state.uri] = state
                states.append(state)
        self._store.put_files(states)
        with self._lock:
            for image_id in pairs:
                self._claims.pop(image_id, None)


def _pruned(state: FileState) -> FileState:
    reason = "the file is gone and its image was removed"
    return replace(state, state=FAILED, reason=reason, image_id=None, mtime_ns=0)


def _uri_of(state: FileState) -> str:
    return state.uri.partition("#listing=")[0]


def _ordered(
    entries: Iterable[Entry], settle: Callable[[Entry], _Outcome], workers: int
) -> Generator[_Outcome, None, None]:
    """Outcomes in the order of the entries, a bounded number of files ahead."""
    pool = ThreadPoolExecutor(workers + 1, thread_name_prefix="ingest")
    pending: deque[Future[_Outcome]] = deque()
    try:
        for entry in entries:
            pending.append(pool.submit(settle, entry))
            if len(pending) > _AHEAD * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
