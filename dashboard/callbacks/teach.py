"""Callbacks of teaching by click: marks are in the address, which ranks the collection again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import dash
from dash import ALL, Input, Output, State, ctx, no_update

from dashboard import ids
from dashboard.callbacks.calls import AUTHOR, call
from dashboard.components import states
from dashboard.components.toast import toast
from dashboard.pages import teach as page
from dashboard.places import TeachState

if TYPE_CHECKING:
    from dashboard.services import Services


def register(app: dash.Dash, services: Services) -> None:
    """Add the callbacks of the page to one app."""
    _show(app, services)
    _save(app, services)

    @app.callback(
        Output(ids.URL, "search", allow_duplicate=True),
        Input({"type": "teach-mark", "image": ALL, "sign": ALL, "place": ALL}, "n_clicks"),
        State(ids.URL, "search"),
        prevent_initial_call=True,
    )
    def mark(_: list[int | None], search: str | None) -> Any:
        pressed = ctx.triggered_id
        if not isinstance(pressed, dict) or not ctx.triggered[0]["value"]:
            return no_update
        return TeachState.read(search).marked(UUID(pressed["image"]), pressed["sign"]).write()


def _show(app: dash.Dash, services: Services) -> None:
    @app.callback(
        Output(ids.TEACH_BODY, "children"),
        Output(ids.TEACH_MARKS, "children"),
        Output(ids.TEACH_SUMMARY, "children"),
        Input(ids.URL, "search"),
        Input(ids.REFRESH, "data"),
        running=[(Output(ids.TEACH_BODY, "className"), "is-loading", "")],
    )
    async def show(search: str | None, _: str | None) -> tuple[Any, Any, Any]:
        state = TeachState.read(search)
        if not state.plus:
            return page.untaught(), page.marks(state), ""
        found = await call(services.teaching.rank, state.plus, state.minus, limit=page.SHOWN)
        if isinstance(found, Exception):
            return states.error(found), page.marks(state), ""
        return page.body(found), page.marks(state), page.summary(found)

    @app.callback(
        Output(ids.TEACH_SIDE, "children"),
        Input(ids.REFRESH, "data"),
    )
    async def concepts(_: str | None) -> Any:
        found = await call(services.teaching.concepts)
        if isinstance(found, Exception):
            return states.error(found)
        return page.side(found, datetime.now(UTC))


def _save(app: dash.Dash, services: Services) -> None:
    @app.callback(
        Output(ids.TOASTS, "children", allow_duplicate=True),
        Output(ids.REFRESH, "data", allow_duplicate=True),
        Input(ids.TEACH_SAVE, "n_clicks"),
        State(ids.TEACH_NAME, "value"),
        State(ids.URL, "search"),
        running=[(Output(ids.TEACH_SAVE, "disabled"), True, False)],
        prevent_initial_call=True,
    )
    async def save(clicks: int | None, name: str | None, search: str | None) -> tuple[Any, Any]:
        if not clicks:
            return no_update, no_update
        state = TeachState.read(search)
        if not state.plus:
            return toast("Mark at least one image with +"), no_update
        done = await call(
            services.teaching.save, name or "", state.plus, state.minus, author=AUTHOR
        )
        if isinstance(done, Exception):
            return toast(states.message(done), tone="danger"), no_update
        text = f"Saved “{done.name}”, version {done.version}: it labels images that arrive"
        return toast(text), uuid4().hex
