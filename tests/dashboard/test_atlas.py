"""What one request shows is of one reading of the ledger, whatever is decided meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from analytics.effective import Views
from analytics.tiles import MapTable
from cql.store import Store
from tests.dashboard.test_deciding import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_view_holds_what_its_token_says_though_others_read_meanwhile(world: World) -> None:
    views = Views(cast("Store", world.store))
    table = world.services._atlas.table(None)
    world.merge(0, 1)
    newer = [(2, 3)]

    def opened() -> MapTable:
        """While a view is made another thread decides, and reads the ledger."""
        if newer:
            world.merge(*newer.pop())
            views.standing.read()
        return table

    first, second = (
        views.view(table.version.map_id, opened, lambda: world.store.clusters_) for _ in range(2)
    )
    assert first.token != second.token
    assert [len(each.clusters) for each in (first, second)] == [4, 3]
