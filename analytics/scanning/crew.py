"""The threads of a host: calls for many items are shared out among them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


class Crew:
    """At most `threads` threads at work, of which the caller's is one. Thread-safe.

    Whoever asks has a place for a thread of its own, waiting for one where all are taken, and as
    many more as are free when it begins. A call must not map itself.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._places = threading.BoundedSemaphore(threads)
        self._pool = ThreadPoolExecutor(max(1, threads - 1), thread_name_prefix="scan")

    def map(self, call: Callable[[Item], Made], items: Iterable[Item]) -> list[Made]:
        """What `call` gives for each item, in order.

        After an error no further item is begun, and when the calls at work have ended one of their
        errors is raised. A pool hands a thread each item and wakes it: here each takes the next one
        itself, and one item costs nothing more than its call.
        """
        todo = list(items)
        found: list[Any] = [None] * len(todo)
        # A step of this iterator cannot be divided among threads.
        left = iter(range(len(todo)))

        def work() -> None:
            for at in left:
                found[at] = call(todo[at])

        def join() -> None:
            if self._places.acquire(blocking=False):
                try:
                    work()
                finally:
                    _use_up(left)
                    self._places.release()

        others: list[Future[None]] = []
        with self._places:
            try:
                others.extend(
                    self._pool.submit(join) for _ in range(min(self.threads, len(todo)) - 1)
                )
                work()
            finally:
                _use_up(left)
                # Who has not begun by now has nothing to do.
                others = [other for other in others if not other.cancel()]
                wait(others)
        try:
            for other in others:
                other.result()
        finally:
            # An error holds this frame, which must not hold the error.
            others.clear()
        return found

    def close(self) -> None:
        """End the threads; those that work are awaited."""
        self._pool.shutdown()


def _use_up(left: Iterator[int]) -> None:
    for _ in left:
        pass
