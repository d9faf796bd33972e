"""Layouts of the neighbour graph: UMAP in few dimensions, and how far they can be trusted."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analytics.neighbours import Graph

SMALL = 8
"""Below this many rows UMAP has no neighbourhoods to work with: principal axes lay them out."""

EXACT_ROWS = 6000
"""Trustworthiness is measured over all rows up to here, above over this many sampled rows."""

_INSIDE = float(np.nextafter(np.float32(1), np.float32(0)))


@dataclass(frozen=True, slots=True)
class Trust:
    """Trustworthiness in [0, 1] at k neighbours, measured on `rows` of all rows."""

    value: float
    k: int
    rows: int


def layout(
    vectors: NDArray[np.float32],
    graph: Graph,
    *,
    seed: int,
    dims: int = 2,
    neighbours: int = 15,
    min_dist: float = 0.1,
    epochs: int | None = None,
) -> NDArray[np.float32]:
    """Lay out float32 (N, D) unit vectors from their graph: float32 (N, dims).

    UMAP (McInnes, Healy, Melville, 2018) on the exact graph, one thread, seeded: the same input
    gives the same output. Starts from principal axes, which unlike the spectral start do not
    depend on whether the graph is connected. Fewer than 8 rows, or rows that are all equal, are
    laid out by principal axes alone.
    """
    count = len(vectors)
    start = principal(vectors, dims)
    near = min(neighbours, graph.rows.shape[1] + 1)
    if count < SMALL or not start.any():
        return start
    with warnings.catch_warnings():
        # It says at import that its variant for Tensorflow is not there.
        warnings.simplefilter("ignore")
        import umap
    rows = np.column_stack([np.arange(count), graph.rows[:, : near - 1]])
    distances = np.column_stack([np.zeros(count, np.float32), graph.distances[:, : near - 1]])
    # UMAP's own start has a largest coordinate of 10; a little noise parts rows that are equal.
    noise = np.random.default_rng(seed).normal(scale=1e-4, size=start.shape)
    begin = (start * (10.0 / np.abs(start).max()) + noise).astype(np.float32)
    reducer = umap.UMAP(
        n_neighbors=near,
        n_components=dims,
        min_dist=min_dist,
        n_epochs=epochs,
        init=begin,
        metric="euclidean",
        random_state=seed,
        n_jobs=1,
        precomputed_knn=(rows, distances, None),
    )
    with warnings.catch_warnings():
        # It warns that the given graph cannot place later points, and that a seed means one thread.
        warnings.simplefilter("ignore")
        placed: NDArray[np.float32] = np.asarray(reducer.fit_transform(vectors), np.float32)
    return np.where(np.isfinite(placed), placed, begin).astype(np.float32)


def principal(vectors: NDArray[np.float32], dims: int) -> NDArray[np.float32]:
    """Coordinates on the first principal axes, (N, dims); signs fixed, missing axes are 0."""
    count = len(vectors)
    placed = np.zeros((count, dims), np.float32)
    if count < 2:
        return placed
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    if count < vectors.shape[1]:
        values, left = np.linalg.eigh(centred @ centred.T)
        axes = (left * np.sqrt(np.maximum(values, 0)))[:, ::-1]
    else:
        values, right = np.linalg.eigh(centred.T @ centred)
        axes = centred @ right[:, ::-1]
    axes = axes[:, :dims]
    if np.abs(axes).max(initial=0) < 1e-9:
        return placed
    largest = np.abs(axes).argmax(axis=0)
    axes = axes * np.where(axes[largest, np.arange(axes.shape[1])] < 0, -1.0, 1.0)
    placed[:, : axes.shape[1]] = axes
    return placed


def fit(placed: NDArray[np.float32], *, margin: float = 0.02) -> NDArray[np.float32]:
    """Scale float32 (N, 2) into [0, 1) x [0, 1) keeping the aspect; the longer side fills it."""
    if len(placed) == 0:
        return np.empty((0, 2), np.float32)
    low, high = placed.min(axis=0).astype(np.float64), placed.max(axis=0).astype(np.float64)
    side = float((high - low).max())
    if side == 0:
        return np.full((len(placed), 2), 0.5, np.float32)
    scaled = (placed - (low + high) / 2) * ((1 - 2 * margin) / side) + 0.5
    inside: NDArray[np.float32] = np.clip(scaled, 0, _INSIDE).astype(np.float32)
    return inside


def trust(
    vectors: NDArray[np.float32], placed: NDArray[np.float32], *, k: int = 15, seed: int = 1
) -> Trust:
    """Trustworthiness (Venna and Kaski, 2001) with all N as candidates.

    Above 6,000 rows the rows whose neighbourhoods are judged are a seeded sample; their ranks
    are still over all N.
    """
    count = len(vectors)
    k = min(k, (count - 1) // 2)
    if k < 1:
        return Trust(1.0, 0, count)
    judged = np.arange(count)
    if count > EXACT_ROWS:
        judged = np.sort(np.random.default_rng(seed).choice(count, EXACT_ROWS, replace=False))
    penalty = 0.0
    flat = placed.astype(np.float64)
    squares = (flat**2).sum(axis=1)
    for part in np.array_split(judged, max(1, len(judged) * count // 8_000_000)):
        near = squares[None, :] - 2 * flat[part] @ flat.T
        near[np.arange(len(part)), part] = np.inf
        low = np.argpartition(near, k - 1, axis=1)[:, :k]
        score = vectors[part] @ vectors.T
        score[np.arange(len(part)), part] = np.inf
        order = np.argsort(-score, axis=1, kind="stable")
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(count)[None, :].repeat(len(part), 0), 1)
        penalty += np.maximum(0, np.take_along_axis(ranks, low, 1) - k).sum()
    scale = 2.0 / (len(judged) * k * (2 * count - 3 * k - 1))
    return Trust(float(1.0 - scale * penalty), k, len(judged))


def prepare_cache(folder: Path) -> None:
    """Let numba keep UMAP's compiled code in `folder` where it cannot keep it beside UMAP."""
    found = find_spec("umap")
    beside = Path(found.origin).parent if found is not None and found.origin else None
    if beside is None or not os.access(beside, os.W_OK):
        os.environ.setdefault("NUMBA_CACHE_DIR", str(folder))


def as_dict(measured: Trust) -> dict[str, Any]:
    """The figures that a map stores."""
    return {
        "trustworthiness": measured.value,
        "trustworthiness_k": float(measured.k),
        "trustworthiness_rows": float(measured.rows),
    }
