"""Places of new rows on a layout that stands still, beside umap-learn and naive loops."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics.layouts.transform import memberships, transform
from tests.naive import unit


def near(
    new: NDArray[np.float32], old: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k nearest old rows of each new one, by a loop."""
    rows, gaps = [], []
    for each in new.astype(np.float64):
        gap = np.sqrt(((old.astype(np.float64) - each) ** 2).sum(axis=1))
        order = np.argsort(gap, kind="stable")[:k]
        rows.append(order)
        gaps.append(gap[order])
    return np.array(rows).reshape(len(new), -1), np.array(gaps, np.float32).reshape(len(new), -1)


def groups(rng: np.random.Generator, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors of three groups, and a layout that has them far apart."""
    labels = np.arange(3 * size) % 3
    vectors = unit(rng, 3, 16)[labels] + rng.normal(scale=0.08, size=(3 * size, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    placed = np.array([[0, 0], [12, 0], [0, 12]])[labels] + rng.normal(size=(3 * size, 2))
    return vectors.astype(np.float32), placed.astype(np.float32)


def test_memberships_are_those_of_umap_learn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from umap.umap_ import compute_membership_strengths, smooth_knn_dist
    rng = np.random.default_rng(1)
    gaps = np.sort(rng.uniform(0.1, 1.4, (40, 15)), axis=1).astype(np.float32)
    scale, nearest = smooth_knn_dist(gaps, 15.0, local_connectivity=0.0)
    rows = np.arange(15)[None].repeat(40, 0)
    _, _, wanted, _ = compute_membership_strengths(rows, gaps, scale, nearest, bipartite=True)
    found = memberships(gaps, np.ones(gaps.shape, bool))
    assert np.allclose(found, np.asarray(wanted).reshape(40, 15), atol=1e-4)


def test_without_epochs_a_row_stands_at_the_weighted_mean_of_its_neighbours() -> None:
    rng = np.random.default_rng(2)
    vectors, placed = groups(rng, 20)
    new = unit(rng, 6, 16)
    rows, gaps = near(new, vectors, 10)
    found = transform(rows, gaps, placed, seed=1, epochs=0)
    weights = memberships(gaps, rows >= 0).astype(np.float64)
    for at in range(len(new)):
        total = np.zeros(2)
        for row, weight in zip(rows[at], weights[at], strict=True):
            total += weight * placed[row]
        assert np.allclose(found[at], total / weights[at].sum(), atol=1e-4)


def test_new_rows_come_to_lie_in_their_groups() -> None:
    rng = np.random.default_rng(3)
    vectors, placed = groups(rng, 60)
    old, new = slice(0, 150), slice(150, 180)
    rows, gaps = near(vectors[new], vectors[old], 15)
    found = transform(rows, gaps, placed[old], seed=1)
    middles = np.array([[0, 0], [12, 0], [0, 12]])
    gap = ((found[:, None] - middles) ** 2).sum(axis=2)
    assert np.array_equal(gap.argmin(axis=1), np.arange(150, 180) % 3)
    # Not even the random draws depend on what comes with a row, or on threads.
    alone = [transform(rows[[at]], gaps[[at]], placed[old], seed=1)[0] for at in range(30)]
    assert np.array_equal(found, np.array(alone))
    assert np.array_equal(found, transform(rows, gaps, placed[old], seed=1, threads=1))
    assert not np.array_equal(found, transform(rows, gaps, placed[old], seed=2))


def test_a_copy_stands_where_its_twin_does() -> None:
    rng = np.random.default_rng(4)
    vectors, placed = groups(rng, 30)
    rows, gaps = near(vectors[[5, 50]], vectors, 15)
    gaps[0, 0] = 5e-4  # what float32 leaves of a score of 1
    assert rows[:, 0].tolist() == [5, 50]
    assert np.array_equal(transform(rows, gaps, placed, seed=1), placed[[5, 50]])


@pytest.mark.parametrize("k", [1, 2, 3])
def test_few_neighbours(k: int) -> None:
    rng = np.random.default_rng(5)
    vectors, placed = unit(rng, 3, 8), rng.normal(size=(3, 2)).astype(np.float32)
    rows, gaps = near(unit(rng, 2, 8), vectors, k)
    found = transform(rows, gaps, placed, seed=1)
    assert found.shape == (2, 2)
    assert np.isfinite(found).all()
    padded = np.pad(rows, [(0, 0), (0, 4)], constant_values=-1)
    far = np.pad(gaps, [(0, 0), (0, 4)], constant_values=np.inf)
    begin = transform(rows, gaps, placed, seed=1, epochs=0)
    assert np.allclose(transform(padded, far, placed, seed=1, epochs=0), begin, atol=1e-4)


def test_no_rows_no_neighbours_and_no_layout() -> None:
    placed = np.array([[1, 1], [3, 5]], np.float32)
    nothing = np.empty((0, 3), np.int64), np.empty((0, 3), np.float32)
    assert transform(*nothing, placed, seed=1).shape == (0, 2)
    alone = np.full((2, 3), -1), np.full((2, 3), np.inf, np.float32)
    assert transform(*alone, placed, seed=1).tolist() == [[2, 3], [2, 3]]
    empty = np.empty((0, 2), np.float32)
    assert transform(*alone, empty, seed=1).tolist() == [[0, 0], [0, 0]]


def test_neighbours_that_are_all_equally_far() -> None:
    placed = np.array([[0, 0], [4, 0], [0, 4], [4, 4]], np.float32)
    rows = np.arange(4)[None]
    gaps = np.full((1, 4), 1.0, np.float32)
    assert np.allclose(transform(rows, gaps, placed, seed=1, epochs=0), [[2, 2]])
