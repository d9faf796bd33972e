"""How many images are of each class now: hosts count, a count is kept where no image changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from analytics.learning import ranking
from analytics.learning.linear import Want
from analytics.learning.training import OVERLAP, linear_of
from analytics.search import Searcher
from cql.errors import InputError, IntegrityError, UnavailableError
from cql.records import Classifier
from cql.store import Store

KEPT_S = 60.0
"""A count is asked for again after this time: a host may take in what was logged long ago."""

CHANGES = frozenset({"feature_added", "image_deleted"})
"""What the change log says where a count may be another."""

SETTLED_S = 10.0
"""Hosts read the log each second, and this far back again: a count that begins so long after a
change was seen there has it."""


@dataclass(frozen=True, slots=True)
class Count:
    """Images that a classifier takes for each of its classes, with all changes up to a time."""

    classifier_id: UUID
    images: Mapping[str, int]
    counted_at: datetime


class Counts:
    """Keeps the newest count. Thread-safe."""

    def __init__(
        self, store: Store, searcher: Searcher, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._searcher, self._clock = store, searcher, clock
        self._counting = threading.Lock()
        self._kept: tuple[float, Count] | None = None
        self._settled: dict[UUID, float] = {}

    def of(self, classifier: Classifier) -> Count | None:
        """Over all images that have a feature now; None where no hosts answer for its model.

        Those who ask while somebody counts are given that count.
        """
        came = self._clock()
        with self._counting:
            kept = self._kept
            if kept is not None and kept[1].classifier_id == classifier.classifier_id:
                began, count = kept
                # Begun after this one came: it waited for that.
                if began > came or (came - began < KEPT_S and self._holds(count, began, came)):
                    return count
            began, found = self._clock(), self._counted(classifier)
            if found is not None:
                self._kept = (began, found)
            return found

    def _counted(self, classifier: Classifier) -> Count | None:
        # Without hosts nobody waits for them until the deadline of a query.
        if not self._searcher.ready():
            return None
        try:
            answer = ranking.rank(self._searcher, linear_of(classifier), Want(k=1))
        except (UnavailableError, IntegrityError, InputError):
            return None
        if answer.snapshot.model_id != classifier.model_id:
            return None
        return Count(
            classifier.classifier_id,
            dict(zip(classifier.classes, answer.found.counts.tolist(), strict=True)),
            answer.followed_at or answer.snapshot.watermark,
        )

    def _holds(self, count: Count, began: float, came: float) -> bool:
        """Whether all that is logged was seen long enough before a count began."""
        # Clocks differ: what a count has in it already may be logged a moment behind it.
        now = datetime.now(UTC)
        changes = self._store.changes(count.counted_at - OVERLAP, now + OVERLAP)
        # Hosts take in what is logged ahead of their time when that has come.
        ahead = {
            change.change_id: max(0.0, (change.at - now).total_seconds())
            for change in changes
            if change.kind in CHANGES
        }
        known = self._settled
        self._settled = {
            change: known.get(change, came + wait + SETTLED_S) for change, wait in ahead.items()
        }
        return all(settled <= began for settled in self._settled.values())
