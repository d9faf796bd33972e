"""Shards on the disks of several machines: hosts of this process, each with a folder of its own."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import numpy as np
import pyarrow as pa
import pytest

from analytics import shards
from analytics.hosting import host as hosts
from analytics.hosting import shelf
from analytics.hosting.host import Host
from analytics.hosting.placement import COPIES, DAMAGED, FILES, copied, cover
from analytics.hosting.shelf import VARIABLE, Shelf, arrange, folder, here
from analytics.search import Request
from cql import codec
from cql.errors import NotFoundError, UnavailableError
from cql.records import Service
from cql.settings import Settings
from cql.store import Store
from cql.wire import Message, Pool
from tests.analytics.conftest import World
from tests.analytics.test_search import naive, ragged, searcher, seen
from tests.naive import unit
from tests.waiting import until

Make = Callable[..., World]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pieces, short waits: every file takes several calls."""
    monkeypatch.setattr(shelf, "PIECE", 1000)
    monkeypatch.setattr(hosts, "_COPY_S", 0.05)
    monkeypatch.setattr(hosts, "_RETRY_S", 0.2)
    monkeypatch.setattr(hosts, "_PATIENCE_S", 0.5)


def files_of(world: World, disk: Path, number: int) -> list[Path]:
    version = world.store.pointers["snapshot"]
    return [disk / str(version) / name for name in world.store.shards(version)[number].files]


def there(paths: list[Path]) -> bool:
    return all(path.exists() for path in paths)


def damaged(world: World) -> list[UUID | None]:
    return [row.snapshot_id for row in world.store.services(DAMAGED)]


def covered(world: World) -> bool:
    snapshot = world.store.snapshot(world.store.pointers["snapshot"])
    return cover(world.store.services("host"), snapshot) is not None


def filled(make: Make, *, cuts: int = 4, deadline_s: float = 10.0) -> World:
    one = make(query_deadline_s=deadline_s)
    vectors, owners = ragged()
    one.fill(vectors, owners, cuts=cuts)
    return one


def check(one: World) -> None:
    # Whatever the hosts' deadline is: it also says when they let go of a snapshot.
    with searcher(one, query_deadline_s=10.0) as find:
        for k in (1, 9, 100):
            found = find.search(Request(vectors=one.vectors[:2], k=k))
            assert seen(found) == naive(one, one.vectors[:2], k, set())
            assert found.exact


@pytest.mark.parametrize("count", [2, 3])
def test_hosts_fetch_what_their_disks_lack(world: Make, count: int) -> None:
    one = filled(world, cuts=5)
    disks = one.machines(count)
    check(one)
    assert damaged(one) == []
    for number in range(5):
        assert there(files_of(one, disks[number % count], number))
    drafts = [path for disk in disks for path in disk.rglob(".*")]
    assert drafts == []


def test_hosts_say_that_they_have_their_copies_once_they_do(world: Make) -> None:
    one = filled(world)
    disks = one.machines(2, copies=2)
    snapshot = one.store.snapshot(one.store.pointers["snapshot"])
    until(lambda: copied(one.store.services(COPIES), snapshot, 2))
    assert all(there(files_of(one, disk, n)) for disk in disks for n in range(4))
    one.close()
    assert one.store.services(COPIES) == []


def test_hosts_that_make_no_copies_say_nothing_of_them(world: Make) -> None:
    one = filled(world)
    one.machines(2, copies=1)
    until(lambda: covered(one))
    check(one)
    assert one.store.services(COPIES) == []


def test_a_lost_machine_is_made_good_from_the_copies_of_another(world: Make) -> None:
    one = filled(world)
    disks = one.machines(2, copies=2)
    until(lambda: all(there(files_of(one, disk, n)) for disk in disks for n in range(4)))
    one.end(1)
    shutil.rmtree(disks[1])
    # Spark runs the task again on a machine whose disk is empty.
    settings = one.settings.replace(shards_dir=str(disks[1]), shard_copies=2)
    one._start(Host(settings, one.store, index=1, count=2, threads=2))
    check(one)
    assert damaged(one) == []
    until(lambda: all(there(files_of(one, disks[1], n)) for n in range(4)))


def test_a_disk_that_is_wiped_in_mid_service_is_filled_again(world: Make) -> None:
    one = filled(world)
    disks = one.machines(2, copies=2)
    until(lambda: all(there(files_of(one, disk, n)) for disk in disks for n in range(4)))
    shutil.rmtree(disks[0], ignore_errors=True)  # a file may come back meanwhile
    check(one)  # what is mapped stays mapped
    until(lambda: all(there(files_of(one, disks[0], n)) for n in range(4)))


