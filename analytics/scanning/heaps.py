"""The largest of many numbers: in order where few are kept, in a heap where many may be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analytics.compiler import compiled


@compiled
def keep(best: NDArray[np.float32], held: int, value: np.float32) -> int:
    """Insert into descending `best`, of which `held` are filled; returns how many are now."""
    if held == best.size:
        if value <= best[held - 1]:
            return held
        held -= 1
    at = held
    while at > 0 and best[at - 1] < value:
        best[at] = best[at - 1]
        at -= 1
    best[at] = value
    return held + 1


@compiled
def mean(best: NDArray[np.float32], held: int) -> np.float32:
    """Mean of the first `held` of `best`, summed in float64."""
    total = 0.0
    for at in range(held):
        total += np.float64(best[at])
    return np.float32(total / held)


@compiled
def keep_one(best: NDArray[np.float32], held: int, size: int, value: np.float32) -> int:
    """Keep a value in the min-heap `best` of `size` if it is large; returns how many are filled."""
    if held < size:
        at = held
        while at > 0 and best[(at - 1) // 2] > value:
            best[at] = best[(at - 1) // 2]
            at = (at - 1) // 2
        best[at] = value
        return held + 1
    if held > 0 and value > best[0]:
        at = 0
        while 2 * at + 1 < held:
            child = 2 * at + 1
            if child + 1 < held and best[child + 1] < best[child]:
                child += 1
            if best[child] >= value:
                break
            best[at] = best[child]
            at = child
        best[at] = value
    return held
