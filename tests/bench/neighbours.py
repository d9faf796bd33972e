"""The neighbour graph beside pynndescent and FAISS: seconds, recall on a random audit, memory.

python -m tests.bench.neighbours --quick
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from analytics.graph.extension import extend
from analytics.graph.linking import link
from analytics.neighbours import Collection, Graph
from tests.bench import measure
from tests.bench.rows import Row, Value, compare, missing, save, table
from tests.bench.vectors import Dataset

K = 15
AUDITED = 1000
ADDED = 0.05
LARGE_S = 360.0
LARGE_GB = 8.0
_BLOCK = 65_536
_WORK = "neighbour graph"

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


class Sheet(Dataset):
    """No groups at all: points of a flat 24-dimensional space, and a little noise in all numbers.

    The hardest of the three for cells, of which every row has many near neighbours.
    """

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"sheet-{self.rows}x{self.dim}-{self.seed}"

    @property
    def size(self) -> str:
        """The size in a row of a benchmark."""
        return f"{self.rows:,} x {self.dim} sheet"

    def _made(self, rng: np.random.Generator, owners: Rows) -> Floats:
        axes = np.random.default_rng([self.seed, 7]).standard_normal((24, self.dim), np.float32)
        vectors = rng.standard_normal((len(owners), 24), np.float32) @ axes / np.float32(24**0.5)
        vectors += np.float32(0.2) * rng.standard_normal(vectors.shape, np.float32)
        norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
        return np.asarray(vectors / norms[:, None], np.float32)


def beside(
    dataset: Dataset, folder: Path, *, threads: int, repeats: int, target: float | None = None
) -> list[Row]:
    """Ours by cells beside pynndescent, the same k (its own row it counts too), in turn."""
    vectors = _vectors(dataset, folder)
    rows = collected(dataset, vectors)
    judged, kth = truth(vectors)
    found: dict[str, Rows] = {}

    def ours(_: int) -> None:
        found["ours"] = link(rows, K, threads=threads, exact=False).rows

    def theirs(_: int) -> None:
        found["theirs"] = _descended(vectors, threads)

    times = measure.alternate({"ours": ours, "theirs": theirs}, repeats)
    quality: dict[str, Value] = {
        f"recall@{K} {name}": recall(vectors, near, judged, kth) for name, near in found.items()
    }
    return [
        compare(
            f"{_WORK} by cells", dataset.size, median(times["ours"]), unit="s",
            peer=_name("pynndescent"), theirs=median(times["theirs"]), target=target,
            quality={**quality, "threads": threads},
        )
    ]  # fmt: skip


def chosen(dataset: Dataset, folder: Path, *, threads: int) -> list[Row]:
    """Ours as a map gets it: exact where affordable, which the quality says."""
    vectors = _vectors(dataset, folder)
    rows = collected(dataset, vectors)
    judged, kth = truth(vectors)
    began = time.perf_counter()
    graph = link(rows, K, threads=threads)
    seconds = time.perf_counter() - began
    quality: dict[str, Value] = {
        f"recall@{K} ours": recall(vectors, graph.rows, judged, kth),
        "said": graph.summary,
        "threads": threads,
    }
    return [compare(_WORK, dataset.size, seconds, unit="s", quality=quality)]


def exact(dataset: Dataset, folder: Path, *, threads: int, repeats: int) -> list[Row]:
    """Ours, exact, beside a search of all rows in FAISS IndexFlatIP."""
    vectors = _vectors(dataset, folder)
    rows = collected(dataset, vectors)
    try:
        import faiss
    except ImportError:
        return [missing(f"{_WORK}, exact", dataset.size, "faiss is not installed", unit="s")]
    faiss.omp_set_num_threads(threads)
    found: dict[str, Rows] = {}

    def ours(_: int) -> None:
        found["ours"] = link(rows, K, threads=threads, exact=True).rows

    def theirs(_: int) -> None:
        index = faiss.IndexFlatIP(dataset.dim)
        index.add(vectors)
        found["theirs"] = index.search(vectors, K + 1)[1][:, 1:]

    times = measure.alternate({"ours": ours, "theirs": theirs}, repeats)
    judged, kth = truth(vectors)
    quality: dict[str, Value] = {
        f"recall@{K} {name}": recall(vectors, near, judged, kth) for name, near in found.items()
    }
    return [
        compare(
            f"{_WORK}, exact", dataset.size, median(times["ours"]), unit="s",
            peer=f"FAISS {faiss.__version__} IndexFlatIP", theirs=median(times["theirs"]),
            quality={**quality, "threads": threads},
        )
    ]  # fmt: skip


def added(dataset: Dataset, folder: Path, *, threads: int) -> list[Row]:
    """New images, 5 % of all, taken into a graph by cells, beside linking everything anew."""
    vectors = _vectors(dataset, folder)
    whole = collected(dataset, vectors)
    rng = np.random.default_rng(2)
    kept = np.sort(rng.choice(dataset.rows, int((1 - ADDED) * dataset.rows), replace=False))
    before = Collection(vectors[kept], whole.images[kept], [whole.listings[n] for n in kept], kept)
    old = link(before, K, threads=threads, exact=False)
    began = time.perf_counter()
    new = extend(old, whole, threads=threads)
    took = time.perf_counter() - began
    anew = link(whole, K, threads=threads, exact=False)
    rebuilt = time.perf_counter() - began - took
    judged, kth = truth(vectors)
    quality: dict[str, Value] = {
        f"recall@{K} {name}": recall(vectors, graph.rows, judged, kth)
        for name, graph in (("added", new), ("anew", anew))
    }
    return [
        compare(
            f"{_WORK}: +5 % images", dataset.size, took, unit="s",
            peer="ours, anew", theirs=rebuilt,
            quality={**quality, "threads": threads},
        )
    ]  # fmt: skip


def million(folder: Path, *, threads: int) -> list[Row]:
    """Graphs of a million rows: in groups, and noise alone, of which nothing is promised."""
    rows = []
    for dataset, target in (
        (Dataset(1_000_000, 512, "clustered"), LARGE_S),
        (Dataset(1_000_000, 512, "isotropic"), None),
    ):
        rows += large(dataset, folder, threads=threads, target=target)
        (folder / f"{dataset.name}.npy").unlink()
    return rows


def large(
    dataset: Dataset, folder: Path, *, threads: int, target: float | None = None
) -> list[Row]:
    """A large collection in a process of its own: seconds, recall, most memory."""
    path = folder / f"{dataset.name}.npy"
    if not path.exists():
        dataset.write(path)
    # A new process: the peak of this one may be another benchmark's.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        seconds, gigabytes, graph = pool.apply(_alone, (dataset, path, threads))
    vectors = np.load(path, mmap_mode="r")
    judged, kth = truth(vectors)
    quality: dict[str, Value] = {
        f"recall@{K} ours": recall(vectors, graph.rows, judged, kth),
        "said": graph.summary,
        "threads": threads,
    }
    return [
        compare(_WORK, dataset.size, seconds, unit="s", target=target, quality=quality),
        compare(
            f"{_WORK}: peak memory, vectors included", dataset.size, gigabytes, unit="GB",
            target=LARGE_GB,
        ),
    ]  # fmt: skip


def truth(vectors: Floats) -> tuple[Rows, Floats]:
    """Rows by chance, and the K-th best product of each with another row: (S,), (S,)."""
    count = len(vectors)
    rng = np.random.default_rng(3)
    judged = np.sort(rng.choice(count, min(AUDITED, count), replace=False))
    own = np.asarray(vectors[judged])
    best = np.empty((len(judged), 0), np.float32)
    for start in range(0, count, _BLOCK):
        found = own @ np.asarray(vectors[start : start + _BLOCK]).T
        here = np.flatnonzero((judged >= start) & (judged < start + found.shape[1]))
        found[here, judged[here] - start] = -np.inf
        keep = min(K, found.shape[1])
        top = -np.partition(-found, keep - 1, axis=1)[:, :keep]
        best = np.sort(np.concatenate([best, top], axis=1), axis=1)[:, -K:]
    return judged, best[:, 0]


def recall(vectors: Floats, near: Rows, judged: Rows, kth: Floats) -> float:
    """Share of the judged rows' neighbours that are as near as the true ones."""
    products = np.einsum("sd,skd->sk", vectors[judged], vectors[near[judged]], optimize=True)
    return float((products >= kth[:, None] - 1e-6).mean())


