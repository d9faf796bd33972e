"""The scan of a host: one pass over codes for all queries that wait, then exact scores."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analytics import bounds, rescoring, survey, sweep
from analytics.ask import Ask
from analytics.blocks import Block
from analytics.codes import QueryCodes, ShortCodes, encode_queries, encode_shortly
from analytics.notes import Found, agree, compact
from analytics.rescoring import Left, Listings, Map, Places

__all__ = ["Ask", "Listings", "best_listings"]

_TASK_ROWS = 32_768
_FIRST_ROWS = 2048
"""The first tasks are small: they find a threshold that spares the others work."""

_SURVEY_ROWS = 131_072
_SURVEYED = 64
"""Tasks of a survey that are held together: 4 bytes a row and ask."""

_GROUP = 64
"""Rows of which the best upper bound stands for all."""

_LIKELY = 2
"""Rows with the best upper bounds, for each hit, by which a survey knows what the last one has."""

Task = tuple[int, int, int]
"""A block and its listings from the first to the one behind the last."""


@dataclass(frozen=True, slots=True, eq=False)
class _Plans:
    """The plans int64 (A, 7) of all asks for one block, with the masks whose addresses they say."""

    numbers: NDArray[np.int64]
    masks: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]]


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """What a scan is about: asks, their examples as codes, blocks with the plans for each."""

    asks: Sequence[Ask]
    places: Places
    plans: Sequence[_Plans]
    examples: NDArray[np.float32]
    queries: QueryCodes
    short: ShortCodes

    @property
    def masked(self) -> bool:
        """Whether every ask has masks, so that there may be few rows to look at."""
        return all(
            any(mask is not None for mask in (*ask.rows, *ask.listings)) for ask in self.asks
        )

    def own(self, at: int) -> NDArray[np.float32]:
        """The positives of an ask."""
        plan = bounds.Plan(*self.plans[0].numbers[at].tolist())
        return self.examples[plan.start : plan.middle]

    def rows(self, task: Task) -> int:
        """How many rows a task has."""
        number, first, last = task
        offsets = self.places.blocks[number].offsets
        return int(offsets[last] - offsets[first])

    def span(self, task: Task) -> tuple[int, int, int, int]:
        """Listings of a task, from first to last; numbers of its block's first listing and row."""
        number, first, last = task
        return first, last, int(self.places.listings[number]), int(self.places.rows[number])


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


class _Notebook:
    """Notes of all threads of a scan, each its own, and the limits that they share."""

    def __init__(self, asks: Sequence[Ask], limits: NDArray[np.float32]) -> None:
        self._asks, self._limits = asks, limits
        self._notes: dict[int, _Notes] = {}
        self._best: dict[int, NDArray[np.float32]] = {}
        self._held: dict[int, NDArray[np.int64]] = {}
        self._lock = threading.Lock()

    def open(self, most: int) -> Found:
        """The thread's notes, with room for `most` listings more of each ask."""
        thread = threading.get_ident()
        with self._lock:
            if thread not in self._notes:
                self._notes[thread] = _Notes(self._asks)
            return self._notes[thread].room(most, self._limits)

    def close(self, found: Found) -> None:
        """Raise the limits to what all threads have found by now."""
        thread = threading.get_ident()
        with self._lock:
            # The others' notes change meanwhile: what they had when they were closed is compared.
            self._best[thread], self._held[thread] = found.best.copy(), found.held.copy()
            best, held = (np.stack(list(each.values())) for each in (self._best, self._held))
            np.maximum(self._limits, found.limits, out=self._limits)
            agree(best, held, found.sizes, self._limits)

    @property
    def found(self) -> list[Found]:
        """What each thread has noted."""
        return [mine.found for mine in self._notes.values()]


def _wider(array: NDArray[Any], more: int) -> NDArray[Any]:
    return np.pad(array, ((0, 0), (0, more)), "empty")


def best_listings(
    blocks: Sequence[Block], asks: Sequence[Ask], *, each: Map = map
) -> list[Listings]:
    """Find the k best listings of every ask in one scan; exact, ties by listing id."""
    if not asks:
        return []
    every = np.concatenate([part for ask in asks for part in (ask.positives, ask.negatives)])
    examples = np.ascontiguousarray(every, np.float32)
    work = _Work(
        asks=asks,
        places=Places.of(blocks),
        plans=[_plans(asks, number) for number in range(len(blocks))],
        examples=examples,
        queries=encode_queries(examples),
        short=encode_shortly(examples),
    )
    few = len(examples) < sweep.MANY
    plain = all(ask.plain for ask in asks)
    found, scanned = (_surveyed if few and plain else _swept)(work, each)
    left = _left(work, found)
    return rescoring.settle(work.places, left, scanned, each)


def _swept(work: _Work, each: Map) -> tuple[list[Found], int]:
    """What one pass notes, and how many rows it has read."""
    notes = _Notebook(work.asks, np.full(len(work.asks), -np.inf, np.float32))

    def run(task: Task) -> int:
        number, first, last = task
        block, found = work.places.blocks[number], notes.open(last - first)
        scanned = sweep.scan(
            block.codes, block.offsets, work.span(task), work.queries, work.short,
            work.plans[number].numbers, found,
        )  # fmt: skip
        notes.close(found)
        return scanned

    tasks = _tasks(work.places.blocks, _FIRST_ROWS, _TASK_ROWS)
    scanned = sum(each(run, tasks))
    return notes.found, scanned


