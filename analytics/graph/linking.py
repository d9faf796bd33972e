"""Making the neighbour graph: exactly up to a size, above by cells, with the recall measured.

What is affordable is counted in products of numbers, N^2 D, so that the choice does not depend on
the machine or its load: one core with AVX-512 does about 1e11 products of float32 and additions a
second, and the exact graph needs half of N^2 D.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analytics.graph import audit, cells, equal, exhaustive
from analytics.identity import halves
from analytics.neighbours import Collection, Graph
from analytics.parts import Parts, cut
from cql import codec
from cql.errors import InputError
from cql.progress import Progress, silent

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

EXACT = 1e12
"""N^2 D up to which the graph is exact: 44,000 rows of 512 numbers, five seconds on two cores."""

AFFORDABLE = 6e12
"""N^2 D up to which it becomes exact when cells find too little: 108,000 rows, half a minute."""

ENOUGH = 0.9
"""Recall below which cells find too little. Vectors that have no near neighbours at all (noise in
many dimensions) cannot be searched by cells."""

HOPELESS = 0.35
"""Recall of the cells alone below which neighbours' neighbours are not even tried."""

SPARK_ROWS = 200_000
"""Rows from which Spark tasks bring more than starting them and writing files costs."""

EXACT_NAME = "exact"
CELLS_NAME = "cells and neighbours' neighbours"

_CHECKED = 16_384
_SHARES = {"equal rows": (0.0, 0.02), "cells": (0.02, 0.2), "search": (0.2, 0.45),
           "every pair": (0.02, 0.9), "rounds": (0.5, 0.9), "scores": (0.9, 0.95),
           "again": (0.95, 1.0), "audit": (0.45, 0.5)}  # fmt: skip


def link(
    rows: Collection,
    k: int,
    *,
    seed: int = 1,
    threads: int = 1,
    spark: SparkSession | None = None,
    folder: Path | None = None,
    model_id: str = "",
    data: str = "",
    exact: bool | None = None,
    audited: int = audit.ROWS,
    progress: Progress = silent,
) -> Graph:
    """Find the k nearest other rows of every row.

    Args:
        rows: The collection; vectors float32 (N, D), finite, of unit norm.
        k: Neighbours; K = min(k, N - 1) are found.
        seed: Of the cells and of the rows that are judged. The same seed, vectors and kind of CPU
            give the same graph, whatever does the work.
        threads: Threads, or tasks at once.
        spark: Session whose tasks do the work; None: threads of this process.
        folder: Where Spark's scratch files go: up to 12 bytes a number of the vectors.
        model_id: Of the vectors, kept with the graph.
        data: Fingerprint of the snapshot, kept with the graph.
        exact: True or False decide; None: by size, and by how well cells do.
        audited: Rows, at least, that an approximate graph is judged on.
        progress: Told N rows of the step `neighbours`.

    Raises:
        InputError: k below 0, or vectors that are not finite or not of unit norm.
    """
    count = len(rows.vectors)
    if k < 0:
        raise InputError(f"k must be at least 0, got {k}: ask for more neighbours")
    check(rows.vectors)
    k = max(0, min(k, count - 1))
    told = shared(progress, count)
    with Parts(threads, spark=spark, folder=folder) as parts:
        parts.put("given", rows.vectors)
        marked = equal.marks(parts, "given")
        ranks = rank(rows.images)
        if k == 0:
            near = np.empty((count, 0), np.int64), np.empty((count, 0), np.float32)
            found, method = (*near, True, 1.0, 0), EXACT_NAME
        else:
            same = equal.groups(rows.vectors, marked, ranks)
            found = _distinct(
                parts, rows, ranks, same, k,
                seed=seed, exact=exact, audited=audited, progress=told,
            )  # fmt: skip
            method = EXACT_NAME if found[2] else CELLS_NAME
    progress("neighbours", count, count)
    return Graph(
        *found,
        method=method,
        seed=seed,
        model_id=model_id,
        data=data,
        images=rows.images,
        marks=marked,
    )


def check(vectors: NDArray[np.float32]) -> None:
    """InputError unless vectors are float32 (N, D), finite, of unit norm."""
    for first, last in cut(len(vectors), _CHECKED):
        codec.check(vectors[first:last])


