"""Searches: published queries, named, asked again, opened by their address without computing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from dash import dcc, html

from dashboard import ids
from dashboard.answers import QueryView, SearchView
from dashboard.components import queries, states
from dashboard.components.widgets import badge, count, duration, icon, plural, when
from dashboard.components.words import words
from dashboard.state import ExploreState, SearchState
from dashboard.views import ColumnView

HISTORY: Final = 50
"""Queries that the history lists."""

HITS: Final = 200
"""Hits on one page of an opened query."""

EXAMPLES: Final = 8
"""Pictures of examples in the head of an opened query."""


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


def summary(found: Sequence[QueryView]) -> str:
    """Return the line above the history."""
    return f"Newest {plural(len(found), 'search', 'searches')}" if found else ""


def history(found: Sequence[QueryView], now: datetime, columns: Sequence[ColumnView] = ()) -> Any:
    """Build the query history, newest first; `columns` give filters their labels."""
    if not found:
        return states.empty(
            "No searches yet",
            "Click a picture in Explore, or drop one of your own there: what was found is kept "
            "here and can be opened again.",
            picture="search",
            action=dcc.Link("Open Explore", href=ids.PATH_EXPLORE, className="button"),
        )
    rows = [queries.query_row(query, columns, now) for query in found]
    return html.Div(rows, className="stack stack--tight")


def opened_summary(found: SearchView) -> list[Any]:
    """Build the line that says how complete an answer is and over what."""
    exact = "exact" if found.exact else "approximate"
    return [
        html.Strong(plural(found.hits_total, "listing")),
        f", {exact}: {count(found.rows_scanned)} of {plural(found.rows, 'image')} in ",
        f"{duration(found.seconds)}",
    ]


def opened(
    found: SearchView, now: datetime, columns: Sequence[ColumnView] = (), after: str = ""
) -> Any:
    """Build a page of a published query: what was asked, and its hits behind `after`."""
    asked = queries.asked_with(found, EXAMPLES)
    head = html.Div(
        [
            html.Div(asked, className="asked") if asked else None,
            html.Div(
                [
                    queries.name_field(found.query_id, found.name, "name-field--asked"),
                    html.P(", ".join(words(found, columns)), className="query__words"),
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
            html.Div(
                [
                    dcc.Link(
                        [icon("map"), "Show on map"],
                        href=ExploreState(query=found.query_id).href(),
                        className="button",
                    ),
                    queries.run_button(found.query_id),
                ],
                className="asked__ways",
            ),
        ],
        className="asked-head",
    )
    crumb = dcc.Link([icon("left"), "All searches"], href=ids.PATH_SEARCH, className="crumb")
    if not found.hits:
        body: list[Any] = [
            states.empty(
                "Nothing was found" if found.state == "done" else f"This search is {found.state}",
                f"{count(found.rows_scanned)} of {plural(found.rows, 'image')} were searched.",
                picture="search",
            )
        ]
    else:
        tiles = html.Div([queries.hit_tile(hit) for hit in found.hits], className="tiles")
        body = [tiles, pager(found, after)]
    return [crumb, head, *body]


def pager(found: SearchView, after: str) -> html.Div | None:
    """Build the way through a long result; None when one page has all of it."""
    if not after and found.next_after is None:
        return None
    first, last = found.hits[0].rank, found.hits[-1].rank
    ways: list[Any] = []
    if after:
        first_page = ids.PATH_SEARCH + SearchState(query=found.query_id).write()
        ways.append(dcc.Link("First page", href=first_page, className="button"))
    if found.next_after is not None:
        following = SearchState(query=found.query_id, after=found.next_after)
        ways.append(
            dcc.Link(
                ["Next page", icon("right")],
                href=ids.PATH_SEARCH + following.write(),
                className="button",
            )
        )
    return html.Div(
        [
            html.Span(f"{count(first)} to {count(last)} of {count(found.hits_total)}"),
            html.Div(ways, className="pager__links"),
        ],
        className="pager",
    )
