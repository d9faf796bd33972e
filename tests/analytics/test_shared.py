"""A read that is shared: fresh for everyone, and made once for those who come together."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

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


def test_those_who_come_while_one_reads_share_the_next_read() -> None:
    source = Source()
    shared = Shared(source.read)
    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(shared)
        until(lambda: source.began == 1)
        second = pool.submit(shared)
        until(lambda: shared._next is not None)
        rest = [pool.submit(shared) for _ in range(7)]
        time.sleep(0.1)
        # All of them wait: none is given what was read before it asked.
        assert not any(each.done() for each in (second, *rest))
        source.go.release()
        assert first.result(5) == 1
        until(lambda: source.began == 2)
        late = pool.submit(shared)
        until(lambda: shared._next is not None)
        source.go.release(2)
        assert second.result(5) == 2
        assert {each.result(5) for each in rest} == {2}
        assert late.result(5) == 3
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
