"""Clusters as analysts see them: merged, and split."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from analytics.decisions import regroup
from analytics.decisions.decided import MERGE, RENAME, SPLIT, subject_of
from analytics.decisions.effective import Effective, View
from analytics.decisions.regroup import Part, Split
from analytics.identity import packed
from analytics.tiles import MapTable, Selection
from cql.errors import ConflictError, InputError, NotFoundError
from cql.ledger import Wanted, lost
from cql.records import Decision
from dashboard import ledger
from dashboard.acting import Acting, batch_id
from dashboard.acts import DoneView, MergeView, SplitView

MERGE_MAX = 200
"""Most clusters of one merge."""


class Grouping(Acting):
    """Merges and splits, with a preview of each."""

    def merge_preview(self, keys: Sequence[UUID]) -> MergeView:
        """What some clusters of the live map would be as one; the largest keeps its key."""
        view, table = self._atlas.decided(None)
        found = _clusters(view, keys)
        largest = max(found, key=lambda each: (each.cluster.size, -each.cluster.cluster))
        into = largest.cluster.cluster_key
        chosen = [each.cluster.cluster_key for each in found]
        names = ledger.names(self._store, chosen)
        shown = [
            names.get(each.cluster.cluster_key, ("", 0))[0] or each.cluster.name for each in found
        ]
        rows = np.flatnonzero(np.isin(table.clusters, [each.cluster.cluster for each in found]))
        return MergeView(
            into=into,
            keys=tuple(chosen),
            names=tuple(shown),
            name=shown[found.index(largest)],
            images=len(rows),
            listings=table.gist(rows, 1).listings,
            versions=_versions(view, MERGE, chosen),
            name_version=names.get(into, ("", 0))[1],
            state=_state(view, found),
        )

    def merge(
        self,
        keys: Sequence[UUID],
        *,
        author: str,
        versions: Mapping[UUID, int],
        name: str = "",
        name_version: int = 0,
        state: str = "",
        reason: str = "",
    ) -> DoneView:
        """Make clusters of the live map one, with a name ("" keeps that of the largest).

        `versions`, `name_version` and `state` ("": what it is now) as `merge_preview` gave them.
        All of it or nothing: ConflictError when somebody merged or split one of them meanwhile, or
        merged another into one of them.
        """
        with self._conflicts_first(MERGE, versions, name, author):
            seen = self.merge_preview(keys)
        if state and seen.state != state:
            raise self._moved(seen.keys, author)
        wanted = [
            Wanted(
                subject=subject_of(MERGE, key),
                kind=MERGE,
                value=str(seen.into),
                expected_version=versions.get(key, 0),
            )
            for key in seen.keys
            if key != seen.into
        ]
        name = ledger.clean_name(name) if name.strip() else ""
        if name and name != seen.name:
            wanted.append(
                Wanted(
                    subject=subject_of(RENAME, seen.into),
                    kind=RENAME,
                    value=name,
                    expected_version=name_version,
                )
            )
        done = self._together(wanted, kind=MERGE, author=author, reason=reason)
        # Two merges that share a cluster are about different subjects: neither refuses the other.
        if not self._made(seen):
            self._take_back(batch_id(done.subject), author=author)
            raise self._moved(seen.keys, author)
        return done

    def _made(self, seen: MergeView) -> bool:
        """Whether what was merged is what the preview showed, and no more."""
        view = self._atlas.view(None)
        found = [each for each in view.clusters if each.cluster.cluster_key == seen.into]
        return bool(found) and _state(view, found) == seen.state

    def _moved(self, keys: Sequence[UUID], author: str) -> ConflictError:
        """The error of a merge whose clusters are not what they were, with who else decided."""
        units = set(keys)
        for each in self._atlas.view(None).clusters:
            if units & set(each.units):
                units |= set(each.units)
        subjects = [subject_of(kind, key) for kind in (MERGE, SPLIT) for key in units]
        others = [
            each for each in self._store.decisions_of(subjects).values() if each.author != author
        ]
        newest = max(others, key=lambda each: each.at, default=None)
        by = f" by {newest.author}" if newest else ""
        return ConflictError(
            f"the {len(keys)} clusters must be what the preview showed, one of them was merged or "
            f"split{by} meanwhile: read it again"
        )

    def split_preview(
        self,
        selection: Selection,
        *,
        key: UUID | None = None,
        map_id: UUID | None = None,
        images: Sequence[UUID] = (),
    ) -> SplitView:
        """What splitting a selection, or some images, off a cluster would do.

        `key` None: off the cluster that most of them are in. NotFoundError for an unknown cluster.
        """
        view, table = self._atlas.decided(map_id)
        chosen, found = _chosen(view, table, selection, key=key, images=images)
        codes, units = _units(view, table)
        mine = _rows_in(found, table)
        inside = np.intersect1d(chosen, mine)
        touched = [units[at] for at in np.unique(codes[inside])]
        names = ledger.names(self._store, [found.cluster.cluster_key])
        name = names.get(found.cluster.cluster_key, ("", 0))[0] or found.cluster.name
        return SplitView(
            key=found.cluster.cluster_key,
            name=name,
            images=len(inside),
            rest=len(mine) - len(inside),
            outside=len(chosen) - len(inside),
            versions=_versions(view, SPLIT, touched),
        )

    def split(
        self,
        selection: Selection,
        *,
        name: str,
        author: str,
        versions: Mapping[UUID, int],
        key: UUID | None = None,
        map_id: UUID | None = None,
        images: Sequence[UUID] = (),
        reason: str = "",
    ) -> DoneView:
        """Split images of one cluster off as a cluster of their own.

        `versions` as `split_preview` gave them. All of it or nothing. ConflictError.
        """
        name = ledger.clean_name(name)
        with self._conflicts_first(SPLIT, versions, name, author):
            wanted = self._parted(
                selection, name=name, versions=versions, key=key, map_id=map_id, images=images
            )
        return self._together(wanted, kind=SPLIT, author=author, reason=reason)

    def _parted(
        self,
        selection: Selection,
        *,
        name: str,
        versions: Mapping[UUID, int],
        key: UUID | None,
        map_id: UUID | None,
        images: Sequence[UUID],
    ) -> list[Wanted]:
        """A split of each cluster that the images are in; all of them have one new part."""
        view, table = self._atlas.decided(map_id)
        chosen, found = _chosen(view, table, selection, key=key, images=images)
        whole = found.cluster.cluster_key
        codes, units = _units(view, table)
        mine = _rows_in(found, table)
        inside = np.zeros(table.rows, bool)
        inside[np.intersect1d(chosen, mine)] = True
        if not inside.any() or inside.sum() == len(mine):
            chosen_ = "all" if inside.any() else "none"
            raise InputError(
                f"some of a cluster's {len(mine):,} images can be split off, {chosen_} of them are "
                "chosen: choose others"
            )
        version = table.version.map_id
        known = frozenset(cluster.cluster_key for cluster in self._atlas.clusters(version))
        fresh: UUID | None = None
        wanted = []
        for at in np.unique(codes[inside]):
            unit = units[at]
            subject = subject_of(SPLIT, unit)
            held = self._store.decisions_of([subject]).get(subject)
            before = regroup.read(held.value) if held and held.value else None
            expected = versions.get(unit, 0)
            own = codes == at
            if not (own & ~inside).any():
                raise InputError(
                    f"all images of a cluster that was merged into {whole} are chosen: undo its "
                    "merge instead, or choose fewer"
                )
            if fresh is None:
                fresh = regroup.part_key(unit, expected + 1, len(before.parts) if before else 1)
            parts = [
                Part(key=unit, name="", images=_images(table, own & ~inside)),
                *_kept_parts(before, codes, units, table),
                Part(key=fresh, name=name, images=_images(table, own & inside)),
            ]
            value = regroup.write(Split(parts=tuple(parts), map_id=version, known=known))
            wanted.append(
                Wanted(subject=subject, kind=SPLIT, value=value, expected_version=expected)
            )
        return wanted

    @contextlib.contextmanager
    def _conflicts_first(
        self, kind: str, versions: Mapping[UUID, int], value: str, author: str
    ) -> Iterator[None]:
        """ConflictError where clusters moved on from the versions that the caller saw.

        What was decided meanwhile may leave nothing of what was chosen: then that is the reason.
        """
        try:
            yield
        except (InputError, NotFoundError):
            wanted = {subject_of(kind, key): version for key, version in versions.items()}
            newest = self._store.decisions_of(wanted)
            for subject, version in wanted.items():
                there = newest.get(subject)
                if (there.version if there else 0) != version:
                    mine = Decision(
                        subject=subject,
                        version=version + 1,
                        kind=kind,
                        value=value,
                        author=author,
                        reason="",
                        at=datetime.now(UTC),
                    )
                    raise lost(mine, there) from None
            raise


def _clusters(view: View, keys: Sequence[UUID]) -> list[Effective]:
    wanted = list(dict.fromkeys(keys))
    if not 2 <= len(wanted) <= MERGE_MAX:
        raise InputError(f"2 to {MERGE_MAX} clusters can be merged, got {len(wanted)}")
    known = {each.cluster.cluster_key: each for each in view.clusters}
    missing = [key for key in wanted if key not in known]
    if missing:
        raise NotFoundError(
            f"the live map has no cluster {missing[0]}: it may have been merged, read again"
        )
    return [known[key] for key in wanted]


def _versions(view: View, kind: str, keys: Iterable[UUID]) -> dict[UUID, int]:
    """Versions of the decisions that the view shows: what was decided since is a conflict."""
    return {key: view.versions.get(subject_of(kind, key), 0) for key in keys}


def _state(view: View, found: Iterable[Effective]) -> str:
    """A text that changes when one of these is merged with another, or split."""
    units = sorted({unit for each in found for unit in each.units}, key=str)
    splits = _versions(view, SPLIT, units)
    told = json.dumps([(str(unit), splits[unit]) for unit in units])
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _units(view: View, table: MapTable) -> tuple[NDArray[np.int64], Sequence[UUID]]:
    """Each row's cluster or part as if nothing was merged, and their keys."""
    found = view.regrouped
    if found is not None:
        return found.parts, found.units
    clusters = sorted((each.cluster for each in view.clusters), key=lambda each: each.cluster)
    place = {each.cluster: at for at, each in enumerate(clusters)}
    codes = np.array([place.get(int(number), -1) for number in table.clusters], np.int64)
    return codes, [each.cluster_key for each in clusters]


