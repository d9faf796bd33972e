"""Decisions in force, kept in memory and brought up to date by the list of acts."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Protocol
from uuid import UUID

from analytics.decisions.decided import kind_of
from cql.records import Act, Decision

OVERLAP = timedelta(minutes=2)
"""How far back acts are read again: clocks may differ, and an act is listed before its decision."""


class Acts(Protocol):
    """What is read of a store."""

    def standing(self) -> Iterable[Decision]: ...  # noqa: D102
    def acts_since(self, moment: datetime) -> list[Act]: ...  # noqa: D102
    def batched(self, batch: UUID) -> Iterable[tuple[str, int]]: ...  # noqa: D102
    def decisions_of(self, subjects: Iterable[str]) -> dict[str, Decision]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Moment:
    """The newest decision of every subject, as all of them stood at one moment."""

    by_kind: dict[str, dict[str, Decision]] = field(default_factory=dict)
    sums: dict[str, int] = field(default_factory=dict)

    def of(self, kind: str) -> Mapping[str, Decision]:
        """Decisions in force by subject; those that were taken back (an empty value) left out."""
        return {s: d for s, d in self.by_kind.get(kind, {}).items() if d.value}

    def token(self, *kinds: str) -> str:
        """A text that changes when a decision of these kinds does; equal in every process."""
        return "-".join(f"{self.sums.get(kind, 0):016x}" for kind in kinds)

    def versions(self, *kinds: str) -> dict[str, int]:
        """The newest version of every subject, of those taken back as well."""
        return {s: d.version for kind in kinds for s, d in self.by_kind.get(kind, {}).items()}


class Standing:
    """The newest decision of every subject. Thread-safe.

    The first reading scans the ledger once; each later one asks for the acts of the last minutes,
    which is one small query. A decision that any process finished before `read` began is in what it
    returns.
    """

    def __init__(self, store: Acts) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._now = Moment()
        self._batches: Counter[UUID] = Counter()
        self._since: datetime | None = None
        self._read_at = -math.inf
        self._settled: set[Act] = set()

    def read(self, *, max_age_s: float = 0.0) -> Standing:
        """Take in what was decided since, unless that was done `max_age_s` ago; returns itself."""
        with self._lock:
            if max_age_s and time.monotonic() - self._read_at < max_age_s:
                return self
            self._read_at = time.monotonic()
            began = datetime.now(UTC)
            if self._since is None:
                for decision in self._store.standing():
                    self._take(decision)
            else:
                self._follow(self._since)
            self._since = began - OVERLAP
            self._settled = {act for act in self._settled if act.at >= self._since}
        return self

    def of(self, kind: str) -> Mapping[str, Decision]:
        """Decisions in force by subject; those that were taken back (an empty value) left out."""
        with self._lock:
            return self._now.of(kind)

    def token(self, *kinds: str) -> str:
        """A text that changes when a decision of these kinds does; equal in every process."""
        with self._lock:
            return self._now.token(*kinds)

    def moment(self, *kinds: str) -> Moment:
        """Decisions of some kinds as last read: whoever reads meanwhile does not change it."""
        with self._lock:
            return Moment(
                {kind: dict(self._now.by_kind.get(kind, {})) for kind in kinds},
                {kind: self._now.sums.get(kind, 0) for kind in kinds},
            )

    def newest(self, subjects: Iterable[str]) -> dict[str, Decision]:
        """The newest decision of each subject that has one, those taken back included."""
        with self._lock:
            found = ((subject, self._held(subject)) for subject in subjects)
            return {subject: decision for subject, decision in found if decision is not None}

    def batches(self, batches: Iterable[UUID]) -> dict[UUID, int]:
        """Of how many subjects the newest decision is one of a batch, for each batch."""
        with self._lock:
            return {batch: self._batches[batch] for batch in batches}

    def _follow(self, since: datetime) -> None:
        waiting: dict[str, int] = {}
        acts = [act for act in self._store.acts_since(since) if act not in self._settled]
        for act in acts:
            for subject, version in self._named(act):
                if self._version(subject) < version:
                    waiting[subject] = max(version, waiting.get(subject, 0))
        for decision in self._store.decisions_of(waiting).values():
            self._take(decision)
        for act in acts:
            if all(self._version(subject) >= version for subject, version in self._named(act)):
                self._settled.add(act)

    def _named(self, act: Act) -> Iterator[tuple[str, int]]:
        if act.batch_id is not None and act.subject == f"batch:{act.batch_id}":
            yield from self._store.batched(act.batch_id)
        else:
            yield act.subject, act.version

    def _held(self, subject: str) -> Decision | None:
        return self._now.by_kind.get(kind_of(subject), {}).get(subject)

    def _version(self, subject: str) -> int:
        known = self._held(subject)
        return known.version if known else 0

    def _take(self, decision: Decision) -> None:
        kind = kind_of(decision.subject)
        held = self._now.by_kind.setdefault(kind, {})
        before = held.get(decision.subject)
        if before is not None and before.version >= decision.version:
            return
        total = self._now.sums.get(kind, 0) + _hash(decision) - (_hash(before) if before else 0)
        self._now.sums[kind] = total % 2**64
        held[decision.subject] = decision
        if decision.batch_id is not None:
            self._batches[decision.batch_id] += 1
        if before is not None and before.batch_id is not None:
            self._batches[before.batch_id] -= 1
            if not self._batches[before.batch_id]:
                del self._batches[before.batch_id]


def _hash(decision: Decision) -> int:
    text = f"{decision.subject}\0{decision.version}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
