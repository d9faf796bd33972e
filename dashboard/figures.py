"""Charts as Plotly figures in plain JSON, in the colours of assets/tokens.css."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from dashboard.changes import ClusterChangeView
from dashboard.doubles import CurvePoint
from dashboard.learned import BinView
from dashboard.views import ClusterView, FacetView, StabilityView

Figure = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours that a chart needs; each equals the token of the same name."""

    text: str
    text_2: str
    line: str
    accent: str
    cat_none: str
    surface: str


PALETTES: Final = {
    "light": Palette("#191b19", "#50534d", "#e0e0db", "#0b6b66", "#a3acb8", "#ffffff"),
    "dark": Palette("#eceeec", "#b2b8b5", "#2a2f2e", "#3fc7ba", "#6b7686", "#181b1a"),
}

CONFIG: Final[dict[str, Any]] = {"displayModeBar": False, "responsive": True}
"""Plotly's behaviour: no tool bar, as wide as its box."""

HEIGHT: Final = 104
"""Height of a chart in a page's head, pixels: reserved while Plotly loads."""

STABILITY_HEIGHT: Final = 208
"""Height of the plot of cluster sizes, pixels."""

CLIFF: Final = 0.9
"""Adjusted Rand index below which two neighbouring sizes are said to give other clusters."""

_SIZES: Final = (2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 100_000)

TALL: Final = 190
"""Height of a chart beside a page."""

CURVE_HEIGHT: Final = 220
"""Height of a chart that is read off, pixels."""

BARS: Final = 200
"""Most bars that one chart draws."""


def palette(theme: str | None) -> Palette:
    """Return the colours of a theme; anything but `dark` is light."""
    return PALETTES["dark" if theme == "dark" else "light"]


def blank() -> Figure:
    """Empty, transparent figure: what a chart is before its data came."""
    hidden = {"visible": False}
    return {
        "data": [],
        "layout": {
            "height": HEIGHT,
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "xaxis": hidden,
            "yaxis": hidden,
        },
    }


def cluster_sizes(clusters: Sequence[ClusterView], theme: str | None) -> Figure:
    """Bar chart of images in each cluster, largest first.

    Images in no cluster are left out: one bar of them would flatten all others, and the page says
    their number. Past 200 clusters the last bar, in grey, is the mean of all that are smaller.
    """
    colours = palette(theme)
    ranked = sorted(clusters, key=lambda cluster: (-cluster.size, cluster.cluster))
    shown, rest = ranked[:BARS], ranked[BARS:]
    names = [cluster.name for cluster in shown]
    sizes: list[float] = [cluster.size for cluster in shown]
    fill = [colours.accent] * len(shown)
    if rest:
        names.append(f"Mean of {len(rest):,} smaller clusters")
        sizes.append(round(sum(cluster.size for cluster in rest) / len(rest), 1))
        fill.append(colours.cat_none)
    return _bars(names, sizes, fill, colours, unit="images")


def cluster_shifts(changes: Sequence[ClusterChangeView], theme: str | None) -> Figure:
    """Bar chart of how far the mean of each cluster moved, the farthest first.

    Clusters that drifted have the accent's colour. Past 200 clusters the rest is left out: it
    moved less than any that is shown.
    """
    colours = palette(theme)
    ranked = sorted(changes, key=lambda each: (-(each.shift or 0.0), each.name))[:BARS]
    fill = [colours.accent if each.drifted else colours.cat_none for each in ranked]
    shifts = [round(each.shift or 0.0, 4) for each in ranked]
    return _bars([each.name for each in ranked], shifts, fill, colours, unit="shift")


