"""From stored photos to feature rows: read, check, decode, embed and write, each ahead of the next.

One `Pipeline` runs in one process (a Spark task, or a benchmark). Threads read and decode a bounded
number of pictures ahead of the model, and one thread writes behind it, so that the model waits for
neither as long as they keep up.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from cql import codec
from cql.errors import InputError
from cql.records import Feature, Patches
from cql.settings import Settings
from extraction import patches, photos
from extraction.decode import DecodeError, content_hash
from extraction.models import Embedder
from extraction.photos import ReadError

Write = Callable[[Sequence[Feature]], object]
Keep = Callable[[Sequence[Patches]], object]


def _unheard(count: int) -> None:
    del count


@dataclass(frozen=True, slots=True)
class Photo:
    """An image that lacks features: where its bytes are and what they must hash to.

    `whole`: it lacks only those of its regions.
    """

    listing_id: str
    image_id: UUID
    uri: str
    content_hash: str
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """An image without features, and why."""

    photo: Photo
    reason: str


@dataclass(slots=True)
class Tally:
    """What a pipeline did. Times are seconds, summed over threads.

    `regions` of the `images` had features and lacked only those of regions.
    """

    images: int = 0
    regions: int = 0
    decode_s: float = 0.0
    model_s: float = 0.0
    write_s: float = 0.0
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add the figures of another pipeline."""
        self.images += other.images
        self.regions += other.regions
        self.decode_s += other.decode_s
        self.model_s += other.model_s
        self.write_s += other.write_s
        self.failures += other.failures


@dataclass(frozen=True, slots=True)
class _Ready:
    photo: Photo
    seconds: float
    pixels: NDArray[np.uint8] | None
    regions: NDArray[np.float32] | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Made:
    photo: Photo
    feature: Feature | None
    patches: Patches | None


class Pipeline:
    """Features of photos under one model; `write` must return only when they are durable.

    With `patches` it also makes the features of their regions, and gives them to `patches` before
    the photo's own go to `write`: whoever has features from it has those of its regions. Of a photo
    that is `whole` those of regions are all that it makes.
    """

    def __init__(
        self,
        embedder: Embedder,
        settings: Settings,
        write: Write,
        *,
        patches: Keep | None = None,
        threads: int = 1,
    ) -> None:
        self._embedder = embedder
        self._settings = settings
        self._write = write
        self._patches = patches
        self._threads = max(1, threads)

    def run(self, rows: Iterable[Photo], *, done: Callable[[int], None] = _unheard) -> Tally:
        """Embed and write every photo; `done` hears of each batch that is durable.

        A photo that cannot be used becomes a `Failure` and stops nothing; errors of `write` are
        raised after what was handed over before is settled.
        """
        tally = Tally()
        size = self._settings.batch_size
        writing: Future[None] | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="write") as writer:
            for batch in _batches(self._prepared(rows, ahead=2 * size), size, tally):
                features = self._embed(batch, tally)
                if writing is not None:
                    writing.result()
                writing = writer.submit(self._store, features, len(batch), tally, done)
            if writing is not None:
                writing.result()
        return tally

    def _prepared(self, rows: Iterable[Photo], *, ahead: int) -> Iterator[_Ready]:
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        pending: deque[Future[_Ready]] = deque()
        try:
            for row in rows:
                pending.append(pool.submit(self._prepare, row))
                if len(pending) >= ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _prepare(self, photo: Photo) -> _Ready:
        start = time.perf_counter()
        pixels, regions, reason = None, None, ""
        try:
            data = photos.read(photo.uri, limit=self._settings.max_image_mb << 20)
            # Only bytes that ingest has decoded in its sandbox are decoded here, in the process.
            if content_hash(data) == photo.content_hash:
                image = self._embedder.read(data, self._settings)
                pixels = None if photo.whole else self._embedder.transform.pixels(image)
                regions = patches.regions(image) if self._patches is not None else None
            else:
                reason = "the file has changed since it was ingested: ingest it again"
        except (ReadError, DecodeError) as error:
            reason = str(error)
        return _Ready(photo, time.perf_counter() - start, pixels, regions, reason)

    def _embed(self, batch: list[_Ready], tally: Tally) -> list[_Made]:
        good = [ready for ready in batch if not ready.reason]
        features = self._features([ready for ready in good if not ready.photo.whole], tally)
        model_id = self._embedder.model.model_id
        made = []
        for ready in good:
            photo, coded = ready.photo, None
            feature = features.get(photo.image_id)
            if feature is None and not photo.whole:
                continue
            if ready.regions is not None:
                coded = patches.record(photo.listing_id, model_id, photo.image_id, ready.regions)
            made.append(_Made(photo, feature, coded))
        return made

    def _features(self, batch: list[_Ready], tally: Tally) -> dict[UUID, Feature]:
        """Features of photos by image; one without a direction has none and is noted as failed."""
        if not batch:
            return {}
        start = time.perf_counter()
        pixels = np.stack([ready.pixels for ready in batch if ready.pixels is not None])
        vectors = self._embedder.forward(pixels)
        tally.model_s += time.perf_counter() - start
        usable: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(vectors), axis=1)
        for row in np.flatnonzero(~usable):
            reason = "the model gives this picture no direction (zero or not finite)"
            tally.failures.append(Failure(batch[row].photo, reason))
        blobs, sums = codec.encode(vectors[usable])
        model = self._embedder.model
        kept = [ready.photo for ready, use in zip(batch, usable, strict=True) if use]
        return {
            photo.image_id: Feature(
                listing_id=photo.listing_id,
                model_id=model.model_id,
                image_id=photo.image_id,
                vector=blob,
                dim=model.dim,
                crc32c=crc,
            )
            for photo, blob, crc in zip(kept, blobs, sums, strict=True)
        }

    def _store(
        self, made: list[_Made], photos_done: int, tally: Tally, done: Callable[[int], None]
    ) -> None:
        start = time.perf_counter()
        if self._patches is not None:
            self._patches([each.patches for each in made if each.patches is not None])
        fresh = [each for each in made if not each.photo.whole]
        refused = self._refused(fresh) if fresh else []
        tally.write_s += time.perf_counter() - start
        tally.images += len(made) - len(refused)
        tally.regions += len(made) - len(fresh)
        tally.failures += refused
        done(photos_done)

    def _refused(self, made: list[_Made]) -> list[Failure]:
        """Write, and return what the store refuses: it names a rule that one listing breaks."""
        try:
            self._write([each.feature for each in made if each.feature is not None])
        except InputError as error:
            listings = {each.photo.listing_id for each in made}
            if len(listings) == 1:
                return [Failure(each.photo, str(error)) for each in made]
            return [
                failure
                for name in sorted(listings)
                for failure in self._refused(
                    [each for each in made if each.photo.listing_id == name]
                )
            ]
        return []


def _batches(prepared: Iterator[_Ready], size: int, tally: Tally) -> Iterator[list[_Ready]]:
    batch: list[_Ready] = []
    for ready in prepared:
        tally.decode_s += ready.seconds
        if ready.reason:
            tally.failures.append(Failure(ready.photo, ready.reason))
        batch.append(ready)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
