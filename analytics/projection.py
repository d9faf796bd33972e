"""Layouts of the neighbour graph: UMAP in few dimensions, and how far they can be trusted."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analytics.layouts import crowds
from analytics.layouts import layout as optimiser
from analytics.neighbours import Graph
from cql.progress import Progress, silent

LIBRARY_ROWS = 20_000
"""Up to here umap-learn makes the fuzzy graph."""

SMALL = 8
"""Below this many rows UMAP has no neighbourhoods to work with: principal axes lay them out."""

EXACT_ROWS = 6000
"""Trustworthiness is measured over all rows up to here, above over this many sampled rows."""

AGAIN_EPOCHS, AGAIN_SPEED = 100, 0.05
"""Epochs of a layout that starts from an earlier one, and the speed of rows that it had."""

_CHUNK = 16_384
_JUDGED = 512

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
    start: NDArray[np.float32] | None = None,
    still: bool = False,
    threads: int | None = None,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """Lay out float32 (N, D) unit vectors from their graph: float32 (N, dims).

    UMAP (McInnes, Healy, Melville, 2018) on the given graph, by `analytics.layouts.layout`, seeded:
    the same input gives the same output for any number of threads. Starts from principal axes,
    which unlike the spectral start do not depend on whether the graph is connected. Fewer than
    8 rows, or rows that are all equal, are laid out by principal axes alone.

    `start` (N, dims) holds an earlier layout in its own units, NaN for rows that it did not have:
    those begin at the weighted mean of their neighbours, the others move a little, and what the
    whole was turned or shifted by is undone. `still`: those that it had stay where they were, bit
    for bit. A crowd of equal rows is laid out as one (`analytics.layouts.crowds`).
    """
    found = crowds.find(vectors, graph)

    def edges() -> optimiser.Edges:
        made = edges_of(graph, neighbours, threads)
        return made if found is None else found.edges(made)

    if found is not None:
        vectors = vectors[found.kept]
        start = None if start is None else found.start(start)
    if start is not None and _known(start).any():
        placed = _again(
            vectors, edges(), start, seed=seed, min_dist=min_dist,
            epochs=AGAIN_EPOCHS if epochs is None else epochs, still=still, threads=threads,
            progress=progress,
        )  # fmt: skip
    else:
        placed = _anew(
            vectors, edges, seed=seed, dims=dims, min_dist=min_dist, epochs=epochs,
            threads=threads, progress=progress,
        )  # fmt: skip
    return placed if found is None else placed[found.of]


def _anew(
    vectors: NDArray[np.float32],
    edges: Callable[[], optimiser.Edges],
    *,
    seed: int,
    dims: int,
    min_dist: float,
    epochs: int | None,
    threads: int | None,
    progress: Progress,
) -> NDArray[np.float32]:
    count = len(vectors)
    begin = principal(vectors, dims)
    if count < SMALL or not begin.any():
        return begin
    # UMAP's own start has a largest coordinate of 10; a little noise parts rows that are equal.
    noise = np.random.default_rng(seed).normal(scale=1e-4, size=begin.shape)
    begin = (begin * (10.0 / np.abs(begin).max()) + noise).astype(np.float32)
    return optimiser.optimise(
        edges(),
        begin,
        seed=seed,
        shape=optimiser.curve(min_dist),
        epochs=(500 if count <= 10_000 else 200) if epochs is None else epochs,
        threads=threads,
        progress=progress,
    )


def _again(
    vectors: NDArray[np.float32],
    edges: optimiser.Edges,
    start: NDArray[np.float32],
    *,
    seed: int,
    min_dist: float,
    epochs: int,
    still: bool,
    threads: int | None,
    progress: Progress,
) -> NDArray[np.float32]:
    known = _known(start)
    speed = 0.0 if still else AGAIN_SPEED
    begin = filled(vectors, edges, start, seed=seed)
    moved = optimiser.optimise(
        edges,
        begin,
        seed=seed,
        shape=optimiser.curve(min_dist),
        epochs=epochs,
        speeds=np.where(known, speed, 1.0).astype(np.float32),
        threads=threads,
        progress=progress,
    )
    return moved if still else align(moved, start, known)


def _known(start: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(start).all(axis=1), np.bool_)


def edges_of(graph: Graph, neighbours: int, threads: int | None = None) -> optimiser.Edges:
    """The fuzzy graph of a row and its nearest, `neighbours` in all as umap-learn counts them.

    Up to 20,000 rows umap-learn makes it; above, our own, which is the same and uses all cores.
    """
    near = max(0, min(neighbours - 1, graph.rows.shape[1]))
    rows, distances = graph.rows[:, :near], graph.distances[:, :near]
    if near and SMALL <= len(rows) <= LIBRARY_ROWS:
        return _by_umap(rows, distances)
    return optimiser.edges(rows, distances, threads=threads)


def _by_umap(near: NDArray[np.int64], distances: NDArray[np.float32]) -> optimiser.Edges:
    with warnings.catch_warnings():
        # It says at import that its variant for Tensorflow is not there.
        warnings.simplefilter("ignore")
        from umap.umap_ import fuzzy_simplicial_set
    count = len(near)
    # The row itself is the first of its neighbours.
    found, _, _ = fuzzy_simplicial_set(
        np.empty((count, 1), np.float32),
        near.shape[1] + 1,
        np.random.RandomState(0),
        "euclidean",
        knn_indices=np.column_stack([np.arange(count), near]),
        knn_dists=np.column_stack([np.zeros(count, np.float32), distances]),
    )
    held = found.tocsr()
    held.sort_indices()
    return optimiser.Edges(
        held.indptr.astype(np.int64), held.indices.astype(np.int32), held.data.astype(np.float32)
    )


def filled(
    vectors: NDArray[np.float32],
    edges: optimiser.Edges,
    start: NDArray[np.float32],
    *,
    seed: int,
) -> NDArray[np.float32]:
    """Give every NaN row a position: the mean of placed neighbours, pass by pass.

    A part of the graph that no placed row touches goes beside the placed row that is most like its
    mean vector.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    known = _known(start)
    placed = np.where(known[:, None], start, 0).astype(np.float64)
    if not known.any():
        return principal(vectors, start.shape[1])
    count = len(known)
    weights = csr_matrix((edges.weights, edges.rows, edges.starts), shape=(count, count))
    held = known.copy()
    while not held.all():
        left = np.flatnonzero(~held)
        own = weights[left]
        mass = own @ held.astype(np.float64)
        ready = mass > 0
        if not ready.any():
            break
        placed[left[ready]] = (own[ready] @ placed) / mass[ready, None]
        held[left[ready]] = True
    left = np.flatnonzero(~held)
    if len(left):
        parts, part = connected_components(weights[left][:, left], directed=False)
        means = np.zeros((parts, vectors.shape[1]), np.float32)
        np.add.at(means, part, vectors[left])
        best, like = np.zeros(parts, np.int64), np.full(parts, -np.inf, np.float32)
        rows = np.flatnonzero(held)
        for first in range(0, len(rows), _CHUNK):
            chunk = rows[first : first + _CHUNK]
            for low in range(0, parts, 1024):
                score = means[low : low + 1024] @ vectors[chunk].T
                at = score.argmax(axis=1)
                top = score[np.arange(len(at)), at]
                better = np.flatnonzero(top > like[low : low + 1024])
                best[low + better], like[low + better] = chunk[at[better]], top[better]
        placed[left] = placed[best[part]]
    noise = np.random.default_rng(seed).normal(scale=1e-2, size=placed.shape)
    placed[~known] += noise[~known]
    return placed.astype(np.float32)


