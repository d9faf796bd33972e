"""Decisions about clusters and images: merge, split, label, spread a label, undo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray

from analytics import propagation, regroup
from analytics.decided import LABEL, MERGE, PREFIXES, RENAME, SPLIT, UNDO, subject_of
from analytics.effective import Effective
from analytics.regroup import Part, Split
from analytics.search import Searcher
from analytics.tiles import Selection
from cql import codec
from cql.errors import ConflictError, InputError, NotFoundError
from cql.ledger import BATCH, Wanted, lost
from cql.records import Decision
from cql.store import Store
from dashboard import ledger
from dashboard.acts import (
    DoneView,
    ImageLabelView,
    LabelView,
    MergeView,
    NearView,
    SplitView,
    SpreadView,
)
from dashboard.atlas import Atlas
from dashboard.views import DecisionView

LABEL_LIMIT = 80
"""Characters of a label."""
IMAGES_MAX = 10_000
"""Most images that one act labels."""
MERGE_MAX = 200
SHOWN = 20
"""Conflicts of a batch that are told one by one."""


class Decisions:
    """What analysts decide beside names and verdicts, over one ledger. Thread-safe."""

    def __init__(self, store: Store, searcher: Searcher, atlas: Atlas) -> None:
        self._store, self._searcher, self._atlas = store, searcher, atlas

    # Clusters

    def merge_preview(self, keys: Sequence[UUID]) -> MergeView:
        """What some clusters of the live map would be as one; the largest keeps its key."""
        found = self._clusters(keys)
        largest = max(found, key=lambda each: (each.cluster.size, -each.cluster.cluster))
        into = largest.cluster.cluster_key
        others = [each.cluster.cluster_key for each in found if each is not largest]
        names = ledger.names(self._store, [each.cluster.cluster_key for each in found])
        shown = [
            names.get(each.cluster.cluster_key, ("", 0))[0] or each.cluster.name for each in found
        ]
        rows = np.flatnonzero(
            np.isin(self._atlas.table(None).numbers, [each.cluster.cluster for each in found])
        )
        return MergeView(
            into=into,
            keys=tuple(each.cluster.cluster_key for each in found),
            names=tuple(shown),
            name=shown[found.index(largest)],
            images=len(rows),
            listings=self._atlas.table(None).gist(rows, 1).listings,
            versions=self._versions(MERGE, others),
            name_version=names.get(into, ("", 0))[1],
        )

    def merge(
        self,
        keys: Sequence[UUID],
        *,
        author: str,
        versions: Mapping[UUID, int],
        name: str = "",
        name_version: int = 0,
        reason: str = "",
    ) -> DoneView:
        """Make clusters of the live map one, with a name ("" keeps that of the largest).

        `versions` and `name_version` as `merge_preview` gave them. All of it or nothing:
        ConflictError when somebody decided about one of them meanwhile.
        """
        self._unmoved(MERGE, versions, name, author)
        seen = self.merge_preview(keys)
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
        return self._together(wanted, kind=MERGE, author=author, reason=reason)

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
        chosen, found = self._chosen(selection, key=key, map_id=map_id, images=images)
        codes, units = self._units(map_id)
        mine = self._rows_in(found, map_id)
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
            versions=self._versions(SPLIT, touched),
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
        self._unmoved(SPLIT, versions, name, author)
        chosen, found = self._chosen(selection, key=key, map_id=map_id, images=images)
        whole = found.cluster.cluster_key
        codes, units = self._units(map_id)
        table = self._atlas.table(map_id)
        mine = self._rows_in(found, map_id)
        inside = np.zeros(table.rows, bool)
        inside[np.intersect1d(chosen, mine)] = True
        if not inside.any() or inside.sum() == len(mine):
            chosen_ = "all" if inside.any() else "none"
            raise InputError(
                f"some of a cluster's {len(mine):,} images can be split off, {chosen_} of them are "
                "chosen: choose others"
            )
        known = frozenset(cluster.cluster_key for cluster in self._atlas.clusters(map_id))
        version = table.version.map_id
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
                *self._kept_parts(before, codes, units, table),
                Part(key=fresh, name=name, images=_images(table, own & inside)),
            ]
            value = regroup.write(Split(parts=tuple(parts), map_id=version, known=known))
            wanted.append(
                Wanted(subject=subject, kind=SPLIT, value=value, expected_version=expected)
            )
        return self._together(wanted, kind=SPLIT, author=author, reason=reason)

    # Labels

    def labels(self) -> tuple[LabelView, ...]:
        """Labels in force with their counts, the most frequent first."""
        held = self._atlas.standing.read().of(LABEL)
        counts = Counter(decision.value for decision in held.values())
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return tuple(LabelView(label=label, images=images) for label, images in ranked)

    def labels_of(self, image_ids: Sequence[UUID]) -> dict[UUID, ImageLabelView]:
        """The label in force of each image; images that nobody labelled have version 0."""
        by_subject = {subject_of(LABEL, image): image for image in image_ids}
        found = self._store.decisions_of(list(by_subject)) if by_subject else {}
        return {
            image: _label_view(image, found.get(subject)) for subject, image in by_subject.items()
        }

    def set_label(
        self, image_id: UUID, label: str, *, author: str, expected_version: int, reason: str = ""
    ) -> ImageLabelView:
        """Label one image, "" for none. ConflictError when somebody labelled it meanwhile."""
        label = clean_label(label)
        self._store.image(image_id)
        decision = self._store.append_decision(
            subject_of(LABEL, image_id),
            LABEL,
            label,
            author=author,
            reason=reason,
            expected_version=expected_version,
        )
        return _label_view(image_id, decision)

    def selected(self, selection: Selection, map_id: UUID | None = None) -> list[UUID]:
        """Images of a selection, to label them. InputError for more than 10,000."""
        table = self._atlas.table(map_id)
        rows = table.select(selection)
        _bounded(len(rows))
        return [image for image, _ in table.ids(rows)]

    def label(
        self,
        image_ids: Sequence[UUID],
        label: str,
        *,
        author: str,
        reason: str = "",
        since: datetime | None = None,
    ) -> DoneView:
        """Label images, "" for none, as one batch; those that have the label already stay as is.

        What somebody else decided after `since` (when the caller looked; None: now) is a conflict
        and stands. Images that are gone are left out.
        """
        label = clean_label(label)
        wanted_images = list(dict.fromkeys(image_ids))
        _bounded(len(wanted_images))
        there = self._store.owners(wanted_images)
        if not there:
            raise NotFoundError("none of these images is in the collection: choose others")
        held = self._store.decisions_of(subject_of(LABEL, image) for image in there)
        wanted, unchanged, conflicts = [], 0, []
        for image in there:
            subject = subject_of(LABEL, image)
            newest = held.get(subject)
            if (newest.value if newest else "") == label:
                unchanged += 1
            elif newest and since and newest.at > since:
                conflicts.append(
                    f"{subject} is “{newest.value}” by {newest.author} (version {newest.version}) "
                    f"since you looked; yours was “{label}” by {author}"
                )
            else:
                wanted.append(
                    Wanted(
                        subject=subject,
                        kind=LABEL,
                        value=label,
                        expected_version=newest.version if newest else 0,
                    )
                )
        batch = uuid4()
        done, refused = self._store.append_decisions(
            wanted, batch=batch, kind=LABEL, author=author, reason=reason
        )
        conflicts += [str(error) for error in refused]
        return DoneView(
            subject=f"{BATCH}{batch}",
            version=1,
            appended=len(done),
            unchanged=unchanged,
            conflicts=_some(conflicts),
        )

    def spread_preview(self, label: str, k: int) -> SpreadView:
        """The k unlabelled images nearest to those of a label: exact, over the whole collection.

        Of more than 1,024 labelled images the newest are asked with. NotFoundError for a label
        that no image has, UnavailableError when no hosts answer.
        """
        if not 1 <= k <= propagation.K_MAX:
            raise InputError(f"k must be from 1 to {propagation.K_MAX}, got {k}: ask for fewer")
        now = datetime.now(UTC)
        held = self._atlas.standing.read().of(LABEL)
        own = sorted(
            (each for each in held.values() if each.value == label),
            key=lambda each: (each.at, each.subject),
            reverse=True,
        )
        if not own:
            raise NotFoundError(f"no image has the label {label[:80]!r}: label some first")
        labelled = {_image(subject) for subject in held}
        seeds = [_image(each.subject) for each in own[: propagation.SEEDS_MAX]]
        snapshot = self._searcher.snapshot()
        used, vectors = self._vectors(seeds, snapshot.model_id)
        near = self._near(vectors, k, snapshot.rows, labelled)
        owners = self._store.owners(each.image_id for each in near)
        titles = self._store.listings(sorted(set(owners.values())))
        return SpreadView(
            label=label,
            k=k,
            seeds=len(own),
            seeds_used=len(used),
            rows=snapshot.rows,
            near=tuple(
                NearView(
                    image_id=each.image_id,
                    listing_id=owners[each.image_id],
                    title=titles[owners[each.image_id]].title
                    if owners[each.image_id] in titles
                    else "",
                    score=each.score,
                    seed=used[each.seed],
                )
                for each in near
            ),
            at=now,
        )

    def spread(
        self,
        label: str,
        image_ids: Sequence[UUID],
        *,
        k: int,
        author: str,
        since: datetime | None = None,
    ) -> DoneView:
        """Label the images that were kept of a preview: one batch, whose reason says whence."""
        seeds = sum(each.value == label for each in self._atlas.standing.read().of(LABEL).values())
        reason = f"propagated from {seeds:,} image{'' if seeds == 1 else 's'}, k={k}"
        return self.label(image_ids, label, author=author, reason=reason, since=since)

    # Undo

    def undo(self, subject: str, *, author: str, expected_version: int) -> DecisionView:
        """Step back the newest decision of a subject, or every decision of a `batch:<id>`.

        Of a batch only what nobody changed since is stepped back; ConflictError when that is
        nothing.
        """
        if not subject.startswith(BATCH):
            return ledger.undo(
                self._store, subject, author=author, expected_version=expected_version
            )
        batch = _batch_id(subject)
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
        return self._store.append_decisions(
            wanted, batch=uuid4(), kind=UNDO, author=author, reason=f"undo of {BATCH}{batch}"
        )

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

    # Steps shared by the above

    def _clusters(self, keys: Sequence[UUID]) -> list[Effective]:
        wanted = list(dict.fromkeys(keys))
        if not 2 <= len(wanted) <= MERGE_MAX:
            raise InputError(f"2 to {MERGE_MAX} clusters can be merged, got {len(wanted)}")
        known = {each.cluster.cluster_key: each for each in self._atlas.view(None).clusters}
        missing = [key for key in wanted if key not in known]
        if missing:
            raise NotFoundError(
                f"the live map has no cluster {missing[0]}: it may have been merged, read again"
            )
        return [known[key] for key in wanted]

    def _versions(self, kind: str, keys: Iterable[UUID]) -> dict[UUID, int]:
        wanted = {subject_of(kind, key): key for key in keys}
        found = self._store.decisions_of(wanted)
        return {key: found[s].version if s in found else 0 for s, key in wanted.items()}

    def _unmoved(self, kind: str, versions: Mapping[UUID, int], value: str, author: str) -> None:
        """ConflictError when a cluster is not at the version that the caller saw.

        Said first: what was decided meanwhile may leave nothing of the clusters that were chosen.
        """
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
                raise lost(mine, there)

    def _units(self, map_id: UUID | None) -> tuple[NDArray[np.int64], Sequence[UUID]]:
        """Each row's cluster or part as if nothing was merged, and their keys."""
        found = self._atlas.view(map_id).regrouped
        if found is not None:
            return found.parts, found.units
        clusters = sorted(self._atlas.clusters(map_id), key=lambda each: each.cluster)
        place = {each.cluster: at for at, each in enumerate(clusters)}
        numbers = self._atlas.table(map_id).numbers
        codes = np.array([place.get(int(number), -1) for number in numbers], np.int64)
        return codes, [each.cluster_key for each in clusters]

    def _rows_in(self, found: Effective, map_id: UUID | None) -> NDArray[np.int64]:
        rows = np.flatnonzero(self._atlas.table(map_id).numbers == found.cluster.cluster)
        return rows.astype(np.int64)

    def _chosen(
        self,
        selection: Selection,
        *,
        key: UUID | None,
        map_id: UUID | None,
        images: Sequence[UUID],
    ) -> tuple[NDArray[np.int64], Effective]:
        table = self._atlas.table(map_id)
        if images:
            rows = table.rows_of(
                np.frombuffer(b"".join(image.bytes for image in images), np.uint8).reshape(-1, 16)
            )
            rows = np.unique(rows[rows >= 0])
        else:
            rows = table.select(selection)
        clusters = self._atlas.view(map_id).clusters
        if key is None:
            numbers = table.numbers[rows]
            inside = numbers[numbers >= 0]
            if not len(inside):
                raise InputError("no image of the selection is in a cluster: select others")
            values, counts = np.unique(inside, return_counts=True)
            most = int(values[counts.argmax()])
            return rows, next(each for each in clusters if each.cluster.cluster == most)
        found = next((each for each in clusters if each.cluster.cluster_key == key), None)
        if found is None:
            raise NotFoundError(f"this map has no cluster {key}: it may have been merged")
        return rows, found

    def _kept_parts(
        self,
        before: Split | None,
        codes: NDArray[np.int64],
        units: Sequence[UUID],
        table: Any,
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

    def _vectors(
        self, images: Sequence[UUID], model_id: str
    ) -> tuple[list[UUID], NDArray[np.float32]]:
        """Features of those images that have one: float32 (Q, D)."""
        owners = self._store.owners(images)
        there = [image for image in images if image in owners]
        found = self._store.features_at([(owners[image], model_id, image) for image in there])
        held = [(image, each) for image, each in zip(there, found, strict=True) if each]
        if not held:
            raise NotFoundError("no image of this label has a feature: run `sightline extract`")
        vectors: NDArray[np.float32] = codec.decode(
            [each.vector for _, each in held],
            [each.crc32c for _, each in held],
            dim=held[0][1].dim,
        )
        return [image for image, _ in held], vectors

    def _near(
        self, vectors: NDArray[np.float32], k: int, rows: int, labelled: Collection[UUID]
    ) -> list[propagation.Near]:
        """The nearest images that are still there."""
        left_out = set(labelled)
        while True:
            near = propagation.nearest(
                self._searcher.neighbours, vectors, k=k, rows=rows, leave_out=left_out
            )
            there = self._store.owners(each.image_id for each in near)
            gone = {each.image_id for each in near} - set(there)
            if not gone:
                return near
            left_out |= gone


def clean_label(label: str) -> str:
    """A label as it is stored: one line, at most 80 characters, "" for none."""
    text = ledger.one_line(label)
    if len(text) > LABEL_LIMIT:
        raise InputError(f"a label may have {LABEL_LIMIT} characters, got {len(text)}: shorten it")
    return text


def _label_view(image_id: UUID, decision: Decision | None) -> ImageLabelView:
    if decision is None:
        return ImageLabelView(image_id=image_id)
    return ImageLabelView(
        image_id=image_id,
        label=decision.value,
        version=decision.version,
        author=decision.author,
        reason=decision.reason,
        at=decision.at,
    )


def _images(table: Any, rows: NDArray[np.bool_]) -> frozenset[UUID]:
    return frozenset(image for image, _ in table.ids(np.flatnonzero(rows).astype(np.int64)))


def _image(subject: str) -> UUID:
    return UUID(subject.removeprefix(PREFIXES[LABEL]))


def _batch_id(subject: str) -> UUID:
    try:
        return UUID(subject.removeprefix(BATCH))
    except ValueError:
        raise InputError(f"a batch is batch:<id>, got {subject[:80]!r}") from None


def _bounded(count: int) -> None:
    if count > IMAGES_MAX:
        raise InputError(
            f"one act labels at most {IMAGES_MAX:,} images, got {count:,}: select fewer"
        )


def _some(conflicts: Sequence[str]) -> tuple[str, ...]:
    if len(conflicts) <= SHOWN:
        return tuple(conflicts)
    return (*conflicts[:SHOWN], f"and {len(conflicts) - SHOWN:,} more")
