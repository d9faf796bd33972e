"""The first pass of a scan by our kernel and by others': `python -m tests.bench.kernels`.

A pass reads every row once and says, for each query, how many rows may be among the K best: those
whose upper bound reaches the K-th best score. All kernels read the same rows, cut into as many
parts as there are threads at most; a part is scored by one thread of a pool, and libraries start
none of their own. Calls are made in turn; a figure is the median.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numba
import numpy as np
from threadpoolctl import threadpool_limits

from tests.bench import measure
from tests.bench.coded import Asked, Counts, Data, K
from tests.bench.passes import PEERS, Best, Kernel, Make, Ours
from tests.bench.rows import Row, Value, compare, missing, save, table
from tests.bench.vectors import Dataset, recall

QUERIES = (1, 32)
THREADS = (1, 2)
REPEATS = 5


def judged(kernel: Kernel, parts: Sequence[Counts | Best], asked: Asked) -> dict[str, float]:
    """Rows that a pass leaves to be settled, the median query's; of an index its recall."""
    if isinstance(parts[0], tuple):
        scores, rows = (np.concatenate(each, axis=1) for each in zip(*parts, strict=True))
        order = np.argsort(-scores, axis=1)[:, : asked.best.shape[1]]
        found = np.take_along_axis(rows, order, 1)
        shares = [recall(*pair) for pair in zip(found, asked.best, strict=True)]
        return {f"recall@{K}": float(np.mean(shares))}
    return {"left": float(np.median(np.sum(parts, axis=0)))}


def beside(
    make: Make, ours: Ours, data: Data, asks: Sequence[Asked], *, size: str, repeats: int
) -> Iterator[Row]:
    """Rows of one peer beside ours: each number of queries on each number of threads, in turn."""
    theirs = make(data)
    for threads in THREADS:
        with ThreadPoolExecutor(threads) as pool:
            for asked in asks:
                yield _row(pool, threads, ours, theirs, asked, size=size, repeats=repeats)


def _row(
    pool: ThreadPoolExecutor,
    threads: int,
    ours: Kernel,
    theirs: Kernel,
    asked: Asked,
    *,
    size: str,
    repeats: int,
) -> Row:
    spent: dict[str, list[float]] = {"ours": [], "theirs": []}
    found: dict[str, list[Counts | Best]] = {}
    numbers = range(len(THREADS))

    def run(_: int, name: str, kernel: Kernel) -> None:
        began = time.process_time()
        found[name] = list(pool.map(lambda part: kernel.scan(part, asked), numbers))
        spent[name].append(time.process_time() - began)

    kernels = {"ours": ours, "theirs": theirs}
    calls = {name: partial(run, name=name, kernel=each) for name, each in kernels.items()}
    seconds = measure.alternate(calls, repeats, warm=2)
    quality: dict[str, Value] = {"coding": theirs.coding}
    for name, kernel in kernels.items():
        quality[f"GB/s {name}"] = kernel.size / median(seconds[name]) / 1e9
        quality[f"CPU ms {name}"] = median(spent[name][2:]) * 1e3
        for what, value in judged(kernel, found[name], asked).items():
            quality[f"{what} {name}"] = value
    count = len(asked.vectors)
    return compare(
        f"first pass, {count} {'query' if count == 1 else 'queries'}, {threads} "
        f"thread{'s' if threads > 1 else ''}",
        size,
        median(seconds["ours"]) * 1e3,
        unit="ms",
        peer=theirs.name,
        theirs=median(seconds["theirs"]) * 1e3,
        quality=quality,
    )


def every(
    dataset: Dataset, names: Sequence[str], *, repeats: int, megabytes: int = 1024
) -> Iterator[list[Row]]:
    """Rows peer by peer, the plain reading of memory first."""
    yield [
        compare(
            f"streaming read, {threads} thread{'s' if threads > 1 else ''}",
            f"{megabytes} MB",
            measure.streaming(threads, megabytes=megabytes, repeats=repeats) / 1e9,
            unit="GB/s",
        )
        for threads in THREADS
    ]
    data = Data.of(dataset, max(THREADS))
    queries = dataset.queries(max(QUERIES), data.vectors)
    asks = [Asked.of(np.ascontiguousarray(queries[:count]), data) for count in QUERIES]
    ours = Ours(data)
    for name in names:
        try:
            found = beside(PEERS[name], ours, data, asks, size=dataset.size, repeats=repeats)
            yield list(found)
        except ImportError as error:
            why = f"{error.name or name} is not installed: `make bench-search` installs it"
            yield [missing("first pass", dataset.size, why, unit="ms")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, default=250_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--kind", choices=("isotropic", "clustered"), default="isotropic")
    parser.add_argument("--peer", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--repeats", type=int, default=REPEATS, help="rounds in turn")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    given = parser.parse_args(arguments)
    if given.rows < len(THREADS) * K:
        parser.error(f"--rows must be at least {len(THREADS) * K}, got {given.rows}")
    # Read by the OpenMP of a library when it is loaded, which none of them is yet.
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.stdout.write(f"{_cpu()}, {os.cpu_count()} cores; LLVM compiles for {_target()}\n")
    rows: list[Row] = []
    with threadpool_limits(1, user_api="blas"):
        for made in every(
            Dataset(given.rows, given.dim, given.kind), given.peer, repeats=given.repeats
        ):
            rows += made
            sys.stdout.write(table(made) + "\n")
            sys.stdout.flush()
            if given.json:
                save(rows, given.json)
    return 0


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()


def _target() -> str:
    from llvmlite import binding

    config: Any = numba.config
    if config.CPU_NAME:
        return f"{config.CPU_NAME} ({config.CPU_FEATURES}), as the environment says"
    features = binding.get_host_cpu_features()
    wide = [name for name in ("avx2", "avx512bw", "avx512vnni", "avxvnni") if features.get(name)]
    return f"{binding.get_host_cpu_name()} ({', '.join(wide) or 'no AVX2'})"


if __name__ == "__main__":
    sys.exit(main())
