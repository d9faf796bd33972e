"""The minimum spanning tree of mutual reachability, exact, of many points in few dimensions.

The mutual reachability of two points is the largest of their distance and their two core
distances; a core distance is that to the `min_samples`-th nearest other point (Campello, Moulavi,
Sander, 2013). Boruvka's rounds (1926): each component takes its shortest way out, which is looked
for in the points' lists of nearest neighbours first, and in a tree of boxes only where the
lists cannot decide it. Nodes that lie in one component are not entered (March, Ram, Gray, 2010).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analytics.compiler import compiled
from analytics.hierarchy import boxes as trees
from analytics.hierarchy.boxes import LEAF, Boxes, enter, measure, outside
from analytics.spread import spread

LISTED = 10
"""Neighbours listed of each point, at least; longer lists cost more than they save."""


class Edges(NamedTuple):
    """Edges of a spanning tree: rows `one` and `other` int64 (N - 1,), `length` float64."""

    one: NDArray[np.int64]
    other: NDArray[np.int64]
    length: NDArray[np.float64]


def spanning(space: NDArray[np.float32], *, min_samples: int, threads: int | None = None) -> Edges:
    """Span float32 (N, E), all finite, by mutual reachability; edges are in no order.

    Equal rows are joined first: a hundred thousand of them cost no more than one. The tree is the
    same for any number of threads; of edges of one length it takes those of the lower places.
    """
    count = len(space)
    if count < 2:
        empty = np.empty(0, np.int64)
        return Edges(empty, empty, np.empty(0))
    samples = max(1, min(min_samples, count - 1))
    space = np.ascontiguousarray(space, np.float32) + np.float32(0)  # -0 becomes 0
    chosen, member = _equal(space)
    weight = np.bincount(member, minlength=len(chosen))
    boxes = trees.build(space[chosen])
    k = min(max(LISTED, samples), len(chosen) - 1)
    gaps, near = trees.nearest(boxes, k, threads=threads)
    core = _core(gaps, near, weight[boxes.order], samples)
    one, other, length = _boruvka(boxes, gaps, near, core, threads)
    rows = chosen[boxes.order]
    # A copy joins the row that stands for it at their core distance: nothing else is nearer.
    copies = np.flatnonzero(chosen[member] != np.arange(count))
    at = np.empty(len(chosen), np.int64)
    at[boxes.order] = np.arange(len(chosen))
    return Edges(
        np.concatenate([rows[one], chosen[member[copies]]]),
        np.concatenate([rows[other], copies]),
        np.sqrt(np.concatenate([length, core[at[member[copies]]]])),
    )


def _equal(space: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that stand for all that equal them, ascending (U,), and the one of each row, (N,).

    Rows are sorted by a hash: where two that differ share one, copies may stay apart, which is
    slower but not wrong.
    """
    bits = space.view(np.uint32)
    mixed = np.zeros(len(space), np.uint64)
    for column in bits.T:
        mixed = (mixed ^ column) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    order = np.argsort(mixed, kind="stable")
    fresh = np.ones(len(space), bool)
    same = mixed[order[1:]] == mixed[order[:-1]]
    again = np.flatnonzero(same) + 1
    fresh[again] = (space[order[again]] != space[order[again - 1]]).any(axis=1)
    first = order[fresh]
    back = np.argsort(first, kind="stable")
    place = np.empty(len(first), np.int64)
    place[back] = np.arange(len(first))
    member = np.empty(len(space), np.int64)
    member[order] = place[np.cumsum(fresh) - 1]
    return first[back], member


def _core(
    gaps: NDArray[np.float64], near: NDArray[np.int64], weight: NDArray[np.int64], samples: int
) -> NDArray[np.float64]:
    """Squared core distances of places, each of which stands for `weight` rows."""
    own = weight - 1
    if not near.shape[1]:
        return np.zeros(len(weight))
    reached = own[:, None] + np.cumsum(weight[near], axis=1)
    found = np.take_along_axis(gaps, np.argmax(reached >= samples, axis=1)[:, None], 1)[:, 0]
    return np.where(own >= samples, 0.0, found)


