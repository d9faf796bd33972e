from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from dashboard import ids, moves
from dashboard.callbacks.explore import apply
from dashboard.state import Camera, ExploreState, Filter, Polygon
from dashboard.terms import Terms

IMAGE = "11111111-2222-3333-4444-555555555555"
QUERY = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
SQUARE = [[0.1, 0.1], [0.4, 0.1], [0.4, 0.4], [0.1, 0.4]]
EMPTY = ExploreState()


def test_a_picture_and_a_search_replace_each_other() -> None:
    opened = moves.open_image(EMPTY, IMAGE)
    searched = moves.open_query(opened, QUERY)
    assert (opened.image, opened.query) == (UUID(IMAGE), None)
    assert (searched.image, searched.query) == (None, UUID(QUERY))


def test_escape_takes_the_picture_first_then_the_shapes_and_leaves_filters() -> None:
    state = moves.toggle(moves.select(EMPTY, SQUARE, "replace"), "attr:kind", "pipe")
    state = moves.open_image(state, IMAGE)
    once = moves.escape(state)
    assert once.image is None
    assert once.polygons == state.polygons
    twice = moves.escape(once)
    assert twice.polygons == ()
    assert twice.filters == (Filter("attr:kind", ("pipe",)),)
    assert moves.escape(twice) == twice


@pytest.mark.parametrize("mode", ["union", "subtract", "intersect"])
def test_shapes_add_up_unless_a_new_one_replaces_them(mode: str) -> None:
    first = moves.select(EMPTY, SQUARE, "replace")
    both = moves.select(first, SQUARE, mode)
    assert [polygon.mode for polygon in both.polygons] == ["union", mode]
    assert moves.select(both, SQUARE, "replace") == first


def test_a_shape_brings_the_gallery_forward() -> None:
    assert moves.select(moves.open_image(EMPTY, IMAGE), SQUARE, "replace").image is None


@pytest.mark.parametrize("points", [[], [[0.1, 0.1], [0.2, 0.2]], [[9, 9], [0, 0], [0, 1]]])
def test_a_shape_that_no_address_may_hold_is_dropped(points: list[list[float]]) -> None:
    assert moves.select(EMPTY, points, "replace").polygons == ()


def test_values_toggle_in_and_out() -> None:
    one = moves.toggle(EMPTY, "cluster", "3")
    two = moves.toggle(one, "cluster", "4")
    assert two.filters == (Filter("cluster", ("3", "4")),)
    assert moves.toggle(moves.toggle(two, "cluster", "3"), "cluster", "4") == EMPTY


def test_a_bound_past_the_other_lifts_it() -> None:
    low = moves.bound(EMPTY, "outlier_score", "low", 0.9)
    assert low.filters == (Filter("outlier_score", low=0.9),)
    high = moves.bound(low, "outlier_score", "high", 0.95)
    assert high.filters == (Filter("outlier_score", low=0.9, high=0.95),)
    assert moves.bound(high, "outlier_score", "high", 0.2).filters == (
        Filter("outlier_score", high=0.2),
    )
    assert moves.bound(low, "outlier_score", "low", None) == EMPTY


def test_every_state_survives_its_address() -> None:
    state = moves.select(EMPTY, SQUARE, "replace")
    state = moves.toggle(state, "attr:two words & more", "ä=b")
    state = moves.look(state, {"x": 0.123456789, "y": 0.5, "zoom": 3.25})
    state = moves.colour_by(moves.open_image(state, IMAGE), "attr:kind")
    assert ExploreState.read(state.write()) == state
    assert state.camera == Camera(0.12346, 0.5, 3.25)


def test_a_colour_that_is_no_column_is_dropped() -> None:
    assert moves.colour_by(EMPTY, "<script>").colour == "cluster"


def test_clear_and_chips_remove_conditions() -> None:
    state = moves.toggle(moves.select(EMPTY, SQUARE, "replace"), "cluster", "3")
    assert moves.drop(state, "polygon", "all").polygons == ()
    assert moves.drop(state, "filter", "cluster").filters == ()
    assert moves.clear(moves.open_image(state, IMAGE)) == moves.open_image(EMPTY, IMAGE)


@pytest.mark.parametrize(
    ("source", "prop", "value", "expected"),
    [
        (ids.EXPLORE_MAP, "clicked", {"image_id": IMAGE}, moves.open_image(EMPTY, IMAGE)),
        (ids.EXPLORE_MAP, "clicked", None, EMPTY),
        (ids.EXPLORE_UPLOAD, "query", {"query_id": QUERY}, moves.open_query(EMPTY, QUERY)),
        (ids.EXPLORE_MAP, "legend", {"column": "cluster", "values": None}, EMPTY),
        (ids.URL, "search", f"?image={IMAGE}", moves.open_image(EMPTY, IMAGE)),
        (ids.explore_hit(IMAGE, "hit-1"), "n_clicks", 1, moves.open_image(EMPTY, IMAGE)),
        (ids.explore_hit(IMAGE, "hit-1"), "n_clicks", None, EMPTY),
        (ids.explore_facet("cluster", "3"), "n_clicks", 1, moves.toggle(EMPTY, "cluster", "3")),
        (ids.explore_range("membership", "low"), "value", None, EMPTY),
        (
            ids.explore_range("membership", "low"),
            "value",
            0.5,
            ExploreState(filters=(Filter("membership", low=0.5),)),
        ),
        ({"type": "someone-elses"}, "n_clicks", 1, EMPTY),
    ],
)
def test_events(source: Any, prop: str, value: Any, expected: ExploreState) -> None:
    assert apply(EMPTY, source, prop, value) == expected


