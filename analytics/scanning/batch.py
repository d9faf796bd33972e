"""Queries that arrive while a scan runs share the next one."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from analytics.scanning import scan
from analytics.scanning.blocks import Block
from analytics.scanning.crew import Crew
from analytics.scanning.scan import Ask, Listings

EXAMPLES = 256
"""Most examples of one scan: more would keep the first of them waiting for too long."""

_SILENCE, _PATIENCE = 1 / 4, 1 / 2
_SILENCE_S, _PATIENCE_S = 0.02, 0.05
_LATELY = 3
"""Where one of so many scans before was for several queries, the next one waits for others to come.

Until as many wait, until none has come for the first share of what that scan took, at most for the
second; of a slow one no longer than so many seconds. One scan for all costs less than one for the
first and one for the others. Those who came too late by no more than that second share belong to
a crowd, too.
"""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    blocks: tuple[Block, ...]
    ask: Ask
    found: Future[Listings] = field(default_factory=Future)
    came: float = field(default_factory=time.monotonic)

    @property
    def examples(self) -> int:
        return len(self.ask.positives) + len(self.ask.negatives)


def _patience(took_s: float) -> float:
    return min(_PATIENCE_S, _PATIENCE * took_s)


class Batch:
    """One scan at a time on `threads` threads, for all queries of the same blocks that wait."""

    def __init__(self, threads: int) -> None:
        self.crew = Crew(threads)
        self._lock = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._closed = False
        # Of the last scans: how many came together, and how long it took.
        self._crowds: deque[tuple[int, float]] = deque(maxlen=_LATELY)
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
        self.crew.close()

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._waiting and not self._closed:
                    self._lock.wait()
                if not self._waiting:
                    return
                self._gather()
                group = self._take()
            self._answer(group)

    def _answer(self, group: Sequence[_Waiting], *, again: bool = False) -> None:
        """Scan for all of a group; where that fails, for each alone, so that one fails alone."""
        began = time.monotonic()
        try:
            asks = [each.ask for each in group]
            found = scan.best_listings(group[0].blocks, asks, each=self.crew.map)
        except Exception as error:  # noqa: BLE001 - raised by those who asked
            if len(group) == 1:
                group[0].found.set_exception(error)
                return
            for each in group:
                self._answer([each], again=True)
            return
        took_s = time.monotonic() - began
        if not again:  # those who are asked for again came as a crowd
            late = self._late(group[0], began, began + _patience(took_s))
            self._crowds.append((len(group) + late, took_s))
        for each, listings in zip(group, found, strict=True):
            each.found.set_result(listings)

    def _late(self, first: _Waiting, began: float, until: float) -> int:
        """How many have come between two moments who could have shared a scan."""
        with self._lock:
            return sum(
                began <= each.came <= until and each.blocks == first.blocks
                for each in self._waiting
            )

    def _gather(self) -> None:
        """Wait for those who come together, as they did before; the lock is held."""
        crowd, took_s = max(self._crowds, default=(1, 0.0))
        deadline = time.monotonic() + _patience(took_s)
        silence = min(_SILENCE_S, _SILENCE * took_s)
        while 1 < crowd > self._together() and not self._closed:
            left, seen = deadline - time.monotonic(), len(self._waiting)
            if left <= 0:
                return
            self._lock.wait(min(left, silence))
            if len(self._waiting) == seen:
                return

    def _together(self) -> int:
        """How many wait who can share a scan with the first; the lock is held."""
        return sum(each.blocks == self._waiting[0].blocks for each in self._waiting)

    def _take(self) -> list[_Waiting]:
        """Whoever waits longest, and those that can share its scan."""
        first = self._waiting[0]
        group: list[_Waiting] = []
        left: list[_Waiting] = []
        examples = 0
        for each in self._waiting:
            # Blocks are equal when they are the same ones.
            same = each.blocks == first.blocks
            if each is first or (same and examples + each.examples <= EXAMPLES):
                group.append(each)
                examples += each.examples
            else:
                left.append(each)
        self._waiting = left
        return group
