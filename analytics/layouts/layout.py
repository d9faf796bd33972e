"""The layout optimiser: UMAP's objective, on all cores, the same result for any number of threads.

UMAP (McInnes, Healy, Melville, 2018): lists of nearest neighbours become memberships of a fuzzy
graph, and positions follow the sampled gradient of its cross entropy, both ends of an edge at once
as in umap-learn. What makes it repeatable on threads: rows are dealt into blocks and blocks paired
up like a tournament, so that no two threads ever hold the same row; the random rows that push are
read from where they stood when the epoch began; draws are hashes of (seed, epoch, edge).
"""

# Compiled loops take many arrays, by position.
# ruff: noqa: PLR0917

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from analytics.compiler import compiled
from analytics.spread import spread
from cql.progress import Progress, silent

NEGATIVES = 5
"""Random rows that push, for each neighbour that pulls (umap-learn's default)."""

SEARCH = 64
TOLERANCE = 1e-5
LEAST_SCALE = 1e-3
_CLIP = np.float32(4.0)
_BLOCKS = 16
_SMALL = 4096


_fast = partial(compiled, fast=True)
"""Sums may be reordered, equally on equal CPUs."""


@dataclass(frozen=True, slots=True, eq=False)
class Edges:
    """A symmetric graph by rows: row n holds `rows[starts[n]:starts[n + 1]]`, int32, ascending.

    `weights` float32 in (0, 1]; `starts` int64 (N + 1,).
    """

    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    weights: NDArray[np.float32]

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self.starts) - 1


@dataclass(frozen=True, slots=True)
class Curve:
    """How closeness falls with distance in the layout: 1 / (1 + a d^(2 b))."""

    a: float
    b: float


def curve(min_dist: float) -> Curve:
    """Fit 1 / (1 + a d^(2 b)) to 1 up to `min_dist` and exp(-(d - min_dist)) beyond."""
    from scipy.optimize import curve_fit

    at = np.linspace(0, 3, 300)
    wanted = np.where(at < min_dist, 1.0, np.exp(-(at - min_dist)))
    (a, b), _ = curve_fit(lambda x, a, b: 1.0 / (1.0 + a * x ** (2 * b)), at, wanted)
    return Curve(float(a), float(b))


@compiled
def memberships(  # noqa: PLR0912
    near: NDArray[np.int64], far: NDArray[np.float32], first: int, last: int,
    out: NDArray[np.float32],
) -> None:  # fmt: skip
    """Memberships of each row's neighbours: the smooth kNN distance of UMAP, section 3.1."""
    width = near.shape[1]
    target = np.log2(np.float64(width + 1))
    for row in range(first, last):
        nearest, total, held = np.float64(0), np.float64(0), 0
        for at in range(width):
            if near[row, at] >= 0:
                held += 1
                total += far[row, at]
                if nearest == 0 and far[row, at] > 0:
                    nearest = np.float64(far[row, at])
        low, high, scale = 0.0, np.inf, 1.0
        for _ in range(SEARCH):
            mass = 0.0
            for at in range(width):
                if near[row, at] >= 0:
                    beyond = far[row, at] - nearest
                    mass += np.exp(-beyond / scale) if beyond > 0 else 1.0
            if abs(mass - target) < TOLERANCE:
                break
            if mass > target:
                high = scale
                scale = (low + high) / 2
            else:
                low = scale
                scale = scale * 2 if high == np.inf else (low + high) / 2
        scale = max(scale, LEAST_SCALE * total / (held + 1))
        for at in range(width):
            beyond = far[row, at] - nearest
            if near[row, at] < 0 or near[row, at] == row:
                out[row, at] = 0
            else:
                out[row, at] = np.exp(-beyond / scale) if beyond > 0 else 1.0


@compiled
def _arrivals(
    near: NDArray[np.int64], strength: NDArray[np.float32], counts: NDArray[np.int64]
) -> None:
    for row in range(near.shape[0]):
        for at in range(near.shape[1]):
            if strength[row, at] > 0:
                counts[near[row, at]] += 1


