from __future__ import annotations

from uuid import uuid5

import plotly.graph_objects as go
import pytest

from cql.records import NAMESPACE
from dashboard import figures
from dashboard.views import ClusterView, FacetValue, FacetView


def cluster(number: int, size: int, name: str = "") -> ClusterView:
    return ClusterView(
        key=uuid5(NAMESPACE, str(number)), cluster=number, name=name or f"c{number}",
        automatic=f"c{number}", renamed=False, version=0, size=size, listings=1, share=0.1,
        exemplars=(), x=0.5, y=0.5,
    )  # fmt: skip


@pytest.mark.parametrize("theme", ["light", "dark", None, "<script>"])
def test_plotly_accepts_every_figure(theme: str | None) -> None:
    facet = FacetView(
        name="outlier_score",
        label="Outlier score",
        kind="number",
        values=(FacetValue(value="0", label="0", count=1, total=4),),
        edges=(0.0, 1.0),
    )
    for figure in (
        figures.blank(),
        figures.cluster_sizes([cluster(1, 5)], theme),
        figures.cluster_sizes([], theme),
        figures.histogram(facet, theme),
    ):
        go.Figure(figure).to_json()


def test_bars_are_ranked_by_size_then_number() -> None:
    figure = figures.cluster_sizes([cluster(2, 5), cluster(1, 5), cluster(3, 9)], "light")
    assert figure["data"][0]["y"] == [9, 5, 5]
    assert figure["data"][0]["customdata"] == ["c3", "c1", "c2"]


def test_small_clusters_share_the_last_bar() -> None:
    figure = figures.cluster_sizes([cluster(n, 1000 - n) for n in range(figures.BARS + 2)], "dark")
    bar = figure["data"][0]
    assert len(bar["y"]) == figures.BARS + 1
    assert bar["y"][-1] == pytest.approx(1000 - figures.BARS - 0.5)
    assert bar["customdata"][-1] == "Mean of 2 smaller clusters"
    assert bar["marker"]["color"][-1] == figures.palette("dark").cat_none


def test_a_name_is_text_in_a_hover() -> None:
    figure = figures.cluster_sizes([cluster(1, 5, "<a href='x'>&</a>")], "light")
    assert figure["data"][0]["customdata"] == ["&lt;a href='x'&gt;&amp;&lt;/a&gt;"]


def test_histogram_counts_all_rows() -> None:
    values = tuple(FacetValue(value=str(n), label=str(n), count=0, total=n) for n in (3, 0, 4))
    facet = FacetView(
        name="depth", label="Depth", kind="number", values=values, edges=(0, 0.5, 1, 1.5)
    )
    bar = figures.histogram(facet, "light")["data"][0]
    assert bar["y"] == [3, 0, 4]
    assert bar["customdata"] == ["0 to 0.5", "0.5 to 1", "1 to 1.5"]
