"""The history of decisions: newest first, in words, with what can be undone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from uuid import UUID

from analytics.decisions import regroup
from analytics.decisions.decided import (
    LABEL,
    MERGE,
    PREFIXES,
    RENAME,
    SPLIT,
    UNDO,
    VERDICT,
    kind_of,
)
from cql.access import blocks
from cql.errors import InputError
from cql.ledger import BATCH
from cql.records import Act, Decision
from cql.store import Store
from dashboard import doubles, ledger
from dashboard.acts import ActView, HistoryView
from dashboard.atlas import Atlas
from dashboard.replay import KIND as REPLAY

KINDS = (RENAME, VERDICT, LABEL, MERGE, SPLIT, "duplicates", UNDO, REPLAY)
SHOWN = 12
"""Pictures of one act."""
_LOOKED = 20_000
"""Acts that one page looks through for those of a kind."""

VERDICTS = {"outlier": "a true outlier", "fine": "fine"}


class History:
    """Reads acts and says what they were. Thread-safe."""

    def __init__(self, store: Store, atlas: Atlas) -> None:
        self._store, self._atlas = store, atlas

    def page(
        self, *, limit: int, kind: str = "", before: datetime | None = None, subject: str = ""
    ) -> HistoryView:
        """At most `limit` acts of a kind ("": all), or all about one subject, newest first."""
        if kind and kind not in KINDS:
            raise InputError(f"a kind must be one of {', '.join(KINDS)}, got {kind[:40]!r}")
        if subject:
            return HistoryView(acts=tuple(self._of(subject)))
        acts: list[ActView] = []
        looked: list[Act] = []  # the last one

        def wanted() -> Iterator[Act]:
            for act in islice(self._store.acts(before=before), _LOOKED):
                looked[:] = [act]
                if not kind or act.kind == kind:
                    yield act

        for block in blocks(wanted(), limit + 1):
            acts += self._told(block)
            # Acts of one millisecond stay on one page: the next one is of those before it.
            if len(acts) > limit and acts[-1].at < acts[limit - 1].at:
                break
        end = limit
        while end < len(acts) and acts[end].at == acts[limit - 1].at:
            end += 1
        if end < len(acts):
            return HistoryView(acts=tuple(acts[:end]), next_before=acts[end - 1].at)
        more = bool(looked) and next(iter(self._store.acts(before=looked[0].at)), None) is not None
        return HistoryView(acts=tuple(acts), next_before=looked[0].at if more else None)

    def _of(self, subject: str) -> list[ActView]:
        if not kind_of(subject):
            known = ", ".join(f"{prefix}<id>" for prefix in PREFIXES.values())
            raise InputError(f"a subject must be one of {known}, got {subject[:80]!r}")
        history = self._store.decisions(subject)
        size = len(history)
        return self._shown([[each] for each in history], [subject] * size, [1] * size)

    def _told(self, acts: Sequence[Act]) -> list[ActView]:
        """What acts were, in order; an act that was refused is left out."""
        single = {
            (each.subject, each.version): each
            for each in self._store.decisions_at(
                (act.subject, act.version) for act in acts if not act.subject.startswith(BATCH)
            )
        }
        groups: list[list[Decision]] = []
        subjects: list[str] = []
        counts: list[int] = []
        for act in acts:
            if act.subject.startswith(BATCH) and act.batch_id is not None:
                tried = self._store.batched(act.batch_id)
                some = self._store.decisions_at(tried[: 4 * SHOWN])
                found = [each for each in some if each.batch_id == act.batch_id]
                counts.append(act.version)
            else:
                own = single.get((act.subject, act.version))
                # Another decision may have won this version.
                found = [own] if own is not None and own.at == act.at else []
                counts.append(1)
            groups.append(found)
            subjects.append(act.subject)
        kept = [at for at, found in enumerate(groups) if found]
        shown = self._shown(
            [groups[at] for at in kept],
            [subjects[at] for at in kept],
            [counts[at] for at in kept],
        )
        return [
            replace(
                view, at=acts[at].at, kind=acts[at].kind, count=counts[at],
                what=self._sum(view.what, acts[at], counts[at]),
            )
            for view, at in zip(shown, kept, strict=True)
        ]  # fmt: skip

    @staticmethod
    def _sum(what: str, act: Act, count: int) -> str:
        if act.kind == REPLAY:
            return f"Replayed {count:,} decision{'' if count == 1 else 's'}"
        if act.kind == UNDO and count > 1:
            return f"Undid {count:,} decisions"
        return what

    def _shown(
        self,
        groups: Sequence[Sequence[Decision]],
        subjects: Sequence[str],
        counts: Sequence[int],
    ) -> list[ActView]:
        newest = self._store.decisions_of(
            each.subject for found in groups for each in found[: SHOWN * 4]
        )
        live = self._atlas.live_id()
        view = self._atlas.view(live) if live is not None else None
        known: dict[UUID, str] = {}
        if view is not None:
            known = {each.cluster_key: each.name for each in self._atlas.clusters(live)}
            known |= {each.cluster.cluster_key: each.cluster.name for each in view.clusters}
        named = self._names(groups, known)
        waiting = view.waiting if view is not None else frozenset()
        return [
            _view(found, subject, count, named, newest, waiting)
            for found, subject, count in zip(groups, subjects, counts, strict=True)
        ]

    def _names(
        self, groups: Sequence[Sequence[Decision]], known: Mapping[UUID, str]
    ) -> dict[UUID, str]:
        """Names of the clusters that decisions are about: given ones, else the `known`."""
        wanted: set[UUID] = set()
        for decision in (each for found in groups for each in found):
            if kind_of(decision.subject) in {RENAME, MERGE, SPLIT}:
                wanted.add(_key(decision.subject))
            if kind_of(decision.subject) == MERGE and decision.value:
                wanted.add(UUID(decision.value))
        named = ledger.names(self._store, wanted)
        return {
            key: named.get(key, ("", 0))[0] or known.get(key, "") or f"cluster {str(key)[:8]}"
            for key in wanted
        }


def _view(  # noqa: PLR0917 - one argument a source
    found: Sequence[Decision],
    subject: str,
    count: int,
    named: Mapping[UUID, str],
    newest: Mapping[str, Decision],
    waiting: frozenset[str],
) -> ActView:
    first = found[0]
    lead = next((each for each in found if kind_of(each.subject) != RENAME), first)
    standing = [each for each in found if newest.get(each.subject) == each]
    batch = subject.startswith(BATCH)
    state = "in force" if standing else "replaced"
    if standing and all(each.subject in waiting for each in standing):
        state = "waiting"
    kind = kind_of(lead.subject)
    images = [
        UUID(each.subject.partition(":")[2])
        for each in found
        if kind_of(each.subject) in {LABEL, VERDICT}
    ]
    about = lead.subject if kind in {RENAME, MERGE, SPLIT} else ""
    return ActView(
        at=lead.at,
        author=lead.author,
        kind=lead.kind,
        what=words(lead, named, count=count),
        reason=lead.reason,
        subject=subject,
        version=1 if batch else lead.version,
        newest=newest[lead.subject].version if lead.subject in newest else lead.version,
        count=count,
        state=state,
        undoable=bool(standing) and lead.kind not in {UNDO, REPLAY},
        images=tuple(dict.fromkeys(images))[:SHOWN],
        key=_key(about) if about else None,
    )


def words(decision: Decision, named: Mapping[UUID, str], *, count: int = 1) -> str:
    """What a decision says, or `count` of one batch, as a sentence without its end."""
    kind, value = kind_of(decision.subject), decision.value
    text = _words(kind, decision.subject, value, named, count)
    if decision.kind == UNDO:
        return f"Undone: {text[:1].lower()}{text[1:]}"
    return text


def _words(kind: str, subject: str, value: str, named: Mapping[UUID, str], count: int) -> str:
    images = f"{count:,} image{'' if count == 1 else 's'}"
    if kind in {RENAME, MERGE, SPLIT}:
        name = named.get(_key(subject), "")
        if kind == RENAME:
            return f"Named “{value}”" if value else f"“{name}” has its automatic name"
        if kind == MERGE:
            into = named.get(UUID(value), "") if value else ""
            return f"Merged “{name}” into “{into}”" if value else f"“{name}” is not merged"
        return _split_words(name, value)
    if kind == LABEL:
        return f"Labelled {images} “{value}”" if value else f"Took the label off {images}"
    if kind == VERDICT:
        return f"Marked {images} as {VERDICTS.get(value, value)}" if value else "No verdict"
    if kind == doubles.KIND:
        value = value.partition(":")[0]  # after it the members that it was about
    return f"{kind.capitalize()}: {value[:80]}" if value else f"{kind.capitalize()}: nothing"


def _split_words(name: str, value: str) -> str:
    if not value:
        return f"“{name}” is not split"
    try:
        parts = regroup.read(value).parts
    except InputError:
        return f"Split “{name}”"
    last = parts[-1]
    return f"Split {len(last.images):,} images off “{name}” as “{last.name}”"


def _key(subject: str) -> UUID:
    return UUID(subject.partition(":")[2])
