"""Layouts beside umap-learn from the same graph: time and trustworthiness."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analytics import projection
from analytics.layouts import landmarks
from analytics.layouts.landmarks import among
from analytics.layouts.transform import transform
from analytics.neighbours import Graph
from tests.bench.rows import Row, Value, compare
from tests.bench.vectors import Dataset

NEIGHBOURS = 15


def layouts(dataset: Dataset, *, seed: int = 1, dims: tuple[int, ...] = (2, 10)) -> list[Row]:
    """Rows of the layout of a collection in 2 (`min_dist` 0.1) and more dimensions (0)."""
    vectors = np.concatenate(list(dataset.chunks()))
    graph = among(vectors, NEIGHBOURS)
    return [_beside(dataset, vectors, graph, each, seed) for each in dims]


def again(dataset: Dataset, *, share: float = 0.05, seed: int = 1) -> list[Row]:
    """Rows of the layout after a share of new images: what the old ones move, and placing alone."""
    vectors = np.concatenate(list(dataset.chunks()))
    old = np.random.default_rng(seed).random(len(vectors)) >= share
    earlier = landmarks.layout(vectors[old], among(vectors[old], NEIGHBOURS), seed=seed)
    graph = among(vectors, NEIGHBOURS)
    frame = projection.Frame.around(earlier)
    start = np.full((len(vectors), 2), np.nan, np.float32)
    start[old] = earlier
    began = time.perf_counter()
    found = projection.layout(vectors, graph, seed=seed, start=start)
    spent = time.perf_counter() - began
    moved = projection.Frame.around(found, frame).shown(found)[old] - frame.shown(earlier)
    near, held = graph.rows[~old], old[graph.rows[~old]]
    order = np.argsort(~held, axis=1, kind="stable")[:, :NEIGHBOURS]
    held = np.take_along_axis(held, order, 1)
    rows = np.where(held, (np.cumsum(old) - 1)[np.take_along_axis(near, order, 1)], -1)
    gaps = np.where(held, np.take_along_axis(graph.distances[~old], order, 1), np.float32(np.inf))
    placed = start.copy()
    began = time.perf_counter()
    placed[~old] = transform(rows, gaps, earlier, seed=seed)
    placing = time.perf_counter() - began
    quality: dict[str, Value] = {
        "layout s": spent,
        "new images": int((~old).sum()),
        "trust": projection.trust(vectors, found, seed=seed).value,
        "trust placed only": projection.trust(vectors, placed, seed=seed).value,
    }
    return [
        compare(
            "old images move",
            dataset.size,
            float(np.median(np.linalg.norm(moved, axis=1))),
            unit="of the map's width",
            target=0.02,
            quality=quality,
        ),
        compare("new images placed", dataset.size, placing, unit="s"),
    ]


def started(dataset: Dataset, *, seed: int = 1) -> list[Row]:
    """Row of a start from landmarks beside one from principal axes, which takes more epochs."""
    vectors = np.concatenate(list(dataset.chunks()))
    graph = among(vectors, NEIGHBOURS)
    began = time.perf_counter()
    full = projection.layout(vectors, graph, seed=seed)
    middle = time.perf_counter()
    few = landmarks.layout(vectors, graph, seed=seed)
    ended = time.perf_counter()
    quality: dict[str, Value] = {}
    for name, placed in (("ours", few), ("theirs", full)):
        quality[f"trust {name}"] = projection.trust(vectors, placed, seed=seed).value
        quality[f"kept {name}"] = float(projection.kept(graph, placed).mean())
    return [
        compare(
            "layout from landmarks", dataset.size, ended - middle, unit="s",
            peer="ours from principal axes", theirs=middle - began, quality=quality,
        )
    ]  # fmt: skip


def _beside(
    dataset: Dataset, vectors: NDArray[np.float32], graph: Graph, dims: int, seed: int
) -> Row:
    options: dict[str, Any] = {"seed": seed, "dims": dims, "min_dist": 0.1 if dims == 2 else 0.0}
    landmarks.layout(vectors[:2000], among(vectors[:2000], NEIGHBOURS), landmarks=200, **options)
    _umap(vectors[:100], Graph(graph.rows[:100] % 100, graph.scores[:100]), options)
    began = time.perf_counter()
    ours = landmarks.layout(vectors, graph, neighbours=NEIGHBOURS, **options)
    middle = time.perf_counter()
    theirs = _umap(vectors, graph, options)
    ended = time.perf_counter()
    trusted = [projection.trust(vectors, each, seed=seed) for each in (ours, theirs)]
    quality: dict[str, Value] = {
        "trust ours": trusted[0].value,
        "trust theirs": trusted[1].value,
        "judged": trusted[0].rows,
        "not below by 0.005": trusted[0].value >= trusted[1].value - 0.005,
    }
    return compare(
        f"layout, {dims}-d",
        dataset.size,
        middle - began,
        unit="s",
        peer="umap-learn, the same graph",
        theirs=ended - middle,
        target=0.5,
        quality=quality,
    )


def _umap(
    vectors: NDArray[np.float32], graph: Graph, options: dict[str, Any]
) -> NDArray[np.float32]:
    with warnings.catch_warnings():
        # It says that a seed means one thread, and that a given graph cannot place later points.
        warnings.simplefilter("ignore")
        import umap

        count, near = len(vectors), NEIGHBOURS - 1
        reducer = umap.UMAP(
            n_neighbors=NEIGHBOURS,
            n_components=options["dims"],
            min_dist=options["min_dist"],
            random_state=options["seed"],
            n_jobs=1,
            precomputed_knn=(
                np.column_stack([np.arange(count), graph.rows[:, :near]]),
                np.column_stack([np.zeros(count, np.float32), graph.distances[:, :near]]),
                None,
            ),
        )
        return np.asarray(reducer.fit_transform(vectors), np.float32)
