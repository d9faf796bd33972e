"""Queries that arrive while a scan runs share the next one: passes are counted, answers checked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics.scanning import batch, scan, survey, sweep, tops
from analytics.scanning.batch import Batch
from analytics.scanning.blocks import Block
from analytics.scanning.scan import Ask, Listings
from tests.analytics.scanning.test_scan import DIM, NONE, cut, naive
from tests.naive import unit
from tests.waiting import until

SIZES = [3, 1, 7, 2, 5, 1, 1, 9, 4, 2]
PATIENCE_S = 60.0
"""The compiler may be at work first."""


class Passes:
    """Counts how often rows of each block were read, and which asks each scan was for.

    While `gate` is not set a scan stands still before it reads its first row.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        self.groups: list[int] = []
        self.rows = 0
        whole = scan.best_listings

        def scanned(blocks: Sequence[Block], asks: Sequence[Ask], **given: Any) -> list[Listings]:
            self.groups.append(len(asks))
            assert self.gate.wait(PATIENCE_S)
            return whole(blocks, asks, **given)

        def counted(part: Callable[..., int]) -> Callable[..., int]:
            def read(*given: Any) -> int:
                done = part(*given)
                self.rows += done
                return done

            return read

        monkeypatch.setattr(scan, "best_listings", scanned)
        monkeypatch.setattr(sweep, "scan", counted(sweep.scan))
        monkeypatch.setattr(survey, "first_pass", counted(survey.first_pass))
        filled = tops.fill

        def fill(codes: Any, begin: int, behind: int, *given: Any) -> None:
            filled(codes, begin, behind, *given)
            self.rows += behind - begin

        monkeypatch.setattr(tops, "fill", fill)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Passes:
    return Passes(monkeypatch)


@pytest.fixture
def scans(passes: Passes) -> Iterator[Batch]:
    # One thread: `Passes.rows` is then added to by one alone.
    opened = Batch(1)
    yield opened
    passes.gate.set()
    opened.close()


@pytest.fixture
def blocks() -> list[Block]:
    return cut(unit(np.random.default_rng(3), sum(SIZES), DIM), SIZES, 3)


def asks(count: int) -> list[Ask]:
    """Queries that differ in all that they may: examples, k, aggregate, masks."""
    rng = np.random.default_rng(8)
    made = []
    for at in range(count):
        kind = ("max", "mean", "coverage")[at % 3]
        positives = unit(rng, 1 + at % 2, DIM)
        negatives = unit(rng, 1, DIM) if at % 4 == 3 else NONE
        made.append(Ask(positives, negatives, 1 + at % 5, kind, best=2))
    return made


def check(blocks: Sequence[Block], ask: Ask, found: Listings) -> None:
    wanted = naive(blocks, ask)
    assert list(zip(found.scores.tolist(), found.ids, strict=True)) == [hit[:2] for hit in wanted]
    assert [image.tobytes() for image in found.images] == [hit[2] for hit in wanted]


def send(
    pool: ThreadPoolExecutor, scans: Batch, blocks: Sequence[Block], given: Sequence[Ask]
) -> list[Future[Listings]]:
    return [pool.submit(scans.ask, blocks, ask) for ask in given]


def begin(
    pool: ThreadPoolExecutor, scans: Batch, passes: Passes, blocks: Sequence[Block], ask: Ask
) -> Future[Listings]:
    """Send one query and wait until its scan stands still."""
    (first,) = send(pool, scans, blocks, [ask])
    until(lambda: passes.groups == [1])
    return first


@pytest.mark.parametrize("count", [2, 12])
def test_queries_that_arrive_while_a_scan_runs_share_one_more(
    passes: Passes, scans: Batch, blocks: list[Block], count: int
) -> None:
    first, *later = asks(count + 1)
    with ThreadPoolExecutor(count + 1) as pool:
        running = begin(pool, scans, passes, blocks, first)
        waiting = send(pool, scans, blocks, later)
        until(lambda: len(scans._waiting) == count)
        assert not any(each.done() for each in (running, *waiting))
        passes.gate.set()
        check(blocks, first, running.result(PATIENCE_S))
        for ask, found in zip(later, waiting, strict=True):
            check(blocks, ask, found.result(PATIENCE_S))
    assert passes.groups == [1, count]
    # One pass over all rows for each way to bound them, not one a query; and that of the first.
    ways = len({ask.plain for ask in later})
    assert passes.rows == (1 + ways) * sum(SIZES)


def test_queries_that_come_one_after_another_are_scanned_alone(
    passes: Passes, scans: Batch, blocks: list[Block]
) -> None:
    passes.gate.set()
    for ask in asks(3):
        check(blocks, ask, scans.ask(blocks, ask))
    assert passes.groups == [1, 1, 1]
    assert passes.rows == 3 * sum(SIZES)