def stability(found: StabilityView, size: int, theme: str | None) -> Figure:
    """Line chart of what each size gives: clusters (left) and share of images in none (right).

    A diamond stands where the next size gives other clusters (adjusted Rand index below 0.9): a
    cliff. Lines mark the size of the map and, dashed, the `size` that is looked at.
    """
    colours = palette(theme)
    sizes = list(found.sizes)
    cliffs = [at for at, same in enumerate(found.same[:-1]) if same < CLIFF]
    frame = _bars([], [], [], colours, unit="")
    axis = {**frame["layout"]["yaxis"], "nticks": 4}
    text = {"font": {"color": colours.text_2, "size": 11}, "standoff": 4}
    shown = max(sizes[-1], found.size, size)
    frame["data"] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "Clusters",
            "x": sizes,
            "y": list(found.clusters),
            "line": {"color": colours.accent, "width": 2, "shape": "hv"},
            "hovertemplate": "%{x:,} images: %{y:,} clusters<extra></extra>",
        },
        {
            "type": "scatter",
            "mode": "lines",
            "name": "In none",
            "x": sizes,
            "y": list(found.noise),
            "yaxis": "y2",
            "line": {"color": colours.cat_none, "width": 2, "shape": "hv"},
            "hovertemplate": "%{x:,} images: %{y:.0%} in none<extra></extra>",
        },
        {
            "type": "scatter",
            "mode": "markers",
            "name": "Change",
            "x": [sizes[at] for at in cliffs],
            "y": [found.clusters[at] for at in cliffs],
            "marker": {"color": colours.accent, "symbol": "diamond", "size": 8},
            "hovertemplate": "Above %{x:,} images clusters change<extra></extra>",
        },
    ]
    lines = [(found.size, "solid")] + ([(size, "dot")] if size != found.size else [])
    frame["layout"] |= {
        "height": STABILITY_HEIGHT,
        "margin": {"l": 44, "r": 44, "t": 28, "b": 36},
        "showlegend": True,
        # Of the box, not of the plot, and narrow: on a phone the three stand in one line.
        "legend": {
            "orientation": "h",
            "xref": "container",
            "x": 0,
            "yref": "container",
            "y": 1,
            "yanchor": "top",
            "entrywidth": 56,
        },
        "xaxis": {
            **axis,
            "type": "log",
            "showgrid": False,
            "range": [math.log10(2) - 0.02, math.log10(max(shown, 4)) + 0.02],
            "tickvals": [size for size in _SIZES if size <= max(shown, 4)],
            "title": {"text": "Fewest images of a cluster", **text},
            "rangemode": "normal",
        },
        "yaxis": axis,
        "yaxis2": {
            **axis,
            "overlaying": "y",
            "side": "right",
            "showgrid": False,
            "range": [0, 1],
            "tickvals": [0, 0.5, 1],
            "tickformat": ".0%",
        },
        "shapes": [
            {
                "type": "line",
                "x0": at,
                "x1": at,
                "y0": 0,
                "y1": 1,
                "yref": "paper",
                "line": {"color": colours.text_2, "width": 1, "dash": dash},
            }
            for at, dash in lines
        ],
    }
    return frame


def histogram(facet: FacetView, theme: str | None, *, unit: str = "images") -> Figure:
    """Bar chart of a number column's equal bins over all rows."""
    colours = palette(theme)
    edges = facet.edges
    labels = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)]
    counts = [value.total for value in facet.values]
    return _bars(labels, counts, [colours.accent] * len(counts), colours, unit=unit)


def reliability(bins: Sequence[BinView], theme: str | None) -> Figure:
    """Line of how often the classifier is right, by how sure it says it is, with the diagonal.

    A point is a band of confidence of held-out images; what is below the line is too sure.
    """
    colours = palette(theme)
    axis = {
        "range": [0, 1],
        "zeroline": False,
        "fixedrange": True,
        "gridcolor": colours.line,
        "tickformat": ".0%",
        "nticks": 5,
        "tickfont": {"color": colours.text_2},
    }
    made = _bars([], [], [], colours, unit="images")
    made["data"] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [0, 1],
            "y": [0, 1],
            "line": {"color": colours.cat_none, "width": 1, "dash": "dot"},
            "hoverinfo": "skip",
        },
        {
            "type": "scatter",
            "mode": "lines+markers",
            "x": [each.confidence for each in bins],
            "y": [each.accuracy for each in bins],
            "customdata": [each.rows for each in bins],
            "line": {"color": colours.accent, "width": 2},
            "marker": {"color": colours.accent, "size": 7},
            "cliponaxis": False,
            "hovertemplate": "%{x:.0%} sure, %{y:.0%} right<br>%{customdata:,} images"
            "<extra></extra>",
        },
    ]
    titled = {"font": {"size": 11, "color": colours.text_2}, "standoff": 4}
    made["layout"].update(
        height=TALL,
        margin={"l": 46, "r": 8, "t": 8, "b": 38},
        xaxis={**axis, "title": {**titled, "text": "How sure"}},
        yaxis={**axis, "title": {**titled, "text": "How often right"}},
    )
    return made


