"""Callbacks of the page of changes: the two maps from the address, sections, chart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dash
from dash import Input, Output, State, no_update

from dashboard import figures, ids
from dashboard.callbacks.calls import call
from dashboard.changes import ChangesView, VersionView
from dashboard.components import states
from dashboard.pages import changes as page
from dashboard.state import ChangesState

if TYPE_CHECKING:
    from dashboard.services import Services


def register(app: dash.Dash, services: Services) -> None:
    """Add the callbacks of the page of changes to one app."""

    def read(state: ChangesState) -> tuple[ChangesView | None, tuple[VersionView, ...]]:
        if services.live_map() is None:
            return None, ()
        found = services.changes(state.before, state.after, limit=page.OUTLIERS)
        return found, services.versions()

    @app.callback(
        Output(ids.CHANGES_LIST, "children"),
        Output(ids.CHANGES_SUMMARY, "children"),
        Output(ids.CHANGES_CONTROLS, "children"),
        Input(ids.URL, "search"),
        Input(ids.REFRESH, "data"),
    )
    async def show(search: str | None, _: str | None) -> tuple[Any, ...]:
        found = await call(read, ChangesState.read(search))
        if isinstance(found, Exception):
            return states.error(found), "", no_update
        view, versions = found
        said = "" if view is None else page.summary(view)
        return page.listing(view, versions), said, page.controls(versions, view)

    @app.callback(
        Output(ids.CHANGES_CHART, "figure"),
        Output(f"{ids.CHANGES_CHART}-box", "hidden"),
        Input(ids.THEME, "data"),
        Input(ids.CHANGES_LIST, "children"),
        State(ids.URL, "search"),
    )
    async def chart(theme: str | None, _: Any, search: str | None) -> Any:
        if theme is None:  # the browser has not said yet
            return no_update, True
        state = ChangesState.read(search)
        found = await call(services.changes, state.before, state.after, limit=0)
        if found is None or isinstance(found, Exception):
            return no_update, True
        shifts = [each for each in found.clusters if each.shift is not None]
        return figures.cluster_shifts(shifts, theme), not shifts
