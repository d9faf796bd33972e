"""Teach: a few clicks rank the whole collection; saved, they label what arrives."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from dash import dcc, html

from cql.taught import NAME_LIMIT
from dashboard import ids
from dashboard.components import states
from dashboard.components.review import example_chip, margin_card
from dashboard.components.widgets import aria, count, data, duration, icon, percent, plural, when
from dashboard.learned import ConceptView, TaughtView
from dashboard.places import LabelsState, TeachState

SHOWN: Final = 24
"""Images of each list."""


def layout(search: str | None) -> html.Div:
    """Build the page before its data came."""
    state = TeachState.read(search)
    return html.Div(
        [
            dcc.Link([icon("left"), "Labels"], href=ids.PATH_LABELS, className="crumb"),
            html.Div(
                [
                    html.Div(
                        [
                            html.H1("Teach a concept"),
                            html.P(
                                id=ids.TEACH_SUMMARY, className="page-head__summary", role="status"
                            ),
                        ],
                        className="page-head__text",
                    ),
                    html.Div(
                        [
                            dcc.Input(
                                id=ids.TEACH_NAME,
                                type="text",
                                placeholder="Name of the concept",
                                maxLength=NAME_LIMIT,
                                autoComplete="off",
                                className="field",
                            ),
                            html.Button(
                                "Save as concept",
                                id=ids.TEACH_SAVE,
                                className="button button--primary",
                                type="button",
                                title="Images that arrive from now on are labelled by it",
                            ),
                        ],
                        className="page-head__controls",
                    ),
                ],
                className="page-head",
            ),
            html.Div(
                [
                    html.Div(
                        [
                            html.Div(marks(state), id=ids.TEACH_MARKS),
                            html.Div(states.tiles_skeleton(12), id=ids.TEACH_BODY),
                        ],
                        className="columns__main",
                    ),
                    html.Aside(id=ids.TEACH_SIDE, className="columns__side"),
                ],
                className="columns",
            ),
        ],
        className="content",
    )


def marks(state: TeachState) -> html.Div | None:
    """Build the examples, each of which a click takes out."""
    if not state.plus and not state.minus:
        return None
    chips = [example_chip(each, "plus") for each in state.plus]
    chips += [example_chip(each, "minus") for each in state.minus]
    return html.Div(chips, className="examples", role="group", **aria(label="Examples"))


def body(found: TaughtView) -> html.Div:
    """Build both lists: what teaches most first."""
    return html.Div(
        [
            html.H2("Most unsure: mark these", className="group-title"),
            _cards("unsure", found),
            html.H2("Best", className="group-title"),
            _cards("best", found),
        ],
        **data(cards=""),
    )


def untaught() -> html.Div:
    """Build what stands there without an example."""
    return states.empty(
        "Choose an image to begin",
        "Open an image in Explore, mark hits with + and -, then follow “Teach” above them.",
        action=dcc.Link("Open Explore", href=ids.PATH_EXPLORE, className="button"),
    )


def summary(found: TaughtView) -> list[Any]:
    """Build the line that says what was ranked, and what the concept would label."""
    parts: list[Any] = [
        html.Strong(f"All {plural(found.rows, 'image')} ranked"),
        f" in {duration(found.seconds)}",
    ]
    if found.recall:
        parts += [
            ", ",
            html.Strong(count(found.taken)),
            " taken. Of held-out examples ",
            html.Strong(percent(found.precision)),
            " of those taken have it, and ",
            html.Strong(percent(found.recall)),
            " of those that have it are taken",
        ]
    else:
        parts.append(". Mark more images: too few to say which have it")
    return parts


def side(concepts: Sequence[ConceptView], now: datetime) -> list[Any]:
    """Build the list of saved concepts."""
    if not concepts:
        return []
    return [
        html.H2("Concepts", className="side-title"),
        html.Div(
            [
                html.Div(
                    [
                        dcc.Link(
                            [
                                html.Span(each.name, className="share__name"),
                                html.Span(f"version {each.version}", className="share__value"),
                                html.Span(
                                    [
                                        f"{count(len(each.positives))} for, ",
                                        f"{count(len(each.negatives))} against, ",
                                        when(each.created_at, now),
                                    ],
                                    className="class__note",
                                ),
                            ],
                            href=ids.PATH_TEACH
                            + TeachState(plus=each.positives, minus=each.negatives).write(),
                            className="share class",
                            title=f"Open the examples of {each.name}",
                        ),
                        dcc.Link(
                            "What it labelled since",
                            href=ids.PATH_LABELS + LabelsState(concept=each.name).write(),
                            className="class__more",
                        ),
                    ]
                )
                for each in concepts
            ]
        ),
    ]


def _cards(place: str, found: TaughtView) -> html.Div:
    shown = found.unsure if place == "unsure" else found.best
    return html.Div([margin_card(each, place) for each in shown], className="taughts")
