from __future__ import annotations

from urllib.parse import quote
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard import state
from dashboard.address import MAX_PAGE
from dashboard.state import (
    Camera,
    ClustersState,
    ExploreState,
    Filter,
    OutliersState,
    Polygon,
    SearchState,
)
from dashboard.terms import Terms

ID = UUID("11111111-1111-5111-8111-111111111111")

printable = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\x7f"),
    max_size=40,
)
unit = st.floats(-1, 2, allow_nan=False).map(lambda value: round(value, 9) + 0.0)
finite = st.floats(-1e12, 1e12, allow_nan=False).map(lambda value: round(value, 6) + 0.0)
attributes = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=20
).map(lambda name: f"attr:{name}")
dates = st.dates().map(lambda day: day.isoformat())
bounds = st.one_of(
    st.tuples(finite, st.none()),
    st.tuples(st.none(), finite),
    st.tuples(finite, finite).map(lambda pair: (min(pair), max(pair))),
    st.tuples(dates, st.none()),
    st.tuples(dates, dates).map(lambda pair: (min(pair), max(pair))),
)
value_filters = st.builds(
    lambda column, values: Filter(column, tuple(dict.fromkeys(values))),
    st.just("cluster") | attributes,
    st.lists(printable, min_size=1, max_size=5),
)
range_filters = st.builds(
    lambda column, pair: Filter(column, low=pair[0], high=pair[1]),
    st.sampled_from(state.NUMBER_COLUMNS) | attributes,
    bounds,
)
polygons = st.builds(
    Polygon,
    st.lists(st.tuples(unit, unit), min_size=3, max_size=9).map(tuple),
    st.sampled_from(["union", "subtract", "intersect"]),
)
signs = st.lists(st.uuids(), max_size=6, unique=True)
scopes = st.one_of(
    st.just((None, None)),
    st.sampled_from([("all", None), ("filter", None)]),
    st.uuids().map(lambda key: ("result", key)),
)
terms = st.builds(
    lambda images, scope, by, stock, model, k: Terms(
        plus=tuple(images[:2]), minus=tuple(images[2:4]), dropped=tuple(images[4:]),
        scope=scope[0], within=scope[1], by=by, stock=stock, model=model, k=k,
    ),
    signs,
    scopes,
    st.sampled_from([None, "max", "mean", "coverage"]),
    st.none() | st.booleans(),
    st.none() | printable.filter(bool),
    st.none() | st.integers(1, 10_000),
)  # fmt: skip
explore = st.builds(
    ExploreState,
    terms=terms,
    map_id=st.none() | st.uuids(),
    colour=st.just("cluster") | st.sampled_from(state.NUMBER_COLUMNS) | attributes,
    image=st.none() | st.uuids(),
    query=st.none() | st.uuids(),
    camera=st.none() | st.builds(Camera, unit, unit, unit),
    polygons=st.lists(polygons, max_size=4).map(tuple),
    filters=st.lists(
        value_filters | range_filters, max_size=4, unique_by=lambda item: item.column
    ).map(lambda items: tuple(sorted(items, key=lambda item: item.column))),
)


@settings(deadline=None)
@given(explore)
def test_explore_reads_what_it_wrote(given_state: ExploreState) -> None:
    written = given_state.write()
    assert ExploreState.read(written) == given_state
    assert ExploreState.read(written).write() == written


@settings(deadline=None)
@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda raw: "?" + quote(raw)))
def test_no_address_raises_and_what_remains_is_stable(search: str) -> None:
    for kind in (ExploreState, ClustersState, OutliersState, SearchState):
        found = kind.read(search)
        assert kind.read(found.write()) == found


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "map",
                    "colour",
                    "image",
                    "q",
                    "cam",
                    "sel",
                    "f.cluster",
                    "r.membership",
                    "f.attr:a",
                    "r.attr:a",
                    "plus",
                    "minus",
                    "drop",
                    "scope",
                    "within",
                    "stock",
                    "by",
                    "k",
                ]
            ),
            st.text(max_size=30),
        ),
        max_size=12,
    )
)
def test_known_keys_with_any_value_never_raise(pairs: list[tuple[str, str]]) -> None:
    search = "?" + "&".join(f"{key}={quote(value, errors='replace')}" for key, value in pairs)
    found = ExploreState.read(search)
    assert ExploreState.read(found.write()) == found


