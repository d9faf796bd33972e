"""The benchmark of the neighbour graph on a few rows: it judges what it measures."""

from pathlib import Path

import numpy as np

from tests.bench import neighbours
from tests.bench.vectors import Dataset


def test_the_audit_judges_by_brute_force() -> None:
    vectors = np.concatenate(list(Dataset(300, 16, "clustered").chunks()))
    judged, kth = neighbours.truth(vectors)
    products = vectors @ vectors.T
    np.fill_diagonal(products, -np.inf)
    near = np.argsort(-products, axis=1)[:, : neighbours.K]
    assert np.array_equal(judged, np.arange(300))
    assert np.allclose(kth, np.take_along_axis(products, near[:, -1:], 1)[:, 0], atol=1e-6)
    assert neighbours.recall(vectors, near, judged, kth) == 1.0
    near[::2, :5] = np.argsort(products, axis=1)[::2, 1:6]
    assert abs(neighbours.recall(vectors, near, judged, kth) - 5 / 6) < 1e-9


def test_what_is_added_is_judged_beside_a_rebuild(tmp_path: Path) -> None:
    (row,) = neighbours.added(Dataset(2000, 32, "clustered"), tmp_path, threads=2)
    assert row.theirs is not None
    for name in ("recall@15 added", "recall@15 anew"):
        value = row.quality[name]
        assert isinstance(value, float)
        assert value > 0.95
