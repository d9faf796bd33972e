"""Cards of clusters, outliers and photos: pure functions from views to layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dash import dcc, html

from dashboard import ids
from dashboard.components.widgets import (
    aria,
    badge,
    count,
    data,
    icon,
    percent,
    picture,
    plural,
)
from dashboard.state import ExploreState, Filter, cluster_href
from dashboard.views import ClusterView, MapRow, OutlierView

MOSAIC: Final = 5
"""Exemplars on a cluster's card."""

VERDICT_WORDS: Final = {"outlier": "True outlier", "fine": "Fine", "": ""}
VERDICT_TONES: Final = {"outlier": "danger", "fine": "ok"}
KIND_WORDS: Final = {"photo": "Bad photo", "category": "Wrong category?", "rare": "Rare", "": ""}
KIND_TONES: Final = {"photo": "warn", "category": "accent", "rare": "plain"}


def cluster_on_map(cluster: ClusterView) -> str:
    """Return the address of Explore with this cluster alone."""
    return ExploreState(filters=(Filter("cluster", (str(cluster.cluster),)),)).href()


def cluster_decide(cluster: ClusterView) -> str:
    """Return the address of the page that labels or splits this cluster."""
    state = ExploreState(filters=(Filter("cluster", (str(cluster.cluster),)),))
    return ids.PATH_DECIDE + state.write()


def cluster_card(cluster: ClusterView) -> html.Article:
    """Build a cluster's card: exemplars, a name to edit in place, how large it is."""
    shown = cluster.exemplars[:MOSAIC]
    mosaic = [
        picture(image_id, alt=f"Example {number} of {cluster.name}")
        for number, image_id in enumerate(shown, start=1)
    ]
    return html.Article(
        [
            dcc.Link(
                mosaic,
                href=cluster_href(cluster.key),
                className=f"mosaic mosaic--{len(mosaic)}",
                title=f"Open {cluster.name}",
            ),
            html.Div(
                [
                    name_field(cluster),
                    html.Div(
                        [
                            html.Span(f"{len(cluster.merged) + 1} merged")
                            if cluster.merged
                            else None,
                            html.Span("Split off") if cluster.origin else None,
                            html.Span(plural(cluster.size, "image")),
                            html.Span(plural(cluster.listings, "listing")),
                            html.Span(percent(cluster.share)),
                        ],
                        className="meta",
                    ),
                    html.Div(
                        [
                            dcc.Link(
                                [icon("map"), "Show on map"],
                                href=cluster_on_map(cluster),
                                className="button button--small",
                            ),
                            dcc.Link(
                                "Open",
                                href=cluster_href(cluster.key),
                                className="button button--small button--quiet",
                            ),
                            pick(cluster),
                        ],
                        className="card__foot",
                    ),
                ],
                className="card__body",
            ),
        ],
        className="card cluster-card",
    )


def pick(cluster: ClusterView) -> dcc.Checklist:
    """Build the box that chooses a cluster, to merge it with others."""
    key = str(cluster.key)
    return dcc.Checklist(
        id=ids.cluster_pick(key),
        options=[{"label": "Select", "value": key, "title": f"Select {cluster.name} to merge it"}],
        value=[],
        className="pick",
    )


def name_field(cluster: ClusterView, css: str = "") -> html.Div:
    """Build the name that is edited in place, its message line and the version that was read."""
    key = str(cluster.key)
    return html.Div(
        [
            html.Div(
                dcc.Input(
                    id=ids.cluster_name(key),
                    value=cluster.name,
                    debounce=True,
                    type="text",
                    maxLength=120,
                    spellCheck=False,
                    autoComplete="off",
                    placeholder=cluster.automatic or "Name this cluster",
                    className="name-input",
                ),
                className=f"name-field icon--pencil {css}".strip(),
                title="Rename: Enter saves, Esc keeps the old name",
            ),
            html.Div(id=ids.cluster_message(key), className="field-message", role="status"),
            dcc.Store(id=ids.cluster_version(key), data=name_store(cluster)),
        ]
    )


def name_store(cluster: ClusterView) -> dict[str, Any]:
    """Return what the browser must send back to rename: the version and the name that were read."""
    return {"version": cluster.version, "name": cluster.name}


def conflict(cluster: ClusterView, mine: str) -> list[Any]:
    """Build the message for the second of two analysts who renamed the same cluster."""
    key = str(cluster.key)
    return [
        html.Span(
            f"Another analyst named it “{cluster.name}” (version {cluster.version}) while you "
            f"typed “{mine}”."
        ),
        html.Button(
            "Keep theirs",
            id=ids.cluster_choice(key, "theirs"),
            className="button button--small",
            type="button",
        ),
        html.Button(
            "Use mine",
            id=ids.cluster_choice(key, "mine"),
            className="button button--small",
            type="button",
        ),
    ]


