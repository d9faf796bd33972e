"""Callbacks of the outlier page: the ranking, verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import dash
from dash import ALL, Input, Output, State, no_update

from dashboard import ids, ledger, undo
from dashboard.callbacks.calls import AUTHOR, call
from dashboard.callbacks.judging import count, known_of, pressed, settle
from dashboard.components import cards, states
from dashboard.pages import outliers as page
from dashboard.state import OutliersState
from dashboard.views import OutlierPage, VerdictView

if TYPE_CHECKING:
    from dashboard.services import Services


def register(app: dash.Dash, services: Services) -> None:
    """Add the callbacks of the outlier page to one app."""

    def read(state: OutliersState) -> OutlierPage | None:
        if services.live_map() is None:
            return None
        return services.outliers(
            limit=page.PAGE, offset=page.offset(state), verdict=state.show, sort=state.sort
        )

    @app.callback(
        Output(ids.OUTLIERS_LIST, "children"),
        Output(ids.OUTLIERS_CONTROLS, "children"),
        Input(ids.URL, "search"),
        Input(ids.REFRESH, "data"),
    )
    async def show(search: str | None, _: str | None) -> tuple[Any, ...]:
        state = OutliersState.read(search)
        found = await call(read, state)
        if isinstance(found, Exception):
            return states.error(found), page.controls(state)
        # Not an output: the store is there on every page, the other outputs only on this one.
        counts = None if found is None else page.counts(found)
        dash.set_props(ids.OUTLIERS_COUNTS, {"data": counts})
        return page.gallery(found, state), page.controls(state)

    @app.callback(
        Output(ids.OUTLIERS_SUMMARY, "children"),
        Input(ids.OUTLIERS_COUNTS, "data"),
    )
    def summarise(counts: dict[str, int] | None) -> Any:
        return page.summary(counts) if counts else ""

    @app.callback(
        Output(ids.TOASTS, "children", allow_duplicate=True),
        Output(ids.UNDO, "data", allow_duplicate=True),
        Input({"type": "verdict", "image": ALL, "value": ALL}, "n_clicks"),
        State({"type": "verdict-version", "image": ALL}, "id"),
        State({"type": "verdict-version", "image": ALL}, "data"),
        State(ids.UNDO, "data"),
        State(ids.OUTLIERS_COUNTS, "data"),
        prevent_initial_call=True,
    )
    async def judge(
        _: list[int | None],
        cards_: list[dict[str, str]],
        stores: list[dict[str, Any]],
        stack: undo.Stack | None,
        counts: dict[str, int] | None,
    ) -> tuple[Any, Any]:
        press = pressed()
        if press is None:
            return no_update, no_update
        image, value = UUID(press["image"]), press["value"]
        known = known_of(press["image"], "image", cards_, stores)
        if known["verdict"] == value:
            return no_update, no_update
        done = await call(
            services.set_verdict, image, value, author=AUTHOR, expected_version=known["version"]
        )
        count(ids.OUTLIERS_COUNTS, counts, known, done)
        return await settle(
            done,
            subject=ledger.image_subject(image),
            stack=stack,
            said=lambda _: f"Marked as {cards.VERDICT_WORDS[value].lower()}",
            show=_show_verdict,
            reread=lambda: services.verdicts([image])[image],
            word=lambda theirs: cards.VERDICT_WORDS[theirs.verdict].lower() or "undecided",
            mine=cards.VERDICT_WORDS[value].lower(),
        )


def _show_verdict(verdict: VerdictView) -> None:
    image = str(verdict.image_id)
    dash.set_props(ids.verdict_badge(image), {"children": cards.verdict_badge(verdict.verdict)})
    dash.set_props(ids.outlier_card(image), {"className": cards.outlier_class(verdict.verdict)})
    data = {"version": verdict.version, "verdict": verdict.verdict}
    dash.set_props(ids.verdict_version(image), {"data": data})
    for value in ("outlier", "fine"):
        pressed = "true" if verdict.verdict == value else "false"
        dash.set_props(ids.verdict(image, value), {"aria-pressed": pressed})
