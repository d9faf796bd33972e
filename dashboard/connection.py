"""Stores that are opened while Cassandra still starts, and again after it was gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Self, TypeVar

from cql.errors import UnavailableError
from cql.migrations import migrate
from cql.session import close, connect
from cql.settings import Settings
from cql.store import Store

T = TypeVar("T")

START_S = 180.0
"""Seconds to wait for a Cassandra that starts: it may have a long commit log to replay."""

OUTAGE_S = 120.0
"""Seconds without an answer after which work is given up."""


def open_store(settings: Settings) -> Store:
    """Connect, and apply the migrations that are missing: any process may come first.

    UnavailableError when Cassandra does not answer.
    """
    session = connect(settings)
    try:
        migrate(session, settings)
    except BaseException:
        close(session)
        raise
    return Store(session, settings)


def await_store(settings: Settings, stop: threading.Event, *, wait_s: float = START_S) -> Store:
    """Open the store of a Cassandra that may still be starting. UnavailableError after `wait_s`."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return open_store(settings)
        except UnavailableError:
            if time.monotonic() > deadline or stop.wait(0.3):
                raise


class Connection:
    """A store that is opened again after an outage: Cassandra may die and come back."""

    def __init__(self, settings: Settings, stop: threading.Event) -> None:
        self._settings = settings
        self._stop = stop
        self._store: Store | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

    def call(self, work: Callable[[Store], T]) -> T:
        """`work(store)`, tried again while Cassandra does not answer, for two minutes at most."""
        deadline = time.monotonic() + OUTAGE_S
        while True:
            try:
                if self._store is None:
                    self._store = open_store(self._settings)
                return work(self._store)
            except UnavailableError:
                self._drop()
                if time.monotonic() > deadline or self._stop.wait(0.5):
                    raise

    def _drop(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()
