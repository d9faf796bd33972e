"""Storing a map: points, clusters and outliers, streamed from arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from analytics import clustering, naming, outliers
from analytics.clustering import Clusters
from analytics.identity import halves
from analytics.neighbours import Collection, Graph, codes
from analytics.outliers import Outliers
from analytics.shards import code_version
from analytics.steps import named
from analytics.table import order
from analytics.tiles import MapTable
from cql.errors import NotFoundError
from cql.progress import Progress
from cql.records import Cluster, Listing, MapPoint, MapVersion, Outlier, Snapshot
from cql.settings import Settings
from cql.store import Store

_BLOCK = 2_000
"""Rows made into records at a time; progress, and with it a cancel, comes between two."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Made:
    """All of a map before it is stored: `placed` float32 (N, 2), `space` float32 (N, E).

    `trust` float32 (N,): the share of each row's neighbours that `placed` keeps near it.

    Its clusters carry on the keys of the map `previous`; `listings` name them.
    """

    map_id: UUID
    snapshot: Snapshot
    previous: UUID | None
    listings: Mapping[str, Listing]
    rows: Collection
    near: Graph
    placed: NDArray[np.float32]
    trust: NDArray[np.float32]
    space: NDArray[np.float32]
    clusters: Clusters
    odd: Outliers
    quality: Mapping[str, float]
    parameters: str
    seed: int


def publish(
    settings: Settings, store: Store, made: Made, progress: Progress
) -> tuple[MapVersion, list[Cluster]]:
    """Write clusters, points and outliers of a map; returns its row, to be written last, and them.

    What an attempt that died left behind has the same keys and is written over.
    """
    count = len(made.rows.listings)
    progress("store", 0, 2 * count)
    found = _clusters(settings, store, made, named("store", progress))
    store.put_clusters(found)
    store.put_points(made.map_id, _points(made, progress))
    ranked = np.lexsort((*halves(made.rows.images), -made.odd.score.astype(np.float32)))
    store.put_outliers(made.map_id, _outliers(made, ranked, found, progress), ranked=count)
    version = MapVersion(
        map_id=made.map_id,
        model_id=made.snapshot.model_id,
        snapshot_id=made.snapshot.snapshot_id,
        rows=made.snapshot.rows,
        rows_scored=count,
        clusters=len(found),
        noise=int((made.clusters.labels < 0).sum()),
        seed=made.seed,
        parameters=made.parameters,
        quality=made.quality,
        code_version=code_version(),
        created_at=datetime.now(UTC),
    )
    progress("store", 2 * count, 2 * count)
    return version, found


def _points(made: Made, progress: Progress) -> Iterator[MapPoint]:
    count = len(made.rows.listings)
    rows = order(made.placed[:, 0], made.placed[:, 1], made.rows.images)
    for start, block in _blocks(rows):
        progress("store", start, 2 * count)
        columns = _columns(
            made.placed[block, 0],
            made.placed[block, 1],
            made.clusters.labels[block],
            made.clusters.membership[block],
            made.odd.score[block],
            made.odd.distance[block],
            made.odd.glosh[block],
            made.trust[block],
        )
        for row, *own in zip(block.tolist(), *columns, strict=True):
            x, y, cluster, membership, score, distance, glosh, trust = own
            yield MapPoint(
                image_id=made.rows.image_id(row),
                listing_id=made.rows.listings[row],
                x=x,
                y=y,
                cluster=cluster,
                membership=membership,
                outlier_score=score,
                knn_distance=distance,
                glosh=glosh,
                trust=trust,
            )


def _outliers(
    made: Made, ranked: NDArray[np.intp], clusters: Sequence[Cluster], progress: Progress
) -> Iterator[Outlier]:
    count = len(ranked)
    names = [cluster.name for cluster in clusters]
    near, labels = outliers.nearest_cluster(made.near, made.clusters), made.clusters.labels
    told = outliers.reasons(made.odd, ranked, near, labels, names)
    for start, block in _blocks(ranked):
        progress("store", count + start, 2 * count)
        columns = _columns(
            made.odd.score[block], made.odd.distance[block], made.odd.glosh[block], labels[block]
        )
        for row, score, distance, glosh, cluster in zip(block.tolist(), *columns, strict=True):
            yield Outlier(
                map_id=made.map_id,
                score=score,
                image_id=made.rows.image_id(row),
                listing_id=made.rows.listings[row],
                knn_distance=distance,
                glosh=glosh,
                cluster=cluster,
                reason=next(told),
            )


def _clusters(settings: Settings, store: Store, made: Made, progress: Progress) -> list[Cluster]:
    labels = made.clusters.labels
    was, earlier = _earlier(settings, store, made.previous, made.rows.images)
    known = clustering.match(labels, made.rows.images, was, earlier)
    owners = _owners(made)
    names = naming.names(owners, made.listings, progress=progress)
    ordered = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels[labels >= 0], minlength=made.clusters.count)
    ends = np.cumsum(np.r_[np.count_nonzero(labels < 0), sizes])
    found = []
    for number in range(made.clusters.count):
        own = ordered[ends[number] : ends[number + 1]]
        middle = np.median(made.placed[own].astype(np.float64), axis=0)
        shown = clustering.exemplars(made.space, made.clusters, number)
        found.append(
            Cluster(
                map_id=made.map_id,
                cluster=number,
                cluster_key=known[number],
                size=len(own),
                listings=len(owners[number]),
                name=names[number],
                exemplars=tuple(made.rows.image_id(int(row)) for row in shown),
                x=float(middle[0]),
                y=float(middle[1]),
            )
        )
    return found


def _owners(made: Made) -> list[dict[str, int]]:
    """For each cluster its listings, in order, with how many images each has in it."""
    names, owner = codes(made.rows.listings)
    rows = made.clusters.labels >= 0
    pairs, images = np.unique(
        made.clusters.labels[rows] * max(1, len(names)) + owner[rows], return_counts=True
    )
    found: list[dict[str, int]] = [{} for _ in range(made.clusters.count)]
    for pair, own in zip(pairs.tolist(), images.tolist(), strict=True):
        number, listing = divmod(pair, len(names))
        found[number][names[listing]] = own
    return found


def _earlier(
    settings: Settings, store: Store, previous: UUID | None, images: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], list[tuple[UUID, int]]]:
    """Where each image was in the map `previous`: see `clustering.match`."""
    none = np.full(len(images), -1, np.int64)
    if previous is None:
        return none, []
    try:
        known = store.clusters(previous)
        table = MapTable.open(settings, store, previous)
    except NotFoundError:
        return none, []
    at = {cluster.cluster: index for index, cluster in enumerate(known)}
    # One more place than there are numbers: that of -1, which is no cluster.
    index = np.full(max(at, default=-1) + 2, -1, np.int64)
    for number, own in at.items():
        index[number] = own
    held = index[table.clusters]
    sizes = np.bincount(held[held >= 0], minlength=len(known))
    rows = table.rows_of(images)
    was = np.where(rows >= 0, held[rows], -1) if len(held) else none
    return was, [(own.cluster_key, int(size)) for own, size in zip(known, sizes, strict=True)]


def _blocks(rows: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    for start in range(0, len(rows), _BLOCK):
        yield start, rows[start : start + _BLOCK]


def _columns(*arrays: NDArray[Any]) -> list[list[Any]]:
    return [array.tolist() for array in arrays]
