"""The engine: `python -m dashboard.engine` owns Spark, the model, the hosts and all jobs.

Kinds of jobs and their parameters (JSON): `render` {folder, images, seed}, `ingest` {photos,
manifest}, `extract` {model}, `snapshot` {model}, `analyse` {model, seed, cluster_size},
`cluster_size` {map_id, size}, `stock-report` {by, file}, `classify` {seed}, `concepts` {model}.
Every one is idempotent: what is done is not done again; a classifier is trained anew.
Beside them it folds changes into new snapshots and places new images on the live map.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import numpy as np

from analytics import arrowfile
from analytics.hosting import merge
from analytics.hosting.pointers import LIVE, live_snapshots
from analytics.jobs import Runner
from analytics.learning import training
from analytics.making import watch
from analytics.search import Searcher
from cql.errors import ConflictError, InputError, SightlineError, UnavailableError
from cql.progress import CancelledError, Progress
from cql.records import Service, Snapshot
from cql.settings import Settings
from cql.store import Store
from cql.wire import Beacon, Message, Pool, Server, follow_parent, own_address
from dashboard import sizes, stocks
from dashboard.connection import await_store
from dashboard.logs import configure
from dashboard.previews import Previews
from extraction.sandbox import Sandbox

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from analytics.hosting.hosts import Hosts
    from analytics.making.latecomers import Latecomers
    from extraction.ingest import IngestReport
    from extraction.job import ExtractReport
    from extraction.models import Embedder

log = logging.getLogger(__name__)

POLL_S = 1.0
"""Seconds between two looks for work: an idle engine must cost next to nothing."""

HOSTS_TIMEOUT_S = 180.0
"""Seconds in which the hosts of a snapshot must be up."""

PLACE_LOOK_S = 5.0
PLACE_AGAIN_S = 60.0
"""Seconds between two looks for images that are not on the map yet, and after one that failed."""

PLACE_ROWS_S, PLACE_MOST_S = 20_000.0, 50.0
"""Rows of the map for a second of rest once images were placed, and the longest rest."""

MERGE_LOOK_S = 10.0
"""Seconds between two looks at what changed."""

SEED = 1


class Models:
    """Embedders by name, loaded when first asked for and kept; loading is one at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._loaded: dict[str, Embedder] = {}

    def get(self, name: str) -> Embedder:
        """The embedder of a model's name."""
        with self._lock:
            if name not in self._loaded:
                from extraction.models import load

                self._loaded[name] = load(name, self._settings)
            return self._loaded[name]


