"""Spread: a label goes from the images that have it to those most like them, after a look."""

from __future__ import annotations

from typing import Any, Final

from dash import dcc, html

from dashboard import ids
from dashboard.acts import SpreadView
from dashboard.components import states
from dashboard.components.picks import picks
from dashboard.components.widgets import aria, count, icon, plural
from dashboard.places import SpreadState

SIZES: Final = (20, 60, 200, 500)


def layout(search: str | None) -> html.Div:
    """Build the page before its data came."""
    state = SpreadState.read(search)
    return html.Div(
        [
            dcc.Link([icon("left"), "All decisions"], href=ids.PATH_DECISIONS, className="crumb"),
            html.Div(
                [
                    html.Div(
                        [
                            html.H1(f"Spread “{state.label}”" if state.label else "Spread a label"),
                            html.P(
                                id=ids.SPREAD_FACTS, className="page-head__summary", role="status"
                            ),
                        ],
                        className="page-head__text",
                    ),
                    html.Div([_sizes(state), _do()], className="page-head__controls"),
                ],
                className="page-head",
            ),
            dcc.Store(id=ids.SPREAD_SEEN),
            html.Div(states.tiles_skeleton(24), id=ids.SPREAD_BODY),
        ],
        className="content",
    )


def body(found: SpreadView) -> Any:
    """Build the preview, every picture checked."""
    if not found.near:
        return states.empty("Every image has a label", "There is nothing left to spread to.")
    shown = [
        (near.image_id, near.title or near.listing_id, f"{near.score:.3f}") for near in found.near
    ]
    return picks(ids.SPREAD_PICKS, shown, chosen=True, label="Pictures that get the label")


def facts(found: SpreadView) -> list[Any]:
    """Build the line that says from where, and over how much."""
    start = plural(found.seeds, "labelled image")
    if found.seeds_used < found.seeds:
        start = f"the newest {count(found.seeds_used)} of {start}"
    return [
        html.Strong(f"The {count(len(found.near))} unlabelled images most like"),
        f" {start}, over all {count(found.rows)}. Uncheck what does not belong.",
    ]


def _sizes(state: SpreadState) -> html.Div:
    return html.Div(
        [
            dcc.Link(
                str(size),
                href=ids.PATH_SPREAD + SpreadState(label=state.label, k=size).write(),
                className="segments__item segments__item--here"
                if state.k == size
                else "segments__item",
            )
            for size in SIZES
        ],
        className="segments",
        role="group",
        **aria(label="How many"),
    )


def _do() -> html.Button:
    return html.Button(
        "Label",
        id=ids.SPREAD_DO,
        className="button button--primary",
        type="button",
        disabled=True,
    )
