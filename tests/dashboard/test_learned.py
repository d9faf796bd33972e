"""Classes and concepts over a collection in memory: training, ranking, arrivals, the API."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from starlette.testclient import TestClient

from analytics.learning import training
from cql.errors import (
    ConflictError,
    InputError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
)
from cql.records import Change, Classifier
from cql.settings import Settings
from dashboard import app, atlas
from dashboard.counts import KEPT_S, Count, Counts
from dashboard.services import Services
from tests.dashboard.memory import WHEN, collection
from tests.ledger import now
from tests.waiting import until

BASE = "http://127.0.0.1:8050/api/v1"


class World:
    """Services over a store in memory, whose photos are of five kinds."""

    def __init__(self, folder: Path) -> None:
        self.store, self.searcher = collection(40)
        self.settings = Settings(data_dir=folder)
        store: Any = self.store
        searcher: Any = self.searcher
        self.services = Services(self.settings, store, searcher)

    def kind(self, image_id: UUID) -> int:
        return int(self.store.images[image_id].listing_id[-3:]) % 5

    def of(self, kind: int) -> list[UUID]:
        return sorted((i for i in self.store.images if self.kind(i) == kind), key=str)

    def label(self, per_kind: int = 9, kinds: int = 3) -> dict[UUID, str]:
        given = {}
        for kind in range(kinds):
            for image_id in self.of(kind)[:per_kind]:
                given[image_id] = f"kind {kind}"
        for name in sorted(set(given.values())):
            own = [image for image, label in given.items() if label == name]
            self.services.decisions.label(own, name, author="ann")
        return given

    def train(self) -> Classifier:
        store: Any = self.store
        return training.classify(store, self.searcher)

    def arrive(self, like: UUID) -> UUID:
        """A new photo of a new listing that looks like another."""
        image_id, listing_id = uuid4(), f"new-{len(self.store.images)}"
        old = self.store.images[like]
        self.store.images[image_id] = replace(
            old, image_id=image_id, listing_id=listing_id, added_at=now()
        )
        self.store.vectors_[image_id] = self.store.vectors_[like]
        self.log("feature_added", listing_id, image_id)
        return image_id

    def log(self, kind: str, listing_id: str, image_id: UUID | None = None) -> None:
        made = Change(
            at=now(), change_id=uuid4(), kind=kind, listing_id=listing_id, image_id=image_id
        )
        self.store.log_.append(made)

    def suggest(self) -> int:
        store: Any = self.store
        return training.suggest(store, "m")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# Classes


def test_before_a_training_classes_are_those_of_labels(world: World) -> None:
    assert world.services.classes.classes().classes == ()
    world.label(2, 2)
    found = world.services.classes.classes()
    assert [(each.name, each.labelled, each.predicted) for each in found.classes] == [
        ("kind 0", 2, 0),
        ("kind 1", 2, 0),
    ]
    assert (found.trained, found.stale, found.usable) == (None, False, False)
    with pytest.raises(NotFoundError, match="train one"):
        world.services.classes.guesses()
    image = world.of(0)[0]
    assert world.services.classes.prediction(image).classes == ()


def test_every_image_gets_a_class_and_figures_are_shown(world: World) -> None:
    given = world.label()
    made = world.train()
    found = world.services.classes.classes()
    assert sum(each.predicted for each in found.classes) == len(world.store.images)
    assert found.trained is not None
    assert (found.trained.labels, found.labelled, found.stale) == (27, 27, False)
    assert found.trained.accuracy is not None
    assert found.trained.accuracy > 0.9
    assert sum(each.rows for each in found.trained.bins) == found.trained.held_out
    # Naively, from the stored weights.
    linear = training.linear_of(made)
    shares = {}
    for image_id, vector in world.store.vectors_.items():
        scores = linear.scores(vector[None])[0]
        raised = np.exp(scores - scores.max())
        shares[image_id] = raised / raised.sum()
    page = world.services.classes.guesses(limit=10, offset=5)
    asked = sorted((i for i in shares if i not in given), key=lambda i: float(shares[i].max()))
    assert [each.image_id for each in page.guesses] == asked[5:15]
    assert (page.rows, page.ranked, page.next_offset) == (120, 120, 15)
    for each in page.guesses:
        own = shares[each.image_id]
        assert each.predicted == made.classes[int(own.argmax())]
        assert each.confidence == pytest.approx(float(own.max()), rel=1e-5)
        assert (each.label, each.version) == ("", 0)
    inside = world.services.classes.guesses("kind 1", limit=500)
    mine = [i for i in shares if made.classes[int(shares[i].argmax())] == "kind 1"]
    assert inside.ranked == len(mine) == len(inside.guesses)
    assert inside.next_offset is None
    assert {each.image_id for each in inside.guesses} == set(mine)
    ranked = [each.confidence or 0.0 for each in inside.guesses]
    assert ranked == sorted(ranked, reverse=True)
    labelled = next(each for each in inside.guesses if each.image_id in given)
    assert (labelled.label, labelled.version) == ("kind 1", 1)


def predicted(world: World) -> dict[str, int]:
    return {each.name: each.predicted for each in world.services.classes.classes().classes}


def test_predicted_images_are_counted_as_they_are_now(world: World) -> None:
    world.label()
    made = world.train()
    trained = dict(zip(made.classes, made.counts, strict=True))
    assert predicted(world) == trained
    assert world.services.classes.classes().counted_at == WHEN, "as the hosts say"
    linear = training.linear_of(made)
    rng = np.random.default_rng(3)
    for _ in range(6):
        for kind in rng.integers(0, 5, 4):
            world.arrive(world.of(int(kind))[0])
        gone = list(world.store.vectors_)[int(rng.integers(len(world.store.vectors_)))]
        world.log("image_deleted", world.store.images[gone].listing_id, gone)
        del world.store.images[gone], world.store.vectors_[gone]
        naive = dict.fromkeys(made.classes, 0)
        for vector in world.store.vectors_.values():
            naive[made.classes[int(linear.scores(vector[None])[0].argmax())]] += 1
        assert predicted(world) == naive
        pages = {name: world.services.classes.guesses(name).ranked for name in made.classes}
        assert pages == naive, "a page says the same"
    assert predicted(world) != trained
    # Where nothing can count them, those of the training are told as such.
    world.searcher.down = UnavailableError("no hosts")
    found = world.services.classes.classes()
    assert (predicted(world), found.counted_at, found.usable) == (trained, None, True)
    world.searcher.down = None
    assert world.store.snapshot_ is not None
    world.store.snapshot_ = replace(world.store.snapshot_, model_id="another")
    found = world.services.classes.classes()
    assert (predicted(world), found.counted_at, found.usable) == (trained, None, False)


def overheard(world: World) -> tuple[list[str], Callable[..., Any]]:
    """What hosts are asked, by a call that asks them as before."""
    asked: list[str] = []
    over_all = world.searcher.over_all

    def counted(method: str, *rest: Any) -> Any:
        asked.append(method)
        return over_all(method, *rest)

    return asked, counted


def test_a_count_is_kept_until_an_image_changes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.label()
    made = world.train()
    asked, counted = overheard(world)
    monkeypatch.setattr(world.searcher, "over_all", counted)
    clock = [0.0]
    store: Any = world.store
    searcher: Any = world.searcher
    counts = Counts(store, searcher, clock=lambda: clock[0])
    first = counts.of(made)
    assert first == Count(
        made.classifier_id, dict(zip(made.classes, made.counts, strict=True)), WHEN
    )
    for kind in ("stock", "listing_changed", "image_added"):
        world.log(kind, "listing-000")
    assert counts.of(made) is first
    assert asked == ["linear"]
    clock[0] = KEPT_S
    assert counts.of(made) == first
    assert len(asked) == 2, "a minute later hosts are asked again"
    other = replace(made, classifier_id=uuid4())
    again = counts.of(other)
    assert again is not None
    assert (again.classifier_id, len(asked)) == (other.classifier_id, 3)
    world.arrive(world.of(0)[0])
    after = counts.of(other)
    assert after is not None
    assert sum(after.images.values()) == 121
    assert len(asked) == 4
    world.store.log_.clear()
    assert counts.of(other) is after
    gone = world.of(1)[0]
    del world.store.vectors_[gone]
    world.log("image_deleted", world.store.images[gone].listing_id, gone)
    less = counts.of(other)
    assert less is not None
    assert sum(less.images.values()) == 120
    world.searcher.down = UnavailableError("no hosts")
    number = len(asked)
    world.log("feature_added", "listing-000")
    assert counts.of(other) is None
    assert len(asked) == number, "nobody waits for hosts that are not there"
    world.searcher.down = None
    for error in (UnavailableError("gone"), IntegrityError("ask again"), InputError("D")):

        def fail(*_: Any, error: Exception = error) -> Any:
            raise error

        monkeypatch.setattr(world.searcher, "over_all", fail)
        assert counts.of(other) is None
    monkeypatch.setattr(world.searcher, "over_all", counted)
    assert counts.of(replace(other, model_id="another@1")) is None, "hosts answer for another model"


def test_a_change_that_hosts_have_taken_in_is_counted_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.label()
    made = world.train()
    asked, counted = overheard(world)
    monkeypatch.setattr(world.searcher, "over_all", counted)
    store: Any = world.store
    searcher: Any = world.searcher
    clock = [0.0]
    counts = Counts(store, searcher, clock=lambda: clock[0])
    first = counts.of(made)
    assert first is not None
    world.arrive(world.of(0)[0])
    number = 1
    # Hosts may lack it until ten seconds after it was seen: until then each page counts again.
    for second in (0.0, 5.0, 9.0, 10.0):
        clock[0], number = 1.0 + second, number + 1
        found = counts.of(made)
        assert found is not None
        assert (sum(found.images.values()), len(asked)) == (121, number)
    for second in (11.0, 30.0, 59.0):
        clock[0] = 1.0 + second
        assert counts.of(made) is found
    assert len(asked) == number
    # The next change is waited for like the first, while that is still in the log.
    world.arrive(world.of(1)[0])
    found = counts.of(made)
    assert found is not None
    assert (sum(found.images.values()), len(asked)) == (122, number + 1)
    # What is logged ahead of the time is taken in by hosts when that has come.
    clock[0] += 11.0
    assert counts.of(made) is not found
    late = replace(world.store.log_[-1], change_id=uuid4(), at=now() + timedelta(seconds=60))
    world.store.log_.append(late)
    found = counts.of(made)
    clock[0] += 11.0
    again = counts.of(made)
    assert again is not found
    assert counts.of(made) is not again


@pytest.mark.parametrize("changed", [False, True])
def test_those_who_ask_while_somebody_counts_share_the_count(
    world: World, monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    world.label()
    made = world.train()
    over_all, gate, asked = world.searcher.over_all, threading.Event(), []

    def slow(method: str, *rest: Any) -> Any:
        asked.append(method)
        assert gate.wait(60)
        return over_all(method, *rest)

    monkeypatch.setattr(world.searcher, "over_all", slow)
    store: Any = world.store
    searcher: Any = world.searcher
    looks: list[float] = []

    def clock() -> float:
        looks.append(float(len(looks)))
        return looks[-1]

    counts = Counts(store, searcher, clock=clock)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(counts.of, made)
        until(lambda: bool(asked))
        others = [pool.submit(counts.of, made) for _ in range(3)]
        until(lambda: len(looks) == 5)  # two of the first, one of each other
        if changed:
            world.log("feature_added", "listing-000")
        gate.set()
        found = {id(each.result()) for each in (first, *others)}
    # The first began before a change that the others know of: one of them counts for all three.
    assert (len(found), len(asked)) == ((2, 2) if changed else (1, 1))


def test_the_map_has_class_and_confidence_as_columns(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = world.services
    before = {column.name for column in services.columns()}
    assert not before & {"predicted", "confidence"}
    world.label()
    made = world.train()
    columns = {column.name: column for column in services.columns()}
    assert columns["predicted"].labels == made.classes
    assert (columns["predicted"].label, columns["confidence"].label) == (
        "Predicted class",
        "Confidence",
    )
    facet = next(each for each in services.facets({}) if each.name == "predicted")
    counts = dict(zip(made.classes, made.counts, strict=True))
    assert {value.value: value.count for value in facet.values} == counts
    chosen = {"filters": {"predicted": ["kind 1"], "confidence": {"low": 0.5, "high": None}}}
    found = services.select(chosen, limit=500)
    for each in found.rows:
        said = services.classes.prediction(each.image_id).classes[0]
        assert (said.name, said.confidence >= 0.5) == ("kind 1", True)
    ranked = services.classes.guesses("kind 1", limit=500).guesses
    sure = {each.image_id for each in ranked if each.confidence and each.confidence >= 0.5}
    assert {each.image_id for each in found.rows} == sure
    # A tile may be kept by a browser only as long as no other training counts.
    assert world.store.version is not None
    map_id = world.store.version.map_id
    monkeypatch.setattr(atlas, "TILE_TTL_S", 3600.0)
    edition = services.edition()
    token, forever = services.tile_version("predicted", map_id, 0, edition)
    assert not forever
    world.services.decisions.label(world.of(3)[:9], "kind 3", author="ann")
    world.train()
    fresh = Services(world.settings, world.store, world.searcher)  # type: ignore[arg-type]
    assert fresh.edition() not in {"", edition}
    # A worker that read a moment ago reads again for whoever knows the new columns.
    assert services.tile_version("predicted", map_id, 0, edition)[0] == token
    assert services.tile_version("outlier_score", map_id, 0, fresh.edition())[1]
    assert services.tile_version("predicted", map_id, 0, fresh.edition())[0] != token
    assert services.edition() == fresh.edition()
    assert fresh.tile_version("predicted", map_id, 0)[0] != token
    names = {column.name: column.labels for column in fresh.columns()}
    assert names["predicted"] == ("kind 0", "kind 1", "kind 2", "kind 3")
    assert list(world.store.predicted_) == [world.store.pointers_["classifier"]], "the old ones go"


def test_an_edition_tells_of_columns_and_not_of_each_label(world: World) -> None:
    services = world.services
    told = [services.edition()]

    def changed() -> bool:
        told.append(services.edition())
        return told[-1] != told[-2]

    assert not changed()
    services.decisions.label(world.of(0)[:9], "kind 0", author="ann")
    assert changed(), "a class that nobody gave before"
    services.decisions.label(world.of(0)[9:12], "kind 0", author="ann")
    assert not changed()
    services.decisions.label(world.of(1)[:9], "kind 1", author="ann")
    assert changed()
    world.train()
    assert changed()
    world.train()
    assert changed(), "classes of the same names, learned anew"
    world.arrive(world.of(0)[0])
    store: Any = world.store
    training.predict(store, "m")
    assert changed(), "a class of a new image"
    key = services.clusters()[0].key
    services.rename_cluster(key, "Renamed", author="ann", expected_version=0)
    assert changed()


def test_images_that_come_after_a_training_get_a_class(world: World) -> None:
    store: Any = world.store
    assert training.predict(store, "m") == 0, "nothing is trained"
    world.label()
    made = world.train()
    new = [world.arrive(world.of(kind)[0]) for kind in (0, 2)]
    assert training.predict(store, "another") == 0
    assert training.predict(store, "m") == 2
    images, classes, sureties = store.predictions(
        store.prediction_batches(made.classifier_id, after=1)[0]
    )
    said = {UUID(bytes=i.tobytes()): int(c) for i, c in zip(images, classes, strict=True)}
    assert {image: made.classes[own] for image, own in said.items()} == {
        new[0]: "kind 0",
        new[1]: "kind 2",
    }
    for image, surety in zip(images, sureties, strict=True):
        own = world.services.classes.prediction(UUID(bytes=image.tobytes())).classes[0]
        assert own.confidence == pytest.approx(1 / (1 + np.exp(-float(surety))), rel=1e-6)
    del world.store.images[new[0]], world.store.vectors_[new[0]]
    assert training.predict(store, "m") == 1, "of the last minutes, what is still there"


def test_a_classifier_of_an_older_sightline_says_nothing_of_the_map(world: World) -> None:
    world.label()
    made = world.train()
    world.store.delete_predictions(made.classifier_id)
    store: Any = world.store
    assert training.predict(store, "m") == 0
    assert "predicted" not in {column.name for column in world.services.columns()}
    assert world.services.classes.classes().usable


def test_one_image_says_what_the_ranking_says_of_it(world: World) -> None:
    world.label()
    world.train()
    for each in world.services.classes.guesses(limit=5).guesses:
        found = world.services.classes.prediction(each.image_id)
        assert found.classes[0].name == each.predicted
        assert found.classes[0].confidence == pytest.approx(each.confidence, rel=1e-5)
        assert sum(share.confidence for share in found.classes) == pytest.approx(1)
    arrived = world.arrive(world.of(2)[0])
    assert world.services.classes.prediction(arrived).classes[0].name == "kind 2"
    with pytest.raises(NotFoundError):
        world.services.classes.prediction(uuid4())


def test_a_label_that_changes_makes_the_training_old(world: World) -> None:
    given = world.label()
    world.train()
    image = next(iter(given))
    world.services.decisions.set_label(image, "kind 2", author="bob", expected_version=1)
    assert world.services.classes.classes().stale
    world.train()
    assert not world.services.classes.classes().stale


def test_labels_of_images_without_a_feature_are_left_out(world: World) -> None:
    given = world.label()
    image = next(iter(given))
    del world.store.vectors_[image]
    assert world.train().labels == len(given) - 1
    for each in given:
        world.store.vectors_.pop(each, None)
    with pytest.raises(InputError, match="none of them a feature"):
        world.train()


def test_one_class_cannot_be_trained_and_the_old_classifier_stays(world: World) -> None:
    world.label(3, 1)
    with pytest.raises(InputError, match="another class"):
        world.train()
    assert world.services.classes.classes().trained is None


def test_a_deleted_image_is_on_no_page(world: World) -> None:
    world.label()
    world.train()
    first = world.services.classes.guesses(limit=1).guesses[0]
    world.store.delete_image(first.image_id)
    page = world.services.classes.guesses(limit=500)
    assert first.image_id not in {each.image_id for each in page.guesses}


def test_of_two_trainings_at_once_one_counts(world: World) -> None:
    world.label()
    first = world.train()
    store: Any = world.store

    class Slow:
        def snapshot(self) -> Any:
            return world.searcher.snapshot()

        def over_all(self, *asked: Any) -> Any:
            found = world.searcher.over_all(*asked)
            store.pointers_["classifier"] = uuid4()
            return found

    with pytest.raises(ConflictError):
        training.classify(store, Slow())
    assert store.classifier(first.classifier_id) == first
    assert list(store.predicted_) == [first.classifier_id], "what the other said is gone"


# Concepts


def test_clicks_rank_the_collection_and_say_where_it_is_unsure(world: World) -> None:
    yes, no = world.of(1)[:3], [*world.of(0)[:1], *world.of(2)[:1]]
    found = world.services.teaching.rank(yes, no, limit=21)
    shown = {each.image_id for each in found.best}
    assert shown == set(world.of(1)) - set(yes), "all of the kind, before all others"
    assert not shown & {*yes, *no}
    margins = [each.margin for each in found.best]
    assert margins == sorted(margins, reverse=True)
    near = [abs(each.margin) for each in found.unsure]
    assert near == sorted(near)
    assert found.rows == 120
    assert (found.positives, found.negatives) == (tuple(yes), tuple(no))
    assert found.taken <= 120
    again = world.services.teaching.rank(yes, no, limit=21)
    assert again.best == found.best


def test_examples_that_cannot_teach_are_refused(world: World) -> None:
    one = world.of(1)[0]
    teaching = world.services.teaching
    with pytest.raises(InputError, match="is both"):
        teaching.rank([one], [one])
    with pytest.raises(InputError, match="none has a feature"):
        teaching.rank([uuid4()])
    with pytest.raises(InputError):
        teaching.rank([one], limit=0)
    world.searcher.down = UnavailableError("no hosts")
    with pytest.raises(UnavailableError):
        world.services.teaching.rank([one], [world.of(2)[0]])


def test_a_concept_labels_what_arrives_and_nothing_that_was_there(world: World) -> None:
    yes, no = world.of(1)[:4], world.of(0)[:2]
    saved = world.services.teaching.save("gas  joint", yes, no, author="ann", expected_version=0)
    assert (saved.name, saved.version) == ("gas joint", 1)
    assert (saved.positives, saved.negatives) == (tuple(yes), tuple(no))
    old = world.store.images[world.of(1)[9]]
    world.log("feature_added", old.listing_id, old.image_id)
    assert world.suggest() == 0, "it was there before"
    same, other = world.arrive(world.of(1)[5]), world.arrive(world.of(3)[0])
    assert world.suggest() == 1
    assert world.suggest() == 0, "read again, stored once"
    (line,) = world.services.teaching.suggested("gas joint")
    assert (line.image_id, line.version) == (same, 1)
    assert line.margin >= saved.threshold
    assert [each.name for each in world.services.classes.prediction(same).suggested] == [
        "gas joint"
    ]
    assert world.services.classes.prediction(other).suggested == ()
    assert not world.store.decisions_, "a suggestion is no decision"


def test_a_new_version_judges_arrivals_again_and_one_taken_back_none(world: World) -> None:
    teaching = world.services.teaching
    teaching.save("joint", world.of(1)[:4], author="ann", expected_version=0)
    same = world.arrive(world.of(1)[5])
    world.suggest()
    second = teaching.save(
        "joint", world.of(1)[:5], world.of(2)[:2], author="bob", expected_version=1
    )
    assert teaching.suggested("joint") == (), "not judged by this version yet"
    assert world.suggest() == 1
    assert [each.image_id for each in teaching.suggested("joint")] == [same]
    with pytest.raises(ConflictError):
        teaching.save("joint", world.of(1)[:5], author="ann", expected_version=1)
    teaching.remove("joint", author="ann", expected_version=second.version)
    assert teaching.concepts() == ()
    assert world.services.classes.prediction(same).suggested == ()
    world.arrive(world.of(1)[6])
    assert world.suggest() == 0
    with pytest.raises(NotFoundError):
        teaching.concept("joint")
    with pytest.raises(InputError):
        teaching.save(" \n", world.of(1)[:1], author="ann")


# The API


@pytest.fixture
def client(world: World) -> Iterator[TestClient]:
    built = app.create(world.settings, world.services)
    with TestClient(built.server, base_url=BASE) as opened:
        yield opened


def test_the_api_trains_ranks_and_saves(world: World, client: TestClient) -> None:
    world.label()
    queued = client.post("/classes/train", json={"seed": 3})
    assert (queued.status_code, queued.json()["kind"]) == (202, "classify")
    assert client.get("/classes/images").status_code == 404
    world.train()
    assert len(client.get("/classes").json()["classes"]) == 3
    page = client.get("/classes/images", params={"name": "kind 1", "limit": 3}).json()
    assert [each["predicted"] for each in page["guesses"]] == ["kind 1"] * 3
    image = page["guesses"][0]["image_id"]
    assert client.get(f"/images/{image}/prediction").json()["classes"][0]["name"] == "kind 1"
    assert client.get("/classes/images", params={"offset": 10_000}).status_code == 400
    body = {"positives": [str(i) for i in world.of(1)[:3]], "negatives": []}
    ranked = client.post("/concepts/rank", json=body, params={"limit": 5}).json()
    assert len(ranked["best"]) == len(ranked["unsure"]) == 5
    saved = client.put("/concepts/a/b", json={**body, "expected_version": 0})
    assert (saved.status_code, saved.json()["version"]) == (200, 1)
    assert client.put("/concepts/a/b", json={**body, "expected_version": 0}).status_code == 409
    world.arrive(world.of(1)[4])
    world.suggest()
    assert len(client.get("/concepts/a/b/images").json()) == 1
    assert [each["name"] for each in client.get("/concepts").json()] == ["a/b"]
    assert client.delete("/concepts/a/b", params={"expected_version": 1}).status_code == 204
    assert client.get("/concepts/a/b").status_code == 404
