"""Layouts above the size that a full one is affordable at: some rows first, the others by them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analytics import layout as optimiser
from analytics import projection
from analytics.neighbours import Graph
from cql.progress import Progress, silent

LANDMARKS = 50_000
"""Rows that are laid out in full. Their graph among themselves is exact: L^2 D products."""

REFINE_EPOCHS, REFINE_RATE = 30, 0.5
"""Epochs of all rows once they are placed, and the rate that they begin with."""

_BLOCK = 1024


def layout(
    vectors: NDArray[np.float32],
    graph: Graph,
    *,
    seed: int,
    landmarks: int = LANDMARKS,
    dims: int = 2,
    neighbours: int = 15,
    min_dist: float = 0.1,
    epochs: int = REFINE_EPOCHS,
    rate: float = REFINE_RATE,
    threads: int | None = None,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """Lay out float32 (N, D) unit vectors by landmarks: float32 (N, dims).

    The landmarks are laid out from their own exact graph, every other row starts at the weighted
    mean of its placed neighbours, pass by pass through the graph, and a few epochs move all. At
    most `landmarks` rows are laid out in full, as `projection.layout` does.
    """
    if len(vectors) <= max(landmarks, projection.SMALL):
        return projection.layout(
            vectors, graph, seed=seed, dims=dims, neighbours=neighbours, min_dist=min_dist,
            threads=threads, progress=progress,
        )  # fmt: skip
    rows = choose(graph, landmarks, seed=seed)
    own = vectors[rows]
    start = np.full((len(vectors), dims), np.nan, np.float32)
    start[rows] = projection.layout(
        own, among(own, neighbours - 1), seed=seed, dims=dims, neighbours=neighbours,
        min_dist=min_dist, threads=threads,
    )  # fmt: skip
    edges = projection.edges_of(graph, neighbours, threads)
    return optimiser.optimise(
        edges,
        projection.filled(vectors, edges, start, seed=seed),
        seed=seed,
        shape=optimiser.curve(min_dist),
        epochs=epochs,
        rate=rate,
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
