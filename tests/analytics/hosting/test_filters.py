"""Masks of selections: against naive loops over all rows, made once, and kept as images come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4, uuid5

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from analytics.hosting import host as hosting
from analytics.hosting.filters import TABLES, Filters
from analytics.identity import packed
from analytics.maps.regions import Selection
from analytics.request import Request
from analytics.scanning.blocks import Block
from analytics.tiles import MapTable
from cql import codec
from cql.records import NAMESPACE, Cluster, Listing, MapPoint, PlacedBatch
from tests.analytics.conftest import World
from tests.analytics.maps.test_appended import arrive, tables
from tests.analytics.scanning.test_scan import DIM, cut
from tests.analytics.test_changes import put
from tests.analytics.test_search import searcher, seen
from tests.analytics.test_tiles import naive_inside, opened, stored, version
from tests.ledger import now
from tests.naive import listings_among, unit
from tests.waiting import until

Make = Callable[..., World]
Form = dict[str, Any]
BOX = [[0.0, 0.0], [0.3, 0.0], [0.3, 0.9], [0.0, 0.9]]
ALL = [[-1.0, -1.0], [2.0, -1.0], [2.0, 2.0], [-1.0, 2.0]]
FORMS: dict[str, Form] = {
    "empty filter": {},
    "empty list of values": {"filters": {"cluster": []}},
    "nothing matches": {"filters": {"attr:depth_m": {"low": 1e9, "high": None}}},
    "nothing is drawn": {"polygons": [{"points": [[0.2, 0.2]] * 3, "mode": "union"}]},
    "all match": {"polygons": [{"points": ALL, "mode": "union"}]},
    "every value": {"filters": {"attr:depth_m": {"low": None, "high": None}}},
    "polygon": {"polygons": [{"points": BOX, "mode": "union"}]},
    "all but a polygon": {"polygons": [{"points": BOX, "mode": "subtract"}]},
    "category": {"filters": {"attr:kind": ["gas", "none such"]}},
    "number": {"filters": {"attr:depth_m": {"low": 0.5, "high": 2.5}}},
    "score": {"filters": {"outlier_score": {"low": 0.25, "high": 0.75}}},
    "cluster": {"filters": {"cluster": ["0", "-1"]}},
    "combined": {
        "polygons": [{"points": ALL, "mode": "union"}, {"points": BOX, "mode": "subtract"}],
        "filters": {"cluster": ["1", "0"], "attr:depth_m": {"low": 0.2, "high": None}},
    },
}
ON_THE_MAP = [name for name in FORMS if name != "empty filter"]


def takes(form: Form, point: MapPoint | None, held: Mapping[str, str]) -> bool:
    """Whether a selection takes an image: `point` is where it lies, `held` its attributes."""
    polygons, filters = form.get("polygons", []), form.get("filters", {})
    return (not polygons or (point is not None and drawn(polygons, point))) and all(
        passes(value(name, point, held), rule) for name, rule in filters.items()
    )


def drawn(polygons: Sequence[Form], point: MapPoint) -> bool:
    inside: bool = polygons[0]["mode"] != "union"
    for polygon in polygons:
        hit = naive_inside(polygon["points"], point.x, point.y)
        if polygon["mode"] == "union":
            inside = inside or hit
        elif polygon["mode"] == "subtract":
            inside = inside and not hit
        else:
            inside = inside and hit
    return inside


def value(name: str, point: MapPoint | None, held: Mapping[str, str]) -> Any:
    """What an image has in a column; None for nothing. ISO dates are in order as texts."""
    if name == "cluster":
        return None if point is None else str(point.cluster)
    if name == "outlier_score":
        return None if point is None else float(np.float32(point.outlier_score))
    text = held.get(name.removeprefix("attr:"), "")
    if name == "attr:depth_m":
        return float(text) if text.replace(".", "").isdigit() else None
    return text or None


def passes(found: Any, rule: Any) -> bool:
    if found is None:
        return False
    if isinstance(rule, list):
        return found in rule
    low, high = rule["low"], rule["high"]
    return (low is None or found >= low) and (high is None or found <= high)


class Watched:
    """A table that notes how many rows and images are looked at, and waits at a gate."""

    def __init__(self, table: MapTable, scene: Scene) -> None:
        self._table, self._scene = table, scene

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)

    def select(self, selection: Selection, *, first: int = 0) -> NDArray[np.int64]:
        self._scene.rows.append(self._table.rows - first)
        self._scene.gate()
        return self._table.select(selection, first=first)

    def rows_of(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        self._scene.images.append(len(images))
        return self._table.rows_of(images)


class Scene:
    """A map of 90 images, and a shard of them and of ten that are placed later."""

    def __init__(self, folder: Path) -> None:
        self.memory, self.map_id = stored(90)
        self.rows: list[int] = []
        self.images: list[int] = []
        self.gate: Callable[[], object] = lambda: None
        self._tables = tables(folder, self.memory)
        self.filters = Filters(self.table)
        old = [point.image_id for point in reversed(self.memory.map_points[self.map_id])]
        self.late = [uuid5(NAMESPACE, f"late-{number}") for number in range(10)]
        self.block = block([*old, *self.late], [4] * 25)

    def table(self, map_id: UUID) -> MapTable:
        return cast("MapTable", Watched(self._tables.table(map_id), self))

    def mask(self, form: Form, filters: Filters | None = None) -> NDArray[np.uint8]:
        selection = Selection.from_json(form)
        return (filters or self.filters).mask(self.block, self.map_id, selection)

    def points(self) -> dict[UUID, MapPoint]:
        """All that is on the map."""
        every = list(self.memory.map_points[self.map_id])
        for batch in self.memory.placed_batches(self.map_id):
            every += self.memory.placed_points(batch)
        return {point.image_id: point for point in every}

    def naive(self, form: Form) -> list[int]:
        """What a selection that is not empty takes of the shard."""
        points = self.points()
        found = []
        for image in self.block.images:
            point = points.get(UUID(bytes=image.tobytes()))
            held = {} if point is None else self.memory.titles[point.listing_id].attributes
            found.append(int(point is not None and takes(form, point, held)))
        return found


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.fixture
def awaited(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What those who wait for another's mask wait by."""
    calls: list[str] = []

    class Awaited(Future[Any]):
        def result(self, timeout: float | None = None) -> Any:
            calls.append("result")
            return super().result(timeout)

        def exception(self, timeout: float | None = None) -> BaseException | None:
            calls.append("exception")
            return super().exception(timeout)

    monkeypatch.setattr("analytics.hosting.filters.Future", Awaited)
    return calls


