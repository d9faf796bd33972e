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

import threading
from collections.abc import Callable, Iterator, Sequence
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
_EVERY = 5_000
"""Images between two calls of progress."""
_BLOCK = 64
"""Parts whose products are added up before those of others."""

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

    A region's distance is that of `apart`, after `whitening`; its mean over the region and those
    `around` it is compared with the median of the picture, as the logarithm of their ratio.
    `placed` makes of that how unusual it is at its place; the evidence is that of the strangest
    region. A listing of more than `most` photos is cut, in order, into parts of at most so many
    that are compared within, so that the work is O(N). Images without patches, or alone in their
    listing, have none. The same for any number of threads (None: all cores).
    """
    count, side = len(patches.codes), patches.side
    evidence, region = np.full(count, np.nan), np.full(count, -1)
    parts = list(_parts(patches, owners, most))
    if not parts:
        return Spots(evidence, region, side)
    rows = np.concatenate(parts)
    starts = np.cumsum([0, *map(len, parts)])
    told = _Told(progress, 2 * len(rows))
    white = whitening(patches, parts, threads=threads, note=told.note)
    ratios = np.empty((len(rows), side, side), np.float16)

    def compare(first: int, last: int) -> None:
        for number in range(first, last):
            told.note(len(parts[number]))
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


class _Told:
    """Tells of images, counted by several threads."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total = progress, total
        self._lock = threading.Lock()
        self._done = 0

    def note(self, images: int) -> None:
        """So many more are done."""
        with self._lock:
            before, self._done = self._done, self._done + images
            if before == 0 or before // _EVERY != self._done // _EVERY:
                self._progress("spots", before, self._total)


def whitening(
    patches: Patches,
    parts: Sequence[NDArray[np.int64]],
    *,
    threads: int | None = None,
    note: Callable[[int], None] = lambda _: None,
) -> Floats:
    """What makes differences of regions and their nearest of the next photo equally wide: (D, D).

    float32; the mean of their squared lengths becomes 1. Directions in which hardly anything
    differs count as the least wide that are told apart; where nothing differs nothing is changed.
    `note` hears of images. The same for any number of threads.
    """
    width = patches.codes.shape[2]
    blocks = -(-len(parts) // _BLOCK)
    products = np.zeros((blocks, width, width))

    def measure(first: int, last: int) -> None:
        for block in range(first, last):
            for part in parts[block * _BLOCK : (block + 1) * _BLOCK]:
                note(len(part))
                photos = patches.of(part)
                for one, other in zip(photos, np.roll(photos, -1, axis=0), strict=True):
                    gaps = np.einsum("nd,nd->n", other, other) - 2.0 * (one @ other.T)
                    left = (one - other[gaps.argmin(axis=1)]).astype(np.float64)
                    products[block] += left.T @ left

    spread(measure, blocks, threads=threads)
    compared = sum(map(len, parts)) * patches.codes.shape[1]
    variances, directions = np.linalg.eigh(products.sum(axis=0) / compared)
    if not variances[-1] > 0:
        return np.eye(width, dtype=np.float32)
    variances = np.maximum(variances, _NARROW * variances[-1])
    found: Floats = (directions / np.sqrt(width * variances)).astype(np.float32)
    return found


def apart(photos: Floats) -> Floats:
    """Distance of each region to the nearest of another photo: float32 (n, R, D) -> (n, R), n > 1.

    Euclidean. What differs by less than rounding is 0.
    """
    # Rounding goes with the size of numbers: far from 0 it would hide what differs.
    photos = photos - photos.mean(axis=(0, 1))
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
    """Mean over each region and the eight around it: float32 (n, S, S) -> (n, S, S).

    Beyond a border lies what is at the border.
    """
    side = values.shape[1]
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)), mode="edge")
    shifted = [padded[:, y : y + side, x : x + side] for y in range(3) for x in range(3)]
    found: Floats = np.mean(shifted, axis=0, dtype=np.float32)
    return found


def placed(values: NDArray[np.float16]) -> Floats:
    """How far values are from the median of their place, in steps to the usual most of it.

    float16 (n, S, S) -> float32 (n, S^2). A place is known by how far it is from the nearest border
    above or below, and from the nearest at the sides.
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
