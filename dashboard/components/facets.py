"""Facets: counts of every column over all rows, as buttons and ranges; and the active filters."""

from __future__ import annotations

import math
from typing import Any

from dash import dcc, html

from analytics.maps.regions import days, iso
from dashboard import ids
from dashboard.components.widgets import aria, count, icon
from dashboard.components.words import condition
from dashboard.state import Bound, ExploreState, Filter
from dashboard.views import ColumnView, FacetValue, FacetView

FIRST = 7
"""Values of a column that are shown before "more"."""

OPEN = 7
"""Columns that start unfolded."""

_QUIET = ("membership",)

_EVEN = ("outlier_score",)
"""Percentiles: as many images in every bin, so a histogram would tell nothing."""

_FIRST = (
    "placed",
    "cluster",
    "group",
    "label",
    "predicted",
    "confidence",
    "outlier_score",
    "knn_distance",
)


def facets(found: tuple[FacetView, ...], state: ExploreState) -> list[Any]:
    """Build one foldable block a column; what is filtered stays visible."""
    filters = {item.column: item for item in state.filters}
    ordered = sorted(found, key=_place)
    return [
        _block(
            facet,
            filters.get(facet.name),
            unfolded=facet.name in filters or (i < OPEN and facet.name not in _QUIET),
        )
        for i, facet in enumerate(ordered)
    ]


def _place(facet: FacetView) -> int:
    if facet.name in _FIRST:
        return _FIRST.index(facet.name)
    return len(_FIRST) + (facet.name in _QUIET)


def chips(state: ExploreState, columns: tuple[ColumnView, ...]) -> list[Any]:
    """Build the active conditions, each with its remove button, and "Clear all"."""
    by_name = {column.name: column for column in columns}
    found: list[Any] = []
    if state.polygons:
        shapes = len(state.polygons)
        text = "Drawn area" if shapes == 1 else f"{shapes} drawn areas"
        found.append(_chip("polygon", "all", "lasso", text))
    found.extend(
        _chip("filter", item.column, "filter", condition(item, by_name.get(item.column)))
        for item in state.filters
    )
    if found:
        found.append(
            html.Button(
                "Clear all",
                id={"type": ids.EXPLORE_CLEAR, "at": "chips"},
                className="button button--quiet button--small",
                type="button",
            )
        )
    return found


def _chip(kind: str, name: str, picture: str, text: str) -> html.Button:
    return html.Button(
        [icon(picture), html.Span(text, className="chip__text"), icon("close")],
        id=ids.explore_chip(kind, name),
        className="chip",
        type="button",
        title=f"Remove: {text}",
        **aria(label=f"Remove filter {text}"),
    )


def _block(facet: FacetView, active: Filter | None, *, unfolded: bool) -> html.Details:
    body = _range(facet, active) if facet.kind == "number" else _values(facet, active)
    missing = (
        html.P(f"{count(facet.missing)} without a value", className="facet__missing")
        if facet.missing
        else None
    )
    return html.Details(
        [html.Summary(facet.label, className="facet__title"), body, missing],
        className="facet facet--active" if active else "facet",
        open=unfolded,
    )


def _values(facet: FacetView, active: Filter | None) -> html.Div:
    chosen = set(active.values) if active else set()
    ranked = sorted(facet.values, key=lambda v: (v.value not in chosen, -v.count, v.label))
    most = max((value.count for value in facet.values), default=0)
    rows = [_value(facet.name, value, most, value.value in chosen) for value in ranked]
    first = max(FIRST, len(chosen))
    if len(rows) <= first + 2:
        return html.Div(rows, className="facet__values")
    more = html.Details(
        [
            html.Summary(f"{len(rows) - first} more", className="facet__more"),
            html.Div(rows[first:], className="facet__values facet__values--rest"),
        ]
    )
    return html.Div([*rows[:first], more], className="facet__values")