def block(images: Sequence[UUID], sizes: Sequence[int]) -> Block:
    """A shard of these images."""
    (made,) = cut(unit(np.random.default_rng(0), len(images), DIM), sizes, 1)
    return replace(made, images=packed(images))


def gated(scene: Scene) -> threading.Event:
    """An event that selections on the map wait for."""
    event = threading.Event()
    scene.gate = lambda: event.wait(60)
    return event


@pytest.mark.parametrize("name", FORMS)
def test_changed_listings_are_taken_by_their_attributes_of_now(scene: Scene, name: str) -> None:
    """Three on the map, as one or more images, that changed since; two that are newer than it."""
    arrive(scene.memory, scene.map_id, 4)
    points = scene.points()
    on_map = [point.image_id for point in scene.memory.map_points[scene.map_id]]
    images = [*on_map[:4], *on_map[50:53], scene.late[1], *(uuid4() for _ in range(3))]
    attributes = [
        {"kind": "gas", "depth_m": "1.5"},
        {"kind": "water", "depth_m": ""},
        {"kind": "", "depth_m": "deep"},
        {"kind": "gas", "depth_m": "2.5"},
        {},
    ]
    sizes = [4, 3, 1, 2, 1]
    delta = block(images, sizes)
    found = scene.filters.fresh(delta, attributes, scene.map_id, Selection.from_json(FORMS[name]))
    owners = np.repeat(np.arange(5), sizes)
    assert found.dtype == np.uint8
    assert found.tolist() == [
        takes(FORMS[name], points.get(image), attributes[owner])
        for image, owner in zip(images, owners, strict=True)
    ]


