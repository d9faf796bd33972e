"""A tree of boxes over points in few dimensions, and the nearest neighbours of all of them.

A k-d tree (Bentley, 1975) split at the median of the widest side until at most `LEAF` points are
left, with the tight box of every node. A whole leaf is searched for at once, so that one walk of
the tree serves all of its points.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analytics.compiler import compiled
from analytics.spread import spread

LEAF = 24
"""Most points of a leaf."""


class Boxes(NamedTuple):
    """Points in the order of the tree: place p holds row `order[p]`, int64 (N,).

    `flat` float32 (N * D,): the points leaf by leaf, within a leaf dimension by dimension.
    Nodes are numbered as in a heap, leaves last; node n holds the places `first[n]` to `last[n]`,
    int64, in the box from `low[n]` to `high[n]`, float32 (nodes, D).
    """

    order: NDArray[np.int64]
    flat: NDArray[np.float32]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @property
    def leaves(self) -> int:
        """Number of leaves."""
        return (len(self.first) + 1) // 2


def build(points: NDArray[np.float32]) -> Boxes:
    """Make the tree of float32 (N, D), N >= 1, all finite."""
    count, dims = points.shape
    leaves = 1
    while leaves * LEAF < count:
        leaves *= 2
    nodes = 2 * leaves - 1
    order = np.arange(count)
    first, last = np.zeros(nodes, np.int64), np.full(nodes, count)
    low, high = np.empty((nodes, dims), np.float32), np.empty((nodes, dims), np.float32)
    flat = np.empty(count * dims, np.float32)
    _build(np.ascontiguousarray(points), order, flat, first, last, low, high)
    return Boxes(order, flat, first, last, low, high)


def nearest(
    boxes: Boxes, k: int, *, threads: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Squared distances and places of the k nearest other points of every place, (N, k) each.

    Ascending; k < N. Exact: float64 sums over the dimensions in index order.
    """
    count = len(boxes.order)
    gaps, near = np.full((count, k), np.inf), np.full((count, k), -1)
    if k:
        spread(lambda a, b: _nearest(*boxes[1:], a, b, gaps, near), boxes.leaves, threads=threads)
    return gaps, near


@compiled
def _build(  # noqa: PLR0917 - compiled
    points: NDArray[np.float32],
    order: NDArray[np.int64],
    flat: NDArray[np.float32],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
) -> None:
    dims = points.shape[1]
    nodes = len(first)
    inner = nodes // 2
    for node in range(inner):
        a, b = first[node], last[node]
        widest, side = -1.0, 0
        for d in range(dims):
            least = most = points[order[a], d]
            for at in range(a + 1, b):
                value = points[order[at], d]
                least, most = min(least, value), max(most, value)
            if most - least > widest:
                widest, side = most - least, d
        middle = (a + b) // 2
        _part(points, order, side, a, b - 1, middle)
        first[2 * node + 1], last[2 * node + 1] = a, middle
        first[2 * node + 2], last[2 * node + 2] = middle, b
    for node in range(inner, nodes):
        a, b = first[node], last[node]
        for d in range(dims):
            for at in range(a, b):
                flat[a * dims + d * (b - a) + at - a] = points[order[at], d]
            part = flat[a * dims + d * (b - a) : a * dims + (d + 1) * (b - a)]
            low[node, d], high[node, d] = part.min(), part.max()
    for node in range(inner - 1, -1, -1):
        for d in range(dims):
            low[node, d] = min(low[2 * node + 1, d], low[2 * node + 2, d])
            high[node, d] = max(high[2 * node + 1, d], high[2 * node + 2, d])


