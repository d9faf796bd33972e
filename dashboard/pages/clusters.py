"""Clusters: every group of the map as a card, with a name that is edited in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from dash import dcc, html

from dashboard import ids
from dashboard.components import cards, states
from dashboard.components.widgets import aria, count, percent, plural
from dashboard.figures import CONFIG, HEIGHT, blank
from dashboard.state import ClustersState
from dashboard.views import ClusterView, MapView

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
                + ClustersState(
                    sort="name" if order == "name" else "size", text=state.text
                ).write(),
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
    return parts


def listing(
    version: MapView | None,
    clusters: Sequence[ClusterView],
    state: ClustersState,
    shown: int = PAGE,
) -> Any:
    """Build the cards, or what stands in their place."""
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
    return html.Div([cards.cluster_card(cluster) for cluster in kept[:shown]], className="clusters")
