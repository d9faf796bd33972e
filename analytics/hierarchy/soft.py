"""Soft membership: how much of every row belongs to each of the clusters nearest to it.

The shares are those of HDBSCAN's soft clustering (McInnes, Healy, Astels, 2017: `hdbscan`,
"How soft clustering works"): the inverse distance to a cluster's nearest exemplar, times
exp(-M / h) with h the lambda at which the row's cluster and the other one join and M the largest in
the row's own, normalised, times the chance to be in any cluster at all. Only the clusters that are
nearest by exemplars compete.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analytics.compiler import compiled
from analytics.hierarchy.tree import Condensed
from analytics.spread import spread

KEPT = 3
"""Clusters that are kept of each row."""

EXEMPLARS = 8
"""Most exemplars of a cluster that distances are measured to."""

LEAST = np.float32(0.005)
"""A share below half a percent is none."""

NEAR = 8
"""Clusters that compete for a row, its own included."""


@dataclass(frozen=True, slots=True, eq=False)
class Soft:
    """Clusters of largest share of each row: `clusters` int32 (N, 3), `shares` float32 (N, 3).

    Shares fall and sum to at most 1, what is left belongs to none; -1 and 0 where there are fewer.
    """

    clusters: NDArray[np.int32]
    shares: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Late:
    """Rows that came after the tree was grown: `points` float32 (M, E), and how they lie in it.

    `owner` int64 (M,), the cluster of the tree that each would leave at `level` float64 (M,).
    """

    points: NDArray[np.float32]
    owner: NDArray[np.int64]
    level: NDArray[np.float64]


def soft(
    space: NDArray[np.float32],
    tree: Condensed,
    chosen: NDArray[np.int64],
    inside: NDArray[np.int64],
    *,
    late: Late | None = None,
    threads: int | None = None,
) -> Soft:
    """Share float32 (N, E) among the chosen clusters (K,) of the tree, numbered as they stand.

    `inside` int64 (C,): the chosen cluster that each cluster of the tree is or lies in, else -1.
    `late`: rows that are shared in place of those of the space.
    """
    asked = late or Late(space, tree.owner, tree.level)
    rows, count = len(asked.points), len(chosen)
    clusters, shares = np.full((rows, KEPT), -1, np.int32), np.zeros((rows, KEPT), np.float32)
    if not count or not rows:
        return Soft(clusters, shares)
    held, start = _exemplars(tree, chosen, inside)
    number = np.full(len(tree.parent), -1)
    number[chosen] = np.arange(count)
    up = _jumps(tree.parent)
    enter, leave = _tour(tree.parent)
    points = np.ascontiguousarray(space[held].T, np.float64)

    def work(first: int, last: int) -> None:
        _soft(
            asked.points, points, start, asked.owner, asked.level, tree.birth, tree.death,
            number[inside], chosen, up, enter, leave, first, last, clusters, shares,
        )  # fmt: skip

    spread(work, rows, threads=threads)
    return Soft(clusters, shares)


def _exemplars(
    tree: Condensed, chosen: NDArray[np.int64], inside: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that stand for each chosen cluster, one cluster after the other, and where each starts.

    As in hdbscan the rows that stay longest in the leaves below a cluster; of more than
    `EXEMPLARS` every so many, leaf by leaf, so that all parts of the cluster have some.
    """
    leaf = np.ones(len(tree.parent), bool)
    leaf[tree.parent[1:]] = False
    own = tree.owner
    last = np.flatnonzero(leaf[own] & (inside[own] >= 0) & (tree.level >= tree.death[own]))
    # Clusters stand in the order of `chosen`, which need not be that of the tree.
    place = np.full(len(tree.parent), -1)
    place[chosen] = np.arange(len(chosen))
    group = place[inside[own[last]]]
    order = np.lexsort((last, own[last], group))
    last, group = last[order], group[order]
    held = np.bincount(group, minlength=len(chosen))
    start = np.r_[0, np.cumsum(held)]
    at = np.arange(len(last)) - start[group]
    step = at * EXEMPLARS // held[group]
    before = (at - 1) * EXEMPLARS // held[group]
    kept = (held[group] <= EXEMPLARS) | (step != before)
    return last[kept], np.r_[0, np.cumsum(np.minimum(held, EXEMPLARS))]


