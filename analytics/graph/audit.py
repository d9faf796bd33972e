"""How good an approximate graph is: some rows, chosen by chance, compared with all others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analytics.graph import links, settling
from analytics.graph.exhaustive import SPARE
from analytics.parts import Arrays, Parts, cut
from cql.progress import Progress, silent

ROWS = 1000
"""Rows that are judged: the error of the recall is then about 0.005 at recall 0.97."""

_PART = 125
_BLOCK = 8192


def chosen(count: int, seed: int, rows: int = ROWS) -> NDArray[np.int64]:
    """Rows to judge, ascending: `rows` of `count` by chance, or all."""
    rng = np.random.default_rng([seed, 12])
    return np.sort(rng.choice(count, min(rows, count), replace=False)).astype(np.int64)


def truth(
    parts: Parts, judged: NDArray[np.int64], k: int, *, progress: Progress = silent
) -> NDArray[np.float32]:
    """The k-th best score of each judged row of the array `vectors` with any other: (S,)."""
    count = len(parts["vectors"])
    size = min(k + SPARE, count)
    parts.put("judged", judged)
    parts.make("judged_rows", (len(judged), size), np.int32)
    parts.make("judged_scores", (len(judged), size), np.float32)
    kth = parts.make("kth", (len(judged),), np.float32)
    parts.run(
        _judge,
        cut(len(judged), _PART),
        ("vectors", "judged", "judged_rows", "judged_scores", "kth"),
        progress=progress,
        step="audit",
        k=k,
    )
    kth = kth.copy()
    parts.drop("judged", "judged_rows", "judged_scores", "kth")
    return kth


def recall(scores: NDArray[np.float32], kth: NDArray[np.float32], slack: float = 0.0) -> float:
    """Share of entries that are among the k best: scores (S, k) of the judged rows.

    A row that is as good as the k-th best counts, whichever of several equal ones it is.
    """
    if scores.size == 0:
        return 1.0
    return float((scores >= kth[:, None] - slack).mean())


def _judge(arrays: Arrays, first: int, last: int, *, k: int) -> int:
    vectors, judged = arrays["vectors"], arrays["judged"][first:last]
    rows, scores = arrays["judged_rows"][first:last], arrays["judged_scores"][first:last]
    rows[:], scores[:] = -1, -np.inf
    own, who = vectors[judged], np.arange(len(judged))
    for low, high in cut(len(vectors), _BLOCK):
        # Their own rows stay in: they are left out when the scores are exact.
        found = own @ vectors[low:high].T
        links.take(found, who, len(vectors), np.arange(low, high), rows, scores)
    exact = np.empty(rows.shape[1], np.float32)
    for at, row in enumerate(judged):
        settling.score(vectors, row, rows[at], exact)
        others = np.sort(exact[rows[at] != row])[::-1]
        arrays["kth"][first + at] = others[k - 1]
    return 0
