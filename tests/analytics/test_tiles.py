"""The map table against naive loops."""

import json
import struct
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast
from uuid import UUID, uuid4, uuid5

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics.maps.columns import CATEGORIES_MAX, accepts, encode, readable
from analytics.maps.regions import days, inside, iso
from analytics.tiles import MapTable, Polygon, Range, Selection
from cql.errors import InputError, NotFoundError
from cql.records import NAMESPACE, Cluster, Group, Listing, MapPoint, MapVersion
from cql.settings import Settings
from cql.store import Store
from tests.analytics.conftest import Memory


def version(map_id: UUID, rows: int) -> MapVersion:
    return MapVersion(
        map_id=map_id,
        model_id="m",
        snapshot_id=uuid4(),
        rows=rows,
        rows_scored=rows,
        clusters=2,
        noise=0,
        seed=1,
        parameters="{}",
        quality={},
        code_version="t",
        created_at=datetime.now(UTC),
    )


def stored(rows: int, seed: int = 1) -> tuple[Memory, UUID]:
    rng = np.random.default_rng(seed)
    memory, map_id = Memory(), uuid4()
    xy = rng.beta(0.5, 2, size=(rows, 2)).astype(np.float32)
    xy = np.clip(xy, 0, np.nextafter(np.float32(1), np.float32(0)))
    if rows > 20:
        xy[3:9] = xy[2]  # one place, several points
    points = [
        MapPoint(
            image_id=uuid5(NAMESPACE, str(row)),
            listing_id=f"l{row // 3}",
            x=float(xy[row, 0]),
            y=float(xy[row, 1]),
            cluster=row % 3 - 1,
            membership=float(rng.random()),
            outlier_score=(row + 1) / rows,
            knn_distance=float(rng.random()),
            glosh=0.0,
        )
        for row in range(rows)
    ]
    for number in range(-(-rows // 3)):
        memory.titles[f"l{number}"] = Listing(
            listing_id=f"l{number}",
            attributes={
                "kind": ["gas", "water", ""][number % 3],
                "depth_m": "" if number % 4 == 0 else f"{number / 10:.1f}",
                "mixed": "7" if number % 2 else "seven",
            },
        )
    memory.put_points(map_id, points)
    memory.put_clusters(
        Cluster(
            map_id=map_id,
            cluster=number,
            cluster_key=uuid4(),
            size=1,
            listings=1,
            name=f"Name {number}",
            exemplars=(),
            x=0,
            y=0,
        )
        for number in range(2)
    )
    memory.put_map(version(map_id, rows))
    return memory, map_id


def opened(tmp_path: Path, memory: Memory, map_id: UUID, tile_points: int = 100) -> MapTable:
    settings = Settings(data_dir=tmp_path, tile_points=tile_points)
    return MapTable.open(settings, cast("Store", memory), map_id)


def body(raw: bytes) -> tuple[int, NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    number, count, total, zero = struct.unpack_from("<IIII", raw)
    assert (number, zero) == (1, 0)
    assert len(raw) == 16 + 16 * count
    x, y = np.frombuffer(raw, "<f4", 2 * count, 16).reshape(2, count)
    rows = np.frombuffer(raw, "<u4", count, 16 + 8 * count).astype(np.int64)
    values = np.frombuffer(raw, "<f4", count, 16 + 12 * count)
    assert len(x) == len(y) == len(rows)
    return total, rows, np.stack([x, y], 1), values


def test_tiles_add_up_and_children_hold_what_their_parent_shows(tmp_path: Path) -> None:
    memory, map_id = stored(2000)
    table = opened(tmp_path, memory, map_id)

    def visit(z: int, x: int, y: int) -> None:
        total, rows, places, _ = body(table.tile(z, x, y))
        assert len(rows) == min(total, 100)
        low, high = np.array([x, y]) / 2**z, (np.array([x, y]) + 1) / 2**z
        assert ((places >= low) & (places < high)).all()
        if z == 6:
            return
        children = [(z + 1, 2 * x + dx, 2 * y + dy) for dx in (0, 1) for dy in (0, 1)]
        parts = [body(table.tile(*child)) for child in children]
        assert sum(part[0] for part in parts) == total
        shown = set(np.concatenate([part[1] for part in parts]).tolist())
        assert set(rows.tolist()) <= shown
        if total <= 100:
            assert shown == set(rows.tolist())
        for child, part in zip(children, parts, strict=True):
            if part[0] > 100:
                visit(*child)

    visit(0, 0, 0)


def test_a_tile_carries_the_column_asked_for(tmp_path: Path) -> None:
    memory, map_id = stored(90)
    table = opened(tmp_path, memory, map_id)
    by_id = {point.image_id: point for point in memory.map_points[map_id]}
    columns = {column.name: column for column in table.columns()}
    assert list(columns)[:4] == ["cluster", "outlier_score", "membership", "knn_distance"]
    assert list(columns)[4:] == ["attr:depth_m", "attr:kind", "attr:mixed"]
    assert columns["cluster"].categories == ("Name 0", "Name 1", "No cluster")
    assert columns["attr:kind"].kind == columns["attr:mixed"].kind == "category"
    assert columns["attr:depth_m"].kind == "number"
    _, rows, places, values = body(table.tile(0, 0, 0, "cluster"))
    depths = body(table.tile(0, 0, 0, "attr:depth_m"))[3]
    kinds = body(table.tile(0, 0, 0, "attr:kind"))[3]
    for at, (image_id, listing_id) in enumerate(table.ids(rows)):
        point, listing = by_id[image_id], memory.titles[listing_id]
        assert (point.x, point.y) == tuple(places[at].tolist())
        assert int(columns["cluster"].keys[int(values[at])]) == point.cluster
        depth = listing.attributes["depth_m"]
        assert np.isnan(depths[at]) if not depth else depths[at] == np.float32(depth)
        kind = listing.attributes["kind"]
        assert (
            np.isnan(kinds[at]) if not kind else columns["attr:kind"].keys[int(kinds[at])] == kind
        )


@pytest.mark.parametrize("tile", [(-1, 0, 0), (25, 0, 0), (1, 2, 0), (1, 0, -1)])
def test_tiles_that_cannot_exist_are_refused(tmp_path: Path, tile: tuple[int, int, int]) -> None:
    table = opened(tmp_path, *stored(10))
    with pytest.raises(InputError, match="tile"):
        table.tile(*tile)
    with pytest.raises(InputError, match="columns are cluster"):
        table.tile(0, 0, 0, "nothing")


def naive_inside(points: tuple[tuple[float, float], ...], x: float, y: float) -> bool:
    odd = False
    for at, point in enumerate(points):
        (x0, y0), (x1, y1) = sorted([point, points[(at + 1) % len(points)]], key=lambda p: p[1])
        if y0 <= y < y1 and x < x0 + (x1 - x0) * ((y - y0) / (y1 - y0)):
            odd = not odd
    return odd


@pytest.mark.parametrize(
    "points",
    [
        ((0.1, 0.1), (0.6, 0.1), (0.6, 0.6), (0.1, 0.6)),
        ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)),
        ((0.1, 0.1), (0.5, 0.5), (0.1, 0.5), (0.5, 0.1)),  # a bow tie
        ((0.2, 0.2), (0.2, 0.2), (0.2, 0.2)),  # nothing
        ((-3.0, -3.0), (4.0, -3.0), (4.0, 4.0), (-3.0, 4.0)),  # all
        ((0.0, 0.0), (1.0, 5e-324), (0.5, 0.9)),  # an edge that is hardly higher than flat
        ((-1e6, 0.0), (1e6, 1e-300), (0.3, 0.9)),
        tuple((0.3 + 0.2 * np.cos(t), 0.3 + 0.3 * np.sin(3 * t)) for t in np.linspace(0, 6, 90)),
    ],
)
def test_polygons_equal_a_naive_loop(points: tuple[tuple[float, float], ...]) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.random((2, 500)).astype(np.float32)
    found = inside(points, x, y)
    wanted = [naive_inside(points, float(a), float(b)) for a, b in zip(x, y, strict=True)]
    assert found.tolist() == wanted


def test_a_point_on_a_shared_border_belongs_to_exactly_one_side() -> None:
    x = np.array([0.5, 0.5, 0.25, 0.75, 0.5], np.float32)
    y = np.array([0.25, 0.75, 0.5, 0.5, 0.5], np.float32)
    quarters = [
        ((a, b), (a + 0.5, b), (a + 0.5, b + 0.5), (a, b + 0.5))
        for a in (0.0, 0.5)
        for b in (0.0, 0.5)
    ]
    held = np.stack([inside(quarter, x, y) for quarter in quarters])
    assert held.sum(axis=0).tolist() == [1] * 5


def test_selections_and_facets_equal_naive_counts(tmp_path: Path) -> None:
    memory, map_id = stored(600)
    table = opened(tmp_path, memory, map_id)
    selection = Selection(
        (
            Polygon(((0.0, 0.0), (0.7, 0.0), (0.7, 0.7), (0.0, 0.7))),
            Polygon(((0.1, 0.1), (0.3, 0.1), (0.3, 0.3), (0.1, 0.3)), "subtract"),
        ),
        {"attr:kind": ("gas",), "attr:depth_m": Range(2.0, None), "cluster": ("0", "-1")},
    )

    def passes(point: MapPoint, without: str = "") -> bool:
        attributes = memory.titles[point.listing_id].attributes
        return (
            naive_inside(selection.polygons[0].points, point.x, point.y)
            and not naive_inside(selection.polygons[1].points, point.x, point.y)
            and (without == "attr:kind" or attributes["kind"] == "gas")
            and (without == "attr:depth_m" or float(attributes["depth_m"] or "-1") >= 2.0)
            and (without == "cluster" or point.cluster in {0, -1})
        )

    points = memory.map_points[map_id]
    wanted = {point.image_id for point in points if passes(point)}
    rows = table.select(selection)
    assert {image for image, _ in table.ids(rows)} == wanted
    assert len(wanted) > 3
    facets = {facet.name: facet for facet in table.facets(selection)}
    assert {facet.selected for facet in facets.values()} == {len(wanted)}
    kinds = Counter(
        memory.titles[p.listing_id].attributes["kind"] for p in points if passes(p, "attr:kind")
    )
    assert dict(zip(facets["attr:kind"].keys, facets["attr:kind"].counts, strict=True)) == {
        "gas": kinds["gas"],
        "water": kinds["water"],
    }
    assert facets["attr:kind"].missing == kinds[""]
    clusters = Counter(point.cluster for point in points if passes(point, "cluster"))
    assert facets["cluster"].counts == (clusters[0], clusters[1], clusters[-1])
    depth = facets["attr:depth_m"]
    there = [p for p in points if passes(p, "attr:depth_m")]
    missing = sum(not memory.titles[p.listing_id].attributes["depth_m"] for p in there)
    assert (sum(depth.counts), depth.missing) == (len(there) - missing, missing)
    assert len(depth.edges) == len(depth.counts) + 1


def test_modes_apply_in_order(tmp_path: Path) -> None:
    table = opened(tmp_path, *stored(300))
    box = ((0.0, 0.0), (0.4, 0.0), (0.4, 0.4), (0.0, 0.4))
    inner = ((0.1, 0.1), (0.6, 0.1), (0.6, 0.6), (0.1, 0.6))
    every = set(range(300))
    a = set(table.select(Selection((Polygon(box),))).tolist())
    b = set(table.select(Selection((Polygon(inner),))).tolist())
    assert a
    assert b - a
    both = Selection((Polygon(box), Polygon(inner, "intersect")))
    assert set(table.select(both).tolist()) == a & b
    assert set(table.select(Selection((Polygon(box, "subtract"),))).tolist()) == every - a
    assert set(table.select(Selection((Polygon(box), Polygon(inner)))).tolist()) == a | b
    assert set(table.select(Selection()).tolist()) == every


@pytest.mark.parametrize("first", [1, 299, 300])
def test_a_selection_of_the_last_rows_is_the_end_of_that_of_all(tmp_path: Path, first: int) -> None:
    table = opened(tmp_path, *stored(300))
    box = ((0.0, 0.0), (0.7, 0.0), (0.7, 0.7), (0.0, 0.7))
    for selection in (
        Selection(),
        Selection((Polygon(box, "subtract"),)),
        Selection((), {"attr:kind": ("gas",), "attr:depth_m": Range(2.0, None)}),
        Selection((Polygon(box),), {"cluster": ("0", "-1")}),
    ):
        rows = table.select(selection)
        assert table.select(selection, first=first).tolist() == rows[rows >= first].tolist()
        assert rows.dtype == np.int64


def test_a_selection_survives_json() -> None:
    selection = Selection(
        (Polygon(((0.0, 0.0), (1.0, 0.5), (0.5, 1.0)), "intersect"),),
        {"attr:kind": ("a", "b"), "membership": Range(None, 0.5)},
    )
    assert Selection.from_json(json.loads(json.dumps(selection.to_json()))) == selection
    assert Selection.from_json(None) == Selection.from_json({}) == Selection()


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"polygon": []},
        {"polygons": [{"points": [[0, 0], [1, 1]]}]},
        {"polygons": [{"points": [[0, 0], [1, 1], [0, float("nan")]]}]},
        {"polygons": [{"points": [[0, 0], [1, 1], [0, -1.1e6]]}]},
        {"polygons": [{"points": [[0, 0], [1, 1], [0, 10**400]]}]},
        {"polygons": [{"points": [[0, 0], [1, 1], [0, "1"]]}]},
        {"polygons": [{"points": [[0, 0], [1, 1], [0, True]]}]},
        {"filters": {"membership": {"low": 10**400}}},
        {"polygons": [{"points": [[0, 0], [1, 1], [0, 1]], "mode": "xor"}]},
        {"filters": {"cluster": "0"}},
        {"filters": {"cluster": [0]}},
        {"filters": {"membership": {"low": "a"}}},
        {"filters": {"membership": {"from": 1}}},
    ],
)
def test_selections_that_break_the_form_are_refused(value: object) -> None:
    with pytest.raises(InputError):
        Selection.from_json(value)


