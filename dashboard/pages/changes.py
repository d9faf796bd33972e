"""Changes: what is different between two maps, in clusters, their drift and outliers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from dash import dcc, html

from dashboard import ids
from dashboard.changes import ChangesView, ClusterChangeView, NewOutlierView, VersionView
from dashboard.components import states
from dashboard.components.widgets import aria, badge, count, picture, plural
from dashboard.figures import CONFIG, HEIGHT, blank
from dashboard.state import ChangesState, ExploreState, cluster_href

OUTLIERS: Final = 60
"""New outliers that the page shows; it says how many there are."""
MOSAIC: Final = 5
PARTS: Final = 3
"""Clusters that a card names as origin or destination of its images."""


def layout(search: str | None) -> html.Div:
    """Build the page before its data came."""
    del search
    return html.Div(
        [
            html.Div(
                [
                    html.Div(
                        [
                            html.H1("Changes"),
                            html.P(
                                id=ids.CHANGES_SUMMARY,
                                className="page-head__summary",
                                role="status",
                            ),
                        ],
                        className="page-head__text page-head__text--wide",
                    ),
                    html.Div(id=ids.CHANGES_CONTROLS, className="page-head__controls"),
                ],
                className="page-head",
            ),
            html.Div(
                [
                    html.P(
                        "How far the mean of each cluster moved, the farthest first; "
                        "those that drifted in colour",
                        className="changes__note",
                    ),
                    html.Div(
                        dcc.Graph(
                            id=ids.CHANGES_CHART,
                            figure=blank(),
                            config=CONFIG,  # type: ignore[arg-type]
                            style={"height": HEIGHT},
                        ),
                        role="img",
                        **aria(label="How far the mean of each cluster moved"),
                    ),
                ],
                id=f"{ids.CHANGES_CHART}-box",
                className="chart",
                hidden=True,
            ),
            html.Div(states.rows_skeleton(4), id=ids.CHANGES_LIST),
        ],
        className="content",
    )


def controls(versions: Sequence[VersionView], view: ChangesView | None) -> list[Any]:
    """Build the choice of the two maps: links, so that each pair has an address."""
    if view is None or len(versions) < 2:
        return []
    before = view.before.map_id if view.before else None
    return [
        _choice("From", versions, before, lambda own: ChangesState(own, view.after.map_id)),
        _choice("To", versions, view.after.map_id, lambda own: ChangesState(before, own)),
    ]


def _choice(label: str, versions: Sequence[VersionView], here: UUID | None, state: Any) -> Any:
    return html.Div(
        [
            html.Span(label, className="changes__side"),
            html.Div(
                [
                    dcc.Link(
                        f"{each.created_at:%d %b %H:%M}",
                        href=ids.PATH_CHANGES + state(each.map_id).write(),
                        title=f"{plural(each.rows, 'image')}, {plural(each.clusters, 'cluster')}"
                        + (", live" if each.live else ""),
                        className="segments__item segments__item--here"
                        if each.map_id == here
                        else "segments__item",
                    )
                    for each in versions
                ],
                className="segments",
                role="group",
                **aria(label=f"{label} map"),
            ),
        ],
        className="changes__choice",
    )


def summary(view: ChangesView) -> list[Any]:
    """Build the sentence that sums it up."""
    kinds = {kind: sum(each.kind == kind for each in view.clusters) for kind in ("new", "vanished")}
    drifted = sum(each.drifted for each in view.clusters)
    parts = [
        f"{plural(view.added, 'image')} added" if view.added else "",
        f"{count(view.removed)} removed" if view.removed else "",
        plural(kinds["new"], "new cluster") if kinds["new"] else "",
        f"{plural(kinds['vanished'], 'cluster')} vanished" if kinds["vanished"] else "",
        f"{plural(drifted, 'cluster')} drifted" if drifted else "",
        plural(view.new_outliers, "new outlier") if view.new_outliers else "",
    ]
    said = ", ".join(part for part in parts if part) or "Nothing changed"
    return [
        html.Strong(said),
        f" ({count(view.rows_before)} images before, {count(view.rows_after)} now)",
    ]


def listing(view: ChangesView | None, versions: Sequence[VersionView]) -> Any:
    """Build the sections, or what stands in their place."""
    if view is None:
        return states.empty(
            "Nothing to compare yet" if versions else "No map yet",
            "This is the first map, or all maps are of the same images. What changed appears when "
            "the collection is analysed again."
            if versions
            else "A map appears when the first analysis of the collection is done.",
            picture="clusters",
            action=dcc.Link("Show jobs", href=ids.PATH_JOBS, className="button"),
        )
    came = [each for each in view.clusters if each.kind == "new"]
    gone = [each for each in view.clusters if each.kind == "vanished"]
    kept = [each for each in view.clusters if each.kind == "kept"]
    groups: tuple[tuple[str, Any], ...] = (
        ("New clusters", _cards(came) if came else None),
        ("Vanished clusters", _cards(gone) if gone else None),
        ("Clusters of both maps", _table(kept, tested=view.tested) if kept else None),
        ("New outliers", _gallery(view) if view.outliers else None),
    )
    return [
        html.Section([html.H2(title, className="group-title"), body], className="group")
        for title, body in groups
        if body is not None
    ] or states.empty("Nothing changed", "Both maps have the same images and no clusters.")


def _cards(changes: Sequence[ClusterChangeView]) -> html.Div:
    return html.Div([_card(change) for change in changes], className="clusters")


def _card(change: ClusterChangeView) -> html.Article:
    """Build the card of a cluster that came or went; one that went has no page of its own."""
    fresh = change.kind == "new"
    shown = [
        picture(image_id, alt=f"Example {number} of {change.name}")
        for number, image_id in enumerate(change.exemplars[:MOSAIC], start=1)
    ]
    css = f"mosaic mosaic--{len(shown)}"
    mosaic: Any = None
    if shown:
        mosaic = (
            dcc.Link(shown, href=cluster_href(change.key), className=css, title="Open the cluster")
            if fresh
            else html.Div(shown, className=css)
        )
    title = dcc.Link(change.name, href=cluster_href(change.key)) if fresh else change.name
    size = change.after if fresh else change.before
    return html.Article(
        [
            mosaic,
            html.Div(
                [
                    html.H3(title, className="changes__name"),
                    html.Div([html.Span(plural(size, "image")), *_moves(change)], className="meta"),
                    html.P(_parts(change), className="changes__parts"),
                ],
                className="card__body",
            ),
        ],
        className="card cluster-card",
    )


def _moves(change: ClusterChangeView) -> list[Any]:
    if change.kind == "new":
        return [html.Span(f"{count(change.added)} new to the collection")] if change.added else []
    gone = f"{count(change.removed)} no longer in the collection"
    return [html.Span(gone)] if change.removed else []


def _parts(change: ClusterChangeView) -> str:
    """Say where the images of a cluster were, or where they are now."""
    held = [part for part in change.parts if part.name != "Not in the collection"]
    if not held:
        return ""
    said = [
        f"{part.name if part.key else 'no cluster'} ({count(part.images)})" for part in held[:PARTS]
    ]
    if len(held) > PARTS:
        said.append(f"and {plural(len(held) - PARTS, 'other')}")
    return f"{'Was' if change.kind == 'new' else 'Now'} in {', '.join(said)}"


def _table(changes: Sequence[ClusterChangeView], *, tested: bool) -> html.Div:
    """Build the table of clusters that both maps have: the farthest drift first."""
    ranked = sorted(changes, key=lambda each: (not each.drifted, -(each.shift or 0.0), -each.after))
    heads = (
        ("Cluster", ""),
        ("Before", "Images before"),
        ("Now", "Images now"),
        ("Joined", "Images that came"),
        ("Left", "Images that went"),
        ("Shift", "Distance of the mean vectors, 0 to 2"),
        ("p", "Chance of such a difference without drift, corrected for the number of clusters"),
        ("Drift", ""),
    )
    told = (
        "Drift: the listings that joined a cluster are unlike those that were in it "
        "(energy distance, permutation test, false discovery rate 5 %)."
        if tested
        else "Drift is tested when a map is made, against the map that was live then; "
        "between these two only the shift is known."
    )
    return html.Div(
        [
            html.P(told, className="changes__note"),
            html.Div(
                html.Table(
                    [
                        html.Thead(
                            html.Tr(
                                [
                                    html.Th(name, scope="col", title=title or None)
                                    for name, title in heads
                                ]
                            )
                        ),
                        html.Tbody([_row(change) for change in ranked]),
                    ],
                    className="changes__table",
                ),
                className="changes__scroll",
            ),
        ]
    )


def _row(change: ClusterChangeView) -> html.Tr:
    if change.q is None:
        verdict: Any = html.Span("not tested", title="Too few listings joined, or none")
    else:
        verdict = badge("drifted", "warn") if change.drifted else html.Span("none")
    return html.Tr(
        [
            html.Th(dcc.Link(change.name, href=cluster_href(change.key)), scope="row"),
            html.Td(count(change.before)),
            html.Td(count(change.after)),
            html.Td(count(change.joined)),
            html.Td(count(change.left)),
            html.Td("-" if change.shift is None else f"{change.shift:.3f}"),
            html.Td("-" if change.q is None else f"{change.q:.3f}"),
            html.Td(verdict),
        ]
    )


def _gallery(view: ChangesView) -> html.Div:
    rest = view.new_outliers - len(view.outliers)
    said = f"The strangest {count(len(view.outliers))} of {count(view.new_outliers)}."
    return html.Div(
        [
            html.P(said, className="changes__note") if rest > 0 else None,
            html.Div([_tile(each) for each in view.outliers], className="tiles"),
        ]
    )


def _tile(outlier: NewOutlierView) -> dcc.Link:
    name = outlier.title or outlier.listing_id
    before = "new" if outlier.score_before is None else f"before {outlier.score_before:.2f}"
    return dcc.Link(
        [
            picture(outlier.image_id, alt=name),
            html.Div([html.Span(name), html.Span(before)], className="tile__label"),
        ],
        href=ExploreState(image=outlier.image_id).href(),
        className="tile",
        title=name,
    )
