"""Callbacks of the page of labels: classes, the ranking, labels one by one, training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import dash
from dash import ALL, Input, Output, State, ctx, no_update

from cql.errors import ConflictError
from dashboard import figures, ids, undo
from dashboard.acts import ImageLabelView
from dashboard.callbacks.calls import AUTHOR, call
from dashboard.components import review, states
from dashboard.components.toast import toast
from dashboard.learned import BinView
from dashboard.ledger import label_subject
from dashboard.pages import labels as page
from dashboard.places import LabelsState

if TYPE_CHECKING:
    from dashboard.services import Services


def register(app: dash.Dash, services: Services) -> None:
    """Add the callbacks of the page to one app."""
    _show(app, services)
    _train(app, services)
    _label(app, services)


def _show(app: dash.Dash, services: Services) -> None:
    @app.callback(
        Output(ids.LABELS_LIST, "children"),
        Output(ids.LABELS_CONTROLS, "children"),
        Output(ids.LABELS_SUMMARY, "children"),
        Output(ids.LABELS_SIDE, "children"),
        Output(ids.LABELS_NAMES, "children"),
        Input(ids.URL, "search"),
        Input(ids.REFRESH, "data"),
        running=[(Output(ids.LABELS_LIST, "className"), "is-loading", "")],
    )
    async def show(search: str | None, _: str | None) -> tuple[Any, ...]:
        state = LabelsState.read(search)
        controls = page.controls(state)
        classes = await call(services.classes.classes)
        if isinstance(classes, Exception):
            return states.error(classes), controls, "", [], []
        trained = classes.trained
        bins = [] if trained is None else [[b.rows, b.confidence, b.accuracy] for b in trained.bins]
        # Not an output: the store is there on every page, the other outputs only on this one.
        dash.set_props(ids.LABELS_BINS, {"data": bins})
        said = page.summary(classes), page.side(classes, state), page.names(classes)
        if trained is None and not state.concept:
            return page.untrained(classes), controls, *said
        read = services.teaching.proposals if state.concept else services.classes.guesses
        found = await call(
            read,
            state.concept or state.name,
            limit=page.PAGE,
            offset=(state.page - 1) * page.PAGE,
        )
        if isinstance(found, Exception):
            return states.error(found), controls, *said
        return page.gallery(found, state), controls, *said

    @app.callback(
        Output(ids.LABELS_CHART, "figure"),
        Input(ids.LABELS_BINS, "data"),
        Input(ids.THEME, "data"),
    )
    def chart(bins: list[list[float]] | None, theme: str | None) -> Any:
        # Two answers may come in either order: one without figures must not win.
        if not bins:
            return no_update
        held = [BinView(rows=int(rows), confidence=c, accuracy=a) for rows, c, a in bins]
        return figures.reliability(held, theme)


def _train(app: dash.Dash, services: Services) -> None:
    @app.callback(
        Output(ids.TOASTS, "children", allow_duplicate=True),
        Input(ids.LABELS_TRAIN, "n_clicks"),
        running=[(Output(ids.LABELS_TRAIN, "disabled"), True, False)],
        prevent_initial_call=True,
    )
    async def train(clicks: int | None) -> Any:
        if not clicks:
            return no_update
        job = await call(services.classes.train)
        if isinstance(job, Exception):
            return toast(states.message(job), tone="danger")
        return toast("Training started: see Jobs for its progress, then look here again")


def _label(app: dash.Dash, services: Services) -> None:
    @app.callback(
        Output(ids.TOASTS, "children", allow_duplicate=True),
        Output(ids.UNDO, "data", allow_duplicate=True),
        Input({"type": "review", "image": ALL, "act": ALL}, "n_clicks"),
        Input({"type": "review-text", "image": ALL}, "value"),
        State({"type": "review-known", "image": ALL}, "id"),
        State({"type": "review-known", "image": ALL}, "data"),
        State(ids.UNDO, "data"),
        prevent_initial_call=True,
    )
    async def label(
        _: list[int | None],
        __: list[str | None],
        cards: list[dict[str, str]],
        stores: list[dict[str, Any]],
        stack: undo.Stack | None,
    ) -> tuple[Any, Any]:
        trigger = ctx.triggered_id
        value = ctx.triggered[0]["value"]
        if not isinstance(trigger, dict) or not value:
            return no_update, no_update
        image = trigger["image"]
        known = stores[[card["image"] for card in cards].index(image)]
        if trigger.get("act") == "skip":
            _style(image, known["label"], skipped=True)
            return no_update, no_update
        wanted = known["predicted"] if trigger["type"] == "review" else str(value)
        if wanted.strip() == known["label"]:
            return no_update, no_update
        done = await call(
            services.decisions.set_label,
            UUID(image),
            wanted,
            author=AUTHOR,
            expected_version=known["version"],
            reason="review",
        )
        if isinstance(done, ConflictError):
            return await _conflict(services, image, known, wanted), no_update
        if isinstance(done, Exception):
            return toast(states.message(done), tone="danger"), no_update
        _show_label(image, known, done)
        text = f"Labelled “{done.label}”"
        return toast(text, undo=True), undo.push(
            stack, label_subject(UUID(image)), done.version, text
        )


async def _conflict(services: Services, image: str, known: dict[str, Any], mine: str) -> Any:
    """Show the label that won, and say so."""
    found = await call(services.decisions.labels_of, [UUID(image)])
    if isinstance(found, Exception):
        return toast(states.message(found), tone="danger")
    theirs = found[UUID(image)]
    _show_label(image, known, theirs)
    word = f"“{theirs.label}”" if theirs.label else "no label"
    return toast(
        f"Another analyst was first: {word} (version {theirs.version}). Yours was “{mine}”; "
        "decide again to change it.",
        tone="danger",
    )


def _show_label(image: str, known: dict[str, Any], made: ImageLabelView) -> None:
    dash.set_props(ids.review_badge(image), {"children": review.label_badge(made.label)})
    fresh = {**known, "label": made.label, "version": made.version}
    dash.set_props(ids.review_known(image), {"data": fresh})
    _style(image, made.label)


def _style(image: str, label: str, *, skipped: bool = False) -> None:
    css = review.review_class(label, skipped=skipped)
    dash.set_props(ids.review_card(image), {"className": css})
