"""The pages of labels and of teaching: their addresses, what they show, what a click does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
from starlette.testclient import TestClient

from dashboard import app, figures, ids
from dashboard.components import details, review, terms
from dashboard.learned import BinView
from dashboard.pages import labels as page
from dashboard.pages import teach
from dashboard.places import LabelsState, TeachState
from tests.dashboard.test_decisions import BASE, Browser, text_id
from tests.dashboard.test_learned import World, world
from tests.dashboard.test_pages import css, parts, props, text

__all__ = ["world"]
ONE, TWO = UUID(int=1), UUID(int=2)


def links(node: Any) -> list[str]:
    return [str(href) for href in props(node, "href")]


@pytest.mark.parametrize(
    "state", [LabelsState(), LabelsState(name="gas & joint"), LabelsState(name="a", page=3)]
)
def test_an_address_of_labels_reads_back(state: LabelsState) -> None:
    assert LabelsState.read(state.write()) == state


def test_marks_are_in_the_address_and_no_image_has_two() -> None:
    state = TeachState().marked(ONE, "plus").marked(TWO, "minus")
    assert (state.plus, state.minus) == ((ONE,), (TWO,))
    assert TeachState.read(state.write()) == state
    assert state.marked(ONE, "minus") == TeachState(minus=(TWO, ONE))
    assert state.marked(TWO, "none") == TeachState(plus=(ONE,))
    assert TeachState.read("?plus=x&minus=%ff") == TeachState()
    assert LabelsState.read("?class=a&page=0") == LabelsState(name="a")
    assert LabelsState.read("?class=%00&page=x") == LabelsState()
    assert LabelsState.read("?class=a&concept=b") == LabelsState(concept="b")
    assert LabelsState.read(LabelsState(concept="b", page=2).write()).page == 2


def test_before_labels_and_before_a_training_the_page_says_what_to_do(world: World) -> None:
    classes = world.services.classes.classes()
    assert "Label some images first" in text(page.untrained(classes))
    assert page.side(classes, LabelsState()) == []
    assert "No image has a label yet" in text(page.summary(classes))
    world.label(2, 2)
    classes = world.services.classes.classes()
    assert "Press Train: 4 labels" in text(page.untrained(classes))
    assert "nothing trained yet" in text(page.summary(classes))
    assert "Held out" not in text(page.side(classes, LabelsState()))


def test_classes_cards_and_figures_are_shown(world: World) -> None:
    world.label()
    world.train()
    classes = world.services.classes.classes()
    summary = text(page.summary(classes))
    assert "27 labelled images" in summary
    assert "right  on 27 held-out images" in summary
    side = page.side(classes, LabelsState(name="kind 1"))
    assert f"{ids.PATH_LABELS}?class=kind%201" in links(side)
    assert sum("class--here" in css(part) for part in parts(side)) == 1
    assert "Calibration error" in text(side)
    found = world.services.classes.guesses(limit=5)
    shown = page.gallery(found, LabelsState())
    assert sum(css(part).startswith("card ") for part in parts(shown)) == 5
    assert f"{ids.PATH_LABELS}?page=2" in links(shown)
    assert "over all 120" in text(shown)
    ended = replace(found, guesses=())
    assert "ends before" in text(page.gallery(ended, LabelsState(page=9)))
    assert "Every image has a label" in text(page.gallery(ended, LabelsState()))
    made = replace(classes, stale=True)
    assert "train again" in text(page.summary(made))
    assert "as of the training" not in text(side)
    old = text(page.side(replace(classes, counted_at=None), LabelsState()))
    assert "Predicted images as of the training: no host answers." in old
    other = text(page.side(replace(classes, counted_at=None, usable=False), LabelsState()))
    assert "as of the training: the collection has another model now." in other


def test_the_line_of_reliability_has_a_point_for_each_band() -> None:
    bins = [
        BinView(rows=3, confidence=0.55, accuracy=0.5),
        BinView(rows=9, confidence=0.9, accuracy=0.8),
    ]
    figure = figures.reliability(bins, "dark")
    diagonal, line = figure["data"]
    assert (diagonal["x"], diagonal["y"]) == ([0, 1], [0, 1])
    assert (line["x"], line["y"], line["customdata"]) == ([0.55, 0.9], [0.5, 0.8], [3, 9])
    assert line["line"]["color"] == figures.palette("dark").accent


def test_ranked_images_can_be_marked_and_examples_taken_out(world: World) -> None:
    yes, no = world.of(1)[:3], world.of(0)[:1]
    found = world.services.teaching.rank(yes, no, limit=4)
    shown = teach.body(found)
    signs = [part.id["sign"] for part in parts(shown) if css(part).startswith("verdict ")]
    assert signs == ["plus", "minus"] * 8
    assert "All 120 images ranked" in text(teach.summary(found))
    assert "Mark more images" in text(teach.summary(replace(found, recall=0.0)))
    chips = teach.marks(TeachState(plus=tuple(yes), minus=tuple(no)))
    assert [p.id["sign"] for p in parts(chips) if "example--" in css(p)] == ["none"] * 4
    assert teach.marks(TeachState()) is None
    world.services.teaching.save("joint", yes, no, author="ann", expected_version=0)
    side = teach.side(world.services.teaching.concepts(), datetime.now(UTC))
    href, new = links(side)
    assert new == f"{ids.PATH_LABELS}?concept=joint"
    assert TeachState.read(urlsplit(href).query) == TeachState(plus=tuple(yes), minus=tuple(no))


def test_explore_says_what_is_predicted_and_leads_to_teaching(world: World) -> None:
    world.label()
    world.train()
    image = world.of(2)[-1]
    guess = world.services.classes.prediction(image)
    assert "Predicted:  kind 2" in text(details._predicted(guess))
    assert details._predicted(None) is None
    asked: Any = type("Asked", (), {"image_ids": (ONE,), "negatives": (TWO,)})
    link = terms.teach(asked)
    assert link is not None
    assert vars(link)["href"] == f"{ids.PATH_TEACH}?plus={ONE}&minus={TWO}"
    nothing: Any = type("Asked", (), {"image_ids": (), "negatives": (TWO,)})
    assert terms.teach(nothing) is None


def test_what_a_concept_proposes_is_reviewed_like_a_class(world: World) -> None:
    teaching = world.services.teaching
    teaching.save("joint", world.of(1)[:4], world.of(0)[:2], author="ann", expected_version=0)
    state = LabelsState(concept="joint")
    assert "Nothing new has “joint”" in text(page.gallery(teaching.proposals("joint"), state))
    arrived = [world.arrive(image) for image in world.of(1)[5:8]]
    world.suggest()
    world.services.decisions.set_label(arrived[0], "pipe", author="bob", expected_version=0)
    found = teaching.proposals("joint", limit=2)
    assert (found.rows, len(found.guesses), found.next_offset) == (3, 2, 2)
    every = [*found.guesses, *teaching.proposals("joint", offset=2).guesses]
    assert {each.image_id for each in every} == set(arrived)
    labels = {each.image_id: (each.label, each.version, each.predicted) for each in every}
    assert labels[arrived[0]] == ("pipe", 1, "joint")
    assert labels[arrived[1]] == ("", 0, "joint")
    shown = page.gallery(found, state)
    assert f"{ids.PATH_LABELS}?concept=joint&page=2" in links(shown)
    assert "the newest first" in text(shown)
    assert "Proposed by “joint”" in text(page.controls(state))


# Callbacks, as the browser calls them


class Reviewer(Browser):
    """Presses the buttons of one card."""

    def review(
        self, image: UUID, known: dict[str, Any], *, act: str = "", typed: str | None = None
    ) -> dict[str, Any]:
        place = str(image)
        store, field = ids.review_known(place), ids.review_text(place)
        buttons = [
            {"id": ids.review(place, each), "property": "n_clicks", "value": int(each == act)}
            for each in ("accept", "skip")
        ]
        changed = (
            text_id(ids.review(place, act)) + ".n_clicks" if act else text_id(field) + ".value"
        )
        return self.call(
            changed,
            [buttons, [{"id": field, "property": "value", "value": typed}]],
            [
                [{"id": store, "property": "id", "value": store}],
                [{"id": store, "property": "data", "value": known}],
                {"id": ids.UNDO, "property": "data", "value": None},
            ],
        )


@pytest.fixture
def browser(world: World) -> Iterator[Reviewer]:
    built = app.create(world.settings, world.services)
    with TestClient(built.server, base_url=BASE) as client:
        yield Reviewer(client, {**built.callback_map})


def test_accepting_another_label_skipping_and_a_conflict(world: World, browser: Reviewer) -> None:
    image = world.of(3)[0]
    known = {"label": "", "version": 0, "predicted": "kind 0"}
    skipped = browser.review(image, known, act="skip")
    card = text_id(ids.review_card(str(image)))
    assert skipped[card + ".className"] == review.review_class("", skipped=True)
    assert "toasts.children" not in skipped
    done = browser.review(image, known, act="accept")
    assert world.services.decisions.labels_of([image])[image].label == "kind 0"
    assert done["undo-stack.data"]["versions"] == {f"label:{image}": 1}
    assert done[text_id(ids.review_known(str(image))) + ".data"] == {
        "label": "kind 0", "version": 1, "predicted": "kind 0",
    }  # fmt: skip
    late = browser.review(image, known, typed="mine")
    assert "Another analyst was first" in str(late["toasts.children"])
    assert "undo-stack.data" not in late
    assert world.services.decisions.labels_of([image])[image].label == "kind 0"
    now = late[text_id(ids.review_known(str(image))) + ".data"]
    browser.review(image, now, typed="mine")
    assert world.services.decisions.labels_of([image])[image].version == 2
    assert browser.review(image, {**now, "label": "mine", "version": 2}, typed=" mine ") == {}
    assert browser.review(image, now, typed="") == {}


def test_a_mark_changes_the_address_and_saving_needs_a_name(
    world: World, browser: Reviewer
) -> None:
    image = str(uuid4())
    place = ids.teach_mark(image, "plus", "best")
    found = browser.call(
        text_id(place) + ".n_clicks",
        [[{"id": place, "property": "n_clicks", "value": 1}]],
        [{"id": ids.URL, "property": "search", "value": f"?minus={image}"}],
    )
    assert found[f"{ids.URL}.search"] == f"?plus={image}"
    search = TeachState(plus=tuple(world.of(1)[:2])).write()

    def save(name: str) -> dict[str, Any]:
        return browser.call(
            f"{ids.TEACH_SAVE}.n_clicks",
            [{"id": ids.TEACH_SAVE, "property": "n_clicks", "value": 1}],
            [
                {"id": ids.TEACH_NAME, "property": "value", "value": name},
                {"id": ids.URL, "property": "search", "value": search},
            ],
        )

    assert "1 to 80 characters" in str(save(" ")["toasts.children"])
    assert "version 1" in str(save("gas joint")["toasts.children"])
    assert save("gas joint")["refresh.data"]
    assert [each.version for each in world.services.teaching.concepts()] == [2]


def test_training_is_a_job(world: World, browser: Reviewer) -> None:
    found = browser.call(
        f"{ids.LABELS_TRAIN}.n_clicks",
        [{"id": ids.LABELS_TRAIN, "property": "n_clicks", "value": 1}],
        [],
    )
    assert "Training started" in str(found["toasts.children"])
    assert [job.kind for job in world.store.jobs_] == ["classify"]
