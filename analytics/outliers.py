"""Outlier scores over all rows: one ranking from features, pictures and attributes.

Four families of evidence: far from its neighbours (mean distance, and LOF: far compared with
how far those are) and from the other photos of its listing, a spot in the picture that none of
those shows, strange as a photo, and attributes that disagree with the neighbours'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analytics.clustering import Clusters
from analytics.evidence.spots import Spots
from analytics.evidence.tails import (
    Disagreement,
    Facets,
    Looks,
    bounded_tail,
    category_evidence,
    combine,
    photo_evidence,
    sibling_evidence,
    tail,
    together,
)
from analytics.neighbours import Graph
from cql.progress import Progress, silent

NEIGHBOURS = 30
"""Neighbours whose mean distance counts: docs/decisions/0003-outlier-score.md has the figures. A
handful of bad photos (blank, dark, blurred) lie close to one another: only neighbours beyond the
handful show how far they are from everything else."""
LIMIT = 0.05
"""Tail probability at which a family of evidence says of what sort an outlier is."""

WEIGHTS = {"rare": 3.0, "photo": 1.0, "spot": 1.0, "category": 0.25}
"""Of the families in the score: docs/decisions/0007-outlier-evidence.md has the figures, and
0018-regions-of-colour.md those of spots."""

SPOILT = 0.02
"""Tail probability at which a bad photo explains whatever else is strange about an image."""

KINDS = ("", "photo", "category", "rare")
"""Sorts of outliers: none stands out, a bad photo, a wrong category, a rare thing."""

_SORTS = {"spot": "rare"}


@dataclass(frozen=True, slots=True, eq=False)
class Outliers:
    """How strange each row is.

    `score` float64 (N,), the percentile in (0, 1] of the evidence over all N (equal evidence,
    equal score); `distance` float32 (N,), the mean Euclidean distance to the k nearest; `glosh`
    and `lof` float64 (N,). `tails` are tail probabilities by kind of evidence, float64 (N,), and
    `chance` float64 (N,) is all of them combined. `kinds` int64 (N,) are numbers into `KINDS`.
    """

    score: NDArray[np.float64]
    distance: NDArray[np.float32]
    glosh: NDArray[np.float64]
    k: int
    lof: NDArray[np.float64]
    tails: Mapping[str, NDArray[np.float64]]
    chance: NDArray[np.float64]
    kinds: NDArray[np.int64]
    disagreement: Disagreement | None = None
    spots: Spots | None = None


def score(
    graph: Graph,
    clusters: Clusters,
    *,
    k: int = NEIGHBOURS,
    looks: Looks | None = None,
    facets: Facets | None = None,
    owners: NDArray[np.int64] | None = None,
    vectors: NDArray[np.float32] | None = None,
    spots: Spots | None = None,
    progress: Progress = silent,
) -> Outliers:
    """Score every row by how unlikely its evidence is in this collection.

    `looks` are measured of the pictures, `facets` are attributes of the rows, `owners` int64 (N,)
    their listings by number, `vectors` float32 (N, D) their features and `spots` what stands out in
    a region of them: what is not given is no evidence. GLOSH is kept beside the score, not mixed in
    (docs/decisions/0003-outlier-score.md). `progress` hears of the step outliers between any two
    parts of the work.
    """
    count = len(clusters.labels)
    k = min(k, graph.rows.shape[1])
    distance, factor = np.zeros(count, np.float32), np.ones(count)
    if k:
        distance = graph.distances[:, :k].mean(axis=1, dtype=np.float64).astype(np.float32)
        factor = lof(graph, k=k, progress=progress)
    tails = {"distance": tail(distance), "lof": tail(factor)}
    far = together([combine(list(tails.values()))])
    if vectors is not None and owners is not None:
        apart = sibling_evidence(vectors, owners, progress=progress)
        tails["siblings"], known = tail(apart), ~np.isnan(apart)
        # The only photo of its listing must not seem less strange for having no others.
        far[known] = together([far[known], tails["siblings"][known]])
    families = {"rare": far}
    if looks is not None and (~np.isnan(looks.brightness)).any():
        photo = {name: tail(values) for name, values in photo_evidence(looks).items()}
        tails |= photo
        families["photo"] = combine(list(photo.values()))
    found = None
    if facets is not None and owners is not None and facets.codes:
        found = category_evidence(graph.rows[:, :k], owners, facets, progress=progress)
        families["category"] = tails["category"] = bounded_tail(found.strength)
    progress("outliers", 0, 0, "combining")
    chance = _combined(families)
    if spots is not None and not np.isnan(spots.evidence).all():
        # Ranks alone: photos that show different things have far stranger regions than a find is.
        families["spot"] = tails["region"] = bounded_tail(spots.evidence)
        # An image with nothing to compare must not seem less strange for that.
        seen = ~np.isnan(spots.evidence)
        chance[seen] = _combined(families)[seen]
    return Outliers(
        percentile(-np.log(chance)),
        distance,
        clusters.glosh,
        k,
        factor,
        tails,
        chance,
        _kinds(families, count),
        found,
        spots,
    )


def _combined(families: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    return combine(list(families.values()), [WEIGHTS[name] for name in families])


def lof(graph: Graph, *, k: int = NEIGHBOURS, progress: Progress = silent) -> NDArray[np.float64]:
    """Local outlier factor of every row, float64 (N,) (Breunig et al., SIGMOD 2000).

    About 1 among equals, larger where the neighbours are denser. Rows with more than k equals have
    a density as good as infinite, as in scikit-learn, and a factor of 1.
    """
    k = min(k, graph.rows.shape[1])
    if not k:
        return np.ones(len(graph.rows))
    rows, distances = graph.rows[:, :k], graph.distances[:, :k].astype(np.float64)
    reach = distances[:, -1]
    density = np.empty(len(rows))
    for part in _parts(len(rows)):
        progress("outliers", part.start, len(rows), "densities")
        within = np.maximum(reach[rows[part]], distances[part])
        density[part] = 1.0 / (within.mean(axis=1) + 1e-10)
    found = np.empty(len(rows))
    for part in _parts(len(rows)):
        progress("outliers", part.start, len(rows), "densities of neighbours")
        found[part] = density[rows[part]].mean(axis=1) / density[part]
    return found


def percentile(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """The share of all rows that are not above each row, (0, 1]; equal values share the largest."""
    if len(values) == 0:
        return np.empty(0)
    ordered = np.sort(values)
    return np.searchsorted(ordered, values, side="right") / len(values)


def below(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """The share of all rows that are below each row, [0, 1)."""
    if len(values) == 0:
        return np.empty(0)
    return np.searchsorted(np.sort(values), values, side="left") / len(values)


def _kinds(families: Mapping[str, NDArray[np.float64]], count: int) -> NDArray[np.int64]:
    """The family whose evidence is the least likely, where it is unlikely at all.

    A bad photo comes first: its features are strange because it is bad.
    """
    names = list(families)
    if not count:
        return np.empty(0, np.int64)
    values = np.stack([families[name] for name in names])
    numbers = np.array([KINDS.index(_SORTS.get(name, name)) for name in names])
    found = np.where(values.min(axis=0) <= LIMIT, numbers[np.argmin(values, axis=0)], 0)
    if "photo" in families:
        found[families["photo"] <= SPOILT] = KINDS.index("photo")
    return found


def _parts(count: int, size: int = 1 << 16) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]
