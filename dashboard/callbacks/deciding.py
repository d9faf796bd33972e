"""Callbacks of the pages about a selection: label it, split it off, spread a label."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import dash
from dash import Input, Output, State, no_update

from analytics.maps.regions import Selection
from dashboard import ids, undo
from dashboard.acts import DoneView, SplitView
from dashboard.callbacks.calls import AUTHOR, call
from dashboard.components import states
from dashboard.components.toast import toast
from dashboard.components.widgets import plural
from dashboard.pages import decide as page
from dashboard.pages import spread as spread_page
from dashboard.places import SpreadState, selection_of
from dashboard.state import ExploreState

if TYPE_CHECKING:
    from dashboard.services import Services


def register(app: dash.Dash, services: Services) -> None:
    """Add the callbacks of both pages to one app."""
    _selection(app, services)
    _acts(app, services)
    _spread(app, services)


def _selection(app: dash.Dash, services: Services) -> None:
    @app.callback(
        Output(ids.DECIDE_BODY, "children"),
        Input(ids.URL, "search"),
        Input(ids.REFRESH, "data"),
    )
    async def show(search: str | None, _: str | None) -> Any:
        state = selection_of(search)
        if not (state.polygons or state.filters):
            return states.empty("Nothing selected", "Select images on the map first.")
        found = await call(services.select, state.selection(), limit=page.PAGE, map_id=state.map_id)
        if isinstance(found, Exception):
            return states.error(found)
        split = await call(_preview, services, state, [])
        return page.body(found, split if isinstance(split, SplitView) else None)

    @app.callback(
        Output(ids.DECIDE_FACTS, "children"),
        Output(ids.DECIDE_SPLIT_TEXT, "children"),
        Output(ids.DECIDE_SEEN, "data"),
        Input(ids.DECIDE_PICKS, "value"),
        State(ids.DECIDE_SEEN, "data"),
        State(ids.URL, "search"),
        prevent_initial_call=True,
    )
    async def picked(
        chosen: list[str], seen: dict[str, Any], search: str | None
    ) -> tuple[Any, Any, Any]:
        split = await call(_preview, services, selection_of(search), chosen)
        known = split if isinstance(split, SplitView) else None
        total = int(seen["total"])
        return page.facts(total, len(chosen)), page.split_text(known), page.seen(total, known)


def _preview(services: Services, state: ExploreState, chosen: list[str]) -> SplitView:
    return services.decisions.split_preview(
        Selection.from_json(state.selection()),
        map_id=state.map_id,
        images=[UUID(each) for each in chosen],
    )


def _acts(app: dash.Dash, services: Services) -> None:
    done = (
        Output(ids.TOASTS, "children", allow_duplicate=True),
        Output(ids.UNDO, "data", allow_duplicate=True),
        Output(ids.REFRESH, "data", allow_duplicate=True),
    )
    asked = (
        State(ids.DECIDE_PICKS, "value"),
        State(ids.DECIDE_SEEN, "data"),
        State(ids.URL, "search"),
        State(ids.UNDO, "data"),
    )

    @app.callback(
        *done,
        Input(ids.DECIDE_LABEL_DO, "n_clicks"),
        State(ids.DECIDE_LABEL, "value"),
        *asked,
        running=[(Output(ids.DECIDE_LABEL_DO, "disabled"), True, False)],
        prevent_initial_call=True,
    )
    async def label(  # noqa: PLR0917 - Dash passes by place
        clicks: int | None,
        text: str | None,
        chosen: list[str] | None,
        seen: dict[str, Any],
        search: str | None,
        stack: undo.Stack | None,
    ) -> tuple[Any, Any, Any]:
        if not clicks:
            return no_update, no_update, no_update
        state = selection_of(search)

        def decide() -> DoneView:
            images = [UUID(each) for each in chosen or []]
            if not images:
                selection = Selection.from_json(state.selection())
                images = services.decisions.selected(selection, state.map_id)
            since = datetime.fromisoformat(seen["at"])
            return services.decisions.label(images, text or "", author=AUTHOR, since=since)

        named = (text or "").strip()
        said = f"labelled “{named}”" if named else "lost their label"
        return _told(await call(decide), said, stack)

    @app.callback(
        *done,
        Input(ids.DECIDE_SPLIT_DO, "n_clicks"),
        State(ids.DECIDE_SPLIT, "value"),
        *asked,
        running=[(Output(ids.DECIDE_SPLIT_DO, "disabled"), True, False)],
        prevent_initial_call=True,
    )
    async def split(  # noqa: PLR0917 - Dash passes by place
        clicks: int | None,
        name: str | None,
        chosen: list[str] | None,
        seen: dict[str, Any],
        search: str | None,
        stack: undo.Stack | None,
    ) -> tuple[Any, Any, Any]:
        if not clicks:
            return no_update, no_update, no_update
        state = selection_of(search)
        found = await call(
            services.decisions.split,
            Selection.from_json(state.selection()),
            map_id=state.map_id,
            images=[UUID(each) for each in chosen or []],
            name=name or "",
            author=AUTHOR,
            versions={UUID(key): version for key, version in seen["versions"].items()},
        )
        return _told(found, f"split off as “{(name or '').strip()}”", stack, one=True)


def _told(
    found: DoneView | Exception, said: str, stack: undo.Stack | None, *, one: bool = False
) -> tuple[Any, Any, Any]:
    """The toast of an act, the undo stack with it, and a sign that pages ask again."""
    if isinstance(found, Exception):
        return toast(states.message(found), tone="danger"), no_update, no_update
    text = said[:1].upper() + said[1:] if one else f"{plural(found.appended, 'image')} {said}"
    shown = text
    if found.unchanged:
        shown += f", {found.unchanged:,} had it already"
    if found.conflicts:
        shown += (
            f". {len(found.conflicts):,} were decided by others meanwhile and stay: "
            f"{found.conflicts[0]}"
        )
    if not found.appended:
        return toast(shown, tone="danger" if found.conflicts else "plain"), no_update, uuid4().hex
    kept = undo.push(stack, found.subject, found.version, text)
    tone = "danger" if found.conflicts else "plain"
    return toast(shown, undo=True, tone=tone), kept, uuid4().hex


def _spread(app: dash.Dash, services: Services) -> None:
    @app.callback(
        Output(ids.SPREAD_BODY, "children"),
        Output(ids.SPREAD_FACTS, "children"),
        Output(ids.SPREAD_SEEN, "data"),
        Output(ids.SPREAD_DO, "disabled"),
        Input(ids.URL, "search"),
        Input(ids.REFRESH, "data"),
        running=[(Output(ids.SPREAD_BODY, "className"), "is-loading", "")],
    )
    async def show(search: str | None, _: str | None) -> tuple[Any, Any, Any, bool]:
        state = SpreadState.read(search)
        found = await call(services.decisions.spread_preview, state.label, state.k)
        if isinstance(found, Exception):
            return spread_page.nothing(states.error(found)), "", None, True
        return (
            spread_page.body(found),
            spread_page.facts(found),
            found.at.isoformat(),
            not found.near,
        )

    @app.callback(
        Output(ids.SPREAD_DO, "children"),
        Input(ids.SPREAD_PICKS, "value"),
    )
    def counted(chosen: list[str] | None) -> str:
        return f"Label {plural(len(chosen or []), 'image')}"

    @app.callback(
        Output(ids.TOASTS, "children", allow_duplicate=True),
        Output(ids.UNDO, "data", allow_duplicate=True),
        Output(ids.REFRESH, "data", allow_duplicate=True),
        Input(ids.SPREAD_DO, "n_clicks"),
        State(ids.SPREAD_PICKS, "value"),
        State(ids.SPREAD_SEEN, "data"),
        State(ids.URL, "search"),
        State(ids.UNDO, "data"),
        prevent_initial_call=True,
    )
    async def apply(
        clicks: int | None,
        chosen: list[str] | None,
        seen: str | None,
        search: str | None,
        stack: undo.Stack | None,
    ) -> tuple[Any, Any, Any]:
        if not clicks or not seen:
            return no_update, no_update, no_update
        if not chosen:
            return toast("Check at least one picture"), no_update, no_update
        state = SpreadState.read(search)
        found = await call(
            services.decisions.spread,
            state.label,
            [UUID(each) for each in chosen],
            k=state.k,
            author=AUTHOR,
            since=datetime.fromisoformat(seen),
        )
        return _told(found, f"labelled “{state.label}”", stack)
