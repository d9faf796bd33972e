"""Clusters: every group of the map as a card, with a name that is edited in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from dash import dcc, html

from dashboard import ids
from dashboard.components import cards, sizes, states
from dashboard.components.widgets import aria, around, count, percent, plural
from dashboard.figures import CONFIG, HEIGHT, blank
from dashboard.state import ClustersState
from dashboard.views import ClusterView, GroupView, MapView

PAGE: Final = 60
"""Cards that one press of "Show more" adds."""


def layout(search: str | None) -> html.Div:
    """Build the page before its data came."""
    state = ClustersState.read(search)
    return html.Div(
        [
            html.Div(
                [
                    html.Div(
                        [
                            html.H1("Clusters"),
                            html.P(
                                id=ids.CLUSTERS_SUMMARY,
                                className="page-head__summary",
                                role="status",
                            ),
                        ],
                        className="page-head__text",
                    ),
                    html.Div(
                        [
                            dcc.Input(
                                id=ids.CLUSTERS_FILTER,
                                value=state.text,
                                type="search",
                                placeholder="Filter by name",
                                debounce=0.25,
                                autoComplete="off",
                                className="field",
                            ),
                            html.Div(controls(state), id=ids.CLUSTERS_CONTROLS),
                        ],
                        className="page-head__controls",
                    ),
                ],
                className="page-head",
            ),
            html.Div(
                dcc.Graph(
                    id=ids.CLUSTERS_CHART,
                    figure=blank(),
                    config=CONFIG,  # type: ignore[arg-type]
                    style={"height": HEIGHT},
                ),
                id=f"{ids.CLUSTERS_CHART}-box",
                className="chart",
                **aria(label="Images in each cluster"),
                role="img",
            ),
            dcc.Store(id=ids.CLUSTERS_MERGE_ASK),
            html.Div(id=ids.CLUSTERS_MERGE, role="status"),
            sizes.place(),
            dcc.Store(id=ids.CLUSTERS_SHOWN),
            html.Div(states.tiles_skeleton(12, "clusters"), id=ids.CLUSTERS_LIST),
            html.Div(
                html.Button("Show more", id=ids.CLUSTERS_MORE, className="button", type="button"),
                id=f"{ids.CLUSTERS_MORE}-box",
                className="more",
                hidden=True,
            ),
        ],
        className="content",
    )


def controls(state: ClustersState) -> html.Div:
    """Build the choice of the order: links, so that each order has an address."""
    orders = (("size", "Largest"), ("name", "A to Z"))
    return html.Div(
        [
            dcc.Link(
                label,
                href=ids.PATH_CLUSTERS
                + replace(state, sort="name" if order == "name" else "size").write(),
                className="segments__item segments__item--here"
                if state.sort == order
                else "segments__item",
            )
            for order, label in orders
        ],
        className="segments",
        role="group",
        **aria(label="Order"),
    )


def arrange(clusters: Sequence[ClusterView], state: ClustersState) -> list[ClusterView]:
    """Return the clusters whose name holds every word of the filter, in the asked order."""
    words = state.text.casefold().split()
    kept = [
        cluster for cluster in clusters if all(word in cluster.name.casefold() for word in words)
    ]
    if state.sort == "name":
        return sorted(kept, key=lambda cluster: (cluster.name.casefold(), cluster.cluster))
    return sorted(kept, key=lambda cluster: (-cluster.size, cluster.cluster))


def summary(version: MapView, clusters: Sequence[ClusterView]) -> list[Any]:
    """Build the line that counts everything: clustered, in no cluster, and of how many."""
    placed = version.rows_scored - version.noise
    parts: list[Any] = [
        html.Strong(plural(len(clusters), "cluster")),
        f" over {count(version.rows_scored)} of {plural(version.rows, 'image')}: ",
        f"{count(placed)} in a cluster, {count(version.noise)} in none",
    ]
    if version.rows_scored:
        parts.append(f" ({percent(version.noise / version.rows_scored)})")
    if laid := around(version.quality):
        parts.append(f". {laid}")
    if version.placed:
        parts.append(f". {plural(version.placed, 'image')} placed since the map was made")
    return parts


def listing(
    version: MapView | None,
    clusters: Sequence[ClusterView],
    state: ClustersState,
    shown: int = PAGE,
    groups: Sequence[GroupView] = (),
) -> Any:
    """Build the cards, or what stands in their place.

    Where most clusters are in groups of several, the largest first stand by their groups.
    """
    if version is None:
        return states.empty(
            "No clusters yet",
            "Clusters appear when the first analysis of the collection is done. "
            "Its progress is on the page of jobs.",
            picture="clusters",
            action=dcc.Link("Show jobs", href=ids.PATH_JOBS, className="button"),
        )
    if not clusters:
        return states.empty(
            "The analysis found no clusters",
            f"All {plural(version.rows_scored, 'image')} lie in no dense group: "
            "the collection may be too small or too varied.",
            picture="clusters",
        )
    kept = arrange(clusters, state)
    if not kept:
        return states.empty(
            f"No name holds “{state.text}”",
            f"{plural(len(clusters), 'cluster')} have other names.",
            picture="search",
            action=dcc.Link("Show all clusters", href=ids.PATH_CLUSTERS, className="button"),
        )
    several = sum(group.clusters for group in groups if group.level == 1 and group.clusters > 1)
    if state.sort == "size" and several >= len(clusters) / 2:
        return html.Div(sections(kept[:shown], groups))
    return _cards(kept[:shown])


def sections(clusters: Sequence[ClusterView], groups: Sequence[GroupView]) -> list[html.Section]:
    """Build a section for each group of several clusters, the largest first, then for the others.

    Groups of one wider group stand together, under its name.
    """
    by_number = {(group.level, group.number): group for group in groups}
    held: dict[int | None, list[ClusterView]] = {}
    for cluster in clusters:
        group = by_number.get((1, -1 if cluster.group is None else cluster.group))
        several = group is not None and group.clusters > 1
        held.setdefault(group.number if group and several else None, []).append(cluster)

    def place(number: int) -> tuple[int, int, int]:
        group = by_number[1, number]
        wider = by_number.get((2, -1 if group.parent is None else group.parent))
        return -(wider or group).size, -1 if wider is None else wider.number, -group.size

    found = []
    for number in sorted((each for each in held if each is not None), key=place):
        group = by_number[1, number]
        wider = by_number.get((2, -1 if group.parent is None else group.parent))
        over = wider.name if wider and wider.clusters > group.clusters else ""
        line = f"{plural(group.clusters, 'cluster')}, {plural(group.size, 'image')}"
        found.append(_section(group.name, over, line, held[number]))
    if None in held:
        alone = held[None]
        line = f"{plural(len(alone), 'cluster')} shown" if found else ""
        found.append(_section("In no group", "", line, alone))
    return found


def _section(name: str, over: str, line: str, clusters: Sequence[ClusterView]) -> html.Section:
    heading = [
        html.Span(over, className="cluster-group__over") if over else None,
        html.H2(name, className="group-title"),
        html.P(line, className="hint"),
    ]
    return html.Section(
        [html.Div(heading, className="cluster-group__head"), _cards(clusters)],
        className="group cluster-group",
        **aria(label=name),
    )


def _cards(clusters: Sequence[ClusterView]) -> html.Div:
    return html.Div([cards.cluster_card(cluster) for cluster in clusters], className="clusters")
