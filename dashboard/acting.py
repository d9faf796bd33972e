"""How decisions are made and taken back: one by one, or all of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID, uuid4

from analytics.decisions.decided import UNDO
from analytics.search import Searcher
from cql.errors import ConflictError, InputError, NotFoundError
from cql.ledger import BATCH, Wanted
from cql.records import Decision
from cql.store import Store
from dashboard import ledger
from dashboard.acts import DoneView
from dashboard.atlas import Atlas
from dashboard.views import DecisionView


class Acting:
    """What all kinds of decisions share, over one ledger. Thread-safe."""

    def __init__(self, store: Store, searcher: Searcher, atlas: Atlas) -> None:
        self._store, self._searcher, self._atlas = store, searcher, atlas

    def undo(self, subject: str, *, author: str, expected_version: int) -> DecisionView:
        """Step back the newest decision of a subject, or every decision of a `batch:<id>`.

        Of a batch only what nobody changed since is stepped back; ConflictError when that is
        nothing.
        """
        if not subject.startswith(BATCH):
            return ledger.undo(
                self._store, subject, author=author, expected_version=expected_version
            )
        batch = batch_id(subject)
        done, refused = self._take_back(batch, author=author)
        if not done:
            if refused:
                raise refused[0]
            raise NotFoundError(f"nothing of {subject} is in force any more: nothing to undo")
        return DecisionView(
            subject=subject,
            version=expected_version + 1,
            kind=UNDO,
            value=f"{len(done)} of {len(done) + len(refused)}",
            author=author,
            reason="",
            at=done[0].at,
        )

    def _take_back(self, batch: UUID, *, author: str) -> tuple[list[Decision], list[ConflictError]]:
        tried = {subject for subject, _ in self._store.batched(batch)}
        newest = self._store.decisions_of(tried)
        wanted = []
        for subject, decision in newest.items():
            if decision.batch_id == batch and decision.kind != UNDO:
                first = decision.version == 1
                value = "" if first else ledger.undone_value(self._store.decisions(subject))
                wanted.append(
                    Wanted(
                        subject=subject,
                        kind=UNDO,
                        value=value,
                        expected_version=decision.version,
                    )
                )
        return self._store.append_decisions(wanted, batch=uuid4(), kind=UNDO, author=author)

    def _together(
        self, wanted: Sequence[Wanted], *, kind: str, author: str, reason: str
    ) -> DoneView:
        """All of the decisions, or none: what was appended beside a conflict is taken back."""
        batch = uuid4()
        done, refused = self._store.append_decisions(
            wanted, batch=batch, kind=kind, author=author, reason=reason
        )
        if refused:
            if done:
                self._take_back(batch, author=author)
            raise refused[0]
        return DoneView(subject=f"{BATCH}{batch}", version=1, appended=len(done))


def batch_id(subject: str) -> UUID:
    """The id of a batch, by the subject that `DoneView` names it with. InputError."""
    try:
        return UUID(subject.removeprefix(BATCH))
    except ValueError:
        raise InputError(f"a batch is batch:<id>, got {subject[:80]!r}") from None
