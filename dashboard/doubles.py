"""Groups of near-duplicates with the decisions on them: what the page and the API show."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from analytics.decisions.decided import PREFIXES, subject_of
from cql.errors import InputError, NotFoundError
from cql.records import Decision, DuplicateGroup, DuplicateRun
from cql.store import Store

VERDICTS = ("duplicate", "distinct")
"""`distinct`: not a duplicate."""
SHOWN = ("all", "undecided", *VERDICTS, "changed")
KIND = "duplicates"
PREFIX = PREFIXES[KIND]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberView:
    """An image of a group; all but the representative (place 0) are `tied` to one before it.

    `alike` is the correlation of the pair after alignment, `bits` the distance of their hashes (of
    64), `cosine` the similarity of their features, 0 where they are not among the nearest.
    """

    place: int
    image_id: UUID
    listing_id: str
    tied: UUID | None
    alike: float
    bits: int
    cosine: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateGroupView:
    """A group of near-duplicates; number 0 is the largest. `images` are the first few of `size`.

    `verdict` is `duplicate`, `distinct` or empty (nobody decided, version 0). `changed`: the
    members are others than when it was decided.
    """

    key: UUID
    number: int
    size: int
    listings: int
    least: float
    images: tuple[UUID, ...]
    title: str = ""
    verdict: str = ""
    changed: bool = False
    version: int = 0
    author: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """Precision and recall of pairs at one threshold, on planted copies."""

    threshold: float
    precision: float
    recall: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicatePage:
    """A page of groups; `offset` of the next call is `next_offset` (None: the end).

    `groups_total` groups hold `images` of `rows` images, `measured` of which could be compared in
    `candidates` pairs; `judged` groups have a decision. Pairs at least `threshold` alike are
    copies; `curve` says how that was chosen, on what `basis` says. `looked` is False for a map
    that was made before near-duplicates were looked for.
    """

    map_id: UUID
    looked: bool
    groups: tuple[DuplicateGroupView, ...]
    offset: int
    next_offset: int | None
    groups_total: int
    images: int
    rows: int
    measured: int
    candidates: int
    judged: int
    threshold: float
    basis: str
    curve: tuple[CurvePoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDetail:
    """A group with one page of its members and the history of the decisions on it."""

    group: DuplicateGroupView
    members: tuple[MemberView, ...]
    offset: int
    next_offset: int | None


def subject(key: UUID) -> str:
    """The ledger's subject of a group: its key survives from map to map."""
    return subject_of(KIND, key)


def value(verdict: str, digest: str) -> str:
    """What the ledger keeps: the verdict, and the members that it was about."""
    if verdict not in VERDICTS:
        raise InputError(f"a verdict must be one of {VERDICTS}, got {verdict!r}")
    return f"{verdict}:{digest}"


def view(group: DuplicateGroup, decision: Decision | None, title: str = "") -> DuplicateGroupView:
    """A group with the decision in force."""
    verdict, _, digest = (decision.value if decision else "").partition(":")
    return DuplicateGroupView(
        key=group.group_key,
        number=group.number,
        size=group.size,
        listings=group.listings,
        least=group.least,
        images=tuple(group.images),
        title=title,
        verdict=verdict,
        changed=bool(verdict) and digest != group.digest,
        version=decision.version if decision else 0,
        author=decision.author if decision else "",
        at=decision.at if decision else None,
    )


def page(
    store: Store,
    standing: Mapping[str, Decision],
    map_id: UUID,
    run: DuplicateRun | None,
    groups: Sequence[DuplicateGroup],
    *,
    verdict: str,
    offset: int,
    limit: int,
) -> DuplicatePage:
    """The page at `offset` of those groups whose decision passes.

    `standing`: decisions on groups that are in force, by subject.
    """
    if verdict not in SHOWN:
        raise InputError(f"verdict must be one of {SHOWN}, got {verdict!r}")
    if offset < 0:
        raise InputError(f"offset must be at least 0, got {offset}")
    decided = {
        UUID(name.removeprefix(PREFIX)): decision.value for name, decision in standing.items()
    }
    kept = [group for group in groups if _passes(group, decided.get(group.group_key), verdict)]
    chosen = kept[offset : offset + limit]
    found: Mapping[str, Decision] = (
        store.decisions_of([subject(group.group_key) for group in chosen]) if chosen else {}
    )
    titles = _titles(store, chosen)
    end = offset + len(chosen)
    return DuplicatePage(
        map_id=map_id,
        looked=run is not None,
        groups=tuple(
            view(group, found.get(subject(group.group_key)), titles.get(group.group_key, ""))
            for group in chosen
        ),
        offset=offset,
        next_offset=end if end < len(kept) else None,
        groups_total=len(groups),
        images=run.images if run else 0,
        rows=run.rows if run else 0,
        measured=run.measured if run else 0,
        candidates=run.candidates if run else 0,
        judged=sum(group.group_key in decided for group in groups),
        threshold=run.threshold if run else 0.0,
        basis=run.basis if run else "",
        curve=_curve(run),
    )


def detail(store: Store, group: DuplicateGroup, *, offset: int, limit: int) -> GroupDetail:
    """A group with its members from place `offset` on."""
    name = subject(group.group_key)
    decision = store.decisions_of([name]).get(name)
    members = store.duplicate_members(group, offset=offset, limit=limit)
    end = offset + len(members)
    titles = _titles(store, [group])
    return GroupDetail(
        group=view(group, decision, titles.get(group.group_key, "")),
        members=tuple(
            MemberView(
                place=member.place,
                image_id=member.image_id,
                listing_id=member.listing_id,
                tied=member.tied,
                alike=member.alike,
                bits=member.bits,
                cosine=member.cosine,
            )
            for member in members
        ),
        offset=offset,
        next_offset=end if end < group.size else None,
    )


def by_key(groups: Sequence[DuplicateGroup], key: UUID) -> DuplicateGroup:
    """The group of a key. NotFoundError."""
    for group in groups:
        if group.group_key == key:
            return group
    raise NotFoundError(
        f"this map has no group of near-duplicates {key}: a newer map may have replaced it"
    )


def _passes(group: DuplicateGroup, decision: str | None, verdict: str) -> bool:
    if verdict == "all":
        return True
    known, _, digest = (decision or "").partition(":")
    if verdict == "changed":
        return bool(known) and digest != group.digest
    return known == ("" if verdict == "undecided" else verdict)


def _titles(store: Store, groups: Sequence[DuplicateGroup]) -> dict[UUID, str]:
    """Title (or id) of the representative's listing; groups of deleted images have none."""
    owners: dict[UUID, str] = {}
    for group in groups:
        try:
            owners[group.group_key] = store.listing_of(group.images[0])
        except NotFoundError:
            continue
    titles = store.titles_of(owners.values())
    return {key: titles.get(owner) or owner for key, owner in owners.items()}


def _curve(run: DuplicateRun | None) -> tuple[CurvePoint, ...]:
    return tuple(CurvePoint(**point) for point in json.loads(run.curve)) if run else ()
