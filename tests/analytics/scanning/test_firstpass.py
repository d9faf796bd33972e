"""Which first pass is taken: by what each would leave of the rows that are tried."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics.scanning import blocks, firstpass, sweep
from analytics.scanning.ask import Ask
from analytics.scanning.components import Components
from analytics.scanning.firstpass import COMPONENT, FINE, SHORT, UPPER, Asked
from tests.analytics.scanning.test_scan import cut
from tests.naive import low_rank, unit

ROWS = 2000


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests have few rows."""
    monkeypatch.setattr(blocks, "_TRIED", 4)


def chosen(
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    *,
    k: int = 1,
    share: float = 1.0,
    least: int | None = None,
) -> firstpass.FirstPass:
    """The first of them."""
    made = cut(vectors, [2] * (len(vectors) // 2), 3, least=least)
    none = np.empty((0, vectors.shape[1]), np.float32)
    numbers = [Ask(each[None], none, k).plan(at) for at, each in enumerate(queries)]
    count = len(queries)
    asked = [Asked.of(block, queries, np.array(numbers, np.int64)) for block in made]
    trials = [block.trial for block in made]
    return firstpass.chosen(trials, len(vectors), asked, np.full(count, k), np.full(count, share))[
        0
    ]


@pytest.mark.parametrize("count", [1, sweep.MANY])
def test_what_a_few_directions_hold_is_told_apart_by_them(count: int) -> None:
    """As features of a network are, and noise is not."""
    rng = np.random.default_rng(8)
    vectors = low_rank(rng, 2 * ROWS, 512)
    queries = vectors[:count]
    usual = UPPER if count < sweep.MANY else SHORT
    assert chosen(vectors, queries, least=1) is COMPONENT
    assert chosen(vectors, queries) is usual
    assert chosen(unit(rng, 2 * ROWS, 512), queries, least=1) is not COMPONENT
    # They hold more than half of these, and too little to tell them apart.
    noisy = low_rank(rng, 2 * ROWS, 512, rank=40, noise=0.8)
    assert Components.of(noisy, least=1) is not None
    assert chosen(noisy, -noisy[:count], least=1) is not COMPONENT
    # One block has them, the others are too small.
    assert chosen(vectors, queries, least=2 * (len(vectors) // 6) + 2) is COMPONENT
    # By the best of so many rows no limit would be known.
    assert chosen(vectors, queries, k=2, least=1) is not COMPONENT


@pytest.mark.parametrize(("count", "coarse"), [(1, UPPER), (sweep.MANY, SHORT)])
def test_few_numbers_are_told_apart_by_coarse_codes_and_many_are_not(
    count: int, coarse: firstpass.FirstPass
) -> None:
    """Scores of 4,000 numbers in any direction are smaller than what five bits lose."""
    rng = np.random.default_rng(0)
    for dim, way in ((64, coarse), (4000, FINE)):
        assert chosen(unit(rng, ROWS, dim), unit(rng, count, dim)) is way


@pytest.mark.parametrize(("count", "coarse"), [(1, UPPER), (sweep.MANY, SHORT)])
def test_what_is_like_a_query_stands_out_whatever_there_is_else(
    count: int, coarse: firstpass.FirstPass
) -> None:
    """As in photos: the best are much nearer than most."""
    rng = np.random.default_rng(1)
    vectors, queries = unit(rng, ROWS, 4000), unit(rng, count, 4000)
    vectors[::200] = queries[0]
    assert chosen(vectors, np.repeat(queries[:1], count, axis=0)) is coarse


def test_identical_rows_are_all_left_by_any() -> None:
    vectors = np.repeat(unit(np.random.default_rng(2), 1, 64), ROWS, axis=0)
    assert chosen(vectors, vectors[:1]) is FINE


def test_more_hits_or_fewer_rows_that_count_leave_more() -> None:
    rng = np.random.default_rng(3)
    vectors, query = unit(rng, ROWS, 512), unit(rng, 1, 512)
    assert chosen(vectors, query) is UPPER
    assert chosen(vectors, query, k=800) is FINE
    assert chosen(vectors, query, k=500, share=0.6) is FINE


def test_where_few_rows_count_only_those_are_read() -> None:
    """By few queries: a group of rows is read as a whole."""
    rng = np.random.default_rng(5)
    vectors, query = unit(rng, ROWS, 4000), unit(rng, 1, 4000)
    assert chosen(vectors, query, share=0.6) is FINE
    for share in (0.4, 0.0):
        assert chosen(vectors, query, share=share) is UPPER


@pytest.mark.parametrize("rows", [2, 200])
def test_few_rows_say_nothing(rows: int) -> None:
    rng = np.random.default_rng(4)
    assert chosen(unit(rng, rows, 4000), unit(rng, 1, 4000)) is UPPER
    assert chosen(unit(rng, rows, 4000), unit(rng, sweep.MANY, 4000)) is SHORT