class Engine:
    """One engine. `run` blocks until `stop` is called."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.owner = uuid4()
        self._stop = threading.Event()
        self._models = Models(settings)
        self._previews = Previews(settings)
        self._sandbox = Sandbox(settings, workers=2)
        self._spark: SparkSession | None = None
        self._store: Store | None = None
        self._hosts: Hosts | None = None
        self._late: Latecomers | None = None
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Ask `run` to end; a running job stops at its next step and is queued again."""
        self._stop.set()

    def run(self) -> None:
        """Connect, bring the live snapshot up, answer and work until stopped."""
        from cql import spark

        starting = _Background(lambda: spark.start(self.settings, app="sightline engine"))
        store = self._store = await_store(self.settings, self._stop)
        answers = {
            "embed": self._embed,
            "ping": _ping,
            "stability": lambda message: self._previews.stability(store, message),
            "preview": lambda message: self._previews.preview(store, message),
        }
        server = Server(self.settings, answers, host=own_address(self.settings))
        beacon = Beacon(store, self._row(server.address, None))
        try:
            self._spark = starting.result()
            spark.point(self._open_spark, self.settings)
            self._serve_live(beacon)
            # What an engine left that was killed while it wrote a map.
            arrowfile.sweep(self.settings.data_dir / "maps")
            threading.Thread(target=self._warm, name="warm", daemon=True).start()
            threading.Thread(target=self._merge, name="merge", daemon=True).start()
            threading.Thread(target=self._keep_placing, name="place", daemon=True).start()
            handlers = {
                "render": self._render,
                "ingest": self._ingest,
                "extract": self._extract,
                merge.KIND: lambda p, progress: self._snapshot(p, progress, beacon),
                "analyse": self._analyse,
                sizes.KIND: self._size,
                stocks.KIND: self._report_stock,
                training.KIND_CLASSIFY: self._classify,
                training.KIND_CONCEPTS: self._judge_arrivals,
            }
            log.info("engine %s is ready", self.owner)
            stoppable = {k: self._stoppable(h) for k, h in handlers.items()}
            Runner(store, stoppable, self.owner, busy=watch.busy).run_forever(
                self._stop, poll_s=POLL_S
            )
        finally:
            beacon.close()
            server.close()
            self._sandbox.close()
            if self._hosts is not None:
                self._hosts.stop()
            if self._spark is not None:
                self._spark.stop()
            store.close()

    # Handlers of jobs

    def _render(self, parameters: Mapping[str, Any], progress: Progress) -> None:
        folder = Path(parameters["folder"])
        if (folder / "listings.csv").is_file():
            progress("render", 1, 1, "rendered before")
            return
        from extraction.sample import render

        # The tables are written last: a folder without them is left from a run that was stopped.
        shutil.rmtree(folder, ignore_errors=True)
        report = render(
            folder,
            images=int(parameters["images"]),
            seed=int(parameters["seed"]),
            progress=progress,
        )
        text = f"{report.images:,} pictures of {report.listings:,} listings"
        progress("render", report.images, report.images, text)

    def _ingest(self, parameters: Mapping[str, Any], progress: Progress) -> None:
        from extraction.ingest import ingest

        report = ingest(
            self.settings,
            self._open_store,
            parameters["photos"],
            manifest=parameters.get("manifest") or None,
            progress=progress,
        )
        progress("ingest", report.files, report.files, _ingested(report))

    def _extract(self, parameters: Mapping[str, Any], progress: Progress) -> None:
        from extraction.job import extract

        report = extract(
            self._open_spark,
            self.settings,
            self._open_store,
            model=self._model_name(parameters),
            progress=progress,
        )
        have = report.had + report.fresh
        if not have:
            raise InputError(
                "a collection needs one photo that can be read, it has none: ingest photos, "
                "and see `sightline status` for the files that failed"
            )
        self._judge(self._model_id(parameters), progress)
        placed = self._place(progress)
        progress("extract", have, have, _extracted(report, have, placed))

    def _snapshot(self, parameters: Mapping[str, Any], progress: Progress, beacon: Beacon) -> None:
        from analytics.shards import build

        model_id = parameters.get("model_id") or self._model_id(parameters)
        snapshot = build(self._open_spark, self.settings, self._open_store, model_id, progress)
        progress("hosts", 0, snapshot.shards, "loading")
        self._host(snapshot, beacon)
        self._judge(model_id, progress)
        text = f"{snapshot.rows:,} images of {snapshot.listings:,} listings are searchable"
        progress("hosts", snapshot.shards, snapshot.shards, text)

    def _analyse(self, parameters: Mapping[str, Any], progress: Progress) -> None:
        from analytics.analysis import Parameters, analyse
        from analytics.making.resize import wanted
        from extraction.copies import Made, make
        from extraction.measures import fill

        fill(self._open_store, progress=progress)

        def plant(images: Sequence[UUID], seed: int, progress: Progress) -> Made:
            embedder = self._models.get(self._model_name(parameters))
            return make(self._open_store, images, embedder, seed=seed, progress=progress)

        size = wanted(self._open_store, parameters.get("cluster_size"))
        found = analyse(
            self._open_spark,
            self.settings,
            self._open_store,
            model_id=self._model_id(parameters),
            seed=int(parameters.get("seed", SEED)),
            progress=progress,
            parameters=Parameters(min_cluster_size=size),
            plant=plant,
        )
        text = f"{found.rows_scored:,} of {found.rows:,} images, {found.clusters} clusters"
        progress("analyse", found.rows_scored, found.rows, text)

    def _size(self, parameters: Mapping[str, Any], progress: Progress) -> None:
        from analytics.making.resize import resize

        size, base = parameters.get("size"), parameters.get("map_id")
        found = resize(
            self.settings,
            self._open_store,
            None if size is None else int(size),
            map_id=UUID(str(base)) if base else None,
            progress=progress,
        )
        text = f"{found.clusters} clusters, {found.noise:,} of {found.rows_scored:,} images in none"
        progress(sizes.KIND, found.rows_scored, found.rows, text)

    def _report_stock(self, parameters: Mapping[str, Any], progress: Progress) -> None:
        stocks.run_report(self._open_spark, self.settings, self._open_store, parameters, progress)

    def _classify(self, parameters: Mapping[str, Any], progress: Progress) -> None:
        with Searcher(self.settings, self._open_store) as searcher:
            made = training.classify(
                self._open_store,
                searcher,
                seed=int(parameters.get("seed", SEED)),
                progress=progress,
            )
        rows = sum(made.counts)
        text = f"{rows:,} images in {len(made.classes)} classes from {made.labels:,} labels"
        progress("classify", rows, rows, text)

    def _judge_arrivals(self, parameters: Mapping[str, Any], progress: Progress) -> None:
        training.judge(self._open_store, self._model_id(parameters), progress=progress)

    def _judge(self, model_id: str, progress: Progress) -> None:
        """Let what was learned judge what arrived. The job that it is a step of does not fail."""
        try:
            training.judge(self._open_store, model_id, progress=progress)
        except SightlineError as error:
            if isinstance(error, CancelledError):
                raise
            log.warning("classes and concepts are not told yet of what arrived: %s", error)

    def _place(self, progress: Progress) -> int:
        """Place what is not on the live map. The job does not fail with it: it is tried again."""
        try:
            return self._latecomers.place(progress=progress)
        except SightlineError as error:
            if isinstance(error, CancelledError):
                raise
            log.warning("new images are not on the map yet: %s", error)
            return 0

    # Hosts of the live snapshots

    def _serve_live(self, beacon: Beacon) -> None:
        # The default one is the first, and the one that nobody should wait for longer.
        for snapshot in live_snapshots(self._open_store).values():
            try:
                self._host(snapshot, beacon)
            except SightlineError as error:
                # The next snapshot job builds a new one; all else of the engine still works.
                log.warning("a live snapshot of %s is not served: %s", snapshot.model_id, error)

    def _host(self, snapshot: Snapshot, beacon: Beacon) -> None:
        from analytics.hosting.hosts import Hosts

        store = self._open_store
        if self._hosts is None:
            self._hosts = Hosts(self._open_spark, self.settings, store)
        self._hosts.start(snapshot)
        self._hosts.ready(HOSTS_TIMEOUT_S, model_id=snapshot.model_id)
        beacon.update(snapshot_id=store.live(LIVE))

    # Answers

    def _embed(self, message: Message) -> Message:
        """{model_id}, image: uint8 bytes of a file -> vectors: float32 (1, D), unit L2 norm."""
        from extraction.decode import DecodeError

        model = self._open_store.model(str(message.values["model_id"]))
        embedder = self._models.get(model.name)
        if embedder.model.model_id != model.model_id:
            raise ConflictError(
                f"the snapshot has vectors of {model.model_id}, the model is now "
                f"{embedder.model.model_id}: extract again"
            )
        try:
            picture = self._sandbox.decode(
                message.arrays["image"].tobytes(), detail=embedder.transform.detail
            )
        except DecodeError as error:
            raise InputError(
                f"an uploaded picture must decode, this one does not: {error}"
            ) from error
        vectors = np.asarray(embedder.embed([picture]), np.float32)
        return Message({"model_id": model.model_id}, {"vectors": vectors})

    def _warm(self) -> None:
        """Load the default model once nothing else starts: the first upload need not wait."""
        if self._stop.wait(5.0):
            return
        try:
            live = self._open_store.live(LIVE)
            if live is not None:
                snapshot = self._open_store.snapshot(live)
                self._models.get(self._open_store.model(snapshot.model_id).name)
        except Exception as error:  # noqa: BLE001 - only a head start; embed reports its own errors
            log.info("the model was not loaded ahead: %s", error)

    def _merge(self) -> None:
        """Queue a snapshot whenever the hosts' changes should be folded into shards."""
        pool = Pool(self.settings)
        pause = MERGE_LOOK_S
        while not self._stop.wait(pause):
            pause = MERGE_LOOK_S
            try:
                found = merge.backlogs(self._open_store, pool)
                merge.queue(self._open_store, found, default=self.settings.model)
            except SightlineError as error:
                log.warning("changes were not folded in: %s", error)
                pause = merge.AGAIN_S
            except Exception:
                if self._stop.is_set():
                    break  # what it works with is closed
                log.exception("changes cannot be folded in")
                pause = merge.AGAIN_S
        pool.close()

    def _keep_placing(self) -> None:
        """Place images on the live map as they get features, whatever job runs."""
        pause = PLACE_LOOK_S
        while not self._stop.wait(pause):
            try:
                placed = self._latecomers.place(progress=self._unless_stopped)
                pause = PLACE_LOOK_S
                if placed:
                    log.info("%d new images were placed on the map", placed)
                    # Every batch costs the readers of a large map a copy of its columns.
                    pause = max(pause, self._rest_s())
            except SightlineError as error:
                log.warning("new images are not on the map yet: %s", error)
                pause = PLACE_AGAIN_S
            except Exception:
                if self._stop.is_set():
                    return  # what it works with is closed
                log.exception("new images cannot be placed on the map")
                pause = PLACE_AGAIN_S

    def _unless_stopped(self, step: str, done: int, total: int, message: str = "") -> None:
        del step, done, total, message
        if self._stop.is_set():
            raise CancelledError("the engine stops")

    def _rest_s(self) -> float:
        live = self._open_store.live("map")
        rows = self._open_store.map(live).rows if live is not None else 0
        return min(PLACE_MOST_S, rows / PLACE_ROWS_S)

    # Steps shared by the above

    @property
    def _latecomers(self) -> Latecomers:
        from analytics.making.latecomers import Latecomers

        with self._lock:
            if self._late is None:
                searcher = Searcher(self.settings, self._open_store)
                self._late = Latecomers(self.settings, self._open_store, searcher)
            return self._late

    @property
    def _open_store(self) -> Store:
        if self._store is None:
            raise UnavailableError("the engine must be running, it is not: call run")
        return self._store

    @property
    def _open_spark(self) -> SparkSession:
        if self._spark is None:
            raise UnavailableError("Spark must be running, it is still starting: try again")
        return self._spark

    def _row(self, address: str, snapshot_id: UUID | None) -> Service:
        return Service(
            role="engine",
            service_id=self.owner,
            address=address,
            snapshot_id=snapshot_id,
            pid=os.getpid(),
        )

    def _model_name(self, parameters: Mapping[str, Any]) -> str:
        return str(parameters.get("model") or self.settings.model)

    def _model_id(self, parameters: Mapping[str, Any]) -> str:
        from extraction.models import describe

        return describe(self._model_name(parameters), self.settings).model_id

    def _stoppable(
        self, handler: Callable[[Mapping[str, Any], Progress], None]
    ) -> Callable[[Mapping[str, Any], Progress], None]:
        def run(parameters: Mapping[str, Any], progress: Progress) -> None:
            def checked(step: str, done: int, total: int, message: str = "") -> None:
                if self._stop.is_set():
                    # Not an error of the job: it stays claimed, and the next engine takes it over.
                    raise SystemExit(0)
                progress(step, done, total, message)

            handler(parameters, checked)

        return run