def test_a_mask_of_changed_listings_is_made_once(scene: Scene) -> None:
    form = FORMS["combined"]
    selection = Selection.from_json(form)
    images = [point.image_id for point in scene.memory.map_points[scene.map_id]][:6]

    def taken(delta: Block, attributes: Sequence[Mapping[str, str]]) -> bool:
        """Whether the map was looked at for a mask, which is right."""
        scene.images.clear()
        found = scene.filters.fresh(delta, attributes, scene.map_id, selection)
        points = scene.points()
        assert found.tolist() == [
            takes(form, points.get(UUID(bytes=image.tobytes())), attributes[at // 3])
            for at, image in enumerate(delta.images)
        ]
        return bool(scene.images)

    shallow, deep = ({"depth_m": "0.1"}, {"depth_m": "2"}), ({"depth_m": "2"}, {"depth_m": "3"})
    delta = block([*images[:4], *scene.late[:2]], [3, 3])
    assert [taken(delta, shallow) for _ in range(3)] == [True, False, False]
    # A listing changed: a block of its own, and what was made of the one before is of no use.
    other = block([*images[:4], *scene.late[:2]], [3, 3])
    assert [taken(other, deep) for _ in range(2)] == [True, False]
    # Two are placed, and the mask has them.
    arrive(scene.memory, scene.map_id, 2)
    assert [taken(other, deep) for _ in range(2)] == [True, False]
    # Who still holds the block of before is given what that one has.
    assert taken(delta, shallow)


@pytest.mark.parametrize("name", ON_THE_MAP)
def test_only_what_is_placed_is_looked_at(scene: Scene, name: str) -> None:
    form = FORMS[name]
    assert scene.mask(form).tolist() == scene.naive(form)
    assert (scene.rows, scene.images) == ([90], [100])
    for first, count in ((0, 3), (3, 6), (9, 5)):
        scene.rows.clear()
        scene.images.clear()
        arrive(scene.memory, scene.map_id, count, first=first)
        assert scene.mask(form).tolist() == scene.naive(form)
        # Of the shard, images that were not on the map may be now.
        assert (scene.rows, scene.images) == ([count], [10 - first])
        scene.mask(form)
        assert len(scene.rows) == 1
    scene.images.clear()
    arrive(scene.memory, scene.map_id, 5, first=14)
    assert scene.mask(form).tolist() == scene.naive(form)
    assert scene.images == []


def test_another_selection_on_the_same_map_looks_up_no_image(scene: Scene) -> None:
    scene.mask(FORMS["category"])
    assert scene.mask(FORMS["cluster"]).tolist() == scene.naive(FORMS["cluster"])
    assert (scene.rows, scene.images) == ([90, 90], [100])


def test_a_mask_that_many_ask_for_at_once_is_made_once(scene: Scene, awaited: list[str]) -> None:
    go = gated(scene)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(scene.mask, FORMS["combined"]) for _ in range(8)]
        try:
            until(lambda: awaited == ["result"] * 7)
        finally:
            go.set()
        for each in asked:
            assert each.result(30).tolist() == scene.naive(FORMS["combined"])
    assert (scene.rows, scene.images) == ([90], [100])


def test_an_error_reaches_all_who_wait_and_is_not_kept(scene: Scene, awaited: list[str]) -> None:
    go = threading.Event()

    def fail() -> None:
        go.wait(60)
        raise OSError("gone")

    scene.gate = fail
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(scene.mask, FORMS["polygon"]) for _ in range(4)]
        try:
            until(lambda: awaited == ["result"] * 3)
        finally:
            go.set()
        assert [str(each.exception(30)) for each in asked] == ["gone"] * 4
    assert len(scene.rows) == 1
    scene.gate = lambda: None
    assert scene.mask(FORMS["polygon"]).tolist() == scene.naive(FORMS["polygon"])
    assert len(scene.rows) == 2


