"""One read for all who ask for it at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """A read that those who ask while one runs share the next of. Thread-safe.

    Nobody is given what was read before they asked: an answer is as fresh as that of a read of
    one's own.
    """

    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._running: Future[T] | None = None
        self._next: Future[T] | None = None

    @property
    def idle(self) -> bool:
        """Whether nobody reads: who asks now would read alone."""
        return self._running is None

    def __call__(self) -> T:
        """What is read now; the error of that read is raised to all who share it."""
        mine, before, first = self._joined()
        if first:
            self._run(mine, before)
        return mine.result()

    def later(self, pool: Executor) -> Future[T]:
        """As a call, whose answer is awaited later; who reads does so on a thread of `pool`.

        It must have two threads for this: one may wait for the other's end.
        """
        mine, before, first = self._joined()
        if first:
            try:
                pool.submit(self._run, mine, before)
            except BaseException as error:
                mine.set_exception(error)
                self._done(mine)
                raise
        return mine

    def _joined(self) -> tuple[Future[T], Future[T] | None, bool]:
        """The read that is shared, the one before it, and whether the caller has to make it."""
        with self._lock:
            before, mine = self._running, self._next
            if mine is not None:
                return mine, before, False
            mine = Future()
            # One who shares it must not cancel it for all.
            mine.set_running_or_notify_cancel()
            if before is None:
                self._running = mine
            else:
                self._next = mine
            return mine, before, True

    def _run(self, mine: Future[T], before: Future[T] | None) -> None:
        try:
            if before is not None:
                before.exception()  # waits: whoever asks meanwhile still shares mine
                with self._lock:
                    self._running, self._next = mine, None
            mine.set_result(self._read())
        except BaseException as error:  # noqa: BLE001 - raised by those who share it
            mine.set_exception(error)
        finally:
            self._done(mine)

    def _done(self, mine: Future[T]) -> None:
        with self._lock:
            # An interrupted wait leaves nobody waiting for what will never be read.
            if self._next is mine:
                self._next = None
            if self._running is mine:
                self._running = None
