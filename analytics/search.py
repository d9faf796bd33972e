"""Exact search: scatter to the shard hosts, gather, publish, read back in Cassandra's order."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4, uuid5

import numpy as np
from numpy.typing import NDArray

from analytics.hosts import cover
from analytics.kernels import Images, merge_images
from cql import codec
from cql.errors import InputError, IntegrityError, NotFoundError, UnavailableError
from cql.records import NAMESPACE, Hit, Query, Snapshot
from cql.settings import Settings
from cql.store import Store
from cql.wire import Message, Pool

K_MAX = 10_000
EXAMPLES_MAX = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """What to look for: exactly one of images of the collection, a listing, or vectors.

    Several example vectors score a row by their maximum. `exclude` leaves the listings of
    the examples out of the result (it has no effect on `vectors`). `vectors`: float32 (Q, D),
    unit L2 norm. `source` is kept in the query's spec: where `vectors` came from, such as
    `upload:<sha256>`.
    """

    image_ids: tuple[UUID, ...] = ()
    listing_id: str | None = None
    vectors: NDArray[np.float32] | None = None
    k: int = 50
    exclude: bool = True
    name: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Published hits, score descending, then listing id. `exact`: all `rows` were scanned."""

    query: Query
    hits: tuple[Hit, ...]
    exact: bool
    rows: int
    rows_scanned: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Neighbours:
    """k nearest images of Q vectors; score descending, ties by image id.

    `scores` float32 (Q, K), `rows` int64 (Q, K): row numbers of the snapshot (shards in order),
    `images` uint8 (Q, K, 16): image ids. K = min(k, rows of the snapshot).
    """

    scores: NDArray[np.float32]
    rows: NDArray[np.int64]
    images: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stored:
    """A run of stored rows: `vectors` float32 (N, D), `images` uint8 (N, 16), N `listings`."""

    vectors: NDArray[np.float32]
    images: NDArray[np.uint8]
    listings: list[str]