@compiled
def _arrive(
    near: NDArray[np.int64],
    strength: NDArray[np.float32],
    ends: NDArray[np.int64],
    rows: NDArray[np.int32],
    weights: NDArray[np.float32],
) -> None:
    """List for each row who has it as a neighbour, ascending; `ends` move from start to end."""
    for row in range(near.shape[0]):
        for at in range(near.shape[1]):
            if strength[row, at] > 0:
                place = ends[near[row, at]]
                rows[place], weights[place] = row, strength[row, at]
                ends[near[row, at]] = place + 1


@compiled
def _unite(
    near: NDArray[np.int64],
    strength: NDArray[np.float32],
    starts: NDArray[np.int64],
    rows: NDArray[np.int32],
    weights: NDArray[np.float32],
    first: int,
    last: int,
    bounds: NDArray[np.int64],
    out_rows: NDArray[np.int32],
    out_weights: NDArray[np.float32],
    counts: NDArray[np.int64],
) -> None:
    """Merge each row's own list with that of its arrivals: a + b - a b (fuzzy union)."""
    width = near.shape[1]
    own, mine = np.empty(width, np.int64), np.empty(width, np.float32)
    for row in range(first, last):
        held = 0
        for at in range(width):
            if strength[row, at] > 0:
                place = held
                while place > 0 and own[place - 1] > near[row, at]:
                    own[place], mine[place] = own[place - 1], mine[place - 1]
                    place -= 1
                own[place], mine[place] = near[row, at], strength[row, at]
                held += 1
        left, right, end, out = 0, starts[row], starts[row + 1], bounds[row]
        while left < held or right < end:
            if right == end or (left < held and own[left] < rows[right]):
                out_rows[out], out_weights[out] = own[left], mine[left]
                left += 1
            elif left == held or rows[right] < own[left]:
                out_rows[out], out_weights[out] = rows[right], weights[right]
                right += 1
            else:
                both = mine[left] + weights[right] - mine[left] * weights[right]
                out_rows[out], out_weights[out] = own[left], both
                left += 1
                right += 1
            out += 1
        counts[row] = out - bounds[row]


@compiled
def _compact(
    bounds: NDArray[np.int64],
    starts: NDArray[np.int64],
    rows: NDArray[np.int32],
    weights: NDArray[np.float32],
) -> None:
    """Close the gaps that are left between rows, in place."""
    for row in range(len(starts) - 1):
        shift = bounds[row] - starts[row]
        if shift:
            for at in range(starts[row], starts[row + 1]):
                rows[at], weights[at] = rows[at + shift], weights[at + shift]


def edges(
    near: NDArray[np.int64], distances: NDArray[np.float32], *, threads: int | None = None
) -> Edges:
    """Make the fuzzy graph of neighbour lists: int64 (N, K) and their distances, ascending.

    The same as umap-learn's `fuzzy_simplicial_set` of K + 1 neighbours, the row itself being the
    first. A negative neighbour is none.
    """
    near, distances = np.ascontiguousarray(near), np.ascontiguousarray(distances, np.float32)
    count = len(near)
    strength = np.empty(near.shape, np.float32)
    spread(
        lambda first, last: memberships(near, distances, first, last, strength),
        count,
        threads=threads,
    )
    starts = np.zeros(count + 1, np.int64)
    _arrivals(near, strength, starts[1:])
    np.cumsum(starts, out=starts)
    rows, weights = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
    _arrive(near, strength, starts[:-1].copy(), rows, weights)
    bounds = starts + np.r_[0, np.cumsum((strength > 0).sum(axis=1))]
    out = np.empty(bounds[-1], np.int32), np.empty(bounds[-1], np.float32)
    counts = np.zeros(count + 1, np.int64)
    spread(
        lambda first, last: _unite(
            near, strength, starts, rows, weights, first, last, bounds, *out, counts[1:]
        ),
        count,
        threads=threads,
    )
    closed = np.cumsum(counts)
    _compact(bounds, closed, *out)
    return Edges(closed, out[0][: closed[-1]].copy(), out[1][: closed[-1]].copy())


