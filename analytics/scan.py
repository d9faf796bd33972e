"""The scan of a host: one pass over codes for all queries that wait, then exact scores."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
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
    found: list[_Noted] = field(default_factory=list)

    @property
    def threshold(self) -> float:
        """The k-th best lower bound: nothing below it can be a hit."""
        return float(self.best[0]) if self.held == self.best.size else -np.inf


@dataclass(frozen=True, slots=True, eq=False)
class _Noted:
    """Listings of one block as `bounds.Found` has them: their only rows, and upper bounds."""

    number: int
    listings: NDArray[np.int64]
    rows: NDArray[np.int64]
    upper: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class _Plans:
    """The plans int64 (A, 7) of all asks for one block, with the masks whose addresses they say."""

    numbers: NDArray[np.int64]
    masks: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]]


def best_listings(
    blocks: Sequence[Block], asks: Sequence[Ask], *, each: Map = map
) -> list[Listings]:
    """Find the k best listings of every ask in one pass; exact, ties by listing id."""
    if not asks:
        return []
    every = np.concatenate([part for ask in asks for part in (ask.positives, ask.negatives)])
    examples = np.ascontiguousarray(every, np.float32)
    codes = encode_queries(examples)
    states = _states(asks, examples, codes)
    plans = [_plans(asks, number) for number in range(len(blocks))]
    thresholds = np.full(len(asks), -np.inf, np.float32)
    wanted = np.array([ask.k for ask in asks])
    lock = threading.Lock()
    scanned = 0

    def run(task: tuple[int, int, int]) -> None:
        nonlocal scanned
        number, first, last = task
        # Nothing is learned from fewer listings than a query wants.
        sizes = np.where(wanted <= last - first, wanted, 0)
        found = _room(thresholds, sizes, last - first)
        block = blocks[number]
        done = bounds.scan(
            block.codes, block.offsets, first, last, codes, plans[number].numbers, found
        )
        with lock:
            scanned += done
            for at in np.flatnonzero(found.counts):
                state, own = states[at], slice(found.counts[at])
                state.found.append(
                    _Noted(
                        number,
                        found.listings[at, own].copy(),
                        found.rows[at, own].copy(),
                        found.upper[at, own].copy(),
                    )
                )
                state.held = keep_largest(state.best, state.held, found.lower[at, own])
                thresholds[at] = state.threshold

    for _ in each(run, _tasks(blocks)):
        pass
    return _settle(blocks, states, scanned, each)


def _states(asks: Sequence[Ask], examples: NDArray[np.float32], codes: QueryCodes) -> list[_State]:
    states, start = [], 0
    for ask in asks:
        own = slice(start, start + len(ask.positives) + len(ask.negatives))
        coded = QueryCodes(
            codes.values[own], codes.scales[own], codes.offsets[own], codes.slopes[own]
        )
        states.append(_State(ask, examples[own], coded, np.empty(ask.k, np.float32)))
        start = own.stop
    return states


def _plans(asks: Sequence[Ask], number: int) -> _Plans:
    masks = [(ask.mask(number), ask.eligible(number)) for ask in asks]
    made: list[bounds.Plan] = []
    for ask, own in zip(asks, masks, strict=True):
        made.append(_plan(ask, made[-1].end if made else 0, *own))
    return _Plans(np.array(made, np.int64), masks)


def _room(thresholds: NDArray[np.float32], sizes: NDArray[np.int64], most: int) -> bounds.Found:
    """Room for what a scan of at most `most` listings notes."""
    shape = len(sizes), most
    return bounds.Found(
        listings=np.empty(shape, np.int64),
        rows=np.empty(shape, np.int64),
        lower=np.empty(shape, np.float32),
        upper=np.empty(shape, np.float32),
        counts=np.zeros(len(sizes), np.int64),
        limits=thresholds.copy(),
        best=np.empty((len(sizes), int(sizes.max())), np.float32),
        held=np.zeros(len(sizes), np.int64),
        sizes=sizes,
    )


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
    pieces: list[_Piece] = []
    open_: list[tuple[_State, int, NDArray[np.int64]]] = []
    for state in states:
        for number, listings, rows in _left(state, len(blocks)):
            known = rows >= 0
            pieces += _sure(state, number, listings[known], rows[known])
            open_ += [(state, number, part) for part in _cut(listings[~known])]
    pieces += each(lambda part: _narrowed(blocks[part[1]], *part), open_)
    read = {id(state): 0 for state in states}
    for piece in pieces:
        read[id(piece.state)] += len(piece.rows)
    many = [piece for piece in pieces if read[id(piece.state)] > _FEW_ROWS]
    if many:
        pieces = [piece for piece in pieces if read[id(piece.state)] <= _FEW_ROWS]
        pieces += _likely(blocks, many, each)
    found: dict[int, list[_Scored]] = {id(state): [] for state in states}
    groups = _grouped(pieces)
    exact = each(
        lambda group: [_score(blocks[piece.number], piece, exact=True) for piece in group], groups
    )
    for group, scored in zip(groups, exact, strict=True):
        for piece, (value, winners) in zip(group, scored, strict=True):
            found[id(piece.state)].append(_Scored(piece.number, piece.chosen, value, winners))
    return [
        _ranked(blocks, found[id(state)], state.ask.k, scanned, read[id(state)]) for state in states
    ]


def _sure(
    state: _State, number: int, listings: NDArray[np.int64], rows: NDArray[np.int64]
) -> list[_Piece]:
    """Pieces of listings that have one row each."""
    return [
        _Piece(state, number, listings[part], rows[part], np.arange(len(listings[part]) + 1))
        for part in (slice(at, at + _SETTLED) for at in range(0, len(listings), _SETTLED))
    ]


def _grouped(pieces: Sequence[_Piece]) -> list[list[_Piece]]:
    """Pieces that one call settles together: of one ask and not many listings."""
    groups: list[list[_Piece]] = []
    size = 0
    for piece in sorted(pieces, key=lambda each: id(each.state)):
        size += len(piece.chosen)
        if groups and groups[-1][0].state is piece.state and size <= _SETTLED:
            groups[-1].append(piece)
        else:
            groups.append([piece])
            size = len(piece.chosen)
    return groups


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
    values: list[float] = []
    names: list[str] = []
    images = []
    for number in dict.fromkeys(each.number for each in scored):
        own = [each for each in scored if each.number == number]
        found = np.concatenate([each.values for each in own])
        kept = np.flatnonzero(found >= cut)
        chosen = np.concatenate([each.chosen for each in own])[kept]
        winners = np.concatenate([each.winners for each in own])[kept]
        values += found[kept].tolist()
        names += blocks[number].listings.take(chosen).to_pylist()
        images.append(blocks[number].images[winners])
    order = sorted(range(len(values)), key=lambda at: (-values[at], names[at]))[:k]
    won = np.concatenate(images) if images else np.empty((0, 16), np.uint8)
    return Listings(
        scores=np.array([values[at] for at in order], np.float32),
        ids=[names[at] for at in order],
        images=won[order],
        scanned=scanned,
        rescored=rescored,
    )


def _left(state: _State, blocks: int) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """Listings whose upper bound reaches the final threshold: block, which, their only rows."""
    threshold = state.threshold
    for number in range(blocks):
        own = [(noted, noted.upper >= threshold) for noted in state.found if noted.number == number]
        if own:
            listings = np.concatenate([noted.listings[near] for noted, near in own])
            rows = np.concatenate([noted.rows[near] for noted, near in own])
            # Rows are read as they lie.
            order = np.argsort(listings)
            yield number, listings[order], rows[order]


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
