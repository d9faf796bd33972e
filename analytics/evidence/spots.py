"""Images with a strange spot: a part of the picture that no other photo of the listing shows.

After PatchCore (Roth et al., CVPR 2022, arXiv:2106.08265), which takes a region for as strange as
it is far from the nearest in a bank of regions: here the bank of a photo is the other photos of its
listing, which show the same thing from elsewhere. A bank of all other listings was measured too and
says less; docs/decisions/0009-regional-outliers.md has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analytics.evidence.patches import Patches
from cql.progress import Progress, silent

MOST = 32
"""Photos of a listing that are compared with one another at once."""
_TOLD = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class Spots:
    """How strange the strangest region of each of N images is, and where it is.

    `evidence` float64 (N,), larger is stranger, NaN where nothing can be compared. `region` int64
    (N,) is a number in a grid of `side` a side, row by row from the upper left, -1 for none.
    """

    evidence: NDArray[np.float64]
    region: NDArray[np.int64]
    side: int


def find(
    patches: Patches,
    owners: NDArray[np.int64],
    *,
    most: int = MOST,
    progress: Progress = silent,
) -> Spots:
    """Compare every image with the other photos of its listing; `owners` int64 (N,) number these.

    The evidence of an image is the distance, as `apart` measures it, of the region that is farthest
    from any there. A listing of more than `most` photos is cut, in order, into parts of at most so
    many that are compared within, so that the work is O(N). Images without patches, or alone in
    their listing, have none.
    """
    count = len(patches.codes)
    evidence, region = np.full(count, np.nan), np.full(count, -1)
    rows = np.flatnonzero(patches.known)
    rows = rows[np.argsort(owners[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(owners[rows], prepend=-1))
    ends = np.append(starts[1:], len(rows)) if len(rows) else starts
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if number % _TOLD == 0:
            progress("spots", int(start), len(rows))
        for part in np.array_split(rows[start:end], -(-int(end - start) // most)):
            if len(part) < 2:
                continue
            far = apart(patches.of(part))
            region[part] = np.argmax(far, axis=1)
            evidence[part] = far.max(axis=1)
    return Spots(evidence, region, patches.side)


def apart(photos: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distance of each region to the nearest of another photo: float32 (n, R, D) -> (n, R), n > 1.

    Euclidean. What differs by less than rounding is 0.
    """
    count, regions, width = photos.shape
    flat = photos.reshape(-1, width)
    squares = np.einsum("nd,nd->n", flat, flat)
    gaps = squares[:, None] + squares[None, :] - 2.0 * (flat @ flat.T)
    gaps[gaps < 1e-5 * (squares[:, None] + squares[None, :])] = 0.0
    near = gaps.reshape(count, regions, count, regions).min(axis=3)
    near[np.arange(count), :, np.arange(count)] = np.inf
    found: NDArray[np.float32] = np.sqrt(near.min(axis=2))
    return found
