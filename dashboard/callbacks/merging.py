"""Callbacks of the bar that merges chosen clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import dash
from dash import ALL, Input, Output, State, ctx, no_update

from dashboard import ids, undo
from dashboard.acts import MergeView
from dashboard.callbacks.calls import AUTHOR, call
from dashboard.components import merging, states
from dashboard.components.toast import toast
from dashboard.components.widgets import plural

if TYPE_CHECKING:
    from dashboard.services import Services


def register(app: dash.Dash, services: Services) -> None:
    """Add the callbacks of the bar to one app."""

    @app.callback(
        Output(ids.CLUSTERS_MERGE, "children"),
        Output(ids.CLUSTERS_MERGE_ASK, "data"),
        Input({"type": "cluster-pick", "key": ALL}, "value"),
    )
    async def ask(boxes: list[list[str] | None]) -> tuple[Any, Any]:
        chosen = [key for box in boxes for key in box or []]
        if len(chosen) < 2:
            return merging.hint(len(chosen)), None
        found = await call(services.decisions.merge_preview, [UUID(key) for key in chosen])
        if not isinstance(found, MergeView):
            return states.error(found), None
        return merging.bar(found), merging.seen(found)

    @app.callback(
        Output({"type": "cluster-pick", "key": ALL}, "value"),
        Input({"type": "clusters-merge-part", "part": "drop"}, "n_clicks"),
        State({"type": "cluster-pick", "key": ALL}, "value"),
        prevent_initial_call=True,
    )
    def drop(clicks: int | None, boxes: list[list[str] | None]) -> list[Any]:
        return [[] if clicks else no_update for _ in boxes]

    @app.callback(
        Output(ids.TOASTS, "children", allow_duplicate=True),
        Output(ids.UNDO, "data", allow_duplicate=True),
        Output(ids.REFRESH, "data", allow_duplicate=True),
        Input({"type": "clusters-merge-part", "part": "do"}, "n_clicks"),
        State({"type": "clusters-merge-part", "part": "name"}, "value"),
        State(ids.CLUSTERS_MERGE_ASK, "data"),
        State(ids.UNDO, "data"),
        prevent_initial_call=True,
    )
    async def merge(
        clicks: int | None,
        typed: str | None,
        seen: dict[str, Any] | None,
        stack: undo.Stack | None,
    ) -> tuple[Any, Any, Any]:
        if not clicks or not seen or not ctx.triggered:
            return no_update, no_update, no_update
        name = (typed or "").strip()
        found = await call(
            services.decisions.merge,
            [UUID(key) for key in seen["keys"]],
            author=AUTHOR,
            versions={UUID(key): version for key, version in seen["versions"].items()},
            name=name,
            name_version=seen["name_version"],
            state=seen["state"],
        )
        if isinstance(found, Exception):
            return toast(states.message(found), tone="danger"), no_update, uuid4().hex
        text = f"{plural(len(seen['keys']), 'cluster')} merged as “{name or seen['name']}”"
        kept = undo.push(stack, found.subject, found.version, text)
        return toast(text, undo=True), kept, uuid4().hex