@_fast
def mix64(value: np.uint64) -> np.uint64:
    """Spread the bits of uint64 (splitmix64, Steele et al. 2014)."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@_fast
def draw32(key: np.uint32, number: np.uint32) -> np.uint32:
    """Random 32 bits of (key, number): lowbias32 (Wellons, 2018)."""
    value = np.uint32(key + number * np.uint32(0x9E3779B9))
    value = np.uint32((value ^ (value >> np.uint32(16))) * np.uint32(0x7FEB352D))
    value = np.uint32((value ^ (value >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(value ^ (value >> np.uint32(16)))


@_fast
def power32(base: np.float32, exponent: np.float32) -> np.float32:
    """base ** exponent to 1e-4, from polynomials that vectorise; base at least 1e-30."""
    bits = np.float32(base).view(np.int32)
    x = np.int32((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000)).view(np.float32) - np.float32(
        1
    )
    log = np.float32(0.05988671)
    log = log * x + np.float32(-0.22771264)
    log = log * x + np.float32(0.44227418)
    log = log * x + np.float32(-0.71706393)
    log = log * x + np.float32(1.44261568)
    power = (np.float32((bits >> np.int32(23)) - np.int32(127)) + log * x) * exponent
    power = min(max(power, np.float32(-120)), np.float32(120))
    whole = np.floor(power)
    x = power - whole
    part = np.float32(0.01279053)
    part = part * x + np.float32(0.05342158)
    part = part * x + np.float32(0.24065429)
    part = part * x + np.float32(0.6931336)
    scale = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)
    return np.float32((part * x + np.float32(1)) * scale)


@_fast
def _epoch(
    heads: NDArray[np.int32],
    tails: NDArray[np.int32],
    weights: NDArray[np.float32],
    first: int,
    last: int,
    positions: NDArray[np.float32],
    still: NDArray[np.float32],
    speeds: NDArray[np.float32],
    epoch: int,
    seed: np.uint64,
    rate: np.float32,
    a: np.float32,
    b: np.float32,
    negatives: int,
) -> None:
    """Move the ends of the edges first to last that are due; `still` is what pushes."""
    count, dims = positions.shape
    one, pull, least = np.float32(1), np.float32(-2) * a * b, np.float32(1e-12)
    spread = np.float32(2.0**-24)
    for at in range(first, last):
        # Due w times an epoch, each edge at a phase of its own.
        phase = np.float32(draw32(np.uint32(at), np.uint32(0x51ED27)) >> np.uint32(8)) * spread
        weight = weights[at]
        before = np.int32(np.float32(epoch) * weight + phase)
        if np.int32(np.float32(epoch + 1) * weight + phase) == before:
            continue
        head, tail = np.int64(heads[at]), np.int64(tails[at])
        quick, slow = rate * speeds[head], rate * speeds[tail]
        gap = np.float32(0)
        for axis in range(dims):
            step = positions[head, axis] - positions[tail, axis]
            gap += step * step
        if gap > least:
            power = power32(gap, b)
            grade = pull * power / (gap * (one + a * power))
            for axis in range(dims):
                step = grade * (positions[head, axis] - positions[tail, axis])
                step = min(max(step, -_CLIP), _CLIP)
                positions[head, axis] += quick * step
                positions[tail, axis] -= slow * step
        if quick == 0:
            continue
        key = np.uint32(mix64(seed ^ (np.uint64(epoch) << np.uint64(40)) ^ np.uint64(at)))
        for number in range(negatives):
            draw = np.uint64(draw32(key, np.uint32(number)))
            other = np.int64((draw * np.uint64(count)) >> np.uint64(32))
            if other == head:
                continue
            gap = np.float32(0)
            for axis in range(dims):
                step = positions[head, axis] - still[other, axis]
                gap += step * step
            power = power32(gap + least, b)
            grade = np.float32(2) * b / ((np.float32(0.001) + gap) * (one + a * power))
            for axis in range(dims):
                step = grade * (positions[head, axis] - still[other, axis])
                positions[head, axis] += quick * min(max(step, -_CLIP), _CLIP)


def optimise(
    graph: Edges,
    start: NDArray[np.float32],
    *,
    seed: int,
    shape: Curve,
    epochs: int,
    rate: float = 1.0,
    speeds: NDArray[np.float32] | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """Move float32 (N, dims) positions for `epochs`, at a rate that falls from `rate` to 0.

    `speeds` float32 (N,) multiplies the rate of each row; a row of speed 0 stays where it is, bit
    for bit. The result depends on the seed, not on `threads` (None: all cores).
    """
    count = graph.count
    positions = np.array(start, np.float32, order="C")
    if not count or not len(graph.rows) or epochs < 1:
        return positions
    blocks = 1 if count < _SMALL else _BLOCKS
    speed = np.ones(count, np.float32) if speeds is None else np.asarray(speeds, np.float32)
    rounds, heads, tails, weights = _schedule(graph, speed > 0, blocks, epochs)
    a, b = np.float32(shape.a), np.float32(shape.b)
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for epoch in range(epochs):
            now, still = np.float32(rate * (1 - epoch / epochs)), positions.copy()

            def move(part: tuple[int, int], epoch: int = epoch, now: np.float32 = now,
                     still: NDArray[np.float32] = still) -> None:  # fmt: skip
                _epoch(
                    heads, tails, weights, part[0], part[1], positions, still, speed, epoch,
                    np.uint64(seed % 2**63), now, a, b, NEGATIVES,
                )  # fmt: skip

            for parts in rounds:
                list(pool.map(move, parts))
            progress("layout", epoch + 1, epochs)
    return positions


def _schedule(
    graph: Edges, moving: NDArray[np.bool_], blocks: int, epochs: int
) -> tuple[list[list[tuple[int, int]]], NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Order edges into rounds of parts that share no row: (rounds, heads, tails, weights).

    Rows are dealt into blocks; a round pairs the blocks up like a tournament (the circle method),
    the last one is of edges within blocks. Edges too weak to be due once are left out.
    """
    heads = np.repeat(np.arange(graph.count, dtype=np.int32), np.diff(graph.starts))
    largest = graph.weights.max()
    keep = (graph.weights * epochs >= largest) & (moving[heads] | moving[graph.rows])
    heads, tails, weights = heads[keep], graph.rows[keep], graph.weights[keep] / largest
    if blocks == 1:
        return [[(0, len(heads))]], heads, tails, weights
    slot = np.empty((blocks, blocks), np.int16)
    shape, number = [], 0
    for turn in range(blocks - 1):
        ring = [0, *(1 + (at + turn) % (blocks - 1) for at in range(blocks - 1))]
        pairs = [(ring[at], ring[blocks - 1 - at]) for at in range(blocks // 2)]
        shape.append(len(pairs))
        for left, right in pairs:
            slot[left, right] = slot[right, left] = number
            number += 1
    shape.append(blocks)
    for block in range(blocks):
        slot[block, block] = number
        number += 1
    slots = slot[heads % blocks, tails % blocks]
    order = np.argsort(slots, kind="stable")
    ends = np.cumsum(np.bincount(slots, minlength=number))
    parts = list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))
    rounds, at = [], 0
    for size in shape:
        rounds.append(parts[at : at + size])
        at += size
    return rounds, heads[order], tails[order], weights[order]


@compiled
def count_above(
    scores: NDArray[np.float32], limits: NDArray[np.float32], counts: NDArray[np.int64]
) -> None:
    """Add to counts (R, K) how many of scores (R, C) of the same row are above limits (R, K)."""
    for row in range(scores.shape[0]):
        for at in range(limits.shape[1]):
            limit, total = limits[row, at], 0
            for column in range(scores.shape[1]):
                total += scores[row, column] > limit
            counts[row, at] += total
