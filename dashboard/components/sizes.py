"""The panel on which the smallest size of a cluster is chosen, and what a size gives in words."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final

from dash import dcc, html

from dashboard import figures, ids
from dashboard.components import states
from dashboard.components.widgets import aria, count, percent, plural
from dashboard.state import ClustersState
from dashboard.views import SizeView, StabilityView

STEP: Final = 0.05
"""Step of the slider, which is the base-2 logarithm of the size."""

_MARKS: Final = (2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 100_000)
_MARKS_MOST: Final = 8


def place() -> html.Section:
    """Build where the panel goes, of the height that it will have."""
    return html.Section(
        html.Div(className="bone size-panel__bone"),
        id=ids.CLUSTERS_SIZE,
        className="card size-panel",
        **aria(label="Cluster size"),
    )


def shown(found: StabilityView | Exception, size: int | None, theme: str | None) -> Any:
    """Build the panel, or say why there is none."""
    if isinstance(found, Exception):
        return html.P(states.message(found), className="hint", role="status")
    return panel(found, size, theme)


def panel(found: StabilityView, shown: int | None, theme: str | None) -> list[Any]:
    """Build the panel: the slider at the size that is looked at, what it gives, and the plot."""
    size = shown or found.size
    largest = max(found.sizes[-1], found.size)
    return [
        html.Div(
            [
                html.H2("Cluster size", className="size-panel__title"),
                html.P(
                    f"Fewest images of a cluster. Now {count(found.size)}"
                    + (", chosen for this map." if found.size != found.automatic else "."),
                    className="hint",
                ),
                html.Div(
                    dcc.Slider(
                        id=ids.CLUSTERS_SIZE_SLIDER,
                        min=1,
                        max=math.log2(max(largest, 4)),
                        step=STEP,
                        value=math.log2(size),
                        marks=marks(largest),
                        included=False,
                        allow_direct_input=False,
                        updatemode="mouseup",
                    ),
                    className="size-panel__slider",
                    role="group",
                    **aria(label="Fewest images of a cluster"),
                ),
                html.P(
                    id=ids.CLUSTERS_SIZE_PREVIEW,
                    className="size-panel__preview",
                    role="status",
                ),
                html.Button(
                    "Use this size",
                    id=ids.CLUSTERS_SIZE_USE,
                    className="button button--primary",
                    type="button",
                    disabled=True,
                ),
            ],
            className="size-panel__choice",
        ),
        html.Div(
            dcc.Graph(
                id=ids.CLUSTERS_SIZE_CHART,
                figure=figures.stability(found, size, theme),
                config=figures.CONFIG,  # type: ignore[arg-type]
                style={"height": figures.STABILITY_HEIGHT},
            ),
            className="size-panel__plot",
            role="img",
            **aria(label="Number of clusters and share of images in none, by cluster size"),
        ),
    ]


def marks(largest: int) -> dict[float, str]:
    """Round sizes at their places on the slider; not too many for a phone."""
    known = [size for size in _MARKS if size <= max(largest, 4)]
    every = -(-len(known) // _MARKS_MOST)
    return {math.log2(size): _short(size) for size in known[::every]}


def size_at(value: float | None) -> int | None:
    """Return the size that a place of the slider stands for."""
    return None if value is None else max(2, round(2.0**value))


def address(search: str | None, value: float | None, now: int) -> str | None:
    """Return the query part that names the size at a place of the slider; None: it does already.

    The size of the map, `now`, needs no name.
    """
    state = ClustersState.read(search)
    size = size_at(value)
    asked = replace(state, size=None if size == now else size)
    return None if asked == state else asked.write()


def preview(found: SizeView, now: int) -> list[Any]:
    """Say what a size gives."""
    lead = "Now" if found.size == now else f"With {count(found.size)}"
    return [
        f"{lead}: ",
        html.Strong(plural(found.clusters, "cluster")),
        f", {percent(found.noise)} in none",
    ]


def _short(size: int) -> str:
    return f"{size // 1000}k" if size >= 1000 else str(size)
