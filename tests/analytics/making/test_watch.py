"""Work that is watched from beside."""

from __future__ import annotations

import threading
import time

import pytest

from analytics.making import watch
from analytics.making.watch import watched
from cql.errors import NotFoundError
from cql.progress import CancelledError, Progress, silent
from tests.waiting import until


def test_the_result_and_the_error_are_those_of_the_work() -> None:
    assert watched(lambda _: 7, silent, "step", at=(0, 0)) == 7

    def fail(_: Progress) -> int:
        raise NotFoundError("not there")

    with pytest.raises(NotFoundError, match="not there"):
        watched(fail, silent, "step", at=(0, 0))


def test_what_the_work_told_last_is_heard_on_the_callers_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "POLL_S", 0.01)
    heard: list[tuple[str, int, int, str]] = []
    threads = set()
    begun, enough = threading.Event(), threading.Event()

    def work(progress: Progress) -> str:
        assert begun.wait(30)
        progress("inner", 3, 9, "so far")
        assert enough.wait(30)
        return "done"

    def progress(step: str, done: int, total: int, message: str = "") -> None:
        threads.add(threading.current_thread())
        heard.append((step, done, total, message))
        begun.set()
        if ("step", 3, 9, "so far") in heard:
            enough.set()

    assert watched(work, progress, "step", at=(2, 9)) == "done"
    assert threads == {threading.current_thread()}
    # Until the work tells its own numbers they are those that the caller was at.
    assert heard[0] == ("step", 2, 9, "")
    assert heard[-1] == ("step", 3, 9, "so far")


def test_a_cancel_ends_the_wait_at_once_and_the_work_when_it_tells_more() -> None:
    going, ended = threading.Event(), threading.Event()
    told: list[int] = []

    def work(progress: Progress) -> None:
        try:
            assert going.wait(30)
            for number in range(1_000):
                progress("inner", number, 1_000)
                told.append(number)
        finally:
            ended.set()

    def cancelled(step: str, done: int, total: int, message: str = "") -> None:
        raise CancelledError("stop")

    began = time.monotonic()
    with pytest.raises(CancelledError, match="stop"):
        watched(work, cancelled, "step", at=(0, 0))
    assert time.monotonic() - began < 10  # the work alone would wait for thirty seconds
    assert watch.busy()
    going.set()
    assert ended.wait(30)
    assert told == []
    until(lambda: not watch.busy())


def test_work_that_ended_before_it_was_given_up_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "POLL_S", 0.01)
    ended = threading.Event()

    def cancelled(step: str, done: int, total: int, message: str = "") -> None:
        ended.set()
        until(lambda: all(each.name != "watched" for each in threading.enumerate()))
        raise CancelledError("stop")

    with pytest.raises(CancelledError):
        watched(lambda _: ended.wait(30), cancelled, "step", at=(0, 0))
    assert not watch.busy()
