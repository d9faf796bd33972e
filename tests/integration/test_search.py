"""Search on real parts: features in Cassandra, shards by Spark, resident hosts in Spark tasks."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from analytics import shards
from analytics.hosting import shelf
from analytics.hosting.hosts import Hosts
from analytics.hosting.placement import cover
from analytics.maps.regions import Selection
from analytics.search import Request, Searcher
from cql.errors import UnavailableError
from cql.records import Image, Listing, Model, Snapshot, image_id_of
from cql.settings import Settings
from cql.store import Store
from cql.wire import Message
from tests.naive import listings_among, unit
from tests.photos import photos_of, put_photos
from tests.waiting import until

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.service, pytest.mark.alone]
MODEL = "toy@integration"
DIM = 16


def fill(store: Store, vectors: NDArray[np.float32], owners: list[str]) -> list[Image]:
    """Write listings, images and features; returns the images, row by row."""
    store.put_model(
        Model(
            model_id=MODEL,
            name="toy",
            architecture="toy",
            weights_sha256="0" * 64,
            transform="none",
            dim=DIM,
        )
    )
    store.put_listings(
        Listing(
            listing_id=own, title=f"Pipe {own}", attributes={"kind": f"kind {int(own[1:]) % 3}"}
        )
        for own in dict.fromkeys(owners)
    )
    images = photos_of(owners)
    put_photos(store, MODEL, images, vectors)
    return images


def planted(seed: int = 4) -> tuple[NDArray[np.float32], list[str]]:
    """Four groups of near directions, ragged listings, some equal pictures."""
    rng = np.random.default_rng(seed)
    owners = [f"l{n:03d}" for n in range(60) for _ in range(int(rng.integers(1, 6)))]
    centres = unit(rng, 4, DIM)
    group = rng.integers(0, 4, len(owners))
    vectors = centres[group] + rng.normal(scale=0.08, size=(len(owners), DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rounded: NDArray[np.float32] = vectors.astype(np.float32)
    rounded[20:24] = rounded[3]
    return rounded, owners


def naive(
    images: list[Image], vectors: NDArray[np.float32], query: NDArray[np.float32], k: int
) -> list[tuple[str, str, float]]:
    return listings_among(images, vectors, query[None], k)


def seen(find: Searcher, query: NDArray[np.float32], k: int) -> list[tuple[str, str, float]]:
    result = find.search(Request(vectors=query[None], k=k))
    assert result.exact
    return [(hit.listing_id, str(hit.image_id), hit.score) for hit in result.hits]


@pytest.fixture(scope="module")
def patient(settings: Settings) -> Settings:
    return settings.replace(query_deadline_s=60.0, shard_rows=70)


@pytest.fixture(scope="module")
def collection(store: Store) -> tuple[list[Image], NDArray[np.float32]]:
    vectors, owners = planted()
    return fill(store, vectors, owners), vectors


@pytest.fixture(scope="module")
def hosted(
    spark: SparkSession,
    patient: Settings,
    store: Store,
    collection: tuple[list[Image], NDArray[np.float32]],
) -> Iterator[tuple[Hosts, Snapshot]]:
    snapshot = shards.build(spark, patient, store, MODEL)
    hosts = Hosts(spark, patient, store)
    hosts.start(snapshot)
    hosts.ready(90)
    yield hosts, snapshot
    hosts.stop()


@pytest.fixture(scope="module")
def find(patient: Settings, store: Store, hosted: tuple[Hosts, Snapshot]) -> Iterator[Searcher]:
    with Searcher(patient, store) as opened:
        yield opened


def test_a_snapshot_holds_every_row_in_bounded_shards(
    store: Store,
    find: Searcher,
    collection: tuple[list[Image], NDArray[np.float32]],
) -> None:
    # The live one: other tests here have new snapshots built, and old ones are pruned.
    snapshot = find.snapshot()
    images, _ = collection
    own = store.shards(snapshot.snapshot_id)
    assert snapshot.rows == len(images) == sum(shard.rows for shard in own)
    assert snapshot.listings == len({image.listing_id for image in images})
    assert snapshot.shards == len(own) > 1
    assert max(shard.rows for shard in own) <= 70


def test_results_equal_a_naive_loop(
    find: Searcher, collection: tuple[list[Image], NDArray[np.float32]]
) -> None:
    images, vectors = collection
    for row in (0, 3, 77):
        for k in (1, 10, 500):
            assert seen(find, vectors[row], k) == naive(images, vectors, vectors[row], k)
    by_image = find.search(Request(image_ids=(images[3].image_id,), k=5))
    wanted = [
        hit for hit in naive(images, vectors, vectors[3], 6) if hit[0] != images[3].listing_id
    ]
    assert [hit.listing_id for hit in by_image.hits] == [hit[0] for hit in wanted[:5]]


def test_unchanged_data_reuse_the_snapshot(
    spark: SparkSession, patient: Settings, store: Store, find: Searcher
) -> None:
    assert shards.build(spark, patient, store, MODEL) == find.snapshot()


def test_a_killed_host_comes_back_and_the_query_waits(
    find: Searcher, store: Store, collection: tuple[list[Image], NDArray[np.float32]]
) -> None:
    images, vectors = collection
    # Rows of hosts that other tests have ended stay until their TTL.
    known = store.services("host")
    newest = max(known, key=lambda each: each.seen_at or find.snapshot().created_at)
    os.kill(newest.pid, signal.SIGKILL)
    assert seen(find, vectors[9], 10) == naive(images, vectors, vectors[9], 10)
    assert {each.pid for each in store.services("host")} - {each.pid for each in known}


def test_deleted_and_damaged_shards_are_built_again(
    find: Searcher,
    store: Store,
    patient: Settings,
    collection: tuple[list[Image], NDArray[np.float32]],
) -> None:
    images, vectors = collection
    before = find.snapshot()
    folder = shelf.folder(patient, before.snapshot_id)
    newest = max(store.services("host"), key=lambda each: each.seen_at or before.created_at)
    shutil.rmtree(folder)
    os.kill(newest.pid, signal.SIGKILL)
    until(lambda: find.snapshot().snapshot_id != before.snapshot_id, seconds=90)
    assert seen(find, vectors[9], 10) == naive(images, vectors, vectors[9], 10)
    assert find.snapshot().fingerprint == before.fingerprint


def test_a_new_image_is_found_after_the_next_build(
    spark: SparkSession,
    find: Searcher,
    store: Store,
    patient: Settings,
    hosted: tuple[Hosts, Snapshot],
    collection: tuple[list[Image], NDArray[np.float32]],
) -> None:
    hosts, _ = hosted
    images, vectors = collection
    fresh = unit(np.random.default_rng(99), 1, DIM)
    (added,) = fill(store, fresh, ["l900"])
    try:
        snapshot = shards.build(spark, patient, store, MODEL)
        assert snapshot.rows == len(images) + 1
        hosts.start(snapshot)
        assert hosts.ready(60).snapshot_id == snapshot.snapshot_id
        assert seen(find, fresh[0], 1)[0][:2] == ("l900", str(added.image_id))
    finally:
        store.delete_listing("l900")
    back = shards.build(spark, patient, store, MODEL)
    hosts.start(back)
    hosts.ready(60)
    assert seen(find, fresh[0], 3) == naive(images, vectors, fresh[0], 3)


def test_hosts_are_tasks_that_spark_placed(
    find: Searcher,
    store: Store,
    collection: tuple[list[Image], NDArray[np.float32]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What answers a query is a Python worker of Spark's daemon, below the JVM, and nobody else."""
    images, vectors = collection
    snapshot = find.snapshot()
    plan = cover(store.services("host"), snapshot)
    assert plan is not None
    asked: set[tuple[str, str]] = set()
    came: set[str] = set()
    call = find._scatter._pool.call

    def spied(address: str, method: str, message: Message, **given: Any) -> Message:
        asked.add((address, method))
        reply = call(address, method, message, **given)
        came.update(reply.arrays)
        return reply

    monkeypatch.setattr(find._scatter._pool, "call", spied)
    for name in ("features_of", "features_at"):
        # The asker reads no vector: its examples are given.
        monkeypatch.setattr(store, name, None)
    assert seen(find, vectors[5], 7) == naive(images, vectors, vectors[5], 7)
    assert asked == {(host.address, "scan") for host, _ in plan}
    assert came == {"scores", "images"}
    for host, _ in plan:
        above = [each.cmdline() for each in psutil.Process(host.pid).parents()]
        assert any("daemon" in " ".join(command) for command in above)
        assert any("java" in command[0] for command in above if command)


