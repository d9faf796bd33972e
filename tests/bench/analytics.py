"""Analytics beside its peers: `python -m tests.bench.analytics [--quick|--full] [--json FILE]`.

The row `all four` is what a map takes: graph, layout, clusters and outliers of the same vectors,
one after another in this process, beside umap-learn with its defaults, which makes graph and layout
alone. What each step does beside its own peers is in the modules beside this one.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from analytics import clustering, outliers, projection
from analytics.graph.linking import link
from analytics.layouts import landmarks
from cql.settings import Settings
from tests.bench import clusters, duplicates, labels, layout, neighbours, satellites
from tests.bench import outliers as odd
from tests.bench.neighbours import collected
from tests.bench.rows import Row, Value, compare, save, table
from tests.bench.vectors import CENTRES, Dataset

Result = TypeVar("Result")

QUICK = Dataset(20_000, 512, "clustered")
WHOLE = Dataset(70_000, 512, "clustered")
GROWN = (Dataset(250_000, 512, "clustered"), Dataset(1_000_000, 512, "clustered"))
SEED = 1
LARGE_S = 25 * 60.0
LARGE_GB = 24.0
WORKS = ("all-four", "graph", "layout", "clusters", "outliers", "duplicates", "labels", "placed",
         "growth")  # fmt: skip


class Map:
    """All four steps on one set of vectors, with the seconds that each took."""

    def __init__(self, dataset: Dataset, vectors: NDArray[np.float32], *, threads: int) -> None:
        rows = collected(dataset, vectors)
        self.seconds: dict[str, float] = {}
        self.graph = self._timed("graph", lambda: link(rows, 30, seed=SEED, threads=threads))
        self.placed = self._timed(
            "layout",
            lambda: landmarks.layout(vectors, self.graph, seed=SEED, threads=threads),
        )
        self.space = self._timed(
            "space",
            lambda: landmarks.layout(
                vectors, self.graph, seed=SEED, dims=10, min_dist=0.0, threads=threads
            ),
        )
        self.clusters = self._timed(
            "clusters", lambda: clustering.cluster(self.space, min_samples=5)
        )
        self.odd = self._timed("outliers", lambda: outliers.score(self.graph, self.clusters))

    def _timed(self, name: str, call: Callable[[], Result]) -> Result:
        began = time.perf_counter()
        found = call()
        self.seconds[name] = time.perf_counter() - began
        return found


def all_four(dataset: Dataset, *, threads: int, target: float | None) -> list[Row]:
    """All four beside umap-learn's defaults, and the clusters beside hdbscan's on its picture."""
    import umap

    vectors = np.concatenate(list(dataset.chunks()))
    small = Dataset(2_000, dataset.dim, dataset.kind)
    warm = np.concatenate(list(small.chunks()))
    with warnings.catch_warnings():
        # What it says of threads and of missing extras is not about the measurement.
        warnings.simplefilter("ignore")
        umap.UMAP().fit(warm)
        Map(small, warm, threads=threads)
        began = time.perf_counter()
        theirs = umap.UMAP().fit(vectors)
        peer = time.perf_counter() - began
    ours = Map(dataset, vectors, threads=threads)
    planted = dataset.owners % CENTRES
    found = _hdbscan(theirs.embedding_)
    quality: dict[str, Value] = {
        **{f"{name} s": seconds for name, seconds in ours.seconds.items()},
        "graph": ours.graph.summary,
        "trust ours": projection.trust(vectors, ours.placed, seed=SEED).value,
        "trust theirs": projection.trust(vectors, theirs.embedding_, seed=SEED).value,
        "ARI ours": clusters.quality(planted, ours.clusters.labels)["ARI"],
        "ARI hdbscan on theirs": clusters.quality(planted, found)["ARI"],
        "threads": threads,
    }
    return [
        compare(
            "all four",
            dataset.size,
            sum(ours.seconds.values()),
            unit="s",
            peer=f"umap-learn {umap.__version__}, defaults: graph and map alone",
            theirs=peer,
            target=target,
            quality=quality,
        )
    ]


def growth(*, threads: int) -> list[Row]:
    """All four at 250,000 and at a million rows: seconds, memory, and how they grow."""
    seconds: list[float] = []
    made: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for dataset in GROWN:
            path = Path(folder) / "vectors.npy"
            dataset.write(path)
            found = Map(dataset, np.load(path), threads=threads)
            path.unlink()
            seconds.append(sum(found.seconds.values()))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
            quality: dict[str, Value] = {
                **{f"{name} s": took for name, took in found.seconds.items()},
                "graph": found.graph.summary,
                "peak GB": peak,
                "threads": threads,
            }
            target = LARGE_S if dataset.rows >= 1_000_000 else None
            made.append(
                compare(
                    "all four, all N", dataset.size, seconds[-1], unit="s", target=target,
                    quality=quality,
                )
            )  # fmt: skip
    made += [
        compare("all four: peak memory", GROWN[-1].size, peak, unit="GB", target=LARGE_GB),
        compare(
            "all four: growth", f"{GROWN[0].rows:,} to {GROWN[1].rows:,}", seconds[1] / seconds[0],
            unit="times", target=5.0,
        ),
    ]  # fmt: skip
    return made


def works(*, quick: bool, threads: int) -> dict[str, Callable[[], list[Row]]]:
    """What can be measured, by name."""
    size = QUICK if quick else WHOLE

    def graphs() -> list[Row]:
        with tempfile.TemporaryDirectory() as folder:
            return neighbours.every(Path(folder), threads=threads, quick=quick)

    def taught() -> list[Row]:
        folder = Settings.load({}).data_dir.parent / "bench"
        return labels.measured(Dataset(20_000 if quick else 1_000_000, 512, "clustered"), folder, 5)

    found: dict[str, Callable[[], list[Row]]] = {
        "all-four": lambda: all_four(size, threads=threads, target=None if quick else 0.7),
        "graph": graphs,
        "layout": lambda: [
            *layout.layouts(QUICK), *layout.again(QUICK), *([] if quick else layout.started(QUICK))
        ],
        "clusters": lambda: [
            *clusters.against_peers(size.rows), *clusters.at_size(10 * size.rows),
            *clusters.from_vectors(size, threads=threads),
        ],
        "outliers": lambda: odd.rows(quick=quick),
        "duplicates": lambda: duplicates.rows(quick=quick),
        "labels": taught,
        "placed": lambda: satellites.placed(
            size, (2_000, 4_000) if quick else (10_000, 20_000), threads=threads
        ),
    }  # fmt: skip
    if not quick:
        found["growth"] = lambda: growth(threads=threads)
    return found


def measured(names: Sequence[str], *, quick: bool, threads: int) -> Iterator[list[Row]]:
    """Rows work by work."""
    for name, call in works(quick=quick, threads=threads).items():
        if name in names:
            yield call()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON; 0 also where targets are missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="20,000 rows (the default)")
    size.add_argument("--full", action="store_true", help="70,000 rows and a million; an hour")
    parser.add_argument("--work", nargs="+", choices=WORKS, default=list(WORKS), help="only these")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    given = parser.parse_args(arguments)
    rows: list[Row] = []
    for made in measured(given.work, quick=not given.full, threads=given.threads):
        rows += made
        sys.stdout.write(table(made) + "\n")
        sys.stdout.flush()
        if given.json:
            # After every work: a run of an hour that is ended keeps what it has.
            save(rows, given.json)
    return 0


def _hdbscan(placed: NDArray[np.float32]) -> NDArray[np.int64]:
    import hdbscan

    size = clustering.least_size(len(placed))
    model = hdbscan.HDBSCAN(min_cluster_size=size, min_samples=5, core_dist_n_jobs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: NDArray[np.int64] = model.fit(placed.astype(np.float64)).labels_.astype(np.int64)
    return found


if __name__ == "__main__":
    sys.exit(main())
