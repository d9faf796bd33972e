"""Teach by click: a ranker of all images from a few that have something and a few that do not.

Regularised least squares on targets +1 and -1 (Rifkin, Yeo and Poggio, Regularized Least-Squares
Classification, 2003), with a sample of the collection as weak negatives: whatever the concept is,
most images do not have it. Positives weigh a half together. The other half is shared by the images
marked as negative and the sample, evenly where there are both. A margin above 0 means yes; the
images of margins near 0 are those whose marks teach most.

Held-out margins are exact and cost nothing more: with the fit linear in the targets by H, those of
a listing G left out are y - (I - H_GG)^-1 (y - f)_G (Cook and Weisberg, Residuals and Influence in
Regression, 1982, for groups).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analytics.learning.linear import Linear
from cql import codec
from cql.errors import InputError

SAMPLE = 512
"""Images drawn as weak negatives."""
EXAMPLES_MAX = 1_000
RIDGE = 0.02
"""Penalty of |w|^2, for weights of examples that sum to 1."""
PRECISION = 0.9
"""Held-out precision from which on a margin makes a label of a new image."""
_FREE = 10.0
"""The constant column: the larger, the less the bias is held back."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranker:
    """A taught concept: the margin of v is w . v + b, as `linear` (C = 1) scores it.

    `threshold`: the least margin of 0 or more from which on marked images, each held out, reach
    `PRECISION`; where none does (one example says nothing of another), the margin of the best
    example, with a `precision` and a `recall` of 0. Weak negatives do not count here: some of them
    have the concept. `seed` drew the `sampled` ones.
    """

    linear: Linear
    threshold: float
    precision: float
    recall: float
    positives: int
    negatives: int
    sampled: int
    seed: int


def teach(
    positives: NDArray[np.float32],
    negatives: NDArray[np.float32],
    sampled: NDArray[np.float32],
    *,
    groups: Sequence[str],
    seed: int,
    ridge: float = RIDGE,
) -> Ranker:
    """Fit on float32 (P, D), (M, D) and (S, D) of unit norm.

    `groups`: the listing of each positive, then of each negative: none is judged by a fit that saw
    a photo of its listing. InputError without a positive, or without anything against it.
    """
    counts = len(positives), len(negatives), len(sampled)
    if not 1 <= counts[0] <= EXAMPLES_MAX or counts[1] > EXAMPLES_MAX:
        raise InputError(
            f"a concept needs 1 to {EXAMPLES_MAX} positives and at most as many negatives, got "
            f"{counts[0]} and {counts[1]}"
        )
    if not counts[1] + counts[2]:
        raise InputError("a concept needs an image that does not have it: mark one")
    if len(groups) != counts[0] + counts[1]:
        raise InputError(f"every example has a listing, got {len(groups)} for {sum(counts[:2])}")
    rows = np.concatenate([positives, negatives, sampled]).astype(np.float32)
    codec.check(rows)
    wide = rows.astype(np.float64)
    targets = np.r_[np.ones(counts[0]), -np.ones(counts[1] + counts[2])]
    parts = zip(counts, _shares(counts), strict=True)
    shares = np.concatenate([np.full(n, share / n) for n, share in parts if n])
    kernel = wide @ wide.T + _FREE**2
    # Dual form: as many unknowns as examples, however wide the vectors are.
    solved = np.linalg.solve(kernel + np.diag(ridge / shares), np.c_[kernel, targets])
    hat = solved[:, :-1].T.astype(np.float64)
    alpha = solved[:, -1].astype(np.float64)
    margins = held_out(hat, targets, [*groups, *(f"\0{n}" for n in range(counts[2]))])
    marked = counts[0] + counts[1]
    threshold, precision, recall = cut(
        margins[:marked], targets[:marked] > 0, most=float((hat @ targets)[:marked].max())
    )
    return Ranker(
        linear=Linear.of((alpha @ wide)[None], np.array([_FREE**2 * alpha.sum()])),
        threshold=threshold,
        precision=precision,
        recall=recall,
        positives=counts[0],
        negatives=counts[1],
        sampled=counts[2],
        seed=seed,
    )


def held_out(
    hat: NDArray[np.float64], targets: NDArray[np.float64], groups: Sequence[str]
) -> NDArray[np.float64]:
    """Margin (N,) of each example by the fit without its group; targets to fits: `hat` (N, N)."""
    rest = targets - hat @ targets
    found = np.empty(len(targets))
    own: dict[str, list[int]] = {}
    for row, name in enumerate(groups):
        own.setdefault(name, []).append(row)
    for rows in own.values():
        block = np.eye(len(rows)) - hat[np.ix_(rows, rows)]
        found[rows] = targets[rows] - np.linalg.solve(block, rest[rows])
    return found


def cut(
    margins: NDArray[np.float64],
    right: NDArray[np.bool_],
    *,
    most: float,
    wanted: float = PRECISION,
) -> tuple[float, float, float]:
    """Least margin of 0 or more at which held-out precision is `wanted`, that and the recall.

    Where no margin reaches it, `most`, with nothing taken: precision and recall are 0.
    """
    own = margins[right]
    for threshold in [0.0, *np.sort(own[own > 0]).tolist()]:
        taken = margins >= threshold
        if taken.any() and right[taken].mean() >= wanted:
            recall = right[taken].sum() / right.sum()
            return float(threshold), float(right[taken].mean()), float(recall)
    return most, 0.0, 0.0


def _shares(counts: tuple[int, int, int]) -> tuple[float, float, float]:
    _, marked, drawn = counts
    if marked and drawn:
        return 0.5, 0.25, 0.25
    return 0.5, 0.5, 0.5
