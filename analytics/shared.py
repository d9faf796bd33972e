"""One read for all who ask for it at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
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
        with self._lock:
            before, mine = self._running, self._next
            if mine is not None:
                first = False
            else:
                first, mine = True, Future()
                if before is None:
                    self._running = mine
                else:
                    self._next = mine
        if first:
            try:
                if before is not None:
                    before.exception()  # waits: whoever asks meanwhile still shares mine
                    with self._lock:
                        self._running, self._next = mine, None
                mine.set_result(self._read())
            except BaseException as error:  # noqa: BLE001 - raised below, and by those who share it
                mine.set_exception(error)
            with self._lock:
                # An interrupted wait leaves nobody waiting for what will never be read.
                if self._next is mine:
                    self._next = None
                if self._running is mine:
                    self._running = None
        return mine.result()
