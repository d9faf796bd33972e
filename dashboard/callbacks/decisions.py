"""Callbacks of the history: the list, labels beside it, taking an act back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import dash
from dash import ALL, Input, Output, ctx, no_update

from dashboard import ids
from dashboard.callbacks.calls import AUTHOR, call
from dashboard.components import states
from dashboard.components.toast import toast
from dashboard.pages import decisions as page
from dashboard.places import DecisionsState

if TYPE_CHECKING:
    from dashboard.services import Services


def register(app: dash.Dash, services: Services) -> None:
    """Add the callbacks of the history to one app."""

    @app.callback(
        Output(ids.DECISIONS_LIST, "children"),
        Output(ids.DECISIONS_CONTROLS, "children"),
        Output(ids.DECISIONS_SIDE, "children"),
        Input(ids.URL, "search"),
        Input(ids.REFRESH, "data"),
    )
    async def show(search: str | None, _: str | None) -> tuple[Any, ...]:
        state = DecisionsState.read(search)
        found = await call(
            services.history.page,
            limit=page.PAGE,
            kind=state.kind,
            before=state.before,
            subject=state.subject,
        )
        if isinstance(found, Exception):
            return states.error(found), page.controls(state), no_update
        labels = await call(services.decisions.labels)
        side = [] if isinstance(labels, Exception) else page.side(labels)
        return page.listing(found, state, datetime.now(UTC)), page.controls(state), side

    @app.callback(
        Output(ids.TOASTS, "children", allow_duplicate=True),
        Output(ids.REFRESH, "data", allow_duplicate=True),
        Input({"type": "decision-undo", "subject": ALL, "version": ALL}, "n_clicks"),
        prevent_initial_call=True,
    )
    async def undo(clicks: list[int | None]) -> tuple[Any, Any]:
        pressed = ctx.triggered_id
        if not any(clicks) or not isinstance(pressed, dict) or not ctx.triggered[0]["value"]:
            return no_update, no_update
        done = await call(
            services.undo,
            pressed["subject"],
            author=AUTHOR,
            expected_version=int(pressed["version"]),
        )
        if isinstance(done, Exception):
            return toast(states.message(done), tone="danger"), uuid4().hex
        return toast("Undone"), uuid4().hex
