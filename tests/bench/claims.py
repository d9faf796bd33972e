"""The four claims of the mission, each as a factor measured on this engine.

`python -m tests.bench.claims [--json FILE]`; `tests.bench.search` runs it too. The target of a row
is one over the claimed factor, so `ok` says whether the claim was reached here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any
from uuid import uuid4, uuid5

import numpy as np
from numpy.typing import NDArray

from analytics.search import Request
from cql.records import NAMESPACE, Hit, Query
from cql.session import close, connect
from cql.wire import Server
from tests.bench import measure as measuring
from tests.bench.link import NoLinkError, far_seconds, link, serve
from tests.bench.rows import Row, compare, missing
from tests.bench.service import Service
from tests.bench.tasks import BEST, best_listings
from tests.bench.works import K, Plan

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

WORKS: tuple[str, ...] = ("in-memory", "co-located", "partitioned", "sorted")
HITS = 10_000
MEMORY, COLOCATED, PARTITIONED, SORTED = 100, 10, 20, 5
LINKS_MBIT = (1_000, 10_000)


def works(service: Service, plan: Plan) -> dict[str, Callable[[], list[Row]]]:
    """How each is measured, on the collection of a service whose hosts run."""
    queries = service.dataset.queries(plan.queries, service.vectors)
    calls = (
        partial(_memory, service, plan, queries),
        partial(_colocated, service, plan, queries),
        partial(_partitioned, service, plan, queries),
        partial(_sorted, service, plan),
    )
    return dict(zip(WORKS, calls, strict=True))


def sorted_page(
    rows: Iterable[tuple[float, str]], *, start: int, count: int
) -> list[tuple[float, str]]:
    """A page of (score, listing) as an application sorts it: score descending, then listing."""
    return sorted(rows, key=lambda row: (-row[0], row[1]))[start : start + count]


def _row(
    work: str, service: Service, seconds: dict[str, list[float]], *, peer: str, claimed: int
) -> Row:
    ours, theirs = median(seconds["ours"]) * 1e3, median(seconds["theirs"]) * 1e3
    return compare(
        work,
        service.dataset.size,
        ours,
        unit="ms",
        peer=peer,
        theirs=theirs,
        target=1 / claimed,
        quality={"factor": theirs / ours, "claimed": claimed},
    )


def _search(service: Service, queries: NDArray[np.float32]) -> Callable[[int], object]:
    return lambda turn: service.searcher.search(
        Request(vectors=queries[turn % len(queries)][None], k=K)
    )


def _collect(frame: DataFrame) -> list[Any]:
    from pyspark.sql import functions as sql

    rows: list[Any] = frame.orderBy(sql.desc("score"), "listing_id").limit(K).collect()
    return rows


def _memory(service: Service, plan: Plan, queries: NDArray[np.float32]) -> list[Row]:
    """Data in memory, or read from Cassandra by Spark for each query."""

    def read(turn: int) -> None:
        score = partial(best_listings, query=queries[turn % len(queries)], k=K)
        _collect(service.features().mapInArrow(score, BEST))

    seconds = measuring.alternate({"ours": _search(service, queries), "theirs": read}, plan.repeats)
    peer = "Spark reads Cassandra for each query"
    return [_row("claim: in memory", service, seconds, peer=peer, claimed=MEMORY)]


def _colocated(service: Service, plan: Plan, queries: NDArray[np.float32]) -> list[Row]:
    """Scored where the vectors are, or fetched over a link for each query."""
    work, rows = "claim: co-located", service.dataset.rows
    handlers: Any = serve(np.load(service.path))
    found = []
    for megabits in (0, *LINKS_MBIT):
        try:
            if not megabits:
                with Server(service.settings, handlers) as server:
                    theirs = far_seconds(
                        service.settings,
                        server.address,
                        rows=rows,
                        repeats=plan.repeats,
                        namespace=None,
                    )
            else:
                with (
                    link(megabits) as made,
                    Server(service.settings, handlers, host=made.address) as server,
                ):
                    theirs = far_seconds(
                        service.settings,
                        server.address,
                        rows=rows,
                        repeats=plan.repeats,
                        namespace=made.namespace,
                    )
        except NoLinkError as error:
            found.append(missing(work, service.dataset.size, str(error), unit="ms"))
            continue
        ours = measuring.alternate({"ours": _search(service, queries)}, plan.repeats)["ours"]
        over = f"a link of {megabits:,} Mbit/s, no delay" if megabits else "loopback, unshaped"
        peer = f"vectors fetched over {over}"
        seconds = {"ours": ours, "theirs": theirs}
        found.append(_row(work, service, seconds, peer=peer, claimed=COLOCATED))
    return found


def _partitioned(service: Service, plan: Plan, queries: NDArray[np.float32]) -> list[Row]:
    """The listings' best by one Spark job: where they lie, or brought together first."""
    from pyspark.sql import functions as sql

    held = service.features().select("listing_id", "image_id", "feature_vector").persist()
    apart = held.repartition(held.rdd.getNumPartitions(), "image_id").persist()
    held.count()
    apart.count()

    def score(frame: DataFrame, turn: int, k: int = K) -> DataFrame:
        ask = partial(best_listings, query=queries[turn % len(queries)], k=k)
        return frame.mapInArrow(ask, BEST)

    def in_place(turn: int) -> None:
        _collect(score(held, turn))

    def vectors_move(turn: int) -> None:
        together = apart.repartition(held.rdd.getNumPartitions(), "listing_id")
        _collect(score(together, turn))

    def scores_move(turn: int) -> None:
        parts = score(apart, turn, k=service.dataset.rows)
        _collect(parts.groupBy("listing_id").agg(sql.max("score").alias("score")))

    seconds = measuring.alternate(
        {"ours": in_place, "vectors": vectors_move, "scores": scores_move}, plan.repeats
    )
    apart.unpersist()
    held.unpersist()
    return [
        _row(
            "claim: partitioned on the listing",
            service,
            {"ours": seconds["ours"], "theirs": seconds[name]},
            peer=f"Spark job that shuffles {name}, data cached in Spark",
            claimed=PARTITIONED,
        )
        for name in ("vectors", "scores")
    ]


