"""What a scan notes: listings that can be hits, and how good the best surely are."""

# Compiled loops take many arrays, by position.
# ruff: noqa: PLR0917

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analytics.compiler import compiled
from analytics.scanning.heaps import keep_one


class Found(NamedTuple):
    """Notes of A plans.

    `listings` and `rows` int64, `upper` float32 (A, L), of each plan `counts` int64 (A,) filled;
    listings and rows are numbered through all blocks. `rows`: the only row that can win its listing
    and be its score, -1 where the scan does not know one, as for any plan but `MAX` without
    negatives. `limits` float32 (A,): what an upper
    bound must reach. `best` float32 (A, k): heaps of lower bounds, `held` int64 (A,) of each
    filled; `sizes` int64 (A,): how many a plan wants.
    """

    listings: NDArray[np.int64]
    rows: NDArray[np.int64]
    upper: NDArray[np.float32]
    counts: NDArray[np.int64]
    limits: NDArray[np.float32]
    best: NDArray[np.float32]
    held: NDArray[np.int64]
    sizes: NDArray[np.int64]


@compiled
def note(
    found: Found, ask: int, listing: int, row: int, least: np.float32, most: np.float32
) -> None:
    """Note a listing of a plan with its bounds, and raise the plan's limit where they tell."""
    place = found.counts[ask]
    found.listings[ask, place] = listing
    found.rows[ask, place] = row
    found.upper[ask, place] = most
    found.counts[ask] = place + 1
    size = found.sizes[ask]
    held = keep_one(found.best[ask], found.held[ask], size, least)
    found.held[ask] = held
    if held == size:
        found.limits[ask] = max(found.limits[ask], found.best[ask, 0])


@compiled
def compact(found: Found) -> None:
    """Forget what does not reach the limits as they are now."""
    for ask in range(found.counts.size):
        kept = 0
        for at in range(found.counts[ask]):
            if found.upper[ask, at] >= found.limits[ask]:
                found.listings[ask, kept] = found.listings[ask, at]
                found.rows[ask, kept] = found.rows[ask, at]
                found.upper[ask, kept] = found.upper[ask, at]
                kept += 1
        found.counts[ask] = kept


@compiled
def agree(
    best: NDArray[np.float32],
    held: NDArray[np.int64],
    sizes: NDArray[np.int64],
    limits: NDArray[np.float32],
) -> None:
    """Raise `limits` float32 (A,) to what the notes of T threads together say.

    `best` float32 (T, A, k), `held` int64 (T, A): of each thread, as `Found` has them; no listing
    may be noted by two of them.
    """
    threads, count, most = best.shape
    every = np.empty(threads * most, np.float32)
    for ask in range(count):
        size = 0
        for thread in range(threads):
            for at in range(held[thread, ask]):
                value = best[thread, ask, at]
                if value > limits[ask]:
                    every[size] = value
                    size += 1
        if size >= sizes[ask]:
            limits[ask] = np.partition(every[:size], size - sizes[ask])[size - sizes[ask]]


@compiled
def join(
    best: NDArray[np.float32],
    held: NDArray[np.int64],
    sizes: NDArray[np.int64],
    out: NDArray[np.float32],
    filled: NDArray[np.int64],
) -> None:
    """Put the heaps of T threads, as `agree` takes them, into one of each ask.

    `out` float32 (A, k), of which `filled` int64 (A,) are there already.
    """
    for ask in range(sizes.size):
        for thread in range(best.shape[0]):
            for at in range(held[thread, ask]):
                value = best[thread, ask, at]
                filled[ask] = keep_one(out[ask], filled[ask], sizes[ask], value)
