"""Limits that the notes of several threads agree on against sorting."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.scanning.notes import agree


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_limit_is_the_kth_of_all(data: st.DataObject) -> None:
    threads, asks, most = (data.draw(st.integers(1, each)) for each in (4, 3, 6))
    values = st.floats(-1, 1, width=32)
    every = data.draw(
        st.lists(values, min_size=threads * asks * most, max_size=threads * asks * most)
    )
    best = np.array(every, np.float32).reshape(threads, asks, most)
    counts = st.lists(st.integers(0, most), min_size=threads * asks, max_size=threads * asks)
    held = np.array(data.draw(counts), np.int64).reshape(threads, asks)
    sizes = np.array(data.draw(st.lists(st.integers(1, most), min_size=asks, max_size=asks)))
    before = np.array(data.draw(st.lists(values, min_size=asks, max_size=asks)), np.float32)
    limits = before.copy()
    agree(best, held, sizes, limits)
    for ask in range(asks):
        own = sorted(
            (
                value
                for thread in range(threads)
                for value in best[thread, ask, : held[thread, ask]]
            ),
            reverse=True,
        )
        wanted = own[sizes[ask] - 1] if len(own) >= sizes[ask] else -np.inf
        assert limits[ask] == max(before[ask], wanted)