def copy_curve(points: Sequence[CurvePoint], chosen: float, theme: str | None) -> Figure:
    """Line chart of precision and recall over thresholds, the chosen one marked."""
    colours = palette(theme)
    steps = [point.threshold for point in points]
    axis = {
        "fixedrange": True,
        "zeroline": False,
        "gridcolor": colours.line,
        "tickfont": {"color": colours.text_2},
    }
    title = {"text": "Alike", "font": {"color": colours.text_2}, "standoff": 6}
    lines = (
        ("Precision", [point.precision for point in points], colours.accent, "solid"),
        ("Recall", [point.recall for point in points], colours.text_2, "dash"),
    )
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": steps,
                "y": values,
                "line": {"color": colour, "width": 2, "dash": dash},
                "hovertemplate": name + " %{y:.3f} at %{x:.3f}<extra></extra>",
            }
            for name, values, colour, dash in lines
        ],
        "layout": {
            "height": CURVE_HEIGHT,
            "margin": {"l": 44, "r": 12, "t": 28, "b": 40},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "Inter, system-ui, sans-serif", "size": 11, "color": colours.text},
            "xaxis": {**axis, "showgrid": False, "title": title},
            "yaxis": {**axis, "range": [0, 1.02], "nticks": 6},
            "shapes": [
                {
                    "type": "line",
                    "x0": chosen,
                    "x1": chosen,
                    "y0": 0,
                    "y1": 1,
                    "yref": "paper",
                    "line": {"color": colours.text, "width": 1, "dash": "dot"},
                }
            ],
            "annotations": [
                {
                    "x": chosen,
                    "y": 1,
                    "yref": "paper",
                    "yanchor": "bottom",
                    "text": f"threshold {chosen:.3f}",
                    "showarrow": False,
                    "font": {"color": colours.text, "size": 11},
                }
            ],
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
            "hoverlabel": {
                "bgcolor": colours.text,
                "bordercolor": colours.text,
                "font": {"color": colours.surface, "family": "Inter, system-ui, sans-serif"},
            },
        },
    }


def _bars(
    names: Sequence[str],
    values: Sequence[float],
    fill: Sequence[str],
    colours: Palette,
    *,
    unit: str,
) -> Figure:
    axis = {
        "showgrid": False,
        "zeroline": False,
        "fixedrange": True,
        "tickfont": {"color": colours.text_2},
    }
    return {
        "data": [
            {
                "type": "bar",
                "x": list(range(len(values))),
                "y": list(values),
                # Plotly reads a few tags in texts: escaped, a name is only ever text.
                "customdata": [_plain(name) for name in names],
                "marker": {"color": list(fill), "line": {"width": 0}},
                "hovertemplate": "%{customdata}<br>%{y:,} " + unit + "<extra></extra>",
            }
        ],
        "layout": {
            "height": HEIGHT,
            "margin": {"l": 44, "r": 4, "t": 8, "b": 8},
            "bargap": 0.18,
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "Inter, system-ui, sans-serif", "size": 11, "color": colours.text},
            "xaxis": {**axis, "showticklabels": False},
            "yaxis": {
                **axis,
                "showgrid": True,
                "gridcolor": colours.line,
                "nticks": 4,
                "rangemode": "tozero",
                "separatethousands": True,
            },
            "hoverlabel": {
                "bgcolor": colours.text,
                "bordercolor": colours.text,
                "font": {"color": colours.surface, "family": "Inter, system-ui, sans-serif"},
            },
            "showlegend": False,
        },
    }


def _plain(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
