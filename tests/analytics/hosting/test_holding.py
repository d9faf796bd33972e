"""What a host holds of a shard, as a scan sees it."""

from __future__ import annotations

import numpy as np

from analytics.hosting.holding import Part
from tests.analytics.scanning.test_scan import DIM, cut
from tests.naive import unit


def test_a_scan_sees_the_stock_of_when_it_began() -> None:
    """It looks at flags twice: a limit made of what sells out in between would lose a hit."""
    sizes = [2, 1, 3]
    (block,) = cut(unit(np.random.default_rng(1), 6, DIM), sizes, 1)
    part = Part(block, stock=np.array([1, 0, 1], np.uint8))
    (mask,) = part.listing_masks(in_stock=True, within=None, excluded=())
    (every,) = part.listing_masks(in_stock=False, within=None, excluded=())
    assert part.stock is not None
    part.stock[:] = 0
    assert mask is not None
    assert mask.tolist() == [1, 0, 1]
    assert every is None
