"""Compiled loops of the neighbour graph: lists of the best rows, and improving them.

A list holds the best M rows of a row, best first: `rows` int32 (N, M), -1 where there is none, and
`scores` float32 (N, M), products in float32, -inf where there is none. Every function writes the
lists of the rows that it is given and of no other, so parts of the rows can be done by any number
of threads or processes at the same time with the same result.
"""

# Compiled loops take many arrays, by position.
# ruff: noqa: PLR0917

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analytics.compiler import compiled

_TOGETHER = 32
"""Scores that are compared before any is looked at."""

_BITS = 12
LOOKED = 2 ** (_BITS - 1)
"""Most rows that are looked at for one: half of the slots in the table of them."""

_PRIME = np.uint64(0x9E3779B97F4A7C15)


@partial(compiled, fast=True)
def product(left: NDArray[np.float32], right: NDArray[np.float32]) -> np.float32:
    """Sum of products in float32, in any order."""
    total = np.float32(0)
    for at in range(left.size):
        total += left[at] * right[at]
    return total


@compiled
def insert(
    rows: NDArray[np.int32], scores: NDArray[np.float32], row: int, score: np.float32
) -> int:
    """Put a row into a list in place of its last; returns where."""
    at = rows.size - 1
    while at > 0 and scores[at - 1] < score:
        scores[at] = scores[at - 1]
        rows[at] = rows[at - 1]
        at -= 1
    scores[at] = score
    rows[at] = row
    return at


@compiled
def take(
    found: NDArray[np.float32],
    who: NDArray[np.int64],
    own: int,
    others: NDArray[np.int64],
    rows: NDArray[np.int32],
    scores: NDArray[np.float32],
) -> int:
    """Take what is better into lists: `found` float32 (B, C), rows `who` (B,) by others.

    `rows` and `scores` are lists of which list n belongs to row `own` + n. Column c is row
    `others[c]`, which is not in the lists yet, and is left out of its own. Returns how often.
    """
    count, width = found.shape
    taken = 0
    last = rows.shape[1] - 1
    for at in range(count):
        mine = who[at]
        low = scores[mine, last]
        for start in range(0, width, _TOGETHER):
            stop = min(start + _TOGETHER, width)
            hits = 0
            if stop - start == _TOGETHER:
                for step in range(_TOGETHER):
                    hits += found[at, start + step] > low
            else:
                hits = 1
            if hits == 0:
                continue
            for place in range(start, stop):
                if found[at, place] > low and own + mine != others[place]:
                    insert(rows[mine], scores[mine], others[place], found[at, place])
                    low = scores[mine, last]
                    taken += 1
    return taken


@compiled
def take_both(
    found: NDArray[np.float32],
    own: int,
    other: int,
    rows: NDArray[np.int32],
    scores: NDArray[np.float32],
    other_rows: NDArray[np.int32],
    other_scores: NDArray[np.float32],
) -> None:
    """`take` for the B rows and for the C others, which are not the same rows, at once."""
    count, width = found.shape
    last = rows.shape[1] - 1
    lows = other_scores[:, last].copy()
    for at in range(count):
        low = scores[at, last]
        for start in range(0, width, _TOGETHER):
            stop = min(start + _TOGETHER, width)
            hits = 0
            if stop - start == _TOGETHER:
                for step in range(_TOGETHER):
                    score = found[at, start + step]
                    hits += (score > low) | (score > lows[start + step])
            else:
                hits = 1
            if hits == 0:
                continue
            for place in range(start, stop):
                score = found[at, place]
                if score > low:
                    insert(rows[at], scores[at], other + place, score)
                    low = scores[at, last]
                if score > lows[place]:
                    insert(other_rows[place], other_scores[place], own + at, score)
                    lows[place] = other_scores[place, last]


@compiled
def reverse(
    rows: NDArray[np.int32],
    scores: NDArray[np.float32],
    fresh: NDArray[np.uint8],
    back: NDArray[np.int32],
    back_fresh: NDArray[np.uint8],
) -> None:
    """Fill lists the other way: `back` int32 (N, B), the best rows that have row n in their list.

    `fresh` (N, M) goes with them into `back_fresh` (N, B).
    """
    count, size = rows.shape
    width = back.shape[1]
    back[:] = -1
    best = np.full((count, width), -np.inf, np.float32)
    for row in range(count):
        for at in range(size):
            to = rows[row, at]
            score = scores[row, at]
            if to < 0 or score <= best[to, width - 1]:
                continue
            place = width - 1
            while place > 0 and best[to, place - 1] < score:
                best[to, place] = best[to, place - 1]
                back[to, place] = back[to, place - 1]
                back_fresh[to, place] = back_fresh[to, place - 1]
                place -= 1
            best[to, place] = score
            back[to, place] = row
            back_fresh[to, place] = fresh[row, at]


class Looked(NamedTuple):
    """Rows that were looked at: a hash table of them, and in turn the slots and the rows."""

    table: NDArray[np.int32]
    slots: NDArray[np.int32]
    rows: NDArray[np.int32]


