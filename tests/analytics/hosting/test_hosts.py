"""What the engine does with hosts, without Spark: pointers move once hosts hold what is wanted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast
from uuid import UUID

import numpy as np
import pytest

from analytics import shards
from analytics.hosting import hosts as hosting
from analytics.hosting.host import warm
from analytics.hosting.hosts import Hosts
from analytics.hosting.placement import COPIES
from analytics.hosting.pointers import live_of, point, target_of
from cql.errors import UnavailableError
from cql.records import Service, Snapshot
from cql.store import Store
from tests.analytics.conftest import MODEL, World
from tests.naive import unit
from tests.waiting import until

Make = Callable[..., World]
OTHER = "beta@1"
OWNERS = ["a", "b", "c"]


class Cared(Hosts):
    """Whose tasks are the hosts of a world."""

    def __init__(self, world: World) -> None:
        super().__init__(cast("Any", None), world.settings, cast("Store", world.store))
        self._threads = [threading.Thread()]


@pytest.fixture
def two(world: Make) -> tuple[World, Cared, Snapshot, Snapshot]:
    """Snapshots of two models, of which none is asked for yet, and a host."""
    one = world()
    vectors = unit(np.random.default_rng(0), 3, 4)
    first = one.fill(vectors, OWNERS)
    second = one.fill(vectors, OWNERS, model=OTHER)
    one.store.pointers.clear()
    warm(vectors.shape[1])  # nobody below waits for the compiler
    one.host()
    return one, Cared(one), first, second


def test_each_model_goes_live_once_it_is_held(two: Any) -> None:
    one, hosts, first, second = two
    with pytest.raises(UnavailableError, match="within 0 s"):
        hosts.ready(0.2)
    hosts.start(first)
    hosts.start(second)
    assert hosts.ready(10) == second
    assert one.store.pointers["snapshot"] == second.snapshot_id
    assert hosts.ready(10, model_id=MODEL) == first
    assert {name: one.store.pointers[live_of(name)] for name in (MODEL, OTHER)} == {
        MODEL: first.snapshot_id,
        OTHER: second.snapshot_id,
    }
    assert one.store.pointers["snapshot"] == second.snapshot_id
    with pytest.raises(UnavailableError):
        hosts.ready(0.2, model_id="none@1")


def test_a_damaged_snapshot_is_built_again_and_the_others_are_not(
    two: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, hosts, first, second = two
    hosts.start(first)
    hosts.start(second)
    hosts.ready(10, model_id=MODEL)
    hosts.ready(10, model_id=OTHER)
    built: list[str] = []

    def build(*given: Any, reuse: bool) -> Snapshot:
        built.append(given[-1])
        assert not reuse
        made: Snapshot = one.cut(2)
        return made

    monkeypatch.setattr(shards, "build", build)
    hosts._care()
    assert built == []
    one.store.heartbeat(one.hosts[0][0]._service("host-damaged", second.snapshot_id, ()), 10)
    hosts._care()
    assert built == [OTHER]
    assert one.store.pointers[live_of(OTHER)] != second.snapshot_id
    assert one.store.pointers[live_of(MODEL)] == first.snapshot_id


def test_what_is_held_late_goes_live_unless_another_engine_wants_another(two: Any) -> None:
    one, hosts, first, _ = two
    hosts.start(first)
    held = lambda: any(  # noqa: E731
        row.snapshot_id == first.snapshot_id for row in one.store.services("host")
    )
    until(held)  # nobody waits in `ready`: it gave up
    hosts._care()
    assert one.store.pointers[live_of(MODEL)] == first.snapshot_id
    one.model = MODEL
    newer = one.cut(1)
    store = cast("Store", one.store)
    for name in (target_of(MODEL), live_of(MODEL)):
        point(store, name, newer.snapshot_id)
    hosts._care()
    assert one.store.pointers[live_of(MODEL)] == newer.snapshot_id


@pytest.fixture
def copying(world: Make) -> tuple[World, Cared, Snapshot]:
    """A snapshot that a host holds, of which two hosts shall keep copies."""
    one = world(shard_hosts=2, shard_copies=2)
    vectors = unit(np.random.default_rng(0), 3, 4)
    first = one.fill(vectors, OWNERS)
    one.store.pointers.clear()
    warm(vectors.shape[1])
    one.host()
    return one, Cared(one), first


def copies(one: World, snapshot: Snapshot, index: int) -> None:
    row = Service(
        role=COPIES,
        service_id=UUID(int=index),
        address="grpc://127.0.0.1:7",
        snapshot_id=snapshot.snapshot_id,
        shards=(index,),
    )
    one.store.heartbeat(row, 60)


def test_a_snapshot_goes_live_once_every_host_has_its_copies(copying: Any) -> None:
    one, hosts, first = copying
    hosts.start(first)
    copies(one, first, 0)
    with pytest.raises(UnavailableError, match="within 1 s"):
        hosts.ready(1.0)
    assert live_of(MODEL) not in one.store.pointers
    copies(one, first, 1)
    assert hosts.ready(10) == first
    assert one.store.pointers[live_of(MODEL)] == first.snapshot_id


def test_a_snapshot_goes_live_without_copies_that_take_too_long(
    copying: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hosting, "_COPIES_S", 0.5)
    one, hosts, first = copying
    hosts.start(first)
    assert hosts.ready(10) == first
    assert "before its shards have 2 copies" in caplog.text
    assert one.store.pointers[live_of(MODEL)] == first.snapshot_id
