"""The embedded Cassandra when things go wrong: kill -9, a dead parent, rivals, bad arguments."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self
from uuid import UUID, uuid4

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from analytics import shards
from analytics.hosting.host import Host
from analytics.hosting.shelf import folder
from analytics.search import K_MAX, Request, Result, Searcher
from cql import embedded
from cql.embedded import Cassandra
from cql.errors import ConflictError, NotFoundError, UnavailableError
from cql.migrations import migrate
from cql.records import Hit, Image, Listing, Model, Query, Shard, Snapshot, Stock
from cql.session import Endpoint, close, connect, endpoint, endpoint_file, open_session
from cql.settings import ROOT, Settings
from cql.store import Store
from tests.naive import listings_among, unit
from tests.photos import photos_of
from tests.waiting import until

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.alone]


class Owner:
    """The Cassandra of this module; a test that kills it starts it again."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.cassandra = Cassandra.start(settings)

    def restart(self) -> None:
        self.cassandra.stop()  # of a dead one it closes the lifeline
        self.cassandra = Cassandra.start(self.settings)


@pytest.fixture(scope="module")
def owner(
    cassandra_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Owner]:
    """A Cassandra of our own, in a folder with spaces, quotes and letters beyond ASCII."""
    folder = tmp_path_factory.mktemp("own") / 'my "photos" \u00e9 $x'
    owner = Owner(cassandra_settings.replace(data_dir=folder))
    session = connect(owner.settings)
    migrate(session, owner.settings)
    close(session)
    yield owner
    owner.cassandra.stop()


def test_what_was_acknowledged_survives_kill_9(owner: Owner) -> None:
    acknowledged: list[list[str]] = [[] for _ in range(4)]
    stock: list[Stock] = []

    def write(number: int) -> None:
        count = 0
        while True:
            name = f"k{number}-{count}"
            try:
                store.put_listings([Listing(listing_id=name, title=name)])
                acknowledged[number].append(name)
                if number == 0:
                    stock.append(store.set_stock(name, count, etag=""))
            except UnavailableError:
                return
            count += 1

    with Store.open(owner.settings) as store:
        writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for writer in writers:
            writer.start()
        until(lambda: all(len(names) > 20 for names in acknowledged), seconds=30)
        os.kill(owner.cassandra.pid, signal.SIGKILL)
        for writer in writers:
            writer.join(120)
    assert not owner.cassandra.alive() or not psutil.pid_exists(owner.cassandra.pid)
    assert not embedded.running(owner.settings)

    owner.restart()
    with Store.open(owner.settings) as store:
        names = [name for group in acknowledged for name in group]
        found = store.listings(names)
        assert set(names) == set(found)
        assert all(found[name].title == name for name in names)
        assert store.stock([each.listing_id for each in stock]) == {
            each.listing_id: each for each in stock
        }


MODEL = "toy@faults"
LISTINGS = 1300
"""As many hits: three batches, so that a result can be lost in part."""


@dataclass
class Asked:
    """A search: when it was asked, and its query and hits, or its error."""

    at: float
    result: Result | None = None
    error: Exception | None = None


class Asking:
    """Threads that search without a pause, and know when answers are being published."""

    def __init__(self, store: Store, vectors: NDArray[np.float32]) -> None:
        self._store, self._vectors = store, vectors
        self._find = Searcher(store.settings, store)
        self._publish = store.publish_and_read
        self._stop = threading.Event()
        self.publishing = 0
        self.asked: list[Asked] = []
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(3)]

    def __enter__(self) -> Self:
        self._store.publish_and_read = self._counted  # type: ignore[method-assign]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        self._find.close()

    def right_since(self, moment: float) -> int:
        return sum(each.result is not None and each.at > moment for each in list(self.asked))

    def _counted(
        self, query: Query, attempt: UUID, hits: Iterable[Hit], *, limit: int
    ) -> tuple[Query, list[Hit]]:
        self.publishing += 1
        try:
            return self._publish(query, attempt, hits, limit=limit)
        finally:
            self.publishing -= 1

    def _ask(self, number: int) -> None:
        count = 0
        while not self._stop.is_set():
            one = Asked(time.monotonic())
            # Each is a query of its own: asked again, it would be published again.
            request = Request(vectors=self._vectors[[number]], k=LISTINGS, name=f"{number}-{count}")
            try:
                one.result = self._find.search(request)
            except Exception as error:  # noqa: BLE001 - judged when the test ends
                one.error = error
            self.asked.append(one)
            count += 1