@compiled
def none_looked() -> Looked:
    """No row that was looked at, and room for `LOOKED`."""
    return Looked(
        np.full(2 * LOOKED, -1, np.int32), np.empty(LOOKED, np.int32), np.empty(LOOKED, np.int32)
    )


@compiled
def look_at(looked: Looked, count: int, row: int) -> int:
    """Note a row behind `count` others, if there is room and it is none of them; how many are."""
    if count >= looked.rows.size:
        return count
    slot = np.int64((np.uint64(row) * _PRIME) >> np.uint64(64 - _BITS))
    while looked.table[slot] >= 0 and looked.table[slot] != row:
        slot = (slot + 1) & (looked.table.size - 1)
    if looked.table[slot] >= 0:
        return count
    looked.table[slot] = row
    looked.slots[count] = slot
    looked.rows[count] = row
    return count + 1


@compiled
def forget(looked: Looked, count: int) -> None:
    """Note none of the `count` rows any more."""
    for at in range(count):
        looked.table[looked.slots[at]] = -1


@compiled
def _look(
    looked: Looked, count: int, rows: NDArray[np.int32], fresh: NDArray[np.uint8], every: int
) -> int:
    """Note the rows of a list, `every` one or the fresh ones; returns how many are noted now."""
    for at in range(rows.size):
        if rows[at] >= 0 and (every or fresh[at]):
            count = look_at(looked, count, rows[at])
    return count


@compiled
def _enter(
    rows: NDArray[np.int32],
    scores: NDArray[np.float32],
    fresh: NDArray[np.uint8],
    row: int,
    score: np.float32,
) -> None:
    """Put a row into a list in place of its last, fresh, unless it is there or not as good."""
    at = rows.size - 1
    if score <= scores[at]:
        return
    for place in range(rows.size):
        if rows[place] == row:
            return
    while at > 0 and scores[at - 1] < score:
        scores[at] = scores[at - 1]
        rows[at] = rows[at - 1]
        fresh[at] = fresh[at - 1]
        at -= 1
    scores[at] = score
    rows[at] = row
    fresh[at] = 1


@compiled
def refine(
    vectors: NDArray[np.float32],
    rows: NDArray[np.int32],
    scores: NDArray[np.float32],
    fresh: NDArray[np.uint8],
    back: NDArray[np.int32],
    back_fresh: NDArray[np.uint8],
    first: int,
    last: int,
    new_rows: NDArray[np.int32],
    new_scores: NDArray[np.float32],
    new_fresh: NDArray[np.uint8],
) -> int:
    """Look at the neighbours' neighbours of rows first to last: one round of NN-descent.

    Dong, Moses, Li (2011), Efficient k-nearest neighbor graph construction for generic similarity
    measures: of each pair of steps one must be fresh (found in the round before). The lists of the
    round before are read; those of rows first to last are written, `new_*` (N, M), and what one of
    these rows finds about another is entered there, too. Returns how many entries are new.
    """
    looked = none_looked()
    for row in range(first, last):
        new_rows[row] = rows[row]
        new_scores[row] = scores[row]
        new_fresh[row] = 0
    own = np.empty(1, np.int32)
    for row in range(first, last):
        own[0] = row
        known = _look(looked, 0, own, fresh[row], 1)
        known = _look(looked, known, new_rows[row], fresh[row], 1)
        # A row that has this one in its list is a candidate itself.
        count = _look(looked, known, back[row], back_fresh[row], 0)
        for at in range(rows.shape[1]):
            if rows[row, at] >= 0:
                to, young = rows[row, at], fresh[row, at]
                count = _look(looked, count, rows[to], fresh[to], young)
                count = _look(looked, count, back[to], back_fresh[to], young)
        for at in range(back.shape[1]):
            if back[row, at] >= 0:
                to, young = back[row, at], back_fresh[row, at]
                count = _look(looked, count, rows[to], fresh[to], young)
                count = _look(looked, count, back[to], back_fresh[to], young)
        for at in range(known, count):
            other = looked.rows[at]
            found = product(vectors[row], vectors[other])
            _enter(new_rows[row], new_scores[row], new_fresh[row], other, found)
            if first <= other < last:
                _enter(new_rows[other], new_scores[other], new_fresh[other], row, found)
        forget(looked, count)
    changed = 0
    for row in range(first, last):
        changed += new_fresh[row].sum()
    return changed


@compiled
def mark(vectors: NDArray[np.float32], first: int, last: int, out: NDArray[np.uint64]) -> None:
    """Hash the bits of rows first to last: equal rows have equal marks."""
    bits = vectors.view(np.uint32)
    for row in range(first, last):
        value = np.uint64(bits.shape[1])
        for at in range(bits.shape[1]):
            value = (value ^ np.uint64(bits[row, at])) * _PRIME
            value ^= value >> np.uint64(29)
        out[row] = value
