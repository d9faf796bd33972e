"""Another size of the clusters: what a new analysis would give, without one."""

from __future__ import annotations

import json
from collections.abc import Callable
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
from analytics.making.resize import resize, wanted
from cql.errors import InputError, NotFoundError
from cql.progress import CancelledError
from cql.records import DuplicateGroup, DuplicateMember, MapVersion
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