def test_filters_must_fit_their_column(tmp_path: Path) -> None:
    table = opened(tmp_path, *stored(30))
    for filters in ({"membership": ("a",)}, {"cluster": Range(0, 1)}, {"nothing": ("a",)}):
        with pytest.raises(InputError):
            table.select(Selection((), cast("dict[str, Range]", filters)))


def test_the_table_does_not_depend_on_the_order_of_reading_and_mends_itself(tmp_path: Path) -> None:
    memory, map_id = stored(200)
    path = tmp_path / "maps" / f"{map_id}.arrow"
    opened(tmp_path, memory, map_id)
    first = path.read_bytes()
    path.unlink()
    memory.map_points[map_id].reverse()
    opened(tmp_path, memory, map_id)
    assert path.read_bytes() == first
    path.write_bytes(first[: len(first) // 2])
    assert opened(tmp_path, memory, map_id).rows == 200
    assert path.read_bytes() == first


def test_rows_are_found_by_image_and_described(tmp_path: Path) -> None:
    memory, map_id = stored(50)
    table = opened(tmp_path, memory, map_id)
    for point in memory.map_points[map_id]:
        row = table.row_of(point.image_id)
        (told,) = table.describe(np.array([row]))
        assert (told.image_id, told.listing_id) == (point.image_id, point.listing_id)
        assert (told.x, told.y, told.cluster) == (point.x, point.y, point.cluster)
        attributes = memory.titles[point.listing_id].attributes
        assert told.attributes.get("kind", "") == attributes["kind"]
    with pytest.raises(NotFoundError):
        table.row_of(uuid4())
    with pytest.raises(InputError):
        table.ids(np.array([50]))


def test_an_empty_map(tmp_path: Path) -> None:
    table = opened(tmp_path, *stored(0))
    assert table.rows == 0
    assert body(table.tile(0, 0, 0))[0] == 0
    assert table.select(Selection()).tolist() == []
    assert all(facet.selected == 0 for facet in table.facets(Selection()))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("depth_m", "Depth (m)"),
        ("outer_diameter_mm", "Outer diameter (mm)"),
        ("kind", "Kind"),
        ("item_form", "Item form"),
        ("m", "M"),
        ("DN", "DN"),
        ("", ""),
    ],
)
def test_names_of_attributes_are_readable(name: str, shown: str) -> None:
    assert readable(name) == shown


