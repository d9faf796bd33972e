"""Clusters: ours beside hdbscan, fast_hdbscan and evoc, of planted spaces and of vectors.

The spaces look like those that UMAP lays out in 10 dimensions: clumps of three directions and
unequal size and density, some of which touch, nested in wider groups, with 5 % of noise. Times
are wall times with the processor's seconds beside them: on a busy machine the second tells more.
"""

from __future__ import annotations

import importlib
import os
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from analytics import clustering
from analytics.graph.linking import link
from analytics.hierarchy import tree
from analytics.hierarchy.levels import levels
from analytics.hierarchy.soft import soft
from analytics.hierarchy.spanning import spanning
from analytics.hierarchy.tree import Coarse, Linkage
from analytics.layouts import landmarks
from tests.bench.neighbours import collected
from tests.bench.rows import Row, compare, missing
from tests.bench.vectors import CENTRES, Dataset

DIMS = 10
CLUMPS = 120
MIN_SAMPLES = 5
NEIGHBOURS = 30
SEED = 1
THREADS = 2
SPACES = ("hdbscan", "fast_hdbscan", "evoc")
CHAINS = ("umap-learn + hdbscan", "umap-learn + fast_hdbscan", "evoc")
SAMPLED = 200_000
"""Rows on which agreement is judged, at most: mutual information is slow."""

PREVIEW_S = 1.0
CONDENSE_S = 0.5
CURVE_S = 5.0

Labels = NDArray[np.int64]
Points = NDArray[np.float32]
Fit = Callable[[Points], Labels]
Run = tuple[float, float, Labels]
"""Seconds on the wall, seconds of the processor, labels."""


