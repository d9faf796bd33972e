"""Retrieval figures against double loops, by name on degenerate inputs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics import retrieval
from cql.errors import InputError


def unit(matrix: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.asarray(matrix / np.linalg.norm(matrix, axis=1, keepdims=True), dtype=np.float32)


def clustered(
    seed: int, *, images: int = 60, dim: int = 7, classes: int = 5
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Overlapping classes with some exact duplicates, so that scores tie."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    centres = rng.normal(size=(classes, dim))
    features = centres[labels] + 0.9 * rng.normal(size=(images, dim))
    features[images // 2 : images // 2 + 5] = features[:5]
    return unit(features), labels


def score(a: NDArray[np.float32], b: NDArray[np.float32]) -> np.float32:
    total = 0.0
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        total += x * y
    return np.float32(total)


def naive_ranking(features: NDArray[np.float32], query: int) -> list[int]:
    others = [row for row in range(len(features)) if row != query]
    scores = {row: score(features[query], features[row]) for row in others}
    return sorted(others, key=lambda row: (-scores[row], row))


def naive_accuracy(features: NDArray[np.float32], labels: NDArray[np.int64], k: int) -> float:
    right = 0
    for query in range(len(labels)):
        voters = [int(labels[row]) for row in naive_ranking(features, query)[:k]]
        votes = Counter(voters)
        most = max(votes.values())
        winner = next(label for label in voters if votes[label] == most)
        right += winner == labels[query]
    return right / len(labels)


def naive_map(features: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    averages = []
    for query in range(len(labels)):
        found, precisions = 0, []
        for rank, row in enumerate(naive_ranking(features, query), start=1):
            if labels[row] == labels[query]:
                found += 1
                precisions.append(found / rank)
        if precisions:
            averages.append(sum(precisions) / len(precisions))
    return sum(averages) / len(averages)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 2, 5, 100])
def test_accuracy_equals_a_double_loop(seed: int, k: int) -> None:
    features, labels = clustered(seed)
    ours = retrieval.knn_accuracy(features, labels, k=k)
    assert ours == pytest.approx(naive_accuracy(features, labels, k), abs=1e-12)
    assert k == 100 or 0.2 < ours < 1.0, "the oracle has to be able to tell good from bad"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_mean_average_precision_equals_a_double_loop(seed: int) -> None:
    features, labels = clustered(seed)
    ours = retrieval.mean_average_precision(features, labels)
    assert ours == pytest.approx(naive_map(features, labels), abs=1e-12)
    assert 0.2 < ours < 1.0


def test_precision_at_1_is_the_vote_of_one() -> None:
    features, labels = clustered(4)
    assert retrieval.precision_at_1(features, labels) == naive_accuracy(features, labels, 1)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clustered(5)
    whole = retrieval.quality(features, labels)
    monkeypatch.setattr(retrieval, "BLOCK_SCORES", 7 * len(labels))
    assert retrieval.quality(features, labels) == whole
    monkeypatch.setattr(retrieval, "BLOCK_SCORES", 1)
    assert retrieval.quality(features, labels) == whole


def test_quality_is_the_three_figures() -> None:
    features, labels = clustered(6)
    figures = retrieval.quality(features, labels, k=3)
    assert figures.images == 60
    assert figures.classes == 5
    assert figures.knn_accuracy == retrieval.knn_accuracy(features, labels, k=3)
    assert figures.precision_at_1 == retrieval.precision_at_1(features, labels)
    assert figures.mean_average_precision == pytest.approx(
        retrieval.mean_average_precision(features, labels), abs=1e-12
    )
    assert set(figures.as_dict()) == {
        "images", "classes", "knn_accuracy", "precision_at_1", "mean_average_precision",
    }  # fmt: skip


def test_labels_may_be_names() -> None:
    features, labels = clustered(7)
    names = np.array([f"class {label}" for label in labels])
    assert retrieval.quality(features, names) == retrieval.quality(features, labels)


def test_perfect_features_score_one() -> None:
    features = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    labels = np.repeat([0, 1, 2], 4)
    figures = retrieval.quality(features, labels, k=3)
    assert figures.knn_accuracy == figures.precision_at_1 == figures.mean_average_precision == 1.0


def test_a_tied_vote_goes_to_the_nearest() -> None:
    # Angles from the first row: 10, 20, 30, 40 degrees with labels 1, 0, 0, 1.
    angles = np.radians([0, 10, 20, 30, 40])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    ranking = [[1, 0, 0, 1]]
    assert retrieval._vote(np.array(ranking)).tolist() == [1]
    assert retrieval._vote(np.array([[0, 1, 1, 0]])).tolist() == [0]
    assert retrieval._vote(np.array([[2, 1, 1, 0]])).tolist() == [1]
    labels = np.array([1, 1, 0, 0, 1])
    assert retrieval.knn_accuracy(features, labels, k=4) == naive_accuracy(features, labels, 4)


def test_no_images() -> None:
    figures = retrieval.quality(np.empty((0, 4), dtype=np.float32), np.empty(0, dtype=int))
    assert (figures.images, figures.knn_accuracy, figures.mean_average_precision) == (0, 0.0, 0.0)
    assert retrieval.mean_average_precision(np.empty((0, 4)), []) == 0.0


def test_one_image() -> None:
    figures = retrieval.quality(np.array([[1.0, 0.0]], dtype=np.float32), [3])
    assert (figures.knn_accuracy, figures.precision_at_1) == (0.0, 0.0)
    assert figures.mean_average_precision == 0.0


def test_one_class() -> None:
    features, labels = clustered(8)
    figures = retrieval.quality(features, np.zeros_like(labels))
    assert figures.knn_accuracy == figures.precision_at_1 == 1.0
    assert figures.mean_average_precision == pytest.approx(1.0)


def test_every_image_alone_in_its_class() -> None:
    features, labels = clustered(9)
    figures = retrieval.quality(features, np.arange(len(labels)))
    assert (figures.knn_accuracy, figures.mean_average_precision) == (0.0, 0.0)


def test_all_identical_are_ranked_by_row() -> None:
    features = np.tile(np.array([[0.6, 0.8]], dtype=np.float32), (6, 1))
    labels = np.array([0, 0, 1, 1, 1, 1])
    # Everybody's nearest is row 0, except that row 0's is row 1: rows 0 and 1 are right.
    assert retrieval.precision_at_1(features, labels) == pytest.approx(2 / 6)
    assert retrieval.mean_average_precision(features, labels) == pytest.approx(
        naive_map(features, labels)
    )


@pytest.mark.parametrize(
    ("features", "labels", "rule"),
    [
        (np.ones((2, 2, 2)), [0, 1], r"\(N, D\)"),
        (np.ones((2, 0)), [0, 1], r"\(N, D\)"),
        (np.eye(3), [0, 1], "one for each vector"),
        (2 * np.eye(3), [0, 1, 2], "row 0 has 2"),
        (np.array([[1.0, 0.0], [np.nan, 1.0]]), [0, 1], "row 1 has nan"),
        (np.array([[1.0, 0.0], [0.0, 0.0]]), [0, 1], "row 1 has 0"),
    ],
)
def test_broken_input_is_refused(
    features: NDArray[np.float64], labels: list[int], rule: str
) -> None:
    for figure in (
        retrieval.knn_accuracy,
        retrieval.precision_at_1,
        retrieval.mean_average_precision,
        retrieval.quality,
    ):
        with pytest.raises(InputError, match=rule):
            figure(features, labels)


def test_k_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1, got 0"):
        retrieval.knn_accuracy(np.eye(3), [0, 1, 2], k=0)
    with pytest.raises(InputError, match="at least 1, got 0"):
        retrieval.quality(np.eye(3), [0, 1, 2], k=0)
