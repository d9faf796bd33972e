"""Callbacks of the frame: which page, the badge of running jobs, undo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import dash
from dash import ClientsideFunction, Input, Output, State, no_update

from dashboard import ids, undo
from dashboard.callbacks.calls import AUTHOR, call
from dashboard.components import shell, states
from dashboard.components.toast import toast
from dashboard.pages import routes

if TYPE_CHECKING:
    from dashboard.services import Services


def register(app: dash.Dash, services: Services) -> None:
    """Add the callbacks of the frame to one app."""

    @app.callback(
        Output(ids.PAGE, "children"),
        Output(ids.NAV, "children"),
        Output(ids.TITLE, "data"),
        Input(ids.URL, "pathname"),
        State(ids.URL, "search"),
    )
    def route(pathname: str | None, search: str | None) -> tuple[Any, ...]:
        title, layout = routes.page(pathname, search)
        return layout, shell.navigation(pathname), title

    @app.callback(
        Output(ids.JOB_BADGE, "children"),
        Input(ids.JOB_BADGE_TICK, "n_intervals"),
    )
    async def badge(_: int | None) -> list[Any]:
        found = await call(services.jobs, 20)
        if isinstance(found, Exception):
            return shell.job_badge(0, failed=True)
        return shell.job_badge(sum(job.state == "running" for job in found))

    @app.callback(
        Output(ids.UNDO, "data", allow_duplicate=True),
        Output(ids.REFRESH, "data"),
        Output(ids.TOASTS, "children", allow_duplicate=True),
        Input(ids.UNDO_KEY, "n_clicks"),
        State(ids.UNDO, "data"),
        prevent_initial_call=True,
    )
    async def take_back(_: int | None, stack: undo.Stack | None) -> tuple[Any, ...]:
        newest = undo.top(stack)
        if newest is None:
            return no_update, no_update, toast("Nothing to undo")
        subject, version, label = newest
        done = await call(services.undo, subject, author=AUTHOR, expected_version=version)
        changed = uuid4().hex
        if isinstance(done, Exception):
            return undo.pop(stack, None), changed, toast(states.message(done), tone="danger")
        return undo.pop(stack, done.version), changed, toast(f"Undone: {label}")

    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("sightline", "title"),
        Output(ids.TITLE, "modified_timestamp"),
        Input(ids.TITLE, "data"),
    )
