"""What changed between two maps, for pages and REST."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from analytics import drift
from analytics.making import comparison
from cql.errors import NotFoundError
from cql.records import ClusterChange, Comparison, NewOutlier
from cql.store import Store
from dashboard import ledger
from dashboard.atlas import Atlas

KEPT = 4
"""Comparisons that were made for a reader and are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionView:
    """A map that can be compared. `data` names what it is of: maps of other sizes share it."""

    map_id: UUID
    created_at: datetime
    rows: int
    clusters: int
    live: bool
    data: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartView:
    """Images of a cluster by where they are in the other map; `key` None: in no cluster of it."""

    key: UUID | None
    name: str
    images: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterChangeView:
    """A cluster in both maps; `kind`: new, vanished or kept.

    Of `after` images now and `before` images then `joined` came (`added` of them are new to the
    collection) and `left` went (`removed` from the collection). `shift` is the distance of the mean
    vectors; `energy` and `p` tell what joined from what was there, `q` is p corrected for the
    number of clusters, `drifted` says q <= 0.05. None where nothing was to be tested.
    """

    kind: str
    key: UUID
    name: str
    before: int
    after: int
    joined: int
    added: int
    left: int
    removed: int
    parts: tuple[PartView, ...]
    exemplars: tuple[UUID, ...]
    shift: float | None
    energy: float | None
    p: float | None
    q: float | None
    drifted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOutlierView:
    """An outlier of the later map that was none of the earlier; `score_before` None: not there."""

    image_id: UUID
    listing_id: str
    title: str
    score: float
    score_before: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangesView:
    """All that changed. `tested`: drift was tested by vectors, which a new map does once.

    `outliers` are the first of `new_outliers`. All counts are over all images of both maps.
    """

    before: VersionView | None
    after: VersionView
    rows_before: int
    rows_after: int
    added: int
    removed: int
    tested: bool
    clusters: tuple[ClusterChangeView, ...]
    new_outliers: int
    outliers: tuple[NewOutlierView, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """A comparison as stored, or as made here of two stored maps."""

    summary: Comparison
    clusters: Sequence[ClusterChange]
    outliers: Sequence[NewOutlier]
    tested: bool


class Changes:
    """Reads comparisons; makes those of two maps that were never one after the other."""

    def __init__(self, store: Store, atlas: Atlas) -> None:
        self._store, self._atlas = store, atlas
        self._made: OrderedDict[tuple[UUID, UUID], _Read] = OrderedDict()
        self._lock = threading.Lock()

    def versions(self) -> tuple[VersionView, ...]:
        """Maps that are stored, the newest first."""
        live = self._atlas.live_id()
        return tuple(
            VersionView(
                map_id=each.map_id,
                created_at=each.created_at,
                rows=each.rows_scored,
                clusters=each.clusters,
                live=each.map_id == live,
                data=comparison.data_of(each),
            )
            for each in self._store.maps()
        )

    def read(self, before: UUID | None, after: UUID | None, *, limit: int) -> ChangesView | None:
        """What changed from one map to another, with the first `limit` new outliers.

        `after` None is the live map, `before` None the map that was live before it, else the
        newest older one, of other data each. None where there is no such map. NotFoundError.
        """
        later = self._atlas.resolve(after)
        versions = {each.map_id: each for each in self.versions()}
        if later not in versions:
            raise NotFoundError(f"no map has the id {later}: it may be gone, choose another")
        stored = self._store.comparisons(later)
        earlier = before or _before(later, versions, stored)
        if earlier is None:
            return None
        found = self._stored(stored, earlier, limit) or self._compared(later, earlier)
        shown = found.outliers[:limit]
        titles = self._store.titles_of(each.listing_id for each in shown)
        return ChangesView(
            before=versions.get(earlier),
            after=versions[later],
            rows_before=found.summary.rows_before,
            rows_after=found.summary.rows_after,
            added=found.summary.added,
            removed=found.summary.removed,
            tested=found.tested,
            clusters=self._named(found.clusters),
            new_outliers=found.summary.outliers,
            outliers=tuple(
                NewOutlierView(
                    image_id=each.image_id,
                    listing_id=each.listing_id,
                    title=titles.get(each.listing_id, ""),
                    score=each.score,
                    score_before=each.score_before,
                )
                for each in shown
            ),
        )

    def _stored(self, stored: Sequence[Comparison], earlier: UUID, limit: int) -> _Read | None:
        for summary in stored:
            if summary.previous == earlier:
                later = summary.map_id
                clusters = self._store.cluster_changes(later, earlier)
                odd = self._store.new_outliers(later, earlier, limit=max(1, limit))
                # Means are stored where there were vectors: an older Sightline had none for sizes.
                tested = bool(self._store.means(later))
                return _Read(summary, clusters, odd, tested=tested)
        return None

    def _compared(self, later: UUID, earlier: UUID) -> _Read:
        """Compare two stored maps by their tables and stored means, without vectors."""
        pair = (later, earlier)
        with self._lock:
            if pair in self._made:
                self._made.move_to_end(pair)
                return self._made[pair]
        # As they were made: means and keys are of those clusters, not of what was decided since.
        tables = [self._atlas.analysed_table(each) for each in (earlier, later)]
        before, after = (comparison.side(self._store, table) for table in tables)
        found = drift.compare(before, after)
        shown = {each.cluster_key: each.exemplars for each in self._atlas.clusters(later)}
        shown |= {
            each.cluster_key: each.exemplars
            for each in self._atlas.clusters(earlier)
            if each.cluster_key not in shown
        }
        listings = [listing for _, listing in tables[1].ids(found.outliers)]
        made = _Read(
            comparison.summary(pair, found, 0),
            tuple(comparison.changes(pair, found, shown)),
            tuple(comparison.outliers(pair, found, after, listings)),
            tested=False,
        )
        with self._lock:
            self._made[pair] = made
            if len(self._made) > KEPT:
                self._made.popitem(last=False)
        return made

    def _named(self, changes: Sequence[ClusterChange]) -> tuple[ClusterChangeView, ...]:
        """Views of changes, under the names that analysts gave."""
        views = [_view(each) for each in changes]
        keys = {each.key for each in views}
        keys |= {part.key for each in views for part in each.parts if part.key}
        names = {key: name for key, (name, _) in ledger.names(self._store, keys).items() if name}
        return tuple(
            replace(
                view,
                name=names.get(view.key, view.name),
                parts=tuple(
                    replace(part, name=names.get(part.key, part.name) if part.key else part.name)
                    for part in view.parts
                ),
            )
            for view in views
        )


def _before(
    later: UUID, versions: Mapping[UUID, VersionView], stored: Sequence[Comparison]
) -> UUID | None:
    """The map to compare with: of the same data nothing can have come or gone."""
    data, moment = versions[later].data, versions[later].created_at
    for each in stored:
        known = versions.get(each.previous)
        if known is None or known.data != data:
            return each.previous
    older = [each for each in versions.values() if each.created_at < moment and each.data != data]
    return max(older, key=lambda each: each.created_at).map_id if older else None


def _view(change: ClusterChange) -> ClusterChangeView:
    return ClusterChangeView(
        kind=change.kind,
        key=change.cluster_key,
        name=change.name,
        before=change.before,
        after=change.after,
        joined=change.joined,
        added=change.added,
        left=change.departed,
        removed=change.removed,
        parts=tuple(
            PartView(key=UUID(key) if key else None, name=name, images=images)
            for key, name, images in json.loads(change.parts)
        ),
        exemplars=change.exemplars,
        shift=change.shift,
        energy=change.energy,
        p=change.p,
        q=change.q,
        drifted=change.q is not None and change.q <= drift.LEVEL,
    )