def collected(dataset: Dataset, vectors: Floats) -> Collection:
    """The rows as a map's analysis collects them."""
    rows = np.arange(dataset.rows)
    listings = [dataset.listing_id(int(owner)) for owner in dataset.owners]
    return Collection(vectors, dataset.image_keys(rows), listings, rows)


def every(folder: Path, *, threads: int, quick: bool = False) -> list[Row]:
    """All of it. `quick`: a tenth of the rows, and no large collection."""
    size = 7_000 if quick else 70_000
    repeats = 1 if quick else 3
    clustered, noise = Dataset(size, 512, "clustered"), Dataset(size, 512, "isotropic")
    works: list[Callable[[], list[Row]]] = [
        lambda: beside(
            clustered, folder, threads=threads, repeats=repeats, target=None if quick else 0.8
        ),
        lambda: beside(Sheet(size, 512, "clustered"), folder, threads=threads, repeats=1),
        lambda: beside(noise, folder, threads=threads, repeats=1),
        lambda: chosen(clustered, folder, threads=threads),
        lambda: chosen(noise, folder, threads=threads),
        lambda: exact(
            Dataset(min(size, 20_000), 512, "clustered"), folder, threads=threads, repeats=repeats
        ),
        lambda: added(clustered, folder, threads=threads),
    ]
    if not quick:
        works.append(lambda: million(folder, threads=threads))
    return [row for work in works for row in work()]


def _alone(dataset: Dataset, path: Path, threads: int) -> tuple[float, float, Graph]:
    """Run in a process of its own: seconds, peak GB, the graph."""
    link(collected(Dataset(2000, dataset.dim, dataset.kind), np.load(path)[:2000]), K, exact=False)
    rows = collected(dataset, np.load(path))
    began = time.perf_counter()
    graph = link(rows, K, threads=threads)
    seconds = time.perf_counter() - began
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, graph


def _vectors(dataset: Dataset, folder: Path) -> Floats:
    path = folder / f"{dataset.name}.npy"
    if not path.exists():
        dataset.write(path)
    vectors: Floats = np.load(path)
    return vectors


def _descended(vectors: Floats, threads: int) -> Rows:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pynndescent import NNDescent  # type: ignore[import-untyped]

        index = NNDescent(
            vectors, n_neighbors=K + 1, metric="euclidean", random_state=1, n_jobs=threads
        )
    near: Rows = index.neighbor_graph[0][:, 1:].astype(np.int64)
    return near


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="The neighbour graph beside its peers")
    parser.add_argument("--quick", action="store_true", help="7,000 rows, nothing large")
    parser.add_argument("--large", action="store_true", help="a million rows alone")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="write the rows there")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if chosen.large:
            found = million(Path(folder), threads=chosen.threads)
        else:
            found = every(Path(folder), threads=chosen.threads, quick=chosen.quick)
    sys.stdout.write(table(found) + "\n")
    if chosen.json:
        save(found, chosen.json)


def _name(package: str) -> str:
    from importlib.metadata import version

    return f"{package} {version(package)}"


if __name__ == "__main__":
    main()
