"""Another size of the clusters: what a new analysis would give, without one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import numpy as np
import pytest

from analytics import analysis
from analytics.analysis import Parameters
from analytics.hierarchy import grown
from analytics.hierarchy.grown import Grown, Preview
from analytics.making import comparison, publish, recollection
from analytics.making import resize as resizing
from analytics.making.resize import resize, wanted
from analytics.maps import columns, table
from cql import progress as telling
from cql.errors import InputError, NotFoundError
from cql.progress import CancelledError
from cql.records import DuplicateGroup, DuplicateMember, MapVersion
from cql.results import OutlierPage
from cql.store import Store
from tests.analytics.conftest import World
from tests.analytics.test_analysis import QUICK, planted, run

Make = Callable[..., World]


def sized(one: World, size: int | None, **given: Any) -> MapVersion:
    return resize(one.settings, cast("Store", one.store), size, **given)


def tree_of(one: World, made: MapVersion) -> Grown:
    return Grown.open(one.settings, cast("Store", one.store), made.map_id)


def alike(one: MapVersion, other: MapVersion) -> bool:
    """Whether two maps of two collections are equal but for when they were made."""
    return one == replace(
        other,
        created_at=one.created_at,
        snapshot_id=one.snapshot_id,
        watermark=one.watermark,
    )


def test_a_size_gives_what_an_analysis_with_it_gives(world: Make) -> None:
    one, two = planted(world), planted(world)
    run(one)
    first = sized(one, 12)
    run(two)
    second = run(two, parameters=replace(QUICK, min_cluster_size=12))
    assert one.store.live("map") == first.map_id == second.map_id
    assert alike(first, second)
    assert one.store.map_points[first.map_id] == two.store.map_points[second.map_id]
    assert one.store.odd[first.map_id] == two.store.odd[second.map_id]
    assert one.store.clusters(first.map_id) == two.store.clusters(second.map_id)
    assert one.store.groups(first.map_id) == two.store.groups(second.map_id)
    assert len(one.store.means(first.map_id)) == first.clusters
    assert one.store.means(first.map_id) == two.store.means(second.map_id)
    (told,) = one.store.comparisons(first.map_id)
    (wanted,) = two.store.comparisons(second.map_id)
    assert told == replace(wanted, created_at=told.created_at)
    pair = first.map_id, told.previous
    assert one.store.cluster_changes(*pair) == two.store.cluster_changes(*pair)


def means_of(one: World, made: MapVersion, gone: Sequence[UUID] = ()) -> dict[int, Any]:
    """Mean vectors of the clusters of a map by a loop over its images, but for those `gone`."""
    vectors = dict(zip(one.images, one.vectors.tolist(), strict=True))
    sums: dict[int, list[float]] = {}
    counts: dict[int, int] = {}
    for point in one.store.map_points[made.map_id]:
        if point.cluster >= 0 and point.image_id not in gone:
            held = sums.setdefault(point.cluster, [0.0] * one.vectors.shape[1])
            for d, value in enumerate(vectors[point.image_id]):
                held[d] += value
            counts[point.cluster] = counts.get(point.cluster, 0) + 1
    return {number: np.array(held) / counts[number] for number, held in sums.items()}


def stored_means(one: World, made: MapVersion) -> dict[int, Any]:
    held = one.store.means(made.map_id)
    return {number: np.frombuffer(mean, "<f4") for number, mean in held.items()}


def agree(found: dict[int, Any], wanted: dict[int, Any]) -> None:
    assert set(found) == set(wanted)
    for number, mean in wanted.items():
        np.testing.assert_allclose(found[number], mean, rtol=0, atol=1e-6)


def test_means_and_drift_are_those_of_a_loop(world: Make) -> None:
    one = planted(world)
    base = run(one)
    sized_map = sized(one, 46)  # too many for two clusters: all are in one
    assert (base.clusters, sized_map.clusters) == (3, 1)
    agree(stored_means(one, sized_map), means_of(one, sized_map))
    # A later map, of more images, beside the one of another size.
    vectors = np.concatenate([one.vectors, one.vectors[:10, ::-1]])
    one.store.features.clear()
    one.fill(vectors, [*one.owners, *(f"m{n}" for n in range(10))])
    later = run(one, parameters=replace(QUICK, min_cluster_size=51))
    agree(stored_means(one, later), means_of(one, later))
    shifts = []
    for before, after in ((base, sized_map), (sized_map, later)):
        numbers = [
            {each.cluster_key: each.cluster for each in one.store.clusters(of.map_id)}
            for of in (before, after)
        ]
        means = means_of(one, before), means_of(one, after)
        for each in one.store.cluster_changes(after.map_id, before.map_id):
            if each.kind == "kept":
                key = each.cluster_key
                shift = np.linalg.norm(means[1][numbers[1][key]] - means[0][numbers[0][key]])
                assert each.shift == pytest.approx(shift, abs=1e-6)
                assert each.q is not None
                shifts.append(shift)
    assert len(shifts) == 2
    assert min(shifts) > 0.01


@pytest.mark.parametrize("where", ["hosts", "cassandra"])
def test_means_are_of_the_images_that_are_left(world: Make, where: str) -> None:
    one = planted(world)
    base = run(one)
    lost = next(p for p in one.store.map_points[base.map_id] if p.cluster == 0)
    own = one.store.features[lost.listing_id]
    own[:] = [each for each in own if each.image_id != lost.image_id]
    if where == "cassandra":
        one.close()
        one.store.registered.clear()
    made = sized(one, 9)
    # The snapshot has it until the next one.
    gone = [lost.image_id] if where == "cassandra" else []
    agree(stored_means(one, made), means_of(one, made, gone))
    assert made.rows_scored == 90


def test_the_layout_stays_and_keys_are_carried_on(world: Make) -> None:
    one = planted(world)
    before = run(one)
    after = sized(one, 8)
    places = {p.image_id: (p.x, p.y) for p in one.store.map_points[before.map_id]}
    assert {p.image_id: (p.x, p.y) for p in one.store.map_points[after.map_id]} == places
    keys = {cluster.cluster_key for cluster in one.store.clusters(before.map_id)}
    assert {cluster.cluster_key for cluster in one.store.clusters(after.map_id)} == keys
    assert sized(one, 8).map_id == after.map_id
    assert sized(one, None).map_id == before.map_id
    assert one.store.live("map") == before.map_id


def test_the_preview_says_what_the_size_gives(world: Make) -> None:
    one = planted(world)
    preview = Preview(tree_of(one, run(one)))
    for size in (2, 5, 12, 29, 31, 46, 10_000):
        made = sized(one, size)
        assert preview.at(size) == (made.clusters, made.noise / 90)
    curve = preview.curve()
    assert curve.sizes[0] == 2
    for size, clusters, noise in zip(curve.sizes, curve.clusters, curve.noise, strict=True):
        assert preview.at(int(size)) == (clusters, noise)


def test_a_lost_or_damaged_tree_is_grown_again(world: Make) -> None:
    one = planted(world)
    made = run(one)
    path = grown.path_of(one.settings, made.map_id)
    kept, first = path.read_bytes(), tree_of(one, made)
    points = sorted(
        one.store.map_points[made.map_id], key=lambda p: (p.listing_id, p.image_id.bytes)
    )
    assert first.images.tobytes() == b"".join(point.image_id.bytes for point in points)
    path.unlink()
    again = tree_of(one, made)
    assert path.read_bytes() == kept
    for name in ("left", "right", "distance", "size"):
        assert np.array_equal(getattr(first.linkage, name), getattr(again.linkage, name))
    spoilt = bytearray(kept)
    spoilt[len(kept) // 2] ^= 1
    path.write_bytes(bytes(spoilt))
    tree_of(one, made)
    assert path.read_bytes() == kept
    path.write_bytes(b"")
    tree_of(one, made)
    assert path.read_bytes() == kept


def test_a_map_without_its_space_says_so(world: Make) -> None:
    one = planted(world)
    made = run(one)
    grown.path_of(one.settings, made.map_id).unlink()
    bare = [replace(point, space=b"") for point in one.store.map_points[made.map_id]]
    one.store.map_points[made.map_id] = bare
    with pytest.raises(NotFoundError, match="run `sightline analyse`"):
        sized(one, 7)


def test_sizes_that_cannot_be_are_refused(world: Make) -> None:
    one = planted(world)
    with pytest.raises(NotFoundError, match="no map is live"):
        sized(one, 7)
    run(one)
    for size in (1, 0, -3):
        with pytest.raises(InputError, match="at least 2 images"):
            sized(one, size)


def test_a_failed_step_leaves_the_earlier_map_live(world: Make) -> None:
    one = planted(world)
    first = run(one)

    def stop(step: str, *_: object) -> None:
        if step == "store":
            raise CancelledError("stopped")

    with pytest.raises(CancelledError):
        sized(one, 9, progress=stop)
    assert one.store.live("map") == first.map_id
    assert sized(one, 9).clusters == 3


class Killed(BaseException):
    """What ends a process in the middle: nothing catches it."""


def with_copies(make: Make) -> tuple[World, MapVersion]:
    """A live map with two groups of near-duplicates."""
    one = planted(make)
    made = run(one)
    found = one.store.duplicate_run(made.map_id)
    assert found is not None
    groups, members = [], []
    for number in range(2):
        own = one.images[10 * number : 10 * number + 2]
        groups.append(
            DuplicateGroup(
                map_id=made.map_id, number=number, group_key=uuid4(), digest="d", size=2,
                listings=1, least=0.9, first=2 * number, images=tuple(own),
            )
        )  # fmt: skip
        members += [
            DuplicateMember(
                number=number, place=place, image_id=image, listing_id="l000",
                tied=own[0] if place else None, alike=0.9, bits=1, cosine=0.9,
            )
            for place, image in enumerate(own)
        ]  # fmt: skip
    one.store.put_duplicates(replace(found, groups=2, images=4), groups, members)
    return one, made


@pytest.mark.slow
@pytest.mark.parametrize("step", ["clusters", "store", "changes", "row", "tiles"])
def test_a_size_killed_in_a_step_has_all_when_it_is_asked_for_again(
    world: Make, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    one, base = with_copies(world)
    put_map = one.store.put_map

    def kill(name: str, *_: object) -> None:
        if name == step:
            raise Killed

    def put(version: MapVersion) -> None:
        put_map(version)
        kill("row")

    monkeypatch.setattr(one.store, "put_map", put)
    with pytest.raises(Killed):
        sized(one, 9, progress=kill)
    assert one.store.live("map") == base.map_id
    for made in one.store.maps():  # whoever sees a map's row sees all of it
        assert one.store.runs[made.map_id].groups == 2
    assert len(one.store.maps()) == 1 + (step in {"row", "tiles"})
    monkeypatch.setattr(one.store, "put_map", put_map)
    made = sized(one, 9)
    assert one.store.runs[made.map_id] == replace(one.store.runs[base.map_id], map_id=made.map_id)
    groups, members = one.store.doubles[base.map_id]
    assert len(members) == 4
    assert one.store.doubles[made.map_id] == (
        [replace(each, map_id=made.map_id) for each in groups],
        members,
    )


def test_many_sizes_do_not_push_out_maps_of_earlier_data(world: Make) -> None:
    one = planted(world)
    first = run(one)
    # Maps of other data, as if made before; the oldest of those is one too many.
    for age in range(1, analysis.KEEP + 1):
        told = json.dumps({**json.loads(first.parameters), "data": f"data {age}"})
        one.store.put_map(
            replace(
                first, map_id=UUID(int=age), parameters=told,
                created_at=first.created_at - timedelta(days=age),
            )
        )  # fmt: skip
    made = [sized(one, size) for size in range(3, 3 + analysis.VERSIONS + 1)]
    kept = {each.map_id for each in made[1:]}
    kept |= {UUID(int=age) for age in range(1, analysis.KEEP)}
    assert {each.map_id for each in one.store.maps()} == kept


def test_a_map_whose_snapshot_is_gone_can_be_sized(world: Make) -> None:
    one, two = planted(world), planted(world)
    base = run(one)
    run(two)
    one.store.delete_snapshot(base.snapshot_id)
    made = sized(one, 12)
    assert (made.snapshot_id, made.model_id, made.rows) == (
        base.snapshot_id,
        base.model_id,
        base.rows,
    )
    assert made.watermark == base.watermark
    assert alike(made, sized(two, 12))


@pytest.mark.parametrize("count", [0, 1, 2, 15])
def test_hardly_any_images_can_be_sized(world: Make, count: int) -> None:
    one = world()
    vectors = np.eye(16, dtype=np.float32)[:count]
    if count:
        one.fill(vectors, [f"l{n}" for n in range(count)])
        one.host()
    else:
        one.vectors = np.empty((0, 16), np.float32)
        one.cut(1)
    made = run(one, parameters=Parameters(neighbours=10, outlier_neighbours=10))
    preview = Preview(tree_of(one, made))
    for size in (2, 7, 8, 100):
        found = sized(one, size)
        assert found.rows_scored == count
        assert preview.at(size) == (found.clusters, found.noise / count if count else 0.0)
    assert len(preview.curve().sizes) == len(preview.curve().same)


def test_a_chosen_size_holds_for_later_analyses(world: Make) -> None:
    one = planted(world)
    store = cast("Store", one.store)
    assert wanted(store, None) is None
    run(one)
    assert wanted(store, None) is None
    sized(one, 12)
    assert wanted(store, None) == 12
    assert wanted(store, 7) == 7
    assert wanted(store, 0) is None  # what suits the images, again
    with pytest.raises(InputError):
        wanted(store, 1)


def on_this_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call of progress comes from the work itself, always as many."""
    for module in (resizing, publish, comparison):
        monkeypatch.setattr(module, "watched", lambda work, progress, _, at: work(progress))


