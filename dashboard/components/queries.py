"""Searches as parts of a page: a line of the history, a name edited in place, the tile of a hit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from dash import dcc, html

from dashboard import ids
from dashboard.answers import AskedView, HitView, QueryView
from dashboard.components.jobs import TONES
from dashboard.components.terms import SIGNS
from dashboard.components.widgets import (
    API,
    badge,
    duration,
    icon,
    picture,
    plural,
    stock_read,
    when,
)
from dashboard.components.words import words
from dashboard.state import ExploreState, SearchState
from dashboard.views import ColumnView

UNNAMED: Final = "Unnamed search"

EXAMPLES: Final = 4
"""Pictures of examples on a line of the history."""


def href(query_id: UUID) -> str:
    """Return the address of a published query."""
    return ids.PATH_SEARCH + SearchState(query=query_id).write()


def query_row(query: QueryView, columns: Sequence[ColumnView], now: datetime) -> html.Article:
    """Build a line of the history: its examples, its name, what was asked, ways on."""
    return html.Article(
        [
            dcc.Link(
                asked_with(query, EXAMPLES) or icon("search"),
                href=href(query.query_id),
                className="query__examples",
                title="Open this search",
            ),
            html.Div(
                [
                    name_field(query.query_id, query.name),
                    html.P(", ".join(words(query, columns)), className="query__words"),
                ],
                className="query__text",
            ),
            html.Div(
                [
                    badge(query.state, TONES.get(query.state, "plain"))
                    if query.state != "done"
                    else None,
                    html.Span(plural(query.hits, "hit")),
                    html.Span(duration(query.seconds)),
                    when(query.created_at, now),
                ],
                className="meta query__facts",
            ),
            html.Div(
                [
                    dcc.Link("Open", href=href(query.query_id), className="button button--small"),
                    run_button(query.query_id, "button button--small button--quiet"),
                ],
                className="query__ways",
            ),
        ],
        className="card query",
    )


def name_field(query_id: UUID, name: str, css: str = "") -> html.Div:
    """Build the name that is edited in place, its message line and the name that was read."""
    key = str(query_id)
    return html.Div(
        [
            html.Div(
                dcc.Input(
                    id=ids.query_name(key),
                    value=name,
                    debounce=True,
                    type="text",
                    maxLength=120,
                    spellCheck=False,
                    autoComplete="off",
                    placeholder=UNNAMED,
                    className="name-input",
                ),
                className=f"name-field icon--pencil {css}".strip(),
                title="Name this search: Enter saves, Esc keeps the old name",
            ),
            html.Div(id=ids.query_message(key), className="field-message", role="status"),
            dcc.Store(id=ids.query_known(key), data=name),
        ]
    )


def run_button(query_id: UUID, css: str = "button") -> html.Button:
    """Build the button that asks a query again, of what is live now."""
    return html.Button(
        [icon("retry"), "Run again"],
        id=ids.query_run(str(query_id)),
        className=css,
        type="button",
        title="Ask the same of the collection as it is now",
    )


def asked_with(asked: AskedView, most: int) -> list[Any]:
    """Build the pictures that a search was asked with, those against it marked."""
    found: list[Any] = [
        html.Div(
            html.Img(src=f"{API}/uploads/{digest}", alt="Uploaded picture"),
            className="picture picture--asked",
        )
        for digest in asked.uploads
    ]
    found += [
        picture(image_id, alt="Example for", css="picture picture--asked")
        for image_id in asked.image_ids
    ]
    against = [
        html.Div(
            [
                picture(image_id, alt="Example against", css="picture picture--asked"),
                html.Span(SIGNS["minus"], className="asked__sign"),
            ],
            className="asked__against",
        )
        for image_id in asked.negatives
    ]
    kept = max(most - len(against), (most + 1) // 2)
    return [*found[:kept], *against[: most - len(found[:kept])]]


def hit_tile(hit: HitView) -> dcc.Link:
    """Build the tile of one hit: its winning image, rank, score, and stock where it was read."""
    name = hit.title or hit.listing_id
    stock = None
    if hit.stock_read_at is not None:
        stock = html.Div(stock_read(hit.inventory or 0, hit.stock_read_at), className="tile__read")
    return dcc.Link(
        [
            picture(hit.image_id, alt=name),
            html.Div(
                [
                    html.Span(f"{hit.rank:,}. {name}"),
                    html.Span(f"{hit.score:.3f}", title="Similarity, 1 is the same"),
                ],
                className="tile__label",
            ),
            stock,
        ],
        href=ExploreState(image=hit.image_id).href(),
        className="tile",
        title=name,
    )