def served(store: Store, vectors: NDArray[np.float32], images: list[Image]) -> Snapshot:
    """Write a collection and its snapshot, in two shards, and make it live."""
    settings, owners = store.settings, [image.listing_id for image in images]
    model = Model(
        model_id=MODEL, name="toy", architecture="", weights_sha256="", transform="", dim=8
    )
    store.put_model(model)
    version = uuid4()
    made = []
    for number, rows in enumerate(np.array_split(np.arange(len(owners)), 2)):
        files = shards.write(
            folder(settings, version),
            f"{number:05d}",
            np.array([owners[row] for row in rows], object),
            np.array([np.frombuffer(images[row].image_id.bytes, np.uint8) for row in rows]),
            vectors[rows],
        )
        made.append(Shard(snapshot_id=version, shard=number, **files))
    now = datetime.now(UTC)
    snapshot = Snapshot(
        snapshot_id=version, model_id=MODEL, rows=len(owners), listings=len(owners), dim=8,
        shards=2, watermark=now, created_at=now, code_version="test",
    )  # fmt: skip
    store.put_snapshot(snapshot, made)
    store.set_live("snapshot", version, expected=None)
    return snapshot


def test_results_are_whole_or_gone_when_cassandra_is_killed_while_they_are_published(
    owner: Owner,
) -> None:
    vectors = unit(np.random.default_rng(2), LISTINGS, 8)
    images = photos_of([f"l{n:04d}" for n in range(LISTINGS)])
    wanted = {row: listings_among(images, vectors, vectors[[row]], LISTINGS) for row in range(3)}
    settings = owner.settings.replace(query_deadline_s=20.0)
    stop = threading.Event()
    with Store.open(settings) as store:
        served(store, vectors, images)
        host = Host(settings, store, threads=1)
        host.refresh()
        hosting = threading.Thread(target=host.run, args=(stop,))
        hosting.start()
        try:
            with Asking(store, vectors) as asking:
                until(lambda: asking.right_since(0) >= 6, seconds=120)
                until(lambda: asking.publishing >= 2, seconds=120)
                os.kill(owner.cassandra.pid, signal.SIGKILL)
                owner.restart()
                back = time.monotonic()
                until(lambda: asking.right_since(back) >= 6, seconds=120)
            asked = asking.asked
            failed = [each.error for each in asked if each.error is not None]
            assert failed, "no search met the kill"
            for error in failed:
                assert isinstance(error, UnavailableError), error
                assert "try again" in str(error)
            kept, gone = 0, 0
            for each in asked:
                if each.result is None:
                    continue
                # What was acknowledged is whole and in order, whatever happened around it.
                row = int(each.result.query.name.partition("-")[0])
                assert found_in(each.result.hits) == wanted[row]
                again = read(store, each.result.query.query_id)
                if isinstance(again, str):
                    assert "may have expired, search again" in again
                    assert each.at < back, "lost, though Cassandra was not killed since"
                    gone += 1
                else:
                    assert found_in(again) == wanted[row]
                    kept += 1
            assert kept >= 6
            assert gone >= 1, "results without a commit log outlived kill -9"
        finally:
            stop.set()
            hosting.join()
            host.close()


def read(store: Store, query_id: UUID) -> list[Hit] | str:
    """What a reader of a published query gets: all of its hits, or why not."""
    try:
        return store.hits_of(store.query(query_id), limit=K_MAX)
    except NotFoundError as error:
        return str(error)


def found_in(hits: Sequence[Hit]) -> list[tuple[str, str, float]]:
    return [(hit.listing_id, str(hit.image_id), hit.score) for hit in hits]


def test_a_second_start_is_refused_and_ensure_attaches(owner: Owner) -> None:
    assert embedded.running(owner.settings)
    with pytest.raises(ConflictError, match="is held by a live Cassandra"):
        Cassandra.start(owner.settings)
    with embedded.ensure(owner.settings) as attached:
        assert attached is None
    assert owner.cassandra.alive()
    assert endpoint(owner.settings).pid == owner.cassandra.pid


