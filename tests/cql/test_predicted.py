"""Predictions of a classifier against real Cassandra."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest

from cql import statements as cql
from cql.access import now
from cql.errors import ConflictError, InputError, IntegrityError, NotFoundError
from cql.predicted import PART, Rows
from cql.records import PredictionBatch
from cql.store import Store

pytestmark = pytest.mark.service


def rows(count: int, seed: int = 1) -> Rows:
    rng = np.random.default_rng(seed)
    return (
        rng.integers(0, 256, (count, 16), np.uint8),
        rng.integers(0, 200, count).astype(np.uint16),
        rng.normal(size=count).astype(np.float32),
    )


def batch(number: int, count: int, classifier_id: UUID | None = None) -> PredictionBatch:
    return PredictionBatch(
        classifier_id=classifier_id or uuid4(), number=number, batch_id=uuid4(), rows=count,
        read_to=now(),
    )  # fmt: skip


@pytest.mark.parametrize("count", [0, 1, PART, 2 * PART + 1])
def test_predictions_are_read_back_as_they_were_written(store: Store, count: int) -> None:
    made, wanted = batch(1, count), rows(count)
    store.append_predictions(made, wanted)
    assert store.prediction_batches(made.classifier_id) == [made]
    found = store.predictions(made)
    own: Any
    given: Any
    for own, given in zip(found, wanted, strict=True):
        assert own.dtype == given.dtype
        assert np.array_equal(own, given)
    later = batch(2, 3, classifier_id=made.classifier_id)
    store.append_predictions(later, rows(3, seed=2))
    assert store.prediction_batches(made.classifier_id, after=1) == [later]
    store.delete_predictions(made.classifier_id)
    assert store.prediction_batches(made.classifier_id) == []
    with pytest.raises(NotFoundError, match="deleted"):
        store.predictions(later)


def test_of_two_that_append_at_once_one_gets_a_conflict(store: Store) -> None:
    first = batch(1, 4)
    store.append_predictions(first, rows(4))
    lost = batch(1, 4, classifier_id=first.classifier_id)
    with pytest.raises(ConflictError):
        store.append_predictions(lost, rows(4, seed=2))
    assert store.prediction_batches(first.classifier_id) == [first]
    with pytest.raises(NotFoundError):
        store.predictions(lost)  # nothing of it is left


def test_what_cannot_be_a_prediction_is_refused(store: Store) -> None:
    images, classes, sureties = rows(4)
    with pytest.raises(InputError, match="as many"):
        store.append_predictions(batch(1, 5), (images, classes, sureties))
    sureties[2] = np.nan
    with pytest.raises(InputError, match="finite"):
        store.append_predictions(batch(1, 4), (images, classes, sureties))


def test_damage_is_noticed(store: Store) -> None:
    made, (images, classes, sureties) = batch(1, 4), rows(4)
    store.append_predictions(made, (images, classes, sureties))
    blobs = images.tobytes(), classes.tobytes(), sureties.tobytes()
    store._access.run(cql.PUT_PREDICTIONS, made.batch_id, 0, *blobs, 1)
    with pytest.raises(IntegrityError, match="CRC"):
        store.predictions(made)
