"""Clusters of rows that came later, beside hdbscan's approximate_predict."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics import clustering
from analytics.hierarchy.assignment import Assigner

SIZE, SAMPLES = 12, 5


def places(count: int, seed: int) -> NDArray[np.float32]:
    """Four groups of unequal spread and some noise, in 4 dimensions."""
    rng = np.random.default_rng(seed)
    middles = np.random.default_rng(9).uniform(-8, 8, (4, 4))
    labels = rng.integers(0, 4, count)
    found = middles[labels] + rng.normal(size=(count, 4)) * (0.3 + 0.25 * labels)[:, None]
    noise = rng.random(count) < 0.1
    found[noise] = rng.uniform(-14, 14, (int(noise.sum()), 4))
    return found.astype(np.float32)


def assigner(space: NDArray[np.float32], size: int = SIZE) -> Assigner:
    linkage = clustering.grow(space, min_samples=SAMPLES)
    return Assigner(space, linkage, min_samples=SAMPLES, min_cluster_size=size)


def test_labels_are_those_of_approximate_predict() -> None:
    import hdbscan

    space, new = places(500, 1), places(200, 2)
    model = hdbscan.HDBSCAN(
        min_cluster_size=SIZE, min_samples=SAMPLES, prediction_data=True,
        approx_min_span_tree=False, core_dist_n_jobs=1,
    ).fit(space.astype(np.float64))  # fmt: skip
    wanted, sure = hdbscan.approximate_predict(model, new.astype(np.float64))
    own = clustering.cluster(space, min_samples=SAMPLES, min_cluster_size=SIZE)
    assert own.count == model.labels_.max() + 1 >= 3
    # Numbers differ: ours are by size.
    number = {-1: -1} | {
        int(theirs): int(mine)
        for theirs, mine in zip(model.labels_, own.labels, strict=True)
        if theirs >= 0
    }
    found = assigner(space).assign(new)
    theirs = np.array([number[int(label)] for label in wanted])
    # The library's core distances of rows count the row itself: it is one neighbour shorter.
    assert (found.labels == theirs).mean() >= 0.97
    both = (found.labels == theirs) & (theirs >= 0)
    assert np.median(np.abs(found.membership[both] - sure[both])) < 0.1
    assert ((found.membership >= 0) & (found.membership <= 1)).all()
    assert (found.membership[found.labels < 0] == 0).all()
    assert ((found.glosh >= 0) & (found.glosh <= 1)).all()


def test_rows_of_the_space_get_their_own_clusters() -> None:
    space = places(500, 1)
    own = clustering.cluster(space, min_samples=SAMPLES, min_cluster_size=SIZE)
    found = assigner(space).assign(space)
    assert (found.labels == own.labels).mean() > 0.97
    same = (found.labels == own.labels) & (own.labels >= 0)
    assert (found.nearest[same] == own.nearest[same]).mean() > 0.95
    assert (found.soft_shares >= 0).all()
    assert (found.soft_shares.sum(axis=1) <= 1 + 1e-5).all()


def test_far_away_is_noise() -> None:
    found = assigner(places(500, 1)).assign(np.full((3, 4), 500, np.float32))
    assert found.labels.tolist() == [-1, -1, -1]
    assert found.membership.tolist() == [0, 0, 0]
    assert (found.glosh > 0.9).all()


@pytest.mark.parametrize(("count", "label"), [(0, -1), (1, -1), (2, 0), (9, 0)])
def test_too_few_rows_for_two_clusters_are_one(count: int, label: int) -> None:
    space = places(count, 3)
    found = assigner(space).assign(places(2, 4))
    assert found.labels.tolist() == [label, label]
    assert found.shares(0) == (((0,), (1.0,)) if label == 0 else ((), ()))


def test_rows_that_are_all_equal() -> None:
    space = np.ones((40, 4), np.float32)
    assert assigner(space, 5).assign(space[:2]).labels.tolist() == [0, 0]
    two = np.repeat(np.array([[0, 0, 0, 0], [1, 1, 1, 1]], np.float32), 20, axis=0)
    own = clustering.cluster(two, min_samples=SAMPLES, min_cluster_size=5)
    found = assigner(two, 5).assign(two)
    assert np.array_equal(found.labels, own.labels)
    assert np.isfinite(found.membership).all()


def test_nothing_new() -> None:
    assert len(assigner(places(100, 1)).assign(np.empty((0, 4), np.float32)).labels) == 0