def test_attributes_become_numbers_or_capped_categories() -> None:
    column, values = encode("a", "A", ["1", "", "2.5e1", "-3"])
    assert (column.kind, column.low, column.high) == ("number", -3.0, 25.0)
    assert np.isnan(values[1])
    column, values = encode("a", "A", ["1", "x"])
    assert (column.kind, column.keys) == ("category", ("1", "x"))
    assert encode("a", "A", ["nan", "inf"])[0].kind == "category"
    texts = [f"v{n:03d}" for n in range(80)] + ["v000", ""]
    column, values = encode("a", "A", texts)
    assert len(column.keys) == CATEGORIES_MAX
    assert column.categories[-1] == f"Other ({80 - CATEGORIES_MAX + 1} values)"
    assert column.categories[int(values[-2])] == "v000"
    assert int((values == CATEGORIES_MAX - 1).sum()) == 80 - CATEGORIES_MAX + 1


DAYS = ["2023-12-31", "2024-01-01", "2024-02-29", "", "1969-07-20", "2024-03-01"]


def dated(tmp_path: Path) -> tuple[Memory, MapTable]:
    memory, map_id = stored(60)
    for number, listing in enumerate(memory.titles.values()):
        listing.attributes["built"] = DAYS[number % len(DAYS)]  # type: ignore[index]
    return memory, opened(tmp_path, memory, map_id)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ("2024-01-01", "2024-02-29"),
        ("1969-07-20", "1969-07-20"),
        (None, "2023-12-31"),
        ("2024-03-01", None),
        ("2030-01-01", None),
    ],
)
def test_dates_are_filtered_as_dates(tmp_path: Path, low: str | None, high: str | None) -> None:
    memory, table = dated(tmp_path)
    form = {"filters": {"attr:built": {"low": low, "high": high}}}
    selection = Selection.from_json(form)
    assert selection.to_json()["filters"] == form["filters"]
    built = {name: listing.attributes["built"] for name, listing in memory.titles.items()}
    rows = [built[listing] for _, listing in table.ids(np.arange(table.rows))]
    wanted = [
        row
        for row, day in enumerate(rows)
        # ISO dates sort as text.
        if day and (low is None or day >= low) and (high is None or day <= high)
    ]
    assert table.select(selection).tolist() == wanted
    column = next(column for column in table.columns() if column.name == "attr:built")
    rule = selection.filters["attr:built"]
    assert [at for at, day in enumerate(rows) if accepts(column, rule, {"built": day})] == wanted


