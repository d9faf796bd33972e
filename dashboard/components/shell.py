"""The frame around every page: top bar, navigation, toasts, the list of keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dash import dcc, html

from dashboard import ids
from dashboard.components import states
from dashboard.components.widgets import aria, data, icon

if TYPE_CHECKING:
    from dashboard.services import Services


@dataclass(frozen=True, slots=True)
class Destination:
    """An entry of the navigation."""

    path: str
    label: str
    icon: str


DESTINATIONS: Final = (
    Destination(ids.PATH_EXPLORE, "Explore", "map"),
    Destination(ids.PATH_SEARCH, "Searches", "search"),
    Destination(ids.PATH_CLUSTERS, "Clusters", "clusters"),
    Destination(ids.PATH_OUTLIERS, "Outliers", "outliers"),
    Destination(ids.PATH_DUPLICATES, "Duplicates", "copies"),
    Destination(ids.PATH_LABELS, "Labels", "star"),
    Destination(ids.PATH_CHANGES, "Changes", "changes"),
    Destination(ids.PATH_DECISIONS, "Decisions", "check"),
    Destination(ids.PATH_JOBS, "Jobs", "jobs"),
)
ALWAYS: Final = 4
"""Entries that narrow screens show; the others are behind "More" there (assets/shell.css)."""

KEYS: Final[tuple[tuple[str, tuple[tuple[tuple[str, ...], str], ...]], ...]] = (
    (
        "Everywhere",
        (
            (("?",), "This list"),
            (("Ctrl", "Z"), "Undo the last decision"),
            (("Esc",), "Close, cancel, clear"),
        ),
    ),
    (
        "Map",
        (
            (("Wheel",), "Zoom at the cursor"),
            (("Drag",), "Pan"),
            (("Shift", "Drag"), "Select a box"),
            (("Shift", "Alt", "Drag"), "Select with a lasso"),
            (("Click",), "Open a picture and what is like it"),
        ),
    ),
    (
        "Similar listings",
        (
            (("Click",), "Open it and what is like it"),
            (("Alt", "Click"), "Find none like it"),
            (("+",), "Find more like it"),
            (("-",), "Find none like it"),
            (("←", "→", "↑", "↓"), "Move"),
        ),
    ),
    (
        "Outliers",
        (
            (("←", "→", "↑", "↓"), "Move"),
            (("O",), "True outlier"),
            (("F",), "Fine"),
            (("U",), "Undo"),
            (("Enter",), "Open in Explore"),
        ),
    ),
    (
        "Duplicates",
        (
            (("↑", "↓"), "Move"),
            (("D",), "Duplicate"),
            (("N",), "Not a duplicate"),
            (("U",), "Undo"),
        ),
    ),
    (
        "Labels",
        (
            (("←", "→", "↑", "↓"), "Move"),
            (("A",), "Accept the class"),
            (("O",), "Another label"),
            (("S",), "Skip"),
            (("U",), "Undo"),
        ),
    ),
    (
        "Teach",
        (
            (("+",), "It has it"),
            (("-",), "It does not"),
            (("←", "→", "↑", "↓"), "Move"),
        ),
    ),
    (
        "Names",
        (
            (("Enter",), "Save the name"),
            (("Esc",), "Keep the old one"),
        ),
    ),
)


def layout(services: Services) -> html.Div:
    """Build the frame. The page inside it follows the address (`callbacks.shell`)."""
    return html.Div(
        [
            dcc.Location(id=ids.URL, refresh=False),
            dcc.Store(id=ids.THEME),
            dcc.Store(id=ids.UNDO),
            dcc.Store(id=ids.REFRESH),
            # Dash calls a callback of vanished buttons once more: its state must still be there.
            dcc.Store(id=ids.OUTLIERS_COUNTS),
            dcc.Store(id=ids.LABELS_BINS),
            dcc.Store(id=ids.DUPLICATES_COUNTS),
            dcc.Store(id=ids.TITLE),
            dcc.Interval(id=ids.JOB_BADGE_TICK, interval=10_000),
            html.Button(id=ids.UNDO_KEY, hidden=True, tabIndex=-1),
            html.A("Skip to the page", href=f"#{ids.PAGE}", className="skip"),
            html.Header(
                [
                    dcc.Link(
                        [html.Span(className="brand__mark"), html.Span("Sightline")],
                        href=ids.PATH_EXPLORE,
                        className="brand",
                    ),
                    html.Nav(navigation(None), id=ids.NAV, className="nav", **aria(label="Pages")),
                    html.Div(
                        _actions(services.settings.data_dir.name), className="topbar__actions"
                    ),
                ],
                className="topbar",
            ),
            html.Main(states.loading_page(), id=ids.PAGE, className="page", tabIndex=-1),
            html.Div(id=ids.TOASTS, className="toasts", role="status", **aria(live="polite")),
            _keys_dialog(),
        ],
        className="shell",
    )


def navigation(pathname: str | None) -> list[Any]:
    """Build the links of the navigation, the one that `pathname` lies under marked as current.

    The menu behind "More" is opened and closed by assets/keys.js.
    """
    here = place(pathname)
    first, rest = DESTINATIONS[:ALWAYS], DESTINATIONS[ALWAYS:]
    return [
        *(_link(item, here) for item in first),
        html.Button(
            [icon("more"), html.Span("More")],
            className="nav__more nav__more--here" if here in rest else "nav__more",
            type="button",
            **data(menu=ids.NAV_MENU),
            **aria(expanded="false", controls=ids.NAV_MENU),
        ),
        html.Div([_link(item, here) for item in rest], id=ids.NAV_MENU, className="nav__menu"),
    ]


def _link(item: Destination, here: Destination | None) -> dcc.Link:
    return dcc.Link(
        [icon(item.icon), html.Span(item.label)],
        href=item.path,
        className="nav__link nav__link--here" if item is here else "nav__link",
    )


def place(pathname: str | None) -> Destination | None:
    """Return the entry of the navigation that `pathname` lies under."""
    path = (pathname or "").rstrip("/") or "/"
    for item in DESTINATIONS:
        if path == item.path or (item.path != "/" and path.startswith(item.path + "/")):
            return item
    return None


def job_badge(running: int, failed: bool = False) -> list[Any]:
    """Build what the top bar says of work in progress: nothing while nothing runs."""
    if failed:
        return [html.Span(className="dot dot--off"), html.Span("Offline")]
    if not running:
        return []
    return [html.Span(className="dot dot--busy"), html.Span(f"{running} running")]


def _actions(collection: str) -> list[Any]:
    return [
        dcc.Link(
            html.Span(id=ids.JOB_BADGE), href=ids.PATH_JOBS, className="job-badge", title="Jobs"
        ),
        html.Span(collection, className="collection-name", title="Collection"),
        html.Button(
            html.Span("?"),
            id=ids.KEYS_OPEN,
            className="icon-button",
            type="button",
            title="Keys (?)",
            **aria(label="Show the keys"),
        ),
        html.Button(
            [icon("sun"), icon("moon")],
            id=ids.THEME_TOGGLE,
            className="icon-button theme-toggle",
            type="button",
            title="Light or dark",
            **aria(label="Switch between light and dark"),
        ),
    ]


def _keys_dialog() -> html.Dialog:
    groups = [
        html.Section(
            [
                html.H3(title, className="keys__title"),
                html.Dl(
                    [
                        html.Div(
                            [
                                html.Dt([html.Kbd(key) for key in combination]),
                                html.Dd(meaning),
                            ],
                            className="keys__row",
                        )
                        for combination, meaning in rows
                    ]
                ),
            ]
        )
        for title, rows in KEYS
    ]
    return html.Dialog(
        [
            html.Div(
                [
                    html.H2("Keys", className="dialog__title", id=f"{ids.KEYS_DIALOG}-title"),
                    html.Button(
                        icon("close"),
                        className="icon-button",
                        type="button",
                        **data(close=""),
                        **aria(label="Close"),
                    ),
                ],
                className="dialog__head",
            ),
            html.Div(groups, className="keys"),
        ],
        id=ids.KEYS_DIALOG,
        className="dialog",
        **aria(labelledby=f"{ids.KEYS_DIALOG}-title"),
    )
