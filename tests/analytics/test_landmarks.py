"""Landmarks: which rows, their graph, and a layout of the others by them."""

import numpy as np
import pytest

from analytics import landmarks, projection
from tests.analytics.test_layout import brute, groups
from tests.naive import unit


def test_the_graph_among_rows_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmarks, "_BLOCK", 32)
    vectors = unit(np.random.default_rng(4), 100, 8)
    found, wanted = landmarks.among(vectors, 6), brute(vectors, 6)
    assert np.array_equal(found.rows, wanted.rows)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_few_rows_have_all_others_as_neighbours(count: int) -> None:
    found = landmarks.among(unit(np.random.default_rng(4), count, 8), 9)
    assert found.rows.shape == (count, max(0, count - 1))
    assert all(row not in found.rows[row] for row in range(count))


def test_landmarks_are_seeded_spread_and_as_many_as_asked() -> None:
    vectors = groups(600)
    graph = brute(vectors, 10)
    for count in (1, 60, 599, 600):
        rows = landmarks.choose(graph, count, seed=1)
        assert len(set(rows.tolist())) == count
    rows = landmarks.choose(graph, 60, seed=1)
    assert np.array_equal(rows, landmarks.choose(graph, 60, seed=1))
    assert not np.array_equal(rows, landmarks.choose(graph, 60, seed=2))
    drawn = np.random.default_rng(1).permutation(600)[:60]

    def beside(chosen: np.ndarray) -> int:
        return int(np.isin(graph.rows[chosen, :9], chosen).sum())

    assert beside(rows) < beside(drawn)
    assert len({int(row) % 20 for row in rows}) == 20


def test_a_layout_by_landmarks_keeps_groups_together() -> None:
    vectors = groups(1200)
    graph = brute(vectors, 15)
    found = landmarks.layout(vectors, graph, seed=1, landmarks=200)
    assert np.isfinite(found).all()
    assert projection.trust(vectors, found).value > 0.9
    assert np.array_equal(found, landmarks.layout(vectors, graph, seed=1, landmarks=200, threads=1))
