"""Queries that arrive while a scan runs share the next one."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from analytics import scan
from analytics.blocks import Block
from analytics.scan import Ask, Listings

EXAMPLES = 256
"""Most examples of one scan: more would keep the first of them waiting for too long."""

_SILENCE, _PATIENCE = 1 / 8, 1 / 3
_SILENCE_S, _PATIENCE_S = 0.01, 0.05
"""Where the scan before was for several queries, the next one waits for others to come.

Until as many wait, until none has come for the first share of what the scan before took, at most
for the second; of a slow one no longer than so many seconds. One scan for all costs less than one
for the first and one for the others.
"""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    blocks: tuple[Block, ...]
    ask: Ask
    found: Future[Listings] = field(default_factory=Future)

    @property
    def examples(self) -> int:
        return len(self.ask.positives) + len(self.ask.negatives)


class Batch:
    """One scan at a time on `threads` threads, for all queries of the same blocks that wait."""

    def __init__(self, threads: int) -> None:
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="scan")
        self._lock = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._closed = False
        self._crowd, self._took_s = 1, 0.0
        self._thread = threading.Thread(target=self._run, name="scans", daemon=True)
        self._thread.start()

    def ask(self, blocks: Sequence[Block], ask: Ask) -> Listings:
        """Wait for the k best listings of `blocks`."""
        mine = _Waiting(tuple(blocks), ask)
        with self._lock:
            self._waiting.append(mine)
            self._lock.notify()
        return mine.found.result()

    def close(self) -> None:
        """Answer those who wait, then end."""
        with self._lock:
            self._closed = True
            self._lock.notify()
        self._thread.join()
        self.pool.shutdown()

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._waiting and not self._closed:
                    self._lock.wait()
                if not self._waiting:
                    return
                self._gather()
                group = self._take()
            began = time.monotonic()
            try:
                blocks = group[0].blocks
                found = scan.best_listings(blocks, [each.ask for each in group], each=self.pool.map)
            except Exception as error:  # noqa: BLE001 - raised by those who asked
                for each in group:
                    each.found.set_exception(error)
                continue
            self._crowd, self._took_s = len(group), time.monotonic() - began
            for each, listings in zip(group, found, strict=True):
                each.found.set_result(listings)

    def _gather(self) -> None:
        """Wait for those who come together, as they did before; the lock is held."""
        deadline = time.monotonic() + min(_PATIENCE_S, _PATIENCE * self._took_s)
        silence = min(_SILENCE_S, _SILENCE * self._took_s)
        while 1 < self._crowd > len(self._waiting) and not self._closed:
            left, seen = deadline - time.monotonic(), len(self._waiting)
            if left <= 0:
                return
            self._lock.wait(min(left, silence))
            if len(self._waiting) == seen:
                return

    def _take(self) -> list[_Waiting]:
        """Whoever waits longest, and those that can share its scan."""
        first = self._waiting[0]
        group: list[_Waiting] = []
        left: list[_Waiting] = []
        examples = 0
        for each in self._waiting:
            same = len(each.blocks) == len(first.blocks) and all(
                mine is other for mine, other in zip(each.blocks, first.blocks, strict=True)
            )
            if each is first or (same and examples + each.examples <= EXAMPLES):
                group.append(each)
                examples += each.examples
            else:
                left.append(each)
        self._waiting = left
        return group
