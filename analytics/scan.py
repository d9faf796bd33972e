"""The scan of a host: one pass over codes for all queries that wait, then exact scores."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analytics import bounds, rescoring, sweep
from analytics.ask import Ask
from analytics.blocks import Block
from analytics.codes import QueryCodes, encode_queries, encode_shortly
from analytics.notes import Found, compact
from analytics.rescoring import Left, Listings, Map

__all__ = ["Ask", "Listings", "best_listings"]

_TASK_ROWS = 32_768
_FIRST_ROWS = 2048
"""The first tasks are small: they find a threshold that spares the others work."""


@dataclass(frozen=True, slots=True, eq=False)
class _Plans:
    """The plans int64 (A, 7) of all asks for one block, with the masks whose addresses they say."""

    numbers: NDArray[np.int64]
    masks: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]]


class _Notes:
    """What one thread has found, with room for more."""

    def __init__(self, asks: Sequence[Ask]) -> None:
        count, sizes = len(asks), np.array([ask.k for ask in asks], np.int64)
        self.found = Found(
            listings=np.empty((count, 0), np.int64),
            rows=np.empty((count, 0), np.int64),
            upper=np.empty((count, 0), np.float32),
            counts=np.zeros(count, np.int64),
            limits=np.full(count, -np.inf, np.float32),
            best=np.empty((count, int(sizes.max())), np.float32),
            held=np.zeros(count, np.int64),
            sizes=sizes,
        )

    def room(self, most: int, limits: NDArray[np.float32]) -> Found:
        """Room for `most` listings more of each ask; what does not reach the limits may go."""
        found = self.found
        np.maximum(found.limits, limits, out=found.limits)
        if int(found.counts.max()) + most > found.upper.shape[1]:
            compact(found)
            more = 2 * (int(found.counts.max()) + most) - found.upper.shape[1]
            if more > 0:
                self.found = found._replace(
                    listings=_wider(found.listings, more),
                    rows=_wider(found.rows, more),
                    upper=_wider(found.upper, more),
                )
        return self.found


def _wider(array: NDArray[Any], more: int) -> NDArray[Any]:
    return np.pad(array, ((0, 0), (0, more)), "empty")


def best_listings(
    blocks: Sequence[Block], asks: Sequence[Ask], *, each: Map = map
) -> list[Listings]:
    """Find the k best listings of every ask in one pass; exact, ties by listing id."""
    if not asks:
        return []
    every = np.concatenate([part for ask in asks for part in (ask.positives, ask.negatives)])
    examples = np.ascontiguousarray(every, np.float32)
    queries, short = encode_queries(examples), encode_shortly(examples)
    plans = [_plans(asks, number) for number in range(len(blocks))]
    places = rescoring.Places.of(blocks)
    limits = np.full(len(asks), -np.inf, np.float32)
    notes: dict[int, _Notes] = {}
    lock = threading.Lock()
    scanned = 0

    def run(task: tuple[int, int, int]) -> None:
        nonlocal scanned
        number, first, last = task
        with lock:
            mine = notes.get(threading.get_ident())
            if mine is None:
                mine = notes[threading.get_ident()] = _Notes(asks)
        found = mine.room(last - first, limits)
        block = blocks[number]
        span = (first, last, int(places.listings[number]), int(places.rows[number]))
        done = sweep.scan(
            block.codes, block.offsets, span, queries, short, plans[number].numbers, found
        )
        with lock:
            scanned += done
            np.maximum(limits, found.limits, out=limits)

    for _ in each(run, _tasks(blocks)):
        pass
    left = _left(asks, examples, queries, [mine.found for mine in notes.values()])
    return rescoring.settle(places, left, scanned, each)


def _left(
    asks: Sequence[Ask],
    examples: NDArray[np.float32],
    codes: QueryCodes,
    every: Sequence[Found],
) -> list[Left]:
    """What the bounds leave of each ask: listings whose upper bound reaches the k-th best lower."""
    left, start = [], 0
    for at, ask in enumerate(asks):
        own = slice(start, start + len(ask.positives) + len(ask.negatives))
        lower = [found.best[at, : found.held[at]] for found in every]
        least = rescoring.kth(lower, ask.k)
        near = [found.upper[at, : found.counts[at]] >= least for found in every]
        listings, rows = (
            np.concatenate(
                [
                    getattr(found, name)[at, : len(kept)][kept]
                    for found, kept in zip(every, near, strict=True)
                ]
                or [np.empty(0, np.int64)]
            )
            for name in ("listings", "rows")
        )
        # Rows are read as they lie.
        order = np.argsort(listings)
        coded = QueryCodes._make(each[own] for each in codes)
        left.append(Left(ask, examples[own], coded, listings[order], rows[order]))
        start = own.stop
    return left


def _plans(asks: Sequence[Ask], number: int) -> _Plans:
    masks = [(ask.mask(number), ask.eligible(number)) for ask in asks]
    made: list[bounds.Plan] = []
    for ask, own in zip(asks, masks, strict=True):
        made.append(ask.plan(made[-1].end if made else 0, *own))
    return _Plans(np.array(made, np.int64), masks)


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
