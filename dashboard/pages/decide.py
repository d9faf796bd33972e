"""Decide: label a selection, or split it off its cluster; some of its pictures or all of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from dash import dcc, html

from dashboard import ids
from dashboard.acts import SplitView
from dashboard.components import states
from dashboard.components.picks import picks
from dashboard.components.widgets import count, icon, plural
from dashboard.decisions import LABEL_LIMIT
from dashboard.ledger import NAME_LIMIT
from dashboard.places import selection_of
from dashboard.views import SelectionView

PAGE: Final = 120
"""Pictures to choose from; all of the selection is decided on when none is chosen."""


def layout(search: str | None) -> html.Div:
    """Build the page before its data came."""
    back = selection_of(search).href()
    return html.Div(
        [
            dcc.Link([icon("left"), "Back to the map"], href=back, className="crumb"),
            html.Div([states.heading_skeleton(), states.tiles_skeleton(18)], id=ids.DECIDE_BODY),
        ],
        className="content",
    )


def body(found: SelectionView, split: SplitView | None) -> list[Any]:
    """Build the page of a selection."""
    if not found.count:
        return [states.empty("Nothing selected", "Select images on the map first.")]
    shown = [(row.image_id, row.title or row.listing_id, "") for row in found.rows]
    more = found.count - len(shown)
    note = f", {count(more)} more are not shown" if more else ""
    return [
        html.Div(
            html.Div(
                [
                    html.H1("Label or split"),
                    html.P(
                        facts(found.count, 0),
                        id=ids.DECIDE_FACTS,
                        className="page-head__summary",
                        role="status",
                    ),
                ],
                className="page-head__text",
            ),
            className="page-head",
        ),
        dcc.Store(id=ids.DECIDE_SEEN, data=seen(found.count, split)),
        html.Div([_label(), _split(split)], className="decide"),
        html.P(f"Check pictures to decide on those alone{note}.", className="hint"),
        picks(ids.DECIDE_PICKS, shown, chosen=False, label="Pictures of the selection"),
    ]


def seen(total: int, split: SplitView | None) -> dict[str, Any]:
    """Return what the reader saw: how many, when, and the versions that a split expects."""
    versions = {} if split is None else {str(key): n for key, n in split.versions.items()}
    return {"total": total, "versions": versions, "at": datetime.now(UTC).isoformat()}


def facts(total: int, picked: int) -> list[Any]:
    """Build the line that says what is decided on."""
    if picked:
        return [html.Strong(f"{count(picked)} checked"), f" of {plural(total, 'image')}"]
    return [html.Strong(f"All {plural(total, 'image')}"), " of the selection"]


def split_text(found: SplitView | None) -> list[Any]:
    """Build what a split would do."""
    if found is None:
        return ["No image of it is in a cluster."]
    if not found.rest:
        return [f"It is all of “{found.name}”: check some pictures, or select fewer on the map."]
    parts = [
        html.Strong(count(found.images)),
        f" of {plural(found.images + found.rest, 'image')} of “{found.name}”",
        " become a cluster of their own.",
    ]
    if found.outside:
        parts.append(f" {plural(found.outside, 'image')} in no or another cluster stay.")
    return parts


def _label() -> html.Section:
    return html.Section(
        [
            html.H2("Label", className="group-title"),
            html.P("A label stays with the image, whatever the map does.", className="hint"),
            html.Div(
                [
                    dcc.Input(
                        id=ids.DECIDE_LABEL,
                        type="text",
                        placeholder="Label, empty for none",
                        maxLength=LABEL_LIMIT,
                        autoComplete="off",
                        className="field",
                    ),
                    html.Button(
                        "Label",
                        id=ids.DECIDE_LABEL_DO,
                        className="button button--primary",
                        type="button",
                    ),
                ],
                className="decide__row",
            ),
        ],
        className="card decide__card",
    )


def _split(found: SplitView | None) -> html.Section:
    return html.Section(
        [
            html.H2("Split off", className="group-title"),
            html.P(split_text(found), id=ids.DECIDE_SPLIT_TEXT, className="hint", role="status"),
            html.Div(
                [
                    dcc.Input(
                        id=ids.DECIDE_SPLIT,
                        type="text",
                        placeholder="Name of the new cluster",
                        maxLength=NAME_LIMIT,
                        autoComplete="off",
                        className="field",
                    ),
                    html.Button(
                        "Split off", id=ids.DECIDE_SPLIT_DO, className="button", type="button"
                    ),
                ],
                className="decide__row",
            ),
        ],
        className="card decide__card",
    )
