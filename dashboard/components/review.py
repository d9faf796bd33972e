"""Cards of images whose class is asked for, and of images that are marked to teach a concept."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from dash import dcc, html

from dashboard import ids
from dashboard.components.terms import SIGNS
from dashboard.components.widgets import aria, badge, data, icon, percent, picture
from dashboard.decisions import LABEL_LIMIT
from dashboard.learned import GuessView, MarginView
from dashboard.state import ExploreState

MARKS: Final = {"plus": ("+", "It has it"), "minus": ("-", "It does not")}


def review_card(guess: GuessView) -> html.Article:
    """Build the card of an image: what it is taken for, how sure that is, and what to do."""
    image = str(guess.image_id)
    name = guess.title or guess.listing_id
    if guess.confidence is not None:
        sure, meant = percent(guess.confidence), "Confidence in this class"
    else:
        sure, meant = f"{guess.margin or 0.0:+.2f}", "Margin of the concept"
    return html.Article(
        [
            dcc.Link(
                [
                    picture(guess.image_id, alt=name),
                    html.Span(
                        label_badge(guess.label), id=ids.review_badge(image), className="verdict-at"
                    ),
                ],
                href=ExploreState(image=guess.image_id).href(),
                className="outlier-card__photo",
                title="Open in Explore",
            ),
            html.Div(
                [
                    html.Div(
                        [
                            html.Span(guess.predicted, className="outlier-card__name"),
                            html.Span(sure, className="score", title=meant),
                        ],
                        className="outlier-card__head",
                    ),
                    html.P(name, className="review__title", title=name),
                    html.Div(
                        [
                            _act(image, "accept", "check", "Accept", "a"),
                            _act(image, "skip", "right", "Skip", "s"),
                        ],
                        className="verdicts",
                        role="group",
                        **aria(label="Class"),
                    ),
                    html.Label(
                        [
                            html.Span("Another label", className="visually-hidden"),
                            dcc.Input(
                                id=ids.review_text(image),
                                type="text",
                                debounce=True,
                                list=ids.LABELS_NAMES,
                                maxLength=LABEL_LIMIT,
                                autoComplete="off",
                                placeholder="Another label",
                                className="field",
                            ),
                        ],
                        className="review__other",
                        title="Another label (O)",
                        **data(key="o"),
                    ),
                ],
                className="card__body",
            ),
            dcc.Store(id=ids.review_known(image), data=known(guess)),
        ],
        id=ids.review_card(image),
        className=review_class(guess.label),
        tabIndex=0,
        **data(card=""),
        **aria(label=f"{name}: {guess.predicted}, {sure}"),
    )


def known(guess: GuessView) -> dict[str, Any]:
    """Return what a label of the image is decided on."""
    return {"label": guess.label, "version": guess.version, "predicted": guess.predicted}


def review_class(label: str, *, skipped: bool = False) -> str:
    """Return the classes of a card by what was decided."""
    state = "done" if label else "skipped" if skipped else "open"
    return f"card outlier-card review review--{state}"


def label_badge(label: str) -> html.Span | None:
    """Build the badge of a label; nothing where there is none."""
    return badge(label, "ok") if label else None


def margin_card(found: MarginView, place: str) -> html.Article:
    """Build the card of a ranked image with its two marks."""
    name = found.title or found.listing_id
    image = str(found.image_id)
    return html.Article(
        [
            dcc.Link(
                picture(found.image_id, alt=name),
                href=ExploreState(image=found.image_id).href(),
                className="outlier-card__photo",
                title="Open in Explore",
            ),
            html.Div(
                [
                    html.Span(name, className="review__title", title=name),
                    html.Span(f"{found.margin:+.2f}", className="hit-score", title="Margin"),
                ],
                className="taught__label",
            ),
            html.Div(
                [_mark(image, sign, place) for sign in MARKS],
                className="taught__marks",
                role="group",
                **aria(label="Mark"),
            ),
        ],
        id={"type": "teach-card", "image": image, "place": place},
        className="card outlier-card taught",
        tabIndex=0,
        **data(card=""),
        **aria(label=f"{name}, margin {found.margin:+.2f}"),
    )


def example_chip(image_id: UUID, sign: str) -> html.Button:
    """Build an example that goes away by a click."""
    word = "Has it" if sign == "plus" else "Does not have it"
    return html.Button(
        [
            picture(image_id, alt="", css="picture example__picture"),
            html.Span(SIGNS[sign]),
        ],
        id=ids.teach_mark(str(image_id), "none", "chosen"),
        className=f"example example--{sign}",
        type="button",
        title=f"{word}. Click to take it out",
        **aria(label=f"{word}: take it out"),
    )


def _act(image: str, act: str, sign: str, text: str, key: str) -> html.Button:
    return html.Button(
        [icon(sign), html.Span(text)],
        id=ids.review(image, act),
        className=f"verdict verdict--{act}",
        type="button",
        title=f"{text} ({key.upper()})",
        **data(key=key, next=""),
    )


def _mark(image: str, sign: str, place: str) -> html.Button:
    key, text = MARKS[sign]
    return html.Button(
        SIGNS[sign],
        id=ids.teach_mark(image, sign, place),
        className=f"verdict verdict--{sign}",
        type="button",
        title=f"{text} ({key})",
        **data(key=key),
        **aria(label=text),
    )