def rank(images: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Place of each row in the order of image ids: int32 (N,)."""
    ranks = np.empty(len(images), np.int32)
    ranks[np.lexsort(halves(images))] = np.arange(len(images), dtype=np.int32)
    return ranks


def products(count: int, dim: int) -> float:
    """What an exact graph costs, N^2 D."""
    return float(count) ** 2 * dim


def _distinct(
    parts: Parts,
    rows: Collection,
    ranks: NDArray[np.int32],
    same: equal.Groups,
    k: int,
    *,
    seed: int,
    exact: bool | None,
    audited: int,
    progress: Progress,
) -> tuple[NDArray[np.int64], NDArray[np.float32], bool, float, int]:
    """Link groups of equal rows, then all rows: rows, scores, exact, recall, rows judged."""
    heads = same.heads
    groups, dim = len(heads), rows.vectors.shape[1]
    head_ranks = np.argsort(np.argsort(ranks[heads])).astype(np.int32)
    near_k = min(k, groups - 1)
    cost = products(groups, dim)
    whole = exact if exact is not None else cost <= EXACT
    if groups < len(ranks):
        parts.put("given", rows.vectors[heads])
    judged = audit.chosen(len(ranks), seed, audited)
    recall = 1.0
    if near_k == 0:
        near, scores = np.empty((groups, 0), np.int32), np.empty((groups, 0), np.float32)
        whole = True
    elif not whole:
        # A row is judged by its group: the other rows of the group are found in any case.
        near, scores, recall = _approximate(
            parts, head_ranks, same.of_rows()[judged], near_k,
            seed=seed, give_up=exact is None and cost <= AFFORDABLE, progress=progress,
        )  # fmt: skip
        whole = exact is None and recall < ENOUGH and cost <= AFFORDABLE
        if whole:
            parts.put("given", rows.vectors[heads] if groups < len(ranks) else rows.vectors)
    if whole and near_k:
        parts.put("vectors", parts["given"])
        parts.put("ranks", head_ranks)
        near, scores = exhaustive.exhaustive(parts, near_k, progress=progress)
        recall = 1.0
    if groups == len(ranks):
        full = near.astype(np.int64), np.array(scores)
    else:
        full = equal.spread(same, rows.vectors, ranks, (np.array(near), np.array(scores)), k)
    return (*full, bool(whole), recall, 0 if whole else len(judged))


def _approximate(
    parts: Parts,
    ranks: NDArray[np.int32],
    judged: NDArray[np.int64],
    k: int,
    *,
    seed: int,
    give_up: bool,
    progress: Progress,
) -> tuple[NDArray[np.int32], NDArray[np.float32], float]:
    """Lists of the array `given`, (N, k), and their recall on the rows `judged`.

    `give_up`: stop early where cells find so little that the exact graph is wanted.
    """
    count = len(parts["given"])
    order = cells.propose(parts, min(k + cells.spare(k), count - 1), seed=seed, progress=progress)
    place = np.empty(count, np.int64)
    place[order] = np.arange(count)
    kth = audit.truth(parts, place[judged], k, progress=progress)
    slack = exhaustive.slack(parts["vectors"].shape[1])
    sofar = audit.recall(parts["scores"][place[judged], :k], kth, slack)
    if give_up and sofar < HOPELESS:
        parts.drop("vectors", "rows", "scores")
        return np.empty((0, k), np.int32), np.empty((0, k), np.float32), sofar
    cells.improve(parts, progress=progress)
    parts.put("ranks", ranks[order])
    near, scores = exhaustive.settle(parts, k, complete=False, progress=progress)
    recall = audit.recall(scores[place[judged]], kth)
    found = np.empty_like(near), np.empty_like(scores)
    found[0][order], found[1][order] = order[near], scores
    parts.drop("vectors", "near", "near_scores", "ranks")
    return (*found, recall)


def shared(progress: Progress, count: int) -> Progress:
    """Progress over N rows from that of each stage: its share of the whole is known by name."""

    def told(step: str, done: int, total: int, message: str = "") -> None:
        del message
        low, high = _SHARES[step]
        share = low + (high - low) * (done / total if total else 1.0)
        progress("neighbours", int(count * share), count, step)

    return told
