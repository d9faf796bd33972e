"""Evidence that a row is strange, as tail probabilities, and how several are combined.

Each kind of evidence is a number per row, larger is stranger, on a scale of its own. Its tail
probability says how often the bulk of the collection reaches that far, which makes kinds
comparable; docs/decisions/0007-outlier-evidence.md has the choice and its figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cql.progress import Progress, silent

Floats = NDArray[np.float64]

BULK = (0.75, 0.95)
"""Quantiles between which the tail is fitted: planted or real outliers are fewer than the rest."""
LEAST = 1e-300

_HEARD = 2_000
"""Listings between two calls of progress, and with it a cancel."""


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """What was measured of N pictures: float (N,) each, NaN where a picture has no measures."""

    sharpness: NDArray[np.floating]
    brightness: NDArray[np.floating]
    contrast: NDArray[np.floating]
    blank: NDArray[np.floating]
    colour: NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class Facets:
    """Categories of N rows by attribute: int64 (N,) codes, -1 for none, into `values`."""

    codes: Mapping[str, NDArray[np.int64]]
    values: Mapping[str, Sequence[str]]


def tail(values: NDArray[np.floating]) -> Floats:
    """Upper tail probability of each value, (N,) in (0, 1]; 1 where the value is NaN.

    Up to the 0.95 quantile it is the share of rows at or above the value. Beyond, it falls
    exponentially at the rate at which the bulk falls between the 0.75 and the 0.95 quantile: the
    law that excesses of a light-tailed quantity approach (Pickands, 1975, with shape 0). What a
    few outliers do to the far tail has no influence on the fit.
    """
    found = np.ones(len(values))
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return found
    own = np.asarray(values, np.float64)[known]
    ordered = np.sort(own)
    share = 1.0 - np.searchsorted(ordered, own, side="left") / len(own)
    low, high = np.quantile(ordered, BULK)
    rate = (high - low) / np.log((1.0 - BULK[0]) / (1.0 - BULK[1]))
    if rate > 0.0:
        beyond = own > high
        share[beyond] = (1.0 - BULK[1]) * np.exp(-(own[beyond] - high) / rate)
    found[known] = np.maximum(share, LEAST)
    return found


def bounded_tail(values: NDArray[np.floating]) -> Floats:
    """`tail` of a quantity whose size says little: the share of rows at or above each value alone.

    Of rows that have one: 1 where it is NaN.
    """
    found = np.ones(len(values))
    known = np.flatnonzero(~np.isnan(values))
    if len(known):
        own = values[known]
        found[known] = 1.0 - np.searchsorted(np.sort(own), own, side="left") / len(own)
    return found


def combine(tails: Sequence[Floats], weights: Sequence[float] | None = None) -> Floats:
    """One probability of several, (N,) in (0, 1]: their harmonic mean (Wilson, PNAS 2019).

    It holds for evidence that depends on one another, as these do, is led by the smallest, and a
    probability near 1 takes nothing away. `weights` are equal unless given.
    """
    if not tails:
        return np.empty(0)
    given = np.ones(len(tails)) if weights is None else np.asarray(weights, np.float64)
    stacked = np.clip(np.stack(tails), LEAST, 1.0)
    mean: Floats = given.sum() / (given[:, None] / stacked).sum(axis=0)
    return mean


def together(tails: Sequence[Floats]) -> Floats:
    """The tail probability of a sum of evidence, (N,): Fisher's statistic, calibrated by `tail`.

    Several that are each a little unlikely are unlikely together. How much they depend on one
    another is in the collection's own distribution of the sum.
    """
    if not tails:
        return np.empty(0)
    return tail(-np.log(np.clip(np.stack(tails), LEAST, 1.0)).sum(axis=0))


def sibling_evidence(
    vectors: NDArray[np.float32],
    owners: NDArray[np.int64],
    *,
    most: int = 64,
    progress: Progress = silent,
) -> Floats:
    """How unlike the most similar photo of its own listing each row is, (N,); NaN for the only one.

    The Euclidean distance of unit vectors float32 (N, D). In a listing of more than `most` photos
    it is the distance to the next `most` in order, so that the work is O(N).
    """
    found = np.full(len(owners), np.nan)
    if not len(owners):
        return found
    order = np.argsort(owners, kind="stable")
    starts = np.flatnonzero(np.diff(owners[order], prepend=-1))
    ends = np.append(starts[1:], len(order))
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if number % _HEARD == 0:
            progress("outliers", int(start), len(order), "photos of one listing")
        for low in range(start, end, most):
            rows = order[low : min(low + most, end)]
            if len(rows) < 2:
                continue
            likeness = vectors[rows] @ vectors[rows].T
            np.fill_diagonal(likeness, -1.0)
            found[rows] = np.sqrt(np.maximum(2.0 - 2.0 * likeness.max(axis=1), 0.0))
    return found


def photo_evidence(looks: Looks) -> dict[str, Floats]:
    """How strange a picture is as a photo, by kind: blurred, dark, overexposed, blank.

    Sharpness counts relative to the contrast: a picture of low contrast is not blurred for that.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        power = np.maximum(np.square(looks.contrast.astype(np.float64) * 255.0), 1e-3)
        fine = np.log10(np.maximum(looks.sharpness.astype(np.float64), 1e-3) / power)
        spread = np.log10(np.maximum(looks.contrast.astype(np.float64), 1e-3))
    light = looks.brightness.astype(np.float64)
    return {
        "blurred": -fine,
        "dark": -np.log10(np.maximum(light, 1e-3)),
        "overexposed": light,
        "blank": -spread,
        "one tone": looks.blank.astype(np.float64),
    }


