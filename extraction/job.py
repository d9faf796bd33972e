"""The extraction job: features that a model lacks, computed in Spark tasks, kept in Cassandra.

Spark tells which images have no features under the model, or none of their regions (joins of
connector reads), and runs tasks of a few hundred images each. A task writes through the store,
batch by batch: what is acknowledged is durable, and a run that was stopped continues with what is
missing.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from cql import spark as sparks
from cql.errors import IntegrityError, SightlineError, UnavailableError
from cql.progress import Progress, silent
from cql.records import Model
from cql.settings import Settings
from cql.store import Store
from extraction import models, patches
from extraction.features import Failure, Photo, Pipeline, Tally
from extraction.models import Embedder

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import DataFrame, SparkSession

_POLL_S = 0.5
_TASK_IMAGES = (64, 1024)
_TASKS_PER_SLOT = 8
_GPU_AMOUNT = "spark.task.resource.gpu.amount"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractReport:
    """What an extraction did. `present` images lacked nothing before; `images` lack nothing now.

    Of those, `regions` lacked the features of their regions only; `had` images had features before,
    also those whose regions could not be made. Times are seconds summed over threads; shares are of
    their sum.
    """

    model_id: str
    present: int
    images: int
    failed: int
    seconds: float
    decode_s: float
    model_s: float
    write_s: float
    tasks: int
    device: str
    failures: tuple[Failure, ...] = field(default=())
    had: int = 0
    regions: int = 0

    @property
    def fresh(self) -> int:
        """Images that had no features before and have them now."""
        return self.images - self.regions

    @property
    def rate(self) -> float:
        """Images per second of wall time."""
        return self.images / self.seconds if self.seconds > 0 else 0.0

    @property
    def shares(self) -> dict[str, float]:
        """Shares of decode, model and write in the work: they sum to 1, or are 0 without work."""
        work = {"decode": self.decode_s, "model": self.model_s, "write": self.write_s}
        total = sum(work.values())
        return {name: seconds / total if total else 0.0 for name, seconds in work.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """How the work is cut: tasks at once, torch threads and decode threads of each, and where."""

    slots: int
    torch_threads: int
    decode_threads: int
    gpu: bool


def extract(
    spark: SparkSession,
    settings: Settings,
    store: Store,
    *,
    model: str,
    progress: Progress = silent,
) -> ExtractReport:
    """Compute and store the features that `model` (a name of `models.load`) lacks.

    An image whose file is gone, changed or unusable gets the state `failed` with the reason; the
    next extraction tries it again. Raises what `models.describe` raises, `UnavailableError` when
    Spark or Cassandra give up, `CancelledError` from `progress`.
    """
    start = time.monotonic()
    progress("plan", 0, 0, model)
    record = models.describe(model, settings)
    store.put_model(record)
    regional = settings.patches == "on"
    frame, images, bare, missing = _missing(spark, settings, record.model_id, regional=regional)
    plan = _plan(spark.sparkContext, settings)
    tasks = _tasks(missing, plan)
    try:
        tally = _run(
            spark,
            settings,
            record,
            frame,
            plan=plan,
            tasks=tasks,
            total=missing,
            regional=regional,
            progress=progress,
        )
    finally:
        frame.unpersist()
    _record(store, tally.failures)
    return ExtractReport(
        model_id=record.model_id,
        present=images - missing,
        images=tally.images,
        failed=len(tally.failures),
        seconds=time.monotonic() - start,
        decode_s=tally.decode_s,
        model_s=tally.model_s,
        write_s=tally.write_s,
        tasks=tasks,
        device="gpu" if plan.gpu else "cpu",
        failures=tuple(tally.failures),
        had=images - bare,
        regions=tally.regions,
    )


def _missing(
    spark: SparkSession, settings: Settings, model_id: str, *, regional: bool
) -> tuple[DataFrame, int, int, int]:
    """Images that lack something under the model (cached); how many there are, lack all, lack some.

    `whole` of a row is null where its image has no features; else only its regions lack theirs, or
    have those that an earlier version made.
    """
    keys = ["listing_id", "image_id"]

    def own(table: str) -> DataFrame:
        frame = sparks.read(spark, settings, table)
        return frame.where(frame.model_id == model_id)

    images = sparks.read(spark, settings, "images").select(*keys, "uri", "content_hash")
    whole = own("features")
    frame = images.join(whole.select(*keys, whole.dim.alias("whole")), keys, "left")
    lacks = frame.whole.isNull()
    if regional:
        regions = own("patches").select(*keys, "side", "dim")
        regions = regions.where((regions.side == patches.SIDE) & (regions.dim == patches.DIM))
        frame = frame.join(regions, keys, "left")
        lacks |= frame.side.isNull()
    frame = frame.where(lacks).persist()
    bare = frame.where(frame.whole.isNull()).count()
    return frame, images.count(), bare, frame.count()


def _plan(context: SparkContext, settings: Settings) -> _Plan:
    cores = settings.cores or os.cpu_count() or 1
    if str(context.master).startswith("local"):
        import torch

        if torch.cuda.is_available():
            # Local mode does not schedule GPUs: one task has the device, all cores decode for it.
            return _Plan(slots=1, torch_threads=cores, decode_threads=cores, gpu=True)
        # One torch thread a task: beside other work, two threads wait for each other and make a
        # quarter of the pictures that one makes in the same CPU time.
        return _Plan(slots=cores, torch_threads=1, decode_threads=1, gpu=False)
    conf = context.getConf()
    cpus = int(conf.get("spark.task.cpus", "1") or 1)
    return _Plan(
        slots=max(1, context.defaultParallelism),
        torch_threads=cpus,
        decode_threads=cpus,
        gpu=float(conf.get(_GPU_AMOUNT, "0") or 0) > 0,
    )


def _tasks(missing: int, plan: _Plan) -> int:
    """Tasks of a few hundred images: small enough to show progress and to repeat one cheaply."""
    low, high = _TASK_IMAGES
    size = min(high, max(low, -(-missing // (plan.slots * _TASKS_PER_SLOT))))
    return -(-missing // size)


def _run(
    spark: SparkSession,
    settings: Settings,
    model: Model,
    frame: DataFrame,
    *,
    plan: _Plan,
    tasks: int,
    progress: Progress,
    total: int,
    regional: bool,
) -> Tally:
    """Run the tasks and tell progress meanwhile; a cancelled run cancels its Spark job."""
    tally = Tally()
    if not tasks:
        progress("extract", 0, 0, "nothing is missing")
        return tally
    from pyspark import InheritableThread

    context = spark.sparkContext
    group = f"extract-{uuid.uuid4()}"
    done = context.accumulator(0)
    rows = frame.repartition(tasks).rdd
    work = rows.mapPartitions(_task(settings, model, plan, done.add, regional))
    results: list[Tally] = []
    errors: list[BaseException] = []

    def collect() -> None:
        context.setJobGroup(group, f"features of {total} images under {model.model_id}", True)
        try:
            results.extend(work.collect())
        except Exception as error:  # noqa: BLE001 - raised in the caller's thread
            errors.append(error)

    thread = InheritableThread(target=collect, name="extract", daemon=True)
    thread.start()
    start = time.monotonic()
    try:
        while thread.is_alive():
            _tell(progress, done.value, total, time.monotonic() - start)
            thread.join(_POLL_S)
    except BaseException:
        context.cancelJobGroup(group)
        thread.join()
        raise
    if errors:
        raise _explained(errors[0]) from errors[0]
    for result in results:
        tally.add(result)
    _tell(progress, total, total, time.monotonic() - start)
    return tally


def _tell(progress: Progress, done: int, total: int, seconds: float) -> None:
    rate = done / seconds if seconds > 0 else 0.0
    message = f"{rate:,.1f} images/s, {(total - done) / rate:,.0f} s left" if rate else ""
    progress("extract", done, total, message)


def _explained(error: BaseException) -> SightlineError:
    """What failed in a task, without the JVM's stack; its last lines name the Python error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "Error: " in line and not line.startswith("at ")]
    reason = (named or lines or [type(error).__name__])[-1][:500]
    return UnavailableError(
        f"extraction stopped in a Spark task: {reason}; what was acknowledged is kept, "
        "run it again to continue"
    )


