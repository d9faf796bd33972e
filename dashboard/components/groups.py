"""A group of near-duplicates as a row: its pictures, how alike they are, the decision."""

from __future__ import annotations

from typing import Final

from dash import dcc, html

from dashboard import ids
from dashboard.components.widgets import aria, badge, count, data, icon, picture, plural
from dashboard.doubles import DuplicateGroupView
from dashboard.state import ExploreState

WORDS: Final = {"duplicate": "Duplicate", "distinct": "Not a duplicate", "": ""}
TONES: Final = {"duplicate": "accent", "distinct": "ok"}


def group_row(group: DuplicateGroupView) -> html.Article:
    """Build a group's row."""
    key = str(group.key)
    name = group.title or "Deleted images"
    rest = group.size - len(group.images)
    shown = [
        dcc.Link(
            picture(image, alt=f"Copy {number} of {name}" if number else name),
            href=ExploreState(image=image).href(),
            className="copies__photo copies__photo--first" if not number else "copies__photo",
            title="Largest and sharpest: open in Explore" if not number else "Open in Explore",
        )
        for number, image in enumerate(group.images)
    ]
    return html.Article(
        [
            html.Div(
                [
                    *shown,
                    html.Span(f"+{count(rest)}", className="copies__rest") if rest else None,
                ],
                className="copies__strip",
            ),
            html.Div(
                [
                    html.Div(
                        [
                            html.Span(name, className="copies__name", title=name),
                            html.Span(verdict_badge(group), id=ids.duplicate_badge(key)),
                        ],
                        className="copies__head",
                    ),
                    html.Div(
                        [
                            html.Span(plural(group.size, "image")),
                            html.Span(plural(group.listings, "listing")),
                            html.Span(
                                f"alike {group.least:.3f}",
                                title="Correlation of the least alike pair that holds the group "
                                "together, after alignment; 1 is the same picture",
                            ),
                        ],
                        className="meta",
                    ),
                    html.Div(
                        [
                            _button(key, "duplicate", "copies", "d", group.verdict),
                            _button(key, "distinct", "close", "n", group.verdict),
                        ],
                        className="verdicts",
                        role="group",
                        **aria(label="Decision"),
                    ),
                ],
                className="copies__body",
            ),
            dcc.Store(
                id=ids.duplicate_version(key),
                data={
                    "version": group.version, "verdict": group.verdict, "changed": group.changed,
                },
            ),
        ],
        id=ids.duplicate_row(key),
        className=row_class(group.verdict),
        tabIndex=0,
        **data(card=""),
        **aria(label=f"{name}: {plural(group.size, 'copy', 'copies')}"),
    )  # fmt: skip


def row_class(verdict: str) -> str:
    """Return the classes of a group's row under a verdict."""
    return f"card copies copies--{verdict or 'open'}"


def verdict_badge(group: DuplicateGroupView) -> list[html.Span]:
    """Build the badge of a decision, and that the group has changed since."""
    if not group.verdict:
        return []
    found = [badge(WORDS[group.verdict], TONES[group.verdict])]
    if group.changed:
        found.append(badge("Changed since", "warn"))
    return found


def _button(key: str, value: str, sign: str, letter: str, verdict: str) -> html.Button:
    return html.Button(
        [icon(sign), html.Span(WORDS[value])],
        id=ids.duplicate_verdict(key, value),
        className=f"verdict verdict--{value}",
        type="button",
        title=f"{WORDS[value]} ({letter.upper()})",
        **data(key=letter),
        **aria(pressed="true" if verdict == value else "false"),
    )
