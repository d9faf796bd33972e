"""The scan of a host: one pass over codes for all queries that wait, then exact scores."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analytics.scanning import bounds, firstpass, rescoring, survey, sweep, tops
from analytics.scanning.ask import Ask
from analytics.scanning.blocks import Block
from analytics.scanning.codes import QueryCodes, ShortCodes, encode_queries
from analytics.scanning.components import Directions, Projected
from analytics.scanning.firstpass import Asked, FirstPass
from analytics.scanning.notes import Found, agree, compact, join
from analytics.scanning.rescoring import Left, Listings, Map, Places

__all__ = ["Ask", "Listings", "best_listings"]

_TASK_ROWS = 32_768
_FIRST_ROWS = 2048
"""The first tasks are small: they find a threshold that spares the others work."""

_SURVEY_ROWS = 131_072
_HELD_BYTES = 2**27
"""Upper bounds of a survey that are held together."""

_APART = 64
"""Upper bounds of which the best one stands for all when a limit is guessed."""

_SPARE = 4
"""One listing in so many hits is scored beside them, where the k-th best is to be known."""

Task = tuple[int, int, int]
"""A block and its listings from the first to the one behind the last."""


@dataclass(frozen=True, slots=True, eq=False)
class _Plans:
    """The plans int64 (A, 7) of all asks for one block, with the masks whose addresses they say."""

    numbers: NDArray[np.int64]
    masks: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]]


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """What a scan is about: asks, their examples as codes, blocks with the plans for each.

    `shares` float64 (A,): about which share of the rows counts for each ask.
    """

    asks: Sequence[Ask]
    places: Places
    plans: Sequence[_Plans]
    examples: NDArray[np.float32]
    queries: QueryCodes
    short: ShortCodes
    shares: NDArray[np.float64]

    @classmethod
    def of(cls, places: Places, asks: Sequence[Ask], shares: Sequence[float]) -> _Work:
        """Code the examples of some asks, and plan these for each block."""
        every = np.concatenate([part for ask in asks for part in (ask.positives, ask.negatives)])
        examples = np.ascontiguousarray(every, np.float32)
        return cls(
            asks=asks,
            places=places,
            plans=[_plans(asks, number) for number in range(len(places.blocks))],
            examples=examples,
            queries=encode_queries(examples),
            short=sweep.rough(examples),
            shares=np.array(shares),
        )

    @property
    def sizes(self) -> NDArray[np.int64]:
        """How many listings each ask wants."""
        return np.array([ask.k for ask in self.asks], np.int64)

    @property
    def masked(self) -> bool:
        """Whether every ask has masks, so that there may be few rows to look at."""
        return all(
            any(mask is not None for mask in (*ask.rows, *ask.listings)) for ask in self.asks
        )

    def asked(self) -> list[Asked]:
        """What is asked of each block."""
        projected: dict[Directions, Projected] = {}
        found = []
        for block, plans in zip(self.places.blocks, self.plans, strict=True):
            own = None
            if block.components is not None:
                directions = block.components.directions
                if directions not in projected:
                    projected[directions] = directions.project(self.examples)
                own = block.components.asked(projected[directions])
            found.append(Asked(self.queries, self.short, plans.numbers, own))
        return found

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


_Way = Callable[[_Work, Map], tuple[list[Found], NDArray[np.float32], int]]
"""How asks are bounded: what is noted, what the k-th best has at least, how many rows were read."""


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


@dataclass(frozen=True, slots=True, eq=False)
class _Sure:
    """Lower bounds of listings, the best of each ask: `best` float32 (A, k), `held` int64 (A,).

    `limits` float32 (A,): what the k-th best listing has at least, by these or by exact scores.
    """

    best: NDArray[np.float32]
    held: NDArray[np.int64]
    limits: NDArray[np.float32]

    @classmethod
    def nothing(cls, asks: Sequence[Ask]) -> _Sure:
        """What is known before anything is read."""
        return cls(
            np.empty((len(asks), max(ask.k for ask in asks)), np.float32),
            np.zeros(len(asks), np.int64),
            np.full(len(asks), -np.inf, np.float32),
        )

    def reached(self, every: Sequence[Found]) -> NDArray[np.float32]:
        """The limits, by what is noted of other listings as well."""
        limits = self.limits.copy()
        if every:
            agree(*self._stacked(every), every[0].sizes, limits)
        return limits

    def joined(self, every: Sequence[Found], limits: NDArray[np.float32]) -> _Sure:
        """Add what is noted of other listings; the limits are then known."""
        if not every:
            return replace(self, limits=limits)
        best, held = np.empty_like(self.best), np.zeros_like(self.held)
        join(*self._stacked(every), every[0].sizes, best, held)
        return _Sure(best, held, limits)

    def _stacked(self, every: Sequence[Found]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        best, held = [found.best for found in every], [found.held for found in every]
        return np.stack([self.best, *best]), np.stack([self.held, *held])


class _Notebook:
    """Notes of all threads of a scan, each its own, and the limits that they share.

    `sure`: what is known of other listings.
    """

    def __init__(self, asks: Sequence[Ask], sure: _Sure) -> None:
        self._asks, self._limits = asks, sure.limits.copy()
        self._notes: dict[int, _Notes] = {}
        # No thread has this number.
        self._best, self._held = {-1: sure.best}, {-1: sure.held}
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
            np.maximum(self._limits, found.limits, out=self._limits)
            best, held = (np.stack(list(each.values())) for each in (self._best, self._held))
            agree(best, held, found.sizes, self._limits)

    @property
    def found(self) -> list[Found]:
        """What each thread has noted."""
        return [mine.found for mine in self._notes.values()]


def _wider(array: NDArray[Any], more: int) -> NDArray[Any]:
    count, width = array.shape
    wide = np.empty((count, width + more), array.dtype)
    wide[:, :width] = array
    return wide


def best_listings(
    blocks: Sequence[Block], asks: Sequence[Ask], *, each: Map = map
) -> list[Listings]:
    """Find the k best listings of every ask in one scan; exact, ties by listing id."""
    if not asks:
        return []
    places = Places.of(blocks)
    left: dict[int, Left] = {}
    for way, shares in _sorted(places, asks):
        work = _Work.of(places, [asks[at] for at in shares], list(shares.values()))
        left |= zip(shares, _left(work, *way(work, each)), strict=True)
    return rescoring.settle(places, [left[at] for at in range(len(asks))], each)


def _sorted(places: Places, asks: Sequence[Ask]) -> list[tuple[_Way, dict[int, float]]]:
    """Which way each ask goes, and about which share of the rows counts for it."""
    own = [at for at, ask in enumerate(asks) if ask.plain]
    plain = dict(zip(own, _shares(places, [asks[at] for at in own]), strict=True))
    if sum(len(asks[at].positives) for at in plain) >= sweep.MANY:
        # The bound of a group says little where hardly one of its rows counts.
        plain = {at: share for at, share in plain.items() if share * tops.GROUP >= 1}
    rest = {at: 1.0 for at in range(len(asks)) if at not in plain}
    return [(way, each) for way, each in ((_surveyed, plain), (_swept, rest)) if each]


def _shares(places: Places, asks: Sequence[Ask]) -> list[float]:
    """About which share of the rows counts for each ask."""
    barred: dict[int, int] = {}
    shares = []
    for ask in asks:
        share = 1.0
        for masks, count in ((ask.rows, places.rows[-1]), (ask.listings, places.listings[-1])):
            given = [mask for mask in masks if mask is not None]
            for mask in given:
                # Queries have masks in common, as that of stock.
                if id(mask) not in barred:
                    barred[id(mask)] = len(mask) - int(np.count_nonzero(mask))
            share *= 1 - sum(barred[id(mask)] for mask in given) / max(1, int(count))
        shares.append(share)
    return shares


def _noted(
    work: _Work,
    tasks: Sequence[Task],
    one_pass: Callable[..., int],
    queries: Sequence[QueryCodes | ShortCodes],
    each: Map,
) -> tuple[list[Found], list[int]]:
    """What a compiled pass notes in one go, and what it returns for each task."""
    notes = _Notebook(work.asks, _Sure.nothing(work.asks))

    def run(task: Task) -> int:
        number, first, last = task
        block, found = work.places.blocks[number], notes.open(last - first)
        numbers = work.plans[number].numbers
        rows = one_pass(block.codes, block.offsets, work.span(task), *queries, numbers, found)
        notes.close(found)
        return rows

    every = list(each(run, tasks))
    return notes.found, every


def _swept(work: _Work, each: Map) -> tuple[list[Found], NDArray[np.float32], int]:
    """What one pass notes."""
    tasks = _tasks(work.places.blocks, _FIRST_ROWS, _TASK_ROWS)
    found, scanned = _noted(work, tasks, sweep.scan, (work.queries, work.short), each)
    return found, _Sure.nothing(work.asks).reached(found), sum(scanned)


def _surveyed(work: _Work, each: Map) -> tuple[list[Found], NDArray[np.float32], int]:
    """What two passes note."""
    few = len(work.examples) < sweep.MANY
    reach = firstpass.reaching(few=few)
    tasks = _tasks(work.places.blocks, _SURVEY_ROWS, _SURVEY_ROWS)
    # Large ones first: threads end together.
    tasks.sort(key=work.rows, reverse=True)
    found: list[Found] = []
    sure, scanned = _Sure.nothing(work.asks), 0
    if few and work.masked:
        found, scanned, tasks = _outright(work, tasks, each)
        sure = sure.joined(found, sure.reached(found))
    if not tasks:
        return found, sure.limits, scanned
    trials, rows = [block.trial for block in work.places.blocks], int(work.places.rows[-1])
    asked = work.asked()
    ways = firstpass.chosen(trials, rows, asked, work.sizes, work.shares)
    held = max(1, _HELD_BYTES // (4 * len(work.asks) * (_SURVEY_ROWS // ways[-1].group)))
    for start in range(0, len(tasks), held):
        noted = None
        while noted is None:
            wave = _Wave.of(work, asked, tasks[start : start + held], ways[0])
            read = wave.fill(each)
            noted, limits = wave.settled(sure, each, most=reach if len(ways) > 1 else 1.0)
            if noted is None:
                ways, sure = ways[1:], sure.joined([], limits)
        scanned += read
        found += noted
        sure = sure.joined(noted, limits)
    return found, sure.limits, scanned


def _outright(work: _Work, tasks: Sequence[Task], each: Map) -> tuple[list[Found], int, list[Task]]:
    """Score what counts at once in tasks where it is little; the tasks that are left."""
    found, every = _noted(work, tasks, survey.only_pass, (work.queries,), each)
    left = [task for task, scanned in zip(tasks, every, strict=True) if scanned < 0]
    return found, sum(scanned for scanned in every if scanned > 0), left


@dataclass(frozen=True, slots=True, eq=False)
class _Wave:
    """Tasks whose upper bounds are held together.

    `uppers` float32 (A, G): what the first pass fills; those of a task from column `starts` on.
    """

    work: _Work
    asked: Sequence[Asked]
    tasks: Sequence[Task]
    way: FirstPass
    starts: NDArray[np.int64]
    uppers: NDArray[np.float32]

    @classmethod
    def of(
        cls, work: _Work, asked: Sequence[Asked], tasks: Sequence[Task], way: FirstPass
    ) -> _Wave:
        """Room for the bounds of some tasks."""
        sizes = [-(-work.rows(task) // way.group) for task in tasks]
        starts = np.r_[0, np.cumsum(sizes)].astype(np.int64)
        uppers = np.empty((len(work.asks), starts[-1]), np.float32)
        return cls(work, asked, tasks, way, starts, uppers)

    def fill(self, each: Map) -> int:
        """Bound all rows from above; how many were read."""
        return sum(each(self._look, range(len(self.tasks))))

    def settled(
        self, sure: _Sure, each: Map, *, most: float
    ) -> tuple[list[Found] | None, NDArray[np.float32]]:
        """Note what may be among the k best, beside what is sure of other listings.

        A limit is guessed by the best of the upper bounds. What is noted then tells whether the
        guess was right; where it was too high, it tells one that is not. Returns the notes, and
        what the k-th best listing of each ask has at least; no notes where more than the share
        `most` of the bounds reach those limits, so that another pass is worth it.
        """
        work, limits = self.work, sure.limits
        # Of a group that is bounded well only a share of the rows may count.
        shares = work.shares if self.way.group > 1 else 1.0
        counts = np.ceil(self.way.likely * work.sizes / shares).astype(np.int64)
        while True:
            guess = np.maximum(self._likely(counts, each), limits)
            notes = _Notebook(work.asks, replace(sure, limits=limits))
            for _ in each(partial(self._note, notes, guess), range(len(self.tasks))):
                pass
            limits = np.maximum(limits, sure.reached(notes.found))
            missed = limits < guess
            if not missed.any():
                return notes.found, limits
            exact = self._exactly(np.flatnonzero(missed).tolist(), notes.found, each)
            limits = np.maximum(limits, exact)
            if most < 1 and self._reaching(limits, each) > most:
                return None, limits
            # Where the best rows are of too few listings nothing is known yet.
            counts = np.where(missed & (limits == -np.inf), 4 * counts, 0)

    def _reaching(self, limits: NDArray[np.float32], each: Map) -> float:
        """Which share of what counts has bounds that reach limits, where these are known."""
        known = np.flatnonzero(limits > -np.inf)

        def run(at: int) -> NDArray[np.intp]:
            own = self.uppers[known, self.starts[at] : self.starts[at + 1]]
            counts: NDArray[np.intp] = np.count_nonzero(own >= limits[known, None], axis=1)
            return counts

        reaching = sum(each(run, range(len(self.tasks)))) / max(1, int(self.starts[-1]))
        return float(np.sum(reaching * self.work.shares[known])) / max(1, len(known))

    def _likely(self, counts: NDArray[np.int64], each: Map) -> NDArray[np.float32]:
        """An upper bound of each ask that about so many reach, and no fewer; -inf for all."""
        if not counts.any():
            return np.full(len(counts), -np.inf, np.float32)
        sizes = np.diff(self.starts)
        apart = max(1, min(_APART, int(self.starts[-1]) // (8 * int(counts.max()))))
        starts = np.r_[0, np.cumsum(-(-sizes // apart))].tolist()
        peaks = np.empty((len(counts), starts[-1]), np.float32)

        def run(at: int) -> None:
            first, last = int(self.starts[at]), int(self.starts[at + 1])
            tops.peaks(self.uppers, first, last, peaks, starts[at], starts[at + 1] - starts[at])

        for _ in each(run, range(len(self.tasks))):
            pass
        return np.array(
            [
                rescoring.kth([own], count) if count else -np.inf
                for own, count in zip(peaks, counts.tolist(), strict=True)
            ],
            np.float32,
        )

    def _exactly(
        self, asks: Sequence[int], every: Sequence[Found], each: Map
    ) -> NDArray[np.float32]:
        """What the k-th best listing of some asks has at least, by exact scores of likely ones.

        -inf for the others.
        """
        work, rows = self.work, []
        for at in asks:
            own, uppers = (
                np.concatenate([getattr(found, name)[at, : found.counts[at]] for found in every])
                for name in ("rows", "upper")
            )
            k = work.asks[at].k
            least = rescoring.kth([uppers[own >= 0]], k + k // _SPARE)
            rows.append(own[(own >= 0) & (uppers >= least)])
        limits = np.full(len(work.asks), -np.inf, np.float32)
        scores = rescoring.exact(work.places, [work.own(at) for at in asks], rows, each)
        for at, own in zip(asks, scores, strict=True):
            limits[at] = rescoring.kth([own], work.asks[at].k)
        return limits

    def _look(self, at: int) -> int:
        number, first, last = self.tasks[at]
        block, asked = self.work.places.blocks[number], self.asked[number]
        return self.way.fill(block, (first, last), asked, self.uppers, int(self.starts[at]))

    def _note(self, notes: _Notebook, least: NDArray[np.float32], at: int) -> None:
        work, task = self.work, self.tasks[at]
        number, first, _ = task
        block, where = work.places.blocks[number], np.array([first, 0], np.int64)
        sieve = self.way.sieve(block, self.asked[number])
        more = self.way.likely * max(ask.k for ask in work.asks)
        while more:
            found = notes.open(more)
            more = survey.second_pass(
                block.codes, block.offsets, work.span(task), work.queries,
                work.plans[number].numbers, self.uppers, int(self.starts[at]), self.way.group,
                least, *sieve, where, found,
            )  # fmt: skip
        notes.close(found)


def _left(
    work: _Work, every: Sequence[Found], limits: NDArray[np.float32], scanned: int
) -> list[Left]:
    """What the bounds leave of each ask: listings whose upper bound reaches its limit."""
    left, start = [], 0
    for at, ask in enumerate(work.asks):
        own = slice(start, start + len(ask.positives) + len(ask.negatives))
        near = [found.upper[at, : found.counts[at]] >= limits[at] for found in every]
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
        left.append(Left(ask, work.examples[own], coded, listings[order], rows[order], scanned))
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