def test_a_crowd_that_was_there_before_is_waited_for(
    passes: Passes, scans: Batch, blocks: list[Block], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a scan for three a query waits for two others, and is not scanned before them."""
    passes.gate.set()
    scans._crowds.append((3, 16 * PATIENCE_S))
    monkeypatch.setattr(batch, "_SILENCE_S", PATIENCE_S)
    monkeypatch.setattr(batch, "_PATIENCE_S", PATIENCE_S)
    given = asks(3)
    with ThreadPoolExecutor(3) as pool:
        waiting = []
        for at, ask in enumerate(given):
            assert passes.groups == []
            waiting += send(pool, scans, blocks, [ask])
            if at < 2:
                until(lambda at=at: len(scans._waiting) == at + 1)  # type: ignore[misc]
        for ask, found in zip(given, waiting, strict=True):
            check(blocks, ask, found.result(PATIENCE_S))
    assert passes.groups == [3]


def test_a_crowd_that_does_not_come_again_is_not_waited_for_long(
    passes: Passes, scans: Batch, blocks: list[Block], monkeypatch: pytest.MonkeyPatch
) -> None:
    passes.gate.set()
    scans._crowds.append((3, 3 * PATIENCE_S))
    waits: list[float | None] = []
    whole = scans._lock.wait

    def wait(seconds: float | None = None) -> bool:
        waits.append(seconds)
        return whole(seconds)

    monkeypatch.setattr(scans._lock, "wait", wait)
    lately = batch._LATELY
    for ask in asks(lately + 2):
        check(blocks, ask, scans.ask(blocks, ask))
    assert passes.groups == [1] * (lately + 2)
    # Before each of so many scans for others, however long that one took; else for anybody.
    assert [each for each in waits if each is not None] == [batch._SILENCE_S] * lately


@pytest.mark.parametrize(("patience_s", "crowds"), [(PATIENCE_S, [3, 2]), (0.0, [1, 2])])
def test_those_who_came_too_late_by_little_are_of_the_crowd(
    passes: Passes,
    scans: Batch,
    blocks: list[Block],
    monkeypatch: pytest.MonkeyPatch,
    patience_s: float,
    crowds: list[int],
) -> None:
    """So that a crowd that was scanned in two parts is waited for as a whole; others are not."""
    monkeypatch.setattr(batch, "_PATIENCE", 1.0)
    monkeypatch.setattr(batch, "_PATIENCE_S", patience_s)
    other = cut(unit(np.random.default_rng(4), sum(SIZES), DIM), SIZES, 3)
    first, *later = asks(4)
    with ThreadPoolExecutor(4) as pool:
        running = begin(pool, scans, passes, blocks, first)
        waiting = send(pool, scans, blocks, later[:2])
        until(lambda: len(scans._waiting) == 2)
        waiting += send(pool, scans, other, later[2:])
        until(lambda: len(scans._waiting) == 3)
        passes.gate.set()
        for each in (running, *waiting):
            each.result(PATIENCE_S)
    assert passes.groups == [1, 2, 1]
    assert [crowd for crowd, _ in scans._crowds][:2] == crowds


def test_queries_of_other_blocks_do_not_share(
    passes: Passes, scans: Batch, blocks: list[Block]
) -> None:
    """A block that changed is another one: each query is answered from what it asked about."""
    other = cut(unit(np.random.default_rng(4), sum(SIZES), DIM), SIZES, 3)
    first, *later = asks(5)
    with ThreadPoolExecutor(5) as pool:
        running = begin(pool, scans, passes, blocks, first)
        held = [blocks, other, other, blocks]
        waiting = []
        for at, (ask, own) in enumerate(zip(later, held, strict=True)):
            waiting += send(pool, scans, own, [ask])
            until(lambda at=at: len(scans._waiting) == at + 1)  # type: ignore[misc]
        passes.gate.set()
        check(blocks, first, running.result(PATIENCE_S))
        for ask, own, found in zip(later, held, waiting, strict=True):
            check(own, ask, found.result(PATIENCE_S))
    assert passes.groups == [1, 2, 2]


def test_a_scan_takes_only_so_many_examples(
    passes: Passes, scans: Batch, blocks: list[Block], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "EXAMPLES", 4)
    rng = np.random.default_rng(8)
    given = [Ask(unit(rng, size, DIM), NONE, 3) for size in (1, 2, 3, 2, 9)]
    with ThreadPoolExecutor(5) as pool:
        first = begin(pool, scans, passes, blocks, given[0])
        waiting = []
        for at, ask in enumerate(given[1:]):
            waiting += send(pool, scans, blocks, [ask])
            until(lambda at=at: len(scans._waiting) == at + 1)  # type: ignore[misc]
        passes.gate.set()
        for ask, found in zip(given, (first, *waiting), strict=True):
            check(blocks, ask, found.result(PATIENCE_S))
    # Two and two fit together, three does not, and what is too large alone is scanned alone.
    assert passes.groups == [1, 2, 1, 1]


def test_a_query_that_fails_is_told_alone_though_it_shared_a_scan(
    passes: Passes, scans: Batch, blocks: list[Block]
) -> None:
    first, *later = asks(4)
    narrow: NDArray[np.float32] = unit(np.random.default_rng(0), 1, DIM)[:, :3]
    with ThreadPoolExecutor(4) as pool:
        running = begin(pool, scans, passes, blocks, first)
        bad = [*later[:2], Ask(narrow, NONE, 3)]
        waiting = send(pool, scans, blocks, bad)
        until(lambda: len(scans._waiting) == 3)
        passes.gate.set()
        check(blocks, first, running.result(PATIENCE_S))
        *others, failed = waiting
        for ask, found in zip(later, others, strict=False):
            check(blocks, ask, found.result(PATIENCE_S))
        assert failed.exception(PATIENCE_S) is not None
        check(blocks, later[2], scans.ask(blocks, later[2]))
    assert passes.groups == [1, 3, 1, 1, 1, 1]


def test_closing_answers_those_who_wait(passes: Passes, blocks: list[Block]) -> None:
    scans = Batch(1)
    first, *later = asks(4)
    with ThreadPoolExecutor(4) as pool:
        running = begin(pool, scans, passes, blocks, first)
        waiting = send(pool, scans, blocks, later)
        until(lambda: len(scans._waiting) == 3)
        passes.gate.set()
        scans.close()
        for ask, found in zip((first, *later), (running, *waiting), strict=True):
            check(blocks, ask, found.result(PATIENCE_S))
