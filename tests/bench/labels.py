"""Ranking a whole collection by clicks and classes: `python -m tests.bench.labels [--rows N]`.

Shards are written as a snapshot's and opened as a host opens them (a file each, vectors not
mapped); every row is scored by `linear.over_parts` on as many threads as there are cores. A teach
row is one click: the fit on 12 examples and 512 weak negatives, then the ranking. The peer is one
float32 product over an array in memory, which keeps 4 bytes a number resident and finds no order.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from statistics import median
from uuid import uuid4

import numpy as np
from threadpoolctl import threadpool_limits

from analytics import shards
from analytics.hosting.holding import Part
from analytics.learning import concept
from analytics.learning.linear import Linear, Want, over_parts
from analytics.scanning.blocks import Block
from cql.records import Shard
from tests.bench.measure import alternate, proportional
from tests.bench.rows import Row, compare, save, table
from tests.bench.vectors import Dataset

TARGET_S = 1.0
SHARD_ROWS = 250_000
CLASSES = 20
CLICKS = 12


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON; 0 also where targets are missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.labels", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("data/bench/labels"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    dataset = Dataset(options.rows, options.dim, "clustered")
    folder = options.folder / uuid4().hex
    try:
        rows = measured(dataset, folder, options.repeats)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write(table(rows) + "\n")
    if options.json:
        save(rows, options.json)
    return 0


def measured(dataset: Dataset, folder: Path, repeats: int) -> list[Row]:
    """Rows of the benchmark over one collection."""
    parts = [Part(block) for block in opened(dataset, folder)]
    threads = os.cpu_count() or 1
    rng = np.random.default_rng(1)
    chosen = np.sort(rng.choice(parts[0].base.rows, CLICKS + concept.SAMPLE, replace=False))
    vectors = parts[0].base.gather(chosen.astype(np.int64))
    yes, no, drawn = vectors[: CLICKS // 2], vectors[CLICKS // 2 : CLICKS], vectors[CLICKS:]
    groups = [f"l{n}" for n in range(CLICKS)]
    classes = Linear.of(rng.normal(size=(CLASSES, dataset.dim)) * 4, rng.normal(size=CLASSES))

    def teach(_: int) -> object:
        ranker = concept.teach(yes, no, drawn, groups=groups, seed=1)
        want = Want(k=84, of=0, threshold=ranker.threshold)
        return over_parts(parts, ranker.linear, want, each=pool.map)

    def classify(_: int) -> object:
        return over_parts(parts, classes, Want(k=110, of=3), each=pool.map)

    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        seconds = alternate({"teach": teach, "classify": classify}, repeats)
        resident = proportional(Path("/proc/self/smaps_rollup").read_text(encoding="ascii"))
    with threadpool_limits(threads):
        peer = product(parts, dataset.dim, repeats)
    quality = {"threads": threads, "resident GB": resident / 1e9}
    return [
        compare(
            "re-rank by a click", dataset.size, median(seconds["teach"]), unit="s",
            target=TARGET_S,
            quality={
                **quality,
                "p max": max(seconds["teach"]),
                "one product in memory": peer,
            },
        ),
        compare(
            f"class of every row, {CLASSES} classes", dataset.size, median(seconds["classify"]),
            unit="s", target=TARGET_S, quality={**quality, "p max": max(seconds["classify"])},
        ),
    ]  # fmt: skip


def opened(dataset: Dataset, folder: Path) -> list[Block]:
    """Write the collection in shards of whole listings and open them."""
    blocks: list[Block] = []
    names = np.array([dataset.listing_id(n) for n in range(dataset.listings)], object)
    ends = np.searchsorted(dataset.starts, range(SHARD_ROWS, dataset.rows, SHARD_ROWS))
    cuts = [0, *dataset.starts[ends].tolist(), dataset.rows]
    dataset.write(folder / "vectors.npy")
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    for number, (start, end) in enumerate(pairwise(cuts)):
        done = shards.write(
            folder, f"{number:05d}", names[dataset.owners[start:end]],
            dataset.image_keys(np.arange(start, end)), np.array(vectors[start:end]),
        )  # fmt: skip
        shard = Shard(snapshot_id=uuid4(), shard=number, **done)
        blocks.append(shards.open_block(folder, shard, dim=dataset.dim, base=start))
        blocks[-1].release()
    return blocks


def product(parts: Sequence[Part], dim: int, repeats: int) -> float:
    """Median seconds of one float32 product of a vector and a part of the rows, scaled to all."""
    block = parts[0].base
    held = block.gather(np.arange(block.rows, dtype=np.int64))
    query = np.ones(dim, np.float32)
    seconds = alternate({"product": lambda _: held @ query}, repeats)["product"]
    return median(seconds) * sum(part.base.rows for part in parts) / block.rows


if __name__ == "__main__":
    raise SystemExit(main())
