"""A new map beside the one before it: read, compared and stored."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from analytics import drift
from analytics.drift import Side
from analytics.identity import packed, places
from analytics.making.watch import watched
from analytics.neighbours import codes
from analytics.tiles import MapTable
from cql.errors import NotFoundError
from cql.progress import Progress
from cql.records import Cluster, ClusterChange, Comparison, MapVersion, NewOutlier
from cql.settings import Settings
from cql.store import Store

if TYPE_CHECKING:
    from analytics.making.publish import Made

_BLOCK = 4_096
"""Rows of vectors that are read at a time."""


def record(
    settings: Settings,
    store: Store,
    made: Made,
    clusters: Sequence[Cluster],
    progress: Progress,
) -> None:
    """Store the means of a map's clusters, and what changed since `made.previous` and `made.other`.

    Nothing is compared where there is no earlier map, or it is gone. Without vectors (of no
    dimensions) there are no means and no tests; of a row that has none (NaN) nothing counts there.
    """
    known = made.rows.vectors.shape[1] > 0
    means = dict(_means(made, len(clusters), progress)) if known else {}
    packed = {number: mean.astype("<f4").tobytes() for number, mean in means.items()}
    store.put_means(made.map_id, packed)
    # As they are stored: whoever compares the stored maps later gets the same numbers.
    stored = {number: mean.astype(np.float32) for number, mean in means.items()}
    after = Side(
        images=made.rows.images,
        labels=made.clusters.labels,
        scores=made.odd.score,
        keys=[cluster.cluster_key for cluster in clusters],
        names=[cluster.name for cluster in clusters],
        means=stored,
    )
    # The other one first: the newest comparison is that with the map before.
    for previous in (made.other, made.previous):
        if previous is None or previous == made.map_id:
            continue
        compared = partial(_compared, settings, store, made, after, previous)
        try:
            found = watched(compared, progress, "changes", at=(0, len(clusters)))
        except NotFoundError:
            continue
        listings = (made.rows.listings[row] for row in found.outliers.tolist())
        pair = (made.map_id, previous)
        store.put_comparison(
            summary(pair, found, made.seed),
            changes(pair, found, _shown(store, replace(made, previous=previous), clusters)),
            outliers(pair, found, after, listings),
        )


def _compared(  # noqa: PLR0917 - the last is given by who watches
    settings: Settings,
    store: Store,
    made: Made,
    after: Side,
    previous: UUID,
    progress: Progress,
) -> drift.Comparison:
    """A new map beside an earlier one. NotFoundError where that is gone."""
    before = side(store, MapTable.open(settings, store, previous, progress=progress))
    vectors = made.rows.vectors if made.rows.vectors.shape[1] else None
    _, owners = codes(made.rows.listings)
    return drift.compare(
        before, after, vectors=vectors, owners=owners, seed=made.seed, progress=progress
    )


def side(store: Store, table: MapTable) -> Side:
    """One side of a comparison from a stored map, as it was made."""
    known = sorted(store.clusters(table.version.map_id), key=lambda each: each.cluster)
    means = store.means(table.version.map_id)
    return Side(
        images=table.images[: table.made],
        labels=table.clusters[: table.made],
        scores=table.numbers("outlier_score")[: table.made],
        keys=[cluster.cluster_key for cluster in known],
        names=[cluster.name for cluster in known],
        means={number: np.frombuffer(mean, "<f4") for number, mean in means.items()},
    )


def data_of(version: MapVersion) -> str:
    """What names the data of a map; its own id where an older Sightline did not note it."""
    return str(json.loads(version.parameters).get("data") or version.map_id)


def summary(pair: tuple[UUID, UUID], found: drift.Comparison, seed: int) -> Comparison:
    """The row of a comparison of a map with an earlier one."""
    return Comparison(
        map_id=pair[0],
        previous=pair[1],
        rows_before=found.rows_before,
        rows_after=found.rows_after,
        added=found.added,
        removed=found.removed,
        outliers=len(found.outliers),
        seed=seed,
        created_at=datetime.now(UTC),
    )


def changes(
    pair: tuple[UUID, UUID], found: drift.Comparison, shown: Mapping[UUID, tuple[UUID, ...]]
) -> Iterator[ClusterChange]:
    """The clusters of a comparison as records; `shown`: exemplars by key."""
    for number, each in enumerate(found.clusters):
        parts = [
            [str(part.key) if part.key else None, part.name, part.images] for part in each.parts
        ]
        yield ClusterChange(
            map_id=pair[0],
            previous=pair[1],
            number=number,
            kind=each.kind,
            cluster_key=each.key,
            name=each.name,
            before=each.before,
            after=each.after,
            joined=each.joined,
            added=each.added,
            departed=each.left,
            removed=each.removed,
            parts=json.dumps(parts),
            exemplars=shown.get(each.key, ()),
            shift=each.shift,
            energy=each.energy,
            p=each.p,
            q=each.q,
        )


def outliers(
    pair: tuple[UUID, UUID], found: drift.Comparison, after: Side, listings: Iterable[str]
) -> Iterator[NewOutlier]:
    """The new outliers of a comparison as records; `listings`: that of each, in their order."""
    rows = zip(found.outliers.tolist(), found.scores_before.tolist(), listings, strict=True)
    for rank, (row, before, listing_id) in enumerate(rows):
        yield NewOutlier(
            map_id=pair[0],
            previous=pair[1],
            rank=rank,
            image_id=UUID(bytes=after.images[row].tobytes()),
            listing_id=listing_id,
            score=float(after.scores[row]),
            score_before=None if math.isnan(before) else before,
        )


def _shown(store: Store, made: Made, clusters: Sequence[Cluster]) -> dict[UUID, tuple[UUID, ...]]:
    """Exemplars by key: of the new map, and of clusters that it has no more what is still there."""
    found = {each.cluster_key: each.exemplars for each in clusters}
    earlier = store.clusters(made.previous) if made.previous else []
    for each in earlier:
        if each.cluster_key not in found and each.exemplars:
            at = places(made.rows.images, packed(each.exemplars))
            kept = zip(each.exemplars, at.tolist(), strict=True)
            found[each.cluster_key] = tuple(image for image, row in kept if row >= 0)
    return found


def _means(made: Made, count: int, progress: Progress) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Mean vector of each cluster by number; none of one whose rows have no vectors."""
    order = np.argsort(made.clusters.labels, kind="stable")
    ends = np.searchsorted(made.clusters.labels[order], np.arange(count + 1))
    for number in range(count):
        own = order[ends[number] : ends[number + 1]]
        total, held = np.zeros(made.rows.vectors.shape[1]), 0
        for start in range(0, len(own), _BLOCK):
            progress("changes", number, count)
            block = made.rows.vectors[own[start : start + _BLOCK]]
            block = block[~np.isnan(block[:, 0])]
            total += block.sum(axis=0, dtype=np.float64)
            held += len(block)
        if held:
            yield number, total / held
