"""Exact scoring against naive loops."""

import uuid

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from analytics import kernels
from analytics.kernels import Block


def unit(rng: np.random.Generator, rows: int, dim: int) -> NDArray[np.float32]:
    vectors = rng.normal(size=(rows, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def blocks(
    vectors: NDArray[np.float32], sizes: list[int], cuts: int
) -> tuple[list[Block], list[str], list[bytes]]:
    """Listings of the given sizes, cut into about `cuts` blocks; row owners and image ids."""
    owners = [f"l{number:04d}" for number, size in enumerate(sizes) for _ in range(size)]
    images = sorted(uuid.uuid5(uuid.NAMESPACE_URL, str(row)).bytes for row in range(len(vectors)))
    # Ids ascend within a listing and are shuffled between listings, as UUIDs are.
    rng = np.random.default_rng(5)
    order = rng.permutation(len(images))
    start, ids = 0, []
    for size in sizes:
        ids += sorted(images[at] for at in order[start : start + size])
        start += size
    made, row = [], 0
    groups = np.array_split(np.arange(len(sizes)), cuts)
    for number, group in enumerate(g for g in groups if len(g)):
        own = [sizes[at] for at in group]
        rows = sum(own)
        made.append(
            Block(
                number=number,
                base=row,
                vectors=vectors[row : row + rows],
                offsets=np.r_[0, np.cumsum(own)],
                listings=pa.array([f"l{at:04d}" for at in group]),
                images=np.frombuffer(b"".join(ids[row : row + rows]), np.uint8).reshape(-1, 16),
            )
        )
        row += rows
    return made, owners, ids


def dot(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    total = 0.0
    for x, y in zip(left.tolist(), right.tolist(), strict=True):
        total += x * y
    return float(np.float32(total))


def naive_listings(
    vectors: NDArray[np.float32],
    owners: list[str],
    ids: list[bytes],
    queries: NDArray[np.float32],
    k: int,
    excluded: tuple[str, ...] = (),
) -> list[tuple[float, str, bytes]]:
    best: dict[str, tuple[float, bytes]] = {}
    for vector, owner, image in zip(vectors, owners, ids, strict=True):
        if owner in excluded:
            continue
        score = max(dot(query, vector) for query in queries)
        if owner not in best or (-score, image) < (-best[owner][0], best[owner][1]):
            best[owner] = (score, image)
    hits = [(score, owner, image) for owner, (score, image) in best.items()]
    return sorted(hits, key=lambda hit: (-hit[0], hit[1]))[:k]


def collection(kind: str) -> tuple[NDArray[np.float32], list[int]]:
    rng = np.random.default_rng(3)
    if kind == "ragged":
        sizes = [1, 7, 2, 1, 1, 30, 3, 5, 1, 1, 2, 9]
        return unit(rng, sum(sizes), 24), sizes
    if kind == "duplicates":
        base = unit(rng, 6, 24)
        return base[rng.integers(0, 6, 40)], [2] * 20
    if kind == "identical":
        return np.repeat(unit(rng, 1, 24), 33, axis=0), [3] * 11
    if kind == "near":
        base = np.repeat(unit(rng, 1, 24), 60, axis=0).astype(np.float64)
        base += rng.normal(size=base.shape) * 1e-7
        return (base / np.linalg.norm(base, axis=1, keepdims=True)).astype(np.float32), [1] * 60
    if kind == "one image":
        return unit(rng, 1, 24), [1]
    if kind == "one listing":
        return unit(rng, 50, 24), [50]
    raise AssertionError(kind)


KINDS = ["ragged", "duplicates", "identical", "near", "one image", "one listing"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cuts", [1, 2, 5])
@pytest.mark.parametrize("k", [1, 4, 1000])
@pytest.mark.parametrize("examples", [1, 3])
def test_best_listings_equal_a_naive_loop(kind: str, cuts: int, k: int, examples: int) -> None:
    vectors, sizes = collection(kind)
    made, owners, ids = blocks(vectors, sizes, cuts)
    queries = np.concatenate([vectors[:1], unit(np.random.default_rng(9), examples - 1, 24)])
    found = kernels.best_listings(made, queries, k)
    wanted = naive_listings(vectors, owners, ids, queries, k)
    assert found.ids == [hit[1] for hit in wanted]
    assert found.scores.dtype == np.float32
    assert found.scores.tolist() == [hit[0] for hit in wanted]
    assert [image.tobytes() for image in found.images] == [hit[2] for hit in wanted]


def test_excluded_listings_stay_out() -> None:
    vectors, sizes = collection("ragged")
    made, owners, ids = blocks(vectors, sizes, 3)
    found = kernels.best_listings(made, vectors[:1], 5, excluded=("l0000", "l0005", "absent"))
    wanted = naive_listings(vectors, owners, ids, vectors[:1], 5, ("l0000", "l0005"))
    assert found.ids == [hit[1] for hit in wanted]


def test_no_blocks_give_no_hits() -> None:
    query = unit(np.random.default_rng(0), 2, 8)
    assert kernels.best_listings([], query, 3).ids == []
    assert kernels.best_images([], query, 3).rows.shape == (2, 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cuts", [1, 2, 5])
@pytest.mark.parametrize("k", [1, 6, 1000])
def test_best_images_equal_a_naive_loop(kind: str, cuts: int, k: int) -> None:
    vectors, sizes = collection(kind)
    made, _, ids = blocks(vectors, sizes, cuts)
    queries = vectors[:9]
    found = kernels.best_images(made, queries, k)
    for number, query in enumerate(queries):
        scored = [(-dot(query, vector), ids[row], row) for row, vector in enumerate(vectors)]
        wanted = sorted(scored)[:k]
        assert found.rows[number].tolist() == [row for _, _, row in wanted]
        assert found.scores[number].tolist() == [-score for score, _, _ in wanted]


def test_the_rough_pass_stays_within_its_bound() -> None:
    vectors = unit(np.random.default_rng(1), 500, 700)
    rough = vectors @ vectors[0]
    true = vectors.astype(np.float64) @ vectors[0].astype(np.float64)
    assert np.abs(rough - true).max() <= kernels.error_bound(700)


def test_minus_zero_becomes_zero() -> None:
    left = np.array([[1.0, 0.0]], np.float32)
    right = np.array([[-0.0, 1.0]], np.float32)
    assert not np.signbit(kernels.exact(left, right))[0]
