"""Labels: what every image is taken for, how right that is, and whom to ask next."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from dash import dcc, html

from analytics.decisions.decided import PREDICTED
from dashboard import ids
from dashboard.components import states
from dashboard.components.review import review_card
from dashboard.components.widgets import aria, count, data, icon, percent, plural
from dashboard.figures import CONFIG, TALL, blank
from dashboard.learned import ClassesView, ClassView, GuessPage
from dashboard.places import LabelsState
from dashboard.state import ExploreState, Filter

PAGE: Final = 48
"""Images on one page."""
CLASSES_SHOWN: Final = 40


def layout(search: str | None) -> html.Div:
    """Build the page before its data came."""
    state = LabelsState.read(search)
    return html.Div(
        [
            html.Div(
                [
                    html.Div(
                        [
                            html.H1("Labels"),
                            html.P(
                                id=ids.LABELS_SUMMARY,
                                className="page-head__summary",
                                role="status",
                            ),
                        ],
                        className="page-head__text",
                    ),
                    html.Div(
                        [
                            dcc.Link("Teach a concept", href=ids.PATH_TEACH, className="button"),
                            html.Button(
                                "Train",
                                id=ids.LABELS_TRAIN,
                                className="button button--primary",
                                type="button",
                                title="Learn from all labels, then predict every image",
                            ),
                        ],
                        className="page-head__controls",
                    ),
                ],
                className="page-head",
            ),
            html.Datalist(id=ids.LABELS_NAMES),
            html.Div(
                [
                    html.Div(
                        [
                            html.Div(controls(state), id=ids.LABELS_CONTROLS),
                            html.Div(states.tiles_skeleton(12, "outliers"), id=ids.LABELS_LIST),
                        ],
                        className="columns__main",
                    ),
                    html.Aside(
                        [
                            html.Div(states.rows_skeleton(4), id=ids.LABELS_SIDE, className="side"),
                            dcc.Graph(
                                id=ids.LABELS_CHART,
                                figure=blank(),
                                config=CONFIG,  # type: ignore[arg-type]
                                className="chart",
                                style={"height": TALL},
                            ),
                        ],
                        className="columns__side",
                    ),
                ],
                className="columns labels",
            ),
        ],
        className="content",
    )


def controls(state: LabelsState) -> html.Div:
    """Build the two views: least sure of all, or one class, chosen in the list of classes."""
    links = [("Least sure", ids.PATH_LABELS, not (state.name or state.concept))]
    if state.name:
        here = ids.PATH_LABELS + LabelsState(name=state.name).write()
        links.append((f"In “{state.name}”", here, True))
    if state.concept:
        here = ids.PATH_LABELS + LabelsState(concept=state.concept).write()
        links.append((f"Proposed by “{state.concept}”", here, True))
    return html.Div(
        [
            dcc.Link(
                text,
                href=href,
                className="segments__item segments__item--here" if here else "segments__item",
            )
            for text, href, here in links
        ],
        className="segments labels__views",
        role="group",
        **aria(label="View"),
    )


def summary(found: ClassesView) -> list[Any]:
    """Build the line that says how much is labelled, and how good the classifier is."""
    if not found.classes:
        return ["No image has a label yet"]
    parts: list[Any] = [
        html.Strong(plural(found.labelled, "labelled image")),
        f" in {plural(len(found.classes), 'class', 'classes')}",
    ]
    trained = found.trained
    if trained is None:
        return [*parts, ", nothing trained yet"]
    if trained.accuracy is not None:
        parts += [
            ", ",
            html.Strong(f"{percent(trained.accuracy)} right"),
            f" on {plural(trained.held_out, 'held-out image')}",
        ]
    if found.stale:
        parts.append(". Labels changed since: train again")
    return parts


def names(found: ClassesView) -> list[html.Option]:
    """Build the names that a field for a label offers."""
    return [html.Option(value=each.name) for each in found.classes]


def side(found: ClassesView, state: LabelsState) -> list[Any]:
    """Build the list of classes and the figures of the training."""
    if not found.classes:
        return []
    shown = found.classes[:CLASSES_SHOWN]
    most = max(each.predicted for each in found.classes)
    more = len(found.classes) - len(shown)
    parts: list[Any] = [
        html.Section(
            [
                html.H2("Classes", className="side-title"),
                html.Div(
                    [_class(each, most, state, found.trained is not None) for each in shown],
                    className="classes",
                ),
                html.P(f"{count(more)} more", className="hint") if more else None,
                _as_of(found),
                on_map(state) if found.trained is not None and found.usable else None,
            ],
            className="labels__classes",
        )
    ]
    trained = found.trained
    if trained is None:
        return parts
    held = html.H2("Held out", className="side-title")
    if trained.accuracy is None:
        text = "Too few listings to hold any out: label images of more listings."
        return [*parts, html.Section([held, html.P(text, className="hint")])]
    pairs = [
        ("Right", percent(trained.accuracy)),
        ("Mean of classes", percent(trained.balanced or 0.0)),
        ("Always the largest", percent(trained.guess or 0.0)),
        ("Calibration error", percent(trained.ece or 0.0)),
        ("Before calibration", percent(trained.ece_before or 0.0)),
        ("Images", f"{count(trained.held_out)} of {count(trained.labels)}"),
        ("Listings", count(trained.listings)),
    ]
    facts = [html.Div([html.Dt(name), html.Dd(value)]) for name, value in pairs]
    hint = "No listing is on both sides of the split."
    figures = [held, html.Dl(facts, className="facts"), html.P(hint, className="hint")]
    return [*parts, html.Section(figures)]


def on_map(state: LabelsState) -> dcc.Link:
    """Build the way to the map by predicted class, of the chosen class alone where there is one."""
    filters = (Filter(PREDICTED, (state.name,)),) if state.name else ()
    return dcc.Link(
        [icon("map"), html.Span("Show on the map")],
        href=ExploreState(colour=PREDICTED, filters=filters).href(),
        className="button button--small labels__map",
    )


def gallery(page: GuessPage, state: LabelsState) -> html.Div:
    """Build the cards of a page of images and the pager."""
    if not page.guesses:
        if state.page > 1:
            here = ids.PATH_LABELS + replace(state, page=1).write()
            first = dcc.Link("First page", href=here, className="button")
            return states.empty("The ranking ends before this page", "", action=first)
        if state.concept:
            text = "Images that arrive from now on and have it are shown here."
            return states.empty(f"Nothing new has “{state.concept}”", text)
        title = f"No image is taken for “{state.name}”" if state.name else "Every image has a label"
        return states.empty(title, "")
    return html.Div(
        [
            html.Div(
                [review_card(each) for each in page.guesses],
                className="outliers reviews",
                **data(cards=""),
            ),
            _pager(page, state),
        ]
    )


def untrained(found: ClassesView) -> html.Div:
    """Build what stands in place of the cards before a training."""
    if len(found.classes) < 2:
        return states.empty(
            "Label some images first",
            "Select images on the map, then label them. Two classes are enough to train.",
            action=dcc.Link("Open Explore", href=ids.PATH_EXPLORE, className="button"),
        )
    return states.empty(
        "Nothing trained yet",
        f"Press Train: {plural(found.labelled, 'label')} teach a class to every image.",
    )


def _as_of(found: ClassesView) -> html.P | None:
    if found.trained is None or found.counted_at is not None:
        return None
    why = "no host answers" if found.usable else "the collection has another model now"
    return html.P(f"Predicted images as of the training: {why}.", className="hint")


def _class(each: ClassView, most: int, state: LabelsState, trained: bool) -> dcc.Link:
    right = f", {percent(each.recall)} found" if each.recall is not None else ""
    share = each.predicted / most if most else 0.0
    return dcc.Link(
        [
            html.Span(each.name, className="share__name"),
            html.Span(count(each.predicted) if trained else "", className="share__value"),
            html.Div(
                html.Div(className="bar__fill", style={"width": f"{share:.1%}"}), className="bar"
            ),
            html.Span(f"{count(each.labelled)} labelled{right}", className="class__note"),
        ],
        href=ids.PATH_LABELS + LabelsState(name=each.name).write(),
        className="share class class--here" if each.name == state.name else "share class",
        title=f"Rank the images of {each.name}",
    )


def _pager(page: GuessPage, state: LabelsState) -> html.Nav:
    first, last = page.offset + 1, page.offset + len(page.guesses)
    what = "the least sure first" if not state.name else "the surest first"
    of = f" of {count(page.ranked)}" if state.name else ""
    text = f"Showing {count(first)} to {count(last)}{of}, {what}, over all {count(page.rows)}"
    if state.concept:
        text = f"Showing {count(first)} to {count(last)} of {count(page.rows)}, the newest first"
    return html.Nav(
        [
            html.Span(text),
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


def _step(sign: str, label: str, state: LabelsState, page: int, possible: bool) -> Any:
    parts = [icon(sign), html.Span(label)] if sign == "left" else [html.Span(label), icon(sign)]
    if not possible:
        return html.Span(parts, className="button", **aria(disabled="true"))
    href = ids.PATH_LABELS + replace(state, page=page).write()
    return dcc.Link(parts, href=href, className="button")