def test_a_cancel_at_any_call_leaves_the_earlier_map_live(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_this_thread(monkeypatch)
    one, base = with_copies(world)
    two = planted(world)
    run(two)
    wanted_map = sized(two, 9)
    calls: list[str] = []
    step = 0
    while True:
        step += 1
        calls.clear()

        def stop(name: str, *_: object, last: int = step) -> None:
            calls.append(name)
            if len(calls) == last:
                raise CancelledError("stopped")

        try:
            made = sized(one, 9, progress=stop)
        except CancelledError:
            assert one.store.live("map") == base.map_id
            for each in one.store.maps():  # whoever sees a map's row sees all of it
                assert len(one.store.map_points[each.map_id]) == 90
                assert len(one.store.means(each.map_id)) == each.clusters
                assert one.store.runs[each.map_id].groups == 2
            continue
        break
    assert step > 20
    assert set(calls) <= {"texts", "tiles"}  # nothing was left to be made
    assert one.store.live("map") == made.map_id
    assert alike(made, wanted_map)
    assert one.store.map_points[made.map_id] == two.store.map_points[made.map_id]
    assert one.store.odd[made.map_id] == two.store.odd[made.map_id]
    assert one.store.means(made.map_id) == two.store.means(made.map_id)


class Counted:
    """Rows that pass through a store, counted since progress was told last."""

    def __init__(self) -> None:
        self.rows, self.all = 0, 0
        self.between: list[int] = []

    def each(self, found: Any) -> Iterator[Any]:
        for row in found:
            self.rows += 1
            self.all += 1
            yield row

    def reading(self, call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given, **options: self.each(call(*given, **options))

    def whole(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def read(*given: Any, **options: Any) -> Any:
            found = call(*given, **options)
            list(self.each(found.rows if isinstance(found, OutlierPage) else found))
            return found

        return read

    def writing(self, call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda map_id, rows, **options: call(map_id, self.each(rows), **options)

    def progress(self, *_: object) -> None:
        self.between.append(self.rows)
        self.rows = 0


@pytest.mark.parametrize("kept", [True, False])
def test_progress_is_told_between_any_two_blocks_of_rows(
    world: Make, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """What is read and written between two calls does not grow with the map."""
    one, base = with_copies(world)
    if not kept:
        grown.path_of(one.settings, base.map_id).unlink()
    most = 10
    for module, name in (
        (resizing, "_PAGE"), (telling, "TOLD"), (publish, "_BLOCK"), (table, "_BLOCK"),
        (columns, "_BLOCK"), (recollection, "_BLOCK"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, most)
    on_this_thread(monkeypatch)
    seen = Counted()
    for count, names in (
        (seen.reading, ("points", "features_at")),
        (seen.whole, ("outliers", "listings")),
        (seen.writing, ("put_points", "put_outliers")),
    ):
        for name in names:
            monkeypatch.setattr(one.store, name, count(getattr(one.store, name)))
    one.close()
    one.store.registered.clear()
    made = sized(one, 9, progress=seen.progress)
    assert made.rows_scored == 90
    # Points twice, outliers, vectors, thirty listings, and both written; points for a lost tree.
    assert seen.all == 6 * 90 + 30 + (0 if kept else 90)
    assert max(*seen.between, seen.rows) <= most
