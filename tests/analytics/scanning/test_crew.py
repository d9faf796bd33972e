"""A crew does what `map` does, on so many threads and no more, and tells of the first error."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as some

from analytics.scanning.crew import Crew

WAIT_S = 60.0


@pytest.fixture(params=[1, 2, 3])
def crew(request: pytest.FixtureRequest) -> Iterator[Crew]:
    made = Crew(request.param)
    yield made
    made.close()


@given(items=some.lists(some.integers()), threads=some.integers(1, 4))
def test_it_gives_what_map_gives_in_order(items: list[int], threads: int) -> None:
    crew = Crew(threads)
    try:
        assert crew.map(lambda item: item * item, iter(items)) == [item * item for item in items]
    finally:
        crew.close()


def test_one_item_is_done_by_the_caller(crew: Crew) -> None:
    assert crew.map(lambda _: threading.get_ident(), [0]) == [threading.get_ident()]


def test_two_threads_work_at_once() -> None:
    crew, both = Crew(2), threading.Barrier(2)
    try:
        # Each waits for the other: one thread alone would never come back.
        assert len(set(crew.map(lambda _: _met(both), range(2)))) == 2
    finally:
        crew.close()


def _met(both: threading.Barrier) -> int:
    both.wait(WAIT_S)
    return threading.get_ident()


def test_no_more_threads_work_whoever_asks(crew: Crew) -> None:
    lock, most = threading.Lock(), [0, 0]

    def call(item: int) -> int:
        with lock:
            most[0] += 1
            most[1] = max(most)
        threading.Event().wait(0.002)
        with lock:
            most[0] -= 1
        return -item

    with ThreadPoolExecutor(4) as askers:
        answers = list(askers.map(lambda start: crew.map(call, range(start, start + 9)), range(8)))
    assert answers == [[-item for item in range(start, start + 9)] for start in range(8)]
    assert 1 <= most[1] <= crew.threads


def test_an_error_is_raised_once_all_have_ended_and_nothing_more_is_begun(crew: Crew) -> None:
    lock, begun, ended = threading.Lock(), [0], [0]

    def call(item: int) -> None:
        with lock:
            begun[0] += 1
        try:
            if item == 3:
                raise ValueError("the fourth")
            threading.Event().wait(0.001)
        finally:
            with lock:
                ended[0] += 1

    with pytest.raises(ValueError, match="the fourth"):
        crew.map(call, range(10_000))
    assert begun == ended
    assert begun[0] < 10_000
    # It works on.
    assert crew.map(abs, [-1, 2]) == [1, 2]


def test_an_interrupted_caller_takes_its_turn_back(crew: Crew) -> None:
    def call(item: int) -> int:
        if item == 1:
            raise KeyboardInterrupt
        return item

    with pytest.raises(KeyboardInterrupt):
        crew.map(call, range(5))
    assert crew.map(abs, [-7]) == [7]
