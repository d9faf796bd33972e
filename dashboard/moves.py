"""What a person did on Explore, and the state that follows: pure functions, no services.

Values come from the browser, so each is checked by writing the next state as an address and reading
it back: whatever an address may not hold is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from dashboard.state import Bound, Camera, ExploreState, Filter, Mode, Polygon
from dashboard.terms import Terms

_MODES: dict[str, Mode] = {"union": "union", "subtract": "subtract", "intersect": "intersect"}


def checked(state: ExploreState) -> ExploreState:
    """Return the state as its own address says it."""
    return ExploreState.read(state.write())


def open_image(state: ExploreState, image_id: str) -> ExploreState:
    """Show one picture; a search that was open is left, and its examples with it."""
    return replace(state, image=UUID(image_id), query=None, terms=state.terms.fresh())


def open_query(state: ExploreState, query_id: str) -> ExploreState:
    """Show the hits of a published search."""
    terms = state.terms.fresh(within=False)
    return replace(state, image=None, query=UUID(query_id), terms=terms)


def close(state: ExploreState) -> ExploreState:
    """Leave picture and search, back to the gallery."""
    return replace(state, image=None, query=None, terms=state.terms.fresh(within=False))


def mark(state: ExploreState, image_id: str, sign: str) -> ExploreState:
    """Make an image an example for (`plus`) or against (`minus`); the same sign takes it back."""
    image, terms = UUID(image_id), state.terms
    if image == state.image:
        return state
    if image in (terms.plus if sign == "plus" else terms.minus):
        return forget(state, image_id)
    plus, minus, dropped = (
        tuple(each for each in known if each != image)
        for known in (terms.plus, terms.minus, terms.dropped)
    )
    if sign == "plus":
        plus += (image,)
    else:
        minus += (image,)
    return checked(replace(state, terms=replace(terms, plus=plus, minus=minus, dropped=dropped)))


def forget(state: ExploreState, image_id: str) -> ExploreState:
    """Take an example away: one that was added, or one of the picture or search that is open."""
    image, terms = UUID(image_id), state.terms
    if image == state.image:
        if not terms.plus:
            return close(state)
        return replace(state, image=terms.plus[0], terms=replace(terms, plus=terms.plus[1:]))
    if image in terms.plus or image in terms.minus:
        plus, minus = (
            tuple(each for each in known if each != image) for known in (terms.plus, terms.minus)
        )
        return replace(state, terms=replace(terms, plus=plus, minus=minus))
    return checked(replace(state, terms=replace(terms, dropped=(*terms.dropped, image))))


def option(state: ExploreState, name: str, value: Any) -> ExploreState:
    """Set an option of the search; a scope may name the query that it keeps to."""
    terms = state.terms
    if name == "stock":
        terms = replace(terms, stock=value == "1")
    elif name == "scope":
        scope, _, within = str(value).partition(":")
        pairs = [("scope", scope), ("within", within)]
        read = Terms.read(pairs)
        terms = replace(terms, scope=read.scope, within=read.within)
    elif name in {"by", "model", "k"}:
        read = Terms.read([(name, str(value))])
        terms = replace(terms, **{name: getattr(read, name)})
    return checked(replace(state, terms=terms))


def escape(state: ExploreState) -> ExploreState:
    """Take the newest kind of thing away: picture or search first, then the drawn shapes."""
    if state.image is not None or state.query is not None:
        return close(state)
    return replace(state, polygons=())


def clear(state: ExploreState) -> ExploreState:
    """Everything is in the selection again."""
    return replace(state, polygons=(), filters=())


def colour_by(state: ExploreState, column: str) -> ExploreState:
    """Colour the map by a column."""
    return checked(replace(state, colour=column))


def look(state: ExploreState, camera: Mapping[str, Any]) -> ExploreState:
    """Remember where the map was left."""
    x, y, zoom = (round(float(camera[key]), 5) for key in ("x", "y", "zoom"))
    return checked(replace(state, camera=Camera(x, y, zoom)))


def select(state: ExploreState, polygon: Sequence[Sequence[float]], mode: str) -> ExploreState:
    """Combine a drawn shape with the selection (`replace`: start anew) and show the gallery."""
    points = tuple((float(x), float(y)) for x, y in polygon)
    before = state.polygons if mode in _MODES else ()
    shape = Polygon(points, _MODES.get(mode, "union"))
    return checked(replace(close(state), polygons=(*before, shape)))


def only(state: ExploreState, column: str, values: Sequence[str] | None) -> ExploreState:
    """Let only these values of a column pass; None lifts the filter."""
    others = tuple(item for item in state.filters if item.column != column)
    added = (Filter(column, tuple(str(value) for value in values)),) if values else ()
    return checked(replace(state, filters=(*others, *added)))


def toggle(state: ExploreState, column: str, value: str) -> ExploreState:
    """Add a value to a column's filter, or take it out."""
    now = next((item.values for item in state.filters if item.column == column), ())
    after = tuple(v for v in now if v != value) if value in now else (*now, value)
    return only(state, column, after)


def bound(state: ExploreState, column: str, side: str, value: Bound) -> ExploreState:
    """Set or lift one bound of a number column; a bound past the other one pushes it away."""
    if value == "":
        value = None
    now = next((item for item in state.filters if item.column == column), Filter(column))
    low, high = (value, now.high) if side == "low" else (now.low, value)
    mixed = isinstance(low, str) != isinstance(high, str)
    # Two numbers, or two ISO dates, which sort as text.
    if low is not None and high is not None and (mixed or low > high):  # type: ignore[operator]
        low, high = (low, None) if side == "low" else (None, high)
    others = tuple(item for item in state.filters if item.column != column)
    if low is None and high is None:
        return replace(state, filters=others)
    return checked(replace(state, filters=(*others, Filter(column, low=low, high=high))))


def drop(state: ExploreState, kind: str, name: str) -> ExploreState:
    """Remove the condition that a chip shows."""
    if kind == "polygon":
        return replace(state, polygons=())
    return only(state, name, None)
