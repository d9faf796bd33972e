"""Callbacks of Explore: a move gives the next state, the state gives map, panel and facets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import dash
from dash import ALL, ClientsideFunction, Input, Output, State, ctx, no_update

from cql.errors import NotFoundError
from dashboard import ids, moves, present
from dashboard.answers import AskedView, SearchView
from dashboard.callbacks.calls import call
from dashboard.components import details, facets, gallery, states, terms
from dashboard.pages import explore
from dashboard.places import selection_of
from dashboard.state import ExploreState
from dashboard.terms import Terms

if TYPE_CHECKING:
    from dashboard.services import Services


def register(app: dash.Dash, services: Services) -> None:
    """Add the callbacks of Explore to one app."""
    _page(app, services)
    _moves(app)
    _state(app, services)
    _panel(app, services)
    _selection(app, services)


def _page(app: dash.Dash, services: Services) -> None:
    @app.callback(
        Output(ids.EXPLORE_ROOT, "children"),
        Output(ids.EXPLORE_TICK, "disabled"),
        Input(ids.EXPLORE_TICK, "n_intervals"),
        Input(ids.REFRESH, "data"),
        State(ids.URL, "search"),
        State(ids.EXPLORE_TICK, "disabled"),
    )
    async def fill(
        _tick: int | None, _refresh: str | None, search: str | None, done: bool | None
    ) -> tuple[Any, Any]:
        if done:
            return no_update, no_update
        state = ExploreState.read(search)
        version = await call(services.map, state.map_id)
        if isinstance(version, NotFoundError) and state.map_id is None:
            collection = await call(services.collection)
            if isinstance(collection, Exception):
                return states.error(collection), False
            return explore.waiting(collection), False
        if isinstance(version, Exception):
            return states.error(version), False
        found = await call(services.edited_columns, version.map_id)
        if isinstance(found, Exception):
            return states.error(found), False
        edition, columns = found
        return explore.body(state, version, columns, edition), True

    @app.callback(
        Output(ids.EXPLORE_MAP, "placed"),
        Output(ids.EXPLORE_PLACED, "children"),
        Input(ids.EXPLORE_LOOK, "n_intervals"),
        State(ids.EXPLORE_MAP, "mapId"),
        State(ids.EXPLORE_MAP, "placed"),
        prevent_initial_call=True,
    )
    async def look(_look: int | None, map_id: str, placed: int | None) -> tuple[Any, Any]:
        version = await call(services.map, UUID(map_id))
        # The map stays as it is shown while it cannot be asked.
        # A worker that has not looked for a moment may know of fewer.
        if isinstance(version, Exception) or version.placed <= (placed or 0):
            return no_update, no_update
        return version.placed, explore.placed(version)

    @app.callback(
        Output(ids.EXPLORE_MAP, "edition"),
        Output(ids.EXPLORE_COLOUR, "options"),
        Output(ids.EXPLORE_COLOUR, "value"),
        Input(ids.EXPLORE_LOOK, "n_intervals"),
        State(ids.EXPLORE_MAP, "mapId"),
        State(ids.EXPLORE_MAP, "edition"),
        State(ids.EXPLORE_COLOUR, "value"),
        prevent_initial_call=True,
    )
    async def renew(
        _look: int | None, map_id: str, known: str | None, colour: str
    ) -> tuple[Any, Any, Any]:
        found = await call(services.edited_columns, UUID(map_id))
        if isinstance(found, Exception) or found[0] == known:
            return no_update, no_update, no_update
        edition, columns = found
        shown = explore.coloured(colour, columns)
        return edition, explore.options(columns), no_update if shown == colour else shown


def _moves(app: dash.Dash) -> None:
    @app.callback(
        Output(ids.EXPLORE_STATE, "data"),
        Input(ids.URL, "search"),
        Input(ids.EXPLORE_MAP, "clicked"),
        Input(ids.EXPLORE_MAP, "selection"),
        Input(ids.EXPLORE_MAP, "legend"),
        Input(ids.EXPLORE_MAP, "cleared"),
        Input(ids.EXPLORE_MAP, "camera"),
        Input(ids.EXPLORE_UPLOAD, "query"),
        Input(ids.EXPLORE_COLOUR, "value"),
        Input({"type": ids.EXPLORE_CLEAR, "at": ALL}, "n_clicks"),
        Input({"type": ids.EXPLORE_BACK, "at": ALL}, "n_clicks"),
        Input({"type": ids.EXPLORE_HIT, "image": ALL, "place": ALL}, "n_clicks"),
        Input({"type": ids.EXPLORE_FACET, "column": ALL, "value": ALL}, "n_clicks"),
        Input({"type": ids.EXPLORE_RANGE, "column": ALL, "side": ALL}, "value"),
        Input({"type": ids.EXPLORE_CHIP, "kind": ALL, "name": ALL}, "n_clicks"),
        Input({"type": ids.EXPLORE_OPTION, "name": ALL, "now": ALL}, "value"),
        Input({"type": ids.EXPLORE_STOCK, "to": ALL}, "n_clicks"),
        Input({"type": ids.EXPLORE_MARK, "image": ALL, "sign": ALL}, "n_clicks"),
        Input({"type": ids.EXPLORE_EXAMPLE, "image": ALL}, "n_clicks"),
        State(ids.EXPLORE_STATE, "data"),
        State(ids.URL, "pathname"),
        prevent_initial_call=True,
    )
    def move(*values: Any) -> Any:
        data, pathname = values[-2:]
        if (pathname or ids.PATH_EXPLORE) != ids.PATH_EXPLORE:
            return no_update
        before = ExploreState.read(data)
        after = before
        for event in ctx.triggered:
            name, _, prop = event["prop_id"].rpartition(".")
            source: Any = ctx.triggered_prop_ids.get(event["prop_id"], name)
            after = apply(after, source, prop, event["value"])
        return no_update if after == before else after.write()


Handler = Callable[[ExploreState, Any], ExploreState]

_PLAIN: dict[tuple[str, str], Handler] = {
    (ids.URL, "search"): lambda _, value: ExploreState.read(value),
    (ids.EXPLORE_MAP, "clicked"): lambda state, v: moves.open_image(state, v["image_id"]),
    (ids.EXPLORE_MAP, "selection"): lambda state, v: moves.select(state, v["polygon"], v["mode"]),
    (ids.EXPLORE_MAP, "legend"): lambda state, v: moves.only(state, v["column"], v["values"]),
    (ids.EXPLORE_MAP, "cleared"): lambda state, _: moves.escape(state),
    (ids.EXPLORE_MAP, "camera"): moves.look,
    (ids.EXPLORE_UPLOAD, "query"): lambda state, v: moves.open_query(state, v["query_id"]),
    (ids.EXPLORE_COLOUR, "value"): moves.colour_by,
}

_PRESSED: dict[str, Handler] = {
    ids.EXPLORE_CLEAR: lambda state, _: moves.clear(state),
    ids.EXPLORE_BACK: lambda state, _: moves.close(state),
    ids.EXPLORE_HIT: lambda state, source: moves.open_image(state, source["image"]),
    ids.EXPLORE_FACET: lambda state, s: moves.toggle(state, s["column"], s["value"]),
    ids.EXPLORE_CHIP: lambda state, source: moves.drop(state, source["kind"], source["name"]),
    ids.EXPLORE_STOCK: lambda state, source: moves.option(state, "stock", source["to"]),
    ids.EXPLORE_MARK: lambda state, source: moves.mark(state, source["image"], source["sign"]),
    ids.EXPLORE_EXAMPLE: lambda state, source: moves.forget(state, source["image"]),
}


def apply(state: ExploreState, source: str | dict[str, Any], prop: str, value: Any) -> ExploreState:
    """Return the state after one event; a value of None is a part that was just put on the page."""
    if isinstance(source, str):
        handler = _PLAIN.get((source, prop))
        absent = value is None and source != ids.URL
        return state if handler is None or absent else handler(state, value)
    kind = str(source.get("type"))
    if kind == ids.EXPLORE_RANGE:
        now = next((f for f in state.filters if f.column == source["column"]), None)
        if value == (getattr(now, source["side"]) if now else None):
            return state
        return moves.bound(state, source["column"], source["side"], value)
    if kind == ids.EXPLORE_OPTION:
        same = value is None or str(value) == source["now"]
        return state if same else moves.option(state, source["name"], value)
    press = _PRESSED.get(kind)
    return press(state, source) if press and value else state


def _state(app: dash.Dash, services: Services) -> None:
    @app.callback(
        Output(ids.EXPLORE_FOCUS, "data"),
        Output(ids.EXPLORE_ASK, "data"),
        Output(ids.EXPLORE_NARROW, "data"),
        Output(ids.EXPLORE_MAP, "colour"),
        Output(ids.EXPLORE_MAP, "filters"),
        Output(ids.EXPLORE_CHIPS, "children"),
        Input(ids.EXPLORE_STATE, "data"),
        Input(ids.EXPLORE_MAP, "mapId"),
        State(ids.EXPLORE_FOCUS, "data"),
        State(ids.EXPLORE_ASK, "data"),
        State(ids.EXPLORE_NARROW, "data"),
        State(ids.EXPLORE_MAP, "colour"),
    )
    async def derive(data: str, map_id: str, *known: Any) -> Any:
        focus, ask, narrow, colour = known
        state = ExploreState.read(data)
        now = {
            "image": str(state.image) if state.image else None,
            "query": str(state.query) if state.query else None,
            "map": map_id,
        }
        selection = {**state.selection(), "map": map_id}
        turned = no_update if state.colour == colour else state.colour
        asked: dict[str, Any] = {**now, "terms": state.terms.pairs()}
        if state.terms.scope == "filter":
            asked["selection"] = state.selection()
        # As it comes back from the browser.
        asked = json.loads(json.dumps(asked))
        look_at = no_update if focus == now else now
        look_for = no_update if ask == asked else asked
        if narrow == selection:
            return look_at, look_for, no_update, turned, no_update, no_update
        columns = await call(services.columns, UUID(map_id))
        named = () if isinstance(columns, Exception) else columns
        return look_at, look_for, selection, turned, state.selection(), facets.chips(state, named)

    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("sightline_explore", "address"),
        Output(ids.EXPLORE_ADDRESS, "data"),
        Input(ids.EXPLORE_STATE, "data"),
        State(ids.EXPLORE_MAP, "id"),
        State(ids.EXPLORE_COLOUR, "id"),
        prevent_initial_call=True,
    )


def _panel(app: dash.Dash, services: Services) -> None:
    @app.callback(
        Output(ids.EXPLORE_DETAIL, "children"),
        Output(ids.EXPLORE_GALLERY, "hidden"),
        Input(ids.EXPLORE_FOCUS, "data"),
        Input(ids.REFRESH, "data"),
        running=[(Output(ids.EXPLORE_DETAIL, "className"), "is-loading", "")],
    )
    async def show(focus: dict[str, str | None] | None, _refresh: str | None) -> tuple[Any, bool]:
        if not focus or not (focus["image"] or focus["query"]):
            return [], False
        if focus["query"]:
            query = await call(services.query, UUID(focus["query"]))
            if isinstance(query, Exception):
                return [details.back(), states.error(query)], True
            return [details.back(), gallery.asked(query)], True
        image = await call(services.image, UUID(str(focus["image"])))
        if isinstance(image, Exception):
            return [details.back(), states.error(image)], True
        listing = await call(services.listing, image.listing_id)
        if isinstance(listing, Exception):
            return [details.back(), states.error(listing)], True
        stocks = await _stocks(services, [image.listing_id])
        guess = await call(services.classes.prediction, image.image_id)
        known = None if isinstance(guess, Exception) else guess
        shown = details.details(image, listing, stocks.get(image.listing_id), known)
        return [details.back(), *shown], True

    @app.callback(
        Output(ids.EXPLORE_HITS, "children"),
        Output(ids.EXPLORE_MAP, "selected"),
        Output(ids.EXPLORE_MAP, "highlight"),
        Output(ids.EXPLORE_MAP, "dimmed"),
        Input(ids.EXPLORE_ASK, "data"),
        Input(ids.REFRESH, "data"),
        running=[(Output(ids.EXPLORE_HITS, "className"), "is-loading", "")],
    )
    async def similar(ask: dict[str, Any] | None, _refresh: str | None) -> tuple[Any, ...]:
        if not ask or not (ask["image"] or ask["query"]):
            return [], None, [], False
        image = UUID(ask["image"]) if ask["image"] else None
        (asked, found), known = await asyncio.gather(
            asyncio.to_thread(_found, services, ask, image), call(services.models)
        )
        models = () if isinstance(known, Exception) else known  # no choice, but an answer
        shown = [] if isinstance(found, Exception) else [hit.image_id for hit in found.hits]
        own = [image] if image else []
        placed = await call(services.row_of, [*own, *shown[: gallery.HITS]], UUID(ask["map"]))
        rows = {} if isinstance(placed, Exception) else placed
        selected = rows.get(image) if image else None
        head: list[Any] = [gallery.similar_title()] if image else []
        if asked is not None:
            answered = None if isinstance(found, Exception) else found.query_id
            head += [
                terms.options(asked, answered, models),
                terms.examples(asked, image),
                terms.teach(asked),
            ]
        if isinstance(found, Exception):
            # The panel above tells what is wrong with a query; a search of its own tells here.
            return [*head, states.error(found)] if head else [], selected, [], selected is not None
        highlight = gallery.row_numbers(found.hits, rows)
        stocks = await _stocks(services, [hit.listing_id for hit in found.hits[: gallery.HITS]])
        head += terms.complete(found)
        return [*head, *gallery.hits(found, image, stocks)], selected, highlight, True


def _found(
    services: Services, ask: dict[str, Any], image: UUID | None
) -> tuple[AskedView | None, SearchView | Exception]:
    """What the panel asks and its answer; a published search that nothing is added to is read."""
    wanted = Terms.read((str(key), str(value)) for key, value in ask["terms"])
    try:
        base = None
        if image is None:
            query_id = UUID(ask["query"])
            if wanted == Terms():
                found = services.query(query_id, limit=gallery.HITS)
                return found, found
            base = services.asked(query_id)
        request = wanted.request(
            image=image, base=base, selection=ask.get("selection", {}), map_id=UUID(ask["map"])
        )
    except Exception as problem:  # noqa: BLE001  a page shows every error
        return None, problem
    asked = present.asked_view(request)
    try:
        return asked, services.search(request)
    except Exception as problem:  # noqa: BLE001  a page shows every error
        return asked, problem


def _selection(app: dash.Dash, services: Services) -> None:
    @app.callback(
        Output(ids.EXPLORE_GALLERY, "children"),
        Input(ids.EXPLORE_NARROW, "data"),
        Input({"type": ids.EXPLORE_GALLERY_PAGE, "offset": ALL, "side": ALL}, "n_clicks"),
        Input(ids.REFRESH, "data"),
        Input(ids.EXPLORE_MAP, "placed"),
        Input(ids.EXPLORE_MAP, "edition"),
        State(ids.EXPLORE_STATE, "data"),
        running=[(Output(ids.EXPLORE_GALLERY, "className"), "is-loading", "")],
    )
    async def page(
        narrow: dict[str, Any] | None,
        clicks: list[Any],
        _refresh: Any,
        _placed: int | None,
        _edition: str | None,
        data: str,
    ) -> Any:
        if not narrow:
            return no_update
        turned = isinstance(ctx.triggered_id, dict) and "offset" in ctx.triggered_id
        if turned and not any(clicks):
            return no_update
        if ctx.triggered_id == ids.EXPLORE_MAP and any(
            each["id"]["side"] == "right" and each["id"]["offset"] > gallery.PAGE
            for each in ctx.inputs_list[1]
        ):
            return no_update  # somebody looks at a later page: it stays under their eyes
        offset = int(ctx.triggered_id["offset"]) if turned else 0
        selection, map_id = _narrowed(narrow)
        found = await call(
            services.select, selection, limit=gallery.PAGE, offset=offset, map_id=map_id
        )
        if isinstance(found, Exception):
            return states.error(found)
        decide = ids.PATH_DECIDE + selection_of(data).write()
        return gallery.gallery(found, bool(selection["polygons"] or selection["filters"]), decide)

    @app.callback(
        Output(ids.EXPLORE_FACETS, "children"),
        Input(ids.EXPLORE_NARROW, "data"),
        Input(ids.REFRESH, "data"),
        Input(ids.EXPLORE_MAP, "placed"),
        Input(ids.EXPLORE_MAP, "edition"),
        State(ids.EXPLORE_STATE, "data"),
        running=[(Output(ids.EXPLORE_FACETS, "className"), "facets is-loading", "facets")],
    )
    async def count(
        narrow: dict[str, Any] | None,
        _refresh: Any,
        _placed: int | None,
        _edition: str | None,
        data: str,
    ) -> Any:
        if not narrow:
            return no_update
        found = await call(services.facets, *_narrowed(narrow))
        if isinstance(found, Exception):
            return states.error(found)
        return facets.facets(found, ExploreState.read(data))


async def _stocks(services: Services, listing_ids: list[str]) -> dict[str, int]:
    """Stocks of listings; without an answer the page shows none rather than no pictures."""
    found = await call(services.stocks, listing_ids)
    return {} if isinstance(found, Exception) else found


def _narrowed(narrow: dict[str, Any]) -> tuple[dict[str, Any], UUID]:
    return {key: narrow[key] for key in ("polygons", "filters")}, UUID(narrow["map"])
