"""The history of decisions: newest first, in words, with what can be undone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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

_TRIED = 4 * SHOWN
"""Decisions of a batch that are looked at together for the first ones that it made."""

VERDICTS = {"outlier": "a true outlier", "fine": "fine"}


@dataclass(frozen=True, slots=True)
class _Told:
    """An act of `count` decisions, some of them `found`; of all, `standing` are in force."""

    found: Sequence[Decision]
    subject: str
    count: int
    standing: int

    @property
    def many(self) -> bool:
        """Whether undo takes all of a batch."""
        return self.subject.startswith(BATCH)

    @property
    def lead(self) -> Decision:
        """The decision that says what the act was."""
        other = (each for each in self.found if kind_of(each.subject) != RENAME)
        return next(other, self.found[0])


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
        newest = self._atlas.standing.read().newest([subject])
        return self._shown([_alone(each, newest) for each in history])

    def _told(self, acts: Sequence[Act]) -> list[ActView]:
        """What acts were, in order; an act that was refused is left out."""
        standing = self._atlas.standing.read()
        batches = {act.batch_id for act in acts if act.batch_id is not None}
        held = standing.batches(batches)
        newest = standing.newest(act.subject for act in acts)
        single = self._decisions([
            (act.subject, act.version) for act in acts if not act.subject.startswith(BATCH)
        ])  # fmt: skip
        told: list[_Told] = []
        kept: list[Act] = []
        for act in acts:
            if act.subject.startswith(BATCH) and act.batch_id is not None:
                found = self._some(act.batch_id) if act.version else []
                each = _Told(found, act.subject, act.version, held[act.batch_id])
            else:
                own = single.get((act.subject, act.version))
                # Another decision may have won this version.
                if own is None or own.at != act.at:
                    continue
                each = _alone(own, newest)
            if each.found:
                told.append(each)
                kept.append(act)
        return [
            replace(view, at=act.at, kind=act.kind, what=self._sum(view.what, act, view.count))
            for view, act in zip(self._shown(told), kept, strict=True)
        ]

    def _some(self, batch: UUID) -> list[Decision]:
        """The first decisions that a batch made, of all that it tried."""
        found: list[Decision] = []
        for keys in blocks(self._store.batched(batch, rows=_TRIED), _TRIED):
            known = self._decisions(keys)
            made = (known[key] for key in keys if key in known)
            found += [each for each in made if each.batch_id == batch]
            if len(found) >= SHOWN:
                break
        return found

    def _decisions(self, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Decision]:
        """Decisions by subject and version, those that are there."""
        newest = self._atlas.standing.newest(subject for subject, _ in keys)
        known = {(each.subject, each.version): each for each in newest.values()}
        older = [key for key in keys if key not in known]
        known |= {(each.subject, each.version): each for each in self._store.decisions_at(older)}
        return known

    @staticmethod
    def _sum(what: str, act: Act, count: int) -> str:
        if act.kind == REPLAY:
            return f"Replayed {count:,} decision{'' if count == 1 else 's'}"
        if act.kind == UNDO and count > 1:
            return f"Undid {count:,} decisions"
        return what

    def _shown(self, told: Sequence[_Told]) -> list[ActView]:
        newest = self._atlas.standing.newest(each.lead.subject for each in told)
        live = self._atlas.live_id()
        view = self._atlas.view(live) if live is not None else None
        known: dict[UUID, str] = {}
        if view is not None:
            known = {each.cluster_key: each.name for each in self._atlas.clusters(live)}
            known |= {each.cluster.cluster_key: each.cluster.name for each in view.clusters}
        named = self._names([each.found for each in told], known)
        waiting = view.waiting if view is not None else frozenset()
        absent = self._atlas.standing.newest(waiting)
        batches = Counter(each.batch_id for each in absent.values())
        return [
            _view(
                each,
                named,
                newest,
                batches[each.found[0].batch_id] if each.many else int(each.subject in waiting),
            )
            for each in told
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


def _alone(decision: Decision, newest: Mapping[str, Decision]) -> _Told:
    known = newest.get(decision.subject)
    # One that came after what is known was read is newer than that.
    stands = known is None or known.version < decision.version or known == decision
    return _Told([decision], decision.subject, 1, int(stands))


def _view(
    told: _Told, named: Mapping[UUID, str], newest: Mapping[str, Decision], waiting: int
) -> ActView:
    """`waiting`: of how many of its decisions in force the cluster is not on the map."""
    lead = told.lead
    state = "in force" if told.standing else "replaced"
    if 0 < told.standing <= waiting:
        state = "waiting"
    kind = kind_of(lead.subject)
    images = [
        UUID(each.subject.partition(":")[2])
        for each in told.found
        if kind_of(each.subject) in {LABEL, VERDICT}
    ]
    about = lead.subject if kind in {RENAME, MERGE, SPLIT} else ""
    return ActView(
        at=lead.at,
        author=lead.author,
        kind=lead.kind,
        what=words(lead, named, count=told.count),
        reason=lead.reason,
        subject=told.subject,
        version=1 if told.many else lead.version,
        newest=newest[lead.subject].version if lead.subject in newest else lead.version,
        count=told.count,
        standing=told.standing,
        state=state,
        undoable=told.standing > 0 and lead.kind not in {UNDO, REPLAY},
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
