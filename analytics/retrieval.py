"""How good features are at retrieval: leave-one-out figures from exact scores, in NumPy alone.

Each image asks for all the others. The score of a pair is the design's: the float64 sum of
products over the float32 vectors, rounded to float32. Equal scores are ordered by row number, so
every figure is reproducible. Memory is bounded by a block of queries, never (N, N).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cql.errors import InputError

BLOCK_SCORES = 8_000_000
"""Scores held at once; a block of queries is this many divided by N."""

NORM_TOLERANCE = 1e-3
"""How far from 1 the L2 norm of a vector may be."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Retrieval figures of one set of features, each in [0, 1]."""

    images: int
    classes: int
    knn_accuracy: float
    precision_at_1: float
    mean_average_precision: float

    def as_dict(self) -> dict[str, float]:
        """The figures by name, rounded to four digits for files and tables."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def knn_accuracy(features: ArrayLike, labels: ArrayLike, *, k: int = 5) -> float:
    """Share of images whose k nearest others vote for their own label.

    `features`: float32 (N, D), unit L2 norm; `labels`: (N,). With fewer than k others all of them
    vote. Of labels with equally many votes the one whose nearest voter is nearest wins. 0.0 when
    there is nothing to compare (N < 2). `InputError` on wrong shapes, norms or k.
    """
    matrix, codes = _check(features, labels)
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}: ask for one neighbour or more")
    right = 0
    for rows, order in _ranked(matrix):
        right += int((_vote(codes[order[:, :k]]) == codes[rows]).sum())
    return right / len(codes) if len(codes) > 1 else 0.0


def precision_at_1(features: ArrayLike, labels: ArrayLike) -> float:
    """Share of images whose nearest other image has their label; arguments as in `knn_accuracy`."""
    return knn_accuracy(features, labels, k=1)


def mean_average_precision(features: ArrayLike, labels: ArrayLike) -> float:
    """Mean over images of the average precision of the ranking of all others.

    Average precision is the mean, over the images with the query's label, of the precision at their
    rank. Images that are alone in their class have nothing to find and do not count; 0.0 when no
    image counts. Arguments and errors as in `knn_accuracy`.
    """
    matrix, codes = _check(features, labels)
    total, counted = 0.0, 0
    for rows, order in _ranked(matrix):
        precisions = _average_precisions(codes[order] == codes[rows][:, None])
        total += float(precisions.sum())
        counted += len(precisions)
    return total / counted if counted else 0.0


def quality(features: ArrayLike, labels: ArrayLike, *, k: int = 5) -> Quality:
    """All three figures (see the functions of their names) in one pass over the scores."""
    matrix, codes = _check(features, labels)
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}: ask for one neighbour or more")
    voted, nearest, precisions = 0, 0, [np.empty(0)]
    for rows, order in _ranked(matrix):
        voted += int((_vote(codes[order[:, :k]]) == codes[rows]).sum())
        nearest += int((codes[order[:, 0]] == codes[rows]).sum())
        precisions.append(_average_precisions(codes[order] == codes[rows][:, None]))
    images = len(codes)
    found = np.concatenate(precisions)
    return Quality(
        images=images,
        classes=len(np.unique(codes)),
        knn_accuracy=voted / images if images > 1 else 0.0,
        precision_at_1=nearest / images if images > 1 else 0.0,
        mean_average_precision=float(found.mean()) if len(found) else 0.0,
    )


def _ranked(matrix: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Blocks of (query rows (B,), all other rows by score descending then row number (B, N-1))."""
    count = len(matrix)
    if count < 2:
        return
    wide = matrix.astype(np.float64)
    block = max(1, BLOCK_SCORES // count)
    for start in range(0, count, block):
        rows = np.arange(start, min(start + block, count))
        scores = (wide[rows] @ wide.T).astype(np.float32)
        # The image itself goes last, where it is cut off, whatever else has the same score.
        scores[np.arange(len(rows)), rows] = -np.inf
        yield rows, np.argsort(-scores, axis=1, kind="stable")[:, :-1]


def _vote(labels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Winner of each row of `labels` (B, k), nearest first: most votes, then nearest voter."""
    votes = (labels[:, :, None] == labels[:, None, :]).sum(axis=2)
    # argmax takes the first of equals, which is the nearest.
    return np.asarray(labels[np.arange(len(labels)), votes.argmax(axis=1)])


def _average_precisions(relevant: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Average precision of the rows of `relevant` (B, N-1) that have anything to find."""
    relevant = relevant[relevant.any(axis=1)]
    ranks = np.arange(1, relevant.shape[1] + 1)
    precision = np.cumsum(relevant, axis=1) / ranks
    return np.asarray((precision * relevant).sum(axis=1) / relevant.sum(axis=1))


def _check(features: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    matrix = np.asarray(features, dtype=np.float32)
    given = np.asarray(labels)
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise InputError(f"features must have shape (N, D), got {matrix.shape}: stack the vectors")
    if given.shape != (len(matrix),):
        raise InputError(
            f"labels must have shape ({len(matrix)},), one for each vector, got {given.shape}"
        )
    norms = np.linalg.norm(matrix.astype(np.float64), axis=1)
    wrong = ~(np.abs(norms - 1.0) <= NORM_TOLERANCE)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"features must have unit L2 norm, row {row} has {norms[row]:.6g}: normalise them first"
        )
    codes = np.unique(given, return_inverse=True)[1] if len(given) else np.empty(0, dtype=np.intp)
    return matrix, codes.astype(np.intp)
