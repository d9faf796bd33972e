"""All shards of a live snapshot are asked at once: which hosts to ask, and what they answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from numpy.typing import NDArray

from analytics.hosting.placement import ROLE, cover
from analytics.hosting.pointers import LIVE, version_of
from analytics.request import check_examples
from analytics.shared import Shared
from cql.errors import IntegrityError, NotFoundError, UnavailableError
from cql.records import Service, Snapshot
from cql.settings import Settings
from cql.store import Store
from cql.wire import HEARTBEAT_S, Message, Pool

_KNOWN = 16
"""Snapshots that are kept: there is one of each model, and those before them."""

_HOSTS_S = 1.0
"""Hosts that were read so long ago are not read again beside a query that asks them on trust."""


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """A live snapshot, and the rows of hosts, read with its pointer from `read_at` on.

    `trusted`: they are of a query before, and get one try.
    """

    snapshot: Snapshot
    services: list[Service]
    read_at: float
    trusted: bool = False


class MovedError(Exception):
    """What was asked on trust does not hold, or did not answer."""


class Scatter:
    """Calls of the hosts that hold a snapshot. Thread-safe; needs neither Spark nor torch."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._store = settings, store
        self._pool = Pool(settings)
        self._threads = ThreadPoolExecutor(64, thread_name_prefix="scatter")
        # One reading at a time needs it, for whose end all of the others may wait.
        self._second = ThreadPoolExecutor(1, thread_name_prefix="standing")
        # Two for each of two readings: calls of hosts, which may take long, must not keep them.
        self._readers = ThreadPoolExecutor(4, thread_name_prefix="live")
        self._known: dict[UUID, Snapshot] = {}
        # Queries that arrive together read once where they go.
        self._default = Shared(self._read_default)
        self._live = Shared(lambda: store.live(LIVE))
        self._last: Standing | None = None

    def close(self) -> None:
        """Close the connections to the hosts."""
        for each in (self._threads, self._readers, self._second):
            each.shutdown()
        self._pool.close()

    def snapshot(self, model: str | None = None) -> Snapshot:
        """Return the live snapshot of a model, by its id or name (None: the default one).

        UnavailableError when none is live yet, NotFoundError for a model that has none, InputError
        for a name that several have.
        """
        version = self._store.live(LIVE) if model is None else version_of(self._store, model)
        return self._named(version)

    def standing(self, model: str | None) -> Standing:
        """The live snapshot of a model, as `snapshot`, and the hosts' rows."""
        if model is not None:
            began = time.monotonic()
            return Standing(self.snapshot(model), self._store.services(ROLE), began)
        return self._default()

    def version_later(self, tried: Standing) -> Callable[[], UUID | None]:
        """What waits for the version that is live, which is read from now on.

        Of hosts that were read a while ago a new reading is kept.
        """
        if time.monotonic() - tried.read_at < _HOSTS_S:
            return self._live.later(self._readers).result
        read = self._default.later(self._readers)
        return lambda: read.result().snapshot.snapshot_id

    def _read_default(self) -> Standing:
        """What stands, as the next query will take it to stand."""
        began = time.monotonic()
        services = self._second.submit(self._store.services, ROLE)
        snapshot = self._named(self._store.live(LIVE))
        self._last = Standing(snapshot, services.result(), began)
        return self._last

    def _named(self, version: UUID | None) -> Snapshot:
        if version is None:
            raise UnavailableError(
                "a snapshot must be live before anything can be searched, none is: "
                "run `sightline analyse` or wait for it"
            )
        known = self._known.get(version)
        if known is None:
            # A snapshot never changes; only the newest are asked for again and again.
            known = self._store.snapshot(version)
            self._known = {**(self._known if len(self._known) < _KNOWN else {}), version: known}
        return known

    def ready(self) -> bool:
        """Whether live hosts together hold every shard of the default snapshot."""
        try:
            return cover(self._store.services(ROLE), self.snapshot()) is not None
        except (UnavailableError, NotFoundError):
            return False

    def guess(self, now: float) -> Standing | None:
        """What stood for the query before, to be asked on trust; None where that is too old.

        None, too, while others read what stands: who shares that need not guess. `now` is of
        `time.monotonic`.
        """
        guess = self._last if self._default.idle else None
        if guess is None or now - guess.read_at >= HEARTBEAT_S:
            return None
        return replace(guess, trusted=True)

    def ask(
        self,
        method: str,
        values: Mapping[str, Any],
        arrays: Mapping[str, NDArray[Any]],
        *,
        model: str | None = None,
        model_id: str | None = None,
        snapshot: Snapshot | None = None,
        only: Sequence[int] | None = None,
        known: Standing | None = None,
    ) -> tuple[Snapshot, list[Message]]:
        """Ask hosts that cover every shard (or `only` those) once; wait for hosts that recover.

        `arrays` are float32 (Q, D), unit L2 norm. `known`: the live snapshot of `model` and the
        hosts' rows, read a moment ago, for the first try.

        Raises:
            InputError: an array is not of the snapshot's dimension, or not of unit norm.
            UnavailableError: not all shards answered within `query_deadline_s`, or the live
                snapshot is not of the model `model_id`.
            MovedError: hosts that were `trusted` did not answer.
        """
        deadline = time.monotonic() + self._settings.query_deadline_s
        pause, seen = 0.05, "no hosts are registered for it"
        while True:
            asked = snapshot or (known.snapshot if known is not None else self.snapshot(model))
            for each in arrays.values():
                check_examples(each, asked.dim)
            if model_id is not None and asked.model_id != model_id:
                raise UnavailableError(
                    f"examples of model {model_id} must meet a snapshot of it, the live one is of "
                    f"{asked.model_id}: ask again"
                )
            rows = self._store.services(ROLE) if known is None else known.services
            trusted, known = known is not None and known.trusted, None
            plan = cover(rows, asked)
            left = deadline - time.monotonic()
            if plan is not None and left > 0:
                if only is not None:
                    plan = [(host, sorted(set(took) & set(only))) for host, took in plan]
                    plan = [(host, took) for host, took in plan if took]
                try:
                    return asked, self._call(method, asked, plan, values, arrays, timeout_s=left)
                except UnavailableError as error:
                    seen = str(error)
            if trusted:
                raise MovedError(seen)
            if deadline - time.monotonic() <= pause:
                raise UnavailableError(
                    f"all {asked.shards} shards of snapshot {asked.snapshot_id} must answer within "
                    f"{self._settings.query_deadline_s:g} s, they did not ({seen}): try again when "
                    "the engine has started its hosts"
                )
            time.sleep(pause)
            pause = min(0.5, pause * 1.5)

    def _call(
        self,
        method: str,
        snapshot: Snapshot,
        plan: Sequence[tuple[Service, list[int]]],
        values: Mapping[str, Any],
        arrays: Mapping[str, NDArray[Any]],
        *,
        timeout_s: float,
    ) -> list[Message]:
        def one(host: Service, took: list[int]) -> Message:
            named = {**values, "snapshot": str(snapshot.snapshot_id), "shards": took}
            return self._pool.call(
                host.address, method, Message(named, arrays), timeout_s=timeout_s
            )

        calls = [self._threads.submit(one, *each) for each in plan[1:]]
        # One host is asked on this thread: most collections have one.
        first = [one(*each) for each in plan[:1]]
        return first + [call.result() for call in calls]


def all_rows(snapshot: Snapshot, replies: Sequence[Message]) -> int:
    """Rows of the snapshot that the replies speak for. IntegrityError unless it is all of them."""
    rows = sum(int(reply.values["base"]) for reply in replies)
    if rows != snapshot.rows:
        raise IntegrityError(f"all {snapshot.rows} rows must be scanned, {rows} were: ask again")
    return rows
