"""What the classifier says of every image, as columns of a map: its class, and how sure that is.

The classifier that counts is scored over all images when it is trained, and over each image that
comes later (`analytics.learning.training`). What it said is stored, so that a page and a shard
host have the same numbers.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from analytics.decisions.decided import CONFIDENCE, PREDICTED
from analytics.learning.linear import confidence
from analytics.maps import columns as attributes
from analytics.maps.columns import Column
from analytics.tiles import MapTable
from cql.errors import NotFoundError
from cql.predicted import Rows
from cql.records import Classifier, PredictionBatch
from cql.taught import CLASSIFIER_LIVE

MAPS = 4
"""Maps whose columns are kept."""
_TRIES = 3

Columns = list[tuple[Column, NDArray[Any]]]


class Registry(Protocol):
    """What is read of a store."""

    def live(self, name: str) -> UUID | None: ...  # noqa: D102
    def classifier(self, classifier_id: UUID) -> Classifier: ...  # noqa: D102
    def prediction_batches(  # noqa: D102
        self, classifier_id: UUID, *, after: int = 0
    ) -> Sequence[PredictionBatch]: ...
    def predictions(self, batch: PredictionBatch) -> Rows: ...  # noqa: D102


@dataclass(slots=True, eq=False)
class Said:
    """What one classifier says, as of one reading. `token` is "" where there is none.

    `batches` hold images, each one's class and its surety; an image of several batches has the
    same in each.
    """

    token: str = ""
    classifier: Classifier | None = None
    batches: tuple[Rows, ...] = ()
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _kept: OrderedDict[tuple[UUID, int], Columns] = field(default_factory=OrderedDict)

    def columns(self, table: MapTable) -> Columns:
        """`predicted` and `confidence` of a map's rows, NaN for images that it says nothing of.

        None where the classifier is of another model than the map, or an older Sightline trained
        it.
        """
        made = self.classifier
        if made is None or not self.token or made.model_id != table.version.model_id:
            return []
        key = (table.version.map_id, table.rows)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = _columns(made, self.batches, table)
                while len(self._kept) > MAPS:
                    self._kept.popitem(last=False)
            return self._kept[key]


class Predictions:
    """What the classifier that counts says, brought up to date by two small queries.

    Thread-safe. Batches are only ever added to a classifier; another one starts anew.
    """

    def __init__(self, store: Registry) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._said = Said()
        self._batches: tuple[PredictionBatch, ...] = ()
        self._read_at = -math.inf

    def now(self) -> Said:
        """As last read."""
        with self._lock:
            return self._said

    def read(self, *, max_age_s: float = 0.0) -> Said:
        """Take in what was said since, unless that was done `max_age_s` ago."""
        with self._lock:
            moment = time.monotonic()
            if not max_age_s or moment - self._read_at >= max_age_s:
                self._read_at = moment
                self._said = self._newest()
            return self._said

    def _newest(self) -> Said:
        for left in reversed(range(_TRIES)):
            version = self._store.live(CLASSIFIER_LIVE)
            if version is None:
                self._batches = ()
                return Said()
            said, batches = self._said, self._batches
            if said.classifier is None or said.classifier.classifier_id != version:
                said, batches = Said(classifier=self._store.classifier(version)), ()
            new = self._store.prediction_batches(
                version, after=batches[-1].number if batches else 0
            )
            try:
                read = [self._store.predictions(batch) for batch in new if batch.rows]
            except NotFoundError:
                # A later training took its place meanwhile, and its predictions away.
                if not left:
                    raise
                continue
            self._batches = (*batches, *new)
            if read:
                rows = sum(batch.rows for batch in self._batches)
                said = Said(f"{version}.{rows}", said.classifier, (*said.batches, *read))
            return said
        raise AssertionError("unreachable")


def _columns(made: Classifier, batches: Sequence[Rows], table: MapTable) -> Columns:
    counts = dict(zip(made.classes, made.counts, strict=True))
    column, code = attributes.categories(PREDICTED, "Predicted class", counts)
    codes = np.array([code[name] for name in made.classes], np.float32)
    classes = np.full(table.rows, np.nan, np.float32)
    sure = np.full(table.rows, np.nan, np.float32)
    for images, given, sureties in batches:
        rows = table.rows_of(images)
        there = rows >= 0
        classes[rows[there]] = codes[given[there]]
        sure[rows[there]] = confidence(sureties[there])
    found = attributes.number(CONFIDENCE, "Confidence", sure)
    return [(column, classes), (found, sure)]
