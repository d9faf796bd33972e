"""Classifiers and what they say of images, in memory; `tests/cql` tests the real ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import numpy as np

from cql.errors import ConflictError, NotFoundError
from cql.predicted import Rows
from cql.records import Classifier, PredictionBatch

WHEN = datetime(2026, 11, 1, 12, tzinfo=UTC)


class MemoryPredicted:
    """With the rules of `cql.predicted.Predicted`, and of `cql.taught` for classifiers."""

    @property
    def classifiers_(self) -> dict[UUID, Classifier]:
        held: dict[UUID, Classifier] = self.__dict__.setdefault("_classifiers", {})
        return held

    @property
    def predicted_(self) -> dict[UUID, list[tuple[PredictionBatch, Rows]]]:
        held: dict[UUID, list[tuple[PredictionBatch, Rows]]] = self.__dict__.setdefault(
            "_predicted", {}
        )
        return held

    def put_classifier(self, classifier: Classifier) -> None:
        self.classifiers_[classifier.classifier_id] = classifier

    def classifier(self, classifier_id: UUID) -> Classifier:
        return self.classifiers_[classifier_id]

    def append_predictions(self, batch: PredictionBatch, rows: Rows) -> None:
        held = self.predicted_.setdefault(batch.classifier_id, [])
        if batch.number != len(held) + 1:
            raise ConflictError(f"batch {batch.number} is there")
        held.append((batch, rows))

    def prediction_batches(self, classifier_id: UUID, *, after: int = 0) -> list[PredictionBatch]:
        return [batch for batch, _ in self.predicted_.get(classifier_id, [])[after:]]

    def predictions(self, batch: PredictionBatch) -> Rows:
        for own, rows in self.predicted_.get(batch.classifier_id, []):
            if own.batch_id == batch.batch_id:
                return rows
        raise NotFoundError(f"the predictions of batch {batch.batch_id} are deleted: ask again")

    def delete_predictions(self, classifier_id: UUID) -> None:
        self.predicted_.pop(classifier_id, None)


def classifier(
    classes: Sequence[str], *, counts: Sequence[int] = (), model_id: str = "m"
) -> Classifier:
    """A stored classifier whose weights nobody asks for."""
    return Classifier(
        classifier_id=uuid4(), model_id=model_id, snapshot_id=uuid4(), classes=tuple(classes),
        counts=tuple(counts) or (1,) * len(classes), weights=b"\0" * 8 * len(classes),
        norms=(0.0,) * len(classes), biases=(0.0,) * len(classes), dim=2, penalty=1.0,
        temperature=1.0, seed=1, labels=2, label_version="", measures="{}", created_at=WHEN,
    )  # fmt: skip


def batch(
    made: Classifier, number: int, said: dict[UUID, tuple[int, float]]
) -> tuple[PredictionBatch, Rows]:
    """A batch from the class and surety of each image."""
    raw = b"".join(image.bytes for image in said)
    rows = (
        np.frombuffer(raw, np.uint8).reshape(-1, 16),
        np.array([each for each, _ in said.values()], np.uint16),
        np.array([sure for _, sure in said.values()], np.float32),
    )
    own = PredictionBatch(
        classifier_id=made.classifier_id, number=number, batch_id=uuid4(), rows=len(said),
        read_to=WHEN,
    )  # fmt: skip
    return own, rows