def test_changes_are_found_before_the_next_build(
    find: Searcher,
    store: Store,
    collection: tuple[list[Image], NDArray[np.float32]],
) -> None:
    images, vectors = collection
    fresh = unit(np.random.default_rng(98), 1, DIM)
    before = naive(images, vectors, fresh[0], 3)
    (added,) = fill(store, fresh, ["l901"])
    try:
        until(lambda: seen(find, fresh[0], 1)[0][:2] == ("l901", str(added.image_id)), seconds=30)
    finally:
        store.delete_listing("l901")
    until(lambda: seen(find, fresh[0], 3) == before, seconds=30)


def test_stock_follows_compare_and_set(
    find: Searcher,
    store: Store,
    collection: tuple[list[Image], NDArray[np.float32]],
) -> None:
    """One listing of all is for sale, far down the ranking; it sells out; another comes in."""
    images, vectors = collection
    ranked = [hit[0] for hit in naive(images, vectors, vectors[5], 500)]
    first, second = ranked[-3], ranked[-1]

    def sold() -> list[str]:
        request = Request(vectors=vectors[5:6], k=4, in_stock=True)
        return [hit.listing_id for hit in find.search(request).hits]

    held = [store.set_stock(first, 2, etag="")]
    until(lambda: sold() == [first], seconds=30)
    held.append(store.set_stock(second, 1, etag=""))
    until(lambda: sold() == [first, second], seconds=30)
    store.set_stock(first, 0, etag=held[0].etag)
    # The read of now needs no log: what sold out is never shown, whatever the mask still says.
    assert sold() == [second]
    hit = find.search(Request(vectors=vectors[5:6], k=4, in_stock=True)).hits[0]
    assert (hit.listing_id, hit.inventory) == (second, 1)
    assert hit.stock_read_at is not None
    lag = find.search(Request(vectors=vectors[5:6], k=1)).lag_s
    assert lag is not None
    store.set_stock(second, 0, etag=held[1].etag)
    assert sold() == []


