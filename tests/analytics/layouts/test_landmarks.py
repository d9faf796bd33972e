"""Landmarks: which rows, their graph, and a layout of the others by them."""

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics import projection
from analytics.layouts import landmarks
from analytics.neighbours import Graph
from tests.analytics.layouts.test_layout import groups
from tests.naive import graph_of, unit


def test_the_graph_among_rows_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmarks, "_BLOCK", 32)
    vectors = unit(np.random.default_rng(4), 100, 8)
    found, wanted = landmarks.among(vectors, 6), graph_of(vectors, 6)
    assert np.array_equal(found.rows, wanted.rows)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_few_rows_have_all_others_as_neighbours(count: int) -> None:
    found = landmarks.among(unit(np.random.default_rng(4), count, 8), 9)
    assert found.rows.shape == (count, max(0, count - 1))
    assert all(row not in found.rows[row] for row in range(count))


def test_landmarks_are_seeded_spread_and_as_many_as_asked() -> None:
    vectors = groups(600)
    graph = graph_of(vectors, 10)
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
    graph = graph_of(vectors, 15)
    found = landmarks.layout(vectors, graph, seed=1, landmarks=200)
    assert np.isfinite(found).all()
    assert projection.trust(vectors, found).value > 0.9
    assert np.array_equal(found, landmarks.layout(vectors, graph, seed=1, landmarks=200, threads=1))


def test_landmarks_of_landmarks_keep_groups_together_on_any_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(landmarks, "WHOLE", 60)
    monkeypatch.setattr(landmarks, "SHARE", 5)
    vectors = groups(1200)
    graph = graph_of(vectors, 15)
    counts: list[int] = []
    choose = landmarks.choose

    def counted(graph: Graph, count: int, *, seed: int) -> NDArray[np.int64]:
        counts.append(count)
        return choose(graph, count, seed=seed)

    monkeypatch.setattr(landmarks, "choose", counted)
    found = landmarks.layout(vectors, graph, seed=1, threads=2)
    assert counts == [240, 48]
    assert projection.trust(vectors, found).value > 0.9
    assert np.array_equal(found, landmarks.layout(vectors, graph, seed=1, threads=1))
    assert not np.array_equal(found, landmarks.layout(vectors, graph, seed=2, threads=1))


def test_few_rows_are_laid_out_in_full() -> None:
    vectors = groups(300)
    graph = graph_of(vectors, 15)
    found = landmarks.layout(vectors, graph, seed=1)
    assert np.array_equal(found, projection.layout(vectors, graph, seed=1))


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_all_rows_equal_or_in_no_group(spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmarks, "WHOLE", 60)
    random = np.random.default_rng(3)
    vectors = spread * random.normal(size=(500, 8)) + np.r_[np.ones(1), np.zeros(7)] * (1 - spread)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    found = landmarks.layout(vectors, graph_of(vectors, 15), seed=1)
    assert found.shape == (500, 2)
    assert np.isfinite(found).all()
