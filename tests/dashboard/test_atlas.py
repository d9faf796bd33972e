"""What one request shows is of one reading of the ledger, whatever is decided meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from analytics.decisions.effective import Views
from analytics.maps.regions import Selection
from analytics.tiles import MapTable
from cql.errors import ConflictError
from cql.store import Store
from dashboard import exports
from tests.dashboard.test_deciding import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def between(world: World, act: Callable[[], object]) -> None:
    """Have another worker act each time after this one has read a view: the first act counts."""
    views = world.services._atlas._views
    real = views.view
    done: list[object] = []

    def view(*args: Any, **named: Any) -> Any:
        found = real(*args, **named)
        if not done:
            done.append(True)
            act()
        return found

    views.view = view  # type: ignore[method-assign]


def merge_elsewhere(world: World, *numbers: int) -> Callable[[], object]:
    def act() -> None:
        keys = [world.key(number) for number in numbers]
        seen = world.other.decisions.merge_preview(keys)
        world.other.decisions.merge(keys, author="bob", versions=seen.versions)

    return act


def test_a_merge_is_previewed_by_one_view(world: World) -> None:
    keys = [world.key(0), world.key(1)]
    plain = world.decisions.merge_preview(keys)
    between(world, merge_elsewhere(world, 0, 1, 2))
    seen = world.decisions.merge_preview(keys)
    assert seen == plain
    assert seen.images == len(world.images_in(0)) + len(world.images_in(1))
    with pytest.raises(ConflictError, match="by bob"):  # who saw the old view hears of the new one
        world.decisions.merge(keys, author="ann", versions=seen.versions)


def test_a_split_is_previewed_and_made_by_one_view(world: World) -> None:
    chosen = world.images_in(2)[:5]
    plain = world.decisions.split_preview(Selection(), images=chosen)

    def act() -> None:
        images = world.images_in(2)[:9]
        seen = world.other.decisions.split_preview(Selection(), images=images)
        world.other.decisions.split(
            Selection(), images=images, name="Bob's", author="bob", versions=seen.versions
        )

    between(world, act)
    seen = world.decisions.split_preview(Selection(), images=chosen)
    assert seen == plain
    assert (seen.images, seen.rest) == (5, len(world.images_in(2)) - 5)
    with pytest.raises(ConflictError, match="by bob"):
        world.decisions.split(
            Selection(), images=chosen, key=seen.key, name="Ann's", author="ann",
            versions=seen.versions,
        )  # fmt: skip


def test_an_undone_merge_is_known_to_the_next_preview(world: World) -> None:
    done = world.merge(0, 1)
    world.services.undo(done.subject, author="ann", expected_version=1)
    seen = world.decisions.merge_preview([world.key(0), world.key(1)])
    assert {key: seen.versions[key] for key in seen.keys} == {
        key: 0 if key == seen.into else 2 for key in seen.keys
    }
    assert world.merge(0, 1).appended == 1


def test_history_is_told_by_one_view(world: World) -> None:
    part = world.split(world.images_in(2)[:6], "Joints")
    (key,) = set(world.sets()) - {world.key(number) for number in range(5)}
    keys = [key, world.key(0)]
    seen = world.decisions.merge_preview(keys)
    world.decisions.merge(keys, author="ann", versions=seen.versions)
    plain = world.services.history.page(limit=5)
    between(
        world, lambda: world.other.undo(part.subject, author="bob", expected_version=part.version)
    )
    assert world.services.history.page(limit=5) == plain
    assert [act.state for act in plain.acts] == ["in force", "in force"]
    after = {act.kind: act.state for act in world.services.history.page(limit=5).acts}
    assert after == {"undo": "in force", "merge": "waiting", "split": "replaced"}


def test_counts_names_and_rows_are_of_one_view(world: World) -> None:
    images = world.images_in(0)
    rows = list(world.services.row_of(images).values())

    def act() -> None:
        world.other.decisions.set_label(images[0], "pipe", author="bob", expected_version=0)
        merge_elsewhere(world, 0, 1)()

    asked: list[Callable[[], object]] = [
        world.services.columns,
        lambda: world.services.facets(None),
        lambda: world.services.rows(rows),
        lambda: world.services.image(images[0]).cluster_name,
        lambda: world.services.cluster(world.key(0)),
        lambda: world.services.outliers(limit=120),
        lambda: [
            each.cluster for each in exports.rows(cast("Store", world.store), world.services._atlas)
        ],
    ]
    plain = [ask() for ask in asked]
    for ask, before in zip(asked, plain, strict=True):
        world.store.decisions_.clear()
        world.store.acts_.clear()
        world.services, world.other = world.worker(), world.worker()
        between(world, act)
        assert ask() == before


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
