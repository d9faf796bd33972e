"""Callbacks of the search page: the history, or one published query again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dash
from dash import Input, Output

from dashboard import ids
from dashboard.callbacks.calls import call
from dashboard.components import states
from dashboard.pages import search as page
from dashboard.state import SearchState

if TYPE_CHECKING:
    from dashboard.services import Services


def register(app: dash.Dash, services: Services) -> None:
    """Add the callbacks of the search page to one app."""

    @app.callback(
        Output(ids.SEARCH_RESULT, "children"),
        Output(ids.SEARCH_SUMMARY, "children"),
        Input(ids.URL, "search"),
        Input(ids.REFRESH, "data"),
    )
    async def show(search: str | None, _: str | None) -> tuple[Any, Any]:
        now = datetime.now(UTC)
        query_id = SearchState.read(search).query
        if query_id is not None:
            found = await call(services.query, query_id, limit=page.HITS)
            if isinstance(found, Exception):
                return states.error(found), ""
            return page.opened(found, now), page.opened_summary(found)
        queries = await call(services.queries, page.HISTORY)
        if isinstance(queries, Exception):
            return states.error(queries), ""
        return page.history(queries, now), page.summary(queries)