def test_secrets_are_ours_alone(owner: Owner) -> None:
    home = owner.settings.data_dir / "cassandra"
    for path in (endpoint_file(owner.settings), home / "secret.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    found = owner.cassandra.endpoint
    assert len(found.password) >= 32
    assert found.password not in repr(found)
    command = " ".join(psutil.Process(owner.cassandra.pid).cmdline())
    assert found.password not in command
    for user, password in (("cassandra", "cassandra"), (found.user, "wrong"), ("", "")):
        with pytest.raises(UnavailableError):
            open_session(Endpoint(found.hosts, found.port, user, password, "datacenter1"))


def test_nothing_listens_beyond_loopback(owner: Owner) -> None:
    sockets = psutil.Process(owner.cassandra.pid).net_connections("inet")
    listening = [each.laddr for each in sockets if each.status == psutil.CONN_LISTEN]
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert owner.cassandra.endpoint.port in {address.port for address in listening}


def test_it_logs_into_the_data_folder_and_writes_the_log_first(owner: Owner) -> None:
    log = owner.settings.data_dir / "logs" / "cassandra.log"
    assert "CassandraDaemon" in log.read_text(encoding="utf-8")
    session = connect(owner.settings)
    rows = session.execute("SELECT name, value FROM system_views.settings").all()
    close(session)
    values = {row.name: row.value for row in rows}
    assert values["commitlog_sync"] == "batch"
    assert str(owner.settings.data_dir) in values["commitlog_directory"]


def test_a_clean_stop_lets_go_and_keeps_port_and_data(owner: Owner) -> None:
    with Store.open(owner.settings) as store:
        store.put_listings([Listing(listing_id="kept")])
    before = owner.cassandra.endpoint
    owner.cassandra.stop()
    assert not psutil.pid_exists(before.pid)
    assert not embedded.running(owner.settings)
    with pytest.raises(UnavailableError, match="is not running"):
        connect(owner.settings)
    with embedded.ensure(owner.settings) as owned:
        assert owned is not None
        assert owned.endpoint.port == before.port
        assert owned.endpoint.password == before.password
        with Store.open(owner.settings) as store:
            assert store.listing("kept").listing_id == "kept"
    assert not embedded.running(owner.settings)
    owner.restart()


def test_a_start_that_fails_says_why(cassandra_settings: Settings, tmp_path: Path) -> None:
    settings = cassandra_settings.replace(data_dir=tmp_path)
    with pytest.raises(UnavailableError, match=r"(?s)Invalid maximum heap size.*whole log is in"):
        Cassandra.start(settings, options=["-Xmx1x"])
    assert not embedded.running(settings)
    with pytest.raises(UnavailableError, match="Java archives"):
        Cassandra.start(settings.replace(jars_dir=tmp_path / "none"))


def test_it_dies_with_its_parent(cassandra_settings: Settings, tmp_path: Path) -> None:
    settings = cassandra_settings.replace(data_dir=tmp_path)
    # The Java process is watched from its first moment, so the parent dies while it starts.
    code = (
        "from cql.embedded import Cassandra; from cql.settings import Settings\n"
        "Cassandra.start(Settings.load())"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=settings.environment())
    try:
        until(lambda: len(psutil.Process(parent.pid).children(recursive=True)) >= 2, seconds=30)
        family = psutil.Process(parent.pid).children(recursive=True)
    finally:
        parent.kill()
        parent.wait()
    gone, alive = psutil.wait_procs(family, timeout=40)
    assert not alive
    assert len(gone) >= 2
    assert not embedded.running(settings)


def test_it_dies_with_its_watcher(cassandra_settings: Settings, tmp_path: Path) -> None:
    """The last line of defence: somebody kills the small process between us and Java."""
    lifeline, ours = os.pipe()
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", str(ROOT / "cql" / "child.py"), "-", "sleep", "600"],
        stdin=lifeline,
        stdout=subprocess.PIPE,
    )
    os.close(lifeline)
    assert watcher.stdout is not None
    command = psutil.Process(int(watcher.stdout.readline()))
    watcher.stdout.close()
    watcher.kill()
    watcher.wait()
    command.wait(20)
    assert not command.is_running()
    os.close(ours)
