"""Two passes for few queries against naive loops: limits known before anything is scored."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics import scan, survey
from analytics.blocks import Block
from analytics.codes import encode_shortly
from analytics.scan import Ask
from tests.analytics.test_scan import DIM, NONE, check, cut, naive
from tests.naive import dot, unit

SIZES = [1, 2, 7, 1, 3] * 250


class Sure:
    """What the scans of a test were sure of before they scored, by ask, wave after wave."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of: dict[int, list[float]] = {}
        whole = scan._sure

        def kept(work: Any, at: int, *given: Any) -> float:
            self.of.setdefault(at, []).append(whole(work, at, *given))
            return self.of[at][-1]

        monkeypatch.setattr(scan, "_sure", kept)


@pytest.fixture
def sure(monkeypatch: pytest.MonkeyPatch) -> Sure:
    """Small tasks, a few at a time, so that a few thousand rows are many waves."""
    monkeypatch.setattr(scan, "_SURVEY_ROWS", 300)
    monkeypatch.setattr(scan, "_SURVEYED", 4)
    return Sure(monkeypatch)


def rows() -> NDArray[np.float32]:
    return unit(np.random.default_rng(6), sum(SIZES), DIM)


def masks(blocks: Sequence[Block], share: float) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {
        "rows": [(rng.random(block.rows) < share).astype(np.uint8) for block in blocks],
        "listings": [
            (rng.random(len(block.listings)) < share).astype(np.uint8) for block in blocks
        ],
    }


def exactly(blocks: Sequence[Block], ask: Ask, limits: Sequence[float]) -> None:
    """No limit is above what the k-th best listing really has, and one at least is known."""
    last = naive(blocks, ask)[-1][0]
    assert any(limit > -np.inf for limit in limits)
    assert all(limit <= last for limit in limits)


@pytest.mark.parametrize("cuts", [1, 5])
def test_limits_are_known_before_a_row_is_scored(sure: Sure, cuts: int) -> None:
    vectors = rows()
    blocks = cut(vectors, SIZES, cuts)
    asks = [
        Ask(vectors[3:4], NONE, 5),
        Ask(unit(np.random.default_rng(2), 2, DIM), NONE, 12),
    ]
    check(blocks, asks)
    for at, ask in enumerate(asks):
        exactly(blocks, ask, sure.of[at])


@pytest.mark.parametrize("share", [0.0, 0.02, 0.06, 0.5, 1.0])
def test_rows_that_do_not_count_make_no_limit(sure: Sure, share: float) -> None:
    vectors = rows()
    blocks = cut(vectors, SIZES, 3)
    made = masks(blocks, share)
    given: list[dict[str, Any]] = [{name: made[name]} for name in made]
    for some in (*given, made):
        masked = Ask(vectors[:1], NONE, 4, **some)
        for asks in ([masked, Ask(vectors[:1], NONE, 4)], [masked]):
            sure.of.clear()
            check(blocks, asks)
            for at, ask in enumerate(asks):
                hits = naive(blocks, ask)
                last = hits[-1][0] if len(hits) == ask.k else -np.inf
                assert all(limit <= last for limit in sure.of[at])


def test_one_listing_has_the_best_rows(sure: Sure) -> None:
    """Its rows alone say nothing of the other hits: more of them are looked at."""
    vectors = rows()
    near = vectors[0] + np.random.default_rng(7).normal(size=(900, DIM)) * 1e-3
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    blocks = cut(np.r_[near.astype(np.float32), vectors], [900, *SIZES], 2)
    ask = Ask(vectors[:1], NONE, 6)
    check(blocks, [ask])
    exactly(blocks, ask, sure.of[0])


@pytest.mark.parametrize("k", [1, 40, 1250, 5000])
def test_any_number_of_hits(sure: Sure, k: int) -> None:
    vectors = rows()
    check(cut(vectors, SIZES, 2), [Ask(vectors[9:10], NONE, k)])


def test_blocks_smaller_than_a_group_of_rows(sure: Sure) -> None:
    vectors = rows()
    check(cut(vectors, SIZES, 400), [Ask(vectors[9:10], NONE, 3)])
    check(cut(vectors[:12], [1, 5, 6], 3), [Ask(vectors[:1], NONE, 1)])


def test_identical_rows(sure: Sure) -> None:
    vectors = np.repeat(rows()[:1], sum(SIZES), axis=0)
    check(cut(vectors, SIZES, 2), [Ask(vectors[:1], NONE, 7)])


def test_bounds_hold_for_every_row() -> None:
    vectors = rows()
    (block,) = cut(vectors, SIZES, 1)
    queries = unit(np.random.default_rng(5), 3, DIM)
    asks = [Ask(queries[:1], NONE, 1), Ask(queries[1:], NONE, 1)]
    numbers = np.array([asks[0].plan(0), asks[1].plan(1)], np.int64)
    first, last = 40, 900
    shift, end = block.offsets[first], block.offsets[last]
    uppers = np.empty((2, end - shift), np.float32)
    short = encode_shortly(queries)
    assert (
        survey.first_pass(block.codes, block.offsets, first, last, short, numbers, uppers)
        == end - shift
    )
    for at, own in enumerate((queries[:1], queries[1:])):
        exact = np.array(
            [max(dot(each, row) for each in own) for row in vectors[shift:end]], np.float64
        )
        assert (exact <= uppers[at]).all()
        assert (uppers[at] - exact < 0.3).all()


def test_threads_find_the_same_listings(sure: Sure) -> None:
    vectors = rows()
    blocks = cut(vectors, SIZES, 4)
    asks = [Ask(vectors[at : at + 1], NONE, 9) for at in (0, 5, 11)]
    alone = scan.best_listings(blocks, asks)
    with ThreadPoolExecutor(3) as pool:
        for _ in range(5):
            again = scan.best_listings(blocks, asks, each=pool.map)
            assert [each.ids for each in again] == [each.ids for each in alone]
