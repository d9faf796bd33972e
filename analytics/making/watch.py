"""Work that says little of how far it is, done while somebody watches whether it is cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from cql.progress import CancelledError, Progress

Result = TypeVar("Result")

POLL_S = 0.2
"""Seconds between two calls of progress."""


def watched(work: Callable[[Progress], Result], progress: Progress, step: str) -> Result:
    """What `work` returns or raises. It is done on a thread; `progress` hears of it on this one.

    That is called several times a second, as of `step`, with what the work told last. What it
    raises is raised at once: the work ends when it tells something next, and what it made is lost.
    """
    task = _Task(work)
    task.thread.start()
    try:
        while not task.ended.wait(POLL_S):
            progress(step, *task.told)
    except BaseException:
        task.left.set()
        raise
    if task.error is not None:
        raise task.error
    return task.results[0]


class _Task(Generic[Result]):
    """A call on a thread of its own: what it `told`, its one result or its error."""

    def __init__(self, work: Callable[[Progress], Result]) -> None:
        self.told: tuple[int, int, str] = (0, 0, "")
        self.results: list[Result] = []
        self.error: BaseException | None = None
        self.ended, self.left = threading.Event(), threading.Event()
        self._work = work
        self.thread = threading.Thread(target=self._run, name="watched", daemon=True)

    def _run(self) -> None:
        try:
            self.results.append(self._work(self._note))
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits
            self.error = error
        finally:
            self.ended.set()

    def _note(self, step: str, done: int, total: int, message: str = "") -> None:
        del step
        if self.left.is_set():
            raise CancelledError("nobody waits for this any more")
        self.told = (done, total, message)
