"""Measuring: calls in turn, percentiles, resident memory, the speed of reading memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np

Call = Callable[[int], object]


PAUSE_S = 0.25
"""Seconds before each call: threads of BLAS and OpenMP spin for a while after they have answered,
and would slow down whoever is measured next."""


def alternate(
    calls: Mapping[str, Call], repeats: int, *, warm: int = 1, pause_s: float = PAUSE_S
) -> dict[str, list[float]]:
    """Seconds of every call, by name: all in turn, `repeats` times, first `warm` times unmeasured.

    A call is given the number of its turn, so that it can take another query each time.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(-warm, repeats):
        for name, call in calls.items():
            time.sleep(pause_s)
            began = time.perf_counter()
            call(max(turn, 0))
            if turn >= 0:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def spread(name: str, seconds: Iterable[float], *, scale: float = 1e3) -> dict[str, float]:
    """p50 and p95, in milliseconds unless scaled otherwise."""
    values = np.array(list(seconds)) * scale
    low, high = np.percentile(values, [50, 95])
    return {f"p50 {name}": float(low), f"p95 {name}": float(high)}


def pss(pids: Iterable[int]) -> int:
    """Proportional set size of processes in bytes: mapped pages of files count, shared in part."""
    total = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        total += proportional(text)
    return total


def proportional(text: str) -> int:
    """Bytes in the `Pss:` line of a smaps_rollup. ValueError where there is none."""
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError("a smaps_rollup must have a line `Pss:`: is this one?")


def streaming(threads: int, *, megabytes: int = 1024, repeats: int = 5) -> float:
    """Bytes a second that `threads` read from memory: sums over an array far above every cache."""
    array = np.ones(megabytes * 2**20 // 8, np.int64)
    parts = np.array_split(array, threads)
    seconds = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(repeats + 1):
            began = time.perf_counter()
            list(pool.map(np.sum, parts))
            seconds.append(time.perf_counter() - began)
    return array.nbytes / median(seconds[1:])