def category_evidence(
    rows: NDArray[np.int64],
    owners: NDArray[np.int64],
    facets: Facets,
    *,
    least: float = 0.6,
    progress: Progress = silent,
) -> Disagreement:
    """Where attributes say one thing and neighbours another, over N rows.

    `rows` int64 (N, K) are neighbours; those of the row's own owner (`owners` int64 (N,): listing
    numbers) have its attributes and do not count. The strength is log((t + e) / (s + e)) for the
    share t of the commonest value among the others and s of the row's own, e = 1 / K, where t is
    at least `least`; of several attributes the strongest counts.
    """
    count, k = rows.shape
    strength, which = np.zeros(count), np.full(count, -1)
    told, share = np.full(count, -1), np.zeros(count)
    names = tuple(facets.codes)
    for number, name in enumerate(names if k else ()):
        progress("outliers", number, len(names), f"attribute {name}")
        codes = facets.codes[name]
        near = codes[rows]
        near[owners[rows] == owners[:, None]] = -1
        common, most = _mode(near)
        voters = (near >= 0).sum(axis=1)
        same = (near == codes[:, None]).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            top, own = most / voters, same / voters
        # Few voters agree by chance.
        good = (voters >= max(3, k // 3)) & (codes >= 0) & (top >= least) & (common != codes)
        value = np.log((top + 1.0 / k) / (own + 1.0 / k), where=good, out=np.zeros(count))
        better = good & (value > strength)
        strength[better], which[better] = value[better], number
        told[better], share[better] = common[better], top[better]
    return Disagreement(strength, which, told, share, names)


@dataclass(frozen=True, slots=True, eq=False)
class Disagreement:
    """`strength` float64 (N,), 0 for none; `which` int64 (N,) into `names`, -1 for none.

    `told` int64 (N,) is the code of the value that the share `share` of the neighbours has.
    """

    strength: Floats
    which: NDArray[np.int64]
    told: NDArray[np.int64]
    share: Floats
    names: tuple[str, ...]


def _mode(codes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Commonest code of each row that is not -1, and how often it comes; ties: the smallest."""
    ordered = np.sort(codes, axis=1)
    count = len(codes)
    best, found = np.zeros(count, np.int64), np.full(count, -1)
    run = np.zeros(count, np.int64)
    before = np.full(count, -2)
    for column in ordered.T:
        run = np.where(column == before, run + 1, 1)
        better = (run > best) & (column >= 0)
        best[better], found[better] = run[better], column[better]
        before = column
    return found, best
