"""Evidence that a row is strange, as tail probabilities, and how several are combined.

Each kind of evidence is a number per row, larger is stranger, on a scale of its own. Its tail
probability says how often the bulk of the collection reaches that far, which makes kinds
comparable; docs/decisions/0005-outlier-evidence.md has the choice and its figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BULK = (0.75, 0.95)
"""Quantiles between which the tail is fitted: planted or real outliers are fewer than the rest."""
LEAST = 1e-300


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


def combine(tails: Sequence[Floats]) -> Floats:
    """One probability of several, (N,): Cauchy combination (Liu and Xie, JASA 2020).

    It holds for evidence that depends on one another, as these do, and is led by the smallest.
    """
    if not tails:
        return np.empty(0)
    stacked = np.clip(np.stack(tails), LEAST, 1.0 - 1e-12)
    # tan((1/2 - p) pi) is 1 / (pi p) for small p, where the difference would lose its digits.
    value = np.where(
        stacked < 1e-8,
        1.0 / (np.pi * stacked),
        np.tan((0.5 - np.maximum(stacked, 1e-8)) * np.pi),
    ).mean(axis=0)
    small = 1.0 / (np.pi * np.maximum(value, 1.0))
    return np.where(value > 1e8, small, 0.5 - np.arctan(value) / np.pi)


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
