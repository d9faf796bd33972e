"""Searches: published queries, opened again by their address without computing anything."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from dash import dcc, html

from dashboard import ids
from dashboard.answers import QueryView, SearchView
from dashboard.components import cards, states
from dashboard.components.widgets import badge, count, duration, icon, picture, plural, when
from dashboard.state import ExploreState, SearchState

HISTORY: Final = 50
"""Queries that the history lists."""

HITS: Final = 200
"""Hits that an opened query shows."""


def layout(search: str | None) -> html.Div:
    """Build the page before its data came."""
    opened = SearchState.read(search).query is not None
    waiting = states.tiles_skeleton(18) if opened else states.rows_skeleton(6)
    return html.Div(
        [
            html.Div(
                html.Div(
                    [
                        html.H1("Searches"),
                        html.P(
                            id=ids.SEARCH_SUMMARY, className="page-head__summary", role="status"
                        ),
                    ],
                    className="page-head__text",
                ),
                className="page-head",
            ),
            html.Div(waiting, id=ids.SEARCH_RESULT),
        ],
        className="content",
    )


def summary(queries: Sequence[QueryView]) -> str:
    """Return the line above the history."""
    return f"Newest {plural(len(queries), 'search', 'searches')}" if queries else ""


def history(queries: Sequence[QueryView], now: datetime) -> Any:
    """Build the query history, newest first."""
    if not queries:
        return states.empty(
            "No searches yet",
            "Click a picture in Explore, or drop one of your own there: what was found is kept "
            "here and can be opened again.",
            picture="search",
            action=dcc.Link("Open Explore", href=ids.PATH_EXPLORE, className="button"),
        )
    return html.Div([cards.query_row(query, now) for query in queries], className="stack")


def opened_summary(found: SearchView) -> list[Any]:
    """Build the line that says how complete an answer is and over what."""
    exact = "exact" if found.exact else "approximate"
    return [
        html.Strong(plural(found.hits_total, "listing")),
        f", {exact}, {count(found.rows_scanned)} of {plural(found.rows, 'image')} scanned in ",
        f"{duration(found.seconds)}",
    ]


def opened(found: SearchView, now: datetime) -> Any:
    """Build a published query: what was asked, and its hits."""
    asked: list[Any] = [
        picture(image_id, alt="Asked with", css="picture picture--asked")
        for image_id in found.image_ids[:6]
    ]
    if found.uploads:
        asked.append(
            html.Div(
                html.Img(src=f"/api/v1/uploads/{found.uploads[0]}", alt="Uploaded picture"),
                className="picture picture--asked",
            )
        )
    head = html.Div(
        [
            html.Div(asked, className="asked") if asked else None,
            html.Div(
                [
                    html.H2(found.name or "Search"),
                    html.Div(
                        [
                            html.Span(when(found.created_at, now)),
                            html.Span(f"model {found.model_id}"),
                        ],
                        className="meta",
                    ),
                    None if found.current else badge("answered by an earlier snapshot", "warn"),
                ],
                className="asked__text",
            ),
            dcc.Link(
                [icon("map"), "Show on map"],
                href=ExploreState(query=found.query_id).href(),
                className="button",
            ),
        ],
        className="asked-head",
    )
    crumb = dcc.Link([icon("left"), "All searches"], href=ids.PATH_SEARCH, className="crumb")
    if not found.hits:
        body: Any = states.empty(
            "Nothing was found" if found.state == "done" else f"This search is {found.state}",
            f"{count(found.rows_scanned)} of {plural(found.rows, 'image')} were scanned.",
            picture="search",
        )
    else:
        body = html.Div([cards.hit_tile(hit) for hit in found.hits], className="tiles")
    return [crumb, head, body]
