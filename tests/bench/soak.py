"""Users and an ingest at once for a quarter of an hour: no wrong answer, no leak, no growing p95.

`python -m tests.bench.soak --minutes 15 --users 8` (`make soak`). Every answer is checked: each
score against the vectors of the image that won, and the order and completeness of the hits
against all listings that nobody changes, and those that came or went before the moment up to which
the answer takes changes in.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import numpy as np
import psutil
from numpy.typing import NDArray

from analytics.request import Request
from analytics.search import Result
from cql.errors import UnavailableError
from cql.records import Listing
from tests.bench.service import Service
from tests.bench.tasks import MODEL
from tests.bench.vectors import Dataset
from tests.photos import photos_of, put_photos

DATASET = Dataset(20_000, 256, "clustered")
K = 20
GROWTH = 1.5
"""Most that p95 and memory may grow from the first third of a run to the last one."""

LARGE = 64 << 20
"""Bytes from which a process is one that may grow: a few pages more of a small one say nothing."""

_PAUSE_S = 0.05
_KEPT = 200
_SURE = 1e-6
"""Sums in another order differ by less."""


@dataclass
class Tally:
    """What a run saw. `answers`: (seconds since the start, seconds it took).

    `memory`: of each process (seconds since the start, resident bytes).
    """

    answers: list[tuple[float, float]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    refused: int = 0
    added: int = 0
    deleted: int = 0
    sold: int = 0
    memory: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


@dataclass
class Fresh:
    """A listing that came while users asked: its vectors, and when it was written whole.

    `going`: when its deletion began, `gone`: when that was done.
    """

    vectors: NDArray[np.float64]
    there: datetime
    going: datetime | None = None
    gone: datetime | None = None


@dataclass(frozen=True)
class Report:
    """The figures of a run; `ok` when nothing was wrong, nothing refused and nothing grew.

    Of each large process `memory_mb` in the last third of the run, and what it is of the second.
    """

    minutes: float
    users: int
    answers: int
    refused: int
    wrong: int
    added: int
    deleted: int
    sold: int
    p50_ms: float
    p95_ms: float
    p95_growth: float
    memory_mb: dict[str, float]
    memory_growth: dict[str, float]
    ok: bool


class Soak:
    """Users, an ingest and sales over one service."""

    def __init__(self, service: Service) -> None:
        self.service, self.dataset = service, service.dataset
        self.vectors = np.array(service.vectors)
        self.wide = self.vectors.astype(np.float64)
        keys = self.dataset.image_keys(np.arange(self.dataset.rows))
        self.rows = {UUID(bytes=key.tobytes()): row for row, key in enumerate(keys)}
        self.images: dict[UUID, NDArray[np.float32]] = {}
        self.fresh: dict[str, Fresh] = {}
        self.traded: set[str] = set()
        self.tally = Tally()
        self._stop = threading.Event()
        self._began = 0.0

    def run(self, *, minutes: float, users: int) -> Report:
        """Run for so long and judge."""
        self._began = time.monotonic()
        work: list[Callable[[], None]] = [self._ingest, self._sell, self._watch]
        work += [lambda seed=seed: self._use(seed) for seed in range(users)]  # type: ignore[misc]
        with ThreadPoolExecutor(len(work)) as pool:
            running = [pool.submit(each) for each in work]
            self._stop.wait(60 * minutes)
            self._stop.set()
            for each in running:
                each.result()
        return judge(self.tally, minutes=minutes, users=users)

    def _use(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        while not self._stop.is_set():
            request = self._request(rng)
            began = time.monotonic()
            try:
                result = self.service.searcher.search(request)
            except UnavailableError:
                self.tally.refused += 1
                continue
            self.tally.answers.append((began - self._began, time.monotonic() - began))
            trouble = self._check(request, result)
            if trouble:
                self.tally.wrong.append(trouble)
            self._stop.wait(_PAUSE_S)

    def _request(self, rng: np.random.Generator) -> Request:
        row = int(rng.integers(self.dataset.rows))
        near = self.vectors[row] + rng.normal(size=self.dataset.dim) * 0.02
        vector = (near / np.linalg.norm(near)).astype(np.float32)[None]
        choice = rng.integers(3)
        if choice == 0:
            return Request(vectors=vector, k=K)
        if choice == 1:
            return Request(vectors=vector, k=K, in_stock=True)
        owner = self.dataset.listing_id(int(self.dataset.owners[row]))
        return Request(listing_id=owner, k=K, exclude=False)

    def _check(self, request: Request, result: Result) -> str:
        """What is wrong with an answer; nothing where it is right."""
        queries = request.vectors
        if queries is None:
            number = int(str(request.listing_id)[1:])
            starts = self.dataset.starts
            queries = self.vectors[starts[number] : starts[number + 1]]
        wide = queries.astype(np.float64)
        ranked = [(-hit.score, hit.listing_id) for hit in result.hits]
        if ranked != sorted(ranked):
            return "hits are out of order"
        for hit in result.hits:
            row = self.rows.get(hit.image_id)
            vector = self.vectors[row] if row is not None else self.images.get(hit.image_id)
            if vector is None:
                return f"image {hit.image_id} was never added"
            true = np.float32((wide @ vector.astype(np.float64)).max())
            if abs(float(true) - hit.score) > _SURE:
                return f"image {hit.image_id} scores {true}, the hit says {hit.score}"
        found = {hit.listing_id for hit in result.hits}
        least = result.hits[-1].score + _SURE if len(result.hits) == K else -np.inf
        if request.in_stock:
            missing = [hit.listing_id for hit in result.hits if not hit.inventory]
            if missing:
                return f"{missing[0]} was not in stock when it was read"
        best = np.maximum.reduceat((self.wide @ wide.T).max(axis=1), self.dataset.starts[:-1])
        above = {int(number) for number in np.flatnonzero(best > least)}
        if request.in_stock:
            above = {number for number in above if self.dataset.rare(number)}
        lost = {self.dataset.listing_id(number) for number in above} - found
        if request.in_stock:
            lost -= self.traded
        elif not result.behind:
            lost |= self._missed(result, wide, least) - found
        if lost:
            return f"{min(lost)} is better than the last hit and not among them"
        gone = self._gone(result) & found
        return f"{min(gone)} was deleted before and is a hit" if gone else ""

    def _missed(self, result: Result, wide: NDArray[np.float64], least: float) -> set[str]:
        """Fresh listings that are better than the last hit and were there all the time."""
        known = result.followed_at
        if known is None:
            return set()
        return {
            name
            for name, own in list(self.fresh.items())
            if own.there < known
            and own.going is None
            and float((own.vectors @ wide.T).max()) > least
        }

    def _gone(self, result: Result) -> set[str]:
        """Fresh listings that were deleted before what the answer takes in."""
        known = result.followed_at
        return {
            name
            for name, own in list(self.fresh.items())
            if known is not None and own.gone is not None and own.gone < known
        }

    def _ingest(self) -> None:
        """Add listings of a few photos that are like those there, and delete old ones again."""
        rng = np.random.default_rng(99)
        store, held, number = self.service.store, [], 0
        while not self._stop.is_set():
            name, number = f"soak{number:06d}", number + 1
            rows = rng.integers(self.dataset.rows, size=int(rng.integers(1, 4)))
            near = self.vectors[rows] + rng.normal(size=(len(rows), self.dataset.dim)) * 0.01
            near /= np.linalg.norm(near, axis=1, keepdims=True)
            vectors = near.astype(np.float32)
            images = photos_of([name] * len(rows))
            self.images.update(zip((each.image_id for each in images), vectors, strict=True))
            store.put_listings([Listing(listing_id=name, title=name)])
            put_photos(store, MODEL, images, vectors)
            self.fresh[name] = Fresh(vectors.astype(np.float64), datetime.now(UTC))
            self.tally.added += len(images)
            held.append(name)
            if len(held) > _KEPT:
                oldest = self.fresh[held.pop(0)]
                oldest.going = datetime.now(UTC)
                store.delete_listing(f"soak{number - 1 - _KEPT:06d}")
                oldest.gone = datetime.now(UTC)
                self.tally.deleted += 1
            self._stop.wait(0.2)

    def _sell(self) -> None:
        rng = np.random.default_rng(7)
        store = self.service.store
        while not self._stop.is_set():
            name = self.dataset.listing_id(int(rng.integers(self.dataset.listings)))
            level = store.stock([name]).get(name)
            if level is not None:
                left = max(0, level.inventory - 1) if level.inventory else 3
                self.traded.add(name)
                store.set_stock(name, left, etag=level.etag)
                self.tally.sold += 1
            self._stop.wait(0.1)

    def _watch(self) -> None:
        while not self._stop.wait(5.0):
            at = time.monotonic() - self._began
            hosts = set(self.service.host_pids())
            for process in (own := psutil.Process(), *own.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    size = float(process.memory_info().rss)
                    name = f"{_named(process, hosts)} {process.pid}"
                    self.tally.memory.setdefault(name, []).append((at, size))


def _named(process: psutil.Process, hosts: set[int]) -> str:
    if process.pid in hosts:
        return "host"
    words = " ".join(process.cmdline())
    if "java" in process.name():
        return "spark" if "org.apache.spark" in words else "cassandra"
    return "users" if process.pid == psutil.Process().pid else "python"


def judge(tally: Tally, *, minutes: float, users: int) -> Report:
    """Compare the last third of a run with its second: the first one still warms up."""
    times = np.array([took for _, took in tally.answers])
    growth = _growth(tally.answers, minutes, lambda values: float(np.percentile(values, 95)))
    held = {
        name: float(np.median([size for at, size in seen if at >= 40 * minutes]))
        for name, seen in tally.memory.items()
        if _thirds(seen, minutes)
    }
    grown = {
        name: _growth(tally.memory[name], minutes, lambda values: float(np.median(values)))
        for name, size in held.items()
        if size >= LARGE
    }
    return Report(
        minutes=minutes,
        users=users,
        answers=len(tally.answers),
        refused=tally.refused,
        wrong=len(tally.wrong),
        added=tally.added,
        deleted=tally.deleted,
        sold=tally.sold,
        p50_ms=round(1000 * float(np.median(times)), 1),
        p95_ms=round(1000 * float(np.percentile(times, 95)), 1),
        p95_growth=round(growth, 3),
        memory_mb={name: round(held[name] / 2**20, 1) for name in grown},
        memory_growth={name: round(value, 3) for name, value in grown.items()},
        ok=not tally.wrong
        and not tally.refused
        and bool(grown)
        and max(growth, *grown.values()) <= GROWTH,
    )


def _growth(
    seen: Sequence[tuple[float, float]],
    minutes: float,
    figure: Callable[[NDArray[np.float64]], float],
) -> float:
    parts = _thirds(seen, minutes)
    if parts is None:
        raise ValueError(f"a soak of {minutes:g} minutes is too short to compare its thirds")
    middle, last = parts
    return figure(last) / figure(middle)


def _thirds(
    seen: Sequence[tuple[float, float]], minutes: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Values of the second and of the last third of a run; None where one has none."""
    third = 20 * minutes
    middle = np.array([value for at, value in seen if third <= at < 2 * third], float)
    last = np.array([value for at, value in seen if at >= 2 * third], float)
    return (middle, last) if len(middle) and len(last) else None


def main(arguments: list[str] | None = None) -> int:
    """Run and print; 1 when something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--cache", type=Path, help="keeps the prepared collection between runs")
    given = parser.parse_args(arguments)
    with (
        TemporaryDirectory() as scratch,
        Service(DATASET, given.cache or Path(scratch)) as service,
    ):
        soak = Soak(service)
        report = soak.run(minutes=given.minutes, users=given.users)
    for trouble in soak.tally.wrong[:10]:
        sys.stdout.write(f"wrong: {trouble}\n")
    sys.stdout.write(json.dumps(asdict(report), indent=2) + "\n")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
