"""Bounds of groups of rows against naive loops: no row of a group is above what it says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics.scanning import tops
from analytics.scanning.ask import Ask
from analytics.scanning.bounds import Plan
from analytics.scanning.codes import encode, encode_queries
from analytics.scanning.products import short_queries
from analytics.scanning.tops import GROUP
from tests.naive import dot, unit

DIM = 40


def planned(queries: NDArray[np.float32], asks: Sequence[int]) -> list[Plan]:
    """Plans of so many queries each, one after the other."""
    starts = np.r_[0, np.cumsum(asks)].tolist()
    return [Ask(queries[start:end], queries[:0], 1).plan(start) for start, end in pairwise(starts)]


@pytest.mark.parametrize(
    ("fill", "code", "slack"),
    [(tops.fill, short_queries, 0.1), (tops.fill_finely, encode_queries, 0.05)],
)
@pytest.mark.parametrize("begin", [0, 5])
@pytest.mark.parametrize("rows", [1, GROUP - 1, GROUP, GROUP + 1, 16 * GROUP, 331])
@pytest.mark.parametrize("asks", [(1,), (2, 1, 1), (1, 3, 1, 1, 2, 1), (1,) * 33, (2,) * 16])
def test_no_row_of_a_group_is_above_its_bound(
    fill: Callable[..., None],
    code: Callable[[NDArray[np.float32]], Any],
    slack: float,
    begin: int,
    rows: int,
    asks: tuple[int, ...],
) -> None:
    rng = np.random.default_rng(rows)
    vectors = unit(rng, begin + rows + 3, DIM)
    queries = unit(rng, sum(asks), DIM)
    numbers = planned(queries, asks)
    groups = -(-rows // GROUP)
    uppers = np.full((len(asks), groups + 7), np.nan, np.float32)
    plans = np.array(numbers, np.int64)
    fill(encode(vectors), begin, begin + rows, code(queries), plans, uppers, 4)
    assert np.isnan(uppers[:, :4]).all()
    assert np.isnan(uppers[:, 4 + groups :]).all()
    for ask, plan in enumerate(numbers):
        own = queries[plan.start : plan.middle]
        for group in range(groups):
            first = begin + group * GROUP
            last = min(first + GROUP, begin + rows)
            best = max(dot(each, row) for each in own for row in vectors[first:last])
            assert best <= uppers[ask, 4 + group] < best + slack


@pytest.mark.parametrize("count", [1, 3, 40, 97])
def test_peaks_are_maxima_of_bounds_that_lie_apart(count: int) -> None:
    rng = np.random.default_rng(count)
    uppers = rng.normal(size=(3, 120)).astype(np.float32)
    out = np.full((3, 110), np.nan, np.float32)
    tops.peaks(uppers, 11, 108, out, 5, count)
    for ask in range(3):
        wanted = [max(uppers[ask, 11 + at : 108 : count]) for at in range(count)]
        assert out[ask, 5 : 5 + count].tolist() == wanted
    assert np.isnan(out[:, :5]).all()
    assert np.isnan(out[:, 5 + count :]).all()
