"""Cluster mode: three Cassandra nodes and a Spark master with two workers, some of them killed.

Every query is answered right or with a clear error, never wrong, and service comes back by itself.
"""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import psutil
import pytest
from cassandra import ConsistencyLevel

from analytics.search import Request, Searcher
from cql.session import close, connect
from cql.settings import Settings
from tests.cluster import Answer, Installation, Users, seen
from tests.naive import listings_among, listings_like
from tests.waiting import until

# Nine Java processes start on what may be two busy cores.
pytestmark = [
    pytest.mark.service,
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]

# Several times what docs/cluster.md tells of them: they end a wait on a busy machine.
EXECUTOR_S = 80.0
"""Seconds from the kill of an executor to right answers."""
NODE_S = 40.0
"""Seconds from the kill of one Cassandra node of three to right answers."""
QUORUM_S = 80.0
"""Seconds from the return of a second node to right answers."""

Wanted = dict[str, tuple[Request, Answer]]


@pytest.fixture(scope="module")
def installation(
    cassandra_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    settings = cassandra_settings.replace(spark_memory_mb=512)
    running = Installation(settings, tmp_path_factory.mktemp("cluster"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def wanted(installation: Installation) -> Wanted:
    """Requests of every form, each with the answer of a naive loop."""
    images, vectors = installation.images, installation.vectors
    rows = [row for row, image in enumerate(images) if image.listing_id == "l123"]
    like = listings_like(installation.store, installation.model_id, images[3], 20)
    return {
        "image": (Request(image_ids=(images[3].image_id,), k=20), like),
        "listing": (
            Request(listing_id="l123", k=15),
            listings_among(images, vectors, vectors[rows], 15, without="l123"),
        ),
        "vectors": (
            Request(vectors=vectors[[9, 200]], k=400),
            listings_among(images, vectors, vectors[[9, 200]], 400),
        ),
    }


@pytest.fixture
def users(installation: Installation, wanted: Wanted) -> Iterator[Users]:
    """Users who ask all the time; what they were told is checked when the test has ended."""
    with Users(installation, wanted) as asking:
        asking.seconds_to_right(time.monotonic(), within_s=60)
        yield asking
    assert not asking.wrong
    assert installation.engine_lives(), installation.said()
    for outcome in asking.outcomes:
        assert outcome.right or "try again" in outcome.error, outcome


def test_answers_equal_a_naive_loop_and_come_from_both_machines(
    installation: Installation, wanted: Wanted
) -> None:
    with Searcher(installation.settings, installation.store) as find:
        for request, answer in wanted.values():
            assert seen(find, request) == answer
        snapshot = find.snapshot()
    assert snapshot.rows == len(installation.images)
    assert snapshot.shards > 2
    hosts = installation.hosts()
    addresses = {str(urlsplit(host.address).hostname) for host in hosts}
    assert addresses <= set(installation.cluster.spark.workers)
    assert sorted(number for host in hosts for number in host.shards) == list(
        range(snapshot.shards)
    )


def test_shards_lie_on_the_disk_of_each_machine(installation: Installation) -> None:
    """Hosts hold what their own disk has, and copies of the other's; nothing is shared."""
    spark, store = installation.cluster.spark, installation.store
    with Searcher(installation.settings, store) as find:
        snapshot = find.snapshot()
    disks = {worker: spark.disk(worker) / str(snapshot.snapshot_id) for worker in spark.workers}
    shards = store.shards(snapshot.snapshot_id)
    for host in installation.hosts():
        disk = disks[str(urlsplit(host.address).hostname)]
        for number in host.shards:
            assert all((disk / name).exists() for name in shards[number].files)
    names = {name for shard in shards for name in shard.files}
    for disk in disks.values():
        until(lambda disk=disk: names <= {path.name for path in disk.iterdir()}, seconds=30)  # type: ignore[misc]
    assert not spark.disk(spark.address).exists()
    assert not (installation.settings.data_dir / "shards").exists()


def test_rows_have_three_copies_and_are_read_at_a_quorum(installation: Installation) -> None:
    session = connect(installation.settings)
    try:
        keyspaces = {
            row.keyspace_name: row.replication
            for row in session.execute("SELECT * FROM system_schema.keyspaces")
        }
        profile = session.cluster.profile_manager.default
    finally:
        close(session)
    for name in (installation.settings.keyspace, installation.settings.results_keyspace):
        assert keyspaces[name]["datacenter1"] == "3"
    assert profile.consistency_level == ConsistencyLevel.LOCAL_QUORUM
    assert profile.serial_consistency_level == ConsistencyLevel.LOCAL_SERIAL


def test_nothing_listens_beyond_loopback(installation: Installation) -> None:
    assert installation.hosts()
    heard = set()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            sockets = child.net_connections("inet")
            heard |= {each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN}
    assert set(installation.cluster.spark.workers) & {ip.removeprefix("::ffff:") for ip in heard}
    for ip in heard:
        address = ipaddress.ip_address(ip)
        plain = getattr(address, "ipv4_mapped", None) or address
        assert plain.is_loopback, ip


def test_an_executor_is_killed_in_mid_query(installation: Installation, users: Users) -> None:
    before = {host.service_id for host in installation.hosts()}
    worker = installation.kill_executor()
    killed = time.monotonic()
    users.seconds_to_right(killed, within_s=EXECUTOR_S, each=3)
    after = {host.service_id for host in installation.hosts()}
    assert after - before, "no host took the place of the dead one"
    # The worker starts an executor again, which takes the next task.
    executors = installation.cluster.spark.executors
    until(lambda: worker in executors().values(), seconds=EXECUTOR_S)


def test_nodes_of_cassandra_are_killed_in_mid_query(
    installation: Installation, users: Users
) -> None:
    ring = installation.cluster.ring
    ring.kill(2)
    killed = time.monotonic()
    users.seconds_to_right(killed, within_s=NODE_S, each=3)
    ring.kill(1)
    killed = time.monotonic()
    until(lambda: any(each.asked > killed and each.error for each in users.outcomes), seconds=60)
    assert not users.right_since(killed + 1), "a quorum needs two of three copies"
    ring.start(1)
    back = time.monotonic()
    # The node that was away has missed writes, and one of the two copies asked is its own.
    users.seconds_to_right(back, within_s=QUORUM_S, each=3)
