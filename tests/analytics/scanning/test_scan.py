"""The scan against naive loops: every aggregate, mask and tie."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from analytics.scanning import scan
from analytics.scanning.blocks import Block
from analytics.scanning.codes import encode
from analytics.scanning.components import Components
from analytics.scanning.scan import Ask
from tests.naive import dot, unit

DIM = 24
NONE = np.empty((0, DIM), np.float32)


def cut(
    vectors: NDArray[np.float32], sizes: Sequence[int], cuts: int, *, least: int | None = None
) -> list[Block]:
    """Listings of the given sizes in about `cuts` blocks; image ids ascend within a listing.

    Blocks of at least `least` rows have components; None: no block has.
    """
    rng = np.random.default_rng(5)
    every = [
        uuid.uuid5(uuid.NAMESPACE_URL, str(row)).bytes for row in rng.permutation(len(vectors))
    ]
    ids: list[bytes] = []
    for size in sizes:
        ids += sorted(every[len(ids) : len(ids) + size])
    made, row = [], 0
    for number, group in enumerate(np.array_split(np.arange(len(sizes)), cuts)):
        own = [sizes[at] for at in group]
        if not own:
            continue
        end = row + sum(own)
        made.append(
            Block(
                number=number,
                base=row,
                vectors=vectors[row:end],
                codes=encode(vectors[row:end]),
                offsets=np.r_[0, np.cumsum(own)].astype(np.int64),
                listings=pa.array([f"l{at:04d}" for at in group]),
                images=np.frombuffer(b"".join(ids[row:end]), np.uint8).reshape(-1, 16),
                components=None if least is None else Components.of(vectors[row:end], least=least),
            )
        )
        row = end
    return made


def naive(blocks: Sequence[Block], ask: Ask) -> list[tuple[float, str, bytes]]:
    """The k best listings by plain loops."""
    hits = []
    for number, block in enumerate(blocks):
        rows_mask, listing_mask = ask.mask(number), ask.eligible(number)
        for listing in range(len(block.listings)):
            if listing_mask.size and not listing_mask[listing]:
                continue
            rows = [
                row
                for row in range(block.offsets[listing], block.offsets[listing + 1])
                if not rows_mask.size or rows_mask[row]
            ]
            if rows:
                score, row = value(block, rows, ask)
                hits.append((score, block.listings[listing].as_py(), block.images[row].tobytes()))
    return sorted(hits, key=lambda hit: (-hit[0], hit[1]))[: ask.k]


def value(block: Block, rows: Sequence[int], ask: Ask) -> tuple[float, int]:
    """Score of one listing and the row that won."""
    against = {
        row: np.float32(max((dot(each, block.vectors[row]) for each in ask.negatives), default=0.0))
        for row in rows
    }
    each_positive = [
        {row: np.float32(dot(example, block.vectors[row])) - against[row] for row in rows}
        for example in ask.positives
    ]
    if ask.aggregate == "coverage":
        best = [max(scores.values()) for scores in each_positive]
        worst = best.index(min(best))
        row = next(row for row in rows if each_positive[worst][row] == best[worst])
        return float(best[worst]), row
    scores = {row: max(each[row] for each in each_positive) for row in rows}
    row = next(row for row in rows if scores[row] == max(scores.values()))
    if ask.aggregate == "max":
        return float(scores[row]), row
    top = sorted((float(score) for score in scores.values()), reverse=True)[: ask.best]
    return float(np.float32(sum(top) / len(top))), row


def check(blocks: Sequence[Block], asks: Sequence[Ask]) -> None:
    with ThreadPoolExecutor(2) as pool:
        found = scan.best_listings(blocks, asks, each=pool.map)
    for ask, listings in zip(asks, found, strict=True):
        wanted = naive(blocks, ask)
        assert listings.ids == [hit[1] for hit in wanted]
        assert listings.scores.dtype == np.float32
        assert listings.scores.tolist() == [hit[0] for hit in wanted]
        assert [image.tobytes() for image in listings.images] == [hit[2] for hit in wanted]


def collection(kind: str) -> tuple[NDArray[np.float32], list[int]]:
    """Vectors and sizes of listings: degenerate ones by name."""
    rng = np.random.default_rng(3)
    ragged = [1, 7, 2, 1, 1, 30, 3, 5, 1, 1, 2, 9]
    near = np.repeat(unit(rng, 1, DIM), 60, axis=0).astype(np.float64)
    near += rng.normal(size=near.shape) * 1e-7
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    made: dict[str, tuple[NDArray[np.float32], list[int]]] = {
        "ragged": (unit(rng, sum(ragged), DIM), ragged),
        "duplicates": (unit(rng, 6, DIM)[rng.integers(0, 6, 40)], [2] * 20),
        "identical": (np.repeat(unit(rng, 1, DIM), 33, axis=0), [3] * 11),
        "near": (near.astype(np.float32), [2] * 30),
        "one image": (unit(rng, 1, DIM), [1]),
        "one listing": (unit(rng, 700, DIM), [700]),
        "many": (unit(rng, 3000, DIM), [1, 2] * 1000),
    }
    return made[kind]


KINDS = ["ragged", "duplicates", "identical", "near", "one image", "one listing", "many"]
FORMS: dict[str, dict[str, Any]] = {
    "max": {"aggregate": "max"},
    "mean": {"aggregate": "mean", "best": 3},
    "coverage": {"aggregate": "coverage"},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cuts", [1, 3])
@pytest.mark.parametrize("form", FORMS)
def test_listings_equal_naive_loops(kind: str, cuts: int, form: str) -> None:
    """Several queries in one scan, with and without negatives, k beyond the collection too."""
    vectors, sizes = collection(kind)
    blocks = cut(vectors, sizes, cuts)
    rng = np.random.default_rng(9)
    several = np.concatenate([vectors[:1], unit(rng, 4, DIM)])
    asks = [
        Ask(vectors[:1], NONE, 1, **FORMS[form]),
        Ask(several, NONE, 4, **FORMS[form]),
        Ask(unit(rng, 2, DIM), vectors[:1], 5, **FORMS[form]),
        Ask(vectors[:1], unit(rng, 3, DIM), 10_000, **FORMS[form]),
    ]
    check(blocks, asks)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_masks_apply_before_ranking(form: str, share: float) -> None:
    vectors, sizes = collection("many")
    blocks = cut(vectors, sizes, 3)
    rng = np.random.default_rng(1)
    rows = [(rng.random(block.rows) < share).astype(np.uint8) for block in blocks]
    listings = [(rng.random(len(block.listings)) < share).astype(np.uint8) for block in blocks]
    two = vectors[:2]
    masked = [
        Ask(two, NONE, 7, rows=rows, **FORMS[form]),
        Ask(two, NONE, 7, listings=listings, **FORMS[form]),
        Ask(two, vectors[5:6], 7, rows=rows, listings=listings, **FORMS[form]),
        Ask(two, NONE, 7, rows=[rows[0], None, rows[2]], **FORMS[form]),
    ]
    check(blocks, masked[:3])
    check(blocks, [*masked, Ask(two, NONE, 7, **FORMS[form])])


def test_masked_rows_are_not_read() -> None:
    vectors, sizes = collection("many")
    blocks = cut(vectors, sizes, 1)
    rows = np.zeros(len(vectors), np.uint8)
    rows[100:130] = 1
    (found,) = scan.best_listings(blocks, [Ask(vectors[:1], NONE, 5, rows=[rows])])
    assert found.scanned == 30
    assert found.rescored <= 30


def test_few_rows_are_read_as_float32() -> None:
    """The bound must earn its keep: of 3,000 unlike rows few can be among the best."""
    vectors, sizes = collection("many")
    (found,) = scan.best_listings(cut(vectors, sizes, 2), [Ask(vectors[:1], NONE, 10)])
    assert found.scanned == 3000
    assert 10 <= found.rescored < 300


def test_a_listing_of_ten_thousand_images() -> None:
    rng = np.random.default_rng(4)
    vectors = unit(rng, 10_020, 8)
    blocks = cut(vectors, [10, 10_000, 10], 1)
    narrow = np.empty((0, 8), np.float32)
    check(
        blocks,
        [
            Ask(vectors[5000:5001], narrow, 2),
            Ask(vectors[:2], vectors[9:10], 3, aggregate="mean", best=100),
            Ask(vectors[20:23], narrow, 3, aggregate="coverage"),
        ],
    )


def test_nothing_to_scan() -> None:
    query = unit(np.random.default_rng(0), 1, DIM)
    assert scan.best_listings([], [Ask(query, NONE, 3)])[0].ids == []
    assert scan.best_listings([], []) == []


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_collection_equals_naive_loops(data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=12))
    rows = sum(sizes)
    distinct = unit(rng, data.draw(st.integers(1, rows)), DIM)
    vectors = distinct[rng.integers(0, len(distinct), rows)]
    blocks = cut(vectors, sizes, data.draw(st.integers(1, 3)))
    asks = []
    for _ in range(data.draw(st.integers(1, 4))):
        positives = np.concatenate([unit(rng, data.draw(st.integers(0, 3)), DIM), vectors[:1]])
        asks.append(
            Ask(
                positives,
                unit(rng, data.draw(st.integers(0, 2)), DIM),
                data.draw(st.integers(1, 15)),
                aggregate=data.draw(st.sampled_from(sorted(FORMS))),
                best=data.draw(st.integers(1, 4)),
                rows=[
                    (rng.random(block.rows) < 0.6).astype(np.uint8) if rng.random() < 0.5 else None
                    for block in blocks
                ],
            )
        )
    check(blocks, asks)
