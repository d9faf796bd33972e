"""Decisions of an exported ledger, made again in a collection of the same photos."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from uuid import UUID, uuid4

from analytics.decisions import regroup
from analytics.decisions.decided import LABEL, MERGE, PREFIXES, RENAME, SPLIT, VERDICT, kind_of
from cql.access import blocks
from cql.errors import InputError
from cql.ledger import Wanted
from cql.records import Decision
from cql.store import Store
from dashboard import doubles, ledger
from dashboard.labelling import clean_label

KIND = "replay"
_SUBJECTS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What became of a ledger: `appended` decisions, `known` ones that were there already.

    `kept` subjects were decided otherwise here, and stay as they are; some of them by name.
    """

    decisions: int
    subjects: int
    appended: int
    known: int
    kept: int
    kept_subjects: tuple[str, ...]


def replay(store: Store, decisions: Iterable[Decision], *, author: str, source: str) -> Replayed:
    """Append what is missing, with its own authors, reasons and times; repeating it adds nothing.

    The history of a subject here must be the beginning of that in the file, else it is kept as it
    is. Ids of images, and keys of clusters that the analysis finds anew, follow from the photos, so
    they are the same in another collection of them. InputError, before anything is appended, for a
    ledger with gaps or with a decision that could not have been made here.
    """
    histories: dict[str, list[Decision]] = {}
    for decision in decisions:
        _check(decision)
        histories.setdefault(decision.subject, []).append(decision)
    for subject, history in histories.items():
        histories[subject] = _ordered(history)
    appended = known = 0
    kept: list[str] = []
    batch = uuid4()
    for some in blocks(sorted(histories), _SUBJECTS):
        here = store.histories(some)
        waiting: dict[str, list[Decision]] = {}
        for subject in some:
            theirs = histories[subject]
            ours = here.get(subject, [])
            same = min(len(ours), len(theirs))
            if [_said(each) for each in ours[:same]] != [_said(each) for each in theirs[:same]]:
                kept.append(subject)
                continue
            known += same
            if theirs[len(ours) :]:
                waiting[subject] = theirs[len(ours) :]
        while waiting:
            done, _ = store.append_decisions(
                [_wanted(left[0]) for left in waiting.values()],
                batch=batch,
                kind=KIND,
                author=author,
                reason=f"replayed from {source}",
            )
            appended += len(done)
            made = {each.subject for each in done}
            # Somebody decided about the others meanwhile.
            kept += [subject for subject in waiting if subject not in made]
            waiting = {
                subject: left[1:]
                for subject, left in waiting.items()
                if subject in made and len(left) > 1
            }
            batch = uuid4()
    return Replayed(
        decisions=sum(map(len, histories.values())),
        subjects=len(histories),
        appended=appended,
        known=known,
        kept=len(kept),
        kept_subjects=tuple(kept[:20]),
    )


def _id(text: str) -> None:
    # As it is written everywhere: what is looked up is the text.
    if str(UUID(text)) != text:
        raise ValueError(f"{text[:80]!r} is an id in another form")


def _double(text: str) -> None:
    verdict, _, digest = text.partition(":")
    doubles.value(verdict, digest)


_VALUES: dict[str, Callable[[str], object]] = {
    RENAME: ledger.clean_name,
    VERDICT: ledger.check_verdict,
    LABEL: clean_label,
    MERGE: _id,
    SPLIT: regroup.read,
    doubles.KIND: _double,
}
"""What refuses a value that a decision of a kind cannot have; "" takes any back."""


def _check(decision: Decision) -> None:
    """InputError for what no view could show: the ledger would keep it for ever."""
    kind = kind_of(decision.subject)
    if not kind:
        raise InputError(f"no kind of decision has the subject {decision.subject[:80]!r}")
    try:
        _id(decision.subject.removeprefix(PREFIXES[kind]))
        if decision.value:
            _VALUES[kind](decision.value)
    except (ValueError, InputError) as error:
        raise InputError(
            f"version {decision.version} of {decision.subject[:80]!r} is no {kind} that can be "
            f"made ({error}): replay the file as it was exported, a spreadsheet may have cut it"
        ) from error


def _ordered(history: list[Decision]) -> list[Decision]:
    ordered = sorted(history, key=lambda each: each.version)
    versions = [each.version for each in ordered]
    if versions != list(range(1, len(ordered) + 1)):
        raise InputError(
            f"the versions of {ordered[0].subject[:80]} must be 1 to {len(ordered)}, got "
            f"{versions[:10]}: export the whole history"
        )
    return ordered


def _said(decision: Decision) -> tuple[object, ...]:
    return decision.kind, decision.value, decision.author, decision.reason, decision.at


def _wanted(decision: Decision) -> Wanted:
    return Wanted(
        subject=decision.subject,
        kind=decision.kind,
        value=decision.value,
        expected_version=decision.version - 1,
        author=decision.author,
        reason=decision.reason,
        at=decision.at,
    )