def _jumps(parent: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ancestors 1, 2, 4, ... levels up, int64 (levels, C); the root is its own."""
    depth = np.zeros(len(parent), np.int64)
    _depth(parent, depth)
    found = [np.maximum(parent, 0)]
    while 2 ** len(found) <= depth.max():
        found.append(found[-1][found[-1]])
    return np.stack(found)


def _tour(parent: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers such that a is b or above it where enter[a] <= enter[b] < leave[a]."""
    held, enter = np.ones(len(parent), np.int64), np.zeros(len(parent), np.int64)
    _visit(parent, held, enter)
    return enter, enter + held


@compiled
def _depth(parent: NDArray[np.int64], depth: NDArray[np.int64]) -> None:
    for own in range(1, len(parent)):
        depth[own] = depth[parent[own]] + 1


@compiled
def _visit(parent: NDArray[np.int64], held: NDArray[np.int64], enter: NDArray[np.int64]) -> None:
    for own in range(len(parent) - 1, 0, -1):
        held[parent[own]] += held[own]
    free = np.ones(len(parent), np.int64)
    for own in range(1, len(parent)):
        up = parent[own]
        enter[own] = enter[up] + free[up]
        free[up] += held[own]


@compiled
def _soft(  # noqa: PLR0917 - compiled
    space: NDArray[np.float32],
    points: NDArray[np.float64],
    start: NDArray[np.int64],
    owner: NDArray[np.int64],
    level: NDArray[np.float64],
    birth: NDArray[np.float64],
    death: NDArray[np.float64],
    number: NDArray[np.int64],
    chosen: NDArray[np.int64],
    up: NDArray[np.int64],
    enter: NDArray[np.int64],
    leave: NDArray[np.int64],
    first: int,
    last: int,
    clusters: NDArray[np.int32],
    shares: NDArray[np.float32],
) -> None:
    gaps = np.empty(points.shape[1])
    near, far = np.empty(NEAR, np.int64), np.empty(NEAR)
    height, share = np.empty(NEAR), np.empty(NEAR)
    for row in range(first, last):
        gaps[:] = 0.0
        for d in range(space.shape[1]):
            value = np.float64(space[row, d])
            for at in range(points.shape[1]):
                gap = points[d, at] - value
                gaps[at] += gap * gap
        own = owner[row]
        held = _closest(gaps, start, number[own], near, far)
        best, total = 0, 0.0
        for at in range(held):
            height[at] = _height(own, level[row], chosen[near[at]], birth, up, enter, leave)
            # A row at an exemplar's very place belongs there: 1e-9 keeps the quotient finite.
            grip = np.exp(-death[own] / height[at]) if height[at] > 0 else 0.0
            share[at] = grip / (np.sqrt(far[at]) + 1e-9)
            total += share[at]
            if height[at] > height[best]:
                best = at
        ceiling = max(death[chosen[near[best]]], level[row])
        some = min(1.0, height[best] / ceiling) if ceiling > 0 else 1.0
        if total > 0:
            share[:held] *= some / total
            _keep(near, share, held, clusters[row], shares[row])


@compiled
def _closest(
    gaps: NDArray[np.float64],
    start: NDArray[np.int64],
    own: int,
    near: NDArray[np.int64],
    far: NDArray[np.float64],
) -> int:
    """The clusters nearest by their exemplars, the row's own always; how many there are."""
    held = 0
    for other in range(len(start) - 1):
        gap = gaps[start[other] : start[other + 1]].min()
        if other == own:
            # Before all others, and taken back below.
            gap = -1.0 - gap
        if held == NEAR and gap >= far[held - 1]:
            continue
        at = held if held < NEAR else NEAR - 1
        while at and far[at - 1] > gap:
            near[at], far[at] = near[at - 1], far[at - 1]
            at -= 1
        near[at], far[at] = other, gap
        held = min(held + 1, NEAR)
    if far[0] < 0:
        far[0] = -1.0 - far[0]
    return held


@compiled
def _keep(
    near: NDArray[np.int64],
    share: NDArray[np.float64],
    held: int,
    clusters: NDArray[np.int32],
    shares: NDArray[np.float32],
) -> None:
    """The largest shares, falling; ties by the number of the cluster."""
    for place in range(min(KEPT, held)):
        top = place
        for at in range(place + 1, held):
            if share[at] > share[top] or (share[at] == share[top] and near[at] < near[top]):
                top = at
        near[place], near[top] = near[top], near[place]
        share[place], share[top] = share[top], share[place]
        if np.float32(share[place]) >= LEAST:
            clusters[place], shares[place] = near[place], share[place]


@compiled
def _height(  # noqa: PLR0917 - compiled
    own: int,
    level: float,
    other: int,
    birth: NDArray[np.float64],
    up: NDArray[np.int64],
    enter: NDArray[np.int64],
    leave: NDArray[np.int64],
) -> float:
    """Lambda at which a row of the cluster `own` and the cluster `other` join."""
    inside = enter[other] <= enter[own] < leave[other]
    if inside or enter[own] <= enter[other] < leave[own]:
        return level
    # The topmost ancestor of `own` that does not hold `other` split off where the two part.
    for jump in range(len(up) - 1, -1, -1):
        higher = up[jump, own]
        if not (enter[higher] <= enter[other] < leave[higher]):
            own = higher
    return float(birth[own])
