"""Predicted classes as columns of a map, for pages and hosts: against a loop over images."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import numpy as np
import pytest

from analytics.learning.predicted import Predictions
from analytics.maps.columns import CATEGORIES_MAX, OTHER
from analytics.maps.regions import Selection
from analytics.tiles import MapTable
from cql.errors import InputError, NotFoundError
from cql.records import Classifier
from cql.store import Store
from tests.analytics.decisions.test_effective import Scene
from tests.predicted import batch, classifier


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def train(scene: Scene, *classes: str, **given: Any) -> Classifier:
    """A classifier that counts and has said nothing yet."""
    made = classifier(classes, model_id=scene.table.version.model_id, **given)
    scene.memory.put_classifier(made)
    scene.memory.pointers["classifier"] = made.classifier_id
    return made


def say(scene: Scene, made: Classifier, said: dict[UUID, tuple[int, float]]) -> None:
    number = len(scene.memory.prediction_batches(made.classifier_id)) + 1
    scene.memory.append_predictions(*batch(made, number, said))


def images(scene: Scene) -> list[UUID]:
    return [point.image_id for point in scene.points]


def shown(scene: Scene) -> dict[UUID, tuple[str, float]]:
    """Class and confidence of each image that has them, by the map as decided."""
    _, table = scene.decided(scene.map_id, lambda: scene.table)
    column = next(each for each in table.columns() if each.name == "predicted")
    codes, sure = table.numbers("predicted"), table.numbers("confidence")
    return {
        image: (column.categories[int(code)], float(share))
        for (image, _), code, share in zip(
            table.ids(np.arange(table.rows)), codes, sure, strict=True
        )
        if not math.isnan(code)
    }


def test_a_map_shows_what_the_classifier_says_of_each_image(scene: Scene) -> None:
    made = train(scene, "gas", "water")
    said = {image: (at % 2, at / 10 - 1) for at, image in enumerate(images(scene)[:80])}
    said[UUID(int=9)] = (1, 3.0)  # not on the map: deleted before that was made, or not yet placed
    say(scene, made, said)
    found = shown(scene)
    assert set(found) == set(images(scene)[:80])
    for image, (name, share) in found.items():
        own, surety = said[image]
        assert name == made.classes[own]
        assert share == pytest.approx(1 / (1 + math.exp(-surety)), rel=1e-6)
    _, table = scene.decided(scene.map_id, lambda: scene.table)
    facet = next(each for each in table.facets(Selection()) if each.name == "predicted")
    assert (facet.counts, facet.missing) == ((40, 40), 10)
    column = next(each for each in table.columns() if each.name == "confidence")
    shares = [share for _, share in found.values()]
    assert (column.low, column.high) == pytest.approx((min(shares), max(shares)))


def test_hosts_filter_by_class_and_confidence_and_follow_what_is_said(scene: Scene) -> None:
    with pytest.raises(InputError, match="no column is called 'predicted'"):
        scene.passed(predicted=["gas"])
    made = train(scene, "gas", "water")
    first, second = images(scene)[:30], images(scene)[30:50]
    say(scene, made, dict.fromkeys(first, (0, 2.0)))
    assert scene.passed(predicted=["gas"]) == set(first)
    assert scene.passed(predicted=["water"]) == set()
    say(scene, made, dict.fromkeys(second, (1, -1.0)))
    assert scene.passed(predicted=["water"]) == set(second), "images that came later"
    assert scene.passed(predicted=["gas", "water"], cluster=["0"]) == (
        {*first, *second} & scene.members(0)
    )
    sure: dict[str, Any] = {"confidence": {"low": 0.5, "high": None}}
    assert scene.passed(**sure) == set(first)
    again = train(scene, "gas", "water")
    say(scene, again, dict.fromkeys(first, (1, 0.0)))
    assert scene.passed(predicted=["water"]) == set(first), "another training counts"
    assert scene.passed(predicted=["gas"]) == set()


def test_labels_and_merges_stand_beside_it(scene: Scene) -> None:
    made = train(scene, "gas", "water")
    say(scene, made, dict.fromkeys(images(scene)[:9], (0, 1.0)))
    scene.decide("label", images(scene)[0], "gas")
    scene.decide("merge", scene.key(1), str(scene.key(0)))
    assert scene.passed(predicted=["gas"], label=["gas"]) == {images(scene)[0]}
    assert scene.passed(predicted=["gas"], cluster=["0"]) == (
        set(images(scene)[:9]) & scene.members(0, 1)
    )


def test_a_label_does_not_place_predictions_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = train(scene, "gas", "water")
    say(scene, made, dict.fromkeys(images(scene), (0, 1.0)))
    placed: list[int] = []
    real = MapTable.rows_of

    def counted(self: MapTable, asked: Any) -> Any:
        placed.append(len(asked))
        return real(self, asked)

    monkeypatch.setattr(MapTable, "rows_of", counted)
    for number, image in enumerate(images(scene)[:5]):
        scene.decide("label", image, f"{number}")
        shown(scene)
    assert placed.count(90) == 1


def test_rare_classes_share_a_category(scene: Scene) -> None:
    names = [f"class {n:03d}" for n in range(CATEGORIES_MAX + 20)]
    made = train(scene, *names, counts=[1000 - n for n in range(len(names))])
    said = {image: (at % len(names), 0.0) for at, image in enumerate(images(scene))}
    say(scene, made, said)
    _, table = scene.decided(scene.map_id, lambda: scene.table)
    column = next(each for each in table.columns() if each.name == "predicted")
    assert (len(column.keys), column.keys[-1]) == (CATEGORIES_MAX, OTHER)
    rare = {image for image, (own, _) in said.items() if own >= CATEGORIES_MAX - 1}
    assert scene.passed(predicted=[OTHER]) == rare


@pytest.mark.parametrize("why", ["nothing said", "another model", "none of the map"])
def test_a_map_has_no_columns_of_it_where_nothing_can_be_said(scene: Scene, why: str) -> None:
    made = train(scene, "gas", "water")
    if why == "another model":
        made = classifier(["gas", "water"], model_id="another")
        scene.memory.put_classifier(made)
        scene.memory.pointers["classifier"] = made.classifier_id
    if why != "nothing said":
        say(scene, made, {UUID(int=9): (0, 1.0)})
    scene.decide("label", images(scene)[0], "gas")
    _, table = scene.decided(scene.map_id, lambda: scene.table)
    names = {column.name for column in table.columns()}
    if why == "none of the map":
        assert np.isnan(table.numbers("predicted")).all()
    else:
        assert not names & {"predicted", "confidence"}
    assert "label" in names


def test_a_training_that_takes_the_place_of_another_while_it_is_read(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = train(scene, "gas", "water")
    say(scene, old, dict.fromkeys(images(scene), (0, 1.0)))
    real: Callable[..., Any] = scene.memory.predictions

    def replaced(asked: Any) -> Any:
        if asked.classifier_id == old.classifier_id:
            new = train(scene, "gas", "water")
            say(scene, new, dict.fromkeys(images(scene), (1, 1.0)))
            scene.memory.delete_predictions(old.classifier_id)
        return real(asked)

    monkeypatch.setattr(scene.memory, "predictions", replaced)
    assert {name for name, _ in shown(scene).values()} == {"water"}


def test_predictions_that_are_gone_are_an_error_and_read_again_later(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = train(scene, "gas", "water")
    say(scene, made, dict.fromkeys(images(scene), (0, 1.0)))

    def gone(asked: Any) -> Any:
        raise NotFoundError("deleted")

    held = Predictions(cast("Store", scene.memory))
    monkeypatch.setattr(scene.memory, "predictions", gone)
    with pytest.raises(NotFoundError):
        held.read()
    assert held.now().token == ""
    monkeypatch.undo()
    token = held.read().token
    assert token
    assert held.read().token == Predictions(cast("Store", scene.memory)).read().token == token
    del scene.memory.pointers["classifier"]
    assert held.read(max_age_s=60).token == token, "read a moment ago"
    assert held.read().token == ""