@pytest.mark.parametrize(
    "search",
    [
        "?image=../../etc/passwd",
        "?image={11111111-1111-5111-8111-111111111111}",
        "?image=urn:uuid:11111111-1111-5111-8111-111111111111",
        "?colour=secret_column",
        "?colour=attr:",
        "?colour=attr:a%00b",
        "?cam=0.5,0.5",
        "?cam=nan,0,1",
        "?cam=1e999,0,1",
        "?cam=5,0,1",
        "?cam=0,0,99",
        "?sel=u;0,0;1,1",
        "?sel=x;0,0;1,1;1,0",
        "?sel=u;0,0;1,1;inf,0",
        "?sel=u;0,0;1,1;9,0",
        "?f.nothing=1",
        "?f.membership=1",
        "?f.attr:a=%ff",
        "?r.cluster=1..2",
        "?r.membership=2..1",
        "?r.membership=..",
        "?r.membership=0.5",
        "?r.membership=low..high",
        "?" + "&".join(f"f.attr:{n}=1" for n in range(2000)),
        "?colour=attr:" + "a" * 20_000,
        "?f.attr:a=" + "a" * 500,
    ],
    ids=lambda text: text[:40],
)
def test_a_value_that_breaks_a_rule_is_dropped(search: str) -> None:
    assert ExploreState.read(search) == ExploreState()


def test_a_broken_value_leaves_the_others_alone() -> None:
    found = ExploreState.read(f"?image={ID}&cam=boom&colour=attr:kind")
    assert found == ExploreState(image=ID, colour="attr:kind")


def test_counts_are_bounded() -> None:
    triangle = "sel=u;0,0;1,1;1,0"
    assert len(ExploreState.read("?" + "&".join([triangle] * 40)).polygons) == state.MAX_POLYGONS
    values = "&".join(f"f.cluster={n}" for n in range(600))
    assert len(ExploreState.read("?" + values).filters[0].values) == state.MAX_VALUES
    columns = "&".join(f"f.attr:{n}=1" for n in range(100))
    assert len(ExploreState.read("?" + columns).filters) == state.MAX_FILTERS


def test_selection_is_the_shared_json() -> None:
    found = ExploreState(
        polygons=(Polygon(((0.0, 0.0), (1.0, 0.0), (1.0, 0.5)), "subtract"),),
        filters=(Filter("attr:depth", low=0.5), Filter("cluster", ("3", "-1"))),
    )
    assert found.selection() == {
        "polygons": [{"points": [[0.0, 0.0], [1.0, 0.0], [1.0, 0.5]], "mode": "subtract"}],
        "filters": {"attr:depth": {"low": 0.5, "high": None}, "cluster": ["3", "-1"]},
    }


def test_defaults_have_the_shortest_address() -> None:
    assert ExploreState().href() == "/"
    assert ClustersState().write() == OutliersState().write() == SearchState().write() == ""


def test_an_address_is_readable() -> None:
    found = ExploreState(colour="attr:kind", camera=Camera(0.5, 0.25, 3.0))
    assert found.write() == "?colour=attr:kind&cam=0.5,0.25,3"


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("?show=fine&page=3", OutliersState(show="fine", page=3)),
        ("?show=evil&page=-1", OutliersState()),
        ("?page=0", OutliersState()),
        ("?page=99999999999", OutliersState()),
        ("?page=9999999", OutliersState(page=MAX_PAGE)),
        ("?page=٣", OutliersState()),
        ("?page=2&page=7", OutliersState(page=2)),
        (None, OutliersState()),
    ],
)
def test_outliers(search: str | None, expected: OutliersState) -> None:
    assert OutliersState.read(search) == expected


def test_clusters() -> None:
    found = ClustersState(sort="name", text="gas & water <b>")
    assert ClustersState.read(found.write()) == found
    assert ClustersState.read("?sort=size'--&text=%20%20") == ClustersState()
    assert len(ClustersState.read("?text=" + "a" * 5000).text) == state.MAX_TEXT


def test_cluster_address() -> None:
    assert state.cluster_of(state.cluster_href(ID)) == ID
    for path in ("/clusters", "/clusters/", "/clusters/x", f"/clusters/{ID}/more", f"/other/{ID}"):
        assert state.cluster_of(path) is None


@pytest.mark.parametrize(
    "search",
    [
        "?r.attr:a=2024-02-30..",
        "?r.attr:a=2024-01-01..7",
        "?r.attr:a=2024-01-02..2024-01-01",
        "?scope=result",
        f"?within={ID}",
        "?k=0",
        "?k=10001",
        "?k=\N{SUPERSCRIPT TWO}",
        "?stock=yes",
        "?by=sum",
        "?minus=nobody",
    ],
)
def test_what_a_search_may_not_say_is_dropped(search: str) -> None:
    assert ExploreState.read(search) == ExploreState()


def test_an_image_is_one_example() -> None:
    found = ExploreState.read(f"?plus={ID}&minus={ID}&drop={ID}&plus={ID}").terms
    assert found == Terms(plus=(ID,))


def test_a_page_of_hits_is_of_a_query() -> None:
    state = SearchState(query=ID, after="200,0,0.25,a&b,c")
    assert SearchState.read(state.write()) == state
    assert SearchState.read("?after=200") == SearchState()
