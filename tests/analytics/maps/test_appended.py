"""Map tables with images that were placed later, against naive loops over all points."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4, uuid5

import numpy as np
import pytest

from analytics.maps.appended import PLACED, Tables, counted, counted_groups
from analytics.maps.columns import CATEGORIES_MAX, OTHER, encode, extend
from analytics.maps.regions import Range, Selection
from analytics.tiles import MapTable
from cql.records import NAMESPACE, Group, Listing, MapPoint, PlacedBatch
from cql.settings import Settings
from cql.store import Store
from tests.analytics.conftest import Memory
from tests.analytics.test_tiles import body, stored
from tests.ledger import now


def arrive(memory: Memory, map_id: UUID, count: int, *, first: int = 0) -> list[MapPoint]:
    """Store a batch of points that came later; every third is of a new listing."""
    rng = np.random.default_rng(first + 1)
    points = [
        MapPoint(
            image_id=uuid5(NAMESPACE, f"late-{number}"),
            listing_id=f"late-{number}" if number % 3 == 0 else f"l{number % 5}",
            x=float(np.float32(rng.random())),
            y=float(np.float32(rng.random())),
            cluster=number % 3 - 1,
            membership=0.5,
            outlier_score=1.0,
            knn_distance=9.0,
            glosh=0.0,
            soft_clusters=(1, 0),
            soft_shares=(0.5, 0.25),
        )
        for number in range(first, first + count)
    ]
    for point in points:
        if point.listing_id.startswith("late"):
            memory.titles[point.listing_id] = Listing(
                listing_id=point.listing_id, attributes={"kind": "steam", "depth_m": "90.5"}
            )
    held = memory.placed_batches(map_id)
    memory.append_placed(
        PlacedBatch(
            map_id=map_id, number=len(held) + 1, batch_id=uuid4(),
            first=sum(batch.rows for batch in held), rows=count, read_to=now(), placed_at=now(),
        ),
        points,
    )  # fmt: skip
    return sorted(points, key=lambda point: point.image_id.bytes)


def tables(folder: Path, memory: Memory, **changes: Any) -> Tables:
    return Tables(Settings(data_dir=folder, tile_points=100), cast("Store", memory), **changes)


def test_tiles_add_up_and_children_hold_what_their_parent_shows(tmp_path: Path) -> None:
    memory, map_id = stored(700)
    arrive(memory, map_id, 250)
    arrive(memory, map_id, 150, first=250)
    table = tables(tmp_path, memory).table(map_id)
    assert (table.rows, table.made) == (1100, 700)

    def visit(z: int, x: int, y: int) -> None:
        total, rows, places, _ = body(table.tile(z, x, y))
        assert len(rows) == min(total, 100) == len(set(rows.tolist()))
        low, high = np.array([x, y]) / 2**z, (np.array([x, y]) + 1) / 2**z
        assert total == ((table.placed >= low) & (table.placed < high)).all(axis=1).sum()
        assert np.array_equal(places, table.placed[rows])
        children = [(z + 1, 2 * x + dx, 2 * y + dy) for dx in (0, 1) for dy in (0, 1)]
        parts = [body(table.tile(*child)) for child in children]
        assert sum(part[0] for part in parts) == total
        assert set(rows.tolist()) <= set(np.concatenate([part[1] for part in parts]).tolist())
        for child, part in zip(children, parts, strict=True):
            if part[0] > 100:
                visit(*child)

    visit(0, 0, 0)
    _, shown, _, _ = body(table.tile(0, 0, 0))
    # Of both an equal share, so that what is shown stands for all.
    assert 0.2 < (shown >= 700).mean() < 0.55


def test_rows_keep_their_numbers_and_new_ones_come_behind(tmp_path: Path) -> None:
    memory, map_id = stored(90)
    kept = tables(tmp_path, memory)
    before = kept.table(map_id)
    own = before.ids(np.arange(90))
    points = arrive(memory, map_id, 7)
    points += arrive(memory, map_id, 4, first=7)
    table = kept.table(map_id)
    assert table.ids(np.arange(90)) == own
    assert [image for image, _ in table.ids(np.arange(90, 101))] == [p.image_id for p in points]
    assert [listing for _, listing in table.ids(np.arange(90, 101))] == [
        point.listing_id for point in points
    ]
    raw = np.frombuffer(
        b"".join(image.bytes for image, _ in table.ids(np.arange(101))), np.uint8
    ).reshape(-1, 16)
    assert np.array_equal(table.rows_of(raw), np.arange(101))
    assert [table.row_of(image) for image, _ in table.ids(np.arange(101))] == list(range(101))
    assert before.rows == 90
    assert PLACED not in {column.name for column in before.columns()}
    for row, point in zip(table.describe(np.arange(90, 101)), points, strict=True):
        assert (row.image_id, row.listing_id) == (point.image_id, point.listing_id)
        assert (row.x, row.y, row.cluster) == (point.x, point.y, point.cluster)
        assert (row.soft_clusters, row.soft_shares) == ((1, 0), (0.5, 0.25))
        new = point.listing_id.startswith("late")
        held = memory.titles[point.listing_id].attributes
        assert row.attributes.get("kind", "") == ("steam" if new else held["kind"])
    # One batch after the other gives what both at once give.
    fresh = tables(tmp_path, memory).table(map_id)
    for name in ("x", "y", "by_image", "morton", "cluster", PLACED, "attr:kind", "rank"):
        assert np.array_equal(fresh.held(name), table.held(name), equal_nan=True), name  # type: ignore[arg-type]
    assert fresh.columns() == table.columns()


def test_selections_and_counts_are_over_all_rows(tmp_path: Path) -> None:
    memory, map_id = stored(90)
    points = arrive(memory, map_id, 12)
    table = tables(tmp_path, memory).table(map_id)
    every = [*memory.map_points[map_id], *points]
    everything = {facet.name: facet for facet in table.facets(Selection())}
    for facet in everything.values():
        assert sum(facet.counts) + facet.missing == 102, facet.name
    for number in (-1, 0, 1):
        found = table.select(Selection((), {"cluster": (str(number),)}))
        wanted = {point.image_id for point in every if point.cluster == number}
        assert {image for image, _ in table.ids(found)} == wanted
    later = table.select(Selection((), {PLACED: ("1",)}))
    assert later.tolist() == list(range(90, 102))
    assert everything[PLACED].counts == (90, 12)
    steam = table.select(Selection((), {"attr:kind": ("steam",)}))
    assert len(steam) == sum(point.listing_id.startswith("late") for point in points) == 4
    deep = table.select(Selection((), {"attr:depth_m": Range(low=90.0, high=None)}))
    assert np.array_equal(deep, steam)
    square = (((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)), "union")
    half = table.select(Selection.from_json({"polygons": [_polygon(square)]}))
    assert {image for image, _ in table.ids(half)} == {p.image_id for p in every if p.x < 0.5}


def _polygon(square: tuple[Any, str]) -> dict[str, Any]:
    return {"points": [list(point) for point in square[0]], "mode": square[1]}


def test_codes_are_the_same_however_many_batches_are_read_at_once(tmp_path: Path) -> None:
    memory, map_id = stored(30)
    step = tables(tmp_path, memory)
    for number, kind in enumerate(("zebra", "apple", "zebra", "mint")):
        for point in arrive(memory, map_id, 1, first=3 * number):  # of listings of their own
            memory.titles[point.listing_id] = Listing(
                listing_id=point.listing_id, attributes={"kind": kind, "depth_m": "1.5"}
            )
        slow = step.table(map_id)
    once = tables(tmp_path, memory).table(map_id)
    kinds = [
        next(column for column in table.columns() if column.name == "attr:kind")
        for table in (slow, once)
    ]
    assert kinds[0] == kinds[1]
    assert kinds[0].keys[-3:] == ("zebra", "apple", "mint")
    for name in ("attr:kind", "cluster"):
        np.testing.assert_array_equal(slow.numbers(name), once.numbers(name))


def test_a_tile_shows_as_many_of_those_that_came_as_are_asked_for(tmp_path: Path) -> None:
    memory, map_id = stored(120)
    kept = tables(tmp_path, memory)
    arrive(memory, map_id, 40)
    before = {z: kept.table(map_id).tile(z, 0, 0) for z in (0, 1)}
    arrive(memory, map_id, 30, first=40)
    table = kept.table(map_id)
    for z, told in before.items():
        assert table.tile(z, 0, 0, placed=40) == told
        assert table.tile(z, 0, 0, placed=70) == table.tile(z, 0, 0)
    assert body(table.tile(0, 0, 0, placed=0))[0] == 120
    assert body(table.tile(0, 0, 0))[0] == 190


def test_what_is_placed_is_seen_once_it_is_asked_for(tmp_path: Path) -> None:
    memory, map_id = stored(30)
    moment = [0.0]
    kept = tables(tmp_path, memory, clock=lambda: moment[0])
    assert kept.late(map_id) == 0
    arrive(memory, map_id, 3)
    assert kept.late(map_id, max_age_s=2.0) == 0
    assert kept.table(map_id, max_age_s=2.0).rows == 30
    moment[0] = 2.5
    assert kept.late(map_id, max_age_s=2.0) == 3
    table = kept.table(map_id, max_age_s=2.0)
    assert table.rows == 33
    assert kept.table(map_id) is table
    assert [batch.rows for batch in kept.batches(map_id)] == [3]


def test_few_tables_are_kept(tmp_path: Path) -> None:
    memory, map_id = stored(9)
    calls: list[UUID] = []

    def opened(wanted: UUID) -> MapTable:
        calls.append(wanted)
        return MapTable.open(Settings(data_dir=tmp_path), cast("Store", memory), map_id)

    kept = tables(tmp_path, memory, most=2, opened=opened)
    maps = [uuid4() for _ in range(3)]
    for each in (*maps[:2], *maps[:2], maps[2], maps[0]):
        kept.table(each)
    assert calls == [*maps, maps[0]]
    # Whoever asks for maps that are not there lets go of none.
    for _ in range(5):
        assert kept.late(uuid4()) == 0
    kept.table(maps[0])
    assert calls == [*maps, maps[0]]


def test_a_map_of_one_image(tmp_path: Path) -> None:
    memory, map_id = stored(1)
    arrive(memory, map_id, 2)
    table = tables(tmp_path, memory).table(map_id)
    assert (table.rows, table.made) == (3, 1)
    total, rows, _, _ = body(table.tile(0, 0, 0))
    assert (total, sorted(rows.tolist())) == (3, [0, 1, 2])


def test_clusters_and_groups_count_what_came(tmp_path: Path) -> None:
    memory, map_id = stored(90)
    every = memory.map_points[map_id]
    clusters = [
        replace(
            cluster,
            size=sum(point.cluster == cluster.cluster for point in every),
            listings=len({p.listing_id for p in every if p.cluster == cluster.cluster}),
        )
        for cluster in memory.clusters(map_id)
    ]
    kept = tables(tmp_path, memory)
    assert counted(clusters, kept.table(map_id)) == clusters
    every = every + [point for point in arrive(memory, map_id, 10) if point.cluster != 0]
    # Those of cluster 0 are left out: its numbers stay what they were.
    batch, points = memory.placed_[map_id][0]
    left = [point for point in points if point.cluster != 0]
    memory.placed_[map_id][0] = (replace(batch, rows=len(left)), left)
    found = counted(clusters, kept.table(map_id))
    assert found[0] is clusters[0]
    own = [point for point in every if point.cluster == 1]
    assert (found[1].size, found[1].listings) == (len(own), len({p.listing_id for p in own}))
    assert counted_groups([], kept.table(map_id)) == []


def test_groups_count_what_came(tmp_path: Path) -> None:
    memory, map_id = stored(90)
    clusters = memory.clusters(map_id)
    memory.map_clusters[map_id] = [replace(each, family=each.cluster) for each in clusters]
    memory.put_groups(
        Group(
            map_id=map_id, level=level, number=number, group_key=uuid4(), size=0, listings=0,
            clusters=1, name=f"{level}{number}", parent=0 if level == 1 else None,
        )
        for level, number in ((1, 0), (1, 1), (2, 0))
    )  # fmt: skip
    points = arrive(memory, map_id, 10)
    table = tables(tmp_path, memory).table(map_id)
    every = [*memory.map_points[map_id], *points]
    found = {(g.level, g.number): g for g in counted_groups(memory.groups(map_id), table)}
    for key, clusters_ in {(1, 0): {0}, (1, 1): {1}, (2, 0): {0, 1}}.items():
        own = [point for point in every if point.cluster in clusters_]
        assert (found[key].size, found[key].listings) == (
            len(own), len({point.listing_id for point in own}),
        )  # fmt: skip


def test_codes_of_a_column_mean_what_they_did() -> None:
    column, values = encode("attr:kind", "Kind", ["gas", "water", ""])
    wider, more = extend(column, ["steam", "gas", "", "air"])
    assert wider.keys[: len(column.keys)] == column.keys
    assert [wider.keys[int(code)] for code in more[[0, 1, 3]]] == ["steam", "gas", "air"]
    assert np.isnan(more[2])
    assert extend(column, [])[0] == column
    del values
    full, _ = encode("attr:k", "K", [f"{number:02d}x" for number in range(CATEGORIES_MAX)])
    assert OTHER not in full.keys
    grown, codes = extend(full, ["new", "newer", "00x"])
    assert [grown.keys[int(code)] for code in codes] == [OTHER, OTHER, "00x"]
    assert len(grown.keys) == CATEGORIES_MAX + 1
    more_than, _ = encode("attr:k", "K", [f"{number:02d}x" for number in range(99)])
    assert extend(more_than, ["new"])[0] == more_than


@pytest.mark.parametrize("texts", [["3.5", "-2", "", "deep"], ["", "x"]])
def test_a_number_column_takes_in_what_reads_as_a_number(texts: list[str]) -> None:
    column, _ = encode("attr:depth", "Depth", ["1", "2"])
    wider, values = extend(column, texts)
    numbers = [float(text) for text in texts if text not in {"", "x", "deep"}]
    assert values[~np.isnan(values)].tolist() == numbers
    assert (wider.low, wider.high) == (min([1.0, *numbers]), max([2.0, *numbers]))


def test_a_date_column_takes_in_dates() -> None:
    column, values = encode("attr:at", "At", ["2026-01-01", "2026-01-03"])
    wider, more = extend(column, ["2026-01-09", "7"])
    assert more[0] == values[0] + 8
    assert np.isnan(more[1])
    assert (wider.scale, wider.low, wider.high) == ("date", values[0], more[0])
