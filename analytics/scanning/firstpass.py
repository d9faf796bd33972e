"""First passes over codes, which bound every row, and which of them is worth it for some queries.

A pass that reads or multiplies less bounds less tightly. Which rows a bound leaves depends on how
the scores of a collection are spread: of 512 numbers in any direction the upper five bits of codes
leave one row in fifty, of 4,000 nearly all; of features that a network makes an eighth of the
numbers, their principal components, leave few. So a few rows are tried first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from analytics.scanning import survey, sweep, tops
from analytics.scanning.blocks import Block, Trial
from analytics.scanning.codes import Codes, QueryCodes, ShortCodes, encode_queries
from analytics.scanning.components import NOTHING, ComponentCodes, component_products
from analytics.scanning.products import products, scratch
from analytics.scanning.rescoring import kth

_UPPER_LEFT, _SHORT_LEFT = 0.3, 0.03
"""Where a pass would leave more of the rows that are tried, codes are read whole, by int16 queries.

A row that is left costs a read from memory of its own. The best of a few rows is below the best of
all: of these a smaller share is left.
"""

_COMPONENTS_LEFT = 0.5
"""The same of components: it is looked at again when all rows are bounded."""

_FEW_REACH, _MANY_REACH = 0.15, 0.04
"""Share of groups of rows that may reach the limits by components, for few queries and many.

