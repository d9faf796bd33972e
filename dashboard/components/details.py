"""One picture in full: photo, listing, cluster, outlier score with its reason, attributes."""

from __future__ import annotations

from typing import Any

from dash import dcc, html

from analytics.maps.columns import readable
from dashboard import ids, state
from dashboard.components.cards import kind_line
from dashboard.components.gallery import CARDS, tile
from dashboard.components.widgets import aria, badge, icon, percent, photo_url, stock_words
from dashboard.learned import PredictionView
from dashboard.places import LabelsState
from dashboard.views import ImageView, ListingView

STRANGE = 0.95
"""From this outlier score on, the score is shown as a warning."""

LEFT = 0.005
"""What belongs to no cluster is said from this share on."""

_VERDICTS = {"outlier": ("True outlier", "danger"), "fine": ("Fine", "ok")}


def back() -> html.Button:
    """Build the way back to the gallery."""
    return html.Button(
        [icon("left"), "Gallery"],
        id={"type": ids.EXPLORE_BACK, "at": "panel"},
        className="button button--quiet button--small",
        type="button",
        title="Back to the gallery (Esc)",
    )


def details(
    image: ImageView,
    listing: ListingView,
    stock: int | None = None,
    guess: PredictionView | None = None,
) -> list[Any]:
    """Build the panel of one image; `listing` gives its other photos, `stock` None is unknown."""
    title = image.title or image.listing_id
    return [
        html.A(
            html.Img(src=photo_url(image.image_id), alt=title),
            href=photo_url(image.image_id),
            target="_blank",
            className="photo",
            style={"aspectRatio": f"{max(image.width, 1)} / {max(image.height, 1)}"},
            title="Open the photo itself",
        ),
        html.Div(
            [
                html.H2(title, className="panel__title"),
                html.P(image.listing_id, className="panel__note") if image.title else None,
                html.Div(_badges(image, stock), className="badges"),
            ],
            className="details__head",
        ),
        _shares(image),
        _predicted(guess),
        _outlier(image),
        _facts(image),
        _siblings(image, listing),
    ]


def _badges(image: ImageView, stock: int | None) -> list[Any]:
    found: list[Any] = []
    if stock is not None:
        found.append(badge(stock_words(stock), "ok" if stock else "warn"))
    if image.cluster_key is not None:
        found.append(
            dcc.Link(
                badge(image.cluster_name, "accent"), href=state.cluster_href(image.cluster_key)
            )
        )
    elif image.cluster_name:
        found.append(badge(image.cluster_name))
    if image.late:
        found.append(badge("Placed since the map was made"))
    if image.label:
        found.append(badge(image.label, "accent"))
    if image.verdict.verdict in _VERDICTS:
        found.append(badge(*_VERDICTS[image.verdict.verdict]))
    return found


def _shares(image: ImageView) -> html.Div | None:
    """Build how much of it belongs to which cluster; nothing where it is all of one."""
    if not image.shares:
        return None
    rest = 1.0 - sum(share.share for share in image.shares)
    rows = [(share.name, share.share, state.cluster_href(share.key)) for share in image.shares]
    return html.Div(
        [
            html.H3("Belongs to", className="panel__subtitle"),
            *(_share(name, share, href) for name, share, href in rows),
            _share("No cluster", rest, None) if rest >= LEFT else None,
        ],
        className="shares",
    )


def _share(name: str, share: float, href: str | None) -> html.Div:
    shown = html.Span(name) if href is None else dcc.Link(name, href=href)
    return html.Div(
        [
            html.Div(shown, className="share__name", title=name),
            html.Span(percent(share), className="share__value"),
            html.Div(
                html.Div(className="bar__fill", style={"width": f"{min(max(share, 0), 1):.1%}"}),
                className="bar" if href else "bar bar--quiet",
            ),
        ],
        className="share",
    )


def _predicted(guess: PredictionView | None) -> html.P | None:
    """Build what was learned says of the image: nothing of it is anybody's decision."""
    if guess is None or not (guess.classes or guess.suggested):
        return None
    parts: list[Any] = []
    if guess.classes:
        best = guess.classes[0]
        href = ids.PATH_LABELS + LabelsState(name=best.name).write()
        parts += ["Predicted: ", dcc.Link(best.name, href=href), f" {percent(best.confidence)}"]
    for each in guess.suggested:
        parts += [" · " if parts else "", f"Suggested: {each.name}"]
    return html.P(parts, className="panel__note")


def _outlier(image: ImageView) -> html.Div | None:
    if image.outlier_score is None:
        return None
    score = image.outlier_score
    strange = score >= STRANGE
    return html.Div(
        [
            html.Div(
                [
                    html.Span("Outlier score"),
                    html.Span(f"{score:.3f}", className="hit-score"),
                ],
                className="gauge__label",
            ),
            html.Div(
                html.Div(className="bar__fill", style={"width": f"{min(max(score, 0), 1):.1%}"}),
                className="bar",
                role="img",
                **aria(label=f"Outlier score {score:.3f} of 1"),
            ),
            html.P(image.outlier_reason, className="gauge__reason")
            if image.outlier_reason
            else None,
            kind_line(image.outlier_kind, image.evidence),
        ],
        className="gauge gauge--strange" if strange else "gauge",
    )


def _facts(image: ImageView) -> html.Dl:
    pairs = [(readable(name), value) for name, value in sorted(image.attributes.items()) if value]
    if image.membership is not None and image.cluster_key is not None:
        pairs.append(("Cluster membership", percent(image.membership)))
    if image.lof is not None:
        pairs.append(("Local outlier factor", f"{image.lof:.2f}"))
    if image.looks:
        pairs.append(("Brightness", percent(image.looks["brightness"])))
        pairs.append(("Contrast", percent(image.looks["contrast"])))
        pairs.append(("Sharpness", f"{image.looks['sharpness']:,.0f}"))
    pairs.append(("Photo", f"{image.width} x {image.height} {image.format}"))
    return html.Dl(
        [html.Div([html.Dt(name), html.Dd(value)]) for name, value in pairs], className="facts"
    )


def _siblings(image: ImageView, listing: ListingView) -> html.Div | None:
    if len(listing.images) < 2:
        return None
    return html.Div(
        [
            html.H3(f"{len(listing.images)} photos of this listing", className="panel__subtitle"),
            html.Div(
                [
                    tile(
                        photo.image_id,
                        f"Photo {number}",
                        "sibling",
                        here=photo.image_id == image.image_id,
                    )
                    for number, photo in enumerate(listing.images, start=1)
                ],
                className="strip",
                **CARDS,
            ),
        ]
    )