def _rows_in(found: Effective, table: MapTable) -> NDArray[np.int64]:
    return np.flatnonzero(table.clusters == found.cluster.cluster).astype(np.int64)


def _chosen(
    view: View,
    table: MapTable,
    selection: Selection,
    *,
    key: UUID | None,
    images: Sequence[UUID],
) -> tuple[NDArray[np.int64], Effective]:
    if images:
        rows = table.rows_of(packed(images))
        rows = np.unique(rows[rows >= 0])
    else:
        rows = table.select(selection)
    if key is None:
        numbers = table.clusters[rows]
        inside = numbers[numbers >= 0]
        if not len(inside):
            raise InputError("no image of the selection is in a cluster: select others")
        values, counts = np.unique(inside, return_counts=True)
        most = int(values[counts.argmax()])
        return rows, next(each for each in view.clusters if each.cluster.cluster == most)
    found = next((each for each in view.clusters if each.cluster.cluster_key == key), None)
    if found is None:
        raise NotFoundError(f"this map has no cluster {key}: it may have been merged")
    return rows, found


def _kept_parts(
    before: Split | None, codes: NDArray[np.int64], units: Sequence[UUID], table: MapTable
) -> list[Part]:
    """The parts that a cluster has already, with the images that came to them since."""
    parts = [] if before is None else before.parts[1:]
    place = {unit: at for at, unit in enumerate(units)}
    return [
        Part(
            key=part.key,
            name=part.name,
            images=part.images | _images(table, codes == place[part.key])
            if part.key in place
            else part.images,
        )
        for part in parts
    ]


def _images(table: MapTable, rows: NDArray[np.bool_]) -> frozenset[UUID]:
    return frozenset(image for image, _ in table.ids(np.flatnonzero(rows).astype(np.int64)))
