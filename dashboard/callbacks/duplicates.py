"""Callbacks of the page of near-duplicates: groups, the curve, decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import dash
from dash import ALL, Input, Output, State, no_update

from dashboard import doubles, figures, ids, undo
from dashboard.callbacks.calls import AUTHOR, call
from dashboard.callbacks.judging import count, known_of, pressed, settle
from dashboard.components import groups, states
from dashboard.doubles import DuplicateGroupView, DuplicatePage
from dashboard.pages import duplicates as page
from dashboard.state import DuplicatesState

if TYPE_CHECKING:
    from dashboard.services import Services


def register(app: dash.Dash, services: Services) -> None:
    """Add the callbacks of the page of near-duplicates to one app."""

    def read(state: DuplicatesState) -> DuplicatePage | None:
        if services.live_map() is None:
            return None
        return services.duplicates(limit=page.PAGE, offset=page.offset(state), verdict=state.show)

    @app.callback(
        Output(ids.DUPLICATES_LIST, "children"),
        Output(ids.DUPLICATES_CONTROLS, "children"),
        Output(ids.DUPLICATES_BASIS, "children"),
        Output(ids.DUPLICATES_QUALITY, "hidden"),
        Output(ids.DUPLICATES_CHART, "figure"),
        Input(ids.URL, "search"),
        Input(ids.REFRESH, "data"),
        Input(ids.THEME, "data"),
    )
    async def show(search: str | None, _: str | None, theme: str | None) -> tuple[Any, ...]:
        state = DuplicatesState.read(search)
        found = await call(read, state)
        if isinstance(found, Exception):
            return states.error(found), page.controls(state), "", True, no_update
        # Not an output: the store is there on every page, the other outputs only on this one.
        counts = None if found is None or not found.looked else page.counts(found)
        dash.set_props(ids.DUPLICATES_COUNTS, {"data": counts})
        chart, text, hidden = figures.blank(), "", True
        if found is not None and found.looked:
            text, hidden = page.basis(found), not found.curve
            chart = figures.copy_curve(found.curve, found.threshold, theme)
        return page.listing(found, state), page.controls(state), text, hidden, chart

    @app.callback(
        Output(ids.DUPLICATES_SUMMARY, "children"),
        Input(ids.DUPLICATES_COUNTS, "data"),
    )
    def summarise(counts: dict[str, int] | None) -> Any:
        return page.summary(counts) if counts else ""

    _register_decisions(app, services)


def _register_decisions(app: dash.Dash, services: Services) -> None:
    @app.callback(
        Output(ids.TOASTS, "children", allow_duplicate=True),
        Output(ids.UNDO, "data", allow_duplicate=True),
        Input({"type": ids.DUPLICATE_VERDICT, "group": ALL, "value": ALL}, "n_clicks"),
        State({"type": ids.DUPLICATE_VERSION, "group": ALL}, "id"),
        State({"type": ids.DUPLICATE_VERSION, "group": ALL}, "data"),
        State(ids.UNDO, "data"),
        State(ids.DUPLICATES_COUNTS, "data"),
        prevent_initial_call=True,
    )
    async def decide(
        _: list[int | None],
        rows: list[dict[str, str]],
        stores: list[dict[str, Any]],
        stack: undo.Stack | None,
        counts: dict[str, int] | None,
    ) -> tuple[Any, Any]:
        press = pressed()
        if press is None:
            return no_update, no_update
        key, value = UUID(press["group"]), press["value"]
        known = known_of(press["group"], "group", rows, stores)
        if known["verdict"] == value and not known["changed"]:
            return no_update, no_update
        done = await call(
            services.decide_duplicates,
            key,
            value,
            author=AUTHOR,
            expected_version=known["version"],
        )
        count(ids.DUPLICATES_COUNTS, counts, known, done)
        return await settle(
            done,
            subject=doubles.subject(key),
            stack=stack,
            said=lambda _: f"Marked as {groups.WORDS[value].lower()}",
            show=_show_verdict,
            reread=lambda: services.duplicate_group(key, limit=1).group,
            word=lambda theirs: groups.WORDS[theirs.verdict].lower() or "undecided",
            mine=groups.WORDS[value].lower(),
        )


def _show_verdict(group: DuplicateGroupView) -> None:
    key = str(group.key)
    dash.set_props(ids.duplicate_badge(key), {"children": groups.verdict_badge(group)})
    dash.set_props(ids.duplicate_row(key), {"className": groups.row_class(group.verdict)})
    data = {"version": group.version, "verdict": group.verdict, "changed": group.changed}
    dash.set_props(ids.duplicate_version(key), {"data": data})
    for value in doubles.VERDICTS:
        pressed = "true" if group.verdict == value else "false"
        dash.set_props(ids.duplicate_verdict(key, value), {"aria-pressed": pressed})
