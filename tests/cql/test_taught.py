"""Classifiers, concepts and suggestions against real Cassandra."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from cql import statements as cql
from cql.access import now
from cql.errors import ConflictError, InputError, NotFoundError
from cql.records import Classifier, Concept, Suggestion
from cql.store import Store

pytestmark = pytest.mark.service


def concept(name: str, version: int = 1) -> Concept:
    return Concept(
        name=name, version=version, model_id="m", snapshot_id=uuid4(), positives=(uuid4(),),
        negatives=(), weights=b"\0" * 16, norm=2.0, bias=-0.5, dim=4, threshold=0.25,
        precision=1.0, recall=0.5, sampled=512, seed=1, author="ann", created_at=now(),
    )  # fmt: skip


def test_a_classifier_is_read_back_as_it_was_written(store: Store) -> None:
    made = Classifier(
        classifier_id=uuid4(), model_id="m", snapshot_id=uuid4(), classes=("a", "b"),
        counts=(3, 2**40), weights=b"\1" * 16, norms=(1.5, 0.0), biases=(0.0, -2.5), dim=2,
        penalty=10.0, temperature=1.25, seed=1, labels=9, label_version="v", measures="{}",
        created_at=now(),
    )  # fmt: skip
    store.put_classifier(made)
    assert store.classifier(made.classifier_id) == made
    with pytest.raises(NotFoundError):
        store.classifier(uuid4())
    with pytest.raises(InputError):
        store.put_classifier(replace(made, norms=(1.0,)))


def test_of_two_who_save_a_concept_at_once_one_gets_a_conflict(store: Store) -> None:
    name = f"gas joint {uuid4()}"

    def save(_: int) -> Concept | ConflictError:
        try:
            return store.append_concept(concept(name))
        except ConflictError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(save, range(2)))
    (winner,) = [each for each in done if isinstance(each, Concept)]
    (lost,) = [each for each in done if isinstance(each, ConflictError)]
    assert (lost.expected, lost.found) == ("0", "1")
    assert store.concept(name) == winner
    with pytest.raises(ConflictError):
        store.append_concept(concept(name, 3))
    second = store.append_concept(concept(name, 2))
    assert store.concept_since(name) == winner.created_at
    assert second in store.concepts()
    assert winner not in store.concepts()
    store.append_concept(replace(concept(name, 3), positives=()))
    assert name not in {each.name for each in store.concepts()}
    with pytest.raises(NotFoundError):
        store.concept_since(name)
    again = store.append_concept(concept(name, 4))
    assert store.concept_since(name) == again.created_at
    with pytest.raises(NotFoundError):
        store.concept("unknown")


def test_suggestions_stand_once_and_newest_first(store: Store) -> None:
    name, moment = f"crack {uuid4()}", now()
    lines = [
        Suggestion(
            image_id=uuid4(), listing_id=f"l{n}", name=name, version=1, margin=0.5,
            at=moment - timedelta(days=n),
        )
        for n in range(4)
    ]  # fmt: skip
    assert store.put_suggestions(lines) == 4
    assert store.put_suggestions(lines) == 0
    assert store.suggested(name, limit=10) == lines
    assert store.suggested(name, limit=2) == lines[:2]
    again = replace(lines[3], version=2, at=moment + timedelta(seconds=1))
    assert store.put_suggestions([again]) == 1
    assert store.suggested(name, limit=10) == [again, *lines[:3]]
    assert store.suggestions(lines[3].image_id) == [again]
    days = {int(each.at.strftime("%Y%m%d")) for each in [again, *lines]}
    listed = store._access.many(cql.SUGGESTIONS_OF_DAY, ((name, day) for day in days))
    assert sum(map(len, listed)) == len(lines), "one line an image, the newest"
    assert store.suggestions(uuid4()) == []


def test_how_far_the_change_log_was_read_is_of_a_version(store: Store) -> None:
    name, moment = f"c {uuid4()}", datetime(2026, 1, 2, tzinfo=UTC)
    assert store.concept_read_to(name, 1) is None
    store.set_concept_read_to(name, 1, moment)
    assert store.concept_read_to(name, 1) == moment
    assert store.concept_read_to(name, 2) is None
