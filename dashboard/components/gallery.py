"""Pictures as tiles: the gallery of a selection, and the hits of a search with their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from dash import dcc, html

from dashboard import ids
from dashboard.answers import HitView, SearchView
from dashboard.components import states, terms
from dashboard.components.widgets import (
    API,
    aria,
    count,
    icon,
    picture,
    plural,
    stock_read,
    stock_words,
)
from dashboard.state import SearchState
from dashboard.views import MapRow, SelectionView

CARDS: dict[str, Any] = {"data-cards": ""}
"""Marks a list whose tiles the arrow keys walk through (assets/keys.js)."""

MARKED: dict[str, Any] = {"data-marks": ""}
"""Marks a hit whose buttons say more or less of it: Alt+click presses the second one."""

PAGE = 60
"""Pictures on one page of the gallery."""

HITS = 120
"""Hits that the panel shows; a page of its own has all of them."""


def tile(
    image_id: UUID,
    title: str,
    place: str,
    *,
    score: float | None = None,
    stock: int | None = None,
    read_at: datetime | None = None,
    here: bool = False,
) -> html.Button:
    """Build a picture that opens itself; `place` tells tiles of one image apart.

    `read_at` is when the stock was read, where that was a part of the search.
    """
    label = [html.Span(title)]
    spoken, foot = title, []
    if score is not None:
        foot.append(html.Span(f"{score:.3f}", className="hit-score"))
        spoken = f"{spoken}, score {score:.3f}"
    if stock is not None and read_at is None:
        words = stock_words(stock)
        short = f"{count(stock)} in stock" if stock else "out of stock"
        foot.append(html.Span(short, className="tile__stock", title=words))
        spoken = f"{spoken}, {words[:1].lower()}{words[1:]}"
    if foot:
        label.append(html.Span(foot, className="tile__foot"))
    if stock is not None and read_at is not None:
        label.append(html.Span(stock_read(stock, read_at), className="tile__read"))
        spoken = f"{spoken}, in stock: {count(stock)}"
    return html.Button(
        [picture(image_id, alt=""), html.Span(label, className="tile__label")],
        id=ids.explore_hit(str(image_id), place),
        className="tile tile--here" if here else "tile",
        type="button",
        title=title,
        **{"data-card": "", **aria(label=spoken)},
    )


def gallery(found: SelectionView, narrowed: bool, decide: str = "") -> list[Any]:
    """Build one page of the selection, with its exact count over all rows.

    `decide` is the address of the page that labels or splits it.
    """
    share = f"{count(found.count)} of {plural(found.total, 'image')}"
    head = html.Div(
        [
            html.H2("Selection" if narrowed else "All images", className="panel__title"),
            html.Output(share, className="panel__count", id=ids.EXPLORE_COUNT),
            dcc.Link("Label or split", href=decide, className="button button--small")
            if decide and narrowed and found.count
            else None,
        ],
        className="panel__head",
    )
    if found.count == 0:
        text = "No image matches every condition. Take one away above the map."
        return [head, states.empty("Nothing selected", text)]
    tiles = html.Div(
        [_row(row, found.offset) for row in found.rows],
        className="tiles tiles--small",
        **CARDS,
    )
    return [head, tiles, pager(found)]


def pager(found: SelectionView) -> html.Div | None:
    """Build the way to the other pages; None when there is one only."""
    if found.offset == 0 and found.next_offset is None:
        return None
    last = found.offset + len(found.rows)
    return html.Div(
        [
            html.Span(f"{count(found.offset + 1)} to {count(last)} of {count(found.count)}"),
            html.Div(
                [
                    _page("left", "Previous page", max(found.offset - PAGE, 0), found.offset > 0),
                    _page("right", "Next page", last, found.next_offset is not None),
                ],
                className="pager__links",
            ),
        ],
        className="pager",
    )


def similar_title() -> html.H3:
    """Build the title over the neighbours of a picture."""
    return html.H3("Most similar listings", className="panel__subtitle")


def hits(
    found: SearchView, image_id: UUID | None, stocks: Mapping[str, int] | None = None
) -> list[Any]:
    """Build the most similar listings by score, each with the image of it that won.

    `stocks` are the listings' stocks, where they are known.
    """
    known = stocks or {}
    if not found.hits:
        text = "No other listing passes what this search asks for: ask for less above."
        return [states.empty("Nothing was found", text)]
    shown = [
        html.Div(
            [
                hit_tile(hit, image_id, known.get(hit.listing_id)),
                terms.marks(hit.image_id, found) if hit.image_id != image_id else None,
            ],
            className="hit",
            **MARKED,
        )
        for hit in found.hits[:HITS]
    ]
    found_all = None
    if found.hits_total > len(shown):
        found_all = dcc.Link(
            f"All {count(found.hits_total)} listings",
            href=ids.PATH_SEARCH + SearchState(query=found.query_id).write(),
            className="button hits__all",
        )
    return [html.Div(shown, className="tiles tiles--small", **CARDS), found_all]


def hit_tile(hit: HitView, image_id: UUID | None, stock: int | None = None) -> html.Button:
    """Build one hit; its score is the cosine similarity of the winning image."""
    return tile(
        hit.image_id,
        hit.title or hit.listing_id,
        f"hit-{hit.rank}",
        score=hit.score,
        stock=stock if hit.stock_read_at is None else hit.inventory,
        read_at=hit.stock_read_at,
        here=hit.image_id == image_id,
    )


def asked(found: SearchView) -> html.Div:
    """Build what a search was asked with."""
    example: Any = None
    if found.uploads:
        example = html.Img(
            src=f"{API}/uploads/{found.uploads[0]}", alt="The picture that was searched for"
        )
    elif found.image_ids:
        example = picture(found.image_ids[0], alt="The picture that was searched for")
    return html.Div(
        [
            html.Div(icon("search") if example is None else example, className="sought__picture"),
            html.Div(
                [
                    html.H2("Similar to your picture" if found.uploads else "Search result"),
                    html.P(found.name, className="sought__name") if found.name else None,
                    html.P(
                        f"{plural(found.hits_total, 'listing')} by similarity",
                        className="sought__note",
                    ),
                ]
            ),
        ],
        className="sought",
    )


def _row(row: MapRow, offset: int) -> html.Button:
    return tile(row.image_id, row.title or row.listing_id, f"row-{row.row}-{offset}")


def _page(name: str, label: str, offset: int, able: bool) -> html.Button:
    return html.Button(
        icon(name),
        id={"type": ids.EXPLORE_GALLERY_PAGE, "offset": offset, "side": name},
        className="button button--small",
        type="button",
        disabled=not able,
        title=label,
        **aria(label=label),
    )


def row_numbers(found: Sequence[HitView], rows: dict[UUID, int]) -> list[int]:
    """Map rows of the winning images, best first; images off the map are left out."""
    return [rows[hit.image_id] for hit in found if hit.image_id in rows]
