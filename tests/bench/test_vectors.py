from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.bench.vectors import Dataset, Kind, recall, truth

KINDS: tuple[Kind, ...] = ("isotropic", "clustered")


def written(dataset: Dataset, folder: Path) -> NDArray[np.float32]:
    path = folder / "vectors.npy"
    dataset.write(path)
    vectors: NDArray[np.float32] = np.load(path)
    return vectors


def naive(
    dataset: Dataset, vectors: NDArray[np.float32], query: NDArray[np.float32]
) -> list[tuple[float, int, int]]:
    """Best row of every listing, score descending, then listing: plain loops over all rows."""
    best: dict[int, tuple[float, bytes, int]] = {}
    for row, own in enumerate(dataset.owners.tolist()):
        total = 0.0
        for a, b in zip(query.tolist(), vectors[row].tolist(), strict=True):
            total += a * b
        mine = (-float(np.float32(total)), dataset.image_id(row).bytes, row)
        if own not in best or mine < best[own]:
            best[own] = mine
    hits = [(score, own, row) for own, (score, _, row) in best.items()]
    return [(-score, own, row) for score, own, row in sorted(hits)]


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_of_unit_length_and_the_same_every_time(kind: Kind, tmp_path: Path) -> None:
    dataset = Dataset(500, 32, kind)
    vectors = written(dataset, tmp_path)
    assert vectors.shape == (500, 32)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, atol=1e-6)
    assert np.array_equal(vectors, written(Dataset(500, 32, kind), tmp_path / "again"))
    assert not np.array_equal(vectors, written(Dataset(500, 32, kind, seed=2), tmp_path / "other"))


def test_photos_of_one_listing_are_alike_only_where_clustered(tmp_path: Path) -> None:
    def likeness(kind: Kind) -> tuple[float, float]:
        dataset = Dataset(2000, 64, kind)
        vectors = written(dataset, tmp_path / kind)
        products = vectors @ vectors.T
        same = dataset.owners[:, None] == dataset.owners[None, :]
        np.fill_diagonal(same, val=False)
        return float(products[same].mean()), float(products[~same].mean())

    same, other = likeness("clustered")
    assert same > 0.7
    assert other < 0.2
    same, other = likeness("isotropic")
    assert abs(same) < 0.05
    assert abs(other) < 0.05


def test_listings_cover_every_row_once() -> None:
    dataset = Dataset(1001, 8, "isotropic")
    sizes = np.diff(dataset.starts)
    assert sizes.sum() == 1001
    assert sizes.min() >= 1
    assert sizes.max() <= 7
    assert 3.5 < sizes[:-1].mean() < 4.5
    assert len(dataset.owners) == 1001
    assert dataset.owners[-1] == dataset.listings - 1


def test_image_ids_are_valid_and_differ() -> None:
    dataset = Dataset(5000, 8, "isotropic")
    ids = {dataset.image_id(row) for row in range(5000)}
    assert len(ids) == 5000
    assert {each.version for each in ids} == {5}


def test_one_listing_of_a_hundred_is_rare() -> None:
    dataset = Dataset(8000, 8, "isotropic")
    rare = sum(dataset.rare(number) for number in range(dataset.listings))
    assert abs(rare - dataset.listings / 100) <= 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 10, 5000])
def test_the_truth_equals_a_naive_loop(kind: Kind, k: int, tmp_path: Path) -> None:
    dataset = Dataset(600, 12, kind)
    vectors = written(dataset, tmp_path)
    vectors[40:44] = vectors[7]
    for query in dataset.queries(4, vectors):
        found = truth(dataset, vectors, query, k)
        wanted = naive(dataset, vectors, query)[:k]
        got = zip(found.scores.tolist(), found.listings.tolist(), found.rows.tolist(), strict=True)
        assert list(got) == wanted
        assert len(found.images) == min(k, 600)
        scores = vectors.astype(np.float64) @ query.astype(np.float64)
        assert scores[found.images].min() >= np.sort(scores)[-min(k, 600)] - 1e-7


def test_queries_are_in_turn_new_and_near_a_row(tmp_path: Path) -> None:
    dataset = Dataset(3000, 256, "isotropic")
    vectors = written(dataset, tmp_path)
    nearest = (dataset.queries(6, vectors) @ vectors.T).max(axis=1)
    assert (nearest[1::2] > 0.8).all()
    assert (nearest[0::2] < 0.5).all()


def test_recall_is_the_share_that_was_found() -> None:
    assert recall(np.array([1, 2, 3, 9]), np.array([1, 2, 3, 4])) == 0.75
    assert recall(np.array([], np.int64), np.array([1])) == 0.0
    assert recall(np.array([5]), np.array([], np.int64)) == 1.0
