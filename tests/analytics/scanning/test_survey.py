"""Two passes against naive loops: the limits that scans are sure of, and what is noted by them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics.scanning import firstpass, scan, survey, sweep
from analytics.scanning.blocks import Block
from analytics.scanning.codes import encode_shortly
from analytics.scanning.scan import Ask
from tests.analytics.scanning.test_scan import DIM, NONE, check, cut, naive
from tests.naive import dot, low_rank, unit

SIZES = [1, 2, 7, 1, 3] * 250


class Sure:
    """What two-pass scans of a test were sure of in the end, by ask, wave after wave."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of: dict[int, tuple[Ask, list[float]]] = {}
        whole = scan._Wave.settled

        def kept(wave: Any, *given: Any, **named: Any) -> Any:
            noted, limits = whole(wave, *given, **named)
            for ask, limit in zip(wave.work.asks, limits.tolist(), strict=True):
                self.of.setdefault(id(ask), (ask, []))[1].append(limit)
            return noted, limits

        monkeypatch.setattr(scan._Wave, "settled", kept)


@pytest.fixture(params=[2**12, 2**27])
def sure(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Sure:
    """Small tasks, a few of them or all at a time, so that a few thousand rows are many waves."""
    monkeypatch.setattr(scan, "_SURVEY_ROWS", 300)
    monkeypatch.setattr(scan, "_HELD_BYTES", request.param)
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


def crowd(vectors: NDArray[np.float32], count: int, k: int, **given: Any) -> list[Ask]:
    """So many queries at once: few of them bound rows, many of them groups of rows."""
    return [Ask(vectors[at : at + 1], NONE, k, **given) for at in range(0, 7 * count, 7)]


FEW_AND_MANY = pytest.mark.parametrize("count", [1, sweep.MANY + 2])


@pytest.mark.parametrize("cuts", [1, 5])
@FEW_AND_MANY
def test_limits_are_sure_and_known(sure: Sure, cuts: int, count: int) -> None:
    vectors = rows()
    blocks = cut(vectors, SIZES, cuts)
    asks = [
        Ask(unit(np.random.default_rng(2), 2, DIM), NONE, 12),
        *crowd(vectors, count, 5),
    ]
    check(blocks, asks)
    for ask in asks:
        exactly(blocks, *sure.of[id(ask)])


@pytest.mark.parametrize("share", [0.0, 0.02, 0.06, 0.2, 0.5, 1.0])
@FEW_AND_MANY
def test_rows_that_do_not_count_make_no_limit(sure: Sure, share: float, count: int) -> None:
    vectors = rows()
    blocks = cut(vectors, SIZES, 3)
    made = masks(blocks, share)
    given: list[dict[str, Any]] = [{name: made[name]} for name in made]
    for some in (*given, made):
        masked = crowd(vectors, count, 4, **some)
        for asks in ([*masked, Ask(vectors[:1], NONE, 4)], masked):
            sure.of.clear()
            check(blocks, asks)
            for ask, limits in sure.of.values():
                hits = naive(blocks, ask)
                last = hits[-1][0] if len(hits) == ask.k else -np.inf
                assert all(limit <= last for limit in limits)


@FEW_AND_MANY
def test_one_listing_has_the_best_rows(sure: Sure, count: int) -> None:
    """Its rows alone say nothing of the other hits: more of them are looked at."""
    vectors = rows()
    near = vectors[0] + np.random.default_rng(7).normal(size=(900, DIM)) * 1e-3
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    blocks = cut(np.r_[near.astype(np.float32), vectors], [900, *SIZES], 2)
    asks = crowd(vectors, count, 6)
    check(blocks, asks)
    for ask in asks:
        exactly(blocks, *sure.of[id(ask)])


@pytest.mark.parametrize("k", [1, 40, 1250, 5000])
@FEW_AND_MANY
def test_any_number_of_hits(sure: Sure, k: int, count: int) -> None:
    vectors = rows()
    check(cut(vectors, SIZES, 2), crowd(vectors[9:], count, k))


@FEW_AND_MANY
def test_blocks_smaller_than_a_group_of_rows(sure: Sure, count: int) -> None:
    vectors = rows()
    check(cut(vectors, SIZES, 400), crowd(vectors[9:], count, 3))
    check(cut(vectors[:12], [1, 5, 6], 3), [Ask(vectors[:1], NONE, 1)] * count)


def test_each_query_of_a_scan_goes_its_way(sure: Sure) -> None:
    """Plain ones, one that hardly a row counts for, and one with negatives share a scan."""
    vectors = rows()
    blocks = cut(vectors, SIZES, 3)
    thin = masks(blocks, 0.02)["rows"]
    asks = [
        Ask(vectors[3:4], vectors[9:10], 5),
        *crowd(vectors, sweep.MANY, 5),
        Ask(vectors[5:6], NONE, 7, rows=thin),
        Ask(vectors[6:8], NONE, 4, aggregate="coverage"),
        Ask(vectors[2:3], NONE, 5, rows=masks(blocks, 0.7)["rows"]),
    ]
    check(blocks, asks)
    with ThreadPoolExecutor(2) as pool:
        found = scan.best_listings(blocks, asks, each=pool.map)
    assert [each.scanned for each in found[1:5]] == [len(vectors)] * sweep.MANY


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
    uppers = np.empty((2, end - shift + 7), np.float32)
    short = encode_shortly(queries)
    assert (
        survey.first_pass(block.codes, block.offsets, first, last, short, numbers, uppers, 7)
        == end - shift
    )
    for at, own in enumerate((queries[:1], queries[1:])):
        exact = np.array(
            [max(dot(each, row) for each in own) for row in vectors[shift:end]], np.float64
        )
        assert (exact <= uppers[at, 7:]).all()
        assert (uppers[at, 7:] - exact < 0.3).all()


def test_threads_find_the_same_listings(sure: Sure) -> None:
    vectors = rows()
    blocks = cut(vectors, SIZES, 4)
    asks = [Ask(vectors[at : at + 1], NONE, 9) for at in (0, 5, 11)]
    alone = scan.best_listings(blocks, asks)
    with ThreadPoolExecutor(3) as pool:
        for _ in range(5):
            again = scan.best_listings(blocks, asks, each=pool.map)
            assert [each.ids for each in again] == [each.ids for each in alone]


@FEW_AND_MANY
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_listing_longer_than_a_run_and_rows_of_many_groups(count: int, share: float) -> None:
    """Runs cut through groups, and one listing is many runs long."""
    vectors = unit(np.random.default_rng(6), 9700, DIM)
    blocks = cut(vectors, [3, 9000, 2, 5] + [3] * 230, 2)
    check(blocks, crowd(vectors, count, 30, **masks(blocks, share)))


@FEW_AND_MANY
def test_room_for_notes_is_made_where_it_is_needed(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """All rows are alike: each is noted, far more than there is room for at first."""
    vectors = rows()
    near = vectors[0] + np.random.default_rng(7).normal(size=(3000, DIM)) * 1e-4
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    blocks = cut(near.astype(np.float32), [1] * 3000, 2)
    needs: list[int] = []
    whole = survey.second_pass

    def counted(*given: Any) -> int:
        needs.append(whole(*given))
        return needs[-1]

    monkeypatch.setattr(survey, "second_pass", counted)
    check(blocks, crowd(vectors[:40], count, 5))
    assert any(needs)


def test_queries_of_many_waves_keep_what_was_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits only rise from wave to wave, and what a wave must note becomes less."""
    monkeypatch.setattr(scan, "_SURVEY_ROWS", 64)
    monkeypatch.setattr(scan, "_HELD_BYTES", 1)
    sure = Sure(monkeypatch)
    vectors = rows()
    asks = crowd(vectors, sweep.MANY, 9)
    check(cut(vectors, SIZES, 2), asks)
    for ask in asks:
        _, limits = sure.of[id(ask)]
        assert len(limits) > 20
        assert limits == sorted(limits)


@pytest.mark.parametrize(
    ("count", "way"),
    [
        (1, firstpass.UPPER),
        (1, firstpass.FINE),
        (sweep.MANY, firstpass.UPPER),
        (sweep.MANY, firstpass.SHORT),
        (sweep.MANY, firstpass.FINE),
    ],
)
def test_any_first_pass_finds_the_same_listings(
    sure: Sure, monkeypatch: pytest.MonkeyPatch, count: int, way: firstpass.FirstPass
) -> None:
    monkeypatch.setattr(firstpass, "chosen", lambda *_: [way])
    vectors = rows()
    blocks = cut(vectors, SIZES, 3)
    asks = crowd(vectors, count, 12, **masks(blocks, 0.5))
    asks.append(Ask(vectors[3:5], NONE, 12))
    check(blocks, asks)
    for ask, limits in sure.of.values():
        exactly(blocks, ask, limits)


@pytest.mark.parametrize("count", [1, sweep.MANY])
@pytest.mark.parametrize("every", [True, False])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_by_components_the_same_listings_are_found(
    sure: Sure, monkeypatch: pytest.MonkeyPatch, count: int, every: bool, share: float
) -> None:
    """Also where the largest block alone has them."""
    monkeypatch.setattr(firstpass, "chosen", lambda *_: [firstpass.COMPONENT])
    vectors = low_rank(np.random.default_rng(6), sum(SIZES), 96)
    sizes = [30, *SIZES[:-12]]
    vectors = vectors[: sum(sizes)]
    least = 1 if every else max(block.rows for block in cut(vectors, sizes, 3))
    blocks = cut(vectors, sizes, 3, least=least)
    assert sum(block.components is not None for block in blocks) == (3 if every else 1)
    none = vectors[:0]
    asks = [
        Ask(vectors[at : at + 1], none, 12, **masks(blocks, share)) for at in range(0, 9 * count, 9)
    ]
    asks.append(Ask(vectors[3:5], none, 12))
    check(blocks, asks)
    for ask, limits in sure.of.values():
        exactly(blocks, ask, limits)


@pytest.mark.parametrize("count", [1, sweep.MANY])
@pytest.mark.parametrize("share", [0.6, 1.0])
@pytest.mark.parametrize("most", [0.001, 0.08])
def test_where_components_leave_too_much_another_pass_is_made(
    sure: Sure, monkeypatch: pytest.MonkeyPatch, count: int, share: float, most: float
) -> None:
    """In the first wave or a later one. What they have told by then is kept."""
    usual = firstpass.UPPER if count < sweep.MANY else firstpass.SHORT
    # So few bounds are looked at first that the limit they tell is wrong.
    few = firstpass.COMPONENT._replace(likely=1)
    monkeypatch.setattr(firstpass, "chosen", lambda *_: [few, usual])
    monkeypatch.setattr(firstpass, "_FEW_REACH", most)
    monkeypatch.setattr(firstpass, "_MANY_REACH", most)
    rng = np.random.default_rng(6)
    vectors = low_rank(rng, sum(SIZES), 96, noise=0.3)
    blocks = cut(vectors, SIZES, 2, least=1)
    assert all(block.components is not None for block in blocks)
    calls: list[tuple[bool, Any, Any, bool]] = []
    whole = scan._Wave.settled

    def kept(wave: Any, sure: Any, *given: Any, **named: Any) -> Any:
        noted, limits = whole(wave, sure, *given, **named)
        calls.append((wave.way is usual, sure.limits.copy(), limits.copy(), noted is None))
        return noted, limits

    monkeypatch.setattr(scan._Wave, "settled", kept)
    none = vectors[:0]
    asks = [Ask(vectors[at : at + 1], none, 5, **masks(blocks, share)) for at in range(count)]
    check(blocks, asks)
    for ask, limits in sure.of.values():
        exactly(blocks, ask, limits)
    assert not calls[0][0]
    if most < 0.01 and share == 1:
        assert calls[0][3]
    failed = [at for at, call in enumerate(calls) if call[3]]
    assert len(failed) <= 1
    for at in failed:
        assert (calls[at + 1][1] == calls[at][2]).all()
        assert (calls[at][2] > calls[at][1]).any()
        assert all(call[0] for call in calls[at + 1 :])