def planted(rows: int, *, seed: int = 1) -> tuple[Points, Labels]:
    """A space float32 (N, 10) and its labels int64 (N,), -1 for noise."""
    rng = np.random.default_rng(seed)
    tops = rng.normal(scale=12, size=(CLUMPS // 8, DIMS))
    centres = tops[np.arange(CLUMPS) % len(tops)] + rng.normal(scale=1.0, size=(CLUMPS, DIMS))
    axes = rng.normal(size=(CLUMPS, 3, DIMS)) * rng.uniform(0.15, 0.4, (CLUMPS, 1, 1))
    weights = rng.dirichlet(np.full(CLUMPS, 2.0))
    labels = rng.choice(CLUMPS, rows, p=weights)
    space = centres[labels] + rng.normal(scale=0.05, size=(rows, DIMS))
    along = rng.normal(size=(rows, 3))
    for axis in range(3):
        space += along[:, axis, None] * axes[labels, axis]
    stray = rng.random(rows) < 0.05
    low, high = space.min(axis=0), space.max(axis=0)
    space[stray] = rng.uniform(low, high, (int(stray.sum()), DIMS))
    return space.astype(np.float32), np.where(stray, -1, labels)


def quality(truth: Labels, found: Labels) -> dict[str, float]:
    """Adjusted Rand index and mutual information over rows that are no planted noise."""
    known = np.flatnonzero(truth >= 0)
    if len(known) > SAMPLED:
        known = np.random.default_rng(1).choice(known, SAMPLED, replace=False)
    return {
        "ARI": float(adjusted_rand_score(truth[known], found[known])),
        "AMI": float(adjusted_mutual_info_score(truth[known], found[known])),
    }


def against_peers(rows: int, peers: Sequence[str] = SPACES) -> list[Row]:
    """The same space, `min_samples` and size by us and by each peer: seconds, ARI, AMI.

    A peer that is not installed has a row that says so.
    """
    space, truth = planted(rows)
    size = clustering.least_size(rows)
    warm = space[:2000]
    _all(warm, size)
    ours = _timed(lambda: clustering.cluster(space, min_samples=MIN_SAMPLES, min_cluster_size=size))
    work, label = "clusters, shares and groups", f"{rows:,} x {DIMS}"
    found = []
    for name in peers:
        run = _peer(name, size)
        if run is None:
            found.append(_absent(name, work, label))
            continue
        run(warm)
        theirs = _timed(lambda run=run: run(space))  # type: ignore[misc]
        found.append(_beside(work, label, name, truth, (*ours[:2], ours[2].labels), theirs))
    return found


def from_vectors(
    dataset: Dataset, peers: Sequence[str] = CHAINS, *, threads: int = THREADS
) -> list[Row]:
    """Clusters of vectors, all steps: ours beside evoc, and beside umap-learn and an HDBSCAN.

    Ours makes the graph, the space of 10 dimensions and the clusters, as a map does. umap-learn
    lays out as many dimensions; evoc takes the vectors, with its defaults and a seed.
    """
    vectors = np.concatenate(list(dataset.chunks()))
    truth = dataset.owners % CENTRES
    size = clustering.least_size(dataset.rows)
    small = Dataset(2000, dataset.dim, dataset.kind)
    warm = np.concatenate(list(small.chunks()))
    _whole(small, warm, threads)
    ours = _timed(lambda: _whole(dataset, vectors, threads))
    work, found = "clusters of vectors, all steps", []
    for name in peers:
        run = _chain(name, size)
        if run is None:
            found.append(_absent(name, work, dataset.size))
            continue
        run(warm)
        theirs = _timed(lambda run=run: run(vectors))  # type: ignore[misc]
        found.append(_beside(work, dataset.size, name, truth, ours, theirs))
    return found


def at_size(rows: int) -> list[Row]:
    """Growing the tree, and what then needs no new one: a size, a preview, the curve, shares."""
    space, truth = planted(rows)
    size = clustering.least_size(rows)
    _all(*planted(2000)[:1], 20)
    wall, spent, linkage = _timed(lambda: clustering.grow(space, min_samples=MIN_SAMPLES))
    label = f"{rows:,} x {DIMS}"
    cores = {"cores": os.cpu_count()}
    found = [compare("grow the tree", label, wall, unit="s", quality={"cpu s": spent, **cores})]

    def cut() -> Labels:
        condensed = tree.condense(linkage, size)
        inside = tree.above(condensed, tree.heaviest(condensed))
        own: Labels = inside[condensed.owner]
        return own

    wall, spent, own = _timed(cut)
    chosen, compact = np.unique(own, return_inverse=True)
    planned = {**quality(truth, compact), "clusters": len(chosen) - 1, "cpu s": spent}
    found.append(compare("cut a size", label, wall, unit="s", target=CONDENSE_S, quality=planned))
    wall, spent, coarse = _timed(lambda: Coarse.of(linkage))
    found.append(compare("open for previews", label, wall, unit="s", quality={"cpu s": spent}))
    wall, spent, _ = _timed(lambda: coarse.at(size))
    found.append(
        compare("preview", label, wall, unit="s", target=PREVIEW_S, quality={"cpu s": spent})
    )
    wall, spent, curve = _timed(lambda: tree.curve(coarse))
    shown: dict[str, Any] = {"cpu s": spent, "sizes": len(curve.sizes)}
    found.append(compare("stability", label, wall, unit="s", target=CURVE_S, quality=shown))
    condensed = tree.condense(linkage, size)
    inside = tree.above(condensed, tree.heaviest(condensed))
    picked = chosen[chosen >= 0]
    wall, spent, shared = _timed(lambda: soft(space, condensed, picked, inside))
    members = own >= 0
    agree = float((picked[shared.clusters[members, 0]] == own[members]).mean())
    shown = {"cpu s": spent, "largest share is the label": agree}
    found.append(compare("shares", label, wall, unit="s", quality=shown))
    wall, spent, cuts = _timed(lambda: levels(condensed, picked))
    shown = {"cpu s": spent, "groups": " / ".join(str(len(each.node)) for each in cuts)}
    found.append(compare("groups", label, wall, unit="s", quality=shown))
    return found


def _all(space: Points, size: int) -> None:
    """Compile everything: so few rows would have their tree grown by hdbscan otherwise."""
    linkage: Linkage = tree.link(spanning(space, min_samples=MIN_SAMPLES), len(space))
    clustering.cluster(space, min_samples=MIN_SAMPLES, min_cluster_size=size, linkage=linkage)
    tree.curve(Coarse.of(linkage))


def _peer(name: str, size: int) -> Fit | None:
    """Clusters of a space by a peer; hdbscan in one process, to count its time. None: not there."""
    module = _module(name)
    if module is None:
        return None
    if name == "evoc":
        return _evoc(module)
    options = {"min_cluster_size": size, "min_samples": MIN_SAMPLES}
    if name == "hdbscan":
        options |= {"approx_min_span_tree": False, "core_dist_n_jobs": 1}
    return lambda space: np.asarray(module.HDBSCAN(**options).fit(space.astype(float)).labels_)


def _chain(name: str, size: int) -> Fit | None:
    """Clusters of vectors by the peers that `name` joins with " + "."""
    *before, last = name.split(" + ")
    cut = _peer(last, size)
    if cut is None or not before:
        return cut
    umap = _module(before[0].replace("-learn", ""))
    if umap is None:
        return None

    def run(vectors: Points) -> Labels:
        model = umap.UMAP(n_components=DIMS, min_dist=0.0, n_neighbors=15)
        with warnings.catch_warnings():
            # What it says of missing extras is not about the measurement.
            warnings.simplefilter("ignore")
            return cut(model.fit_transform(vectors))

    return run


def _evoc(module: Any) -> Fit:
    def run(vectors: Points) -> Labels:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(module.EVoC(random_state=SEED).fit_predict(vectors))

    return run


def _whole(dataset: Dataset, vectors: Points, threads: int) -> Labels:
    graph = link(collected(dataset, vectors), NEIGHBOURS, seed=SEED, threads=threads)
    space = landmarks.layout(vectors, graph, seed=SEED, dims=DIMS, min_dist=0.0, threads=threads)
    return clustering.cluster(space, min_samples=MIN_SAMPLES).labels


def _module(name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError:
        return None


def _absent(name: str, work: str, size: str) -> Row:
    why = f"{name} is not installed: `make bench-analytics` installs it"
    return missing(work, size, why, unit="s")


def _beside(work: str, size: str, name: str, truth: Labels, ours: Run, theirs: Run) -> Row:
    return compare(
        work,
        size,
        ours[0],
        unit="s",
        peer=" + ".join(f"{each} {version(each)}" for each in name.split(" + ")),
        theirs=theirs[0],
        quality={
            "cpu s": ours[1],
            "their cpu s": theirs[1],
            "cores": os.cpu_count(),
            **quality(truth, ours[2]),
            **{f"their {key}": value for key, value in quality(truth, theirs[2]).items()},
            "ARI to theirs": float(adjusted_rand_score(theirs[2], ours[2])),
            "clusters": int(ours[2].max()) + 1,
            "their clusters": int(theirs[2].max()) + 1,
            "their noise": float((theirs[2] < 0).mean()),
        },
    )


def _timed(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds on the wall, seconds of the processor, and the result."""
    began, spent = time.perf_counter(), time.process_time()
    result = call()
    return time.perf_counter() - began, time.process_time() - spent, result
