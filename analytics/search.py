"""Exact search: scatter to the shard hosts, gather, publish, read back in Cassandra's order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import starmap
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4, uuid5

import numpy as np
from numpy.typing import NDArray

from analytics.examples import Examples, resolve
from analytics.identity import unpacked
from analytics.kernels import Images, merge_images
from analytics.request import K_MAX, Request
from analytics.scatter import MovedError, Scatter, Standing, all_rows
from analytics.shared import Shared
from cql.access import now
from cql.errors import (
    InputError,
    SightlineError,
    UnavailableError,
)
from cql.records import NAMESPACE, Hit, Query, Snapshot
from cql.settings import Settings
from cql.store import Store
from cql.wire import Message

__all__ = ["K_MAX", "Neighbours", "Request", "Result", "Searcher", "Stored"]

_PAGE = 1000
_SPARE = 16
"""Hits asked for beyond k where some may have sold out a moment ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Published hits, score descending, then listing id.

    `exact`: every row of the snapshot was decided. `rows`: images searched, with what changed
    since the snapshot was built; `scanned` of them passed the filters and were bounded by their
    codes, `rescored` were read as float32. `followed_at`: the change log is taken in up to then,
    but for `behind` listings that wait for the next snapshot; `lag_s`: seconds since.
    """

    query: Query
    hits: tuple[Hit, ...]
    exact: bool
    rows: int
    rows_scanned: int
    scanned: int
    rescored: int
    followed_at: datetime | None
    lag_s: float | None
    behind: int
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


@dataclass(frozen=True, slots=True, eq=False)
class _Scan:
    """What all hosts found together; `decided` rows of the snapshot were in their shards."""

    snapshot: Snapshot
    hits: list[Hit]
    decided: int
    rows: int
    scanned: int
    rescored: int
    followed_at: datetime | None
    behind: int


class Searcher:
    """Asks the shard hosts of a live snapshot. Thread-safe; needs neither Spark nor torch."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._store = settings, store
        self._scatter = Scatter(settings, store)
        # Queries that arrive together read once which map is live. It takes two to share.
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="map")
        self._map = Shared(self._read_map)
        self._map_id: UUID | None = None

    @property
    def settings(self) -> Settings:
        """Settings that it was opened with."""
        return self._settings

    def close(self) -> None:
        """Close the connections to the hosts."""
        self._readers.shutdown()
        self._scatter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def snapshot(self, model: str | None = None) -> Snapshot:
        """Return the live snapshot of a model, by its id or name (None: the default one).

        UnavailableError when none is live yet, NotFoundError for a model that has none, InputError
        for a name that several have.
        """
        return self._scatter.snapshot(model)

    def ready(self) -> bool:
        """Whether live hosts together hold every shard of the default snapshot."""
        return self._scatter.ready()

    def search(
        self, request: Request, *, meanwhile: Callable[[Sequence[Hit]], object] | None = None
    ) -> Result:
        """Score every row that may count, publish the k best listings, read them back.

        `meanwhile` is called with the hits just before they are published, to begin what else they
        need: it must not wait.

        InputError for a request that breaks a rule, NotFoundError for an unknown image, listing,
        query or model, UnavailableError when the hosts do not cover the snapshot within
        `query_deadline_s`.
        """
        began = time.monotonic()
        request.check()
        request, found = self._found(request, began)
        if meanwhile is not None:
            meanwhile(found.hits)
        query, published = self._publish(
            request, found.snapshot, found.hits, found.rows, seconds=time.monotonic() - began
        )
        lag = None
        if found.followed_at is not None:
            lag = max(0.0, (datetime.now(UTC) - found.followed_at).total_seconds())
        return Result(
            query=query,
            hits=published,
            exact=found.decided == found.snapshot.rows,
            rows=found.rows,
            rows_scanned=found.rows,
            scanned=found.scanned,
            rescored=found.rescored,
            followed_at=found.followed_at,
            lag_s=lag,
            behind=found.behind,
            seconds=time.monotonic() - began,
        )

    def _found(self, request: Request, began: float) -> tuple[Request, _Scan]:
        """What a request finds, and the request as it was asked of the snapshot that is live."""
        tried = self._scatter.guess(began) if request.model is None else None
        selects = request.selects and request.map_id is None
        # Which map a selection is about is read while the rest is.
        drawn = self._map.later(self._readers) if selects else None
        if tried is not None:
            map_id = self._map_id if selects else None
            # Hosts are asked what the last query was, while it is read whether that still holds.
            live = self._scatter.version_later(tried)

            def holds() -> bool:
                same = map_id is None or (drawn is not None and drawn.result() == map_id)
                return same and live() == tried.snapshot.snapshot_id

            try:
                return self._answered(request, tried, holds, map_id or drawn)
            except MovedError:
                pass  # it is asked again, of what was read meanwhile
            except SightlineError:
                if holds():
                    raise
        standing = self._scatter.standing(request.model)
        return self._answered(request, standing, lambda: True, drawn)

    def _answered(
        self,
        request: Request,
        standing: Standing,
        holds: Callable[[], bool],
        drawn: UUID | Future[UUID | None] | None,
    ) -> tuple[Request, _Scan]:
        """`_found` in the snapshot that stands; MovedError unless `holds`.

        It is asked when the hosts have answered. `drawn`: the map of the selection.
        """
        snapshot = standing.snapshot
        request = self._fixed(request, snapshot, drawn)
        examples = resolve(self._store, request, snapshot.model_id)
        found = self._scan(request, examples, request.k, standing)
        if not holds():
            raise MovedError
        return request, self._refilled(request, examples, found) if request.in_stock else found

    def neighbours(
        self, vectors: NDArray[np.float32], k: int, *, snapshot: Snapshot | None = None
    ) -> Neighbours:
        """Find the k nearest images of each of the float32 (Q, D) vectors, over all rows.

        `snapshot`: the only one that may answer (default: the live one).
        """
        if k < 1:
            raise InputError(f"k must be at least 1, got {k}: raise it")
        asked, replies = self._scatter.ask(
            "neighbours", {"k": k}, {"queries": vectors}, snapshot=snapshot
        )
        all_rows(asked, replies)
        parts = [
            Images(reply.arrays["scores"], reply.arrays["rows"], reply.arrays["images"])
            for reply in replies
        ]
        best = merge_images(parts, len(vectors), k)
        return Neighbours(scores=best.scores, rows=best.rows, images=best.images)

    def over_all(
        self, method: str, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> tuple[Snapshot, list[Message]]:
        """Ask all hosts of the live snapshot a method of theirs; every row is spoken for.

        `arrays` are float32 (Q, D) of unit norm, as everywhere. UnavailableError as of `search`.
        """
        snapshot, replies = self._scatter.ask(method, values, arrays)
        all_rows(snapshot, replies)
        return snapshot, replies

    def stored(self, snapshot: Snapshot, *, block: int = 4096) -> Iterator[Stored]:
        """Read every row that the hosts hold, in the snapshot's row order, block by block."""
        for shard in self._store.shards(snapshot.snapshot_id):
            for start in range(0, shard.rows, block):
                values = {"start": start, "count": block}
                _, (reply,) = self._scatter.ask(
                    "rows", values, {}, snapshot=snapshot, only=[shard.shard]
                )
                names = reply.values["listings"]
                yield Stored(
                    vectors=reply.arrays["vectors"],
                    images=reply.arrays["images"],
                    listings=[names[owner] for owner in reply.arrays["owners"]],
                )

    def _fixed(
        self,
        request: Request,
        snapshot: Snapshot,
        drawn: UUID | Future[UUID | None] | None,
    ) -> Request:
        """The request with the map of its selection and the id of its model: its spec says them."""
        if request.model is not None:
            request = replace(request, model=snapshot.model_id)
        if not request.selects:
            return replace(request, map_id=None)
        map_id = drawn.result() if isinstance(drawn, Future) else drawn or request.map_id
        if map_id is None:
            raise InputError(
                "a selection is about a map, none is live yet: run `sightline analyse`, or search "
                "without one"
            )
        return replace(request, map_id=map_id)

    def _scan(
        self,
        request: Request,
        examples: Examples,
        k: int,
        known: Standing | None = None,
    ) -> _Scan:
        snapshot, replies = self._scatter.ask(
            "scan",
            {
                "k": k,
                "aggregate": request.aggregate,
                "best": request.best,
                "excluded": examples.excluded,
                "within": examples.within,
                "selection": request.selection.to_json(),
                "map": None if request.map_id is None else str(request.map_id),
                "in_stock": request.in_stock,
            },
            {"positives": examples.positives, "negatives": examples.negatives},
            model=request.model,
            model_id=examples.model_id,
            known=known,
        )
        decided = all_rows(snapshot, replies)
        times = [reply.values["followed_at"] for reply in replies]
        return _Scan(
            snapshot,
            _merge(replies, k),
            decided,
            sum(int(reply.values["rows"]) for reply in replies),
            sum(int(reply.values["scanned"]) for reply in replies),
            sum(int(reply.values["rescored"]) for reply in replies),
            # The host that is furthest behind tells how old the answer may be.
            datetime.fromtimestamp(min(times), UTC) if times and None not in times else None,
            sum(int(reply.values["behind"]) for reply in replies),
        )

    def _refilled(self, request: Request, examples: Examples, found: _Scan) -> _Scan:
        """The k best listings that are in stock by a read of now; asks for more until k stand."""
        wanted = request.k
        while True:
            hits = self._in_stock(found.hits, request.k)
            if len(hits) >= request.k or len(found.hits) < wanted:
                return replace(found, hits=hits)
            wanted = 2 * wanted + _SPARE
            found = self._scan(request, examples, wanted)

    def _in_stock(self, hits: Sequence[Hit], k: int) -> list[Hit]:
        """The first k hits that are in stock, each with what was read and when."""
        kept: list[Hit] = []
        for at in range(0, len(hits), _PAGE):
            some = hits[at : at + _PAGE]
            levels = self._store.stock([hit.listing_id for hit in some])
            moment = now()
            for hit in some:
                level = levels.get(hit.listing_id)
                if level is not None and level.inventory > 0:
                    kept.append(hit._replace(inventory=level.inventory, stock_read_at=moment))
            if len(kept) >= k:
                break
        return kept[:k]

    def _read_map(self) -> UUID | None:
        """The live map, as the next query will take it to be."""
        self._map_id = self._store.live("map")
        return self._map_id

    def _publish(
        self,
        request: Request,
        snapshot: Snapshot,
        hits: list[Hit],
        rows: int,
        *,
        seconds: float,
    ) -> tuple[Query, tuple[Hit, ...]]:
        spec = request.spec()
        name = f"query\0{snapshot.snapshot_id}\0{request.name}\0{spec}"
        query_id = uuid5(NAMESPACE, name)
        attempt = uuid5(NAMESPACE, f"attempt\0{query_id}\0{time.time_ns()}\0{uuid4()}")
        query = Query(
            query_id=query_id,
            spec=spec,
            model_id=snapshot.model_id,
            snapshot_id=snapshot.snapshot_id,
            name=request.name,
            rows=rows,
            rows_scanned=rows,
            seconds=seconds,
            created_at=datetime.now(UTC),
        )
        done, read = self._store.publish_and_read(query, attempt, hits, limit=_PAGE)
        while len(read) < len(hits):
            page = (
                self._store.hits(query_id, attempt, limit=_PAGE, after=read[-1]) if read else None
            )
            if not page:
                raise UnavailableError(
                    f"{len(hits)} hits were published, {len(read)} can be read back, as after a "
                    "restart of Cassandra: try again"
                )
            read += page
        return done, tuple(read)


def _merge(replies: Sequence[Message], k: int) -> list[Hit]:
    """The k best hits of all replies: score descending, then listing."""
    found: list[Hit] = []
    for reply in replies:
        scores, images = reply.arrays["scores"].tolist(), unpacked(reply.arrays["images"])
        found += starmap(Hit, zip(scores, reply.values["listings"], images, strict=True))
    found.sort(key=lambda hit: (-hit.score, hit.listing_id))
    return found[:k]
