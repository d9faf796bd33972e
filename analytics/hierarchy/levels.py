"""Groups of clusters, and groups of groups: the levels of the tree above what was chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analytics.hierarchy.tree import Condensed

DEPTH = 2
"""Levels above the clusters: groups, and groups of groups."""


WIDER = 2.0
"""Times the mass of the finer cut that a wider one must have."""


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """`group` int64 (K,): the group of each cluster or group of the level below, 0 to G - 1.

    `node` int64 (G,): the cluster of the tree that the group is.
    """

    group: NDArray[np.int64]
    node: NDArray[np.int64]


def levels(tree: Condensed, chosen: NDArray[np.int64], *, depth: int = DEPTH) -> tuple[Level, ...]:
    """Cut the tree above the chosen clusters (K,), once a level; groups stand as they are met.

    The cut of a level is the best one through the ancestors of what the level below has, chosen as
    the clusters are, by excess of mass (Campello et al. 2013). What is grouped counts nothing, and
    the mass is rows times the logarithm of lambda from birth to split: of levels far apart in
    scale, the difference of lambda would see the densest alone. A wider cut must have twice the
    mass of a finer one, because the level above can still take it. The root, which is everything,
    is no group. What only the root joins with others is a group of its own; a level that joins
    nothing is left out, with all above.
    """
    found: list[Level] = []
    below = np.asarray(chosen, np.int64)
    for _ in range(depth):
        level = _cut(tree, below)
        if len(level.node) == len(below):
            break
        found.append(level)
        below = level.node
    return tuple(found)


def _cut(tree: Condensed, below: NDArray[np.int64]) -> Level:
    """The heaviest cut through the proper ancestors of `below`."""
    leaves = set(below.tolist())
    children: dict[int, list[int]] = {}
    known: set[int] = set()
    for own in below.tolist():
        node = own
        while node > 0 and node not in known:
            known.add(node)
            children.setdefault(int(tree.parent[node]), []).append(node)
            node = int(tree.parent[node])
    worth: dict[int, float] = {}
    taken: set[int] = set()
    for node in sorted(known, reverse=True):
        if node in leaves:
            worth[node] = 0.0
            continue
        parts = sum(worth[child] for child in children[node])
        split = float(tree.birth[children[node][0]])
        mass = float(tree.size[node]) * math.log(split / float(tree.birth[node]))
        if mass >= WIDER * parts:
            taken.add(node)
            parts = mass
        worth[node] = parts
    top: dict[int, int] = {0: 0}
    for node in sorted(known):
        above = top[int(tree.parent[node])]
        top[node] = above or (node if node in taken else 0)
    nodes: dict[int, int] = {}
    group = [nodes.setdefault(top[own] or own, len(nodes)) for own in below.tolist()]
    return Level(np.array(group, np.int64), np.array(list(nodes), np.int64))
