"""Places for rows that came after a layout was made: UMAP's transform, nothing else moves."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from analytics.compiler import compiled
from analytics.layouts import layout as optimiser
from analytics.layouts.layout import (
    LEAST_SCALE,
    NEGATIVES,
    SEARCH,
    TOLERANCE,
    draw32,
    mix64,
    power32,
)
from analytics.spread import spread

EPOCHS = 50
"""Epochs in which new rows find their place on a layout that stands still."""

RATE = 0.25
"""Rate at which the descent begins, a quarter of a whole layout's, as in umap-learn."""

SAME = 2e-3
"""Distance of unit vectors below which a row stands where its neighbour does: of equal ones the
float32 score alone leaves up to 5e-4."""


def transform(
    near: NDArray[np.int64],
    distances: NDArray[np.float32],
    placed: NDArray[np.float32],
    *,
    seed: int,
    min_dist: float = 0.1,
    epochs: int = EPOCHS,
    pushing: int | None = None,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Place M rows among those of a layout, float32 (N, dims): float32 (M, dims) in its units.

    `near` int64 (M, K) are the nearest rows of the layout, ascending by `distances` (M, K), -1 for
    none behind them. As in umap-learn (McInnes, Healy, Melville, 2018) a row begins at the mean of
    its neighbours, weighted by its membership to each, and follows the gradient for a few epochs;
    one that is equal to a neighbour stands where that does. Where a row goes follows from the seed,
    its neighbours and the layout: not from other rows that come with it, nor from `threads`. Only
    the first `pushing` rows of the layout push (None: all). A row without any neighbour goes to the
    middle of the layout.
    """
    count, added = len(placed), len(near)
    dims, pushing = placed.shape[1], count if pushing is None else pushing
    if not added or not count or not near.shape[1]:
        middle = placed.mean(axis=0) if count else np.zeros(dims)
        return np.tile(middle.astype(np.float32), (added, 1))
    held = near >= 0
    weights = memberships(distances, held)
    mass = weights.sum(axis=1, dtype=np.float64)
    begin = np.einsum("mk,mkd->md", weights.astype(np.float64), placed[near].astype(np.float64))
    begin = np.where(mass[:, None] > 0, begin / np.maximum(mass, 1e-300)[:, None], 0)
    begin[mass == 0] = placed.mean(axis=0, dtype=np.float64)
    same = held[:, 0] & (distances[:, 0] < SAME)
    begin[same] = placed[near[same, 0]]
    found = begin.astype(np.float32)
    moving = np.flatnonzero(~same & (mass > 0))
    if epochs > 0 and len(moving):
        shape = optimiser.curve(min_dist)
        rows = np.ascontiguousarray(near[moving])
        pull = np.ascontiguousarray(weights[moving] / weights[moving].max(axis=1)[:, None])
        moved = np.ascontiguousarray(found[moving])
        still = np.ascontiguousarray(placed, np.float32)
        keys = keys_of(rows, distances[moving], seed)

        def work(first: int, last: int) -> None:
            settle(
                rows, pull, still, moved, keys, pushing, 0, epochs, epochs, RATE,
                np.float32(shape.a), np.float32(shape.b), first, last,
            )  # fmt: skip

        spread(work, len(moving), threads=threads)
        found[moving] = moved
    return found


def memberships(distances: NDArray[np.float32], held: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Memberships of new rows to their neighbours: float32 (M, K), 0 where there is none.

    exp(-d / s), with s such that those behind the nearest sum to log2 K (UMAP, section 3.1, as
    umap-learn does it for rows that are not in the graph: the nearest counts by its distance, too).
    """
    wide = np.where(held, distances, np.inf).astype(np.float64)
    target = np.log2(np.maximum(held.sum(axis=1), 1))
    low, high = np.zeros(len(wide)), np.full(len(wide), np.inf)
    scale = np.ones(len(wide))
    for _ in range(SEARCH):
        mass = np.exp(-wide[:, 1:] / scale[:, None]).sum(axis=1)
        open_ = np.abs(mass - target) >= TOLERANCE
        if not open_.any():
            break
        over = mass > target
        high = np.where(open_ & over, scale, high)
        low = np.where(open_ & ~over, scale, low)
        middle = np.where(np.isinf(high), 2 * scale, (low + np.where(np.isinf(high), 0, high)) / 2)
        scale = np.where(open_, middle, scale)
    mean = np.where(held, distances, 0).sum(axis=1) / np.maximum(held.sum(axis=1), 1)
    scale = np.maximum(scale, np.maximum(LEAST_SCALE * mean, 1e-12))
    return np.where(held, np.exp(-wide / scale[:, None]), 0).astype(np.float32)


def keys_of(
    near: NDArray[np.int64], distances: NDArray[np.float32], seed: int
) -> NDArray[np.uint64]:
    """A number of each row, of its neighbours and how far they are: uint64 (M,)."""
    bits = np.ascontiguousarray(distances, np.float32).view(np.uint32).astype(np.uint64)
    every = (near.astype(np.uint64) << np.uint64(32)) ^ bits
    found = np.full(len(near), seed % 2**63, np.uint64)
    for column in every.T:
        found = (found ^ column) * np.uint64(0x9E3779B97F4A7C15)
        found ^= found >> np.uint64(29)
    return found


@partial(compiled, fast=True)
def settle(  # noqa: PLR0917 - compiled
    near: NDArray[np.int64],
    weights: NDArray[np.float32],
    placed: NDArray[np.float32],
    moved: NDArray[np.float32],
    keys: NDArray[np.uint64],
    pushing: int,
    begin: int,
    end: int,
    epochs: int,
    rate: float,
    a: np.float32,
    b: np.float32,
    first: int,
    last: int,
) -> None:
    """Move rows first to last by UMAP's sampled gradient, as in `layout`, among rows that stand.

    In epochs `begin` to `end` of `epochs`, in which the rate falls from `rate` to 0. `near` are
    rows of `placed`, of which the first `pushing` push; `weights` float32 in [0, 1], 0 for none.
    """
    dims = placed.shape[1]
    one, two, least = np.float32(1), np.float32(2), np.float32(1e-12)
    clip, unit = np.float32(4), np.float32(2.0**-24)
    for row in range(first, last):
        for epoch in range(begin, end):
            step_rate = np.float32(rate * (1 - epoch / epochs))
            for at in range(near.shape[1]):
                weight = weights[row, at]
                phase = (
                    np.float32(draw32(np.uint32(at), np.uint32(0x51ED27)) >> np.uint32(8)) * unit
                )
                before = np.int32(np.float32(epoch) * weight + phase)
                if np.int32(np.float32(epoch + 1) * weight + phase) == before:
                    continue
                other, gap = near[row, at], np.float32(0)
                for axis in range(dims):
                    step = moved[row, axis] - placed[other, axis]
                    gap += step * step
                if gap > least:
                    raised = power32(gap, b)
                    grade = -two * a * b * raised / (gap * (one + a * raised))
                    for axis in range(dims):
                        step = grade * (moved[row, axis] - placed[other, axis])
                        moved[row, axis] += step_rate * min(max(step, -clip), clip)
                key = np.uint32(mix64(keys[row] ^ np.uint64(epoch * near.shape[1] + at)))
                for number in range(NEGATIVES):
                    drawn = np.uint64(draw32(key, np.uint32(number)))
                    other, gap = (
                        np.int64((drawn * np.uint64(pushing)) >> np.uint64(32)),
                        np.float32(0),
                    )
                    for axis in range(dims):
                        step = moved[row, axis] - placed[other, axis]
                        gap += step * step
                    raised = power32(gap + least, b)
                    grade = two * b / ((np.float32(0.001) + gap) * (one + a * raised))
                    for axis in range(dims):
                        step = grade * (moved[row, axis] - placed[other, axis])
                        moved[row, axis] += step_rate * min(max(step, -clip), clip)
