"""What the classifier says of every image: batches, each of them seen whole or not at all."""

from __future__ import annotations

from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from cql import statements as cql
from cql.access import Access, conflict, record, values_of
from cql.codec import crc32c
from cql.errors import InputError, IntegrityError, NotFoundError
from cql.records import PredictionBatch

PART = 10_000
"""Images in a row of the table `predictions`: 220 kB."""

Rows = tuple[NDArray[np.uint8], NDArray[np.uint16], NDArray[np.float32]]
"""Images uint8 (N, 16), the class of each as its place in the classifier's, and its surety."""


class Predicted:
    """The part of the store about predicted classes."""

    _access: Access

    def append_predictions(self, batch: PredictionBatch, rows: Rows) -> None:
        """Write predictions, then their batch if the newest of the classifier is the one before.

        Raises:
            ConflictError: another engine wrote a batch meanwhile; nothing of this one is seen.
            InputError: a surety is not finite, or the batch has another number of rows.
        """
        images, classes, sureties = rows
        if not batch.rows == len(images) == len(classes) == len(sureties):
            raise InputError(
                f"a batch of {batch.rows} rows needs as many images, classes and sureties: "
                f"{len(images)}, {len(classes)} and {len(sureties)}"
            )
        if not np.isfinite(sureties).all():
            raise InputError("sureties must be finite numbers, some are not: train again")
        kept = (
            np.ascontiguousarray(images, np.uint8),
            np.asarray(classes).astype("<u2"),
            np.asarray(sureties).astype("<f4"),
        )
        self._access.write(
            cql.PUT_PREDICTIONS,
            (
                (batch.batch_id, part, *blobs, crc32c(b"".join(blobs)))
                for part, start in enumerate(range(0, batch.rows, PART))
                for blobs in ([each[start : start + PART].tobytes() for each in kept],)
            ),
        )

        def settled() -> bool:
            row = self._access.serial(cql.PREDICTION_BATCH, batch.classifier_id, batch.number)
            return row is not None and row.batch_id == batch.batch_id

        values = values_of(batch, cql.PREDICTION_BATCH_COLUMNS)
        if not self._access.cas(cql.ADD_PREDICTION_BATCH, values, settled=settled):
            self._forget(batch)
            raise conflict(
                f"predictions {batch.number} of classifier {batch.classifier_id}",
                batch.number - 1,
                batch.number,
            )

    def prediction_batches(self, classifier_id: UUID, *, after: int = 0) -> list[PredictionBatch]:
        """Batches of a classifier behind number `after`, in order."""
        rows = self._access.each(cql.PREDICTION_BATCHES, classifier_id, after)
        return [record(PredictionBatch, row) for row in rows]

    def predictions(self, batch: PredictionBatch) -> Rows:
        """All rows of a batch. NotFoundError where it is deleted, IntegrityError for damage."""
        parts = range(-(-batch.rows // PART))
        found = self._access.many(cql.PREDICTIONS, ((batch.batch_id, part) for part in parts))
        if not all(found):
            raise NotFoundError(f"the predictions of batch {batch.batch_id} are deleted: ask again")
        rows = [part[0] for part in found]
        for row in rows:
            if crc32c(row.images + row.classes + row.sureties) != row.crc32c:
                raise IntegrityError(
                    f"predictions of batch {batch.batch_id} must match their CRC-32C, part "
                    f"{row.part} does not: train again"
                )
        images = np.frombuffer(b"".join(row.images for row in rows), np.uint8).reshape(-1, 16)
        classes = np.frombuffer(b"".join(row.classes for row in rows), "<u2")
        sureties = np.frombuffer(b"".join(row.sureties for row in rows), "<f4")
        return images, classes.astype(np.uint16), sureties.astype(np.float32)

    def delete_predictions(self, classifier_id: UUID) -> None:
        """Remove what a classifier said, if it said anything."""
        batches = self.prediction_batches(classifier_id)
        if batches:
            self._access.run(cql.DELETE_PREDICTION_BATCHES, classifier_id)
        for batch in batches:
            self._forget(batch)

    def _forget(self, batch: PredictionBatch) -> None:
        parts = range(-(-batch.rows // PART))
        self._access.write(cql.DELETE_PREDICTIONS, ((batch.batch_id, part) for part in parts))
