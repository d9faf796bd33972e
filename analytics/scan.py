"""The scan of a host: one pass over codes for all queries that wait, then exact scores."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analytics import bounds
from analytics.blocks import Block
from analytics.codes import QueryCodes, encode_queries

AGGREGATES = {"max": bounds.MAX, "mean": bounds.MEAN, "coverage": bounds.COVERAGE}

_TASK_ROWS = 32_768
_SETTLED = 64
"""Listings that one call scores exactly: small, so that all threads have work."""

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
        done, found, upper, lower, counts = _bound(
            blocks[number], number, asks, together, thresholds, first=first, last=last
        )
        with lock:
            scanned += done
            for at, state in enumerate(states):
                count = int(counts[at])
                if not count:
                    continue
                state.found.append((number, found[at, :count].copy(), upper[at, :count].copy()))
                state.held = bounds.keep_largest(state.best, state.held, lower[at, :count])
                thresholds[at] = state.threshold

    for _ in each(run, _tasks(blocks)):
        pass
    results = [_settle(blocks, state, scanned, each) for state in states]
    for block in blocks:
        block.release()
    return results


def _state(ask: Ask) -> _State:
    examples = np.ascontiguousarray(np.concatenate([ask.positives, ask.negatives]), np.float32)
    return _State(ask, examples, encode_queries(examples), np.empty(ask.k, np.float32))


def _stack(codes: Sequence[QueryCodes]) -> QueryCodes:
    return QueryCodes(*map(np.concatenate, zip(*codes, strict=True)))


def _tasks(blocks: Sequence[Block]) -> list[tuple[int, int, int]]:
    """Cut blocks into runs of listings of about `_TASK_ROWS` rows: (block, first, last)."""
    tasks = []
    for number, block in enumerate(blocks):
        starts = np.arange(0, block.rows, _TASK_ROWS)
        cuts = np.unique(np.searchsorted(block.offsets[:-1], starts))
        ends = [*cuts[1:].tolist(), len(block.offsets) - 1]
        tasks += [(number, int(first), int(last)) for first, last in zip(cuts, ends, strict=True)]
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
) -> tuple[int, NDArray[np.int64], NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    held = [(ask.mask(number), ask.eligible(number)) for ask in asks]  # while addresses are used
    plans, start = [], 0
    for ask, masks in zip(asks, held, strict=True):
        plans.append(_plan(ask, start, *masks))
        start = plans[-1].end
    shape = (len(asks), last - first)
    found, counts = np.empty(shape, np.int64), np.zeros(len(asks), np.int64)
    lower, upper = np.empty(shape, np.float32), np.empty(shape, np.float32)
    done = bounds.scan(
        block.codes, block.offsets, first, last, queries, np.array(plans, np.int64), thresholds,
        found, lower, upper, counts,
    )  # fmt: skip
    return done, found, upper, lower, counts


def _settle(blocks: Sequence[Block], state: _State, scanned: int, each: Map) -> Listings:
    ask = state.ask
    threshold = state.threshold
    pieces = []
    for number in range(len(blocks)):
        own = [listings[upper >= threshold] for at, listings, upper in state.found if at == number]
        if own:
            chosen = np.sort(np.concatenate(own))
            pieces += [(number, part) for part in _cut(chosen)]
    rough = list(each(lambda piece: _score(blocks, state, piece, exact=False), pieces))
    values = np.concatenate([value for value, _, _ in rough]) if rough else np.empty(0, np.float32)
    cut = _kth(values, ask.k) - 2 * float(bounds.ROUNDING)
    left = [
        (number, chosen[value >= cut])
        for (number, chosen), (value, _, _) in zip(pieces, rough, strict=True)
    ]
    left = [piece for piece in left if len(piece[1])]
    exact = list(each(lambda piece: _score(blocks, state, piece, exact=True), left))
    hits: list[tuple[float, str, bytes]] = []
    for (number, chosen), (value, winners, _) in zip(left, exact, strict=True):
        block = blocks[number]
        names = block.listings.take(chosen).to_pylist()
        hits += [
            (score, name, block.images[row].tobytes())
            for score, name, row in zip(value.tolist(), names, winners, strict=True)
        ]
    hits.sort(key=lambda hit: (-hit[0], hit[1]))
    del hits[ask.k :]
    return Listings(
        scores=np.array([hit[0] for hit in hits], np.float32),
        ids=[hit[1] for hit in hits],
        images=np.frombuffer(b"".join(hit[2] for hit in hits), np.uint8).reshape(-1, 16),
        scanned=scanned,
        rescored=sum(read for _, _, read in rough),
    )


def _score(
    blocks: Sequence[Block], state: _State, piece: tuple[int, NDArray[np.int64]], *, exact: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64], int]:
    number, chosen = piece
    block, ask = blocks[number], state.ask
    values, winners = np.empty(len(chosen), np.float32), np.empty(len(chosen), np.int64)
    mask = ask.mask(number)
    read = bounds.settle(
        block.vectors, block.codes, block.offsets, chosen, state.examples, state.codes,
        np.array(_plan(ask, 0, mask, _NONE), np.int64), exact, values, winners,
    )  # fmt: skip
    return values, winners, read


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


def _kth(values: NDArray[np.float32], k: int) -> float:
    if len(values) < k:
        return -np.inf
    return float(np.partition(values, len(values) - k)[len(values) - k])
