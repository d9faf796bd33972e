"""Layouts that start from landmarks: some rows first, the others around them, then all move.

Principal axes tear groups apart that the optimiser does not bring together again; a layout of few
rows gets them right in little time. Multilevel layouts of graphs (Walshaw, 2003) rest on the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analytics import projection
from analytics.layouts import crowds
from analytics.layouts import layout as optimiser
from analytics.neighbours import Graph
from cql.progress import Progress, silent

WHOLE = 10_000
"""Up to so many rows no landmarks are needed: umap-learn, too, takes its time for those."""

SHARE, MOST = 10, 30_000
"""One row of so many is a landmark, and the most of them: their graph among themselves is exact,
L^2 D products."""

EPOCHS, RATE = 100, 0.5
"""Epochs of all rows once they are placed, and the rate that they begin with."""

START_EPOCHS = 200
"""Epochs of the landmarks, which are only a start."""

_BLOCK = 1024


def layout(
    vectors: NDArray[np.float32],
    graph: Graph,
    *,
    seed: int,
    dims: int = 2,
    neighbours: int = 15,
    min_dist: float = 0.1,
    landmarks: int | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """Lay out float32 (N, D) unit vectors by landmarks: float32 (N, dims).

    The landmarks are laid out from their own exact graph, in the same way, every other row starts
    at the weighted mean of its placed neighbours, pass by pass through the graph, and then all
    move. Up to 10,000 rows, or where `landmarks` says as many as there are, as
    `projection.layout` does. A crowd of equal rows is laid out as one
    (`analytics.layouts.crowds`). The same for any number of threads.
    """
    found = crowds.find(vectors, graph)
    kept = vectors if found is None else vectors[found.kept]
    count = _count(len(kept)) if landmarks is None else landmarks
    if len(kept) <= max(count, projection.SMALL):
        return projection.layout(
            vectors, graph, seed=seed, dims=dims, neighbours=neighbours, min_dist=min_dist,
            threads=threads, progress=progress,
        )  # fmt: skip
    edges = projection.edges_of(graph, neighbours, threads)
    if found is not None:
        graph, edges = found.graph(graph), found.edges(edges)
    placed = _laid(
        kept, graph, edges, count, seed=seed, dims=dims, neighbours=neighbours, min_dist=min_dist,
        threads=threads, progress=progress,
    )  # fmt: skip
    return placed if found is None else placed[found.of]


def _count(rows: int) -> int:
    return rows if rows <= WHOLE else min(MOST, rows // SHARE)


def _laid(
    vectors: NDArray[np.float32],
    graph: Graph,
    edges: optimiser.Edges,
    landmarks: int,
    *,
    seed: int,
    dims: int,
    neighbours: int,
    min_dist: float,
    threads: int | None,
    progress: Progress,
) -> NDArray[np.float32]:
    rows = choose(graph, landmarks, seed=seed)
    own = vectors[rows]
    near, fewer = among(own, neighbours - 1), _count(len(own))
    start = np.full((len(vectors), dims), np.nan, np.float32)
    if len(own) <= max(fewer, projection.SMALL):
        start[rows] = projection.layout(
            own, near, seed=seed, dims=dims, neighbours=neighbours, min_dist=min_dist,
            epochs=START_EPOCHS, threads=threads,
        )  # fmt: skip
    else:
        start[rows] = _laid(
            own, near, projection.edges_of(near, neighbours, threads), fewer, seed=seed, dims=dims,
            neighbours=neighbours, min_dist=min_dist, threads=threads, progress=silent,
        )  # fmt: skip
    return optimiser.optimise(
        edges,
        projection.filled(vectors, edges, start, seed=seed),
        seed=seed,
        shape=optimiser.curve(min_dist),
        epochs=EPOCHS,
        rate=RATE,
        threads=threads,
        progress=progress,
    )


def choose(graph: Graph, count: int, *, seed: int) -> NDArray[np.int64]:
    """Choose `count` of N rows, ascending: seeded, as dense as the rows, none beside another.

    Of a row and its N / count - 1 nearest the one with the lowest draw is chosen, as far as that
    goes; what is missing then are the next lowest draws.
    """
    size = len(graph.rows)
    draw = np.random.default_rng(seed).permutation(size)
    near = graph.rows[:, : max(0, size // max(1, count) - 1)]
    lowest = np.where(near >= 0, draw[near], size).min(axis=1, initial=size)
    # First those that are lowest among their nearest, then the others; each by their draw.
    order = np.argsort(draw + np.where(draw < lowest, 0, size), kind="stable")
    return np.sort(order[:count])


def among(vectors: NDArray[np.float32], k: int) -> Graph:
    """Find the k nearest others of every row by products of all with all, in blocks."""
    count = len(vectors)
    k = max(0, min(k, count - 1))
    rows, scores = np.empty((count, k), np.int64), np.empty((count, k), np.float32)
    for first in range(0, count if k else 0, _BLOCK):
        part = slice(first, min(first + _BLOCK, count))
        score = vectors[part] @ vectors.T
        score[np.arange(part.stop - first), np.arange(first, part.stop)] = -np.inf
        near = np.argpartition(score, count - k, axis=1)[:, count - k :]
        held = np.take_along_axis(score, near, 1)
        order = np.argsort(-held, axis=1, kind="stable")
        rows[part] = np.take_along_axis(near, order, 1)
        scores[part] = np.take_along_axis(held, order, 1)
    return Graph(rows, scores)
