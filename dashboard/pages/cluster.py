"""One cluster: its photos, what they have in common, who named it."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from dash import dcc, html

from dashboard import ids
from dashboard.components import cards, states
from dashboard.components.widgets import count, icon, percent, plural, when
from dashboard.views import ClusterDetail, DecisionView, FacetView, SelectionView

PAGE: Final = 60
"""Photos that one press of "Show more" adds."""

MOST: Final = 480
"""Photos that the page shows at most; all of them are on the map."""

FACET_VALUES: Final = 6
"""Values shown of each attribute."""


def layout(key: UUID) -> html.Div:
    """Build the page before its data came."""
    return html.Div(
        [
            dcc.Store(id=ids.CLUSTER_KEY, data=str(key)),
            dcc.Link([icon("left"), "All clusters"], href=ids.PATH_CLUSTERS, className="crumb"),
            html.Div([states.heading_skeleton(), states.tiles_skeleton(18)], id=ids.CLUSTER_DETAIL),
        ],
        className="content",
    )


def detail(found: ClusterDetail, photos: SelectionView) -> list[Any]:
    """Build the page of a cluster with its first photos."""
    cluster = found.cluster
    return [
        html.Div(
            [
                html.Div(
                    [
                        html.H1(cluster.name, className="visually-hidden"),
                        cards.name_field(cluster, "name-field--title"),
                        html.P(
                            [
                                html.Strong(plural(cluster.size, "image")),
                                f" of {plural(cluster.listings, 'listing')}, ",
                                f"{percent(cluster.share)} of the map",
                            ],
                            className="page-head__summary",
                        ),
                    ],
                    className="page-head__text page-head__text--wide",
                ),
                html.Div(
                    [
                        dcc.Link(
                            "Label or split",
                            href=cards.cluster_decide(cluster),
                            className="button",
                        ),
                        dcc.Link(
                            [icon("map"), "Show on map"],
                            href=cards.cluster_on_map(cluster),
                            className="button button--primary",
                        ),
                    ],
                    className="page-head__controls",
                ),
            ],
            className="page-head",
        ),
        html.Div(
            [
                html.Section(
                    [
                        html.Div(gallery(photos), id=ids.CLUSTER_PHOTOS),
                    ],
                    className="columns__main",
                ),
                html.Aside(
                    [*facets(found), *history(found.decisions)],
                    className="columns__side",
                ),
            ],
            className="columns",
        ),
    ]


def gallery(photos: SelectionView) -> list[Any]:
    """Build the tiles of the photos so far, and the button for more."""
    left = photos.count - len(photos.rows)
    parts: list[Any] = [
        html.P(
            f"Showing {count(len(photos.rows))} of {plural(photos.count, 'image')}",
            className="hint",
        ),
        html.Div([cards.photo_tile(row) for row in photos.rows], className="tiles"),
    ]
    if left > 0 and len(photos.rows) < MOST:
        parts.append(
            html.Div(
                html.Button(
                    f"Show {count(min(left, PAGE))} more",
                    id={"type": "cluster-more", "shown": len(photos.rows)},
                    className="button",
                    type="button",
                ),
                className="more",
            )
        )
    return parts


def facets(found: ClusterDetail) -> list[Any]:
    """Build the attributes of the cluster's images: the most frequent values with their shares."""
    blocks = [
        _facet(facet, found.cluster.size)
        for facet in found.facets
        if facet.kind == "category" and facet.name.startswith("attr:")
    ]
    shown = [block for block in blocks if block is not None]
    return [html.H2("In this cluster", className="side-title"), *shown] if shown else []


def _facet(facet: FacetView, size: int) -> html.Section | None:
    ranked = sorted(
        (value for value in facet.values if value.count),
        key=lambda value: (-value.count, value.label),
    )
    if not ranked or size <= 0:
        return None
    rows = [
        html.Div(
            [
                html.Span(value.label or "(empty)", className="share__name", title=value.label),
                html.Span(percent(value.count / size), className="share__value"),
                html.Div(
                    html.Div(
                        className="bar__fill",
                        style={"width": f"{100 * min(value.count / size, 1):.1f}%"},
                    ),
                    className="bar",
                ),
            ],
            className="share",
            title=f"{count(value.count)} of {count(size)} images",
        )
        for value in ranked[:FACET_VALUES]
    ]
    rest = len(ranked) - FACET_VALUES
    if rest > 0:
        rows.append(html.Div(f"and {plural(rest, 'other value')}", className="hint"))
    return html.Section([html.H3(facet.label, className="facet-title"), *rows])


def history(decisions: tuple[DecisionView, ...]) -> list[Any]:
    """Build the history of the name, newest first."""
    if not decisions:
        return []
    return [
        html.H2("Names", className="side-title"),
        html.Ol(
            [
                html.Li(
                    [
                        html.Span(decision.value or "automatic name", className="share__name"),
                        html.Span(
                            [
                                "undo, " if decision.kind == "undo" else "",
                                f"{decision.author}, ",
                                when(decision.at),
                            ],
                            className="hint",
                        ),
                    ],
                    className="history__row",
                )
                for decision in decisions
            ]
        ),
    ]
