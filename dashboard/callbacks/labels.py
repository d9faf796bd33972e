"""Callbacks of the page of labels: classes, the ranking, labels one by one, training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import dash
from dash import ALL, Input, Output, State, ctx, no_update

from dashboard import figures, ids, undo
from dashboard.acts import ImageLabelView
from dashboard.callbacks.calls import AUTHOR, call
from dashboard.callbacks.judging import known_of, pressed, settle
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
        press = pressed()
        if press is None:
            return no_update, no_update
        image = UUID(press["image"])
        known = known_of(press["image"], "image", cards, stores)
        if press.get("act") == "skip":
            _style(press["image"], known["label"], skipped=True)
            return no_update, no_update
        typed = str(ctx.triggered[0]["value"])
        wanted = known["predicted"] if press["type"] == "review" else typed
        if wanted.strip() == known["label"]:
            return no_update, no_update
        done = await call(
            services.decisions.set_label,
            image,
            wanted,
            author=AUTHOR,
            expected_version=known["version"],
            reason="review",
        )
        return await settle(
            done,
            subject=label_subject(image),
            stack=stack,
            said=lambda made: f"Labelled “{made.label}”",
            show=lambda made: _show_label(known, made),
            reread=lambda: services.decisions.labels_of([image])[image],
            word=lambda theirs: f"“{theirs.label}”" if theirs.label else "no label",
            mine=f"“{wanted}”",
        )


def _show_label(known: dict[str, Any], made: ImageLabelView) -> None:
    image = str(made.image_id)
    dash.set_props(ids.review_badge(image), {"children": review.label_badge(made.label)})
    fresh = {**known, "label": made.label, "version": made.version}
    dash.set_props(ids.review_known(image), {"data": fresh})
    _style(image, made.label)


def _style(image: str, label: str, *, skipped: bool = False) -> None:
    css = review.review_class(label, skipped=skipped)
    dash.set_props(ids.review_card(image), {"className": css})