def align(
    placed: NDArray[np.float32], earlier: NDArray[np.float32], known: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Turn, mirror and shift `placed` so that its `known` rows come nearest to `earlier`.

    The orthogonal Procrustes problem (Schoenemann, 1966); distances stay as they are.
    """
    if not known.any():
        return placed
    mine, theirs = placed[known].astype(np.float64), earlier[known].astype(np.float64)
    middle, wanted = mine.mean(axis=0), theirs.mean(axis=0)
    left, _, right = np.linalg.svd((mine - middle).T @ (theirs - wanted))
    turned: NDArray[np.float32] = ((placed - middle) @ (left @ right) + wanted).astype(np.float32)
    return turned


def principal(vectors: NDArray[np.float32], dims: int) -> NDArray[np.float32]:
    """Coordinates on the first principal axes, (N, dims); signs fixed, missing axes are 0.

    Rows are read in chunks: no copy of all of them is made.
    """
    count = len(vectors)
    placed = np.zeros((count, dims), np.float32)
    if count < 2:
        return placed
    parts = [slice(first, first + _CHUNK) for first in range(0, count, _CHUNK)]
    mean = sum(vectors[part].sum(axis=0, dtype=np.float64) for part in parts) / count
    if count < vectors.shape[1]:
        centred = vectors.astype(np.float64) - mean
        values, left = np.linalg.eigh(centred @ centred.T)
        axes = (left * np.sqrt(np.maximum(values, 0)))[:, ::-1][:, :dims]
    else:
        spread = np.zeros((vectors.shape[1],) * 2)
        for part in parts:
            own = vectors[part] - mean
            spread += own.T @ own
        right = np.linalg.eigh(spread)[1][:, ::-1][:, :dims]
        axes = np.concatenate([(vectors[part] - mean) @ right for part in parts])
    if np.abs(axes).max(initial=0) < 1e-9:
        return placed
    largest = np.abs(axes).argmax(axis=0)
    axes = axes * np.where(axes[largest, np.arange(axes.shape[1])] < 0, -1.0, 1.0)
    placed[:, : axes.shape[1]] = axes
    return placed


@dataclass(frozen=True, slots=True)
class Frame:
    """The square of a layout that a map shows: its middle and side, in units of the layout."""

    x: float
    y: float
    side: float

    @classmethod
    def around(
        cls, placed: NDArray[np.float32], earlier: Frame | None = None, *, margin: float = 0.02
    ) -> Frame:
        """The smallest frame around float32 (N, 2) with a margin; `earlier` while it holds all."""
        if len(placed) == 0:
            return earlier or cls(0.0, 0.0, 1.0)
        if earlier is not None:
            inside = (placed - (earlier.x, earlier.y)) / earlier.side + 0.5
            if ((inside >= 0) & (inside <= _INSIDE)).all():
                return earlier
        low, high = placed.min(axis=0).astype(np.float64), placed.max(axis=0).astype(np.float64)
        middle, side = (low + high) / 2, float((high - low).max())
        return cls(float(middle[0]), float(middle[1]), side / (1 - 2 * margin) or 1.0)

    def shown(self, placed: NDArray[np.float32]) -> NDArray[np.float32]:
        """Positions of a layout on the map: float32 (N, 2) in [0, 1) x [0, 1)."""
        scaled = (placed.astype(np.float64) - (self.x, self.y)) / self.side + 0.5
        return np.clip(scaled, 0, _INSIDE).astype(np.float32)

    def placed(self, shown: NDArray[np.float32]) -> NDArray[np.float32]:
        """Positions of a map in units of its layout; NaN stays NaN."""
        return ((shown.astype(np.float64) - 0.5) * self.side + (self.x, self.y)).astype(np.float32)


def kept(graph: Graph, placed: NDArray[np.float32], k: int = 15) -> NDArray[np.float32]:
    """Share of each row's k nearest that are among its k nearest in float32 (N, 2): float32 (N,).

    Over all N. A neighbour counts that is no farther in the layout than the k-th nearest there, so
    rows on one spot do not shut each other out. 1 where a row has no neighbours.
    """
    from scipy.spatial import cKDTree

    count = len(placed)
    near = graph.rows[:, :k]
    k = min(k, near.shape[1], count - 1)
    if k < 1:
        return np.ones(count, np.float32)
    flat, slack = _parted(placed)
    tree, share = cKDTree(flat), np.empty(count, np.float32)
    for first in range(0, count, _CHUNK):
        part = slice(first, first + _CHUNK)
        reach = tree.query(flat[part], k + 1, workers=-1)[0][:, k] * (1 + 1e-9) + slack
        own = near[part]
        gap = np.sqrt(((flat[own] - flat[part][:, None]) ** 2).sum(axis=2))
        real = own >= 0
        hits = ((gap <= reach[:, None]) & real).sum(axis=1)
        share[part] = np.where(real.any(axis=1), hits / np.maximum(1, real.sum(axis=1)), 1.0)
    return share


def _parted(placed: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
    """Positions with equal ones told apart, by less than float32 resolves, and twice by how much.

    A tree over very many equal points would compare all with all.
    """
    flat = placed.astype(np.float64)
    width = float(np.ptp(flat, axis=0).max(initial=0)) or 1.0
    flat += np.random.default_rng(0).uniform(-1e-9, 1e-9, flat.shape) * width
    return flat, 6e-9 * width


def trust(
    vectors: NDArray[np.float32], placed: NDArray[np.float32], *, k: int = 15, seed: int = 1
) -> Trust:
    """Trustworthiness (Venna and Kaski, 2001) with all N as candidates.

    Above 6,000 rows the rows whose neighbourhoods are judged are a seeded sample; their ranks
    are still over all N. Rows that score within 1e-6 of each other have one rank.
    """
    from scipy.spatial import cKDTree

    count = len(vectors)
    k = min(k, (count - 1) // 2)
    if k < 1:
        return Trust(1.0, 0, count)
    judged = np.arange(count)
    if count > EXACT_ROWS:
        judged = np.sort(np.random.default_rng(seed).choice(count, EXACT_ROWS, replace=False))
    flat, _ = _parted(placed)
    found = cKDTree(flat).query(flat[judged], k + 1, workers=-1)[1]
    own = found == judged[:, None]
    low = np.take_along_axis(found, np.argsort(own, axis=1, kind="stable")[:, :k], 1)
    penalty = 0
    for first in range(0, len(judged), _JUDGED):
        rows, near = judged[first : first + _JUDGED], low[first : first + _JUDGED]
        mine = vectors[rows]
        limits = np.einsum("nd,nkd->nk", mine, vectors[near]) + np.float32(1e-6)
        beaten = np.zeros(near.shape, np.int64)
        for begin in range(0, count, _CHUNK):
            score = mine @ vectors[begin : begin + _CHUNK].T
            held = np.flatnonzero((rows >= begin) & (rows < begin + _CHUNK))
            score[held, rows[held] - begin] = -np.inf
            optimiser.count_above(score, limits, beaten)
        penalty += int(np.maximum(0, beaten + 1 - k).sum())
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
