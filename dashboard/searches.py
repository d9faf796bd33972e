"""Searches by images, listings and uploaded pictures, and published ones opened again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Self
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from analytics.hosting.pointers import LIVE, live_of, live_snapshots
from analytics.request import K_MAX
from analytics.search import Request, Result, Searcher
from cql.errors import InputError
from cql.records import Hit, Model, Query
from cql.settings import Settings
from cql.store import Store
from cql.wire import Message, Pool
from dashboard import ledger, present
from dashboard.answers import HitView, QueryView, SearchView
from dashboard.asking import ask
from dashboard.photos import Photos

FIRST = 500
"""Hits that come with an answer; the others are read page by page."""

UPLOADS_MAX = 16
"""Pictures that one search may bring."""

_READERS = 32
"""Searches whose titles are read at once."""

Picture = tuple[bytes, str]
"""An uploaded picture and the name of its file."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page of hits begins: behind a hit, of which `read` came so far, `hidden` unseen.

    They are of one `attempt`, which has `total`: the query may be asked again between two pages.
    """

    read: int
    hidden: int
    total: int
    attempt: UUID
    score: float
    listing_id: str

    def write(self) -> str:
        """The text that the next page is asked with."""
        counts = f"{self.read},{self.hidden},{self.total}"
        return f"{counts},{self.attempt},{self.score!r},{self.listing_id}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """InputError for a text that `write` did not make."""
        try:
            *counts, attempt, score, listing_id = text.split(",", 5)
            read, hidden, total = map(int, counts)
            found = cls(read, hidden, total, UUID(attempt), float(score), listing_id)
        except ValueError:
            found = None
        if (
            found is None
            or not math.isfinite(found.score)
            or not 0 <= found.hidden <= found.read <= found.total <= K_MAX
        ):
            raise InputError(
                f"after must be the next_after of the page before, got {text[:80]!r}: leave it out "
                "to begin at the first hit"
            )
        return found


class Searches:
    """Thread-safe; asks the searcher, and an engine where a picture must become a vector."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        searcher: Searcher,
        photos: Photos,
        *,
        pool: Pool | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._searcher = searcher
        self._photos = photos
        self._pool = pool or Pool(settings)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="titles")

    def close(self) -> None:
        """Close the connections to engines."""
        self._readers.shutdown()
        self._pool.close()

    def ask(self, request: Request) -> SearchView:
        """Search; the view has the first `FIRST` hits with their titles."""
        reading: list[Future[dict[str, str]]] = []

        def read(hits: Sequence[Hit]) -> None:
            # Titles are read while the hits are published: both take as long.
            first = [hit.listing_id for hit in hits[:FIRST]]
            reading.append(self._readers.submit(self._store.titles_of, first))

        result: Result = self._searcher.search(request, meanwhile=read)
        titles = reading[-1].result()
        return self._view(result.query, result.hits[:FIRST], titles, result=result)

    def upload(self, pictures: Sequence[Picture], request: Request) -> SearchView:
        """Embed pictures by an engine, keep them, search by them and by all else of `request`.

        The model is the one that the request names, else the default one; the query records it.
        Only what decodes is kept.
        """
        if not 1 <= len(pictures) <= UPLOADS_MAX:
            raise InputError(
                f"a search may bring 1 to {UPLOADS_MAX} pictures, it has {len(pictures)}: "
                "send fewer"
            )
        for data, _ in pictures:
            self._photos.check(data)
        model_id = self._searcher.snapshot(request.model).model_id
        vectors = np.concatenate([self._embed(data, model_id) for data, _ in pictures])
        digests = [self._photos.keep(data) for data, _ in pictures]
        names = ", ".join(ledger.one_line(filename) for _, filename in pictures if filename)
        return self.ask(
            replace(
                request,
                vectors=vectors,
                model=model_id,
                name=request.name or names[:120] or "uploaded picture",
                source=f"upload:{','.join(digests)}",
            )
        )

    def published(self, query_id: UUID, *, limit: int, after: str = "") -> SearchView:
        """A page of a query as it was published, never a part of one. NotFoundError."""
        found = self._store.query(query_id)
        cursor = Cursor.parse(after) if after else None
        behind = None
        if cursor is not None:
            # Only its place counts, so any image will do.
            behind = Hit(score=cursor.score, listing_id=cursor.listing_id, image_id=query_id)
            found = replace(found, attempt=cursor.attempt, hits=cursor.total)
        read = cursor.read if cursor else 0
        hits = self._store.hits_of(found, limit=limit, after=behind, read=read)
        titles = self._store.titles_of(hit.listing_id for hit in hits)
        return self._view(found, hits, titles, cursor=cursor)

    def asked(self, query_id: UUID) -> Request:
        """What a stored query asked, so that it can be asked again. NotFoundError.

        One of a model whose weights were replaced is asked of the new ones. Uploaded pictures are
        embedded again where their model has no snapshot any more.
        """
        query = self._store.query(query_id)
        request = Request.parse(query.spec, name=query.name)
        request = replace(request, model=self._living(request))
        if request.vectors is None:
            return request
        model_id = self._searcher.snapshot(request.model).model_id
        if model_id == query.model_id:
            return request
        digests = present.query_view(query).uploads
        if not digests:
            raise InputError(
                f"the vectors of query {query_id} are of the model {query.model_id}, {model_id} is "
                "live: search anew"
            )
        vectors = [self._embed(self._photos.kept(digest), model_id) for digest in digests]
        return replace(request, vectors=np.concatenate(vectors), model=model_id)

    def models(self) -> tuple[Model, ...]:
        """Models that can be searched: the default one first, then by name."""
        found = [self._store.model(model_id) for model_id in live_snapshots(self._store)]
        return (*found[:1], *sorted(found[1:], key=lambda each: (each.name, each.model_id)))

    def _living(self, request: Request) -> str | None:
        """The model to ask a stored request of."""
        known = {model.model_id: model for model in self.models()} if request.model else {}
        if request.model is None or request.model in known:
            return request.model
        name = self._store.model(request.model).name
        same = [model_id for model_id, model in known.items() if model.name == name]
        if same:
            return same[0]
        # Pictures can be embedded by any model; images of the collection would change the question.
        return None if request.vectors is not None else request.model

    def rename(self, query_id: UUID, name: str) -> QueryView:
        """Give a query another name. NotFoundError, InputError for a name that cannot be."""
        return present.query_view(self._store.rename_query(query_id, name))

    def history(self, limit: int) -> tuple[QueryView, ...]:
        """Queries, newest first."""
        return tuple(present.query_view(query) for query in self._store.queries(limit))

    def _embed(self, data: bytes, model_id: str) -> NDArray[np.float32]:
        message = Message({"model_id": model_id}, {"image": np.frombuffer(data, np.uint8)})
        reply = ask(
            self._store,
            self._pool,
            "embed",
            message,
            timeout_s=self._settings.query_deadline_s,
            what="to search by an uploaded picture",
        )
        return np.asarray(reply.arrays["vectors"], np.float32)

    def _view(
        self,
        query: Query,
        hits: Sequence[Hit],
        titles: Mapping[str, str],
        *,
        cursor: Cursor | None = None,
        result: Result | None = None,
    ) -> SearchView:
        """Hits with titles. A listing that was deleted since it was scored is left out."""
        left = [hit for hit in hits if hit.listing_id in titles]
        read, hidden = (cursor.read, cursor.hidden) if cursor else (0, 0)
        shown = tuple(
            HitView(
                rank=rank,
                score=hit.score,
                listing_id=hit.listing_id,
                title=titles[hit.listing_id],
                image_id=hit.image_id,
                inventory=hit.inventory,
                stock_read_at=hit.stock_read_at,
            )
            for rank, hit in enumerate(left, read - hidden + 1)
        )
        hidden += len(hits) - len(left)
        read += len(hits)
        following: Any = None
        if hits and read < query.hits and query.attempt is not None:
            last = hits[-1]
            following = Cursor(
                read, hidden, query.hits, query.attempt, last.score, last.listing_id
            ).write()
        return present.search_view(
            replace(query, hits=query.hits - hidden),
            shown,
            # A search asked for the pointer itself, a moment ago.
            current=result is not None or self._is_current(query),
            next_after=following,
            result=result,
        )

    def _is_current(self, query: Query) -> bool:
        """Whether the live snapshot of its model answered it."""
        live = self._store.live(live_of(query.model_id)) or self._store.live(LIVE)
        return query.snapshot_id == live
