"""Sizes of the clusters as a web worker sees them: asked of the engine, a chosen one queued."""

from __future__ import annotations

import threading
from collections import OrderedDict
from uuid import UUID

from analytics.jobs import submit
from cql.errors import InputError
from cql.records import Job
from cql.settings import Settings
from cql.store import Store
from cql.wire import Message, Pool
from dashboard.asking import ask
from dashboard.views import SizeView, StabilityView

KIND = "cluster_size"
"""Kind of the job that publishes a map with clusters of another size."""

TIMEOUT_S = 30.0
"""The first question about a map waits until its tree is open."""

LARGEST = 10**9
KEPT = 4


class Sizes:
    """Thread-safe. What a map's sizes give never changes, so the curve is kept by map id."""

    def __init__(self, settings: Settings, store: Store, *, pool: Pool | None = None) -> None:
        self._settings, self._store = settings, store
        self._pool = pool
        self._lock = threading.Lock()
        self._curves: OrderedDict[UUID, StabilityView] = OrderedDict()

    def close(self) -> None:
        """Close the connections to engines."""
        if self._pool is not None:
            self._pool.close()

    def stability(self, map_id: UUID) -> StabilityView:
        """What every size gives. UnavailableError without an engine."""
        with self._lock:
            if map_id in self._curves:
                return self._curves[map_id]
        reply = self._ask("stability", Message({"map_id": str(map_id)}))
        arrays = {name: tuple(values.tolist()) for name, values in reply.arrays.items()}
        found = StabilityView(
            map_id=map_id,
            size=int(reply.values["size"]),
            automatic=int(reply.values["automatic"]),
            **arrays,
        )
        with self._lock:
            self._curves[map_id] = found
            while len(self._curves) > KEPT:
                self._curves.popitem(last=False)
        return found

    def preview(self, map_id: UUID, size: int) -> SizeView:
        """How many clusters one size gives, and how much it leaves out."""
        check(size)
        reply = self._ask("preview", Message({"map_id": str(map_id), "size": size}))
        return SizeView(
            map_id=map_id,
            size=size,
            clusters=int(reply.values["clusters"]),
            noise=float(reply.values["noise"]),
        )

    def choose(self, map_id: UUID, size: int | None) -> Job:
        """Queue the job that publishes the map with clusters of a size; None: what suits it."""
        if size is not None:
            check(size)
        return submit(self._store, KIND, {"map_id": str(map_id), "size": size})

    def _ask(self, method: str, message: Message) -> Message:
        with self._lock:
            self._pool = pool = self._pool or Pool(self._settings)
        what = "to see what sizes of the clusters give"
        return ask(self._store, pool, method, message, timeout_s=TIMEOUT_S, what=what)


def check(size: int) -> None:
    """InputError for a size that no cluster can have."""
    if not 2 <= size <= LARGEST:
        raise InputError(
            f"a cluster must have at least 2 images, got {size}: ask for a larger size"
        )