def _sorted(service: Service, plan: Plan) -> list[Row]:
    """A page of a result in Cassandra's order, or all of it read and sorted by the application."""
    store = service.store
    rng = np.random.default_rng(5)
    hits = [
        Hit(score=float(score), listing_id=f"r{number:06d}", image_id=uuid5(NAMESPACE, f"{number}"))
        for number, score in enumerate(rng.random(HITS).astype(np.float32))
    ]
    query_id, attempt = uuid4(), uuid4()
    made = Query(
        query_id=query_id,
        spec="{}",
        model_id=service.snapshot.model_id,
        snapshot_id=service.snapshot.snapshot_id,
        name="",
        rows=0,
        rows_scanned=0,
        seconds=0.0,
    )
    store.publish(made, attempt, hits)
    unsorted = Unsorted(service, hits)
    middle = store.hits(query_id, attempt, limit=HITS // 2)[-1]
    try:
        pages: tuple[tuple[str, int, Hit | None, int], ...] = (
            (f"first {K} of {HITS:,} hits", 0, None, K),
            (f"hits {HITS // 2:,} to {HITS // 2 + K:,}", HITS // 2, middle, K),
            (f"all {HITS:,} hits", 0, None, HITS),
        )
        found = []
        for name, start, after, count in pages:
            ours = store.hits(query_id, attempt, limit=count, after=after)
            theirs = unsorted.page(start, count)
            if [(hit.score, hit.listing_id) for hit in ours] != theirs:
                raise AssertionError(f"{name}: both ways must give the same hits, they do not")
            seconds = measuring.alternate(
                {
                    "ours": lambda _, c=count, a=after: store.hits(  # type: ignore[misc]
                        query_id, attempt, limit=c, after=a
                    ),
                    "theirs": lambda _, s=start, c=count: unsorted.page(s, c),  # type: ignore[misc]
                },
                plan.repeats,
            )
            peer = "read whole, sorted in Python"
            work = f"claim: sorted by Cassandra, {name}"
            found.append(_row(work, service, seconds, peer=peer, claimed=SORTED))
    finally:
        unsorted.close()
    return found


class Unsorted:
    """The hits of one query in a table that is not clustered by score."""

    KEYSPACE = "bench_unsorted"

    def __init__(self, service: Service, hits: Sequence[Hit]) -> None:
        from cassandra.concurrent import execute_concurrent_with_args

        self._session = connect(service.settings)
        table = f"{self.KEYSPACE}.hits"
        drop = f"DROP KEYSPACE IF EXISTS {self.KEYSPACE}"
        keyspace = (
            f"CREATE KEYSPACE {self.KEYSPACE} WITH replication = "
            "{'class': 'SimpleStrategy', 'replication_factor': 1}"
        )
        hits_table = (
            f"CREATE TABLE {table} (query_id uuid, listing_id text, image_id uuid, score float, "
            "PRIMARY KEY ((query_id), listing_id))"
        )
        for text in (drop, keyspace, hits_table):
            self._session.execute(text, timeout=60)
        self._query = uuid4()
        insert = self._session.prepare(
            f"INSERT INTO {table} (query_id, listing_id, image_id, score) VALUES (?, ?, ?, ?)"
        )
        values = ((self._query, hit.listing_id, hit.image_id, hit.score) for hit in hits)
        execute_concurrent_with_args(self._session, insert, values, concurrency=64)
        self._all = self._session.prepare(
            f"SELECT score, listing_id, image_id FROM {table} WHERE query_id = ?"
        )

    def page(self, start: int, count: int) -> list[tuple[float, str]]:
        """Read all, sort, cut."""
        rows = self._session.execute(self._all, (self._query,))
        return sorted_page(((row[0], row[1]) for row in rows), start=start, count=count)

    def close(self) -> None:
        """Drop the table."""
        self._session.execute(f"DROP KEYSPACE IF EXISTS {self.KEYSPACE}", timeout=60)
        close(self._session)


if __name__ == "__main__":
    from tests.bench.search import main

    sys.exit(main(["--work", "claims", *sys.argv[1:]]))