def test_what_no_machine_has_is_reported_once_all_have_been_asked(world: Make) -> None:
    one = filled(world)
    disks = one.machines(2)
    until(lambda: covered(one))
    version = one.store.pointers["snapshot"]
    one.end(1)
    lost = [path for disk in disks for path in files_of(one, disk, 1)]
    for path in lost:
        path.unlink(missing_ok=True)
    settings = one.settings.replace(shards_dir=str(disks[1]))
    one._start(Host(settings, one.store, index=1, count=2, threads=2))
    until(lambda: damaged(one) == [version])
    assert not covered(one)
    impatient = searcher(one, query_deadline_s=0.5)
    with impatient as find, pytest.raises(UnavailableError, match="4 shards"):
        find.search(Request(vectors=one.vectors[:1]))
    # A new build ends it: the report goes with the snapshot that it was about.
    one.cut(3)
    rebuilt = one.store.pointers["snapshot"]
    # Hosts that look for it already may have made its folder.
    shutil.copytree(folder(one.settings, rebuilt), disks[0] / str(rebuilt), dirs_exist_ok=True)
    until(lambda: damaged(one) == [] and covered(one))
    check(one)


def test_a_host_waits_for_one_that_may_have_the_file(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "_PATIENCE_S", 60.0)
    one = filled(world)
    disks = one.machines(2)
    until(lambda: covered(one))
    one.end(0)
    one.end(0)
    for path in files_of(one, disks[1], 1):
        path.unlink()  # now on the first disk alone
    one._start(
        Host(one.settings.replace(shards_dir=str(disks[1])), one.store, index=1, count=2, threads=2)
    )
    time.sleep(0.5)
    assert damaged(one) == []
    assert not covered(one)
    one._start(
        Host(one.settings.replace(shards_dir=str(disks[0])), one.store, index=0, count=2, threads=2)
    )
    until(lambda: covered(one))
    check(one)


def test_a_damaged_file_is_replaced_by_a_whole_copy(world: Make) -> None:
    one = filled(world)
    disks = one.machines(2, copies=2)
    until(lambda: all(there(files_of(one, disk, n)) for disk in disks for n in range(4)))
    one.end(1)
    path = next(path for path in files_of(one, disks[1], 1) if "vectors" in path.name)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    one._start(
        Host(one.settings.replace(shards_dir=str(disks[1])), one.store, index=1, count=2, threads=2)
    )
    until(lambda: covered(one))
    assert path.read_bytes() == whole
    assert damaged(one) == []
    check(one)


def test_a_damaged_copy_is_never_taken(world: Make) -> None:
    one = filled(world)
    disks = one.machines(2, divided=True)
    until(lambda: covered(one))
    one.end(1)
    for path in files_of(one, disks[1], 1):
        path.unlink()
    bad = next(path for path in files_of(one, disks[0], 1) if ".high." in path.name)
    bad.write_bytes(b"x" * bad.stat().st_size)
    one._start(
        Host(one.settings.replace(shards_dir=str(disks[1])), one.store, index=1, count=2, threads=2)
    )
    until(lambda: damaged(one) == [one.store.pointers["snapshot"]])
    one.end(1)  # it asks again and again, and has a draft each time
    assert not (disks[1] / str(one.store.pointers["snapshot"]) / bad.name).exists()
    assert list(disks[1].rglob(".*")) == []


