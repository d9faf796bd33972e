"""Images with a strange spot: a part of the picture that no other photo of the listing shows.

After PatchCore (Roth et al., CVPR 2022, arXiv:2106.08265), which takes a region for as strange as
it is far from the nearest in a bank of regions: here the bank of a photo is the other photos of its
listing, which show the same thing from elsewhere. Distances are counted in what usually differs
between such regions, and a distance in what is usual at that place of a picture, as PaDiM
(Defard et al., ICPR 2020, arXiv:2011.08785) compares place by place: photos of one thing overlap
in the middle, and corners show what no other does. docs/decisions/0009-regional-outliers.md and
0018-regions-of-colour.md have the figures, also of banks of all other listings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from analytics.evidence.patches import Patches
from analytics.spread import spread
from cql.progress import Progress, silent

MOST = 32
"""Photos of a listing that are compared with one another at once."""

FLOOR = 0.1
"""Added to distances, of which one is usual, before they are divided: copies differ by rounding."""

USUAL = 0.95
"""Quantile of a place that counts as one step from its median."""

_NARROW = 1e-3
"""Least share of the widest direction's variance by which another one is divided."""
_TOLD = 1_000

Floats = NDArray[np.float32]


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
    threads: int | None = None,
    progress: Progress = silent,
) -> Spots:
    """Compare every image with the other photos of its listing; `owners` int64 (N,) number these.

    A region's distance is that of `apart`, after `whitening`, its mean over the region and those
    around it, as a share of the median of the picture. `placed` makes of it how unusual that is at
    its place; the evidence is that of the strangest region. A listing of more than `most` photos is
    cut, in order, into parts of at most so many that are compared within, so that the work is O(N).
    Images without patches, or alone in their listing, have none. The same for any number of
    threads (None: all cores).
    """
    count, side = len(patches.codes), patches.side
    evidence, region = np.full(count, np.nan), np.full(count, -1)
    parts = list(_parts(patches, owners, most))
    if not parts:
        return Spots(evidence, region, side)
    rows = np.concatenate(parts)
    starts = np.cumsum([0, *map(len, parts)])
    white = whitening(patches, parts)
    ratios = np.empty((len(rows), side, side), np.float16)

    def compare(first: int, last: int) -> None:
        for number in range(first, last):
            if number % _TOLD == 0:
                progress("spots", int(starts[number]), len(rows))
            photos = patches.of(parts[number])
            far = apart(photos @ white).reshape(-1, side, side)
            middle = np.median(far, axis=(1, 2), keepdims=True)
            ratios[starts[number] : starts[number + 1]] = np.log(
                (around(far) + FLOOR) / (middle + FLOOR)
            )

    spread(compare, len(parts), threads=threads)
    unusual = placed(ratios)
    region[rows] = unusual.argmax(axis=1)
    evidence[rows] = unusual.max(axis=1)
    return Spots(evidence, region, side)


def _parts(patches: Patches, owners: NDArray[np.int64], most: int) -> Iterator[NDArray[np.int64]]:
    """Rows that are compared with one another, two or more."""
    rows = np.flatnonzero(patches.known)
    rows = rows[np.argsort(owners[rows], kind="stable")]
    cuts = np.flatnonzero(np.diff(owners[rows])) + 1
    for listing in np.split(rows, cuts):
        for part in np.array_split(listing, max(1, -(-len(listing) // most))):
            if len(part) > 1:
                yield part


def whitening(patches: Patches, parts: list[NDArray[np.int64]]) -> Floats:
    """What makes differences of regions and their nearest of the next photo equally wide: (D, D).

    float32, in units of the usual distance: the root of D. Directions in which nothing differs
    count as the least wide that are told apart; where nothing differs at all nothing is changed.
    """
    width = patches.codes.shape[2]
    products, seen = np.zeros((width, width)), 0
    for part in parts:
        photos = patches.of(part)
        for one, other in zip(photos, np.roll(photos, -1, axis=0), strict=True):
            gaps = _squares(other)[None, :] - 2.0 * (one @ other.T)
            left = (one - other[gaps.argmin(axis=1)]).astype(np.float64)
            products += left.T @ left
            seen += len(left)
    variances, directions = np.linalg.eigh(products / seen)
    if not variances[-1] > 0:
        return np.eye(width, dtype=np.float32)
    variances = np.maximum(variances, _NARROW * variances[-1])
    found: Floats = (directions / np.sqrt(width * variances)).astype(np.float32)
    return found


def apart(photos: Floats) -> Floats:
    """Distance of each region to the nearest of another photo: float32 (n, R, D) -> (n, R), n > 1.

    Euclidean. What differs by less than rounding is 0.
    """
    squares = np.einsum("nrd,nrd->nr", photos, photos)
    doubled = -2.0 * photos
    near = np.full(squares.shape, np.inf, np.float32)
    # Two photos at a time: what lies between them fits into the cache of a core.
    for one, other in combinations(range(len(photos)), 2):
        gaps = doubled[one] @ photos[other].T
        gaps += squares[one][:, None]
        gaps += squares[other]
        np.minimum(near[one], gaps.min(axis=1), out=near[one])
        np.minimum(near[other], gaps.min(axis=0), out=near[other])
    near[near < 2e-5 * squares] = 0.0
    found: Floats = np.sqrt(near)
    return found


def around(values: Floats) -> Floats:
    """Mean over each region and the up to eight around it: float32 (n, S, S) -> (n, S, S)."""
    side = values.shape[1]
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)), mode="edge")
    shifted = [padded[:, y : y + side, x : x + side] for y in range(3) for x in range(3)]
    found: Floats = np.mean(shifted, axis=0, dtype=np.float32)
    return found


def placed(values: NDArray[np.float16]) -> Floats:
    """How far values are from the median of their place, in steps to the usual most of it.

    float16 (n, S, S) -> float32 (n, S^2). A place is known by how far it is from the nearest border
    above or below, and from the nearest at the sides: (S / 2)^2 of them.
    """
    count, side, _ = values.shape
    border = np.minimum(np.arange(side), side - 1 - np.arange(side))
    place = (border[:, None] * side + border[None, :]).ravel()
    flat = values.reshape(count, -1)
    found = np.empty(flat.shape, np.float32)
    for each in np.unique(place):
        own = flat[:, place == each].astype(np.float32)
        middle, most = np.quantile(own, [0.5, USUAL])
        step = most - middle
        found[:, place == each] = (own - middle) / (step if step > 0 else 1.0)
    return found


def _squares(values: Floats) -> Floats:
    found: Floats = np.einsum("nd,nd->n", values, values)
    return found
