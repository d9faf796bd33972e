"""Outliers against scikit-learn: average precision on planted truth, and the time of LOF.

`python -m tests.bench.outliers [--quick] [--photos N] [--foreign N] [--sample FOLDER]
[--listings N] [--json FILE]`; FOLDER is a rendered sample, without which its row says that it was
not measured.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analytics import outliers
from analytics.clustering import Clusters
from analytics.evidence import spots
from cql.settings import ROOT, Settings
from extraction import models
from tests.bench import planting
from tests.bench.planting import Planted
from tests.bench.rows import Row, compare, missing, save, table
from tests.naive import unit

UNIT = "1 - average precision"


def rows(
    *,
    quick: bool = False,
    sample: Path | None = None,
    listings: int | None = None,
    photos: int | None = None,
    foreign: int | None = None,
) -> list[Row]:
    """Every row of the benchmark; `quick` takes few hundred photos and rows."""
    photos, foreign = photos or (400 if quick else 2_000), foreign or (8 if quick else 20)
    found = grocery(photos=photos, foreign=foreign)
    found.append(rendered(sample, listings))
    found.append(lof_time(3_000 if quick else 30_000))
    return found


def grocery(*, photos: int, foreign: int) -> list[Row]:
    """Foreign pictures and bad photos among groceries, on the teacher's features."""
    shared = ROOT.parent / "shared" / "data"
    size = f"{photos} groceries, {2 * foreign} planted"
    if not shared.is_dir():
        return [missing("planted outliers", size, "../shared/data is absent", unit=UNIT)]
    weights = shared / "weights" / "mobilenetv2_100_tf2ptq_fp16.safetensors"
    embedder = models.load(f"file:{weights}:{models.TEACHER}", Settings(), device="cpu")
    planted = planting.grocery_with_foreign(shared, embedder, photos=photos, foreign=foreign)
    ours, others = precision(planted), peers(planted)
    return [
        compare(
            "planted outliers",
            size,
            1.0 - ours["score"],
            unit=UNIT,
            peer=name,
            theirs=max(1.0 - value, 1e-9),
            target=1.0,
            quality={**ours, name: value},
        )
        for name, value in others.items()
    ]


def rendered(folder: Path | None, listings: int | None = None) -> Row:
    """The rendered sample's own planted outliers, on the default model's features.

    With `listings` only so many of them count: all that have an outlier, and others.
    """
    if folder is None:
        return missing("planted outliers", "sample", "name a folder", unit=UNIT, target=0.1)
    embedder = models.load(models.EMBEDDED, Settings(), device="cpu")
    planted = planting.sample(folder, embedder, listings=listings)
    ours = precision(planted)
    return compare(
        "planted outliers",
        f"sample of {len(planted.truth)}",
        1.0 - ours["score"],
        unit=UNIT,
        target=0.1,
        quality={**ours, **peers(planted)},
    )


def precision(planted: Planted) -> dict[str, float]:
    """Average precision of the score, and of each thing that it is made of."""
    from sklearn.metrics import average_precision_score

    truth = planted.truth != ""
    near = planting.graph(planted.vectors, outliers.NEIGHBOURS)

    def scored(strange: spots.Spots | None) -> outliers.Outliers:
        return outliers.score(
            near,
            nothing(len(truth)),
            looks=planted.seen.looks,
            owners=planted.owners,
            vectors=planted.vectors,
            spots=strange,
        )

    strange = spots.find(planted.patches, planted.owners)
    found = scored(strange)
    values: Mapping[str, NDArray[np.floating]] = {
        "score": -np.log(found.chance),
        "without spots": -np.log(scored(None).chance),
        "spots": np.nan_to_num(strange.evidence, nan=0.0),
        "distance": found.distance,
        "lof": found.lof,
    }
    return {
        name: round(float(average_precision_score(truth, value)), 4)
        for name, value in values.items()
    }


def peers(planted: Planted) -> dict[str, float]:
    """Average precision of scikit-learn's LOF and IsolationForest on the same features."""
    from sklearn.ensemble import IsolationForest
    from sklearn.metrics import average_precision_score
    from sklearn.neighbors import LocalOutlierFactor

    truth = planted.truth != ""
    factor = LocalOutlierFactor(n_neighbors=20).fit(planted.vectors).negative_outlier_factor_
    forest = IsolationForest(random_state=0).fit(planted.vectors).score_samples(planted.vectors)
    return {
        "scikit-learn LOF": round(float(average_precision_score(truth, -factor)), 4),
        "IsolationForest": round(float(average_precision_score(truth, -forest)), 4),
    }


def lof_time(count: int, *, dim: int = 128) -> Row:
    """LOF from the stored graph against scikit-learn's from the vectors."""
    from sklearn.neighbors import LocalOutlierFactor

    vectors = unit(np.random.default_rng(1), count, dim)
    graph = planting.graph(vectors, 20)
    start = time.perf_counter()
    found = outliers.lof(graph, k=20)
    ours = time.perf_counter() - start
    start = time.perf_counter()
    peer = LocalOutlierFactor(n_neighbors=20, n_jobs=-1).fit(vectors)
    theirs = time.perf_counter() - start
    gap = float(np.abs(found + peer.negative_outlier_factor_).max())
    return compare(
        "LOF, given the graph",
        f"{count} x {dim}",
        ours,
        unit="s",
        peer="scikit-learn LOF",
        theirs=theirs,
        quality={"largest difference": gap},
    )


def nothing(count: int) -> Clusters:
    """A clustering that found none."""
    return Clusters(np.full(count, -1), np.zeros(count), np.zeros(count))


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--photos", type=int, help="groceries, 2,000 or (quick) 400")
    parser.add_argument("--foreign", type=int, help="pictures of pipes among them, and bad photos")
    parser.add_argument("--sample", type=Path)
    parser.add_argument("--listings", type=int, help="of the sample, at most so many")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = rows(
        quick=given.quick,
        sample=given.sample,
        listings=given.listings,
        photos=given.photos,
        foreign=given.foreign,
    )
    print(table(found))  # noqa: T201
    if given.json:
        save(found, given.json)


if __name__ == "__main__":
    main()
