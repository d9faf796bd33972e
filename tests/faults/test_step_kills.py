"""The engine is killed in each step of a map, again and again: the map comes, as if nothing was.

`KILLS` in the environment says how often one job is killed: in every step in the first round of
`make soak`. Without it nothing is: an engine takes as long to start as all that `make test` may
spend here, where `tests/integration/test_analysis.py` kills a process instead.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Self, TypeVar
from uuid import UUID

import pytest

from analytics import jobs
from analytics.forecast import JobStep
from analytics.hierarchy.grown import path_of
from analytics.making.plan import STEPS
from analytics.making.steps import drop
from cql.records import Job, Listing, Thumbnail
from cql.settings import Settings
from cql.store import Store
from dashboard import children, web
from dashboard.children import Child
from dashboard.logs import tail
from extraction.models import describe
from tests import doubles
from tests.cluster import MODEL, Answer, fill
from tests.faults.gate import Gate, Seen
from tests.naive import listings_like
from tests.photos import photos_of, put_photos

KILLS = int(os.environ.get("KILLS", "0"))

pytestmark = [
    pytest.mark.service,
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.skipif(not KILLS, reason="minutes of starting engines: KILLS=1, or make soak"),
]

NAMES = tuple(step.name for step in STEPS)
BACK_S = 90.0
"""Seconds from a kill to the next moment of the job: the engine starts, and the job's owner must
have been silent for 15 s."""

Found = TypeVar("Found")


@dataclass(frozen=True)
class Moment:
    """When to kill: at a message to Cassandra. `step`: what the job's row says by then."""

    name: str
    step: str
    seen: Callable[[Site, UUID], Seen]
    live: bool = False


def begins(step: str) -> Moment:
    """The job's row is told that a step begins."""

    def seen(_: Site, job_id: UUID) -> Seen:
        # A text is bound as its length and its letters; the list of steps quotes them.
        named = len(step).to_bytes(4, "big") + step.encode()
        return lambda before, now: (
            named in (sent := before + now) and job_id.bytes in sent[sent.rindex(named) :]
        )

    return Moment(step, step, seen)


def half_written() -> Moment:
    """All points and some of the outliers of the map are on their way."""

    def seen(site: Site, _: UUID) -> Seen:
        held = count()

        def enough(_: bytes, now: bytes) -> bool:
            made = site.making()
            rows = now.count(made.bytes) if made is not None else 0
            return any(next(held) >= 1.5 * site.rows for _ in range(rows))

        return enough

    return Moment("store, half written", "store", seen)


def told_whole() -> Moment:
    """The row of the map is written, which says that all of it is there."""

    def seen(site: Site, _: UUID) -> Seen:
        return lambda before, now: (
            (made := site.making()) is not None
            and made.bytes in (sent := before + now)
            and b'"cluster_neighbours": ' in sent
        )

    return Moment("changes, written", "changes", seen)


def made_live() -> Moment:
    """The pointer to the live map moves."""

    def seen(site: Site, _: UUID) -> Seen:
        # The new version, a time, the pointer's name: each after its length.
        rest = rb"\x00{3}\x08.{8}\x00{3}\x03map"
        return lambda before, now: (
            (made := site.making()) is not None
            and re.search(re.escape(made.bytes) + rest, before + now, re.DOTALL) is not None
        )

    return Moment("tiles, made live", "tiles", seen, live=True)


MOMENTS = (
    *(begins(name) for name in NAMES),
    begins("store"),
    half_written(),
    begins("changes"),
    told_whole(),
    begins("tiles"),
    made_live(),
)
FIRST = ("store, half written", "layout", "tiles, made live", "changes, written", "graph")
"""Moments that are chosen before the others, where not all are."""


def chosen() -> list[Moment]:
    """As many moments as asked for, in the order in which a job meets them."""
    ranked = sorted(MOMENTS, key=lambda own: FIRST.index(own.name) if own.name in FIRST else 99)
    return [own for own in MOMENTS if own in ranked[:KILLS]]


