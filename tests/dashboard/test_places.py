"""Addresses of the pages about decisions, and the pages from views."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from dashboard import ids
from dashboard.acts import ActView, HistoryView, LabelView, MergeView, SplitView, SpreadView
from dashboard.components import merging
from dashboard.pages import decide, decisions, spread
from dashboard.places import NEAR, DecisionsState, SpreadState, selection_of
from dashboard.views import MapRow, SelectionView
from tests.dashboard.test_pages import props, text

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = UUID(int=5)
IMAGE = UUID(int=6)


@pytest.mark.parametrize(
    "state",
    [
        DecisionsState(),
        DecisionsState(kind="label", before=NOW),
        DecisionsState(subject=f"cluster:{KEY}"),
    ],
)
def test_addresses_of_the_history_are_read_as_written(state: DecisionsState) -> None:
    assert DecisionsState.read(state.write()) == state


@pytest.mark.parametrize("state", [SpreadState(), SpreadState(label="gas & <b>", k=200)])
def test_addresses_of_a_spread_are_read_as_written(state: SpreadState) -> None:
    assert SpreadState.read(state.write()) == state


@pytest.mark.parametrize(
    "search",
    [
        "?kind=x&before=soon&subject=x",
        "?kind=%00",
        "?" + "a" * 20_000,
        "?before=0001-01-01T00:00%2B23:00",
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_dropped(search: str) -> None:
    assert DecisionsState.read(search) == DecisionsState()


@pytest.mark.parametrize(("k", "found"), [("0", 1), ("9999", 500), ("x", NEAR), ("-3", NEAR)])
def test_a_number_of_images_is_kept_in_its_bounds(k: str, found: int) -> None:
    assert SpreadState.read(f"?label=a&k={k}") == SpreadState(label="a", k=found)


def test_the_page_of_a_selection_takes_the_selection_alone() -> None:
    state = selection_of("?image=x&cam=0.5,0.5,2&f.cluster=3&sel=u;0,0;1,0;1,1&colour=label")
    assert state.write() == "?sel=u;0,0;1,0;1,1&f.cluster=3"


def an_act(**changes: Any) -> ActView:
    given: dict[str, Any] = {
        "at": NOW, "author": "ann", "kind": "merge", "what": "Merged “a” into “b”",
        "reason": "same <b>", "subject": f"merge:{KEY}", "version": 1, "newest": 1, "count": 1,
        "standing": 1, "state": "in force", "undoable": True,
    }  # fmt: skip
    return ActView(**{**given, **changes})


def test_an_act_says_who_why_and_can_be_undone() -> None:
    row = decisions.row(an_act(key=KEY, images=(IMAGE,)), NOW)
    shown = text(row)
    assert "Merged “a” into “b”" in shown
    assert "ann" in shown
    assert "same <b>" in shown
    assert ids.decision_undo(f"merge:{KEY}", "1") in props(row, "id")
    assert f"/clusters/{KEY}" in props(row, "href")
    gone = decisions.row(an_act(undoable=False, state="waiting", version=1, newest=2), NOW)
    assert "waiting" in text(gone)
    assert "version 1 of 2" in text(gone)
    assert not [each for each in props(gone, "id") if isinstance(each, dict)]


def test_an_act_that_others_changed_in_part_says_how_much_of_it_counts() -> None:
    many = {"kind": "label", "what": "Labelled 5,000 images", "subject": f"batch:{KEY}"}
    whole = decisions.row(an_act(count=5_000, standing=5_000, **many), NOW)
    assert "in force" not in text(whole)
    part = decisions.row(an_act(count=5_000, standing=4_999, **many), NOW)
    assert "4,999 of 5,000 in force" in text(part)
    assert ids.decision_undo(f"batch:{KEY}", "1") in props(part, "id")


def test_a_history_has_its_empty_states_and_the_way_to_older_acts() -> None:
    empty = HistoryView(acts=())
    assert "Nobody decided" in text(decisions.listing(empty, DecisionsState(), NOW))
    none = decisions.listing(empty, DecisionsState(kind="label"), NOW)
    assert "No decision of this kind" in text(none)
    full = HistoryView(acts=(an_act(),), next_before=NOW)
    built = decisions.listing(full, DecisionsState(kind="merge"), NOW)
    older = DecisionsState(kind="merge", before=NOW)
    assert ids.PATH_DECISIONS + older.write() in [h for part in built for h in props(part, "href")]


def test_labels_are_links_to_the_map_and_to_their_spread() -> None:
    built = decisions.side([LabelView(label="gas & co", images=3)])
    hrefs = [href for part in built for href in props(part, "href")]
    assert "/?colour=label&f.label=gas%20%26%20co" in hrefs
    assert "/spread?label=gas%20%26%20co" in hrefs
    assert "/api/v1/decisions/export?format=parquet" in hrefs
    assert "Select images" in text(decisions.side([])[0])


def a_split(**changes: Any) -> SplitView:
    given: dict[str, Any] = {
        "key": KEY, "name": "Pipes", "images": 4, "rest": 6, "outside": 2, "versions": {KEY: 3}
    }  # fmt: skip
    return SplitView(**{**given, **changes})


def test_the_page_of_a_selection_says_what_would_happen() -> None:
    rows = tuple(MapRow(row=n, image_id=UUID(int=n), listing_id=f"l{n}") for n in range(3))
    found = SelectionView(map_id=KEY, count=12, total=90, rows=rows, offset=0, next_offset=3)
    built = decide.body(found, a_split())
    shown = " ".join(" ".join(text(part) for part in built).split())
    assert "All 12 images" in shown
    assert "4 of 10 images of “Pipes”" in shown
    assert "2 images in no or another cluster stay" in shown
    assert "9 more are not shown" in shown
    assert decide.seen(12, a_split())["versions"] == {str(KEY): 3}
    assert "all of “Pipes”" in "".join(decide.split_text(a_split(rest=0)))
    assert "No image of it" in "".join(decide.split_text(None))
    nothing = SelectionView(map_id=KEY, count=0, total=9, rows=(), offset=0, next_offset=None)
    assert "Nothing selected" in text(decide.body(nothing, None)[0])


def test_a_spread_says_from_where_and_over_how_much() -> None:
    found = SpreadView(label="gas", k=5, seeds=2000, seeds_used=1024, rows=9000, near=(), at=NOW)
    shown = "".join(part if isinstance(part, str) else text(part) for part in spread.facts(found))
    assert "the newest 1,024 of 2,000 labelled images" in shown
    assert "all 9,000" in shown
    assert "Every image has a label" in text(spread.body(found))
    # Dash reads the boxes whenever the button is there.
    for built in (spread.layout("?label=gas"), spread.body(found)):
        assert props(built, "id").count(ids.SPREAD_PICKS) == 1


def test_the_bar_of_a_merge_shows_what_the_clusters_would_be() -> None:
    other = UUID(int=8)
    found = MergeView(
        into=KEY, keys=(KEY, other), names=("a", "b"), name="a", images=1200, listings=30,
        versions={other: 2}, name_version=1, state="as it was",
    )  # fmt: skip
    shown = " ".join(text(merging.bar(found)).split())
    assert "2 clusters would be one of 1,200 images, 30 listings" in shown
    assert merging.seen(found) == {
        "keys": [str(KEY), str(other)], "versions": {str(other): 2}, "name": "a",
        "name_version": 1,
        "state": "as it was",
    }  # fmt: skip
    assert merging.hint(0) is None
    assert "another" in text(merging.hint(1))