def outlier_card(outlier: OutlierView, total: int) -> html.Article:
    """Build the card of a ranked outlier; `total` images were ranked."""
    image = str(outlier.image_id)
    verdict = outlier.verdict.verdict
    name = outlier.title or outlier.listing_id
    reason = outlier.reason[:1].upper() + outlier.reason[1:]
    return html.Article(
        [
            dcc.Link(
                [
                    picture(outlier.image_id, alt=name),
                    html.Span(f"#{count(outlier.rank)}", className="rank"),
                    html.Span(
                        verdict_badge(verdict), id=ids.verdict_badge(image), className="verdict-at"
                    ),
                ],
                href=ExploreState(image=outlier.image_id).href(),
                className="outlier-card__photo",
                title="Open in Explore",
            ),
            html.Div(
                [
                    html.Div(
                        [
                            html.Span(name, className="outlier-card__name", title=name),
                            html.Span(
                                f"{outlier.score:.3f}",
                                className="score",
                                title="Outlier score, 0 to 1",
                            ),
                        ],
                        className="outlier-card__head",
                    ),
                    html.P(reason, className="outlier-card__reason", title=reason),
                    kind_line(outlier.kind, outlier.evidence),
                    html.Div(
                        [
                            html.Span(
                                f"strangest {percent(outlier.rank / max(total, 1))}",
                                title=f"Rank {count(outlier.rank)} of {count(total)} images",
                            ),
                            html.Span(
                                f"k-NN distance {outlier.knn_distance:.3f}",
                                title="Distance to its nearest neighbours",
                            ),
                            html.Span(
                                f"LOF {outlier.lof:.2f}",
                                title="Local outlier factor: 1 among equals",
                            )
                            if outlier.lof
                            else None,
                            html.Span(
                                f"GLOSH {outlier.glosh:.2f}",
                                title="How far outside its cluster, 0 to 1",
                            ),
                        ],
                        className="meta",
                    ),
                    html.Div(
                        [
                            _verdict_button(image, "outlier", "flag", "o", verdict),
                            _verdict_button(image, "fine", "check", "f", verdict),
                        ],
                        className="verdicts",
                        role="group",
                        **aria(label="Verdict"),
                    ),
                ],
                className="card__body",
            ),
            dcc.Store(
                id=ids.verdict_version(image),
                data={"version": outlier.verdict.version, "verdict": verdict},
            ),
        ],
        id=ids.outlier_card(image),
        className=outlier_class(verdict),
        tabIndex=0,
        **data(card=""),
        **aria(label=f"Rank {outlier.rank}: {name}"),
    )


def kind_line(kind: str, evidence: Mapping[str, float]) -> html.Div | None:
    """Build the guess at the sort of an outlier, with the evidence in its title."""
    if not kind:
        return None
    parts = [f"{name} {value:.2g}" for name, value in sorted(evidence.items(), key=lambda p: p[1])]
    title = "How often the collection reaches this far: " + ", ".join(parts) if parts else ""
    return html.Div(
        html.Span(badge(KIND_WORDS[kind], KIND_TONES[kind]), title=title), className="badges"
    )


def outlier_class(verdict: str) -> str:
    """Return the classes of an outlier's card under a verdict."""
    return f"card outlier-card outlier-card--{verdict or 'open'}"


def verdict_badge(verdict: str) -> html.Span | None:
    """Build the badge of a verdict; nothing while nobody judged."""
    return badge(VERDICT_WORDS[verdict], VERDICT_TONES[verdict]) if verdict else None


def _verdict_button(image: str, value: str, sign: str, key: str, verdict: str) -> html.Button:
    return html.Button(
        [icon(sign), html.Span(VERDICT_WORDS[value])],
        id=ids.verdict(image, value),
        className=f"verdict verdict--{value}",
        type="button",
        title=f"{VERDICT_WORDS[value]} ({key.upper()})",
        **data(key=key),
        **aria(pressed="true" if verdict == value else "false"),
    )


def photo_tile(row: MapRow) -> dcc.Link:
    """Build a gallery tile of one image, a link that opens it in Explore."""
    name = row.title or row.listing_id
    return dcc.Link(
        [picture(row.image_id, alt=name), html.Div(html.Span(name), className="tile__label")],
        href=ExploreState(image=row.image_id).href(),
        className="tile",
        title=name,
    )
