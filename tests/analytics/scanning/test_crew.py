"""A crew does what `map` does, on so many threads and no more, and tells of an error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from analytics.scanning.crew import Crew

WAIT_S = 60.0


@pytest.fixture(params=[1, 2, 3])
def crew(request: pytest.FixtureRequest) -> Iterator[Crew]:
    made = Crew(request.param)
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[Crew]:
    made = Crew(2)
    yield made
    made.close()


@given(items=some.lists(some.integers()), threads=some.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_it_gives_what_map_gives_in_order(items: list[int], threads: int) -> None:
    crew = Crew(threads)
    try:
        assert crew.map(lambda item: item * item, iter(items)) == [item * item for item in items]
    finally:
        crew.close()


def test_one_item_is_done_by_the_caller(crew: Crew) -> None:
    assert crew.map(lambda _: threading.get_ident(), [0]) == [threading.get_ident()]


def test_two_threads_work_at_once(pair: Crew) -> None:
    # Each waits for the other: one thread alone would never come back.
    assert len(set(pair.map(_met(2), range(2)))) == 2


def test_a_map_of_one_item_leaves_the_other_thread_to_others(pair: Crew) -> None:
    begun, done = threading.Event(), threading.Event()

    def stay(_: int) -> bool:
        begun.set()
        return done.wait(WAIT_S)

    with ThreadPoolExecutor(1) as asker:
        staying = asker.submit(pair.map, stay, [0])
        assert begun.wait(WAIT_S)
        # Twice as many items as threads: the caller does them alone.
        caller = {threading.get_ident()}
        assert set(pair.map(lambda _: threading.get_ident(), range(4))) == caller
        done.set()
        assert staying.result(WAIT_S) == [True]


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
    # Nobody kept a place.
    assert len(set(crew.map(_met(crew.threads), range(crew.threads)))) == crew.threads


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
    assert crew.map(abs, [-1, 2]) == [1, 2]


@pytest.mark.parametrize("own", [True, False])
def test_after_an_error_of_either_thread_all_places_are_free(pair: Crew, *, own: bool) -> None:
    caller, both = threading.get_ident(), threading.Barrier(2)

    def call(_: int) -> None:
        both.wait(WAIT_S)
        if (threading.get_ident() == caller) == own:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pair.map(call, range(2))
    assert len(set(pair.map(_met(2), range(2)))) == 2


def test_a_closed_crew_says_so_and_does_nothing(pair: Crew) -> None:
    pair.close()
    done: list[int] = []
    with pytest.raises(RuntimeError, match="shutdown"):
        pair.map(done.append, range(5))
    assert done == []


def _met(threads: int) -> Callable[[int], int]:
    """A call that ends when so many threads are in it; it tells its thread."""
    all_ = threading.Barrier(threads)

    def call(_: int) -> int:
        all_.wait(WAIT_S)
        return threading.get_ident()

    return call