@compiled
def _part(  # noqa: PLR0917 - compiled
    points: NDArray[np.float32],
    order: NDArray[np.int64],
    side: int,
    left: int,
    right: int,
    middle: int,
) -> None:
    """Order places so that `middle` parts the smaller from the larger (Hoare, 1961)."""
    while left < right:
        pivot = points[order[(left + right) // 2], side]
        i, j = left, right
        while i <= j:
            while points[order[i], side] < pivot:
                i += 1
            while points[order[j], side] > pivot:
                j -= 1
            if i <= j:
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if middle <= j:
            right = j
        elif middle >= i:
            left = i
        else:
            return


@compiled
def apart(low: NDArray[np.float32], high: NDArray[np.float32], one: int, other: int) -> float:
    """Least squared distance between two boxes."""
    total = 0.0
    for d in range(low.shape[1]):
        gap = max(
            np.float64(low[one, d]) - high[other, d], np.float64(low[other, d]) - high[one, d]
        )
        if gap > 0:
            total += gap * gap
    return total


@compiled
def measure(  # noqa: PLR0917 - compiled
    flat: NDArray[np.float32],
    dims: int,
    a: int,
    b: int,
    point: NDArray[np.float64],
    found: NDArray[np.float64],
) -> None:
    """Squared distances of a point to those of the leaf with the places a to b."""
    size = b - a
    for j in range(size):
        found[j] = 0.0
    for d in range(dims):
        value = point[d]
        at = a * dims + d * size
        for j in range(size):
            gap = value - flat[at + j]
            found[j] += gap * gap


@compiled
def outside(
    low: NDArray[np.float32], high: NDArray[np.float32], node: int, point: NDArray[np.float64]
) -> float:
    """Least squared distance of a point to a box."""
    total = 0.0
    for d in range(low.shape[1]):
        gap = max(low[node, d] - point[d], point[d] - high[node, d])
        if gap > 0:
            total += gap * gap
    return total


@compiled
def enter(  # noqa: PLR0917 - compiled
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    least: NDArray[np.float64],
    own: int,
    node: int,
    reach: float,
    waiting: NDArray[np.int64],
    far: NDArray[np.float64],
    left: int,
) -> int:
    """Put both halves of a node on the stack, the nearer one on top; how many wait then.

    `own` is the leaf that is searched for; what is farther than `reach` from it, or at least as
    far as `least` of the node says, is left out.
    """
    one, two = 2 * node + 1, 2 * node + 2
    to_one = max(apart(low, high, own, one), least[one])
    to_two = max(apart(low, high, own, two), least[two])
    if to_one < to_two:
        one, two, to_one, to_two = two, one, to_two, to_one
    if to_one <= reach:
        waiting[left], far[left] = one, to_one
        left += 1
    if to_two <= reach:
        waiting[left], far[left] = two, to_two
        left += 1
    return left


@compiled
def _compare(  # noqa: PLR0917 - compiled
    flat: NDArray[np.float32],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    own: int,
    node: int,
    gaps: NDArray[np.float64],
    near: NDArray[np.int64],
    point: NDArray[np.float64],
    found: NDArray[np.float64],
) -> float:
    """Take the points of a leaf into the lists of those of `own`; the longest last distance."""
    dims, k = low.shape[1], gaps.shape[1]
    a, b = first[own], last[own]
    c, e = first[node], last[node]
    reach = 0.0
    for row in range(a, b):
        for d in range(dims):
            point[d] = flat[a * dims + d * (b - a) + row - a]
        if outside(low, high, node, point) < gaps[row, k - 1]:
            measure(flat, dims, c, e, point, found)
            for j in range(e - c):
                if found[j] < gaps[row, k - 1] and c + j != row:
                    at = k - 1
                    while at and gaps[row, at - 1] > found[j]:
                        gaps[row, at], near[row, at] = gaps[row, at - 1], near[row, at - 1]
                        at -= 1
                    gaps[row, at], near[row, at] = found[j], c + j
        reach = max(reach, gaps[row, k - 1])
    return reach


@compiled
def _nearest(  # noqa: PLR0917 - compiled
    flat: NDArray[np.float32],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    begin: int,
    end: int,
    gaps: NDArray[np.float64],
    near: NDArray[np.int64],
) -> None:
    inner = len(first) // 2
    least = np.zeros(len(first))
    point, found = np.empty(low.shape[1]), np.empty(LEAF)
    waiting, far = np.empty(256, np.int64), np.empty(256)
    for own in range(inner + begin, inner + end):
        # The leaf itself first: it bounds the search for all others.
        reach = _compare(flat, first, last, low, high, own, own, gaps, near, point, found)
        waiting[0], far[0], left = 0, 0.0, 1
        while left:
            left -= 1
            node = waiting[left]
            if far[left] > reach or node == own:
                continue
            if node < inner:
                left = enter(low, high, least, own, node, reach, waiting, far, left)
            else:
                reach = _compare(flat, first, last, low, high, own, node, gaps, near, point, found)
