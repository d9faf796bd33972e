"""What analysts decided and may decide, as pages show it and the API serialises it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class DoneView:
    """What became of an act: `subject` is what undo takes, at `version`.

    `appended` decisions were made, `unchanged` said the same already; `conflicts` tell of others
    that somebody decided first, both versions in their words: those stand.
    """

    subject: str
    version: int
    appended: int
    unchanged: int = 0
    conflicts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeView:
    """What clusters would be together: `into` keeps its key, `versions` are what a merge expects.

    `versions` are of the merge of each key, `name_version` is of the name of `into`, `state` is of
    all that they were merged of and split into.
    """

    into: UUID
    keys: tuple[UUID, ...]
    names: tuple[str, ...]
    name: str
    images: int
    listings: int
    versions: Mapping[UUID, int]
    name_version: int
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitView:
    """What splitting a selection off would do: `images` of the cluster go, `rest` stay.

    `outside` images of the selection are in other clusters or in none, and stay where they are.
    `versions` are of the split of each cluster touched, as a split expects them.
    """

    key: UUID
    name: str
    images: int
    rest: int
    outside: int
    versions: Mapping[UUID, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelView:
    """A label and how many images have it."""

    label: str
    images: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLabelView:
    """An image's label ("" for none) and the version that a change of it expects."""

    image_id: UUID
    label: str = ""
    version: int = 0
    author: str = ""
    reason: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NearView:
    """An image that a label may spread to: its score with the labelled image nearest to it."""

    image_id: UUID
    listing_id: str
    title: str
    score: float
    seed: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadView:
    """The unlabelled images nearest to those of a label, over all `rows` of the snapshot.

    `seeds` images have the label; the search started from the newest `seeds_used` of them. `at` is
    when this was read: what is decided later is a conflict.
    """

    label: str
    k: int
    seeds: int
    seeds_used: int
    rows: int
    near: tuple[NearView, ...]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ActView:
    """A line of the history: one decision, or all that were made at once.

    `what` says it in words; `subject` and `version` are what undo takes where `undoable`. `count`
    decisions, of which `standing` are the newest of their subjects; `images` are some of theirs;
    `key` is the cluster that it is about. `state`: `in force`, `replaced` (none of it stands: newer
    decisions count), `waiting` (all that stands is of clusters that are not on the live map).
    """

    at: datetime
    author: str
    kind: str
    what: str
    reason: str
    subject: str
    version: int
    newest: int
    count: int
    standing: int
    state: str
    undoable: bool
    images: tuple[UUID, ...] = ()
    key: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryView:
    """Acts, newest first; the next page is of those before `next_before` (None: there are none)."""

    acts: tuple[ActView, ...]
    next_before: datetime | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
