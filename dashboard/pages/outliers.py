"""Outliers: the ranking of all images by strangeness, with a verdict on each."""

from __future__ import annotations

from typing import Any, Final

from dash import dcc, html

from dashboard import ids
from dashboard.components import cards, states
from dashboard.components.widgets import aria, count, data, icon, plural
from dashboard.state import OutliersState, Show, Sort
from dashboard.views import OutlierPage

PAGE: Final = 60
"""Outliers on one page."""

SHOW: Final[tuple[tuple[Show, str], ...]] = (
    ("all", "All"),
    ("undecided", "Undecided"),
    ("outlier", "True outliers"),
    ("fine", "Fine"),
)

SORTS: Final[tuple[tuple[Sort, str], ...]] = (
    ("all", "Any sort"),
    ("photo", "Bad photos"),
    ("category", "Wrong category"),
    ("rare", "Rare"),
)


def layout(search: str | None) -> html.Div:
    """Build the page before its data came."""
    state = OutliersState.read(search)
    return html.Div(
        [
            html.Div(
                [
                    html.Div(
                        [
                            html.H1("Outliers"),
                            html.P(
                                id=ids.OUTLIERS_SUMMARY,
                                className="page-head__summary",
                                role="status",
                            ),
                        ],
                        className="page-head__text",
                    ),
                    html.Div(
                        controls(state), id=ids.OUTLIERS_CONTROLS, className="page-head__controls"
                    ),
                ],
                className="page-head",
            ),
            html.Div(states.tiles_skeleton(24, "outliers"), id=ids.OUTLIERS_LIST),
        ],
        className="content",
    )


def controls(state: OutliersState) -> html.Div:
    """Build the choices of sorts and verdicts: links, so that each view has an address."""
    sorts = [
        _segment(label, OutliersState(show=state.show, sort=sort), state.sort == sort)
        for sort, label in SORTS
    ]
    shows = [
        _segment(label, OutliersState(show=show, sort=state.sort), state.show == show)
        for show, label in SHOW
    ]
    return html.Div(
        [
            html.Div(sorts, className="segments", role="group", **aria(label="Sort of outlier")),
            html.Div(shows, className="segments", role="group", **aria(label="Verdict")),
        ],
        className="choices",
    )


def _segment(label: str, state: OutliersState, here: bool) -> dcc.Link:
    css = "segments__item segments__item--here" if here else "segments__item"
    return dcc.Link(label, href=ids.PATH_OUTLIERS + state.write(), className=css)


def offset(state: OutliersState) -> int:
    """Return how many outliers come before the page."""
    return (state.page - 1) * PAGE


def counts(page: OutlierPage) -> dict[str, int]:
    """Return the counts of the summary, which verdicts move on."""
    return {"ranked": page.ranked, "total": page.total, "judged": page.judged}


def summary(numbers: dict[str, int]) -> list[Any]:
    """Build the line that counts: ranked, of how many, judged."""
    return [
        html.Strong(plural(numbers["ranked"], "image")),
        f" ranked over all {count(numbers['total'])}, {count(numbers['judged'])} judged",
    ]


def gallery(page: OutlierPage | None, state: OutliersState) -> Any:
    """Build the cards and the pager, or what stands in their place."""
    if page is None:
        return states.empty(
            "No outliers yet",
            "The ranking appears when the first analysis of the collection is done. "
            "Its progress is on the page of jobs.",
            picture="outliers",
            action=dcc.Link("Show jobs", href=ids.PATH_JOBS, className="button"),
        )
    if not page.outliers:
        return _nothing(page, state)
    return html.Div(
        [
            html.Div(
                [cards.outlier_card(outlier, page.total) for outlier in page.outliers],
                className="outliers",
                **data(cards=""),
            ),
            pager(page, state),
        ]
    )


def pager(page: OutlierPage, state: OutliersState) -> html.Nav:
    """Build "showing a to b" with links to the pages around."""
    first = page.offset + 1
    last = page.offset + len(page.outliers)
    every = state.show == "all" and state.sort == "all"
    of = f" of {count(page.ranked)}" if every else ""
    return html.Nav(
        [
            html.Span(f"Showing {count(first)} to {count(last)}{of}, over all {count(page.total)}"),
            html.Div(
                [
                    _step("left", "Previous", state, state.page - 1, state.page > 1),
                    _step("right", "Next", state, state.page + 1, page.next_offset is not None),
                ],
                className="pager__links",
            ),
        ],
        className="pager",
        **aria(label="Pages of the ranking"),
    )


def _step(sign: str, label: str, state: OutliersState, page: int, possible: bool) -> Any:
    parts = [icon(sign), html.Span(label)] if sign == "left" else [html.Span(label), icon(sign)]
    if not possible:
        return html.Span(parts, className="button", **aria(disabled="true"))
    href = ids.PATH_OUTLIERS + OutliersState(show=state.show, sort=state.sort, page=page).write()
    return dcc.Link(parts, href=href, className="button")


def _nothing(page: OutlierPage, state: OutliersState) -> html.Div:
    every = dcc.Link("Show all", href=ids.PATH_OUTLIERS, className="button")
    if state.page > 1:
        return states.empty("The ranking ends before this page", "", action=every)
    if not page.ranked:
        return states.empty(
            "Nothing stands out",
            f"No image of {count(page.total)} is far from the others.",
            picture="outliers",
        )
    if state.sort != "all":
        return states.empty(
            "None of this sort",
            "No image with this verdict stands out in this way.",
            picture="outliers",
            action=every,
        )
    words = {
        "undecided": (
            "Everything is judged",
            f"All {plural(page.ranked, 'image')} have a verdict.",
        ),
        "outlier": (
            "No true outliers so far",
            "Mark one with the button on its card, or with O while the card is chosen.",
        ),
        "fine": (
            "Nothing was marked as fine so far",
            "Mark one with the button on its card, or with F while the card is chosen.",
        ),
    }
    title, text = words.get(state.show, ("Nothing here", ""))
    return states.empty(title, text, picture="outliers", action=every)
