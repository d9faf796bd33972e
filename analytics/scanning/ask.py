"""One query of a scan: its examples, what counts, and the plan that compiled code reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analytics.scanning import bounds

AGGREGATES = {"max": bounds.MAX, "mean": bounds.MEAN, "coverage": bounds.COVERAGE}

NONE = np.empty(0, np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """One query of a scan. Examples are float32 (P, D) and (M, D), unit L2 norm.

    `rows` and `listings` hold a mask for each block: uint8 a row and uint8 a listing, 0 for what
    may not count; None lets everything count. A listing without a row that counts is no hit.
    """

    positives: NDArray[np.float32]
    negatives: NDArray[np.float32]
    k: int
    aggregate: str = "max"
    best: int = 1
    rows: Sequence[NDArray[np.uint8] | None] = ()
    listings: Sequence[NDArray[np.uint8] | None] = ()

    @property
    def plain(self) -> bool:
        """Whether a listing scores the best of its rows with any of the examples."""
        return self.aggregate == "max" and not len(self.negatives)

    def mask(self, block: int) -> NDArray[np.uint8]:
        """Mask of a block's rows; empty for all."""
        found = self.rows[block] if self.rows else None
        return NONE if found is None else found

    def eligible(self, block: int) -> NDArray[np.uint8]:
        """Mask of a block's listings; empty for all."""
        found = self.listings[block] if self.listings else None
        return NONE if found is None else found

    def plan(
        self, start: int, rows: NDArray[np.uint8] = NONE, listings: NDArray[np.uint8] = NONE
    ) -> bounds.Plan:
        """The plan of an ask whose examples are columns from `start` on, with two masks."""
        middle = start + len(self.positives)
        return bounds.Plan(
            start=start,
            middle=middle,
            end=middle + len(self.negatives),
            aggregate=AGGREGATES[self.aggregate],
            best=self.best if self.aggregate == "mean" else 1,
            rows=_address(rows),
            listings=_address(listings),
        )


def _address(mask: NDArray[np.uint8]) -> int:
    return int(mask.ctypes.data) if mask.size else 0
