"""Work spread over threads in consecutive parts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np


def spread(work: Callable[[int, int], object], count: int, *, threads: int | None = None) -> None:
    """Call `work(first, last)` over consecutive parts of `count` items, on all cores.

    The parts differ with the number of threads: the work must give the same for any of them.
    """
    threads = threads or os.cpu_count() or 1
    parts = min(count, threads * 8)
    cuts: Sequence[int] = np.linspace(0, count, parts + 1).astype(int).tolist() if parts else [0]
    if threads == 1 or parts < 2:
        work(0, count)
        return
    with ThreadPoolExecutor(threads, "spread") as pool:
        for done in [pool.submit(work, a, b) for a, b in pairwise(cuts)]:
            done.result()
