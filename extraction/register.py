"""What an ingest does around its files: listings, stock, and telling how far it is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar
from uuid import uuid5

from cql.progress import Progress
from cql.records import NAMESPACE, Listing, Stock
from cql.store import Store

Item = TypeVar("Item")

_LOOKUP = 500
_REPORT_S = 0.5


def put_listings(store: Store, listings: dict[str, Listing]) -> int:
    """Write listings that are new or differ; returns how many."""
    written = 0
    for ids in chunks(listings, _LOOKUP):
        stored = store.listings(ids)
        changed = [listings[name] for name in ids if stored.get(name) != listings[name]]
        if changed:
            store.put_listings(changed)
            written += len(changed)
    return written


def load_stock(store: Store, stock: dict[str, int]) -> None:
    """Load the stock of listings that have none yet; live stock is never overwritten."""
    for ids in chunks(stock, _LOOKUP):
        stored = store.stock(ids)
        rows = [
            Stock(
                listing_id=name,
                inventory=stock[name],
                etag=str(uuid5(NAMESPACE, f"stock\0{name}\0{stock[name]}")),
            )
            for name in ids
            if name not in stored
        ]
        if rows:
            store.load_stock(rows)


class Clock:
    """Tells progress now and then, with rate and time left."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total
        self._start = time.monotonic()
        self._next = self._start
        progress("ingest", 0, total)

    def tick(self, done: int, unchanged: int, failed: int, *, last: bool = False) -> None:
        """Tell that `done` files have their state, if it is time to (or it is the `last`)."""
        now = time.monotonic()
        if now < self._next and not last:
            return
        self._next = now + _REPORT_S
        rate = done / max(now - self._start, 1e-6)
        parts = [
            f"{rate:,.0f} files/s",
            f"{max(0, self._total - done) / max(rate, 1e-6):,.0f} s left",
        ]
        if unchanged:
            parts.append(f"{unchanged:,} unchanged")
        if failed:
            parts.append(f"{failed:,} failed")
        self._progress("ingest", done, self._total, ", ".join(parts))


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of at most `size` items, in order."""
    source = iter(items)
    while chunk := list(islice(source, size)):
        yield chunk
