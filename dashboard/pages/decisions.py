"""Decisions: what analysts did, newest first, with a way back; labels; files to take away."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from dash import dcc, html

from dashboard import ids
from dashboard.acts import ActView, HistoryView, LabelView
from dashboard.components import states
from dashboard.components.widgets import API, aria, badge, count, icon, picture, plural, when
from dashboard.places import DecisionsState, SpreadState
from dashboard.state import ExploreState, Filter, cluster_href

PAGE: Final = 40
"""Acts on one page."""

KINDS: Final = (
    ("", "All"),
    ("rename", "Names"),
    ("verdict", "Verdicts"),
    ("label", "Labels"),
    ("merge", "Merges"),
    ("split", "Splits"),
)
FILES: Final = (
    ("csv", "CSV"),
    ("parquet", "Parquet"),
    ("coco", "COCO"),
)
STATES: Final = {"waiting": "warn", "replaced": "plain"}
_HINTS: Final = {
    "waiting": "Its cluster is not on the live map; the decision holds when it comes back",
    "replaced": "A newer decision counts",
}


def layout(search: str | None) -> html.Div:
    """Build the page before its data came."""
    return html.Div(
        [
            html.Div(
                [
                    html.Div(
                        [
                            html.H1("Decisions"),
                            html.P(
                                "What was decided, by whom and when. Nothing is overwritten.",
                                className="page-head__summary",
                            ),
                        ],
                        className="page-head__text",
                    ),
                    html.Div(
                        controls(DecisionsState.read(search)),
                        id=ids.DECISIONS_CONTROLS,
                        className="page-head__controls",
                    ),
                ],
                className="page-head",
            ),
            html.Div(
                [
                    html.Section(
                        html.Div(states.rows_skeleton(6), id=ids.DECISIONS_LIST),
                        className="columns__main",
                    ),
                    html.Aside(id=ids.DECISIONS_SIDE, className="columns__side"),
                ],
                className="columns",
            ),
        ],
        className="content",
    )


def controls(state: DecisionsState) -> html.Div:
    """Build the choice of the kind: links, so that each has an address."""
    return html.Div(
        [
            dcc.Link(
                label,
                href=ids.PATH_DECISIONS + DecisionsState(kind=kind).write(),
                className="segments__item segments__item--here"
                if state.kind == kind and not state.subject
                else "segments__item",
            )
            for kind, label in KINDS
        ],
        className="segments",
        role="group",
        **aria(label="Kind"),
    )


def listing(found: HistoryView, state: DecisionsState, now: datetime) -> Any:
    """Build the acts, and the way to older ones."""
    if not found.acts:
        if state.before or state.kind or state.subject:
            every = dcc.Link("Show all", href=ids.PATH_DECISIONS, className="button")
            return states.empty("Nothing here", "No decision of this kind.", action=every)
        return states.empty(
            "Nobody decided anything yet",
            "Name, merge or split clusters, judge outliers, label a selection: each act is listed "
            "here and can be undone.",
        )
    parts: list[Any] = []
    if state.subject:
        every = dcc.Link([icon("left"), "All decisions"], href=ids.PATH_DECISIONS)
        parts.append(html.P([every, f" All versions of {state.subject}"], className="hint"))
    parts.append(html.Ol([row(act, now, alone=bool(state.subject)) for act in found.acts]))
    if found.next_before is not None:
        href = (
            ids.PATH_DECISIONS + DecisionsState(kind=state.kind, before=found.next_before).write()
        )
        parts.append(html.Div(dcc.Link("Older", href=href, className="button"), className="more"))
    return parts


def row(act: ActView, now: datetime, *, alone: bool = False) -> html.Li:
    """Build one act: what, who and when, why, some pictures, a way back."""
    what: Any = act.what
    if act.key is not None:
        what = dcc.Link(act.what, href=cluster_href(act.key), className="act__what")
    versions = None
    if act.newest > 1 and not alone and not act.subject.startswith("batch:"):
        href = ids.PATH_DECISIONS + DecisionsState(subject=act.subject).write()
        text = f"version {act.version} of {act.newest}"
        versions = dcc.Link(text, href=href, title="Compare the versions")
    return html.Li(
        [
            html.Div(
                [
                    html.Span(what, className="act__what"),
                    _state(act),
                ],
                className="act__head",
            ),
            html.Div(
                [
                    html.Span(act.author),
                    when(act.at, now),
                    versions,
                    html.Span(act.reason) if act.reason else None,
                ],
                className="meta",
            ),
            html.Div(
                [
                    dcc.Link(
                        picture(image_id, alt="Decided picture"),
                        href=ExploreState(image=image_id).href(),
                        className="act__picture",
                        title="Open in Explore",
                    )
                    for image_id in act.images
                ],
                className="act__pictures",
            )
            if act.images
            else None,
            html.Button(
                [icon("undo"), "Undo"],
                id=ids.decision_undo(act.subject, str(act.newest if act.version else 1)),
                className="button button--small act__undo",
                type="button",
                **aria(label=f"Undo: {act.what}"),
            )
            if act.undoable and not alone
            else None,
        ],
        className="act",
    )


def _state(act: ActView) -> html.Span | None:
    if act.state in STATES:
        return html.Span(badge(act.state, STATES[act.state]), title=_HINTS[act.state])
    if act.standing < act.count:
        text = f"{count(act.standing)} of {count(act.count)} in force"
        return html.Span(badge(text), title="The others are not the newest of their subjects")
    return None


def side(labels: Sequence[LabelView]) -> list[Any]:
    """Build the labels with their counts, and the files."""
    files = [
        html.A(
            name,
            href=f"{API}/decisions/export?format={fmt}",
            className="button button--small",
            download="",
        )
        for fmt, name in FILES
    ]
    ledger = html.A(
        "Whole history (CSV)",
        href=f"{API}/decisions/export?format=csv&history=true",
        className="button button--small",
        download="",
    )
    return [
        html.Section(
            [html.H2("Labels", className="side-title"), *_labels(labels)], className="side"
        ),
        html.Section(
            [
                html.H2("Take away", className="side-title"),
                html.P("Label, cluster and verdict of every image.", className="hint"),
                html.Div(files, className="files"),
                ledger,
            ],
            className="side",
        ),
    ]


def _labels(labels: Sequence[LabelView]) -> list[Any]:
    if not labels:
        text = "Select images in Explore or open a cluster, then “Label or split”."
        return [html.P(text, className="hint")]
    return [
        html.Div(
            [
                dcc.Link(
                    each.label,
                    href=ExploreState(
                        colour="label", filters=(Filter("label", (each.label,)),)
                    ).href(),
                    className="share__name",
                    title=f"Show {plural(each.images, 'image')} on the map",
                ),
                html.Span(count(each.images), className="share__value"),
                dcc.Link(
                    "Spread",
                    href=ids.PATH_SPREAD + SpreadState(label=each.label).write(),
                    className="hint",
                    title=f"Find images like those of {each.label}",
                ),
            ],
            className="share share--label",
        )
        for each in labels
    ]
