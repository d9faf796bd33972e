"""The ledger of decisions in memory, with the rules of the real one; `tests/cql` tests that."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID

from cql.errors import ConflictError
from cql.ledger import BATCH, Wanted, lost
from cql.records import Act, Decision


def now() -> datetime:
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


@dataclass
class MemoryLedger:
    """Decisions by subject, newest first. Safe for many threads, as Cassandra is."""

    decisions_: dict[str, list[Decision]] = field(default_factory=dict)
    acts_: list[Act] = field(default_factory=list)
    batched_: dict[UUID, list[tuple[str, int]]] = field(default_factory=dict)
    lock_: threading.RLock = field(default_factory=threading.RLock)

    def append_decision(
        self,
        subject: str,
        kind: str,
        value: str,
        *,
        author: str,
        reason: str = "",
        expected_version: int,
    ) -> Decision:
        made = Decision(
            subject=subject, version=expected_version + 1, kind=kind, value=value, author=author,
            reason=reason, at=now(),
        )  # fmt: skip
        with self.lock_:
            self.acts_.append(Act(at=made.at, subject=subject, version=made.version, kind=kind))
            return self._append(made)

    def append_decisions(
        self, wanted: Sequence[Wanted], *, batch: UUID, kind: str, author: str, reason: str = ""
    ) -> tuple[list[Decision], list[ConflictError]]:
        moment = now()
        tried = sorted((each.subject, each.expected_version + 1) for each in wanted)
        self.batched_[batch] = tried
        appended: list[Decision] = []
        refused: list[ConflictError] = []
        for each in wanted:
            made = Decision(
                subject=each.subject,
                version=each.expected_version + 1,
                kind=each.kind,
                value=each.value,
                author=author if each.author is None else each.author,
                reason=reason if each.reason is None else each.reason,
                at=each.at or moment,
                batch_id=batch,
            )
            try:
                with self.lock_:
                    appended.append(self._append(made))
            except ConflictError as error:
                refused.append(error)
        if wanted:
            act = Act(at=moment, subject=f"{BATCH}{batch}", version=0, kind=kind, batch_id=batch)
            self.acts_.append(replace(act, version=len(appended)))
        return appended, refused

    def _append(self, made: Decision) -> Decision:
        history = self.decisions_.setdefault(made.subject, [])
        newest = history[0] if history else None
        if (newest.version if newest else 0) != made.version - 1:
            raise lost(made, newest)
        history.insert(0, made)
        return made

    def decisions(self, subject: str) -> list[Decision]:
        return list(self.decisions_.get(subject, []))

    def histories(self, subjects: Iterable[str]) -> dict[str, list[Decision]]:
        return {key: self.decisions_[key][::-1] for key in subjects if self.decisions_.get(key)}

    def decisions_of(self, subjects: Iterable[str]) -> dict[str, Decision]:
        return {key: self.decisions_[key][0] for key in subjects if self.decisions_.get(key)}

    def decisions_at(self, keys: Iterable[tuple[str, int]]) -> list[Decision]:
        return [
            each for subject, version in keys for each in self.decisions_.get(subject, [])
            if each.version == version
        ]  # fmt: skip

    def standing(self) -> Iterator[Decision]:
        return iter([history[0] for history in self.decisions_.values() if history])

    def iter_decisions(self) -> Iterator[Decision]:
        return iter([each for history in self.decisions_.values() for each in history])

    def acts(self, *, before: datetime | None = None) -> Iterator[Act]:
        newest = list(reversed(self.acts_))
        found = sorted(newest, key=lambda act: act.at, reverse=True)
        return iter([act for act in found if before is None or act.at < before])

    def acts_since(self, moment: datetime) -> list[Act]:
        return [act for act in self.acts_ if act.at >= moment]

    def batched(self, batch: UUID, *, rows: int = 0) -> Iterator[tuple[str, int]]:
        return iter(self.batched_.get(batch, []))