def test_an_error_once_images_came_is_not_kept(scene: Scene) -> None:
    scene.mask(FORMS["polygon"])
    arrive(scene.memory, scene.map_id, 3)

    def fail() -> None:
        raise OSError("gone")

    scene.gate = fail
    with pytest.raises(OSError, match="gone"):
        scene.mask(FORMS["polygon"])
    scene.gate = lambda: None
    assert scene.mask(FORMS["polygon"]).tolist() == scene.naive(FORMS["polygon"])


@pytest.mark.parametrize("fails", [False, True])
def test_images_may_come_while_a_mask_is_made(
    scene: Scene, awaited: list[str], fails: bool
) -> None:
    go, form = threading.Event(), FORMS["cluster"]

    def gate() -> None:
        if len(scene.rows) == 1:
            go.wait(60)
            if fails:
                raise OSError("gone")

    scene.gate = gate
    before = scene.naive(form)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(scene.mask, form)
        until(lambda: len(scene.rows) == 1)
        arrive(scene.memory, scene.map_id, 6)
        second = pool.submit(scene.mask, form)
        try:
            until(lambda: awaited == ["exception"])
        finally:
            go.set()
        if fails:
            assert str(first.exception(30)) == "gone"
        else:
            assert first.result(30).tolist() == before
        assert second.result(30).tolist() == scene.naive(form)
    assert before != scene.naive(form)
    assert scene.rows == [90, 96 if fails else 6]


def test_who_has_an_older_table_is_answered_by_it(scene: Scene) -> None:
    older, wanted = scene.table(scene.map_id), scene.naive(FORMS["cluster"])
    arrive(scene.memory, scene.map_id, 6)
    newer = scene.table(scene.map_id)
    given = [newer, older, newer]
    filters = Filters(lambda _: given.pop(0))
    found = [scene.mask(FORMS["cluster"], filters).tolist() for _ in range(3)]
    newest = scene.naive(FORMS["cluster"])
    assert found == [newest, wanted, newest]
    assert newest != wanted
    assert scene.rows == [96, 90]


def test_clusters_of_which_nothing_is_decided_are_kept(scene: Scene) -> None:
    """The token of what is decided tells of images that came."""
    filters = Filters(scene.table, lambda _, table: (f"token {(own := table()).rows}", own))
    form = FORMS["cluster"]
    assert scene.mask(form, filters).tolist() == scene.naive(form)
    arrive(scene.memory, scene.map_id, 3)
    assert scene.mask(form, filters).tolist() == scene.naive(form)
    assert scene.rows == [90, 3]


def test_what_is_decided_may_change_images_that_were_there(scene: Scene) -> None:
    """An image that comes may be what a cluster was split by: all others change sides."""

    def decided(_: UUID, table: Callable[[], MapTable]) -> tuple[str, MapTable]:
        own = table()
        column = next(each for each in own.columns() if each.name == "cluster")
        code = column.keys.index("0" if own.rows == own.made else "1")
        return "split", own.overlaid([(column, np.full(own.rows, code, np.float32))], None)

    filters = Filters(scene._tables.table, decided)
    form: Form = {"filters": {"cluster": ["1"]}}
    assert scene.mask(form, filters).tolist() == [0] * 100
    arrive(scene.memory, scene.map_id, 10)
    assert scene.mask(form, filters).tolist() == [1] * 100


def several(folder: Path, scene: Scene) -> tuple[list[UUID], Filters]:
    """One map more than are kept, and filters on them."""
    memory = scene.memory
    maps = [scene.map_id, *(uuid4() for _ in range(TABLES))]
    for map_id in maps[1:]:
        memory.map_points[map_id] = memory.map_points[scene.map_id]
        memory.map_clusters[map_id] = memory.map_clusters[scene.map_id]
        memory.put_map(version(map_id, 90))
    known = {
        map_id: cast("MapTable", Watched(opened(folder, memory, map_id), scene)) for map_id in maps
    }
    return maps, Filters(known.__getitem__)


