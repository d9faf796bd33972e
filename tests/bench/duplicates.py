"""Near-duplicates: precision and recall on planted copies, and the time of the search.

`python -m tests.bench.duplicates [--quick] [--json FILE]`.
"""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path

import numpy as np
from PIL import Image

from analytics import duplicates
from analytics.evidence.copies import Pictures
from analytics.neighbours import Graph
from cql.settings import ROOT, Settings
from extraction import models
from extraction.copies import HOW, altered
from tests.bench import planting
from tests.bench.rows import Row, compare, missing, save, table


def rows(*, quick: bool = False) -> list[Row]:
    """Every row of the benchmark; `quick` takes few hundred photos and 100,000 rows."""
    return [
        *planted(photos=200 if quick else 1_000, copied=50 if quick else 250),
        equal(100_000),
        spread(100_000 if quick else 1_000_000),
    ]


def planted(*, photos: int, copied: int, seed: int = 5) -> list[Row]:
    """Grocery photos with four copies of some of them: pairs found, wrong and missed."""
    shared = ROOT.parent / "shared" / "data"
    size = f"{photos} groceries, {4 * copied} copies"
    if not shared.is_dir():
        return [missing("planted copies", size, "../shared/data is absent", unit="pairs wrong")]
    rng = np.random.default_rng(seed)
    paths = sorted((shared / "grocery" / "train").rglob("*.jpg"))
    data = [paths[n].read_bytes() for n in rng.permutation(len(paths))[:photos]]
    origin = list(range(photos))
    for number in range(copied):
        image = Image.open(io.BytesIO(data[number])).convert("RGB")
        for how in HOW:
            target = io.BytesIO()
            altered(image, how, rng).save(target, "JPEG", quality=85)
            data.append(target.getvalue())
            origin.append(number)
    own = np.array(origin)
    made = planting.made(
        data,
        models.load(models.EMBEDDED, Settings(), device="cpu"),
        own,
        np.array([""] * len(own)),
    )
    found = duplicates.find(made.seen.pictures, planting.graph(made.vectors, duplicates.NEAREST))
    group = np.full(len(own), -1)
    group[found.rows] = found.groups
    copies = np.arange(photos, len(own))
    tied = (group[copies] >= 0) & (group[copies] == group[own[copies]])
    pairs = right = 0
    for number in range(found.count):
        members = own[group == number]
        # Pairs of photos that were both there before are the collection's own matter.
        same = sum(n * (n - 1) // 2 for n in np.unique(members, return_counts=True)[1])
        before = int((np.flatnonzero(group == number) < photos).sum())
        pairs += len(members) * (len(members) - 1) // 2 - before * (before - 1) // 2
        right += same
    precision, recall = right / max(pairs, 1), float(tied.mean())
    quality = {"precision": round(precision, 4), "recall": round(recall, 4)}
    return [
        compare("pairs that are no copies", size, 1 - precision, unit="share", target=0.02,
                quality=quality),
        compare("copies missed", size, 1 - recall, unit="share", target=0.02, quality=quality),
    ]  # fmt: skip


def equal(count: int) -> Row:
    """One picture, `count` times."""
    signature = np.random.default_rng(1).integers(0, 256, 2304, dtype=np.uint8)
    pictures = Pictures(
        np.full(count, 12345), np.broadcast_to(signature, (count, 2304)), np.ones(count, bool)
    )
    near = (np.arange(count)[:, None] + np.arange(1, 16)) % count
    return _timed("equal pictures", pictures, Graph(near, np.ones(near.shape, np.float32)))


def spread(count: int) -> Row:
    """Pictures of random hashes, one in ten a copy of the one before: the hashes alone."""
    rng = np.random.default_rng(2)
    hashes = rng.integers(-(2**63), 2**63 - 1, count)
    signatures = rng.integers(0, 256, (count, 2304), dtype=np.uint8)
    copied = np.arange(1, count, 10)
    hashes[copied] = hashes[copied - 1] ^ 5
    signatures[copied] = signatures[copied - 1]
    return _timed("hash lookup", Pictures(hashes, signatures, np.ones(count, bool)), None)


def _timed(work: str, pictures: Pictures, graph: Graph | None) -> Row:
    start = time.perf_counter()
    found = duplicates.find(pictures, graph)
    seconds = time.perf_counter() - start
    quality = {"groups": found.count, "images": len(found.rows), "pairs": found.candidates}
    return compare(work, f"{len(pictures)}", seconds, unit="s", quality=quality)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = rows(quick=given.quick)
    print(table(found))  # noqa: T201
    if given.json:
        save(found, given.json)


if __name__ == "__main__":
    main()
