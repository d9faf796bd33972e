"""Following the change log: a host shows what changed since its snapshot, and what is in stock."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

import numpy as np

from analytics.hosting.holding import Current, Holding
from cql import codec
from cql.errors import IntegrityError
from cql.records import Change, Feature, Listing, Stock

log = logging.getLogger(__name__)

OVERLAP_S = 10.0
"""The log is read again this far back: writers' clocks differ, and a write takes a moment."""

RELOAD_S = 600.0
"""All stock is read again this often: a writer may have died before it logged its change."""

BLOCK = 256
"""Listings read again at a time."""


class Log(Protocol):
    """The part of the store that is followed."""

    def changes(self, since: datetime, until: datetime) -> Iterator[Change]:
        """Changes in [since, until), oldest first."""

    def features_of(self, listing_id: str, model_id: str) -> list[Feature]:
        """Features of one listing, by image id."""

    def listings(self, listing_ids: Iterable[str]) -> dict[str, Listing]:
        """Those that exist."""

    def stock(self, listing_ids: Iterable[str]) -> dict[str, Stock]:
        """Stock of those that have any."""

    def iter_stock(self) -> Iterator[Stock]:
        """All stock."""


class Follower:
    """Keeps one holding up to date; `poll` is called again and again from one thread.

    A listing named by the log is read again whole, so that the order of entries, and one that is
    read twice, change nothing.
    """

    def __init__(self, store: Log, holding: Holding) -> None:
        self._store, self._holding = store, holding
        self._since = holding.snapshot.watermark - timedelta(seconds=OVERLAP_S)
        self._seen: dict[UUID, datetime] = {}
        self._waiting: dict[str, None] = {}
        self._broken: set[str] = set()
        self._stocked = -math.inf

    def poll(self) -> None:
        """Take in what was logged since the last poll, and all stock where that is due."""
        if time.monotonic() - self._stocked > RELOAD_S:
            self._load_stock()
        self.catch_up()

    def catch_up(self, *, within_s: float = math.inf) -> None:
        """Take in what was logged since the last time. Stock is known only after a `poll`.

        What is not read within `within_s` seconds waits for the next time: the holding is `behind`.
        """
        began, end = datetime.now(UTC), time.monotonic() + within_s
        # Entries of clocks that go ahead of this one are seen now rather than late.
        ahead = began + timedelta(seconds=OVERLAP_S)
        stock: dict[str, None] = {}
        for change in self._store.changes(self._since, ahead):
            if change.change_id in self._seen:
                continue
            self._seen[change.change_id] = change.at
            if change.kind == "stock":
                stock[change.listing_id] = None
            elif change.kind != "image_added":  # an image can be found once it has a feature
                self._waiting[change.listing_id] = None
        for names in _blocks(list(stock)):
            found = self._store.stock(names)
            self._holding.set_stock(
                {name: name in found and found[name].inventory > 0 for name in names}
            )
        self._take_in(end)
        self._since = began - timedelta(seconds=OVERLAP_S)
        self._seen = {key: at for key, at in self._seen.items() if at >= self._since}
        self._holding.followed_at = began

    def _load_stock(self) -> None:
        began = time.monotonic()
        names: list[str] = []
        levels: list[bool] = []
        for each in self._store.iter_stock():
            names.append(each.listing_id)
            levels.append(each.inventory > 0)
        self._holding.load_stock(names, np.array(levels, bool))
        self._stocked = began

    def _take_in(self, end: float) -> None:
        names = self._holding.own(self._waiting)
        room = True
        for block in _blocks(names):
            room = self._holding.room() > 0
            if not room or time.monotonic() > end:
                break
            read = list(self._read(block))
            self._holding.change(read, self._stock_of(block))
            for each in read:
                del self._waiting[each.listing_id]
        self._waiting = dict.fromkeys(name for name in names if name in self._waiting)
        self._broken &= set(self._waiting)
        # The next snapshot would have no use for what is broken.
        behind = len(self._waiting) - len(self._broken)
        if behind and not room and not self._holding.behind:
            log.warning(
                "%d changed listings wait for the next snapshot: this host has no room for more",
                behind,
            )
        self._holding.behind = behind

    def _stock_of(self, names: Sequence[str]) -> dict[str, bool]:
        found = self._store.stock(names)
        return {name: each.inventory > 0 for name, each in found.items()}

    def _read(self, names: Sequence[str]) -> Iterator[Current]:
        """Listings as they are now; one with a damaged vector is left out: it stays as it was."""
        snapshot = self._holding.snapshot
        known = self._store.listings(names)
        for name in names:
            features = self._store.features_of(name, snapshot.model_id)
            features = [each for each in features if each.dim == snapshot.dim]
            ids = b"".join(each.image_id.bytes for each in features)
            try:
                vectors = codec.decode(
                    [each.vector for each in features],
                    [each.crc32c for each in features],
                    dim=snapshot.dim,
                )
            except IntegrityError as error:
                if name not in self._broken:
                    log.error("listing %s is shown as it was: %s", name, error)  # noqa: TRY400
                self._broken.add(name)
                continue
            images = np.frombuffer(ids, np.uint8).reshape(-1, 16)
            # Rows of a listing are in the order of their ids' bytes, as in shards.
            order = np.argsort([each.image_id.bytes for each in features], kind="stable")
            yield Current(
                name,
                np.ascontiguousarray(vectors[order]),
                images[order],
                known[name].attributes if name in known else {},
            )


def _blocks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(names), BLOCK):
        yield names[at : at + BLOCK]
