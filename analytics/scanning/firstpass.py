"""First passes over codes, which bound every row, and which of them is worth it for some queries.

A pass that reads or multiplies less bounds less tightly. Which rows a bound leaves depends on how
the scores of a collection are spread: of 512 numbers in any direction the upper five bits of codes
leave one row in fifty, of 4,000 nearly all. So a few rows are tried first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analytics.scanning import survey, sweep, tops
from analytics.scanning.blocks import Block
from analytics.scanning.codes import Codes, QueryCodes, ShortCodes
from analytics.scanning.products import products, scratch
from analytics.scanning.rescoring import kth

_UPPER_LEFT, _SHORT_LEFT = 0.3, 0.03
"""Where a pass would leave more of the rows that are tried, codes are read whole, by int16 queries.

A row that is left costs a read from memory of its own. The best of a few rows is below the best of
all: of these a smaller share is left.
"""

_LEAST = 64
"""Fewer rows say nothing."""

_MASKED = 0.5
"""Where a smaller share of the rows counts for few queries, only those are read, by upper bits."""

Floats = NDArray[np.float32]
Span = tuple[int, int]


class Asked(NamedTuple):
    """Queries as both kinds of codes, and the plans int64 (A, 7) of their asks for a block.

    `short` are coded by `sweep.rough`.
    """

    queries: QueryCodes
    short: ShortCodes
    numbers: NDArray[np.int64]


class FirstPass(NamedTuple):
    """A way to bound all rows of a run of listings: one bound for each `group` rows.

    `fill` takes a block, its listings from the first to the one behind the last, what is asked, and
    `uppers` float32 (A, G), which it fills from a column on. It returns how many rows it read.
    """

    group: int
    fill: Callable[[Block, Span, Asked, Floats, int], int]


def _upper(block: Block, span: Span, asked: Asked, uppers: Floats, place: int) -> int:
    first, last = span
    return survey.first_pass(
        block.codes, block.offsets, first, last, asked.short, asked.numbers, uppers, place
    )


def _short(block: Block, span: Span, asked: Asked, uppers: Floats, place: int) -> int:
    begin, behind = (int(block.offsets[each]) for each in span)
    tops.fill(block.codes, begin, behind, asked.short, asked.numbers, uppers, place)
    return behind - begin


def _fine(block: Block, span: Span, asked: Asked, uppers: Floats, place: int) -> int:
    begin, behind = (int(block.offsets[each]) for each in span)
    tops.fill_finely(block.codes, begin, behind, asked.queries, asked.numbers, uppers, place)
    return behind - begin


UPPER = FirstPass(1, _upper)
"""By the upper five bits of codes, for few queries; what does not count is not read."""

SHORT = FirstPass(tops.GROUP, _short)
"""By whole codes and int8 queries, which must be of `products.short_queries`: for many."""

FINE = FirstPass(tops.GROUP, _fine)
"""By whole codes and int16 queries: the tightest bounds."""


def chosen(
    trials: Sequence[Codes],
    rows: int,
    asked: Asked,
    sizes: NDArray[np.int64],
    shares: NDArray[np.float64],
) -> FirstPass:
    """The pass that some asks, `MAX` without negatives, are worth.

    `trials` are codes of a few of all `rows`. Each ask wants `sizes` int64 (A,) listings, and about
    `shares` float64 (A,) of the rows count for it.
    """
    few = len(asked.queries.values) < sweep.MANY
    usual = UPPER if few else SHORT
    count = sum(len(each.scales) for each in trials)
    if count < _LEAST or (few and shares.min() < _MASKED):
        return usual
    scores = np.concatenate([_scores(each, asked.queries) for each in trials], axis=1)
    lost = np.concatenate([each.coarse if few else each.residuals for each in trials])
    bounds = scores + (asked.short.offsets[:, None] + asked.short.slopes[:, None] * lost)
    ranks = np.clip(sizes / shares * (count / rows), 1, count).astype(np.int64)
    left = []
    for numbers, rank in zip(asked.numbers.tolist(), ranks.tolist(), strict=True):
        own = slice(numbers[0], numbers[1])
        left.append(np.mean(bounds[own].max(axis=0) >= kth([scores[own].max(axis=0)], rank)))
    return FINE if np.mean(left) > (_UPPER_LEFT if few else _SHORT_LEFT) else usual


def warm(block: Block, asked: Asked) -> None:
    """Compile what is needed only where rows are tried: a scan of few rows compiles the rest."""
    _scores(block.trial, asked.queries)
    uppers = np.empty((len(asked.numbers), block.rows), np.float32)
    FINE.fill(block, (0, len(block.offsets) - 1), asked, uppers, 0)


def _scores(codes: Codes, queries: QueryCodes) -> Floats:
    """Scores (Q, R) of some rows by all that is coded."""
    count, rows = len(queries.values), len(codes.scales)
    found = np.empty((count, rows), np.float32)
    products(codes, 0, rows, np.ones(rows, np.uint8), queries, 0, count, scratch(codes), found)
    return found
