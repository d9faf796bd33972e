"""Outlier scores over all rows: distance to neighbours and GLOSH, with the reason in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analytics.clustering import Clusters
from analytics.neighbours import Graph

NEIGHBOURS = 30
"""Neighbours whose mean distance counts: docs/decisions/0003-outlier-score.md has the figures. A
handful of bad photos (blank, dark, blurred) lie close to one another: only neighbours beyond the
handful show how far they are from everything else."""


@dataclass(frozen=True, slots=True, eq=False)
class Outliers:
    """How strange each row is.

    `score` float64 (N,), the percentile in (0, 1] of the evidence over all N (equal evidence,
    equal score); `distance` float32 (N,), the
    mean Euclidean distance to the k nearest; `glosh` float64 (N,).
    """

    score: NDArray[np.float64]
    distance: NDArray[np.float32]
    glosh: NDArray[np.float64]
    k: int


def score(graph: Graph, clusters: Clusters, *, k: int = NEIGHBOURS) -> Outliers:
    """Score every row by its mean distance to its k nearest; GLOSH is kept beside it."""
    count = len(clusters.labels)
    k = min(k, graph.rows.shape[1])
    distance = np.zeros(count, np.float32)
    if k:
        distance = graph.distances[:, :k].mean(axis=1, dtype=np.float64).astype(np.float32)
    far = percentile(distance)
    return Outliers(far, distance, clusters.glosh, k)


def percentile(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """The share of all rows that are not above each row, (0, 1]; equal values share the largest."""
    if len(values) == 0:
        return np.empty(0)
    ordered = np.sort(values)
    return np.searchsorted(ordered, values, side="right") / len(values)


def nearest_cluster(graph: Graph, clusters: Clusters) -> NDArray[np.int64]:
    """Cluster of each row's nearest neighbour that has one, (N,); -1 where none has."""
    if graph.rows.shape[1] == 0:
        return np.full(len(clusters.labels), -1, np.int64)
    labels = clusters.labels[graph.rows]
    first = np.argmax(labels >= 0, axis=1)
    return np.take_along_axis(labels, first[:, None], 1)[:, 0]


def reason(found: Outliers, row: int, near: int, own: int, names: Sequence[str]) -> str:
    """Say why a row stands out."""
    above = np.count_nonzero(found.distance < found.distance[row]) / len(found.distance)
    text = f"Farther from its {found.k} nearest images than {_percent(float(above))} of all images"
    return text + _where(float(found.glosh[row]), near, own, names)


def reasons(
    found: Outliers,
    rows: NDArray[np.integer],
    near: NDArray[np.int64],
    own: NDArray[np.int64],
    names: Sequence[str],
) -> Iterator[str]:
    """`reason` of each of `rows`; `near` and `own` are of all N rows."""
    ordered = np.sort(found.distance)
    above = np.searchsorted(ordered, found.distance[rows]) / max(1, len(ordered))
    begin = f"Farther from its {found.k} nearest images than"
    columns = (above, found.glosh[rows], near[rows], own[rows])
    for share, *rest in zip(*(column.tolist() for column in columns), strict=True):
        glosh, beside, cluster = rest
        where = _where(glosh, beside, cluster, names)
        yield f"{begin} {_percent(share)} of all images{where}"


def _where(glosh: float, near: int, own: int, names: Sequence[str]) -> str:
    if own >= 0:
        return f"; {'at the edge of' if glosh > 0.5 else 'its cluster is'} “{names[own]}”"
    return f"; in no cluster, nearest is “{names[near]}”" if near >= 0 else "; in no cluster"


def _percent(share: float) -> str:
    return f"{np.floor(share * 1000) / 10:g} %"
