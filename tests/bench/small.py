"""The fixed cost of a query: an almost empty collection, through the service and through HTTP."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from uuid import UUID, uuid4

import numpy as np

from analytics import shards
from analytics.hosting.hosts import Hosts
from analytics.search import Request, Searcher
from cql.migrations import migrate
from cql.records import Listing
from cql.session import close, connect, endpoint
from cql.settings import ROOT, Settings
from cql.store import Store
from dashboard.web import listen
from tests.bench import measure
from tests.bench.rows import Row, compare
from tests.bench.service import READY_S, Service, model
from tests.bench.tasks import MODEL
from tests.naive import unit
from tests.photos import photos_of, put_photos

LISTINGS, DIM = 20, 512
SIZE = f"{2 * LISTINGS} images"
WEB_S = 60.0


def fixed(service: Service, *, repeats: int, web: bool = True) -> list[Row]:
    """Rows of the fixed cost; stops the hosts of `service`, whose Cassandra and Spark it uses."""
    service.stop_hosts()
    found = endpoint(service.settings)
    own = service.settings.replace(
        data_dir=service.folder / "small",
        keyspace=f"small_{uuid4().hex[:10]}",
        cassandra_hosts=found.hosts,
        cassandra_port=found.port,
        cassandra_user=found.user,
        cassandra_password=found.password,
        replication=1,
        port=0,
    )
    session = connect(own)
    try:
        migrate(session, own)
        with Store.open(own) as store:
            images, vectors = _fill(store)
            hosts = Hosts(service.spark, own, store)
            hosts.start(shards.build(service.spark, own, store, MODEL))
            try:
                hosts.ready(READY_S)
                rows = [_through_service(own, store, vectors, repeats)]
                if web:
                    rows.append(_through_http(own, images, repeats))
            finally:
                hosts.stop()
        return rows
    finally:
        for name in (own.keyspace, own.results_keyspace):
            session.execute(f"DROP KEYSPACE IF EXISTS {name}", timeout=60)
        close(session)


def _through_service(settings: Settings, store: Store, vectors: np.ndarray, repeats: int) -> Row:
    with Searcher(settings, store) as searcher:
        seconds = measure.alternate(
            {
                "ours": lambda turn: searcher.search(
                    Request(vectors=vectors[turn % len(vectors)][None], k=100)
                )
            },
            repeats,
            warm=5,
        )["ours"]
    return compare(
        "fixed cost through the service",
        SIZE,
        median(seconds) * 1e3,
        unit="ms",
        target=15.0,
        quality={**measure.spread("ours", seconds), "n": repeats},
    )


def _through_http(settings: Settings, images: list[UUID], repeats: int) -> Row:
    with _served(settings) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

        def ask(turn: int) -> None:
            body = json.dumps({"image_ids": [str(images[turn % len(images)])], "k": 100})
            status, answer = _posted(connection, body)
            if status != 200:
                raise RuntimeError(f"a search through HTTP ended with {status}: {answer[:300]!r}")

        deadline = time.monotonic() + WEB_S
        while True:
            try:
                ask(0)
                break
            except (OSError, RuntimeError, http.client.HTTPException):
                connection.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)
        seconds = measure.alternate({"ours": ask}, repeats, warm=10)["ours"]
        connection.close()
    return compare(
        "fixed cost through HTTP",
        SIZE,
        median(seconds) * 1e3,
        unit="ms",
        target=30.0,
        quality={**measure.spread("ours", seconds), "n": repeats},
    )


def _posted(connection: http.client.HTTPConnection, body: str) -> tuple[int, bytes]:
    connection.request("POST", "/api/v1/search", body, {"content-type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read()


@contextmanager
def _served(settings: Settings) -> Iterator[int]:
    """A web worker of its own, as the supervisor starts it; yields its port."""
    import os

    listening = listen(settings)
    with listening:
        worker = subprocess.Popen(
            [sys.executable, "-m", "dashboard.web", "--fd", str(listening.fileno())],
            cwd=ROOT,
            env={**os.environ, **settings.environment()},
            pass_fds=[listening.fileno()],
        )
        try:
            yield int(listening.getsockname()[1])
        finally:
            worker.terminate()
            worker.wait(20)


def _fill(store: Store) -> tuple[list[UUID], np.ndarray]:
    """Write two images each of a few listings; their ids and vectors."""
    rng = np.random.default_rng(3)
    vectors = unit(rng, 2 * LISTINGS, DIM)
    store.put_model(model(DIM))
    names = [f"s{number:03d}" for number in range(LISTINGS)]
    store.put_listings(Listing(listing_id=name, title=name) for name in names)
    images = photos_of([name for name in names for _ in range(2)])
    put_photos(store, MODEL, images, vectors)
    return [image.image_id for image in images], vectors
