"""Crowds: equal rows, so many that the neighbour lists of each hold nothing but its equals.

A picture that stands in for thousands (a placeholder, a test card) knows nobody else by its graph:
all of them hang on the few that come first, and a layout would spend its time on spreading them.
A crowd is laid out as one row, and all of it is where that one is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analytics.graph import equal
from analytics.layouts.layout import Edges
from analytics.neighbours import Graph


@dataclass(frozen=True, slots=True, eq=False)
class Crowds:
    """Who stands for whom: `kept` int64 (M,) are the rows that are laid out, ascending.

    `of` int64 (N,): which of them each row is, or is equal to.
    """

    kept: NDArray[np.int64]
    of: NDArray[np.int64]

    def graph(self, given: Graph) -> Graph:
        """The kept rows' neighbours among themselves, by their new numbers.

        Those of a crowd may be one several times; -1 stands where a row would be its own.
        """
        near = self.of[given.rows[self.kept]]
        near[near == np.arange(len(self.kept))[:, None]] = -1
        return Graph(near, given.scores[self.kept])

    def edges(self, given: Edges) -> Edges:
        """The graph of the kept rows: between two, the largest weight of any that they stand for.

        `given` is that of all N rows.
        """
        left = self.of[np.repeat(np.arange(given.count), np.diff(given.starts))]
        right = self.of[given.rows]
        between = left != right
        left, right, weights = left[between], right[between], given.weights[between]
        order = np.lexsort((-weights, right, left))
        left, right, weights = left[order], right[order], weights[order]
        first = np.r_[True, (left[1:] != left[:-1]) | (right[1:] != right[:-1])][: len(left)]
        held = np.bincount(left[first], minlength=len(self.kept))
        return Edges(
            np.r_[0, np.cumsum(held)].astype(np.int64),
            right[first].astype(np.int32),
            weights[first],
        )

    def start(self, given: NDArray[np.float32]) -> NDArray[np.float32]:
        """Where the kept rows were, float32 (M, dims): of a crowd the mean of those that were.

        `given` float32 (N, dims), NaN for new rows.
        """
        known = np.isfinite(given).all(axis=1)
        total = np.zeros((len(self.kept), given.shape[1]))
        np.add.at(total, self.of[known], given[known])
        held = np.bincount(self.of[known], minlength=len(self.kept))
        with np.errstate(invalid="ignore"):
            found: NDArray[np.float32] = (total / held[:, None]).astype(np.float32)
        return found


def find(vectors: NDArray[np.float32], graph: Graph) -> Crowds | None:
    """The crowds among float32 (N, D); None where there are none, or the graph has no marks."""
    count, most = graph.rows.shape
    if not most or len(graph.marks) != count:
        return None
    found = equal.groups(vectors, graph.marks, np.arange(count, dtype=np.int32))
    sizes = np.diff(found.starts)
    if found.largest <= most:
        return None
    stands = np.arange(count)
    stands[found.members] = np.where(
        np.repeat(sizes > most, sizes), np.repeat(found.heads, sizes), found.members
    )
    kept, of = np.unique(stands, return_inverse=True)
    return Crowds(kept, of.astype(np.int64))
