"""The scan of a host: one pass over codes for all queries that wait, then exact scores."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analytics import bounds, scores
from analytics.blocks import Block
from analytics.codes import QueryCodes, encode_queries
from analytics.heaps import keep_largest

AGGREGATES = {"max": bounds.MAX, "mean": bounds.MEAN, "coverage": bounds.COVERAGE}

_TASK_ROWS = 32_768
_FIRST_ROWS = 2048
"""The first tasks are small: they find a threshold that spares the others work."""

_SETTLED = 128
"""Listings that one call settles: small, so that all threads have work."""

_READ_BYTES = 8 * 2**20
"""Vectors that a thread reads at a time."""

_FEW_ROWS = 2048
"""Up to here all rows that one ask leaves are scored exactly at once, without a rough pass."""

Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""`map` of a thread pool, or a plain loop."""

_NONE = np.empty(0, np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """One query of a scan. Examples are float32 (P, D) and (M, D), unit L2 norm.

    `rows` and `listings` hold a mask for each block: uint8 a row and uint8 a listing, 0 for what
    may not count; None lets everything count. A listing without a row that counts is no hit.
    """

    positives: NDArray[np.float32]
    negatives: NDArray[np.float32]
    k: int
    aggregate: str = "max"
    best: int = 1
    rows: Sequence[NDArray[np.uint8] | None] = ()
    listings: Sequence[NDArray[np.uint8] | None] = ()

    def mask(self, block: int) -> NDArray[np.uint8]:
        """Mask of a block's rows; empty for all."""
        found = self.rows[block] if self.rows else None
        return _NONE if found is None else found

    def eligible(self, block: int) -> NDArray[np.uint8]:
        """Mask of a block's listings; empty for all."""
        found = self.listings[block] if self.listings else None
        return _NONE if found is None else found


@dataclass(frozen=True, slots=True, eq=False)
class Listings:
    """Best listings: `scores` float32 (K,) descending, ties by id; `images` uint8 (K, 16) won.

    `scanned` rows were bounded by their codes, `rescored` rows were read as float32.
    """

    scores: NDArray[np.float32]
    ids: list[str]
    images: NDArray[np.uint8]
    scanned: int
    rescored: int


@dataclass(slots=True, eq=False)
class _State:
    """What one ask has found so far: listings by block whose upper bound reached the threshold."""

    ask: Ask
    examples: NDArray[np.float32]
    codes: QueryCodes
    best: NDArray[np.float32]
    held: int = 0
    found: list[tuple[int, NDArray[np.int64], NDArray[np.float32]]] = field(default_factory=list)

    @property
    def threshold(self) -> float:
        """The k-th best lower bound: nothing below it can be a hit."""
        return float(self.best[0]) if self.held == self.best.size else -np.inf


def best_listings(
    blocks: Sequence[Block], asks: Sequence[Ask], *, each: Map = map
) -> list[Listings]:
    """Find the k best listings of every ask in one pass; exact, ties by listing id."""
    if not asks:
        return []
    states = [_state(ask) for ask in asks]
    together = _stack([state.codes for state in states])
    thresholds = np.full(len(asks), -np.inf, np.float32)
    lock = threading.Lock()
    scanned = 0

    def run(task: tuple[int, int, int]) -> None:
        nonlocal scanned
        number, first, last = task
        done, found = _bound(
            blocks[number], number, asks, together, thresholds, first=first, last=last
        )
        with lock:
            scanned += done
            for at, state in enumerate(states):
                count = int(found.counts[at])
                if not count:
                    continue
                own = slice(count)
                state.found.append(
                    (number, found.listings[at, own].copy(), found.upper[at, own].copy())
                )
                state.held = keep_largest(state.best, state.held, found.lower[at, own])
                thresholds[at] = state.threshold

    for _ in each(run, _tasks(blocks)):
        pass
    return _settle(blocks, states, scanned, each)


def _state(ask: Ask) -> _State:
    examples = np.ascontiguousarray(np.concatenate([ask.positives, ask.negatives]), np.float32)
    return _State(ask, examples, encode_queries(examples), np.empty(ask.k, np.float32))


def _stack(codes: Sequence[QueryCodes]) -> QueryCodes:
    return QueryCodes(*map(np.concatenate, zip(*codes, strict=True)))


def _tasks(blocks: Sequence[Block]) -> list[tuple[int, int, int]]:
    """Cut blocks into runs of listings of at most about `_TASK_ROWS` rows: (block, first, last)."""
    tasks = []
    size = _FIRST_ROWS
    for number, block in enumerate(blocks):
        first, listings = 0, len(block.offsets) - 1
        while first < listings:
            end = np.searchsorted(block.offsets, block.offsets[first] + size)
            last = min(listings, max(first + 1, int(end)))
            tasks.append((number, first, last))
            first, size = last, min(2 * size, _TASK_ROWS)
    return tasks


def _bound(
    block: Block,
    number: int,
    asks: Sequence[Ask],
    queries: QueryCodes,
    thresholds: NDArray[np.float32],
    *,
    first: int,
    last: int,
) -> tuple[int, bounds.Found]:
    held = [(ask.mask(number), ask.eligible(number)) for ask in asks]  # while addresses are used
    plans, start = [], 0
    for ask, masks in zip(asks, held, strict=True):
        plans.append(_plan(ask, start, *masks))
        start = plans[-1].end
    count, size = len(asks), last - first
    # Nothing is learned from fewer listings than a query wants.
    sizes = np.array([ask.k if ask.k <= size else 0 for ask in asks])
    found = bounds.Found(
        listings=np.empty((count, size), np.int64),
        lower=np.empty((count, size), np.float32),
        upper=np.empty((count, size), np.float32),
        counts=np.zeros(count, np.int64),
        limits=thresholds.copy(),
        best=np.empty((count, int(sizes.max())), np.float32),
        held=np.zeros(count, np.int64),
        sizes=sizes,
    )
    numbers = np.array(plans, np.int64)
    done = bounds.scan(block.codes, block.offsets, first, last, queries, numbers, found)
    return done, found


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Listings of one block that one ask still has to score, and their rows that matter.

    Listing c of `chosen` has `rows` starts[c] to starts[c + 1].
    """

    state: _State
    number: int
    chosen: NDArray[np.int64]
    rows: NDArray[np.int64]
    starts: NDArray[np.int64]

    def kept(self, listings: NDArray[np.bool_]) -> _Piece:
        """Only some of the listings."""
        sizes = np.diff(self.starts)
        starts = np.r_[0, np.cumsum(sizes[listings])]
        rows = self.rows[np.repeat(listings, sizes)]
        return _Piece(self.state, self.number, self.chosen[listings], rows, starts)


def _settle(
    blocks: Sequence[Block], states: Sequence[_State], scanned: int, each: Map
) -> list[Listings]:
    """Score what the bounds left: where that is much, roughly first, then what is left of it."""
    parts = [part for state in states for part in _left(state, len(blocks))]
    pieces = list(each(lambda part: _narrowed(blocks[part[1]], *part), parts))
    read = {id(state): 0 for state in states}
    for piece in pieces:
        read[id(piece.state)] += len(piece.rows)
    many = [piece for piece in pieces if read[id(piece.state)] > _FEW_ROWS]
    if many:
        pieces = [piece for piece in pieces if read[id(piece.state)] <= _FEW_ROWS]
        pieces += _likely(blocks, many, each)
    exact = list(each(lambda piece: _score(blocks[piece.number], piece, exact=True), pieces))
    found: dict[int, list[_Scored]] = {id(state): [] for state in states}
    for piece, (value, winners) in zip(pieces, exact, strict=True):
        found[id(piece.state)].append(_Scored(piece.number, piece.chosen, value, winners))
    return [
        _ranked(blocks, found[id(state)], state.ask.k, scanned, read[id(state)]) for state in states
    ]


def _likely(blocks: Sequence[Block], pieces: Sequence[_Piece], each: Map) -> list[_Piece]:
    """The listings whose rough score is near enough to the k-th best one."""
    rough = list(each(lambda piece: _score(blocks[piece.number], piece, exact=False), pieces))
    values: dict[int, list[NDArray[np.float32]]] = {}
    for piece, (value, _) in zip(pieces, rough, strict=True):
        values.setdefault(id(piece.state), []).append(value)
    slack = 2 * float(bounds.ROUNDING)
    ks = {id(piece.state): piece.state.ask.k for piece in pieces}
    cuts = {own: _kth(every, ks[own]) - slack for own, every in values.items()}
    left = []
    for piece, (value, _) in zip(pieces, rough, strict=True):
        near = value >= cuts[id(piece.state)]
        if near.any():
            left.append(piece.kept(near))
    return left


@dataclass(frozen=True, slots=True, eq=False)
class _Scored:
    """Exact scores of listings of one block, and the rows that won."""

    number: int
    chosen: NDArray[np.int64]
    values: NDArray[np.float32]
    winners: NDArray[np.int64]


def _ranked(
    blocks: Sequence[Block], scored: Sequence[_Scored], k: int, scanned: int, rescored: int
) -> Listings:
    cut = _kth([each.values for each in scored], k)
    scores: list[float] = []
    names: list[str] = []
    images = []
    for each in scored:
        kept = np.flatnonzero(each.values >= cut)
        scores += each.values[kept].tolist()
        names += blocks[each.number].listings.take(each.chosen[kept]).to_pylist()
        images.append(blocks[each.number].images[each.winners[kept]])
    order = sorted(range(len(scores)), key=lambda at: (-scores[at], names[at]))[:k]
    won = np.concatenate(images) if images else np.empty((0, 16), np.uint8)
    return Listings(
        scores=np.array([scores[at] for at in order], np.float32),
        ids=[names[at] for at in order],
        images=won[order],
        scanned=scanned,
        rescored=rescored,
    )


def _left(state: _State, blocks: int) -> list[tuple[_State, int, NDArray[np.int64]]]:
    """Listings whose upper bound reaches the final threshold, in pieces: (state, block, which)."""
    threshold = state.threshold
    pieces = []
    for number in range(blocks):
        own = [listings[upper >= threshold] for at, listings, upper in state.found if at == number]
        if own:
            chosen = np.sort(np.concatenate(own))
            pieces += [(state, number, part) for part in _cut(chosen)]
    return pieces


def _narrowed(block: Block, state: _State, number: int, chosen: NDArray[np.int64]) -> _Piece:
    most = int((block.offsets[chosen + 1] - block.offsets[chosen]).sum())
    rows, starts = np.empty(most, np.int64), np.empty(len(chosen) + 1, np.int64)
    mask = state.ask.mask(number)
    plan = np.array(_plan(state.ask, 0, mask, _NONE), np.int64)
    count = bounds.narrow(block.codes, block.offsets, chosen, state.codes, plan, rows, starts)
    return _Piece(state, number, chosen, rows[:count], starts)


def _score(
    block: Block, piece: _Piece, *, exact: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores of a piece's listings and the rows that won; no more is read at a time than fits."""
    examples, chosen = piece.state.examples, piece.chosen
    pairs = np.empty((len(piece.rows), len(examples)), np.float32)
    step = max(1, _READ_BYTES // (4 * examples.shape[1]))
    product = scores.exactly if exact else scores.roughly
    for at in range(0, len(piece.rows), step):
        product(block.gather(piece.rows[at : at + step]), examples, pairs[at : at + step])
    values, winners = np.empty(len(chosen), np.float32), np.empty(len(chosen), np.int64)
    plan = np.array(_plan(piece.state.ask, 0, _NONE, _NONE), np.int64)
    scores.listings(pairs, piece.starts, piece.rows, plan, values, winners)
    return values, winners


def _cut(chosen: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [chosen[at : at + _SETTLED] for at in range(0, len(chosen), _SETTLED)]


def _plan(
    ask: Ask, start: int, rows: NDArray[np.uint8], listings: NDArray[np.uint8]
) -> bounds.Plan:
    middle = start + len(ask.positives)
    return bounds.Plan(
        start=start,
        middle=middle,
        end=middle + len(ask.negatives),
        aggregate=AGGREGATES[ask.aggregate],
        best=ask.best if ask.aggregate == "mean" else 1,
        rows=_address(rows),
        listings=_address(listings),
    )


def _address(mask: NDArray[np.uint8]) -> int:
    return int(mask.ctypes.data) if mask.size else 0


def _kth(values: Sequence[NDArray[np.float32]], k: int) -> float:
    """The k-th largest of all, -inf where there are fewer."""
    if sum(map(len, values)) < k:
        return -np.inf
    every = np.concatenate(values)
    return float(np.partition(every, len(every) - k)[len(every) - k])
