"""Labels of images: given to one, to a selection, or spread to the nearest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray

from analytics.decisions.decided import LABEL, PREFIXES, subject_of
from analytics.learning import propagation
from analytics.learning.training import known
from analytics.tiles import Selection
from cql.errors import InputError, NotFoundError
from cql.ledger import BATCH, Wanted
from dashboard import ledger
from dashboard.acting import Acting
from dashboard.acts import DoneView, ImageLabelView, LabelView, NearView, SpreadView

LABEL_LIMIT = 80
"""Characters of a label."""
IMAGES_MAX = 10_000
"""Most images that one act labels."""
SHOWN = 20
"""Conflicts of a batch that are told one by one."""


class Labelling(Acting):
    """Labels in force, labels given, labels spread after a preview."""

    def labels(self) -> tuple[LabelView, ...]:
        """Labels in force with their counts, the most frequent first."""
        held = self._atlas.standing.read().of(LABEL)
        counts = Counter(decision.value for decision in held.values())
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return tuple(LabelView(label=label, images=images) for label, images in ranked)

    def labels_of(self, image_ids: Sequence[UUID]) -> dict[UUID, ImageLabelView]:
        """The label in force of each image; images that nobody labelled have version 0."""
        return ledger.labels_of(self._store, image_ids)

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
        return ledger.label_view(image_id, decision)

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
        used = known(self._store, seeds, snapshot.model_id, snapshot.dim)
        if not used.images:
            raise NotFoundError("no image of this label has a feature: run `sightline extract`")
        near = self._near(used.vectors, k, snapshot.rows, labelled)
        owners = self._store.owners(each.image_id for each in near)
        titles = self._store.titles_of(owners.values())
        return SpreadView(
            label=label,
            k=k,
            seeds=len(own),
            seeds_used=len(used.images),
            rows=snapshot.rows,
            near=tuple(
                NearView(
                    image_id=each.image_id,
                    listing_id=owners[each.image_id],
                    title=titles.get(owners[each.image_id], ""),
                    score=each.score,
                    seed=used.images[each.seed],
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


def _image(subject: str) -> UUID:
    return UUID(subject.removeprefix(PREFIXES[LABEL]))


def _bounded(count: int) -> None:
    if count > IMAGES_MAX:
        raise InputError(
            f"one act labels at most {IMAGES_MAX:,} images, got {count:,}: select fewer"
        )


def _some(conflicts: Sequence[str]) -> tuple[str, ...]:
    if len(conflicts) <= SHOWN:
        return tuple(conflicts)
    return (*conflicts[:SHOWN], f"and {len(conflicts) - SHOWN:,} more")
