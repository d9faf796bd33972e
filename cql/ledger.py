"""The append-only ledger of analysts' decisions: appended by compare-and-set, read in any order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from cql import statements as cql
from cql.access import PAGE_ROWS, Access, now, record, values_of
from cql.errors import ConflictError
from cql.records import Act, Decision

FIRST_MONTH = 2025 * 12
"""No decision is older than Sightline: months since the year 0."""
BATCH = "batch:"
_SHOWN = 60
"""Characters of a value that an error repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A decision to append if the newest version of its subject is `expected_version` (0: none).

    `author`, `reason` and `at` are those of the batch where they are None.
    """

    subject: str
    kind: str
    value: str
    expected_version: int
    author: str | None = None
    reason: str | None = None
    at: datetime | None = None


class Ledger:
    """The part of the store about decisions."""

    _access: Access

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
        """Append to the ledger of a subject if its newest version is `expected_version` (0: none).

        ConflictError names both versions, their authors and values.
        """
        row = self._access.serial(cql.NEWEST_DECISION, subject)
        decision = Decision(
            subject=subject,
            version=expected_version + 1,
            kind=kind,
            value=value,
            author=author,
            reason=reason,
            at=now(),
        )
        newest = record(Decision, row) if row is not None else None
        if (newest.version if newest else 0) != expected_version:
            raise lost(decision, newest)
        # Before the decision: a line too many in the list is harmless, one too few is not.
        act = Act(at=decision.at, subject=subject, version=decision.version, kind=kind)
        self._put_act(act)
        if not self._add(decision):
            row = self._access.serial(cql.NEWEST_DECISION, subject)
            raise lost(decision, record(Decision, row) if row is not None else None)
        return decision

    def append_decisions(
        self, wanted: Sequence[Wanted], *, batch: UUID, kind: str, author: str, reason: str = ""
    ) -> tuple[list[Decision], list[ConflictError]]:
        """Append decisions about different subjects, many at once, as one batch.

        Each stands or falls by itself: returns those appended, in order, and a conflict for each
        of the others, as of `append_decision`. `kind` is how the whole batch is listed.
        """
        moment = now()
        made = [
            Decision(
                subject=each.subject,
                version=each.expected_version + 1,
                kind=each.kind,
                value=each.value,
                author=author if each.author is None else each.author,
                reason=reason if each.reason is None else each.reason,
                at=each.at or moment,
                batch_id=batch,
            )
            for each in wanted
        ]
        if not made:
            return [], []
        act = Act(
            at=moment, subject=f"{BATCH}{batch}", version=len(made), kind=kind, batch_id=batch
        )
        self._put_act(act)
        self._access.batch(cql.PUT_BATCHED, ((batch, each.subject, each.version) for each in made))
        found = self.decisions_of(each.subject for each in made if each.version > 1)
        versions = {subject: decision.version for subject, decision in found.items()}
        # A version is inserted only where the one before it is there; what lies behind what was
        # just read is found by the insert.
        ready = [each for each in made if versions.get(each.subject, 0) == each.version - 1]
        done = self._access.cas_many(
            cql.ADD_DECISION,
            [values_of(each, cql.DECISION_COLUMNS) for each in ready],
            settled=lambda at: self._is_there(ready[at]),
        )
        kept = {id(each) for each, applied in zip(ready, done, strict=True) if applied}
        refused = [each for each in made if id(each) not in kept]
        newest = self.decisions_of(each.subject for each in refused)
        appended = [each for each in made if id(each) in kept]
        if len(appended) != len(made):
            self._put_act(replace(act, version=len(appended)))
        return appended, [lost(each, newest.get(each.subject)) for each in refused]

    def decisions(self, subject: str) -> list[Decision]:
        """Decisions on a subject, newest first."""
        return [record(Decision, row) for row in self._access.each(cql.DECISIONS, subject)]

    def histories(self, subjects: Iterable[str]) -> dict[str, list[Decision]]:
        """Decisions on each of some subjects, oldest first; subjects without any are left out."""
        found = self._access.many(cql.DECISIONS, ((name,) for name in dict.fromkeys(subjects)))
        return {
            rows[0].subject: [record(Decision, row) for row in reversed(rows)]
            for rows in found
            if rows
        }

    def decisions_of(self, subjects: Iterable[str]) -> dict[str, Decision]:
        """The newest decision of each subject that has one."""
        wanted = dict.fromkeys(subjects)
        found = self._access.many(cql.NEWEST_DECISION, ((name,) for name in wanted))
        return {rows[0].subject: record(Decision, rows[0]) for rows in found if rows}

    def decisions_at(self, keys: Iterable[tuple[str, int]]) -> list[Decision]:
        """The decisions with those subjects and versions, those that are there, in order."""
        found = self._access.many(cql.DECISION, keys)
        return [record(Decision, rows[0]) for rows in found if rows]

    def standing(self) -> Iterator[Decision]:
        """The newest decision of every subject, in no particular order."""
        for row in self._access.each(cql.STANDING):
            yield record(Decision, row)

    def iter_decisions(self) -> Iterator[Decision]:
        """All decisions; those of one subject follow each other, newest first."""
        for row in self._access.each(cql.ALL_DECISIONS):
            yield record(Decision, row)

    def acts(self, *, before: datetime | None = None) -> Iterator[Act]:
        """Lines of the list of decisions, newest first, from `before` back.

        A line may tell of a decision that was refused: `decisions_at` says what is there.
        """
        start = before or now() + timedelta(days=1)  # a clock elsewhere may be ahead
        for month in range(_month(start), FIRST_MONTH - 1, -1):
            for row in self._access.each(cql.ACTS_BEFORE, _name(month), start):
                yield record(Act, row)

    def acts_since(self, moment: datetime) -> list[Act]:
        """Lines of the list from `moment` on, in no particular order."""
        last = _month(now() + timedelta(days=1))
        found = self._access.many(
            cql.ACTS_SINCE, [(_name(m), moment) for m in range(_month(moment), last + 1)]
        )
        return [record(Act, row) for rows in found for row in rows]

    def batched(self, batch: UUID, *, rows: int = PAGE_ROWS) -> Iterator[tuple[str, int]]:
        """Subjects and versions that a batch tried to append, read `rows` at a time."""
        for row in self._access.each(cql.BATCHED, batch, rows=rows):
            yield row.subject, row.version

    def _put_act(self, act: Act) -> None:
        month = _name(_month(act.at))
        self._access.run(
            cql.PUT_ACT, month, act.at, act.subject, act.version, act.kind, act.batch_id
        )

    def _add(self, decision: Decision) -> bool:
        return self._access.cas(
            cql.ADD_DECISION,
            values_of(decision, cql.DECISION_COLUMNS),
            settled=lambda: self._is_there(decision),
        )

    def _is_there(self, decision: Decision) -> bool:
        row = self._access.serial(cql.DECISION, decision.subject, decision.version)
        return row is not None and record(Decision, row) == decision


def _month(moment: datetime) -> int:
    return moment.year * 12 + moment.month - 1


def _name(month: int) -> int:
    """The number yyyymm of a month."""
    return month // 12 * 100 + month % 12 + 1


def lost(mine: Decision, newest: Decision | None) -> ConflictError:
    """The error of a decision that came too late: both versions, their authors and values."""
    known, there = mine.version - 1, newest.version if newest else 0
    theirs = f" ({_short(newest.value)} by {newest.author})" if newest else ""
    return ConflictError(
        f"the decision on {mine.subject} was expected at version {known}, somebody moved it to "
        f"{there}{theirs}; yours was {_short(mine.value)} by {mine.author}: read it again",
        expected=str(known),
        found=str(there),
    )


def _short(value: str) -> str:
    text = value if len(value) <= _SHOWN else value[: _SHOWN - 3] + "..."
    return f"“{text}”" if text else "nothing"
