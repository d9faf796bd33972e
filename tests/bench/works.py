"""What is measured: each function asks the service, most of them beside a peer, and makes rows."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from analytics import shards
from analytics.hosting import shelf
from analytics.maps.regions import Selection
from analytics.scanning import codes
from analytics.search import Request, Result
from cql.errors import SightlineError
from cql.records import Listing
from tests.bench import measure, peers
from tests.bench.rows import Row, Value, compare, missing
from tests.bench.service import CROWD, Service, fresh_listing, put_map
from tests.bench.tasks import MODEL, drain
from tests.bench.vectors import Answer, recall, truth
from tests.photos import photos_of, put_photos

K = 100
FRESH_S = 30.0
BUILDS = 3
WRITTEN = 20_000
"""Rows of the shard that is written to time it."""

SAI_ROWS = 20_000
"""Most rows that are loaded into Cassandra's own index: it takes a few hundred a second."""


Seen = tuple[str, UUID, float]
"""A hit: listing, the image that won, score."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How often, and on how many threads."""

    repeats: int
    threads: int
    queries: int = 8
    fresh: int = 5


class Bench:
    """Measures one service. Every method yields rows for one work."""

    def __init__(self, service: Service, plan: Plan) -> None:
        self.service, self.plan = service, plan
        self.dataset = service.dataset
        self.queries = self.dataset.queries(plan.queries, service.vectors)
        self.answers: list[Answer] = [
            truth(self.dataset, service.vectors, query, K) for query in self.queries
        ]

    def ask(self, turn: int, **changes: Any) -> Result:
        """One search through the service, published."""
        query = self.queries[turn % len(self.queries)]
        return self.service.searcher.search(Request(vectors=query[None], k=K, **changes))

    def quality(self) -> dict[str, Value]:
        """Compare every query's answer with brute force."""
        same, shares, rescored = True, [], []
        for turn, answer in enumerate(self.answers):
            result = self.ask(turn)
            wanted = self._wanted(answer)
            same = same and _seen(result) == wanted
            found = {hit.listing_id for hit in result.hits}
            shares.append(len(found & {each[0] for each in wanted}) / len(wanted))
            rescored.append(int(getattr(result, "rescored", 0)))
        return {
            "identical": same,
            "recall@100 ours": float(np.mean(shares)),
            "rescored": int(median(rescored)),
        }

    def _wanted(self, answer: Answer) -> list[Seen]:
        return [
            (self.dataset.listing_id(int(own)), self.dataset.image_id(int(row)), float(score))
            for own, row, score in zip(answer.listings, answer.rows, answer.scores, strict=True)
        ]

    def one_query(self) -> list[Row]:
        """One query beside the peers that the targets name."""
        wide = self.dataset.dim >= 2000
        targets = {"NumPy": 0.6 if wide else 0.5, "FAISS": 0.2 if wide else 0.25}
        quality = {
            **self.quality(),
            "bytes scanned": self.service.scanned_bytes(self.queries[:1], K),
        }
        return [
            self._beside(peer, target=targets[peer.name.split()[0]], quality=quality)
            for peer in peers.exact(self.plan.threads)
        ]

    def others(self) -> list[Row]:
        """One query beside the rest that runs in this process: usearch, numkong, LanceDB."""
        threads, folder = self.plan.threads, self.service.folder
        makers: list[Callable[[], peers.Peer]] = [
            lambda: peers.Usearch(threads),
            lambda: peers.Numkong(threads),
            lambda: peers.Lance(threads, folder, index=False),
            lambda: peers.Lance(threads, folder, index=True),
        ]
        return [self._beside(make()) for make in makers]

    def sai(self) -> list[Row]:
        """One query beside Cassandra's own vector index, at the sizes that it can be loaded at."""
        if self.dataset.rows <= SAI_ROWS:
            return [self._beside(peers.Sai(self.service.settings))]
        why = (
            f"Cassandra's own index is measured up to {SAI_ROWS:,} rows: loading it takes too long"
        )
        return [missing("one query", self.dataset.size, why, unit="ms")]

    def together(self) -> list[Row]:
        """32 queries that arrive at once, time a query, beside the peers' batches."""
        asked = self.dataset.queries(CROWD, self.service.vectors)
        targets = {"NumPy": 0.5, "FAISS": 0.15}
        wanted = [
            self._wanted(truth(self.dataset, self.service.vectors, each, K)) for each in asked
        ]
        rows = []
        with ThreadPoolExecutor(CROWD) as pool:
            barrier = threading.Barrier(CROWD)

            def ask(number: int) -> Result:
                barrier.wait()
                return self.service.searcher.search(Request(vectors=asked[number][None], k=K))

            same = [_seen(result) for result in pool.map(ask, range(CROWD))] == wanted
            for peer in peers.exact(self.plan.threads):
                with closing(peer):
                    peer.prepare(self.service.path)
                    seconds = measure.alternate(
                        {
                            "ours": lambda _: list(pool.map(ask, range(CROWD))),
                            "theirs": lambda _, peer=peer: peer.batch(asked, K),  # type: ignore[misc]
                        },
                        self.plan.repeats,
                    )
                rows.append(
                    self._row(
                        f"{CROWD} at once, a query",
                        seconds,
                        peer=f"{peer.name} batch",
                        target=targets[peer.name.split()[0]],
                        quality={"identical": same},
                        share=CROWD,
                    )
                )
        return rows

    def in_stock(self) -> list[Row]:
        """Only what is in stock, where one listing of a hundred is."""
        return self._filtered("in stock, 1 %", 1.5, in_stock=True)

    def attribute(self) -> list[Row]:
        """An attribute filter that keeps one listing of a hundred."""
        put_map(self.service)
        selection = Selection(filters={"attr:kind": ("rare",)})
        return self._filtered("attribute filter, 1 %", 0.5, selection=selection)

    def memory(self) -> list[Row]:
        """Resident memory of the hosts, read while they scan."""
        size = 4 * self.dataset.rows * self.dataset.dim
        found: list[int] = []
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(0.05):
                found.append(measure.pss(self.service.host_pids()))

        watcher = threading.Thread(target=watch)
        watcher.start()
        for turn in range(max(20, self.plan.repeats)):
            self.ask(turn)
        stop.set()
        watcher.join()
        quality: dict[str, Value] = {"hosts": len(self.service.host_pids()), "readings": len(found)}
        return [
            compare(
                "resident memory of the hosts",
                self.dataset.size,
                max(found) / 1e6,
                unit="MB (PSS)",
                peer="float32 vectors",
                theirs=size / 1e6,
                target=0.6,
                quality=quality,
            )
        ]

    def build(self) -> list[Row]:
        """Making the snapshot, beside the same Spark read drained by tasks that keep nothing."""
        service = self.service
        reads, builds = [], []
        for _ in range(BUILDS):
            began = time.perf_counter()
            made = shards.build(service.spark, service.settings, service.store, MODEL, reuse=False)
            builds.append(time.perf_counter() - began)
            # Taking the files away again is no part of it.
            service.store.delete_snapshot(made.snapshot_id)
            shutil.rmtree(shelf.folder(service.settings, made.snapshot_id))
            reads.append(
                _timed(lambda: service.features().mapInArrow(drain, "rows long").collect())
            )
        read, total = median(reads), median(builds)
        quality: dict[str, Value] = {
            "read s": read,
            "build s": total,
            "rows/s": self.dataset.rows / total,
            "load into Cassandra s": self.service.load_s,
            **self._writing(),
        }
        return [
            compare(
                "snapshot build: share beside reading",
                self.dataset.size,
                max(0.0, total - read) / total,
                unit="of the total",
                target=0.3,
                quality=quality,
            )
        ]

    def fresh(self) -> list[Row]:
        """From writing an image and its feature to the search that returns it."""
        rng = np.random.default_rng(time.time_ns())
        seconds: list[float] = []
        name = "new image to searchable"
        for number in range(self.plan.fresh):
            vector = rng.standard_normal((1, self.dataset.dim)).astype(np.float32)
            vector /= np.linalg.norm(vector)
            took = self._appears(fresh_listing(number), vector)
            if took is None:
                why = f"a new image was not found within {FRESH_S:.0f} s"
                return [missing(name, self.dataset.size, why, unit="s", target=FRESH_S)]
            seconds.append(took)
        quality: dict[str, Value] = {"n": len(seconds), "longest": max(seconds)}
        return [
            compare(
                name,
                self.dataset.size,
                median(seconds),
                unit="s",
                target=FRESH_S,
                quality=quality,
            )
        ]

    def bandwidth(self) -> list[Row]:
        """Bytes scanned a second over the whole query, beside a plain read of memory."""
        seconds = measure.alternate({"ours": self.ask}, self.plan.repeats)["ours"]
        scanned = self.service.scanned_bytes(self.queries[:1], K)
        streamed = measure.streaming(self.plan.threads)
        return [
            compare(
                "bytes scanned a second",
                self.dataset.size,
                scanned / median(seconds) / 1e9,
                unit="GB/s",
                peer="streaming read, NumPy sum",
                theirs=streamed / 1e9,
                quality={"threads": self.plan.threads, "bytes": scanned},
            )
        ]

    def _writing(self) -> dict[str, Value]:
        """Seconds that quantising, and writing shards of all rows, would take one core."""
        count = min(WRITTEN, self.dataset.rows)
        rows = np.arange(count)
        vectors = np.array(self.service.vectors[:count])
        owners = [self.dataset.listing_id(own) for own in self.dataset.owners[:count].tolist()]
        names, images = np.array(owners, object), self.dataset.image_keys(rows)
        codes.encode(vectors[:100])
        share = self.dataset.rows / count
        with tempfile.TemporaryDirectory(dir=self.service.folder) as folder:
            quantise = _timed(lambda: codes.encode(vectors))
            write = _timed(lambda: shards.write(Path(folder), "sample", names, images, vectors))
        return {
            "quantise s a core": quantise * share,
            "order, quantise, write s a core": write * share,
        }

    def _appears(self, listing_id: str, vector: NDArray[np.float32]) -> float | None:
        store = self.service.store
        (photo,) = photos_of([listing_id])
        began = time.perf_counter()
        store.put_listings([Listing(listing_id=listing_id, title="New")])
        put_photos(store, MODEL, [photo], vector)
        try:
            while time.perf_counter() - began <= FRESH_S:
                hits = self.service.searcher.search(Request(vectors=vector, k=1)).hits
                if hits and hits[0].image_id == photo.image_id:
                    return time.perf_counter() - began
                time.sleep(0.05)
            return None
        finally:
            store.delete_listing(listing_id)

    def _filtered(self, work: str, target: float, **changes: Any) -> list[Row]:
        began = time.perf_counter()
        try:
            result = self.ask(0, **changes)
        except (TypeError, SightlineError) as error:
            why = f"{type(error).__name__}: {error}"
            return [missing(work, self.dataset.size, why, unit="ms", target=target)]
        first = time.perf_counter() - began
        kept = [hit for hit in result.hits if self.dataset.rare(int(hit.listing_id[1:]))]
        wanted = min(K, sum(self.dataset.rare(n) for n in range(self.dataset.listings)))
        seconds = measure.alternate(
            {"ours": lambda turn: self.ask(turn, **changes), "theirs": self.ask},
            self.plan.repeats,
        )
        quality: dict[str, Value] = {
            "hits": len(result.hits),
            "all of the kept 1 %": len(kept) == len(result.hits) == wanted,
            "first ms": first * 1e3,
        }
        row = self._row(work, seconds, peer="ours, unfiltered", target=target, quality=quality)
        return [row]

    def _beside(self, peer: peers.Peer, *, target: float | None = None, quality: Any = None) -> Row:
        with closing(peer):
            prepared = _timed(lambda: peer.prepare(self.service.path))
            shares = [
                recall(peer.search(query, K), answer.images)
                for query, answer in zip(self.queries, self.answers, strict=True)
            ]
            seconds = measure.alternate(
                {
                    "ours": self.ask,
                    "theirs": lambda turn: peer.search(self.queries[turn % len(self.queries)], K),
                },
                self.plan.repeats,
            )
        found = {
            **(quality or {}),
            "recall@100 theirs": float(np.mean(shares)),
            "peer's build s": prepared,
        }
        return self._row("one query", seconds, peer=peer.name, target=target, quality=found)

    def _row(
        self,
        work: str,
        seconds: dict[str, list[float]],
        *,
        peer: str,
        target: float | None,
        quality: dict[str, Value] | None = None,
        share: int = 1,
    ) -> Row:
        spread: dict[str, Value] = {
            **measure.spread("ours", seconds["ours"], scale=1e3 / share),
            **measure.spread("theirs", seconds["theirs"], scale=1e3 / share),
        }
        return compare(
            work,
            self.dataset.size,
            median(seconds["ours"]) * 1e3 / share,
            unit="ms",
            peer=peer,
            theirs=median(seconds["theirs"]) * 1e3 / share,
            target=target,
            quality={**spread, **(quality or {}), "threads": self.plan.threads},
        )


def _seen(result: Result) -> list[Seen]:
    return [(hit.listing_id, hit.image_id, hit.score) for hit in result.hits]


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