@pytest.mark.parametrize("count", [1, 2])
def test_a_snapshot_of_an_older_sightline_is_reported_and_nothing_is_fetched_for_it(
    world: Make, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Its sums are those of SHA-256, which nobody can compare any more: it is built again."""
    one = filled(world)
    version = one.store.pointers["snapshot"]
    snapshot, every = one.store.cut[version]
    path = folder(one.settings, version)
    older = [
        replace(
            shard,
            files={name: sha256((path / name).read_bytes()).hexdigest() for name in shard.files},
        )
        for shard in every
    ]
    one.store.cut[version] = (snapshot, older)
    disks = one.machines(count)
    until(lambda: damaged(one) == [version] * count)
    assert not covered(one)
    assert "an older Sightline wrote it: rebuild the snapshot" in caplog.text
    for number in range(4 if count > 1 else 0):
        held = files_of(one, disks[number % count], number)
        assert not any(path.exists() for path in held)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "..", "", ".", "secret", "x/../../secret", "\0"]
)
def test_a_host_serves_files_of_shard_rows_and_no_other(world: Make, name: str) -> None:
    one = filled(world)
    disks = one.machines(2)
    until(lambda: covered(one))
    version = one.store.pointers["snapshot"]
    (disks[0] / "secret").write_text("no")
    (disks[0] / str(version) / "secret").write_text("no")
    address = one.hosts[0][0]._server.address
    pool = Pool(one.settings)
    try:
        for snapshot in (version, uuid4()):
            asked = Message({"snapshot": str(snapshot), "name": name, "start": 0})
            with pytest.raises(NotFoundError, match="has no file of this name"):
                pool.call(address, "file", asked, timeout_s=5)
        known = files_of(one, disks[0], 0)[0]
        asked = Message({"snapshot": str(version), "name": known.name, "start": 3})
        reply = pool.call(address, "file", asked, timeout_s=5)
        assert reply.values["size"] == known.stat().st_size
        assert reply.arrays["data"].tobytes() == known.read_bytes()[3:1003]
    finally:
        pool.close()


def test_hosts_delete_what_was_pruned_from_their_own_disks(world: Make) -> None:
    one = filled(world, deadline_s=0.2)
    disks = one.machines(2)
    until(lambda: covered(one))
    old = one.store.pointers["snapshot"]
    one.cut(2)
    new = one.store.pointers["snapshot"]
    # Hosts that look for it already may have made its folder.
    shutil.copytree(folder(one.settings, new), disks[0] / str(new), dirs_exist_ok=True)
    until(lambda: covered(one))
    shelf.prune(one.settings, cast("Store", one.store))
    until(lambda: not any((disk / str(old)).exists() for disk in disks))
    assert (disks[0] / str(new)).exists()
    check(one)


def test_leftovers_of_long_ago_are_swept_and_nothing_else(world: Make) -> None:
    one = filled(world)
    version = one.store.pointers["snapshot"]
    own = Shelf(one.settings, cast("Any", one.store), count=2, service_id=uuid4())
    left, fresh = (folder(one.settings, uuid4()) for _ in range(2))
    other = shelf.base(one.settings) / "notes"
    for path in (left, fresh, other):
        path.mkdir()
    long_ago = time.time() - shelf.ABANDONED_S - 60
    for path in (left, other, folder(one.settings, version)):
        os.utime(path, (long_ago, long_ago))
    own.sweep()
    own.close()
    assert sorted(path.exists() for path in (left, fresh, other)) == [False, True, True]
    assert not left.exists()
    assert folder(one.settings, version).exists()


def of(index: int, address: str) -> Service:
    return Service(
        role=FILES, service_id=UUID(int=index), address=f"grpc://{address}:7", shards=(index,)
    )


def test_shards_are_numbered_so_that_hosts_hold_what_their_machines_wrote() -> None:
    written = [(f"{n:05d}", "127.0.0.2" if n < 4 else "127.0.0.3") for n in (5, 0, 3, 1, 4, 2)]
    order = arrange(written, [of(0, "127.0.0.3"), of(1, "127.0.0.2")], 2)
    assert sorted(order) == list(range(6))
    held = {n % 2: [written[at][1] for at in order[n % 2 :: 2]] for n in (0, 1)}
    # Three each, and of four that one machine wrote the fourth goes to the other.
    assert held[1] == ["127.0.0.2"] * 3
    assert sorted(held[0]) == ["127.0.0.2", "127.0.0.3", "127.0.0.3"]


@pytest.mark.parametrize("hosted", [[], [of(0, "[::1]")]])
def test_without_hosts_shards_are_numbered_in_order(hosted: list[Service]) -> None:
    written = [("b", "127.0.0.2"), ("a", "127.0.0.2"), ("c", "127.0.0.2")]
    assert [written[at][0] for at in arrange(written, hosted, 2)] == ["a", "b", "c"]
    assert arrange([], hosted, 2) == []


def test_a_machine_of_a_cluster_has_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Settings(data_dir=tmp_path, shards_dir="/given")
    cluster = alone.replace(spark_master="spark://m:7077")
    version = uuid4()
    assert folder(Settings(data_dir=tmp_path), version) == tmp_path / "shards" / str(version)
    assert here(cluster) == cluster
    monkeypatch.setenv(VARIABLE, "/own")
    assert here(alone) == alone
    assert folder(here(cluster), version) == Path("/own") / str(version)


def test_hardly_any_rows_on_two_machines(world: Make) -> None:
    one = world()
    one.fill(unit(np.random.default_rng(0), 2, 8), ["a", "b"], cuts=2)
    one.machines(2)
    until(lambda: covered(one))
    check(one)


@pytest.mark.parametrize("own", ["", "own"])
def test_a_task_writes_on_the_disk_of_its_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str
) -> None:
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.9")
    if own:
        monkeypatch.setenv(VARIABLE, str(tmp_path / own))
    settings = Settings(
        data_dir=tmp_path / "data",
        spark_master="spark://m:7077",
        shards_dir=str(tmp_path / "given"),
        shard_rows=2,
    )
    vectors = unit(np.random.default_rng(0), 3, 8)
    blobs, crcs = codec.encode(vectors)
    batch = pa.RecordBatch.from_pydict(
        {
            "listing_id": ["a", "b", "c"],
            "image_id": [str(uuid4()) for _ in range(3)],
            "feature_vector": blobs,
            "dim": [8] * 3,
            "dtype": ["float32"] * 3,
            "crc32c": crcs,
            "mark": [2**63 - 1, 2**62, -(2**63)],
        },
        schema=shards._TABLE,
    )
    version = uuid4()
    # As it travels to the task.
    travelled = pickle.loads(pickle.dumps(settings))
    made = list(shards._task(iter([batch]), settings=travelled, snapshot_id=version, dim=8))
    rows = [json.loads(each.column("shard")[0].as_py()) for each in made]
    # A sum of what xxhash64 gives, signed, modulo 2^64.
    marks = [int(each.column("mark")[0].as_py()) for each in made]
    assert marks == [2**63 - 1 + 2**62, 2**63]
    assert [(row["machine"], row["rows"]) for row in rows] == [("127.0.0.9", 2), ("127.0.0.9", 1)]
    path = tmp_path / (own or "given") / str(version)
    assert {each.name for each in path.iterdir()} == {n for row in rows for n in row["files"]}
    assert not (tmp_path / "data" / "shards").exists()
