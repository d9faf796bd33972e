"""Searches by images, listings and uploaded pictures, and published ones opened again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np

from analytics.search import Request, Result, Searcher
from cql.errors import UnavailableError
from cql.records import Hit, Query
from cql.settings import Settings
from cql.store import Store
from cql.wire import Message, Pool
from dashboard import ledger, present
from dashboard.photos import Photos
from dashboard.views import HitView, QueryView, SearchView


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

    def close(self) -> None:
        """Close the connections to engines."""
        self._pool.close()

    def ask(self, request: Request) -> SearchView:
        """Search, with the titles of what was found."""
        result: Result = self._searcher.search(request)
        return self._view(result.query, result.hits)

    def upload(self, data: bytes, *, filename: str, k: int) -> SearchView:
        """Embed the picture by an engine, keep it, search. Only what decodes is kept."""
        self._photos.check(data)
        vectors = self._embed(data, self._searcher.snapshot().model_id)
        digest = self._photos.keep(data)
        name = ledger.one_line(filename)[:120] or "uploaded picture"
        return self.ask(Request(vectors=vectors, k=k, name=name, source=f"upload:{digest}"))

    def published(self, query_id: UUID, *, limit: int) -> SearchView:
        """A query as it was published. NotFoundError."""
        found = self._store.query(query_id)
        hits: Sequence[Hit] = ()
        if found.attempt is not None:
            hits = self._store.hits(query_id, found.attempt, limit=limit)
        return self._view(found, hits)

    def history(self, limit: int) -> tuple[QueryView, ...]:
        """Queries, newest first."""
        return tuple(present.query_view(query) for query in self._store.queries(limit))

    def _embed(self, data: bytes, model_id: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        message = Message({"model_id": model_id}, {"image": np.frombuffer(data, np.uint8)})
        trouble = "no engine is alive: start one to search by an uploaded picture"
        for engine in self._store.services("engine"):
            try:
                reply = self._pool.call(
                    engine.address, "embed", message, timeout_s=self._settings.query_deadline_s
                )
            except UnavailableError as error:
                trouble = str(error)
                continue
            return np.asarray(reply.arrays["vectors"], np.float32)
        raise UnavailableError(trouble)

    def _view(self, query: Query, hits: Sequence[Hit]) -> SearchView:
        """Hits with titles. A listing that was deleted since it was scored is left out."""
        known = self._store.listings(sorted({hit.listing_id for hit in hits})) if hits else {}
        left = [hit for hit in hits if hit.listing_id in known]
        shown = tuple(
            HitView(
                rank=rank,
                score=hit.score,
                listing_id=hit.listing_id,
                title=known[hit.listing_id].title,
                image_id=hit.image_id,
            )
            for rank, hit in enumerate(left, 1)
        )
        current = query.snapshot_id == self._store.live("snapshot")
        counted = replace(query, hits=query.hits - (len(hits) - len(left)))
        return present.search_view(counted, shown, current=current)
