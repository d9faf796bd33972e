"""A map of a whole collection, from features in Cassandra to the live map, all N.

`python -m tests.bench.whole --rows 1000000 [--json FILE]`: Spark builds the shards, hosts serve
them, the graph is made by Spark's tasks, and points, clusters and outliers are stored in Cassandra.
Time is that of `analytics.analysis.analyse`, by step; memory is that of all processes together,
shared pages counted once.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from analytics.analysis import analyse
from analytics.cost import Meter
from analytics.making.plan import graphs
from cql.settings import ROOT
from tests.bench.rows import Row, Value, compare, save, table
from tests.bench.service import Service
from tests.bench.tasks import MODEL
from tests.bench.vectors import Dataset

SEED = 1
WHOLE_S, WHOLE_GB = 25 * 60.0, 24 * 2**30 / 1e9
"""Targets at a million rows of 512 numbers."""

_EVERY_S = 2.0


class Steps:
    """Seconds of each step, from the progress that is told."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._step, self._began = "", time.perf_counter()

    def __call__(self, step: str, done: int, total: int, message: str = "") -> None:
        """Note a step that is told; the time until another one is told is its own."""
        del done, total, message
        if step != self._step:
            self.end()
            self._step = step
            sys.stdout.write(f"{step} …\n")
            sys.stdout.flush()

    def end(self) -> None:
        """End the step that was told last."""
        now = time.perf_counter()
        if self._step:
            self.seconds[self._step] = self.seconds.get(self._step, 0.0) + now - self._began
        self._began = now


def whole(dataset: Dataset, cache: Path) -> list[Row]:
    """Rows of one collection: seconds and memory. The map is deleted again."""
    large = dataset.rows >= 1_000_000
    with Service(dataset, cache, large=dataset.rows > 100_000) as service:
        # What is left of an earlier run would spare this one its graph.
        shutil.rmtree(graphs(service.settings), ignore_errors=True)
        gc.collect()
        steps = Steps()
        with watched() as meter:
            began = time.perf_counter()
            version = analyse(
                service.spark, service.settings, service.store,
                model_id=MODEL, seed=SEED, progress=steps,
            )  # fmt: skip
            seconds = time.perf_counter() - began
        steps.end()
        stored = sum(1 for _ in service.store.points(version.map_id, dataset.rows))
        service.store.drop_live("map", expected=version.map_id)
        service.store.delete_map(version.map_id)
    quality: dict[str, Value] = {
        **{f"{name} s": took for name, took in steps.seconds.items()},
        "points stored": stored,
        "clusters": version.clusters,
        **{name: float(value) for name, value in version.quality.items()},
        "threads": os.cpu_count() or 1,
    }
    return [
        compare(
            "map of a collection, all N", dataset.size, seconds, unit="s",
            target=WHOLE_S if large else None, quality=quality,
        ),
        compare(
            "map of a collection: peak memory, all processes", dataset.size, meter.peak_bytes / 1e9,
            unit="GB (PSS)", target=WHOLE_GB if large else None,
        ),
    ]  # fmt: skip


@contextmanager
def watched() -> Iterator[Meter]:
    """A meter that looks at this process and all below it now and again."""
    meter, stop = Meter(), threading.Event()

    def watch() -> None:
        while not stop.wait(_EVERY_S):
            meter.look()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield meter
    finally:
        stop.set()
        watcher.join()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON; 0 also where targets are missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, default=20_000, help="default: 20,000")
    parser.add_argument("--dim", type=int, default=512, help="default: 512")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument(
        "--cache",
        type=Path,
        default=ROOT / ".sightline" / "bench",
        help="folder that keeps vectors and loaded collections between runs",
    )
    options = parser.parse_args(arguments)
    rows = whole(Dataset(options.rows, options.dim, "clustered"), options.cache.absolute())
    sys.stdout.write("\n" + table(rows) + "\n")
    if options.json:
        save(rows, options.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
