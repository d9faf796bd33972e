"""What work costs: CPU time and memory of this process and all below it."""

from __future__ import annotations

import psutil


class Meter:
    """CPU seconds since it was made, and the most memory at any `look`."""

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}
        self._gone = 0.0
        self.peak_bytes = 0
        self._began = 0.0
        self._began = self._look()
        self.cpu_s = 0.0

    def look(self) -> None:
        """Read the process tree: milliseconds of work."""
        self.cpu_s = max(self.cpu_s, self._look() - self._began)

    def _look(self) -> float:
        own = psutil.Process()
        seen: dict[int, float] = {}
        held = 0
        for process in (own, *own.children(recursive=True)):
            try:
                times = process.cpu_times()
                seen[process.pid] = times.user + times.system
                held += _memory(process)
            except psutil.Error:
                continue  # it ended meanwhile
        # What a process used up to the last look stays counted when it has ended.
        self._gone += sum(spent for pid, spent in self._seen.items() if pid not in seen)
        self._seen = seen
        self.peak_bytes = max(self.peak_bytes, held)
        return self._gone + sum(seen.values())


def _memory(process: psutil.Process) -> int:
    """Bytes of a process; a page that several share counts once between them where known."""
    try:
        return int(process.memory_full_info().pss)
    except (AttributeError, psutil.AccessDenied):
        return int(process.memory_info().rss)
