"""Maps of more rows than one node lays out: whole steps, in memory, beside maps laid out whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from analytics.analysis import STEPS
from analytics.making import division
from analytics.making.resize import resize
from analytics.projection import Frame
from cql.store import Store
from tests.analytics.conftest import World
from tests.analytics.making.test_steps import Killed, contents, counted
from tests.analytics.test_analysis import blobs, run
from tests.analytics.test_degenerate import by_image, hosted, mapped
from tests.naive import unit

Make = Callable[..., World]


def planted(make: Make, **changes: Any) -> World:
    """90 images of three groups in 30 listings."""
    vectors, labels = blobs(size=30)
    return hosted(make(**changes), vectors, [f"l{n // 3:03d}" for n in range(len(labels))])


def test_images_are_placed_around_landmarks(world: Make) -> None:
    one = planted(world, layout_rows=40)
    steps: list[str] = []
    made = run(one, progress=lambda step, *_: steps.append(step))
    own = ["landmarks", "nearest", "sketch", "sketch-space", "placed", "layout", "space"]
    assert list(dict.fromkeys(steps))[4:11] == own
    assert (made.rows_scored, made.clusters) == (90, 3)
    assert (made.quality["landmarks"], made.quality["placed"]) == (40, 50)
    assert made.quality["trustworthiness"] > 0.8
    assert json.loads(made.parameters)["landmarks"] == 40
    points = one.store.map_points[made.map_id]
    assert {point.image_id for point in points} == set(one.images)
    assert all(point.trust is not None for point in points)
    # Another size of clusters has the same places, and says so.
    sized = resize(one.settings, cast("Store", one.store), 8)
    assert sized.map_id != made.map_id
    assert (sized.quality["landmarks"], sized.quality["placed"]) == (40, 50)


def test_as_many_landmarks_as_images_change_nothing(world: Make) -> None:
    whole = planted(world)
    wanted = contents(whole, run(whole))
    for count in (90, 5000):
        one = planted(world, layout_rows=count)
        made = run(one)
        assert contents(one, made) == wanted
        assert "landmarks" not in made.quality
        assert "landmarks" not in json.loads(made.parameters)


def test_one_seed_gives_one_map_however_it_is_sharded(world: Make) -> None:
    vectors, labels = blobs(size=30)
    owners = [f"l{n // 3:03d}" for n in range(len(labels))]
    made = []
    for cuts in (1, 4):
        one = world(layout_rows=40)
        one.fill(vectors, owners, cuts=cuts)
        one.host()
        made.append(contents(one, run(one)))
    assert made[0] == made[1]


def test_a_map_that_starts_from_another_moves_nothing(world: Make) -> None:
    one = planted(world, layout_rows=40)
    first = run(one)
    before = by_image(one, first)
    vectors, owners = one.vectors, one.owners
    rng = np.random.default_rng(5)
    near = vectors[:20] + rng.normal(scale=0.01, size=(20, vectors.shape[1]))
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    one.end(0)
    one.store.features.clear()
    grown = np.concatenate([vectors, near]).astype(np.float32)
    second = run(hosted(one, grown, [*owners, *(f"n{n}" for n in range(20))]))
    assert second.quality["landmarks"] + second.quality["placed"] == 110
    assert second.quality["landmarks"] >= 90
    assert second.quality["moved"] < 1e-6
    after = by_image(one, second)
    frames = [
        Frame(*(made.quality[f"frame_{name}"] for name in ("x", "y", "side")))
        for made in (first, second)
    ]
    old = np.array([(before[image].x, before[image].y) for image in before], np.float32)
    new = np.array([(after[image].x, after[image].y) for image in before], np.float32)
    np.testing.assert_allclose(frames[1].shown(frames[0].placed(old)), new, atol=1e-5)
    # Each copy comes to lie beside what it is a copy of.
    late = [(after[image].x, after[image].y) for image in one.images[90:]]
    own = [(after[image].x, after[image].y) for image in one.images[:20]]
    gap = np.linalg.norm(np.array(late) - np.array(own), axis=1)
    assert np.median(gap) < 0.1


@pytest.mark.parametrize("step", ["landmarks", "nearest", "sketch", "placed", "space"])
def test_a_map_killed_in_a_step_continues(
    world: Make, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    whole = planted(world, layout_rows=40)
    wanted = contents(whole, run(whole))
    one = planted(world, layout_rows=40)

    def kill(name: str, *_: object) -> None:
        if name == step:
            raise Killed

    with pytest.raises(Killed):
        run(one, progress=kill)
    seen = counted(monkeypatch)
    assert contents(one, run(one)) == wanted
    assert seen["graph"] == seen["collect"] == 0
    assert not (one.settings.data_dir / "work").exists() or not list(
        (one.settings.data_dir / "work").iterdir()
    )


def test_long_steps_of_one_node_run_apart() -> None:
    steps = division.divided(STEPS)
    names = [step.name for step in steps if step.apart]
    assert names == ["sketch", "sketch-space", "layout", "tree", "clusters", "spots", "duplicates"]
    for at, step in enumerate(steps):
        assert set(step.reads) <= {each.name for each in steps[:at]}


def test_all_images_identical(world: Make) -> None:
    vectors = np.tile(unit(np.random.default_rng(1), 1, 8), (60, 1))
    one = hosted(world(layout_rows=20), vectors, [f"l{n // 3}" for n in range(60)])
    made = mapped(one)
    assert (made.quality["landmarks"], made.quality["placed"]) == (1, 59)
    places = {(point.x, point.y) for point in one.store.map_points[made.map_id]}
    assert len(places) == 1


def test_one_listing(world: Make) -> None:
    one = hosted(world(layout_rows=20), unit(np.random.default_rng(1), 50, 8), ["only"] * 50)
    made = mapped(one)
    assert (made.quality["landmarks"], made.quality["placed"]) == (20, 30)


def test_images_of_which_hardly_any_were_on_the_map_before(world: Make) -> None:
    one = planted(world, layout_rows=40)
    run(one)
    vectors, owners = one.vectors, one.owners
    one.end(0)
    one.store.features.clear()
    fresh = unit(np.random.default_rng(9), 80, vectors.shape[1])
    grown = np.concatenate([vectors[:3], fresh]).astype(np.float32)
    made = mapped(hosted(one, grown, [*owners[:3], *(f"n{n:03d}" for n in range(80))]))
    assert made.quality["moved"] < 1e-6
    assert made.quality["landmarks"] <= 43