def test_a_facet_of_dates_counts_every_row_between_its_edges(tmp_path: Path) -> None:
    memory, table = dated(tmp_path)
    facet = next(f for f in table.facets(Selection()) if f.name == "attr:built")
    assert (facet.kind, facet.scale) == ("number", "date")
    assert (iso(facet.edges[0]), iso(facet.edges[-1])) == ("1969-07-20", "2024-03-01")
    known = [day for _, name in table.ids(np.arange(60)) if (day := _built(memory, name))]
    assert sum(facet.counts) == len(known)
    assert facet.missing == 60 - len(known)
    described = [str(row.attributes.get("built", "")) for row in table.describe(np.arange(60))]
    assert sorted(filter(None, described)) == sorted(known)
    others = {f.name: f.scale for f in table.facets(Selection()) if f.name != "attr:built"}
    assert set(others.values()) == {"linear"}


def _built(memory: Memory, listing_id: str) -> str:
    return memory.titles[listing_id].attributes["built"]


def test_dates_and_numbers_are_not_mixed_up(tmp_path: Path) -> None:
    _, table = dated(tmp_path)
    for name, rule, told in (
        ("attr:depth_m", {"low": "2024-01-01"}, "is a number, not a date"),
        ("attr:kind", {"low": "2024-01-01"}, "is a category"),
        ("attr:built", {"low": "2024-02-30"}, "a date YYYY-MM-DD"),
        ("attr:built", {"low": "yesterday"}, "a date YYYY-MM-DD"),
        ("attr:built", {"low": 3, "high": "2024-01-01"}, "numbers or dates"),
    ):
        with pytest.raises(InputError, match=told):
            table.select(Selection.from_json({"filters": {name: rule}}))