def test_a_field_that_shows_the_filter_changes_nothing() -> None:
    state = ExploreState(filters=(Filter("membership", low=0.5),))
    assert apply(state, ids.explore_range("membership", "low"), "value", 0.5) == state
    assert apply(state, ids.explore_range("membership", "high"), "value", None) == state


def test_selection_json_is_what_the_map_reads() -> None:
    state = ExploreState(
        polygons=(Polygon(((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))),),
        filters=(Filter("cluster", ("3",)), Filter("membership", high=0.5)),
    )
    assert state.selection() == {
        "polygons": [{"points": [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], "mode": "union"}],
        "filters": {"cluster": ["3"], "membership": {"low": None, "high": 0.5}},
    }


OTHER = "22222222-2222-3333-4444-555555555555"


def test_examples_change_sides_and_go() -> None:
    state = moves.open_image(EMPTY, IMAGE)
    plus = moves.mark(state, OTHER, "plus")
    assert plus.terms == Terms(plus=(UUID(OTHER),))
    minus = moves.mark(plus, OTHER, "minus")
    assert minus.terms == Terms(minus=(UUID(OTHER),))
    assert moves.mark(minus, OTHER, "minus") == moves.forget(minus, OTHER) == state
    assert moves.mark(state, IMAGE, "minus") == state
    assert ExploreState.read(minus.write()) == minus


def test_the_open_picture_hands_over_to_the_next_example() -> None:
    state = moves.mark(moves.open_image(EMPTY, IMAGE), OTHER, "plus")
    assert moves.forget(state, IMAGE) == moves.open_image(EMPTY, OTHER)
    assert moves.forget(moves.open_image(EMPTY, IMAGE), IMAGE) == EMPTY


def test_an_example_of_an_open_search_is_dropped_and_comes_back() -> None:
    state = moves.forget(moves.open_query(EMPTY, QUERY), OTHER)
    assert state.terms.dropped == (UUID(OTHER),)
    assert moves.mark(state, OTHER, "plus").terms == Terms(plus=(UUID(OTHER),))


def test_options_outlive_a_picture_and_examples_do_not() -> None:
    state = moves.mark(moves.open_image(EMPTY, IMAGE), OTHER, "minus")
    chosen = (("stock", "1"), ("by", "mean"), ("model", "wide@1"), ("k", 500))
    for name, value in (*chosen, ("scope", f"result:{QUERY}")):
        state = moves.option(state, name, value)
    options = Terms(
        stock=True, by="mean", model="wide@1", k=500, scope="result", within=UUID(QUERY)
    )
    assert moves.open_image(state, OTHER).terms == options
    closed = moves.close(state).terms
    assert closed == Terms(stock=True, by="mean", model="wide@1", k=500)
    assert moves.option(state, "scope", "all").terms.within is None
    assert moves.option(state, "k", "many").terms.k is None


def test_dates_are_bounds() -> None:
    low = moves.bound(EMPTY, "attr:built", "low", "2024-01-01")
    assert low.filters == (Filter("attr:built", low="2024-01-01"),)
    both = moves.bound(low, "attr:built", "high", "2024-06-30")
    assert both.selection()["filters"] == {
        "attr:built": {"low": "2024-01-01", "high": "2024-06-30"}
    }
    assert moves.bound(both, "attr:built", "high", "2023-01-01").filters == (
        Filter("attr:built", high="2023-01-01"),
    )
    assert moves.bound(EMPTY, "attr:built", "low", "soon") == EMPTY
    assert moves.bound(low, "attr:built", "low", "") == EMPTY


@pytest.mark.parametrize(
    ("source", "value", "expected"),
    [
        (ids.explore_option("by", "max"), "max", EMPTY),
        (ids.explore_option("by", "max"), None, EMPTY),
        (ids.explore_option("by", "max"), "mean", ExploreState(terms=Terms(by="mean"))),
        (ids.explore_option("model", "m@1"), "n@1", ExploreState(terms=Terms(model="n@1"))),
        (ids.explore_option("model", "m@1"), "m@1", ExploreState()),
        (ids.explore_mark(OTHER, "minus"), 1, ExploreState(terms=Terms(minus=(UUID(OTHER),)))),
        (ids.explore_mark(OTHER, "minus"), None, EMPTY),
        ({"type": ids.EXPLORE_STOCK, "to": "1"}, 1, ExploreState(terms=Terms(stock=True))),
    ],
)
def test_events_of_the_search(source: Any, value: Any, expected: ExploreState) -> None:
    prop = "value" if source["type"] == ids.EXPLORE_OPTION else "n_clicks"
    assert apply(EMPTY, source, prop, value) == expected