def _boruvka(
    boxes: Boxes,
    gaps: NDArray[np.float64],
    near: NDArray[np.int64],
    core: NDArray[np.float64],
    threads: int | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Edges between places, with squared lengths."""
    count, k = near.shape
    one, other = np.empty(count - 1, np.int64), np.empty(count - 1, np.int64)
    length = np.empty(count - 1)
    parts = np.arange(count)
    nodes, least = np.full(len(boxes.first), -1), np.zeros(len(boxes.first))
    _least(boxes.first, boxes.last, core, least)
    listed = np.full(count, k)
    near, gaps = near.copy(), gaps.copy()
    # No point outside a list is nearer than its last; where the list has all points, none is left.
    unseen = gaps[:, -1].copy() if 0 < k < count - 1 else np.full(count, np.inf)
    way, to = np.full(count, np.inf), np.full(count, -1)
    edges, components = 0, count
    while components > 1:
        _mark(boxes.first, boxes.last, parts, nodes)
        best = np.full(components, np.inf)
        _lists(parts, near, gaps, listed, core, way, to, best)

        def look(a: int, b: int, best: NDArray[np.float64] = best) -> None:
            _look(*boxes[1:], a, b, core, least, parts, nodes, unseen, way, to, best)

        spread(look, boxes.leaves, threads=threads)
        edges, components = _join(parts, way, to, components, one, other, length, edges)
    return one, other, length


@compiled
def _least(
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    core: NDArray[np.float64],
    least: NDArray[np.float64],
) -> None:
    inner = len(first) // 2
    for node in range(len(first) - 1, -1, -1):
        if node >= inner:
            least[node] = core[first[node] : last[node]].min()
        else:
            least[node] = min(least[2 * node + 1], least[2 * node + 2])


@compiled
def _mark(
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    parts: NDArray[np.int64],
    nodes: NDArray[np.int64],
) -> None:
    """The component of each node whose points are all in one, else -1."""
    inner = len(first) // 2
    for node in range(len(first) - 1, -1, -1):
        if node < inner:
            own = nodes[2 * node + 1]
            nodes[node] = own if own == nodes[2 * node + 2] else -1
            continue
        own = parts[first[node]]
        for place in range(first[node] + 1, last[node]):
            if parts[place] != own:
                own = -1
                break
        nodes[node] = own


@compiled
def _lists(  # noqa: PLR0917 - compiled
    parts: NDArray[np.int64],
    near: NDArray[np.int64],
    gaps: NDArray[np.float64],
    listed: NDArray[np.int64],
    core: NDArray[np.float64],
    way: NDArray[np.float64],
    to: NDArray[np.int64],
    best: NDArray[np.float64],
) -> None:
    """The shortest way out that each point knows (`way`, `to`), and that of each component.

    What leads to the own component now will always: it leaves the list.
    """
    for p in range(len(parts)):
        own = parts[p]
        if to[p] >= 0 and parts[to[p]] != own:
            # Still outside: the points left there are fewer, none of them is nearer than it was.
            best[own] = min(best[own], way[p])
            continue
        way[p], to[p] = np.inf, -1
        kept = 0
        for at in range(listed[p]):
            q = near[p, at]
            if parts[q] == own:
                continue
            near[p, kept], gaps[p, kept] = q, gaps[p, at]
            kept += 1
            long = max(gaps[p, at], core[p], core[q])
            if long < way[p] or (long == way[p] and q < to[p]):
                way[p], to[p] = long, q
            # It is a way out for the other component as well.
            best[parts[q]] = min(best[parts[q]], long)
        listed[p] = kept
        best[own] = min(best[own], way[p])


@compiled
def _look(  # noqa: PLR0917 - compiled
    flat: NDArray[np.float32],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    begin: int,
    end: int,
    core: NDArray[np.float64],
    least: NDArray[np.float64],
    parts: NDArray[np.int64],
    nodes: NDArray[np.int64],
    unseen: NDArray[np.float64],
    way: NDArray[np.float64],
    to: NDArray[np.int64],
    best: NDArray[np.float64],
) -> None:
    """Search the tree from leaves for the points whose lists do not decide the shortest way out.

    `best` bounds what counts; other threads lower it meanwhile, which spares work and changes no
    result: only what is longer than the bound is left out, and the shortest never is.
    """
    inner = len(first) // 2
    point, found = np.empty(low.shape[1]), np.empty(LEAF)
    waiting, far = np.empty(256, np.int64), np.empty(256)
    asking = np.empty(LEAF, np.int64)
    for own in range(inner + begin, inner + end):
        asked, reach = 0, 0.0
        for p in range(first[own], last[own]):
            bound = best[parts[p]]
            # A way that is no longer than anything unseen is the shortest.
            if max(unseen[p], core[p]) <= bound and not way[p] < unseen[p]:
                asking[asked] = p
                asked += 1
                reach = max(reach, bound)
        if not asked:
            continue
        waiting[0], far[0], left = 0, 0.0, 1
        while left:
            left -= 1
            node = waiting[left]
            if far[left] > reach or (nodes[node] >= 0 and nodes[node] == nodes[own]):
                continue
            if node < inner:
                left = enter(low, high, least, own, node, reach, waiting, far, left)
                continue
            reach = _meet(
                flat, first, last, low, high, own, node, asking, asked, nodes[node], core, parts,
                way, to, best, point, found,
            )  # fmt: skip
        for p in asking[:asked]:
            # All that is as near as the bound was seen; next time only beyond it is unknown.
            unseen[p] = max(unseen[p], np.nextafter(best[parts[p]], np.inf))


@compiled
def _meet(  # noqa: PLR0917 - compiled
    flat: NDArray[np.float32],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    own: int,
    node: int,
    asking: NDArray[np.int64],
    asked: int,
    all_in: int,
    core: NDArray[np.float64],
    parts: NDArray[np.int64],
    way: NDArray[np.float64],
    to: NDArray[np.int64],
    best: NDArray[np.float64],
    point: NDArray[np.float64],
    found: NDArray[np.float64],
) -> float:
    """Shorten the ways of places of the leaf `own` by the points of a leaf in other components.

    `all_in` is the component of all of that leaf, or -1. Returns the largest bound of those asked.
    """
    dims, reach = low.shape[1], 0.0
    a, size, c, e = first[own], last[own] - first[own], first[node], last[node]
    for at in range(asked):
        p = asking[at]
        mine = parts[p]
        bound = best[mine]
        if all_in != mine and core[p] <= bound:
            for d in range(dims):
                point[d] = flat[a * dims + d * size + p - a]
            if outside(low, high, node, point) <= bound:
                measure(flat, dims, c, e, point, found)
                for q in range(c, e):
                    if found[q - c] <= bound and parts[q] != mine:
                        long = max(found[q - c], core[p], core[q])
                        if long < way[p] or (long == way[p] and q < to[p]):
                            way[p], to[p] = long, q
                            bound = min(bound, long)
                best[mine] = min(best[mine], bound)
        reach = max(reach, best[mine])
    return reach


@compiled
def _join(  # noqa: PLR0917 - compiled
    parts: NDArray[np.int64],
    way: NDArray[np.float64],
    to: NDArray[np.int64],
    components: int,
    one: NDArray[np.int64],
    other: NDArray[np.int64],
    length: NDArray[np.float64],
    edges: int,
) -> tuple[int, int]:
    """Join every component by its shortest way out, ties by the places; number what is left."""
    chosen = np.full(components, -1, np.int64)
    for p in range(len(parts)):
        q = to[p]
        if q >= 0 and parts[q] != parts[p]:
            for part in (parts[p], parts[q]):
                now = chosen[part]
                if now < 0 or way[p] < way[now] or (way[p] == way[now] and _before(p, now, to)):
                    chosen[part] = p
    root = np.arange(components)
    for part in range(components):
        p = chosen[part]
        if p < 0:
            continue
        a, b = _root(root, parts[p]), _root(root, parts[to[p]])
        if a != b:
            root[max(a, b)] = min(a, b)
            one[edges], other[edges], length[edges] = p, to[p], way[p]
            edges += 1
    number, left = np.full(components, -1, np.int64), 0
    for part in range(components):
        a = _root(root, part)
        if number[a] < 0:
            number[a] = left
            left += 1
        number[part] = number[a]
    for p in range(len(parts)):
        parts[p] = number[parts[p]]
    return edges, left


@compiled
def _before(p: int, now: int, to: NDArray[np.int64]) -> bool:
    """Whether the way of p goes before one of the same length: an order without ties."""
    low, high = min(p, to[p]), max(p, to[p])
    low_now, high_now = min(now, to[now]), max(now, to[now])
    return bool(low < low_now or (low == low_now and high < high_now))


@compiled
def _root(root: NDArray[np.int64], part: int) -> int:
    at = part
    while root[at] != at:
        root[at] = root[root[at]]
        at = int(root[at])
    return at
