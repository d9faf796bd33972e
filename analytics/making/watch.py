"""Work that says little of how far it is, done while somebody watches whether it is cancelled."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from cql.progress import CancelledError, Progress

log = logging.getLogger(__name__)

Result = TypeVar("Result")

POLL_S = 0.2
"""Seconds between two calls of progress."""


_left: list[Future[Any]] = []
_lock = threading.Lock()


def busy() -> bool:
    """Whether work of this process goes on that nobody waits for any more."""
    with _lock:
        _left[:] = [each for each in _left if not each.done()]
        return bool(_left)


def watched(
    work: Callable[[Progress], Result], progress: Progress, step: str, *, at: tuple[int, int]
) -> Result:
    """What `work` returns or raises. It is done on a thread; `progress` hears of it on this one.

    That is called several times a second, as of `step`, with what the work told last: done and
    total `at` first. What it raises is raised at once: the work ends when it tells something next,
    what it made is lost, and `busy` says so until then.
    """
    made: Future[Result] = Future()
    told: tuple[int, int, str] = (*at, "")
    left = threading.Event()

    def note(step: str, done: int, total: int, message: str = "") -> None:
        nonlocal told
        del step
        if left.is_set():
            raise CancelledError("nobody waits for this any more")
        told = (done, total, message)

    def run() -> None:
        try:
            made.set_result(work(note))
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits
            made.set_exception(error)

    threading.Thread(target=run, name="watched", daemon=True).start()
    try:
        while not wait([made], POLL_S).done:
            progress(step, *told)
    except BaseException:
        left.set()
        with _lock:
            _left.append(made)
        if busy():
            log.info("step %s is given up; what it computes ends when it next tells of it", step)
        raise
    return made.result()
