"""A read that is shared: fresh for everyone, and made once for those who come together."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from analytics.shared import Shared
from tests.waiting import until


class Source:
    """A counter whose readings wait to be let go; `began` counts readings that were begun."""

    def __init__(self) -> None:
        self.began = 0
        self.go = threading.Semaphore(0)

    def read(self) -> int:
        self.began += 1
        mine = self.began
        self.go.acquire()
        return mine


def test_who_comes_alone_reads_alone() -> None:
    source = Source()
    source.go.release(3)
    shared = Shared(source.read)
    assert [shared(), shared(), shared()] == [1, 2, 3]


def test_those_who_come_while_one_reads_share_the_next_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns: list[None] = []
    sharing: list[None] = []

    class Awaited(Future[int]):
        """A reading that tells who waits: for its end, to read next, or for what it reads."""

        def exception(self, timeout: float | None = None) -> BaseException | None:
            turns.append(None)
            return super().exception(timeout)

        def result(self, timeout: float | None = None) -> int:
            sharing.append(None)
            return super().result(timeout)

    monkeypatch.setattr("analytics.shared.Future", Awaited)
    source = Source()
    shared = Shared(source.read)
    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(shared)
        until(lambda: source.began == 1)
        second = pool.submit(shared)
        until(lambda: len(turns) == 1)
        rest = [pool.submit(shared) for _ in range(7)]
        until(lambda: len(sharing) == 7)
        # All of them wait: none is given what was read before it asked.
        assert not any(each.done() for each in (second, *rest))
        source.go.release()
        assert first.result(30) == 1
        until(lambda: source.began == 2)
        late = pool.submit(shared)
        until(lambda: len(turns) == 2)
        source.go.release(2)
        assert second.result(30) == 2
        assert {each.result(30) for each in rest} == {2}
        assert late.result(30) == 3
    assert source.began == 3


def test_nobody_is_given_an_older_reading() -> None:
    """Of a clock that many read at once, each reading is later than its asking."""
    lock = threading.Lock()
    ticks = 0

    def read() -> int:
        nonlocal ticks
        with lock:
            ticks += 1
            return ticks

    shared = Shared(read)

    def ask(_: int) -> tuple[int, int]:
        with lock:
            before = ticks
        return before, shared()

    with ThreadPoolExecutor(8) as pool:
        assert all(found > before for before, found in pool.map(ask, range(2000)))


def test_an_error_is_raised_to_all_who_shared_it_and_not_kept() -> None:
    source = Source()
    fails = True

    def read() -> int:
        source.read()
        if fails:
            raise OSError("gone")
        return 7

    shared = Shared(read)
    source.go.release(1)
    with pytest.raises(OSError, match="gone"):
        shared()
    fails = False
    source.go.release(1)
    assert shared() == 7


def test_what_is_asked_for_later_is_read_once_on_the_pool() -> None:
    source = Source()
    shared = Shared(source.read)
    with ThreadPoolExecutor(2) as pool:
        first = shared.later(pool)
        assert not first.cancel()  # others may share it
        until(lambda: source.began == 1)
        rest = [shared.later(pool) for _ in range(5)]
        source.go.release(2)
        assert first.result(30) == 1
        # They asked while the first was read: they share the next, made by one thread.
        assert {each.result(30) for each in rest} == {2}
        until(lambda: shared.idle)
    assert source.began == 2


def test_a_pool_that_is_closed_fails_who_asks_and_nobody_after() -> None:
    shared = Shared(lambda: 7)
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        shared.later(pool)
    assert shared.idle
    assert shared() == 7
