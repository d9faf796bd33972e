"""Which images a label should spread to: the nearest to those that have it, over all rows."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from analytics.search import Neighbours

K_MAX = 500
SEEDS_MAX = 1_024
"""Most labelled images that one question starts from."""
_BLOCK = 256

Search = Callable[[NDArray[np.float32], int], Neighbours]
"""float32 (Q, D) and k to the k nearest images of each, as `Searcher.neighbours`."""


@dataclass(frozen=True, slots=True)
class Near:
    """An image near a label: its best score, and the place of the seed that it is nearest to."""

    image_id: UUID
    score: float
    seed: int


def nearest(
    search: Search,
    seeds: NDArray[np.float32],
    *,
    k: int,
    rows: int,
    leave_out: Collection[UUID],
) -> list[Near]:
    """The k images of the highest product with any seed, by falling score, then image id.

    `seeds` float32 (Q, D); `rows`: of the whole snapshot; `leave_out`: images that are not asked
    for, such as the labelled ones. Exact: each seed's list is asked for as long as it takes to hold
    k images that count, so no image outside all lists can be among the k best.
    """
    best: dict[UUID, tuple[float, int]] = {}
    for start in range(0, len(seeds), _BLOCK):
        waiting = np.arange(start, min(start + _BLOCK, len(seeds)))
        asked = min(rows, 2 * k + 8)
        while len(waiting):
            found = search(seeds[waiting], asked)
            short = []
            for place, seed in enumerate(waiting):
                kept = 0
                for image, score in zip(found.images[place], found.scores[place], strict=True):
                    image_id = UUID(bytes=image.tobytes())
                    if image_id in leave_out:
                        continue
                    kept += 1
                    known = best.get(image_id)
                    if known is None or score > known[0]:
                        best[image_id] = (float(score), int(seed))
                if kept < k and asked < rows:
                    short.append(seed)
            waiting = np.array(short, np.int64)
            asked = min(rows, 4 * asked)
    ranked = sorted(best.items(), key=lambda item: (-item[1][0], item[0].bytes))
    return [Near(image_id, score, seed) for image_id, (score, seed) in ranked[:k]]
