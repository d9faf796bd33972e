"""Places for rows that came after a layout was made: UMAP's transform, nothing else moves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analytics import layout as optimiser
from analytics.projection import PLACE_EPOCHS

RATE = 0.25
"""Rate at which the descent begins, a quarter of a whole layout's, as in umap-learn."""

SAME = 2e-3
"""Distance of unit vectors below which a row stands where its neighbour does: of equal ones the
float32 score alone leaves up to 5e-4."""

_SEARCH = 64
_TOLERANCE = 1e-5
_LEAST_SCALE = 1e-3


def transform(
    near: NDArray[np.int64],
    distances: NDArray[np.float32],
    placed: NDArray[np.float32],
    *,
    seed: int,
    min_dist: float = 0.1,
    epochs: int = PLACE_EPOCHS,
) -> NDArray[np.float32]:
    """Place M rows among those of a layout, float32 (N, dims): float32 (M, dims) in its units.

    `near` int64 (M, K) are the nearest rows of the layout, ascending by `distances` (M, K), -1 for
    none behind them. As in umap-learn (McInnes, Healy, Melville, 2018) a row begins at the mean of
    its neighbours, weighted by its membership to each, and follows the gradient for a few epochs;
    one that is equal to a neighbour stands where that does. Seeded; a row without any neighbour
    goes to the middle of the layout.
    """
    count, added = len(placed), len(near)
    dims = placed.shape[1]
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
    moving = ~same & (mass > 0)
    edges = optimiser.Edges(
        np.r_[np.zeros(count, np.int64), 0, np.cumsum((weights > 0).sum(axis=1))].astype(np.int64),
        near[weights > 0].astype(np.int32),
        weights[weights > 0],
    )
    moved = optimiser.optimise(
        edges,
        np.concatenate([placed, begin.astype(np.float32)]),
        seed=seed,
        shape=optimiser.curve(min_dist),
        epochs=epochs,
        rate=RATE,
        speeds=np.r_[np.zeros(count), moving].astype(np.float32),
        threads=1,
        blocks=1,
    )
    return moved[count:]


def memberships(distances: NDArray[np.float32], held: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Memberships of new rows to their neighbours: float32 (M, K), 0 where there is none.

    exp(-d / s), with s such that those behind the nearest sum to log2 K (UMAP, section 3.1, as
    umap-learn does it for rows that are not in the graph: the nearest counts by its distance, too).
    """
    wide = np.where(held, distances, np.inf).astype(np.float64)
    target = np.log2(np.maximum(held.sum(axis=1), 1))
    low, high = np.zeros(len(wide)), np.full(len(wide), np.inf)
    scale = np.ones(len(wide))
    for _ in range(_SEARCH):
        mass = np.exp(-wide[:, 1:] / scale[:, None]).sum(axis=1)
        open_ = np.abs(mass - target) >= _TOLERANCE
        if not open_.any():
            break
        over = mass > target
        high = np.where(open_ & over, scale, high)
        low = np.where(open_ & ~over, scale, low)
        middle = np.where(np.isinf(high), 2 * scale, (low + np.where(np.isinf(high), 0, high)) / 2)
        scale = np.where(open_, middle, scale)
    mean = np.where(held, distances, 0).sum(axis=1) / np.maximum(held.sum(axis=1), 1)
    scale = np.maximum(scale, np.maximum(_LEAST_SCALE * mean, 1e-12))
    return np.where(held, np.exp(-wide / scale[:, None]), 0).astype(np.float32)