class _Background:
    """A call on a thread of its own, whose result or error is taken later."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, args=(work,), daemon=True)
        self._thread.start()

    def _work(self, work: Callable[[], Any]) -> None:
        try:
            self._value = work()
        except BaseException as error:  # noqa: BLE001 - raised again by result
            self._error = error

    def result(self) -> Any:
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._value


def _ping(_message: Message) -> Message:
    return Message({"ok": True})


def _ingested(report: IngestReport) -> str:
    text = f"{report.ready:,} of {report.files:,} files are photos"
    failed = ", ".join(f"{reason}: {n:,}" for reason, n in sorted(report.reasons.items())[:3])
    parts = [text, f"{report.images:,} new", f"{report.failed:,} failed ({failed})"]
    return ", ".join(parts if report.failed else parts[:2])


def _extracted(report: ExtractReport, have: int, placed: int) -> str:
    text = f"{have:,} images have features, {report.fresh:,} new"
    text += f", {report.regions:,} lacked only regions" if report.regions else ""
    if report.images:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in report.shares.items())
        text += f", {report.rate:,.1f} images/s ({shares})"
    text += f", {report.failed:,} failed" if report.failed else ""
    return text + (f", {placed:,} placed on the map" if placed else "")


def main() -> None:
    """Run until SIGTERM, or until the parent is gone."""
    follow_parent()
    settings = Settings.load()
    configure(settings)
    engine = Engine(settings)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: engine.stop())
    try:
        engine.run()
    except UnavailableError as error:
        log.error("%s", error)  # noqa: TRY400 - the message says it
        raise SystemExit(3) from error


if __name__ == "__main__":
    main()