def _task(
    settings: Settings, model: Model, plan: _Plan, done: Callable[[int], None], regional: bool
) -> Callable[[Iterable[Any]], Iterator[Tally]]:
    """The function that Spark runs on each partition of missing images."""

    def work(rows: Iterable[Any]) -> Iterator[Tally]:
        embedder = _warm_embedder(settings, model, plan)
        store = _warm_store(settings)
        pipeline = Pipeline(
            embedder,
            settings,
            store.put_features,
            patches=store.put_patches if regional else None,
            threads=plan.decode_threads,
        )
        photos = (
            Photo(
                row.listing_id,
                UUID(str(row.image_id)),
                row.uri,
                row.content_hash,
                whole=row.whole is not None,
            )
            for row in rows
        )
        yield pipeline.run(photos, done=done)

    return work


_warm: dict[str, tuple[object, Any]] = {}
"""One embedder and one store a Python worker: Spark gives a worker many tasks, one by one."""


def _warm_embedder(settings: Settings, model: Model, plan: _Plan) -> Embedder:
    device = f"cuda:{_gpu_address()}" if plan.gpu else "cpu"
    key = (model, device, plan.torch_threads, settings.batch_size)
    if _warm.get("embedder", (None, None))[0] != key:
        embedder = models.load(model.name, settings, device=device, threads=plan.torch_threads)
        if embedder.model.model_id != model.model_id:
            raise IntegrityError(
                f"every machine must have the same weights: the driver has {model.model_id}, this "
                f"worker {embedder.model.model_id}: copy the weights again"
            )
        _warm["embedder"] = (key, embedder)
    found: Embedder = _warm["embedder"][1]
    return found


def _warm_store(settings: Settings) -> Store:
    if _warm.get("store", (None, None))[0] != settings:
        _, old = _warm.pop("store", (None, None))
        if old is not None:
            old.close()
        _warm["store"] = (settings, Store.open(settings))
    found: Store = _warm["store"][1]
    return found


def _gpu_address() -> str:
    """The GPU that Spark gave this task; the first one where Spark does not schedule GPUs."""
    from pyspark import TaskContext

    context = TaskContext.get()
    gpu = context.resources().get("gpu") if context else None
    return gpu.addresses[0] if gpu else "0"


def _record(store: Store, failures: Iterable[Failure]) -> None:
    """Give the files of failed images their state, in each source that knows them."""
    sources = [source.source for source in store.sources()]
    for failure in failures:
        if failure.photo.whole:
            continue  # it has features: that its file is gone since takes nothing from the map
        for source in sources:
            known = store.file(source, failure.photo.uri)
            if known is not None and known.image_id == failure.photo.image_id:
                store.put_files([replace(known, state="failed", reason=failure.reason)])
