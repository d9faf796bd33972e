"""Teach by click: held-out margins against fits without the group, and a planted concept."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics.learning import concept
from cql.errors import InputError
from tests.analytics.learning.test_linear import unit

DIM = 32


def planted(
    rows: int, share: float, seed: int = 1
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Unit vectors in four directions, one of which is the concept."""
    rng = np.random.default_rng(seed)
    centres = unit(4, DIM, seed)
    own = np.where(rng.random(rows) < share, 0, rng.integers(1, 4, rows))
    vectors = centres[own] + 0.12 * rng.normal(size=(rows, DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), own == 0


def average_precision(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    hits = right[np.argsort(-scores, kind="stable")]
    ranks = np.arange(1, len(hits) + 1)
    return float((np.cumsum(hits) / ranks)[hits].mean())


def test_five_clicks_find_a_planted_concept() -> None:
    vectors, right = planted(5_000, 0.05)
    yes, no = np.flatnonzero(right)[:3], np.flatnonzero(~right)[:2]
    drawn = np.random.default_rng(4).choice(len(vectors), 512, replace=False)
    made = concept.teach(
        vectors[yes], vectors[no], vectors[drawn], groups=[f"l{n}" for n in range(5)], seed=4
    )
    margins = made.linear.scores(vectors)[:, 0]
    assert average_precision(margins, right) >= 0.95
    assert (margins[yes] > margins[no].max()).all()
    assert (made.positives, made.negatives, made.sampled) == (3, 2, 512)


def test_held_out_margins_are_those_of_fits_without_the_listing() -> None:
    vectors, right = planted(24, 0.5, seed=3)
    yes, no = vectors[right], vectors[~right]
    groups = [f"l{n // 2}" for n in range(len(vectors))]
    rows = np.concatenate([yes, no]).astype(np.float64)
    targets = np.r_[np.ones(len(yes)), -np.ones(len(no))]
    shares = np.r_[np.full(len(yes), 0.5 / len(yes)), np.full(len(no), 0.5 / len(no))]
    wide = np.c_[rows, np.full(len(rows), 10.0)]

    def fitted(kept: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.float64]:
        weight = shares[kept][:, None]
        left = wide[kept].T @ (weight * wide[kept]) + 0.02 * np.eye(DIM + 1)
        right_side = wide[kept].T @ (weight[:, 0] * targets[kept])
        return np.asarray(wide[test] @ np.linalg.solve(left, right_side))

    every = np.arange(len(rows))
    kernel = wide @ wide.T
    hat = np.linalg.solve(kernel + np.diag(0.02 / shares), kernel).T
    np.testing.assert_allclose(hat @ targets, fitted(every, every), atol=1e-8)
    made = concept.teach(yes, no, np.empty((0, DIM), np.float32), groups=groups, seed=1)
    np.testing.assert_allclose(made.linear.scores(rows.astype(np.float32))[:, 0],
                               fitted(every, every), atol=1e-5)  # fmt: skip
    margins = concept.held_out(hat, targets, groups)
    for name in set(groups):
        test = np.array([n for n, own in enumerate(groups) if own == name])
        np.testing.assert_allclose(
            margins[test], fitted(np.setdiff1d(every, test), test), atol=1e-8
        )


def test_the_threshold_is_the_least_that_is_precise_enough() -> None:
    margins = np.array([0.9, 0.8, 0.7, 0.1, 0.5, -0.4])
    right = np.array([True, True, True, True, False, False])
    assert concept.cut(margins, right, most=2) == (0.7, 1.0, 0.75)
    assert concept.cut(margins, right, most=2, wanted=0.8) == (0.0, 0.8, 1.0)
    assert concept.cut(margins - 0.6, right, most=2, wanted=0.8) == (0.0, 1.0, 0.75)
    assert concept.cut(-margins, right, most=2) == (2, 0.0, 0.0)


def test_one_example_labels_nothing_that_is_less_like_it_than_itself() -> None:
    vectors, right = planted(400, 0.2)
    yes = np.flatnonzero(right)[:1]
    made = concept.teach(vectors[yes], vectors[:0], vectors, groups=["a"], seed=1)
    margins = made.linear.scores(vectors)[:, 0]
    assert (made.precision, made.recall) == (0.0, 0.0)
    assert np.flatnonzero(margins >= made.threshold - 1e-6).tolist() == yes.tolist()


@pytest.mark.parametrize("sampled", [0, 3])
def test_one_click_and_identical_images(sampled: int) -> None:
    same = np.repeat(unit(1, DIM), 4, axis=0)
    if not sampled:
        with pytest.raises(InputError, match="mark one"):
            concept.teach(same[:1], same[:0], same[:0], groups=["a"], seed=1)
        return
    made = concept.teach(same[:1], same[:0], same[1:], groups=["a"], seed=1)
    assert np.isfinite(made.linear.scores(same)).all()


def test_vectors_that_are_no_features_are_refused() -> None:
    bad = unit(2, DIM)
    bad[1, 0] = np.nan
    with pytest.raises(InputError):
        concept.teach(bad, unit(1, DIM), unit(1, DIM), groups=["a", "b", "c"], seed=1)
    with pytest.raises(InputError):
        concept.teach(unit(2, DIM), unit(1, DIM), unit(1, DIM), groups=["a"], seed=1)
    with pytest.raises(InputError):
        concept.teach(unit(1, DIM)[:0], unit(1, DIM), unit(1, DIM), groups=["a"], seed=1)