Above, a pass over codes is quicker than to score those groups row by row.
"""

_LOOKED = 0.02
"""Share of the rows that may be looked at before a limit is known."""

_LEAST = 64
"""Fewer rows say nothing."""

_MASKED = 0.5
"""Where a smaller share of the rows counts for few queries, only those are read, by upper bits."""

Floats = NDArray[np.float32]
Span = tuple[int, int]


class Asked(NamedTuple):
    """Queries as both kinds of codes, and the plans int64 (A, 7) of their asks for a block.

    `short` are coded by `sweep.rough`. `components`: as the block's components take them, None
    where it has none.
    """

    queries: QueryCodes
    short: ShortCodes
    numbers: NDArray[np.int64]
    components: ShortCodes | None = None

    @classmethod
    def of(cls, block: Block, examples: Floats, numbers: NDArray[np.int64]) -> Self:
        """Code examples float32 (Q, D), unit L2 norm, for a block."""
        own = block.components
        short = None if own is None else own.asked(own.directions.project(examples))
        return cls(encode_queries(examples), sweep.rough(examples), numbers, short)


class FirstPass(NamedTuple):
    """A way to bound all rows of a run of listings: one bound for each `group` rows.

    `likely`: of so many of the best bounds, for each hit, the k-th best listing is nearly always
    one. `fill` takes a block, its listings from the first to the one behind the last, what is
    asked, and `uppers` float32 (A, G), which it fills from a column on. It returns how many rows it
    read. `sifts`: whether rows of a group are then bounded one by one, by components.
    """

    group: int
    likely: int
    fill: Callable[[Block, Span, Asked, Floats, int], int]
    sifts: bool = False

    def sieve(self, block: Block, asked: Asked) -> tuple[ComponentCodes, ShortCodes]:
        """What the rows of a group that reaches a limit are bounded by; empty: by nothing more."""
        if not self.sifts or block.components is None or asked.components is None:
            return NOTHING, asked.short
        return block.components.codes, asked.components


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


def _component(block: Block, span: Span, asked: Asked, uppers: Floats, place: int) -> int:
    if block.components is None or asked.components is None:
        return _fine(block, span, asked, uppers, place)
    begin, behind = (int(block.offsets[each]) for each in span)
    own = block.components.codes
    tops.fill_roughly(own, begin, behind, asked.components, asked.numbers, uppers, place)
    return behind - begin


UPPER = FirstPass(1, 2, _upper)
"""By the upper five bits of codes, for few queries; what does not count is not read."""

SHORT = FirstPass(tops.GROUP, 2, _short)
"""By whole codes and int8 queries, which must be of `products.short_queries`: for many."""

FINE = FirstPass(tops.GROUP, 2, _fine)
"""By whole codes and int16 queries: the tightest bounds."""

COMPONENT = FirstPass(tops.GROUP, 6, _component, sifts=True)
"""By principal components, of blocks that have them; of others as `FINE`."""


def chosen(
    trials: Sequence[Trial],
    rows: int,
    asked: Sequence[Asked],
    sizes: NDArray[np.int64],
    shares: NDArray[np.float64],
) -> list[FirstPass]:
    """The passes that some asks, `MAX` without negatives, are worth: the second if one fails.

    `trials` are a few of all `rows`, by block, and `asked` what is asked of each. Each ask wants
    `sizes` int64 (A,) listings, and about `shares` float64 (A,) of the rows count for it.
    """
    first = asked[0]
    few = len(first.queries.values) < sweep.MANY
    usual = UPPER if few else SHORT
    codes = [each.codes for each in trials]
    count = sum(len(each.scales) for each in codes)
    if count < _LEAST or (few and shares.min() < _MASKED):
        return [usual]
    by_block = [_scores(each, first.queries) for each in codes]
    scores = np.concatenate(by_block, axis=1)
    ranks = np.clip(sizes / shares * (count / rows), 1, count).astype(np.int64)
    spans = [slice(*each[:2]) for each in first.numbers.tolist()]
    limits = [
        kth([scores[own].max(axis=0)], rank)
        for own, rank in zip(spans, ranks.tolist(), strict=True)
    ]

    def left(bounds: Floats) -> float:
        return float(
            np.mean([bounds[own].max(axis=0) >= it for own, it in zip(spans, limits, strict=True)])
        )

    lost = np.concatenate([each.coarse if few else each.residuals for each in codes])
    short = scores + (first.short.offsets[:, None] + first.short.slopes[:, None] * lost)
    ways = [FINE if left(short) > (_UPPER_LEFT if few else _SHORT_LEFT) else usual]
    looked = COMPONENT.likely * COMPONENT.group * float(np.mean(sizes / shares)) / rows
    if any(each.components is not None for each in trials) and looked <= _LOOKED:
        bounds = [
            _component_bounds(trial, own, found)
            for trial, own, found in zip(trials, asked, by_block, strict=True)
        ]
        if left(np.concatenate(bounds, axis=1)) <= _COMPONENTS_LEFT:
            return [COMPONENT, *ways]
    return ways


def reaching(*, few: bool) -> float:
    """Share of the groups of rows that may reach the limits by components."""
    return _FEW_REACH if few else _MANY_REACH


def warm(block: Block, asked: Asked) -> None:
    """Compile what is needed only where rows are tried: a scan of few rows compiles the rest."""
    _component_bounds(block.trial, asked, _scores(block.trial.codes, asked.queries))
    uppers = np.empty((len(asked.numbers), block.rows), np.float32)
    for way in (FINE, COMPONENT):
        way.fill(block, (0, len(block.offsets) - 1), asked, uppers, 0)


def _component_bounds(trial: Trial, asked: Asked, scores: Floats) -> Floats:
    """What components bound scores (Q, R) of some rows by; the scores where there are none."""
    if trial.components is None or asked.components is None:
        return scores
    found, short = np.empty_like(scores), asked.components
    component_products(trial.components, 0, scores.shape[1], short, found)
    lost = trial.components.rests
    return found + (short.offsets[:, None] + short.slopes[:, None] * lost)


def _scores(codes: Codes, queries: QueryCodes) -> Floats:
    """Scores (Q, R) of some rows by all that is coded."""
    count, rows = len(queries.values), len(codes.scales)
    found = np.empty((count, rows), np.float32)
    products(codes, 0, rows, np.ones(rows, np.uint8), queries, 0, count, scratch(codes), found)
    return found
