"""Features of the regions of all images, in the order of the rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analytics.neighbours import Collection
from cql.progress import Progress, silent
from cql.store import Store
from cql.vectors import PATCH_SHAPE

_TOLD = 2_000


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """Features of R = side * side regions of each of N images, of width D.

    `codes` int8 (N, R, D): a number is its code times the image's entry of `scales`, float32 (N,).
    `known` bool (N,): images that have patches; the codes of the others are 0. R and D are 0 where
    no image has any.
    """

    codes: NDArray[np.int8]
    scales: NDArray[np.float32]
    known: NDArray[np.bool_]
    side: int

    def of(self, rows: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        """Features of the regions of some rows, float32 (n, R, D)."""
        found: NDArray[np.float32] = self.codes[rows] * self.scales[rows][:, None, None]
        return found


def nothing(count: int) -> Patches:
    """Patches of `count` images that have none."""
    return Patches(
        np.zeros((count, 0, 0), np.int8), np.zeros(count, np.float32), np.zeros(count, bool), 0
    )


def read(
    store: Store,
    rows: Collection,
    model_id: str,
    *,
    shape: tuple[int, int] = PATCH_SHAPE,
    progress: Progress = silent,
) -> Patches:
    """Read the patches of all rows; images that the snapshot lacks are passed over.

    So are patches that are not of `shape`, regions a side and numbers of each: an older version has
    left them.
    """
    count, (side, dim) = len(rows.listings), shape
    found = nothing(count)
    place = {image.tobytes(): row for row, image in enumerate(rows.images)}
    done = 0
    for each in store.iter_patches(model_id):
        row = place.get(each.image_id.bytes)
        if row is None or (each.side, each.dim) != shape:
            continue
        if not found.side:
            codes = np.zeros((count, side * side, dim), np.int8)
            found = Patches(codes, found.scales, found.known, side)
        found.codes[row] = np.frombuffer(each.codes, np.int8).reshape(found.codes[0].shape)
        found.scales[row], found.known[row] = each.scale, True
        done += 1
        if done % _TOLD == 0:
            progress("patches", done, count)
    return found