def _surveyed(work: _Work, each: Map) -> tuple[list[Found], int]:
    """What two passes note, and how many rows they have read; some millions of rows at a time."""
    limits = np.full(len(work.asks), -np.inf, np.float32)
    notes = _Notebook(work.asks, limits)
    none = np.empty((len(work.asks), 0), np.float32)
    most = max(ask.k for ask in work.asks)
    group = max(1, min(_GROUP, int(work.places.rows[-1]) // (8 * _LIKELY * most)))

    def look(task: Task) -> _Looked:
        number, first, last = task
        block, numbers = work.places.blocks[number], work.plans[number].numbers
        if work.masked:
            found = notes.open(last - first)
            scanned = survey.only_pass(
                block.codes, block.offsets, work.span(task), work.queries, numbers, found
            )
            notes.close(found)
            if scanned >= 0:
                return _Looked(task, none, none, scanned)
        rows = work.rows(task)
        uppers = np.empty((len(work.asks), rows), np.float32)
        scanned = survey.first_pass(
            block.codes, block.offsets, first, last, work.short, numbers, uppers
        )
        # Rows of a group lie far from each other. The last few rows are in none.
        whole = uppers[:, : rows - rows % group].reshape(len(uppers), group, rows // group)
        return _Looked(task, uppers, whole.max(axis=1), scanned)

    def run(looked: _Looked) -> None:
        if not looked.uppers.size:
            return
        number, first, last = looked.task
        block, found = work.places.blocks[number], notes.open(last - first)
        survey.second_pass(
            block.codes, block.offsets, work.span(looked.task), work.queries,
            work.plans[number].numbers, looked.uppers, found,
        )  # fmt: skip
        notes.close(found)

    tasks = _tasks(work.places.blocks, _SURVEY_ROWS, _SURVEY_ROWS)
    # Large ones first: threads end together.
    tasks.sort(key=work.rows, reverse=True)
    scanned = 0
    for start in range(0, len(tasks), _SURVEYED):
        seen = list(each(look, tasks[start : start + _SURVEYED]))
        scanned += sum(looked.scanned for looked in seen)
        for at in range(len(work.asks)):
            limits[at] = max(limits[at], _sure(work, at, seen))
        for _ in each(run, seen):
            pass
    return notes.found, scanned


@dataclass(frozen=True, slots=True, eq=False)
class _Looked:
    """What the first pass finds in a task: `uppers` float32 (A, R), `tops` (A, G) of groups.

    They are empty where the first pass was the only one.
    """

    task: Task
    uppers: NDArray[np.float32]
    tops: NDArray[np.float32]
    scanned: int


def _sure(work: _Work, at: int, seen: Sequence[_Looked]) -> float:
    """What the k-th best listing of an ask has at least, by the rows with the best upper bounds.

    Their exact scores tell. -inf where these are of fewer listings.
    """
    k, tops = work.asks[at].k, [looked.tops[at] for looked in seen]
    count = _LIKELY * k
    while 2 * count <= sum(map(len, tops)):
        least = rescoring.kth(tops, count)
        if least == -np.inf:
            break
        # Not in threads: they would wait for each other's turn with the interpreter.
        exact = [_scored(work, at, looked, least) for looked in seen]
        found = rescoring.kth(exact, k)
        if found > -np.inf:
            return found
        count *= 4
    return -np.inf


def _scored(work: _Work, at: int, looked: _Looked, least: float) -> NDArray[np.float32]:
    """The best exact score of each listing of a task among its rows that may reach `least`."""
    number, first, _ = looked.task
    block, size = work.places.blocks[number], looked.tops.shape[1]
    groups = np.flatnonzero(looked.tops[at] >= least)
    if not len(groups):
        return np.empty(0, np.float32)
    # Row r is in group r modulo `size`.
    every = looked.uppers[at, : looked.uppers.shape[1] // size * size].reshape(-1, size)
    turns, owns = np.nonzero(every[:, groups] >= least)
    rows = np.sort(turns * size + groups[owns]) + block.offsets[first]
    exact = rescoring.best_scores(block, rows, work.own(at))
    owners = np.searchsorted(block.offsets, rows, side="right")
    return np.maximum.reduceat(exact, np.flatnonzero(np.diff(owners, prepend=-1)))


def _left(work: _Work, every: Sequence[Found]) -> list[Left]:
    """What the bounds leave of each ask: listings whose upper bound reaches the k-th best lower."""
    left, start = [], 0
    for at, ask in enumerate(work.asks):
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
        coded = QueryCodes._make(each[own] for each in work.queries)
        left.append(Left(ask, work.examples[own], coded, listings[order], rows[order]))
        start = own.stop
    return left


def _plans(asks: Sequence[Ask], number: int) -> _Plans:
    masks = [(ask.mask(number), ask.eligible(number)) for ask in asks]
    made: list[bounds.Plan] = []
    for ask, own in zip(asks, masks, strict=True):
        made.append(ask.plan(made[-1].end if made else 0, *own))
    return _Plans(np.array(made, np.int64), masks)


def _tasks(blocks: Sequence[Block], size: int, most: int) -> list[Task]:
    """Cut blocks into runs of listings of about `size` rows, growing to `most`."""
    tasks = []
    for number, block in enumerate(blocks):
        first, listings = 0, len(block.offsets) - 1
        while first < listings:
            end = np.searchsorted(block.offsets, block.offsets[first] + size)
            last = min(listings, max(first + 1, int(end)))
            tasks.append((number, first, last))
            first, size = last, min(2 * size, most)
    return tasks
