"""The hierarchy of HDBSCAN: single linkage, condensed for any size, clusters of most mass.

From a spanning tree of mutual reachability to labels, memberships and outlier scores as in
Campello, Moulavi, Zimek, Sander (2015), with the condensed tree of McInnes and Healy (2017). A
level of the tree is lambda = 1 / distance. Where the distance is 0, lambda is that of the
smallest distance above 0, and nothing is split.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analytics.compiler import compiled
from analytics.hierarchy.spanning import Edges

SIZES = 40
"""Sizes at which stability is shown, at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Linkage:
    """Single linkage of N rows by N - 1 merges of rising distance.

    Merge i joins `left` and `right` int32 (N - 1,), rows or merges counted from N on, at
    `distance` float64 into `size` int32 rows.
    """

    left: NDArray[np.int32]
    right: NDArray[np.int32]
    distance: NDArray[np.float64]
    size: NDArray[np.int32]

    @property
    def rows(self) -> int:
        """Number of rows; one row, or none, has no merges."""
        return len(self.left) + 1

    @property
    def most(self) -> float:
        """Lambda of the smallest distance above 0; 0 where there is none."""
        above = self.distance[self.distance > 0]
        return float(1.0 / above[0]) if len(above) else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Condensed:
    """The tree without the smallest splits: C clusters, the root is 0.

    `parent` int64 (C,), smaller than the cluster's own number, -1 for the root; `birth` float64,
    the lambda at which it split off; `death`, the largest lambda at which anything leaves it;
    `size` int64 at its birth; `mass` float64, its excess of mass (stability). Each row leaves
    the cluster `owner` int64 (N,) at `level` float64 (N,).
    """

    parent: NDArray[np.int64]
    birth: NDArray[np.float64]
    death: NDArray[np.float64]
    size: NDArray[np.int64]
    mass: NDArray[np.float64]
    owner: NDArray[np.int64]
    level: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """What each size of `sizes` (S,) ascending gives: the plot that shows where clusters break.

    `clusters` (S,); `noise`, share of rows in none; `mass`, excess of mass of the clusters per
    row; `same` (S,), the adjusted Rand index between a size and the next larger one (noise counts
    as one cluster; the last is 1).
    """

    sizes: NDArray[np.int64]
    clusters: NDArray[np.int64]
    noise: NDArray[np.float64]
    mass: NDArray[np.float64]
    same: NDArray[np.float64]


def link(edges: Edges, rows: int) -> Linkage:
    """Merge rows along a spanning tree, shortest edge first; ties as the edges stand."""
    if len(edges.length) != max(0, rows - 1):
        raise ValueError(
            f"a spanning tree of {rows} rows has {rows - 1} edges: {len(edges.length)}"
        )
    order = np.argsort(edges.length, kind="stable")
    count = len(order)
    left, right = np.empty(count, np.int32), np.empty(count, np.int32)
    size = np.empty(count, np.int32)
    _link(edges.one[order], edges.other[order], left, right, size)
    return Linkage(left, right, edges.length[order], size)