def test_what_is_made_of_a_map_while_it_is_pushed_out_is_let_go(
    tmp_path: Path, scene: Scene
) -> None:
    maps, filters = several(tmp_path, scene)
    selection = Selection.from_json(FORMS["cluster"])
    event = gated(scene)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(filters.mask, scene.block, maps[0], selection)
        until(lambda: bool(scene.rows))
        scene.gate = lambda: None
        for map_id in maps[1:]:
            filters.mask(scene.block, map_id, selection)
        event.set()
        wanted = first.result()
    scene.rows.clear()
    scene.images.clear()
    assert filters.mask(scene.block, maps[0], selection).tolist() == wanted.tolist()
    assert (scene.rows, scene.images) == ([90], [100]), "nothing of it was kept"


def test_masks_of_a_map_that_nobody_asks_about_are_let_go(tmp_path: Path, scene: Scene) -> None:
    maps, filters = several(tmp_path, scene)
    selection = Selection.from_json(FORMS["cluster"])
    looked = []
    for at in (0, 1, 0, 2, 0, 1):
        scene.rows.clear()
        filters.mask(scene.block, maps[at], selection)
        looked.append(len(scene.rows))
    assert looked == [1, 1, 0, 1, 0, 1]


class Collection:
    """A collection with a map that hosts hold, images that come, and what is known of each."""

    def __init__(self, one: World, seed: int, cuts: int, on_map: Callable[[str], bool]) -> None:
        self.one, self.memory, self.map_id = one, one.store, uuid4()
        self.rng = np.random.default_rng(seed)
        owners = [f"l{n:02d}" for n in range(14) for _ in range(int(self.rng.integers(1, 5)))]
        for number, name in enumerate(sorted(set(owners))):
            self.describe(name, number)
        one.fill(unit(self.rng, len(owners), DIM), owners, cuts=cuts)
        self.points: dict[UUID, MapPoint] = {}
        self.held = {name: each.attributes for name, each in self.memory.titles.items()}
        placed = zip(one.images, owners, strict=True)
        made = [self.point(image, name) for image, name in placed if on_map(name)]
        self.memory.put_points(self.map_id, made)
        self.memory.put_clusters(
            Cluster(
                map_id=self.map_id, cluster=number, cluster_key=uuid4(), size=1, listings=1,
                name="", exemplars=(), x=0.0, y=0.0,
            )
            for number in range(3)
        )  # fmt: skip
        self.memory.put_map(version(self.map_id, len(made)))
        self.memory.pointers["map"] = self.map_id

    def describe(self, listing_id: str, number: int) -> None:
        """Give a listing attributes, which a host knows once it follows."""
        attributes = {
            "kind": ["gas", "water", ""][number % 3],
            "depth_m": "" if number % 4 == 3 else f"{self.rng.integers(0, 200) / 10}",
            "at": "" if number % 5 == 4 else f"2025-0{number % 9 + 1}-{number % 28 + 1:02d}",
        }
        self.memory.titles[listing_id] = Listing(listing_id=listing_id, attributes=attributes)

    def point(self, image: UUID, listing_id: str) -> MapPoint:
        """A place on the map, with a cluster of 0 to 2 or none."""
        x, y, score = self.rng.random(3).astype(np.float32).tolist()
        self.points[image] = MapPoint(
            image_id=image, listing_id=listing_id, x=x, y=y,
            cluster=int(self.rng.integers(-1, 3)), membership=0.5, outlier_score=score,
            knn_distance=1.0, glosh=0.0,
        )  # fmt: skip
        return self.points[image]

    def come(self, listing_id: str, number: int, images: int) -> list[UUID]:
        """New images of a listing, which is read again with attributes of its own."""
        self.describe(listing_id, number)
        found = put(self.one, listing_id, unit(self.rng, images, DIM))
        self.held[listing_id] = self.memory.titles[listing_id].attributes
        return found

    def place(self, images: Sequence[UUID]) -> None:
        """Place images on the map, as one batch."""
        done = self.memory.placed_batches(self.map_id)
        points = [self.point(image, self.memory.listing_of(image)) for image in images]
        self.memory.append_placed(
            PlacedBatch(
                map_id=self.map_id, number=len(done) + 1, batch_id=uuid4(),
                first=sum(batch.rows for batch in done), rows=len(points), read_to=now(),
                placed_at=now(),
            ),
            points,
        )  # fmt: skip

    def naive(self, query: NDArray[np.float32], form: Form) -> list[tuple[str, str, float]]:
        """The listings that a search within a selection has to find."""
        images, vectors = [], [np.empty((0, DIM), np.float32)]
        for name, features in self.memory.features.items():
            for each in features:
                if takes(form, self.points.get(each.image_id), self.held[name]):
                    images.append(self.memory.image(each.image_id))
                    vectors.append(codec.decode([each.vector], [each.crc32c], dim=DIM))
        return listings_among(images, np.concatenate(vectors), query, 1000)

    def check(self, forms: Sequence[Form]) -> None:
        """Compare what hosts answer with a naive loop."""
        query = unit(self.rng, 1, DIM)
        with searcher(self.one) as find:
            for form in forms:
                request = Request(vectors=query, k=1000, selection=Selection.from_json(form))
                found = [(name, str(image), s) for name, image, s in seen(find.search(request))]
                assert found == self.naive(query, form), form