def _value(column: str, value: FacetValue, most: int, chosen: bool) -> html.Button:
    label = value.label or "(empty)"
    text = count(value.count)
    if value.count != value.total:
        text = f"{count(value.count)} / {count(value.total)}"
    return html.Button(
        [
            html.Span(
                className="facet__fill",
                style={"width": f"{value.count / most:.1%}" if most else "0"},
            ),
            icon("check") if chosen else None,
            html.Span(label, className="facet__label"),
            html.Span(text, className="facet__count"),
        ],
        id=ids.explore_facet(column, value.value),
        className="facet__value",
        type="button",
        title=label,
        **aria(
            pressed="true" if chosen else "false",
            label=f"{label}: {value.count} of {value.total} images",
        ),
    )


def _range(facet: FacetView, active: Filter | None) -> html.Div:
    most = max((value.count for value in facet.values), default=0)
    edges = facet.edges
    low, high = (edges[0], edges[-1]) if len(edges) > 1 else (0.0, 1.0)
    if facet.name in _EVEN:
        note = html.P("A percentile: from 0.95 on are the strangest 5 %.", className="facet__note")
        return html.Div([note, _bounds(facet, active, "0", "1")])
    dates = facet.scale == "date"
    least, most_shown = (iso(low), iso(high)) if dates else limits(low, high)
    kept = (
        _place_of(active.low if active else None, low),
        # A day lasts until the next one begins.
        _place_of(active.high if active else None, high) + dates,
    )
    bars = [
        html.Span(
            style={"height": f"{max(4.0, 100.0 * value.count / most) if value.count else 0:.0f}%"},
            className="histogram__bar"
            if left < kept[1] and right > kept[0]
            else "histogram__bar histogram__bar--out",
            title=f"{value.label}: {count(value.count)}",
        )
        for value, left, right in zip(facet.values, edges, edges[1:], strict=False)
    ]
    return html.Div(
        [
            html.Div(
                bars, className="histogram", role="img", **aria(label=f"{facet.label} counts")
            ),
            _bounds(facet, active, least, most_shown),
        ]
    )


def _place_of(bound: Bound, edge: float) -> float:
    if bound is None:
        return edge
    return bound if isinstance(bound, float | int) else (days(bound) or 0.0)


def limits(low: float, high: float) -> tuple[str, str]:
    """Write a range with two digits of its span, outwards, so that nothing lies beyond it."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return f"{low:.3g}", f"{high:.3g}"
    digits = min(max(1 - math.floor(math.log10(span)), 0), 9)
    # The sliver keeps a float error of an edge from moving it a whole step.
    least = math.floor(low * 10**digits + 1e-4) / 10**digits
    most = math.ceil(high * 10**digits - 1e-4) / 10**digits
    return _plain(least, digits), _plain(most, digits)


def _plain(value: float, digits: int) -> str:
    text = f"{value + 0.0:.{digits}f}"  # adding 0 makes -0 a 0
    return text.rstrip("0").rstrip(".") if digits else text


def _bounds(facet: FacetView, active: Filter | None, least: str, most: str) -> html.Div:
    return html.Div(
        [
            _bound(facet, "low", active.low if active else None, least),
            html.Span("to", className="facet__to"),
            _bound(facet, "high", active.high if active else None, most),
        ],
        className="facet__range",
    )


def _bound(facet: FacetView, side: str, value: Bound, edge: str) -> html.Label:
    dates = facet.scale == "date"
    word = "least" if side == "low" else "most"
    return html.Label(
        [
            html.Span(f"{facet.label}, {word}", className="visually-hidden"),
            dcc.Input(
                id=ids.explore_range(facet.name, side),
                type="text" if dates else "number",
                value=value,
                debounce=True,
                placeholder=edge,
                pattern="[0-9]{4}-[0-9]{2}-[0-9]{2}" if dates else None,
                step="any",
                className="field",
            ),
        ]
    )
