"""What a page shows when it has nothing to show: loading, empty, unknown, error."""

from __future__ import annotations

import logging
from typing import Any

from dash import dcc, html

from cql.errors import (
    ConflictError,
    InputError,
    IntegrityError,
    NotFoundError,
    SightlineError,
    UnavailableError,
)
from dashboard import ids
from dashboard.components.widgets import aria, data, icon, prose

log = logging.getLogger(__name__)


def loading_page() -> html.Div:
    """Build the skeleton of a page whose shape is not known yet."""
    return html.Div([heading_skeleton(), tiles_skeleton(24)], className="content")


def heading_skeleton() -> html.Div:
    """Build the skeleton of a page's title and summary."""
    return html.Div(
        [html.Div(className="bone bone--title"), html.Div(className="bone bone--line")],
        className="page-head",
        **aria(hidden="true"),
    )


def tiles_skeleton(tiles: int, css: str = "tiles") -> html.Div:
    """Build placeholders of the size that the real tiles will have."""
    return html.Div(
        [html.Div(className="bone bone--tile") for _ in range(tiles)],
        className=f"{css} skeleton",
        role="status",
        **aria(label="Loading", busy="true"),
    )


def rows_skeleton(rows: int) -> html.Div:
    """Build placeholders of list rows."""
    return html.Div(
        [html.Div(className="bone bone--row") for _ in range(rows)],
        className="stack skeleton",
        role="status",
        **aria(label="Loading", busy="true"),
    )


def empty(title: str, text: str, *, picture: str = "empty", action: Any = None) -> html.Div:
    """Build an empty state: what would be here, and how to get it."""
    return _state(title, text, picture, "state", action)


def not_found(what: str = "This page") -> html.Div:
    """Build the page for an address that leads nowhere."""
    return _state(
        f"{what} does not exist",
        "The address may be mistyped, or what it named was replaced by a newer analysis.",
        "lost",
        "state state--page",
        dcc.Link("Back to Explore", href=ids.PATH_EXPLORE, className="button button--primary"),
    )


def error(problem: BaseException) -> html.Div:
    """Build what went wrong in words, with a button that tries again (`ids.REFRESH`).

    An error that nobody raised on purpose goes to the log and is not quoted.
    """
    title, text = _words(problem)
    action = html.Button(
        [icon("retry"), "Try again"], className="button", type="button", **data(retry="")
    )
    return _state(title, text, "error", "state state--error", action, role="alert")


def message(problem: BaseException) -> str:
    """Return one line for a toast or a field."""
    title, text = _words(problem)
    return text if isinstance(problem, InputError | ConflictError) else f"{title}. {text}"


def _words(problem: BaseException) -> tuple[str, str]:
    known: tuple[tuple[type[SightlineError], str], ...] = (
        (UnavailableError, "A service does not answer"),
        (NotFoundError, "Not found"),
        (ConflictError, "Somebody else was first"),
        (IntegrityError, "Stored data is damaged"),
        (InputError, "This cannot be done"),
        (SightlineError, "This did not work"),
    )
    for kind, title in known:
        if isinstance(problem, kind):
            return title, _sentence(str(problem))
    log.error("unexpected error on a page", exc_info=problem)
    return "Something went wrong", "The details are in the log of the web process."


def _sentence(text: str) -> str:
    line = " ".join(text.split()) or "No reason was given."
    return line[0].upper() + line[1:] + ("" if line[-1] in ".!?" else ".")


def _state(
    title: str, text: str, picture: str, css: str, action: Any = None, *, role: str = "note"
) -> html.Div:
    return html.Div(
        [
            html.Div(icon(picture), className="state__icon"),
            html.H2(title, className="state__title"),
            html.P(prose(text), className="state__text"),
            html.Div(action, className="state__action") if action is not None else None,
        ],
        className=css,
        role=role,
    )
