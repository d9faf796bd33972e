"""What searches were asked and what they found, as pages show it and the API serialises it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class HitView:
    """One listing of an answer: rank from 1, its score and the image of it that won.

    A search for what is in stock says how many there were (`inventory`) and when that was read.
    """

    rank: int
    score: float
    listing_id: str
    title: str
    image_id: UUID
    inventory: int | None = None
    stock_read_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedView:
    """What was asked: examples for (images, a listing's photos, uploads by SHA-256) and against.

    A listing scores its best photo (`aggregate` max), the mean of its `best` best photos (mean), or
    the example that it matches worst (coverage). `selection` on the map `map_id`, `within` (the
    listings of another query) and `in_stock` say which could be found, `model` (an id) by whose
    vectors; None: by those of the default model.
    """

    image_ids: tuple[UUID, ...] = ()
    listing_id: str | None = None
    uploads: tuple[str, ...] = ()
    negatives: tuple[UUID, ...] = ()
    aggregate: str = "max"
    best: int = 3
    selection: Mapping[str, Any] = field(default_factory=dict)
    map_id: UUID | None = None
    within: UUID | None = None
    in_stock: bool = False
    model: str | None = None
    k: int = 50
    exclude: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchView(AskedView):
    """A published query with a page of its hits, in Cassandra's clustering order.

    `hits_total` listings were found and still exist; the page after this one is asked for by
    `next_after`, None on the last. All `rows` vectors were searched: `scanned` of them passed the
    filters and `rescored` were scored in full. The change log is taken in up to `followed_at`,
    `lag_s` seconds before the answer, but for `behind` listings that wait for the next snapshot.
    These five are None of a query that is read again. `current` is false when the snapshot that
    answered is no longer the live one.
    """

    query_id: UUID
    name: str
    state: str
    exact: bool
    rows: int
    rows_scanned: int
    scanned: int | None = None
    rescored: int | None = None
    followed_at: datetime | None = None
    lag_s: float | None = None
    behind: int | None = None
    seconds: float
    snapshot_id: UUID
    model_id: str
    current: bool
    created_at: datetime | None
    hits_total: int
    hits: tuple[HitView, ...]
    next_after: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryView(AskedView):
    """A line of the query history."""

    query_id: UUID
    name: str
    state: str
    hits: int
    seconds: float
    created_at: datetime | None
