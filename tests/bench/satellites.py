"""Placement around landmarks beside a layout of all rows: what it costs, and what is lost."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analytics import clustering, projection
from analytics.graph.linking import link
from analytics.layouts import anchors, landmarks, satellites
from analytics.neighbours import Collection, Graph
from tests.bench import clusters
from tests.bench.neighbours import collected
from tests.bench.rows import Row, Value, compare
from tests.bench.vectors import CENTRES, Dataset

NEIGHBOURS = 30
LEAST = 2_000
"""Rows that are enough to compile everything on."""


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A picture and a space of the clusters, and the seconds and CPU seconds that both took."""

    picture: NDArray[np.float32]
    space: NDArray[np.float32]
    seconds: float
    spent: float


def placed(dataset: Dataset, counts: tuple[int, ...], *, threads: int, seed: int = 1) -> list[Row]:
    """Rows of placement around so many landmarks, beside all rows laid out as one."""
    vectors = np.concatenate(list(dataset.chunks()))
    rows = collected(dataset, vectors)
    few = Dataset(LEAST, dataset.dim, dataset.kind)
    small = collected(few, np.concatenate(list(few.chunks())))
    near = link(small, NEIGHBOURS, seed=seed, threads=threads)
    for count in (LEAST // 2, None):
        made(small, near, count, threads=threads, seed=seed)
    graph = link(rows, NEIGHBOURS, seed=seed, threads=threads)
    whole = made(rows, graph, None, threads=threads, seed=seed)
    theirs = _quality(dataset, rows, graph, whole, seed, "whole")
    found = []
    for count in counts:
        part = made(rows, graph, count, threads=threads, seed=seed)
        quality: dict[str, Value] = {
            **_quality(dataset, rows, graph, part, seed, "placed"), **theirs,
            "CPU s placed": part.spent, "CPU s whole": whole.spent, "threads": threads,
        }  # fmt: skip
        found.append(
            compare(
                f"picture and space, {count:,} landmarks", dataset.size, part.seconds, unit="s",
                peer="ours, all rows laid out", theirs=whole.seconds, quality=quality,
            )
        )  # fmt: skip
    return found


def made(rows: Collection, graph: Graph, count: int | None, *, threads: int, seed: int) -> Made:
    """Lay out and place by `count` landmarks, or lay out all (None)."""
    began, before = time.perf_counter(), time.process_time()
    if count is None:
        picture, space = (
            landmarks.layout(
                rows.vectors, graph, seed=seed, dims=dims, min_dist=least, threads=threads
            )
            for dims, least in ((2, 0.1), (10, 0.0))
        )
    else:
        chosen = anchors.landmarks(rows, graph, count, seed=seed, threads=threads)
        around = anchors.around(rows, graph, chosen, threads=threads)
        picture, space = (
            satellites.place(
                around,
                landmarks.layout(
                    rows.vectors[chosen.rows], chosen.graph, seed=seed, dims=dims, min_dist=least,
                    threads=threads,
                ),
                chosen.stands, graph, seed=seed, min_dist=least, threads=threads,
            )
            for dims, least in ((2, 0.1), (10, 0.0))
        )  # fmt: skip
    ended, after = time.perf_counter(), time.process_time()
    return Made(picture, space, ended - began, after - before)


def _quality(
    dataset: Dataset, rows: Collection, graph: Graph, found: Made, seed: int, name: str
) -> dict[str, Value]:
    labels = clustering.cluster(found.space, min_samples=5).labels
    return {
        f"trust {name}": projection.trust(rows.vectors, found.picture, seed=seed).value,
        f"kept {name}": float(projection.kept(graph, found.picture).mean()),
        f"trust of the space {name}": projection.trust(rows.vectors, found.space, seed=seed).value,
        f"ARI {name}": clusters.quality(dataset.owners % CENTRES, labels)["ARI"],
    }