@pytest.mark.parametrize(
    "text", ["2024-1-1", "20240101", "2024-01-01T00:00", "2023-02-29", "", "7"]
)
def test_only_whole_iso_dates_are_dates(text: str) -> None:
    assert days(text) is None
    assert encode("a", "A", ["2024-01-01", text or "x"])[0].kind == "category"


def test_dates_are_days_since_1970() -> None:
    column, values = encode("a", "A", ["1970-01-02", "", "1969-12-31", "9999-12-31"])
    assert (column.kind, column.scale, column.low) == ("number", "date", -1.0)
    assert np.array_equal(values, [1.0, np.nan, -1.0, 2932896.0], equal_nan=True)
    assert [iso(value) for value in (1.0, -1.0, 2932896.0, 1e12)] == [
        "1970-01-02", "1969-12-31", "9999-12-31", "9999-12-31",
    ]  # fmt: skip


def test_groups_are_a_column_and_shares_are_known_of_each_row(tmp_path: Path) -> None:
    memory, map_id = stored(30)
    assert "group" not in {column.name for column in opened(tmp_path, memory, map_id).columns()}
    own = memory.map_clusters[map_id]
    memory.map_clusters[map_id] = [replace(own[0], family=1), replace(own[1], family=0)]
    memory.put_groups(
        Group(
            map_id=map_id, level=level, number=number, group_key=uuid4(), size=1, listings=1,
            clusters=1, name=f"Group {level}.{number}",
        )
        for level, number in ((1, 0), (1, 1), (2, 0))
    )  # fmt: skip
    memory.map_points[map_id] = [
        replace(point, soft_clusters=(1, 0)[: row % 3], soft_shares=(0.5, 0.25)[: row % 3])
        for row, point in enumerate(memory.map_points[map_id])
    ]
    table = opened(tmp_path / "anew", memory, map_id)
    column = next(column for column in table.columns() if column.name == "group")
    assert column.categories == ("Group 1.0", "Group 1.1", "No cluster")
    numbers = {"0": 1, "1": 0, "-1": -1}  # cluster of each group
    for key, cluster in numbers.items():
        rows = table.select(Selection.from_json({"filters": {"group": [key]}}))
        assert {row.cluster for row in table.describe(rows)} == {cluster}
    points = {point.image_id: point for point in memory.map_points[map_id]}
    for row in table.describe(np.arange(30)):
        point = points[row.image_id]
        assert (row.soft_clusters, row.soft_shares) == (point.soft_clusters, point.soft_shares)
