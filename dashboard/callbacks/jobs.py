"""Callbacks of the job page: the list, kept fresh; cancelling and running again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import dash
from dash import ALL, Input, Output, ctx, no_update

from dashboard import ids
from dashboard.callbacks.calls import call
from dashboard.components import states
from dashboard.components.toast import toast
from dashboard.pages import jobs as page
from dashboard.state import JobsState

if TYPE_CHECKING:
    from dashboard.services import Services


def register(app: dash.Dash, services: Services) -> None:
    """Add the callbacks of the job page to one app."""

    @app.callback(
        Output(ids.JOBS_LIST, "children"),
        Output(ids.JOBS_SUMMARY, "children"),
        Output(ids.JOBS_TICK, "interval"),
        Input(ids.JOBS_TICK, "n_intervals"),
        Input(ids.REFRESH, "data"),
        Input(ids.URL, "search"),
    )
    async def show(_: int | None, __: str | None, search: str | None) -> tuple[Any, ...]:
        found = await call(services.jobs, page.LIMIT)
        if isinstance(found, Exception):
            return states.error(found), "", page.IDLE_MS
        interval = page.BUSY_MS if page.busy(found) else page.IDLE_MS
        opened = JobsState.read(search).job
        version = await call(services.live_map)
        placed = 0 if isinstance(version, Exception) or version is None else version.placed
        said = page.summary(found, placed)
        return page.listing(found, datetime.now(UTC), opened), said, interval

    @app.callback(
        Output(ids.TOASTS, "children", allow_duplicate=True),
        Output(ids.REFRESH, "data", allow_duplicate=True),
        Input({"type": "job-cancel", "job": ALL}, "n_clicks"),
        prevent_initial_call=True,
    )
    async def cancel(clicks: list[int | None]) -> tuple[Any, Any]:
        if not any(clicks) or not isinstance(ctx.triggered_id, dict):
            return no_update, no_update
        job = await call(services.cancel_job, UUID(ctx.triggered_id["job"]))
        if isinstance(job, Exception):
            return toast(states.message(job), tone="danger"), no_update
        text = "Job cancelled" if job.state == "cancelled" else "The job stops at its next step"
        return toast(text), datetime.now(UTC).isoformat()

    @app.callback(
        Output(ids.TOASTS, "children", allow_duplicate=True),
        Output(ids.REFRESH, "data", allow_duplicate=True),
        Input({"type": "job-again", "job": ALL}, "n_clicks"),
        prevent_initial_call=True,
    )
    async def again(clicks: list[int | None]) -> tuple[Any, Any]:
        if not any(clicks) or not isinstance(ctx.triggered_id, dict):
            return no_update, no_update
        job = await call(services.run_again, UUID(ctx.triggered_id["job"]))
        if isinstance(job, Exception):
            return toast(states.message(job), tone="danger"), no_update
        return toast("Queued again: finished steps are kept"), datetime.now(UTC).isoformat()