def condense(linkage: Linkage, least: int) -> Condensed:
    """Drop the splits that part fewer than `least` rows (2 or more)."""
    least = max(2, int(least))
    rows = linkage.rows
    room = 2 * (rows // least) + 2
    parent, size = np.full(room, -1), np.zeros(room, np.int64)
    birth, death, mass = np.zeros(room), np.zeros(room), np.zeros(room)
    owner, level = np.zeros(rows, np.int64), np.zeros(rows)
    count = _condense(
        linkage.left, linkage.right, linkage.distance, linkage.size, least, linkage.most,
        parent, birth, death, size, mass, owner, level,
    )  # fmt: skip
    cut = slice(0, count)
    return Condensed(parent[cut], birth[cut], death[cut], size[cut], mass[cut], owner, level)


def heaviest(tree: Condensed) -> NDArray[np.bool_]:
    """Which clusters to take, bool (C,): none within another, of most mass together."""
    return _heaviest(tree.parent, tree.mass)


def above(tree: Condensed, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The chosen cluster that each cluster is, or lies in, int64 (C,); -1 for none."""
    found = np.full(len(tree.parent), -1)
    _above(tree.parent, chosen, found)
    return found


def membership(tree: Condensed, own: NDArray[np.int64]) -> NDArray[np.float64]:
    """How surely each row belongs to its chosen cluster `own` (N,): float64 in [0, 1], 0 for none.

    Its lambda over the largest in the cluster.
    """
    found = np.zeros(len(own))
    inside = own >= 0
    most = tree.death[own[inside]]
    level = np.minimum(tree.level[inside], most)
    found[inside] = np.where(most > 0, level / np.where(most > 0, most, 1.0), 1.0)
    return found


def glosh(tree: Condensed) -> NDArray[np.float64]:
    """Global-local outlier scores, float64 (N,) in [0, 1]: how far below the densest of its own."""
    densest = tree.death.copy()
    _rise(tree.parent, densest)
    most = densest[tree.owner]
    return np.where(most > 0, (most - tree.level) / np.where(most > 0, most, 1.0), 0.0)


def sizes(rows: int, *, most: int = SIZES) -> NDArray[np.int64]:
    """Sizes worth looking at for N rows: 2 to a quarter of them, on a scale of equal ratios."""
    last = max(2, rows // 4)
    return np.unique(np.round(np.geomspace(2, last, most)).astype(np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Coarse:
    """A condensed tree of the smallest size, from which any larger one follows without the rows.

    Lambdas of the rows that leave cluster c and none below it are `levels[start[c]:start[c + 1]]`,
    float64 (N,), ascending; `total` (N,) is the running sum of what each is above the birth of c.
    """

    tree: Condensed
    start: NDArray[np.int64]
    levels: NDArray[np.float64]
    total: NDArray[np.float64]

    @classmethod
    def of(cls, linkage: Linkage) -> Coarse:
        """Condense for 2 rows."""
        tree = condense(linkage, 2)
        levels = tree.level[np.lexsort((tree.level, tree.owner))]
        direct = np.bincount(tree.owner, minlength=len(tree.parent))
        start, total = np.r_[0, np.cumsum(direct)], np.empty(len(levels))
        _run(start, levels, tree.birth, total)
        return cls(tree, start, levels, total)

    @property
    def direct(self) -> NDArray[np.int64]:
        """Rows that leave each cluster and none below it, int64 (C,)."""
        return np.diff(self.start)

    def at(self, least: int) -> tuple[int, float, float, NDArray[np.int64]]:
        """Clusters, share of noise, mass per row, and the cluster of each own one (-1: none)."""
        tree, count = self.tree, len(self.tree.parent)
        own = np.zeros(count, np.int64)
        parent, birth, mass = np.full(count, -1), np.zeros(count), np.zeros(count)
        made = _coarsen(
            tree.parent, tree.birth, tree.size, self.start, self.levels, self.total,
            max(2, least), own, parent, birth, mass,
        )  # fmt: skip
        chosen = _heaviest(parent[:made], mass[:made])
        found = np.full(made, -1)
        _above(parent[:made], chosen, found)
        label = found[own]
        rows = len(self.levels)
        noise = float(self.direct[label < 0].sum() / rows)
        return int(chosen.sum()), noise, float(mass[:made][chosen].sum() / rows), label


def curve(coarse: Coarse, asked: NDArray[np.int64] | None = None) -> Curve:
    """What every size gives, without condensing for each."""
    wanted = sizes(len(coarse.levels)) if asked is None else np.asarray(asked, np.int64)
    found = [coarse.at(int(least)) for least in wanted]
    same = np.ones(len(found))
    for at in range(len(found) - 1):
        same[at] = rand(found[at][3], found[at + 1][3], coarse.direct)
    return Curve(
        wanted,
        np.array([each[0] for each in found], np.int64),
        np.array([each[1] for each in found], np.float64),
        np.array([each[2] for each in found], np.float64),
        same,
    )


def rand(one: NDArray[np.int64], other: NDArray[np.int64], weight: NDArray[np.int64]) -> float:
    """Adjusted Rand index (Hubert and Arabie, 1985) of two labellings of weighted items."""

    def pairs(labels: NDArray[np.int64]) -> float:
        held = np.bincount(np.unique(labels, return_inverse=True)[1], weight)
        return float((held * (held - 1)).sum() / 2)

    total = float(weight.sum())
    if total < 2:
        return 1.0
    shift = int(other.max(initial=0)) + 2
    both = pairs((one + 1) * shift + other + 1)
    left, right = pairs(one), pairs(other)
    usual = left * right / (total * (total - 1) / 2)
    most = (left + right) / 2
    return 1.0 if most == usual else (both - usual) / (most - usual)


@compiled
def _link(
    one: NDArray[np.int64],
    other: NDArray[np.int64],
    left: NDArray[np.int32],
    right: NDArray[np.int32],
    size: NDArray[np.int32],
) -> None:
    rows = len(one) + 1
    root, node = np.arange(rows), np.arange(rows)
    held = np.ones(rows, np.int32)
    for at in range(len(one)):
        a, b = one[at], other[at]
        while root[a] != a:
            root[a] = root[root[a]]
            a = root[a]
        while root[b] != b:
            root[b] = root[root[b]]
            b = root[b]
        left[at], right[at] = node[a], node[b]
        if held[a] < held[b]:
            a, b = b, a
        root[b] = a
        held[a] += held[b]
        node[a], size[at] = rows + at, held[a]


@compiled
def _condense(  # noqa: PLR0917 - compiled
    left: NDArray[np.int32],
    right: NDArray[np.int32],
    distance: NDArray[np.float64],
    held: NDArray[np.int32],
    least: int,
    most: float,
    parent: NDArray[np.int64],
    birth: NDArray[np.float64],
    death: NDArray[np.float64],
    size: NDArray[np.int64],
    mass: NDArray[np.float64],
    owner: NDArray[np.int64],
    level: NDArray[np.float64],
) -> int:
    merges = len(left)
    rows = merges + 1
    # Cluster of each merge, and the lambda at which it fell out of it (-1: it has not).
    within, fell = np.zeros(merges, np.int64), np.full(merges, -1.0)
    size[0] = rows
    count = 1
    for at in range(merges - 1, -1, -1):
        own = within[at]
        a, b = left[at], right[at]
        size_a = held[a - rows] if a >= rows else 1
        size_b = held[b - rows] if b >= rows else 1
        own_a, own_b, fell_a, fell_b = own, own, fell[at], fell[at]
        if fell[at] < 0:
            now = 1.0 / distance[at] if distance[at] > 0 else most
            stays_a = size_a >= least and distance[at] > 0
            stays_b = size_b >= least and distance[at] > 0
            gain = now - birth[own]
            if stays_a and stays_b:
                death[own] = max(death[own], now)
                mass[own] += gain * size_a
                mass[own] += gain * size_b
                own_a, own_b = count, count + 1
                for new, part in ((own_a, size_a), (own_b, size_b)):
                    parent[new], birth[new], size[new] = own, now, part
                count += 2
            else:
                if not stays_a:
                    fell_a = now
                    mass[own] += gain * size_a
                if not stays_b:
                    fell_b = now
                    mass[own] += gain * size_b
                death[own] = max(death[own], now)
        if a >= rows:
            within[a - rows], fell[a - rows] = own_a, fell_a
        else:
            owner[a], level[a] = own_a, fell_a
        if b >= rows:
            within[b - rows], fell[b - rows] = own_b, fell_b
        else:
            owner[b], level[b] = own_b, fell_b
    return count


@compiled
def _heaviest(parent: NDArray[np.int64], mass: NDArray[np.float64]) -> NDArray[np.bool_]:
    count = len(parent)
    chosen, below = np.zeros(count, np.bool_), np.zeros(count)
    for own in range(count - 1, 0, -1):
        chosen[own] = below[own] <= mass[own]
        below[parent[own]] += mass[own] if chosen[own] else below[own]
    covered = np.zeros(count, np.bool_)
    for own in range(1, count):
        covered[own] = covered[parent[own]] or chosen[parent[own]]
        if covered[own]:
            chosen[own] = False
    return chosen


@compiled
def _above(parent: NDArray[np.int64], chosen: NDArray[np.bool_], found: NDArray[np.int64]) -> None:
    for own in range(len(parent)):
        if chosen[own]:
            found[own] = own
        elif own:
            found[own] = found[parent[own]]


@compiled
def _rise(parent: NDArray[np.int64], value: NDArray[np.float64]) -> None:
    for own in range(len(parent) - 1, 0, -1):
        value[parent[own]] = max(value[parent[own]], value[own])


@compiled
def _run(
    start: NDArray[np.int64],
    levels: NDArray[np.float64],
    birth: NDArray[np.float64],
    total: NDArray[np.float64],
) -> None:
    for own in range(len(birth)):
        now = 0.0
        for at in range(start[own], start[own + 1]):
            now += levels[at] - birth[own]
            total[at] = now


@compiled
def _coarsen(  # noqa: PLR0917 - compiled
    parent: NDArray[np.int64],
    birth: NDArray[np.float64],
    size: NDArray[np.int64],
    start: NDArray[np.int64],
    levels: NDArray[np.float64],
    total: NDArray[np.float64],
    least: int,
    own: NDArray[np.int64],
    new_parent: NDArray[np.int64],
    new_birth: NDArray[np.float64],
    mass: NDArray[np.float64],
) -> int:
    """Condense a condensed tree further: clusters come in pairs, each pair behind its parent."""
    fallen = np.zeros(len(parent), np.bool_)
    made = 1
    for each in range(len(parent)):
        if each % 2:
            up, into = parent[each], own[parent[each]]
            one, two = size[each], size[each + 1]
            own[each], own[each + 1] = into, into
            if fallen[up]:
                fallen[each], fallen[each + 1] = True, True
            elif one >= least and two >= least:
                mass[into] += (birth[each] - new_birth[into]) * (one + two)
                for new in (each, each + 1):
                    own[new] = made
                    new_parent[made], new_birth[made] = into, birth[each]
                    made += 1
            else:
                for new in (each, each + 1):
                    if size[new] < least:
                        fallen[new] = True
                        mass[into] += (birth[each] - new_birth[into]) * size[new]
        if fallen[each]:
            continue
        # Rows leave one by one: with this many gone, too few are left and all of them go. Sums are
        # of differences, so that what is equal in the full tree is equal here.
        a, b = start[each], start[each + 1]
        last = a + size[each] - least
        into = own[each]
        before = birth[each] - new_birth[into]
        if last < b:
            fallen[each] = True
            mass[into] += total[last] + (last + 1 - a) * before
            mass[into] += (levels[last] - new_birth[into]) * (least - 1)
        elif b > a:
            mass[into] += total[b - 1] + (b - a) * before
    return made
