"""Callbacks of the cluster pages: list, chart, one cluster, renaming."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import dash
from dash import ALL, Input, Output, State, ctx, no_update

from cql.errors import ConflictError
from dashboard import figures, ids, ledger, undo
from dashboard.callbacks.calls import AUTHOR, call
from dashboard.components import cards, sizes, states
from dashboard.components.toast import toast
from dashboard.pages import cluster as cluster_page
from dashboard.pages import clusters as clusters_page
from dashboard.state import ClustersState
from dashboard.views import (
    ClusterDetail,
    ClusterView,
    GroupView,
    MapView,
    SelectionView,
    SizeView,
    StabilityView,
)

if TYPE_CHECKING:
    from dashboard.services import Services


def register(app: dash.Dash, services: Services) -> None:
    """Add the callbacks of the cluster pages to one app."""
    _register_list(app, services)
    _register_size(app, services)
    _register_detail(app, services)
    _register_rename(app, services)


def _register_list(app: dash.Dash, services: Services) -> None:
    def read() -> tuple[MapView | None, tuple[ClusterView, ...], tuple[GroupView, ...]]:
        version = services.live_map()
        if version is None:
            return None, (), ()
        return version, services.clusters(version.map_id), services.groups(version.map_id)

    @app.callback(
        Output(ids.CLUSTERS_LIST, "children"),
        Output(ids.CLUSTERS_SUMMARY, "children"),
        Output(ids.CLUSTERS_CONTROLS, "children"),
        Output(f"{ids.CLUSTERS_MORE}-box", "hidden"),
        Output(ids.CLUSTERS_SHOWN, "data"),
        Input(ids.URL, "search"),
        Input(ids.REFRESH, "data"),
        Input(ids.CLUSTERS_MORE, "n_clicks"),
        State(ids.CLUSTERS_SHOWN, "data"),
    )
    async def show(
        search: str | None, _: str | None, more: int | None, before: list[Any] | None
    ) -> tuple[Any, ...]:
        state = ClustersState.read(search)
        shown = clusters_page.PAGE * (1 + (more or 0))
        asked = [state.sort, state.text, shown]
        if ctx.triggered_id == ids.URL and before == asked:
            # Another size is looked at: the links of the order keep it, the cards stay.
            return no_update, no_update, clusters_page.controls(state), no_update, no_update
        found = await call(read)
        if isinstance(found, Exception):
            return states.error(found), "", no_update, True, None
        version, clusters, groups = found
        return (
            clusters_page.listing(version, clusters, state, shown, groups),
            "" if version is None else clusters_page.summary(version, clusters),
            clusters_page.controls(state),
            len(clusters_page.arrange(clusters, state)) <= shown,
            asked,
        )

    @app.callback(
        Output(ids.CLUSTERS_CHART, "figure"),
        Output(f"{ids.CLUSTERS_CHART}-box", "hidden"),
        Input(ids.THEME, "data"),
        Input(ids.REFRESH, "data"),
    )
    async def chart(theme: str | None, _: str | None) -> Any:
        if theme is None:  # the browser has not said yet
            return no_update, False
        found = await call(read)
        if isinstance(found, Exception) or not found[1]:
            return no_update, True
        return figures.cluster_sizes(found[1], theme), False

    @app.callback(
        Output(ids.URL, "search", allow_duplicate=True),
        Input(ids.CLUSTERS_FILTER, "value"),
        State(ids.URL, "search"),
        State(ids.URL, "pathname"),
        prevent_initial_call=True,
    )
    def filtered(text: str | None, search: str | None, pathname: str | None) -> Any:
        state = ClustersState.read(search)
        asked = replace(state, text=" ".join((text or "").split()))
        if asked == state or pathname != ids.PATH_CLUSTERS:
            return no_update
        return asked.write()


def _register_size(app: dash.Dash, services: Services) -> None:
    def look(size: int) -> tuple[StabilityView, SizeView]:
        return services.stability(), services.preview_size(size)

    @app.callback(
        Output(ids.CLUSTERS_SIZE, "children"),
        Output(ids.CLUSTERS_SIZE, "hidden"),
        Input(ids.REFRESH, "data"),
        State(ids.URL, "search"),
        State(ids.THEME, "data"),
    )
    async def panel(_: str | None, search: str | None, theme: str | None) -> tuple[Any, bool]:
        version = await call(services.live_map)
        if isinstance(version, Exception) or version is None or not version.rows_scored:
            return no_update, True  # the list says why
        found = await call(services.stability)
        return sizes.shown(found, ClustersState.read(search).size, theme), False

    @app.callback(
        Output(ids.CLUSTERS_SIZE_PREVIEW, "children"),
        Output(ids.CLUSTERS_SIZE_CHART, "figure"),
        Output(ids.CLUSTERS_SIZE_USE, "disabled"),
        Input(ids.CLUSTERS_SIZE_SLIDER, "value"),
        Input(ids.THEME, "data"),
    )
    async def preview(value: float | None, theme: str | None) -> tuple[Any, ...]:
        size = sizes.size_at(value)
        if size is None:
            return no_update, no_update, True
        found = await call(look, size)
        if isinstance(found, Exception):
            return states.message(found), no_update, True
        figure = figures.stability(found[0], size, theme)
        return sizes.preview(found[1], found[0].size), figure, size == found[0].size

    @app.callback(
        Output(ids.URL, "search", allow_duplicate=True),
        Input(ids.CLUSTERS_SIZE_SLIDER, "value"),
        State(ids.URL, "search"),
        State(ids.URL, "pathname"),
        prevent_initial_call=True,
    )
    async def address(value: float | None, search: str | None, pathname: str | None) -> Any:
        found = await call(services.stability)
        if isinstance(found, Exception) or pathname != ids.PATH_CLUSTERS:
            return no_update
        asked = sizes.address(search, value, found.size)
        return no_update if asked is None else asked

    @app.callback(
        Output(ids.TOASTS, "children", allow_duplicate=True),
        Input(ids.CLUSTERS_SIZE_USE, "n_clicks"),
        State(ids.CLUSTERS_SIZE_SLIDER, "value"),
        prevent_initial_call=True,
    )
    async def use(clicks: int | None, value: float | None) -> Any:
        size = sizes.size_at(value)
        if not clicks or size is None:
            return no_update
        job = await call(services.choose_size, size)
        if isinstance(job, Exception):
            return toast(states.message(job), tone="danger")
        return toast(f"Clusters of at least {size:,} images are on their way: see Jobs", tone="ok")


def _register_detail(app: dash.Dash, services: Services) -> None:
    def read(key: UUID, limit: int) -> tuple[ClusterDetail, SelectionView]:
        found = services.cluster(key)
        chosen = {"filters": {"cluster": [str(found.cluster.cluster)]}}
        return found, services.select(chosen, limit=limit)

    @app.callback(
        Output(ids.CLUSTER_DETAIL, "children"),
        Input(ids.CLUSTER_KEY, "data"),
        Input(ids.REFRESH, "data"),
    )
    async def show(key: str, _: str | None) -> Any:
        found = await call(read, UUID(key), cluster_page.PAGE)
        if isinstance(found, Exception):
            return states.error(found)
        return cluster_page.detail(*found)

    @app.callback(
        Output(ids.CLUSTER_PHOTOS, "children"),
        Input({"type": "cluster-more", "shown": ALL}, "n_clicks"),
        State(ids.CLUSTER_KEY, "data"),
        prevent_initial_call=True,
    )
    async def more(clicks: list[int | None], key: str) -> Any:
        if not any(clicks) or not isinstance(ctx.triggered_id, dict):
            return no_update
        shown = int(ctx.triggered_id["shown"])
        found = await call(read, UUID(key), min(shown + cluster_page.PAGE, cluster_page.MOST))
        return (
            states.error(found) if isinstance(found, Exception) else cluster_page.gallery(found[1])
        )


def _register_rename(app: dash.Dash, services: Services) -> None:
    @app.callback(
        Output(ids.TOASTS, "children", allow_duplicate=True),
        Output(ids.UNDO, "data", allow_duplicate=True),
        Input({"type": "cluster-name", "key": ALL}, "value"),
        Input({"type": "cluster-choice", "key": ALL, "choice": ALL}, "n_clicks"),
        State({"type": "cluster-name", "key": ALL}, "value"),
        State({"type": "cluster-name", "key": ALL}, "id"),
        State({"type": "cluster-version", "key": ALL}, "data"),
        State(ids.UNDO, "data"),
        prevent_initial_call=True,
    )
    async def rename(
        _: list[str | None],
        __: list[int | None],
        values: list[str | None],
        fields: list[dict[str, str]],
        stores: list[dict[str, Any]],
        stack: undo.Stack | None,
    ) -> tuple[Any, Any]:
        trigger = ctx.triggered_id
        if not isinstance(trigger, dict) or ctx.triggered[0]["value"] is None:
            return no_update, no_update
        key = trigger["key"]
        at = [field["key"] for field in fields].index(key)
        typed, known = (values[at] or "").strip(), stores[at]
        if trigger.get("choice") == "theirs" or not typed:
            dash.set_props(ids.cluster_name(key), {"value": known["name"]})
            dash.set_props(ids.cluster_message(key), {"children": None})
            return no_update, no_update
        if typed == known["name"]:
            dash.set_props(ids.cluster_message(key), {"children": None})
            return no_update, no_update
        return await _renamed(services, key, typed, known, stack)


async def _renamed(
    services: Services, key: str, typed: str, known: dict[str, Any], stack: undo.Stack | None
) -> tuple[Any, Any]:
    subject = UUID(key)
    done = await call(
        services.rename_cluster, subject, typed, author=AUTHOR, expected_version=known["version"]
    )
    if isinstance(done, ConflictError):
        theirs = await call(services.cluster, subject)
        if not isinstance(theirs, Exception):
            dash.set_props(ids.cluster_version(key), {"data": cards.name_store(theirs.cluster)})
            shown = cards.conflict(theirs.cluster, typed)
            dash.set_props(ids.cluster_message(key), {"children": shown})
            return no_update, no_update
    if isinstance(done, Exception):
        dash.set_props(ids.cluster_message(key), {"children": states.message(done)})
        return no_update, no_update
    dash.set_props(ids.cluster_message(key), {"children": None})
    dash.set_props(ids.cluster_version(key), {"data": cards.name_store(done)})
    dash.set_props(ids.cluster_name(key), {"value": done.name})
    label = f"“{known['name']}” is now “{done.name}”"
    kept = undo.push(stack, ledger.cluster_subject(subject), done.version, label)
    return toast(label, undo=True), kept