@pytest.fixture
def collection(world: Make, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Collection]:
    """Make collections whose hosts look at once for what was placed."""
    monkeypatch.setattr(hosting, "_PLACED_S", 0.0)

    def make(seed: int, cuts: int, on_map: Callable[[str], bool] = lambda _: True) -> Collection:
        return Collection(world(), seed, cuts, on_map)

    return make


def ranges(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Form]:
    return st.fixed_dictionaries({"low": st.none() | values, "high": st.none() | values})


def some(*values: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), max_size=3)


places = st.floats(-0.25, 1.25, width=32)
corners = st.tuples(places, places).map(list)
forms = st.fixed_dictionaries(
    {},
    optional={
        "polygons": st.lists(
            st.fixed_dictionaries(
                {
                    "points": st.lists(corners, min_size=3, max_size=6),
                    "mode": st.sampled_from(["union", "subtract", "intersect"]),
                }
            ),
            max_size=2,
        ),
        "filters": st.fixed_dictionaries(
            {},
            optional={
                "cluster": some("-1", "0", "1", "2", "9"),
                "attr:kind": some("gas", "water", "none such"),
                "attr:depth_m": ranges(st.floats(0, 20)),
                "attr:at": ranges(st.dates().filter(lambda day: day.year == 2025).map(str)),
                "outlier_score": ranges(st.floats(0, 1)),
            },
        ),
    },
)


@pytest.mark.parametrize("cuts", [1, 3])
def test_answers_within_any_selection_equal_a_naive_loop(
    collection: Callable[..., Collection], cuts: int
) -> None:
    """Of a shard's images, of listings that changed, and of images that are placed in batches."""

    @settings(max_examples=10, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.lists(forms, min_size=4, max_size=8))
    def answers(seed: int, asked: Sequence[Form]) -> None:
        one = collection(seed, cuts)
        with closing(one.one.held()) as host:
            one.check(asked)
            late = one.come("l03", 20, 2) + one.come("new", 21, 3) + one.come("newer", 22, 1)
            host.poll()
            one.check(asked)
            for batch in (late[:1], late[1:5]):
                one.place(batch)
                one.check(asked)

    answers()


@pytest.mark.parametrize("name", FORMS)
def test_degenerate_selections(collection: Callable[..., Collection], name: str) -> None:
    one = collection(3, 2)
    with closing(one.one.held()) as host:
        late = one.come("new", 21, 3)
        host.poll()
        one.place(late[:2])
        one.check([FORMS[name]])


def test_a_shard_with_no_row_on_the_map(collection: Callable[..., Collection]) -> None:
    """The second of two: nothing of it is drawn, until it is placed."""
    one = collection(4, 2, lambda name: name < "l07")
    drawn = [FORMS[name] for name in ("all match", "cluster", "score", "combined")]
    with closing(one.one.held()) as host:
        (held,) = host._held.values()
        second = held.parts[1].base
        assert second.listings[0].as_py() == "l07"
        one.check(drawn)
        one.place([image for image in one.one.images if image not in one.points][:6])
        one.check(drawn)