class Site:
    """A collection with a map, a real engine and web worker, started again when they die."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.store = store
        self._stack = ExitStack()
        (host,) = settings.cassandra_hosts
        self.gate = self._stack.enter_context(Gate(host, settings.cassandra_port))
        self.settings = settings.replace(
            cassandra_hosts=("127.0.0.1",),
            cassandra_port=self.gate.port,
            spark_memory_mb=512,
            shard_rows=100,
            query_deadline_s=BACK_S,
            model=MODEL,
            port=0,
        )
        self.model_id = describe(MODEL, self.settings).model_id
        self.images, self.vectors = fill(store, self.settings, listings=64)
        # Pictures of a dozen: two of them alike, and copies of all choose the threshold.
        store.put_images(
            (image, Thumbnail(image_id=image.image_id, webp=doubles.webp(doubles.scene(at % 11)),
                              width=256, height=192))
            for at, image in enumerate(self.images[:12])
        )  # fmt: skip

    def __enter__(self) -> Self:
        try:
            self._start()
            self.done("snapshot")
            self.first = self.made()
            self._change()
            self.done("snapshot")
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def rows(self) -> int:
        """Images of the collection."""
        return len(self.images)

    def until(self, look: Callable[[], Found], seconds: float) -> Found:
        """What `look` returns once it is true; whoever died is started again meanwhile."""
        deadline = time.monotonic() + seconds
        while True:
            for child in (self.engine, self.web):
                child.tend()
            found = look()
            if found:
                return found
            assert time.monotonic() < deadline, tail(self.engine.log, lines=40)
            time.sleep(0.05)

    def submit(self, kind: str) -> UUID:
        return jobs.submit(self.store, kind, {"model": MODEL}).job_id

    def ended(self, job_id: UUID, seconds: float = 240.0) -> Job:
        def look() -> Job | None:
            job = self.store.job(job_id)
            return job if job.state in jobs.ENDED else None

        found = self.until(look, seconds)
        assert found is not None
        assert found.state == "done", f"{found.error}\n{tail(self.engine.log, lines=40)}"
        return found

    def done(self, kind: str) -> Job:
        """A job of a kind, carried out."""
        return self.ended(self.submit(kind))

    def made(self) -> UUID:
        """The map that an analysis makes live."""
        self.done("analyse")
        return self.live()

    def live(self) -> UUID:
        found = self.store.live("map")
        assert found is not None
        return found

    def making(self) -> UUID | None:
        """The map whose steps are being kept."""
        names = [path.name for path in (self.settings.data_dir / "work").glob("*-*-*-*-*")]
        return UUID(names[0]) if names else None

    def kept(self) -> dict[str, tuple[int, int]]:
        """What steps have kept, as it is on disk: their names, file and time."""
        folders = [*self.settings.data_dir.glob("work/*/[!.]*"), *self._graphs()]
        about = {path.name: (path / "about.json").stat() for path in folders}
        return {name: (found.st_ino, found.st_mtime_ns) for name, found in about.items()}

    def served(self) -> tuple[UUID, bytes]:
        """The map that a browser gets, and its tile of all images."""
        version = json.loads(self._got("map"))
        return UUID(version["map_id"]), self._got("map/tiles/0/0/0")

    def found(self) -> Answer:
        """What a browser finds that looks for images like the first one."""
        body = json.dumps({"image_ids": [str(self.images[0].image_id)], "k": 20})
        hits = json.loads(self._got("search", body))["hits"]
        return [(hit["listing_id"], hit["image_id"], hit["score"]) for hit in hits]

    def stored(self, map_id: UUID) -> dict[str, Any]:
        """All that is stored of a map, but not when; its table byte for byte."""
        store, version, once = self.store, self.store.map(map_id), datetime(2026, 1, 1, tzinfo=UTC)
        compared = store.comparisons(map_id)
        pairs = [(map_id, each.previous) for each in compared]
        return {
            "version": replace(version, created_at=once),
            "points": list(store.points(map_id, version.rows_scored)),
            "outliers": store.outliers(map_id, limit=self.rows + 1).rows,
            "clusters": store.clusters(map_id),
            "groups": store.groups(map_id),
            "means": store.means(map_id),
            "duplicates": store.duplicate_run(map_id),
            "duplicate groups": store.duplicate_groups(map_id),
            "members": list(store.iter_duplicate_members(map_id)),
            "compared": [replace(each, created_at=once) for each in compared],
            "changes": [store.cluster_changes(*pair) for pair in pairs],
            "new outliers": [store.new_outliers(*pair, limit=self.rows) for pair in pairs],
            "table": (self.settings.data_dir / "maps" / f"{map_id}.arrow").read_bytes(),
        }

    def forget(self, map_id: UUID) -> None:
        """Take a map back with all that was kept of it: the first one is live as before."""
        self.store.set_live("map", self.first, expected=map_id)
        self.store.delete_comparisons(map_id)
        self.store.delete_map(map_id)
        (self.settings.data_dir / "maps" / f"{map_id}.arrow").unlink()
        path_of(self.settings, map_id).unlink()
        drop(max(self._graphs(), key=lambda path: (path / "about.json").stat().st_mtime_ns))

    def freeze(self) -> None:
        """Stop every process of the engine where it is."""
        os.killpg(self.engine.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.killpg(self.engine.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End every process of the engine, with no word to anybody."""
        os.killpg(self.engine.pid, signal.SIGKILL)

    def _start(self) -> None:
        logs = self.settings.data_dir / "logs"
        env = {**os.environ, **self.settings.environment()}
        listening = self._stack.enter_context(web.listen(self.settings))
        self._url = f"http://127.0.0.1:{listening.getsockname()[1]}/api/v1"
        fd = listening.fileno()
        self.engine = Child("engine", "dashboard.engine", log=logs / "engine.log", env=env)
        self.web = Child(
            "web worker",
            "dashboard.web",
            log=logs / "web.log",
            env=env,
            arguments=("--fd", str(fd)),
            pass_fds=(fd,),
        )
        for child in (self.engine, self.web):
            child.start()
            self._stack.callback(child.stop)

    def _change(self) -> None:
        """Some listings come, one goes."""
        gone = self.images[-1].listing_id
        self.store.delete_listing(gone)
        stay = [at for at, image in enumerate(self.images) if image.listing_id != gone]
        self.images, self.vectors = [self.images[at] for at in stay], self.vectors[stay]
        fresh = photos_of([f"new{at % 4}" for at in range(12)])
        names = dict.fromkeys(image.listing_id for image in fresh)
        self.store.put_listings(Listing(listing_id=name, title=name) for name in names)
        put_photos(self.store, self.model_id, fresh, self.vectors[5:41:3])
        self.images += fresh

    def _graphs(self) -> list[Path]:
        return list((self.settings.data_dir / "graphs").glob("[!.]*"))

    def _got(self, path: str, body: str | None = None) -> bytes:
        request = urllib.request.Request(
            f"{self._url}/{path}",
            body.encode() if body is not None else None,
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=BACK_S + 10) as response:
            answer: bytes = response.read()
        return answer


