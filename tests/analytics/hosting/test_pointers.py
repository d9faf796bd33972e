"""Snapshots of several models, live side by side."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import cast
from uuid import UUID, uuid4

import numpy as np
import pytest

from analytics.hosting.merge import backlogs
from analytics.hosting.pointers import go_live, live_snapshots, make_default, version_of, wanted
from analytics.hosting.shelf import folder, prune
from analytics.search import Request
from cql.errors import InputError, NotFoundError
from cql.records import Snapshot
from cql.store import Store
from cql.wire import Pool
from tests.analytics.conftest import MODEL, World
from tests.analytics.test_search import naive, ragged, searcher, seen
from tests.naive import unit
from tests.waiting import until

Make = Callable[..., World]


def store_of(world: World) -> Store:
    return cast("Store", world.store)


def next_of(world: World, model_id: str, *, later_s: int = 1) -> Snapshot:
    """A further snapshot, of rows alone."""
    known = next(iter(world.store.snapshots()))
    made = replace(
        known,
        snapshot_id=uuid4(),
        model_id=model_id,
        created_at=known.created_at + timedelta(seconds=later_s),
    )
    world.store.put_snapshot(made, [])
    return made


def test_each_model_is_searched_by_its_own_vectors(world: Make) -> None:
    one, other = world(), "beta@1"
    vectors, owners = ragged(dim=16)
    one.fill(vectors, owners, cuts=3)
    further = unit(np.random.default_rng(5), len(owners), 24)
    one.host(2)
    with searcher(one) as find:
        by_default = naive(one, vectors[5:6], 7, {owners[5]})
        one.fill(further, owners, cuts=2, model=other)
        by_other = naive(one, further[5:6], 7, {owners[5]})
        asked = Request(image_ids=(one.images[5],), k=7)
        until(lambda: len({row.snapshot_id for row in one.store.services("host")}) == 2)
        assert seen(find.search(asked)) == by_default
        for text in (other, "beta"):
            found = find.search(replace(asked, model=text))
            assert seen(found) == by_other
            assert found.query.model_id == other
            assert json.loads(found.query.spec)["model"] == other
            assert found.query.snapshot_id == one.store.pointers[f"snapshot:{other}"]
        assert seen(find.search(replace(asked, model=MODEL))) == by_default
        listing = find.search(Request(listing_id=owners[12], model=other, k=5))
        own = further[[n for n, name in enumerate(owners) if name == owners[12]]]
        assert seen(listing) == naive(one, own, 5, {owners[12]})
        with pytest.raises(InputError, match="expects D=24"):
            find.search(Request(vectors=vectors[:1], model=other))
        for text in ("gamma", "", "beta@2"):
            with pytest.raises(NotFoundError, match=r"toy \(toy@1\), beta \(beta@1\)"):
                find.search(replace(asked, model=text))
        pool = Pool(one.settings)
        rows = {each.model_id: each.rows for each in backlogs(store_of(one), pool)}
        pool.close()
        assert rows == {MODEL: len(owners), other: len(owners)}


def test_a_new_snapshot_of_one_model_leaves_the_others(world: Make) -> None:
    one, other = world(query_deadline_s=5.0), "beta@1"
    vectors, owners = ragged()
    one.fill(vectors, owners)
    kept = one.store.pointers["snapshot"]
    one.fill(vectors[:, ::-1].copy(), owners, model=other)
    one.host()
    with searcher(one) as find:
        request = Request(vectors=one.vectors[:1], k=5, model=other)
        wished = naive(one, one.vectors[:1], 5, set())
        assert seen(find.search(request)) == wished
        before = one.store.pointers[f"snapshot:{other}"]
        one.cut(4)
        assert seen(find.search(request)) == wished
        assert find.snapshot(other).snapshot_id != before
        assert find.snapshot().snapshot_id == kept


def test_the_default_is_the_first_model_and_stays_until_a_map_is_of_another(world: Make) -> None:
    one = world()
    first = one.fill(unit(np.random.default_rng(0), 3, 4), ["a", "b", "c"])
    one.store.pointers.clear()
    store = store_of(one)
    assert live_snapshots(store) == {}
    go_live(store, first)
    assert one.store.pointers == {
        "snapshot": first.snapshot_id,
        f"snapshot:{MODEL}": first.snapshot_id,
    }
    other = next_of(one, "beta@1")
    go_live(store, other)
    assert one.store.pointers["snapshot"] == first.snapshot_id
    assert list(live_snapshots(store)) == [MODEL, "beta@1"]
    make_default(store, "beta@1")
    assert one.store.pointers["snapshot"] == other.snapshot_id
    assert list(live_snapshots(store)) == ["beta@1", MODEL]
    newer = next_of(one, "beta@1", later_s=2)
    go_live(store, newer)
    assert one.store.pointers["snapshot"] == version_of(store, "beta") == newer.snapshot_id
    make_default(store, "none@1")
    assert one.store.pointers["snapshot"] == newer.snapshot_id


def test_new_weights_of_a_name_take_over_from_the_old_ones(world: Make) -> None:
    one = world()
    first = one.fill(unit(np.random.default_rng(0), 3, 4), ["a", "b", "c"])
    store = store_of(one)
    go_live(store, first)
    new = next_of(one, "toy@2")
    one.store.pointers["hosting:toy@1"] = first.snapshot_id
    go_live(store, new)
    assert one.store.pointers == {"snapshot": new.snapshot_id, "snapshot:toy@2": new.snapshot_id}
    assert version_of(store, "toy") == new.snapshot_id
    prune(one.settings, store)
    assert one.store.snapshots() == [new]
    assert not folder(one.settings, first.snapshot_id).exists()


def test_a_name_of_two_models_is_no_name(world: Make) -> None:
    one = world()
    first = one.fill(unit(np.random.default_rng(0), 3, 4), ["a", "b", "c"])
    second = next_of(one, "toy@2")
    one.store.pointers |= {"snapshot:toy@2": second.snapshot_id}
    with pytest.raises(InputError, match=r"give an id, toy@1 or toy@2"):
        version_of(store_of(one), "toy")
    assert version_of(store_of(one), "toy@1") == first.snapshot_id


def test_prune_keeps_what_is_live_or_wanted_of_each_model(world: Make) -> None:
    one = world()
    first = one.fill(unit(np.random.default_rng(0), 3, 4), ["a", "b", "c"])
    newer = one.cut(1)
    other = one.fill(unit(np.random.default_rng(0), 3, 4), ["a", "b", "c"], model="beta@1")
    latest = next_of(one, "beta@1", later_s=9)  # built, not yet asked for
    loading = next_of(one, MODEL, later_s=0)
    one.store.pointers[f"hosting:{MODEL}"] = loading.snapshot_id
    building = folder(one.settings, uuid4())
    building.mkdir()
    prune(one.settings, store_of(one))
    left = {each.snapshot_id for each in one.store.snapshots()}
    assert left == {each.snapshot_id for each in (newer, other, latest, loading)}
    assert not folder(one.settings, first.snapshot_id).exists()
    assert folder(one.settings, newer.snapshot_id).exists()
    assert folder(one.settings, other.snapshot_id).exists()
    assert building.exists()


def test_hosts_load_the_default_first_and_nothing_that_is_no_snapshot() -> None:
    ids = [UUID(int=n) for n in range(5)]
    names = ["snapshot:a", "map", "snapshot", "hosting:a", "snapshot:b"]
    versions = dict(zip(names, ids, strict=True))
    assert wanted(versions) == [ids[2], ids[3], ids[0], ids[4]]
    assert wanted({"snapshot": ids[0], "snapshot:a": ids[0], "hosting": ids[1]}) == [ids[0]]
    assert wanted({}) == []
