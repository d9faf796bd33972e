"""The search of Explore's panel: its options, its examples, how complete its answer is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from dash import dcc, html

from dashboard import ids
from dashboard.answers import AskedView, SearchView
from dashboard.components.widgets import API, aria, count, duration, icon, picture, plural
from dashboard.components.words import AGGREGATES
from dashboard.places import TeachState
from dashboard.views import ModelView

SIZES: Final = (24, 60, 120, 500, 1_000, 10_000)
"""How many listings can be asked for here; the panel shows the first ones."""

SIGNS: Final = {"plus": "+", "minus": "\N{MINUS SIGN}"}


def options(asked: AskedView, shown: UUID | None, models: Sequence[ModelView] = ()) -> html.Div:
    """Build the options of a search; `shown` is the query whose result can be searched within.

    `models` can be searched, the default one first: there is a choice where they are several.
    """
    return html.Div(
        [
            _stock(asked.in_stock),
            _choice(
                "k", "Listings", str(asked.k), {str(k): f"Top {count(k)}" for k in _sizes(asked)}
            ),
            _choice("by", "Score of a listing", asked.aggregate, AGGREGATES),
            _choice("scope", "Search in", *_scopes(asked, shown)),
            _choice("model", "Model", *_models(asked, models)) if len(models) > 1 else None,
        ],
        className="terms",
        role="group",
        **aria(label="Search options"),
    )


def examples(asked: AskedView, image: UUID | None) -> html.Div | None:
    """Build the examples, each with its way out; None where the open picture is all there is."""
    if not asked.negatives and asked.image_ids in {(), (image,)}:
        return None
    fixed: list[Any] = [
        html.Span(
            [_thumbnail(f"{API}/uploads/{digest}"), html.Span(SIGNS["plus"])],
            className="example example--plus",
            title="The picture that was searched for",
        )
        for digest in asked.uploads
    ]
    if asked.listing_id is not None:
        fixed.append(html.Span(asked.listing_id, className="example example--plus example--text"))
    chips = [_example(each, "plus") for each in asked.image_ids]
    chips += [_example(each, "minus") for each in asked.negatives]
    return html.Div([*fixed, *chips], className="examples", role="group", **aria(label="Examples"))


def teach(asked: AskedView) -> dcc.Link | None:
    """Build the way to the page that learns from the examples; None without an image for."""
    if not asked.image_ids:
        return None
    state = TeachState(plus=tuple(asked.image_ids), minus=tuple(asked.negatives))
    return dcc.Link(
        "Teach a concept",
        href=ids.PATH_TEACH + state.write(),
        className="button button--small terms__teach",
        title="Rank the whole collection by these examples, mark more, save it",
    )


def marks(image_id: UUID, asked: AskedView) -> html.Div:
    """Build the two buttons of a hit: more like it, none like it."""
    return html.Div(
        [
            _mark(image_id, "plus", "More like this (+)", image_id in asked.image_ids),
            _mark(image_id, "minus", "None like this (Alt+click, -)", image_id in asked.negatives),
        ],
        className="marks",
    )


def complete(found: SearchView) -> list[Any]:
    """Say how complete an answer is, how old its stock is, and what is not in it yet."""
    kind = "exact" if found.exact else "approximate"
    said = f"{kind}: {count(found.rows_scanned)} of {plural(found.rows, 'image')}"
    if found.rescored is not None:
        said += f", {count(found.rescored)} rescored"
    stale = "" if found.current else ", on an older snapshot"
    lines = [html.P(f"{said}, {duration(found.seconds)}{stale}", className="panel__note")]
    if found.in_stock and found.lag_s is not None:
        lines.append(
            html.P(f"Stock followed up to {lag(found.lag_s)} before", className="panel__note")
        )
    if found.behind:
        text = f"{plural(found.behind, 'change')} wait{'s' if found.behind == 1 else ''}"
        lines.append(html.P(f"{text} for the next snapshot", className="panel__note note--warn"))
    return lines


def model_name(name: str) -> str:
    """Write a model's name in few letters: of a file of weights its own name."""
    return PurePath(name.split(":")[1]).stem if name.startswith("file:") else name


def lag(seconds: float) -> str:
    """Write the age of the stock mask: `0.4 s`."""
    return f"{seconds:.1f}\u00a0s" if seconds < 60 else duration(seconds)


def _stock(on: bool) -> html.Button:
    return html.Button(
        [html.Span(className="switch__track"), html.Span("In stock only")],
        id={"type": ids.EXPLORE_STOCK, "to": "0" if on else "1"},
        className="switch",
        type="button",
        role="switch",
        **aria(checked="true" if on else "false"),
    )


def _choice(name: str, label: str, now: str, choices: dict[str, str]) -> html.Label:
    return html.Label(
        [
            html.Span(label, className="visually-hidden"),
            dcc.Dropdown(
                id=ids.explore_option(name, now),
                options=[{"label": text, "value": value} for value, text in choices.items()],
                value=now,
                clearable=False,
                searchable=False,
                className="explore__colour terms__choice",
            ),
        ],
        className=f"terms__{name}",
        title=label,
    )


def _sizes(asked: AskedView) -> list[int]:
    return sorted({*SIZES, asked.k})


def _scopes(asked: AskedView, shown: UUID | None) -> tuple[str, dict[str, str]]:
    choices = {"all": "Everything", "filter": "Current filter"}
    if asked.within is not None:
        choices[f"result:{asked.within}"] = "Within a result"
        now = f"result:{asked.within}"
    elif asked.selection.get("polygons") or asked.selection.get("filters"):
        now = "filter"
    else:
        now = "all"
    if shown is not None and shown != asked.within:
        choices[f"result:{shown}"] = "Within this result"
    return now, choices


def _models(asked: AskedView, models: Sequence[ModelView]) -> tuple[str, dict[str, str]]:
    choices = {each.model_id: f"Model {model_name(each.name)}" for each in models}
    now = asked.model or models[0].model_id
    # One whose snapshot is gone: the answer says so, and the others can be chosen.
    return now, choices if now in choices else {now: "Another model", **choices}


def _example(image_id: UUID, sign: str) -> html.Button:
    label = f"Remove this example {'for' if sign == 'plus' else 'against'}"
    return html.Button(
        [
            picture(image_id, alt="", css="picture example__picture"),
            html.Span(SIGNS[sign], className="example__sign"),
            icon("close"),
        ],
        id=ids.explore_example(str(image_id)),
        className=f"example example--{sign}",
        type="button",
        title=label,
        **aria(label=label),
    )


def _thumbnail(address: str) -> html.Div:
    return html.Div(html.Img(src=address, alt=""), className="picture example__picture")


def _mark(image_id: UUID, sign: str, label: str, pressed: bool) -> html.Button:
    return html.Button(
        SIGNS[sign],
        id=ids.explore_mark(str(image_id), sign),
        className=f"mark mark--{sign}",
        type="button",
        title=label,
        **{
            "data-key": "+" if sign == "plus" else "-",
            **aria(label=label, pressed="true" if pressed else "false"),
        },
    )
