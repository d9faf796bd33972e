"""Exact scoring against naive loops."""

import numpy as np
import pytest

from analytics import kernels
from tests.analytics.scanning.test_scan import collection, cut
from tests.naive import dot, unit

KINDS = ["ragged", "duplicates", "identical", "near", "one image", "one listing"]


def test_no_blocks_give_no_images() -> None:
    query = unit(np.random.default_rng(0), 2, 8)
    assert kernels.best_images([], query, 3).rows.shape == (2, 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cuts", [1, 2, 5])
@pytest.mark.parametrize("k", [1, 6, 1000])
def test_best_images_equal_a_naive_loop(kind: str, cuts: int, k: int) -> None:
    vectors, sizes = collection(kind)
    made = cut(vectors, sizes, cuts)
    ids = [image.tobytes() for block in made for image in block.images]
    queries = vectors[:9]
    found = kernels.best_images(made, queries, k)
    for number, query in enumerate(queries):
        scored = [(-dot(query, vector), ids[row], row) for row, vector in enumerate(vectors)]
        wanted = sorted(scored)[:k]
        assert found.rows[number].tolist() == [row for _, _, row in wanted]
        assert found.scores[number].tolist() == [-score for score, _, _ in wanted]


def test_minus_zero_becomes_zero() -> None:
    left = np.array([[1.0, 0.0]], np.float32)
    right = np.array([[-0.0, 1.0]], np.float32)
    assert not np.signbit(kernels.exact(left, right))[0]