def test_the_hosts_know_of_a_change_of_stock_within_two_seconds(
    find: Searcher,
    store: Store,
    collection: tuple[list[Image], NDArray[np.float32]],
) -> None:
    """From before a compare-and-set to the hosts' own answer, which nobody reads again."""
    images, vectors = collection
    names = [hit[0] for hit in naive(images, vectors, vectors[5], 12)]
    values = {
        "k": len(images), "aggregate": "max", "best": 1, "excluded": [], "within": None,
        "selection": Selection().to_json(), "map": None, "in_stock": True,
    }  # fmt: skip
    arrays = {"positives": vectors[5:6], "negatives": np.empty((0, DIM), np.float32)}

    def held() -> set[str]:
        _, replies = find.over_all("scan", values, arrays)
        return {name for reply in replies for name in reply.values["listings"]} & set(names)

    until(lambda: not held(), seconds=90)
    etags = dict.fromkeys(names, "")
    took: list[float] = []
    for inventory in (1, 0):
        began: dict[str, float] = {}
        left = set(names)
        while left:
            for name in names[len(began) : len(began) + 1]:
                began[name] = time.monotonic()
                etags[name] = store.set_stock(name, inventory, etag=etags[name]).etag
            # Changes at all moments of the second between two looks at the log.
            time.sleep(0.1)
            shown, now = held(), time.monotonic()
            done = {name for name in left & set(began) if (name in shown) == bool(inventory)}
            took += [now - began[name] for name in sorted(done)]
            left -= done
            assert now - min(began.values()) < 30, f"still waiting for {sorted(left)}"
    assert len(took) == 24
    # One look at the log that comes late on a busy machine is no defect.
    assert np.median(took) <= 2.0
    assert max(took) <= 10.0
    # What a page and the API show: how long ago the log was read.
    lag = find.search(Request(vectors=vectors[5:6], k=1, in_stock=True)).lag_s
    assert lag is not None
    assert 0 <= lag <= 10.0


def test_without_hosts_a_query_fails_after_its_deadline(
    patient: Settings, store: Store, hosted: tuple[Hosts, Snapshot]
) -> None:
    impatient = patient.replace(query_deadline_s=0.3, data_dir=patient.data_dir)
    lost = hosted[1].__class__(
        **{
            **{name: getattr(hosted[1], name) for name in hosted[1].__slots__},
            "snapshot_id": image_id_of("nobody", "holds"),
        }
    )
    with Searcher(impatient, store) as find, pytest.raises(UnavailableError, match="shards"):
        find.neighbours(unit(np.random.default_rng(0), 1, DIM), 3, snapshot=lost)
