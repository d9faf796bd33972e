"""Near-duplicates: groups of copies with a decision on each, and how well copies are found."""

from __future__ import annotations

from typing import Any, Final

from dash import dcc, html

from dashboard import ids
from dashboard.components import groups, states
from dashboard.components.widgets import aria, count, data, icon, percent, plural
from dashboard.doubles import DuplicatePage
from dashboard.figures import CONFIG, CURVE_HEIGHT, blank
from dashboard.state import Decided, DuplicatesState

PAGE: Final = 40
"""Groups on one page."""

SHOW: Final[tuple[tuple[Decided, str], ...]] = (
    ("all", "All"),
    ("undecided", "Undecided"),
    ("duplicate", "Duplicates"),
    ("distinct", "Not duplicates"),
    ("changed", "Changed"),
)


def layout(search: str | None) -> html.Div:
    """Build the page before its data came."""
    state = DuplicatesState.read(search)
    return html.Div(
        [
            html.Div(
                [
                    html.Div(
                        [
                            html.H1("Duplicates"),
                            html.P(
                                id=ids.DUPLICATES_SUMMARY,
                                className="page-head__summary",
                                role="status",
                            ),
                        ],
                        className="page-head__text",
                    ),
                    html.Div(
                        controls(state),
                        id=ids.DUPLICATES_CONTROLS,
                        className="page-head__controls",
                    ),
                ],
                className="page-head",
            ),
            html.Details(
                [
                    html.Summary("How well copies are found", className="disclosure"),
                    html.P(id=ids.DUPLICATES_BASIS, className="hint"),
                    dcc.Graph(
                        id=ids.DUPLICATES_CHART,
                        figure=blank(),
                        config=CONFIG,  # type: ignore[arg-type]
                        className="curve",
                        style={"height": f"{CURVE_HEIGHT}px"},
                    ),
                ],
                id=ids.DUPLICATES_QUALITY,
                className="quality",
                hidden=True,
            ),
            html.Div(states.rows_skeleton(6), id=ids.DUPLICATES_LIST),
        ],
        className="content",
    )


def controls(state: DuplicatesState) -> html.Div:
    """Build the choice of decisions: links, so that each view has an address."""
    return html.Div(
        [
            dcc.Link(
                label,
                href=ids.PATH_DUPLICATES + DuplicatesState(show=show).write(),
                className="segments__item segments__item--here"
                if state.show == show
                else "segments__item",
            )
            for show, label in SHOW
        ],
        className="segments",
        role="group",
        **aria(label="Decision"),
    )


def offset(state: DuplicatesState) -> int:
    """Return how many groups come before the page."""
    return (state.page - 1) * PAGE


def counts(page: DuplicatePage) -> dict[str, int]:
    """Return the counts of the summary, which decisions move on."""
    return {
        "groups": page.groups_total,
        "images": page.images,
        "rows": page.rows,
        "measured": page.measured,
        "judged": page.judged,
    }


def summary(numbers: dict[str, int]) -> list[Any]:
    """Build the line that counts: groups, images in them, of how many, decided."""
    parts: list[Any] = [
        html.Strong(plural(numbers["groups"], "group")),
        f" of {plural(numbers['images'], 'image')} over all {count(numbers['rows'])}",
        f", {count(numbers['judged'])} decided",
    ]
    left = numbers["rows"] - numbers["measured"]
    if left:
        parts.append(f" · {plural(left, 'image')} could not be compared: not measured yet")
    return parts


def basis(page: DuplicatePage) -> str:
    """Say what the curve was measured on, and what the chosen threshold reaches on it."""
    text = f"Measured on {page.basis}."
    point = next((p for p in page.curve if abs(p.threshold - page.threshold) < 1e-9), None)
    if point is None:
        return f"{page.basis[:1].upper()}{page.basis[1:]} ({page.threshold:.3f})."
    return (
        f"{text} At {page.threshold:.3f}, precision is {percent(point.precision)} and recall "
        f"{percent(point.recall)}."
    )


def listing(page: DuplicatePage | None, state: DuplicatesState) -> Any:
    """Build the groups and the pager, or what stands in their place."""
    if page is None or not page.looked:
        return states.empty(
            "No near-duplicates yet",
            "They are looked for in the analysis of the collection. Its progress is on the page "
            "of jobs."
            if page is None
            else "This map was made before near-duplicates were looked for: analyse again.",
            picture="copies",
            action=dcc.Link("Show jobs", href=ids.PATH_JOBS, className="button"),
        )
    if not page.groups:
        return _nothing(page, state)
    return html.Div(
        [
            html.Div(
                [groups.group_row(group) for group in page.groups],
                className="stack",
                **data(cards=""),
            ),
            pager(page, state),
        ]
    )


def pager(page: DuplicatePage, state: DuplicatesState) -> html.Nav:
    """Build "showing a to b" with links to the pages around."""
    first = page.offset + 1
    last = page.offset + len(page.groups)
    of = f" of {count(page.groups_total)}" if state.show == "all" else ""
    return html.Nav(
        [
            html.Span(f"Showing {count(first)} to {count(last)}{of}"),
            html.Div(
                [
                    _step("left", "Previous", state, state.page - 1, state.page > 1),
                    _step("right", "Next", state, state.page + 1, page.next_offset is not None),
                ],
                className="pager__links",
            ),
        ],
        className="pager",
        **aria(label="Pages of groups"),
    )


def _step(sign: str, label: str, state: DuplicatesState, page: int, possible: bool) -> Any:
    parts = [icon(sign), html.Span(label)] if sign == "left" else [html.Span(label), icon(sign)]
    if not possible:
        return html.Span(parts, className="button", **aria(disabled="true"))
    href = ids.PATH_DUPLICATES + DuplicatesState(show=state.show, page=page).write()
    return dcc.Link(parts, href=href, className="button")


def _nothing(page: DuplicatePage, state: DuplicatesState) -> html.Div:
    every = dcc.Link("Show all", href=ids.PATH_DUPLICATES, className="button")
    if state.page > 1:
        return states.empty("The list ends before this page", "", action=every)
    if not page.groups_total:
        return states.empty(
            "No copies found",
            f"No two of {plural(page.rows, 'image')} show the same picture.",
            picture="copies",
        )
    words = {
        "undecided": (
            "Everything is decided",
            f"All {plural(page.groups_total, 'group')} have a decision.",
        ),
        "duplicate": (
            "No duplicates so far",
            "Mark a group with the button on its row, or with D while the row is chosen.",
        ),
        "distinct": (
            "No group was marked as different pictures",
            "Mark one with the button on its row, or with N while the row is chosen.",
        ),
        "changed": (
            "No decided group has changed",
            "A group is listed here when it has other members than when it was decided.",
        ),
    }
    title, text = words.get(state.show, ("Nothing here", ""))
    return states.empty(title, text, picture="copies", action=every)
