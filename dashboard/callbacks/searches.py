"""Callbacks of the search page: the history or one query, names, asking again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import dash
from dash import ALL, Input, Output, State, ctx, no_update

from dashboard import ids
from dashboard.callbacks.calls import call
from dashboard.components import states
from dashboard.components.toast import toast
from dashboard.pages import search as page
from dashboard.state import SearchState

if TYPE_CHECKING:
    from dashboard.services import Services


def register(app: dash.Dash, services: Services) -> None:
    """Add the callbacks of the search page to one app."""
    _show(app, services)
    _rename(app, services)
    _run(app, services)


def _show(app: dash.Dash, services: Services) -> None:
    @app.callback(
        Output(ids.SEARCH_RESULT, "children"),
        Output(ids.SEARCH_SUMMARY, "children"),
        Input(ids.URL, "search"),
        Input(ids.REFRESH, "data"),
    )
    async def show(search: str | None, _: str | None) -> tuple[Any, Any]:
        now, state = datetime.now(UTC), SearchState.read(search)
        known = await call(services.columns)
        columns = () if isinstance(known, Exception) else known  # names of filters, no more
        if state.query is not None:
            found = await call(services.query, state.query, limit=page.HITS, after=state.after)
            if isinstance(found, Exception):
                return states.error(found), ""
            return page.opened(found, now, columns, state.after), page.opened_summary(found)
        queries = await call(services.queries, page.HISTORY)
        if isinstance(queries, Exception):
            return states.error(queries), ""
        return page.history(queries, now, columns), page.summary(queries)


def _rename(app: dash.Dash, services: Services) -> None:
    @app.callback(
        Output(ids.TOASTS, "children", allow_duplicate=True),
        Input({"type": "query-name", "query": ALL}, "value"),
        State({"type": "query-name", "query": ALL}, "id"),
        State({"type": "query-known", "query": ALL}, "data"),
        prevent_initial_call=True,
    )
    async def rename(
        values: list[str | None], fields: list[dict[str, str]], names: list[str]
    ) -> Any:
        trigger = ctx.triggered_id
        if not isinstance(trigger, dict) or ctx.triggered[0]["value"] is None:
            return no_update
        key = trigger["query"]
        at = [field["query"] for field in fields].index(key)
        typed = " ".join((values[at] or "").split())
        if typed == names[at]:
            return no_update
        done = await call(services.rename_query, UUID(key), typed)
        if isinstance(done, Exception):
            dash.set_props(ids.query_message(key), {"children": states.message(done)})
            return no_update
        dash.set_props(ids.query_message(key), {"children": None})
        dash.set_props(ids.query_known(key), {"data": done.name})
        dash.set_props(ids.query_name(key), {"value": done.name})
        return toast(f"Named “{done.name}”" if done.name else "The name was removed")


def _run(app: dash.Dash, services: Services) -> None:
    def again(query_id: UUID) -> UUID:
        return services.search(services.asked(query_id)).query_id

    @app.callback(
        Output(ids.URL, "search", allow_duplicate=True),
        Output(ids.REFRESH, "data", allow_duplicate=True),
        Output(ids.TOASTS, "children", allow_duplicate=True),
        Input({"type": "query-run", "query": ALL}, "n_clicks"),
        State(ids.URL, "search"),
        prevent_initial_call=True,
    )
    async def run(clicks: list[int | None], search: str | None) -> tuple[Any, Any, Any]:
        trigger = ctx.triggered_id
        if not isinstance(trigger, dict) or not any(clicks):
            return no_update, no_update, no_update
        found = await call(again, UUID(trigger["query"]))
        if isinstance(found, Exception):
            return no_update, no_update, toast(states.message(found), tone="danger")
        address = SearchState(query=found).write()
        # Asked of what has not changed it is the same query: the page reads it again.
        changed = datetime.now(UTC).isoformat() if address == search else no_update
        return address, changed, toast("Asked again")