@pytest.fixture(scope="module")
def site(settings: Settings, store: Store) -> Iterator[Site]:
    with Site(settings, store) as running:
        yield running


@pytest.mark.timeout(400 + min(KILLS, len(MOMENTS)) * BACK_S)
def test_a_map_comes_as_if_nothing_was_however_often_the_engine_is_killed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "BACKOFF_S", (0.5,))
    shown = site.served()
    alike = listings_like(site.store, site.model_id, site.images[0], 20)
    assert shown[0] == site.first
    assert site.found() == alike
    moments = chosen()
    site.freeze()  # else it might be there first
    job_id = site.submit("analyse")
    passed = site.gate.watch(moments[0].seen(site, job_id), site.freeze)
    site.thaw()
    done: dict[str, JobStep] = {}
    kept: dict[str, tuple[int, int]] = {}
    for moment, following in zip(moments, [*moments[1:], None], strict=True):
        site.until(passed.is_set, BACK_S)
        job = told(site, job_id, moment)
        now = {each.step: each for each in jobs.steps(job)}
        for name, before in done.items():
            # Not made again: what it took is what the try took that made it.
            assert now[name].state in {"done", "kept"}
            assert replace(now[name], state="", rows=0) == replace(before, state="", rows=0)
        assert {name: site.kept()[name] for name in kept} == kept
        before_it = NAMES[: NAMES.index(moment.step)] if moment.step in NAMES else NAMES
        assert all(now[name].state in {"done", "kept"} for name in before_it)
        done, kept = {name: now[name] for name in before_it}, site.kept()
        if moment.live:
            site.until(lambda: site.live() != site.first, 10)
            assert site.store.map(site.live()).rows_scored == site.rows
            shown = site.served()
        assert (site.live() != site.first) == moment.live
        site.kill()
        if following is not None:
            passed = site.gate.watch(following.seen(site, job_id), site.freeze)
        assert site.served() == shown, moment.name
        site.until(lambda: not site.engine.alive(), 10)
        site.until(site.engine.alive, 10)
        assert site.found() == alike
    site.ended(job_id, BACK_S)
    made = site.live()
    assert made != site.first
    assert site.making() is None
    stored = site.stored(made)
    assert len(stored["points"]) == site.rows
    assert len(stored["compared"]) == 1
    site.forget(made)
    assert site.served()[0] == site.first
    undisturbed = site.done("analyse")
    states = {each.step: each.state for each in jobs.steps(undisturbed)}
    assert {states[name] for name in NAMES} == {"done"}
    assert site.live() == made
    for name, wanted in site.stored(made).items():
        assert stored[name] == wanted, name


def told(site: Site, job_id: UUID, moment: Moment) -> Job:
    """The job's row as the killed engine leaves it."""

    def look() -> Job | None:
        job = site.store.job(job_id)
        return job if job.step == moment.step else None

    job = site.until(look, 10)
    assert job is not None
    assert job.state == "running"
    return job