class Searcher:
    """Asks the shard hosts of the live snapshot. Thread-safe; needs neither Spark nor torch."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._store = settings, store
        self._pool = Pool(settings)
        self._threads = ThreadPoolExecutor(16, thread_name_prefix="scatter")

    def close(self) -> None:
        """Close the connections to the hosts."""
        self._threads.shutdown()
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def snapshot(self) -> Snapshot:
        """Return the live snapshot. UnavailableError when none is live yet."""
        version = self._store.live("snapshot")
        if version is None:
            raise UnavailableError(
                "a snapshot must be live before anything can be searched, none is: "
                "run `sightline analyse` or wait for it"
            )
        return self._store.snapshot(version)

    def ready(self) -> bool:
        """Whether live hosts together hold every shard of the live snapshot."""
        try:
            return cover(self._store.services("host"), self.snapshot()) is not None
        except (UnavailableError, NotFoundError):
            return False

    def search(self, request: Request) -> Result:
        """Score every row, keep the k best listings, publish them, read them back.

        InputError for a request that breaks a rule, NotFoundError for an unknown image or listing,
        UnavailableError when the hosts do not cover the snapshot within `query_deadline_s`.
        """
        began = time.monotonic()
        _check_form(request)
        vectors, excluded, model_id = self._examples(request)
        snapshot, replies = self._scatter(
            "scan", {"k": request.k, "excluded": excluded}, vectors, model_id=model_id
        )
        rows = _all_rows(snapshot, replies)
        hits = _merge(replies, request.k)
        query, published = self._publish(
            request, vectors, snapshot, hits, rows, seconds=time.monotonic() - began
        )
        return Result(
            query=query,
            hits=published,
            exact=rows == snapshot.rows,
            rows=snapshot.rows,
            rows_scanned=rows,
            seconds=time.monotonic() - began,
        )

    def neighbours(
        self, vectors: NDArray[np.float32], k: int, *, snapshot: Snapshot | None = None
    ) -> Neighbours:
        """Find the k nearest images of each of the float32 (Q, D) vectors, over all rows.

        `snapshot`: the only one that may answer (default: the live one).
        """
        if k < 1:
            raise InputError(f"k must be at least 1, got {k}: raise it")
        asked, replies = self._scatter("neighbours", {"k": k}, vectors, snapshot=snapshot)
        _all_rows(asked, replies)
        parts = [
            Images(reply.arrays["scores"], reply.arrays["rows"], reply.arrays["images"])
            for reply in replies
        ]
        best = merge_images(parts, len(vectors), k)
        return Neighbours(scores=best.scores, rows=best.rows, images=best.images)

    def stored(self, snapshot: Snapshot, *, block: int = 4096) -> Iterator[Stored]:
        """Read every row that the hosts hold, in the snapshot's row order, block by block."""
        for shard in self._store.shards(snapshot.snapshot_id):
            for start in range(0, shard.rows, block):
                values = {"start": start, "count": block}
                empty = np.empty((0, snapshot.dim), np.float32)
                _, (reply,) = self._scatter(
                    "rows", values, empty, snapshot=snapshot, only=[shard.shard]
                )
                names = reply.values["listings"]
                yield Stored(
                    vectors=reply.arrays["vectors"],
                    images=reply.arrays["images"],
                    listings=[names[owner] for owner in reply.arrays["owners"]],
                )

    def _examples(self, request: Request) -> tuple[NDArray[np.float32], list[str], str | None]:
        """Vectors to score with, listings to leave out, and the model if vectors came from it."""
        if request.vectors is not None:
            return request.vectors, [], None
        model_id = self.snapshot().model_id
        if request.listing_id is not None:
            self._store.listing(request.listing_id)
            owners = {request.listing_id: None}
            features = list(self._store.features_of(request.listing_id, model_id))
        else:
            features, owners = [], {}
            for image_id in dict.fromkeys(request.image_ids):
                listing_id = self._store.image(image_id).listing_id
                owners[listing_id] = None
                found = [
                    feature
                    for feature in self._store.features_of(listing_id, model_id)
                    if feature.image_id == image_id
                ]
                if not found:
                    raise NotFoundError(
                        f"image {image_id} has no feature of model {model_id}: run extract first"
                    )
                features += found
        if not features:
            raise NotFoundError(
                f"listing {request.listing_id} has no feature of model {model_id}: "
                "run extract first"
            )
        vectors = codec.decode(
            [feature.vector for feature in features],
            [feature.crc32c for feature in features],
            dim=features[0].dim,
        )
        return vectors, list(owners) if request.exclude else [], model_id

    def _scatter(
        self,
        method: str,
        values: Mapping[str, Any],
        vectors: NDArray[np.float32],
        *,
        model_id: str | None = None,
        snapshot: Snapshot | None = None,
        only: Sequence[int] | None = None,
    ) -> tuple[Snapshot, list[Message]]:
        """Ask hosts that cover every shard (or `only` those) once; wait for hosts that recover."""
        deadline = time.monotonic() + self._settings.query_deadline_s
        pause, seen = 0.05, "no hosts are registered for it"
        while True:
            asked = snapshot or self.snapshot()
            check_examples(vectors, asked.dim)
            if model_id is not None and asked.model_id != model_id:
                raise UnavailableError(
                    f"examples of model {model_id} must meet a snapshot of it, the live one is of "
                    f"{asked.model_id}: ask again"
                )
            plan = cover(self._store.services("host"), asked)
            left = deadline - time.monotonic()
            if plan is not None and left > 0:
                if only is not None:
                    plan = [(host, sorted(set(took) & set(only))) for host, took in plan]
                    plan = [(host, took) for host, took in plan if took]
                calls = [
                    self._threads.submit(
                        self._pool.call,
                        host.address,
                        method,
                        Message(
                            {**values, "snapshot": str(asked.snapshot_id), "shards": took},
                            {"queries": vectors},
                        ),
                        timeout_s=left,
                    )
                    for host, took in plan
                ]
                try:
                    return asked, [call.result() for call in calls]
                except UnavailableError as error:
                    seen = str(error)
            if deadline - time.monotonic() <= pause:
                raise UnavailableError(
                    f"all {asked.shards} shards of snapshot {asked.snapshot_id} must answer within "
                    f"{self._settings.query_deadline_s:g} s, they did not ({seen}): try again when "
                    "the engine has started its hosts"
                )
            time.sleep(pause)
            pause = min(0.5, pause * 1.5)

    def _publish(
        self,
        request: Request,
        vectors: NDArray[np.float32],
        snapshot: Snapshot,
        hits: list[Hit],
        rows: int,
        *,
        seconds: float,
    ) -> tuple[Query, tuple[Hit, ...]]:
        spec = _spec(request, vectors)
        name = f"query\0{snapshot.snapshot_id}\0{request.name}\0{spec}"
        query_id = uuid5(NAMESPACE, name)
        attempt = uuid5(NAMESPACE, f"attempt\0{query_id}\0{time.time_ns()}\0{uuid4()}")
        query = Query(
            query_id=query_id,
            spec=spec,
            model_id=snapshot.model_id,
            snapshot_id=snapshot.snapshot_id,
            name=request.name,
            rows=snapshot.rows,
            rows_scanned=rows,
            seconds=seconds,
            created_at=datetime.now(UTC),
        )
        done = self._store.publish(query, attempt, hits)
        read: list[Hit] = []
        while len(read) < len(hits):
            page = self._store.hits(query_id, attempt, limit=1000, after=read[-1] if read else None)
            if not page:
                raise IntegrityError(
                    f"{len(hits)} hits were published, {len(read)} can be read back: search again"
                )
            read += page
        return done, tuple(read)


