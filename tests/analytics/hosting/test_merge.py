"""When changes are folded into a new snapshot."""

from collections.abc import Callable
from typing import cast

import numpy as np
import pytest

from analytics.hosting import merge
from analytics.hosting.merge import Backlog, backlogs
from cql.store import Store
from cql.wire import Pool
from tests.analytics.conftest import MODEL, World
from tests.analytics.test_changes import DIM, put
from tests.naive import unit
from tests.waiting import until

Make = Callable[..., World]


def found(world: World, pool: Pool) -> Backlog:
    (seen,) = backlogs(cast("Store", world.store), pool)
    return seen


def test_the_backlog_counts_what_hosts_hold_beyond_the_snapshot(world: Make) -> None:
    one = world()
    rng = np.random.default_rng(0)
    one.fill(unit(rng, 9, DIM), ["a"] * 3 + ["b"] * 3 + ["c"] * 3, cuts=2)
    one.host(2)
    pool = Pool(one.settings)
    try:
        first = found(one, pool)
        assert (first.model_id, first.rows, first.changed, first.behind) == (MODEL, 9, 0, 0)
        assert not first.due
        put(one, "new", unit(rng, 2, DIM))
        until(lambda: found(one, pool).changed == 2)
        one.store.features["b"] = one.store.features["b"][:1]
        one.store.note("image_deleted", "b")
        until(lambda: found(one, pool).changed == 2 + 3 + 1)
        assert 0 < found(one, pool).age_s < 60
        one.close()
        one.store.registered.clear()
        assert backlogs(cast("Store", one.store), pool) == []
    finally:
        pool.close()


def test_without_a_snapshot_there_is_no_backlog(world: Make) -> None:
    one = world()
    pool = Pool(one.settings)
    assert backlogs(cast("Store", one.store), pool) == []
    pool.close()


@pytest.mark.parametrize(
    ("rows", "changed", "behind", "age", "due"),
    [
        (10, 0, 0, 0.0, False),
        (10, 1, 0, 5.0, False),
        (10, 1, 0, merge.AGE_S, True),
        (10, merge.CHANGED_MIN, 0, 1.0, True),
        (10_000_000, merge.CHANGED_MIN, 0, 1.0, False),
        (10_000_000, 1_000_000, 0, 1.0, True),
        (10, 1, 1, 1.0, True),
    ],
)
def test_due(rows: int, changed: int, behind: int, age: float, due: bool) -> None:
    seen = Backlog(model_id=MODEL, rows=rows, changed=changed, behind=behind, age_s=age)
    assert seen.due is due
