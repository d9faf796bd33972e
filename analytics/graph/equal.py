"""Rows that are equal, bit for bit: searched once, then given to each of them.

However often a picture was taken in, it is one row to the search: a hundred thousand copies cost
as much as one, and each copy still gets its k nearest, the other copies among them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analytics.graph import links, settling
from analytics.parts import Arrays, Parts, cut

_PART = 16_384


class Groups(NamedTuple):
    """Groups of equal rows: `members` starts[g] to starts[g + 1], ascending by rank.

    `starts` int64 (G + 1,), `members` int64 (N,). Groups are in the order of their first members.
    """

    starts: NDArray[np.int64]
    members: NDArray[np.int64]

    @property
    def heads(self) -> NDArray[np.int64]:
        """First member of each group, by rank: int64 (G,)."""
        return self.members[self.starts[:-1]]

    @property
    def largest(self) -> int:
        """Rows of the largest group."""
        return int(np.diff(self.starts).max(initial=0))

    def of_rows(self) -> NDArray[np.int64]:
        """Group of each row: int64 (N,)."""
        found = np.empty(len(self.members), np.int64)
        found[self.members] = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        return found


def marks(parts: Parts, source: str) -> NDArray[np.uint64]:
    """A hash of the bits of each row of an array: uint64 (N,)."""
    count = len(parts[source])
    found = parts.make("marks", (count,), np.uint64)
    parts.run(_mark, cut(count, _PART), (source, "marks"), step="equal rows", source=source)
    found = found.copy()
    parts.drop("marks")
    return found


def groups(
    vectors: NDArray[np.float32], marked: NDArray[np.uint64], ranks: NDArray[np.int32]
) -> Groups:
    """Group equal rows: float32 (N, D) with their marks and ranks."""
    count = len(vectors)
    order = np.lexsort((ranks, marked))
    same = np.r_[False, marked[order[1:]] == marked[order[:-1]]] if count else np.empty(0, bool)
    # Different rows can share a mark: those are told apart here.
    pairs = np.flatnonzero(same)
    for low, high in cut(len(pairs), _PART):
        part = pairs[low:high]
        left, right = (vectors[order[part - back]].view(np.uint32) for back in (0, 1))
        same[part] = (left == right).all(axis=1)
    starts = np.flatnonzero(~same)
    turn = np.argsort(order[starts], kind="stable")
    sizes = np.diff(np.r_[starts, count])[turn]
    ends = np.cumsum(sizes)
    within = np.arange(count) - np.repeat(ends - sizes, sizes)
    members = order[np.repeat(starts[turn], sizes) + within]
    return Groups(np.r_[0, ends].astype(np.int64), members.astype(np.int64))


def spread(
    found: Groups,
    vectors: NDArray[np.float32],
    ranks: NDArray[np.int32],
    lists: tuple[NDArray[np.int32], NDArray[np.float32]],
    k: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Make lists of all rows, (N, k), from those of the groups, rows and scores (G, K')."""
    heads = found.heads
    own = np.zeros(len(heads), np.float32)
    itself = np.empty(1, np.float32)
    for group in np.flatnonzero(np.diff(found.starts) > 1):
        head = np.array([heads[group]], np.int32)
        settling.score(vectors, int(heads[group]), head, itself)
        own[group] = itself[0]
    near = np.empty((len(vectors), k), np.int64)
    near_scores = np.empty((len(vectors), k), np.float32)
    settling.spread(ranks, found.starts, found.members, own, *lists, near, near_scores)
    return near, near_scores


def _mark(arrays: Arrays, first: int, last: int, *, source: str) -> int:
    links.mark(arrays[source], first, last, arrays["marks"])
    return 0