def check_examples(vectors: NDArray[Any], dim: int) -> None:
    """InputError unless `vectors` are float32 (Q, dim), finite and of unit L2 norm."""
    if vectors.ndim != 2:
        raise InputError("vectors must be a NumPy array of shape (Q, D): wrap one vector in a list")
    if vectors.shape[1] != dim:
        raise InputError(
            f"vectors have D={vectors.shape[1]}, the snapshot expects {dim}: "
            "embed the picture with the snapshot's model"
        )
    codec.check(vectors)


def _check_form(request: Request) -> None:
    forms = (bool(request.image_ids), request.listing_id is not None, request.vectors is not None)
    if sum(forms) != 1:
        raise InputError(
            f"a search starts from images, a listing or vectors, {sum(forms)} of them were given: "
            "give exactly one"
        )
    if request.vectors is not None and len(request.vectors) == 0:
        raise InputError("a search needs at least one vector, got none: embed a picture first")
    if not 1 <= request.k <= K_MAX:
        raise InputError(f"k must be from 1 to {K_MAX}, got {request.k}: ask for fewer listings")
    if len(request.image_ids) > EXAMPLES_MAX or (
        request.vectors is not None and len(request.vectors) > EXAMPLES_MAX
    ):
        raise InputError(f"a search takes at most {EXAMPLES_MAX} examples: leave some out")


def _all_rows(snapshot: Snapshot, replies: Sequence[Message]) -> int:
    rows = sum(int(reply.values["rows"]) for reply in replies)
    if rows != snapshot.rows:
        raise IntegrityError(f"all {snapshot.rows} rows must be scanned, {rows} were: ask again")
    return rows


def _merge(replies: Sequence[Message], k: int) -> list[Hit]:
    found = [
        Hit(score=float(score), listing_id=listing, image_id=UUID(bytes=image.tobytes()))
        for reply in replies
        for score, listing, image in zip(
            reply.arrays["scores"], reply.values["listings"], reply.arrays["images"], strict=True
        )
    ]
    found.sort(key=lambda hit: (-hit.score, hit.listing_id))
    return found[:k]


def _spec(request: Request, vectors: NDArray[np.float32]) -> str:
    """Canonical JSON; vectors of an upload are kept, so that the query can run again."""
    spec: dict[str, Any] = {"k": request.k, "exclude": request.exclude, "source": request.source}
    if request.image_ids:
        spec["image_ids"] = [str(image_id) for image_id in dict.fromkeys(request.image_ids)]
    elif request.listing_id is not None:
        spec["listing_id"] = request.listing_id
    else:
        spec["vectors"] = base64.b64encode(vectors.astype("<f4").tobytes()).decode()
        spec["dim"] = int(vectors.shape[1])
    return json.dumps(spec, sort_keys=True, separators=(",", ":"))
