"""Storing a map: points, clusters and outliers, streamed from arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from analytics.clustering import Clusters
from analytics.duplicates import Curve, Found
from analytics.evidence import appearance
from analytics.evidence import groups as groups_of
from analytics.evidence.appearance import Appearance
from analytics.evidence.reasons import evidence, reasons, restated
from analytics.hierarchy import grown
from analytics.hierarchy.catalogue import Earlier, catalogue
from analytics.hierarchy.grown import Grown
from analytics.identity import halves
from analytics.making.watch import watched
from analytics.maps.table import order
from analytics.neighbours import Collection
from analytics.outliers import KINDS, Outliers
from analytics.shards import code_version
from cql.progress import Progress
from cql.records import Cluster, Group, Listing, MapPoint, MapVersion, Outlier, Snapshot
from cql.settings import Settings
from cql.store import Store

_BLOCK = 2_000
"""Rows made into records at a time; progress, and with it a cancel, comes between two."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Made:
    """All of a map before it is stored: `placed` float32 (N, 2), and the `tree` of its clusters.

    `trust` float32 (N,): the share of each row's neighbours that `placed` keeps near it.

    `snapshot` is what the map is of: the snapshot's row, or that of an earlier map of it, as the
    snapshot may be gone. `seen` and `doubles` are None, and `told` the outliers of each row on the
    map `previous`, where this one differs from that in its clusters alone; `other` is then the map
    of other data that it is to be compared with as well. Its clusters carry on the keys of the map
    `previous`; `listings` name them. Vectors of `rows` that are gone are NaN.
    """

    map_id: UUID
    snapshot: Snapshot | MapVersion
    previous: UUID | None
    listings: Mapping[str, Listing]
    rows: Collection
    placed: NDArray[np.float32]
    trust: NDArray[np.float32]
    tree: Grown
    clusters: Clusters
    odd: Outliers
    quality: Mapping[str, float]
    parameters: str
    seed: int
    seen: Appearance | None = None
    doubles: Found | None = None
    curve: Curve | None = None
    told: Sequence[Outlier] = ()
    other: UUID | None = None


def publish(
    settings: Settings, store: Store, made: Made, progress: Progress
) -> tuple[MapVersion, list[Cluster]]:
    """Write clusters, points and outliers of a map; returns its row, to be written last, and them.

    What an attempt that died left behind has the same keys and is written over.
    """
    count = len(made.rows.listings)
    progress("store", 0, 2 * count)
    found, groups = watched(
        partial(_catalogue, settings, store, made), progress, "store", at=(0, 2 * count)
    )
    store.put_clusters(found)
    store.put_groups(groups)
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
        watermark=made.snapshot.watermark,
    )
    if made.seen is not None and made.doubles is not None:
        groups_of.put(store, made.map_id, made.rows, made.seen, made.doubles, made.curve)
    every = (2 * count, 2 * count)
    path = grown.path_of(settings, made.map_id)
    watched(lambda _: made.tree.save(path), progress, "store", at=every)
    progress("store", *every)
    return version, found


def _catalogue(
    settings: Settings, store: Store, made: Made, progress: Progress
) -> tuple[list[Cluster], list[Group]]:
    """The clusters and groups of a map as rows."""
    return catalogue(
        made.map_id,
        made.clusters,
        images=made.rows.images,
        owners=made.rows.listings,
        placed=made.placed,
        space=made.tree.space,
        listings=made.listings,
        earlier=Earlier.of(settings, store, made.previous, made.rows.images, progress=progress),
        progress=progress,
    )


def _points(made: Made, progress: Progress) -> Iterator[MapPoint]:
    count = len(made.rows.listings)
    rows = order(made.placed[:, 0], made.placed[:, 1], made.rows.images)
    space = np.ascontiguousarray(made.tree.space, "<f4")
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
            belongs = made.clusters.shares(row)
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
                soft_clusters=belongs[0],
                soft_shares=belongs[1],
                space=space[row].tobytes(),
            )


def _outliers(
    made: Made, ranked: NDArray[np.intp], clusters: Sequence[Cluster], progress: Progress
) -> Iterator[Outlier]:
    count = len(ranked)
    labels = made.clusters.labels
    names = [each.name for each in clusters]
    told = watched(partial(_told, made, names), progress, "store", at=(count, 2 * count))
    for start, block in _blocks(ranked):
        progress("store", count + start, 2 * count)
        columns = _columns(
            made.odd.score[block], made.odd.distance[block], made.odd.glosh[block], labels[block]
        )
        for row, score, distance, glosh, cluster in zip(block.tolist(), *columns, strict=True):
            before = made.told[row] if made.told else None
            yield Outlier(
                map_id=made.map_id,
                score=score,
                image_id=made.rows.image_id(row),
                listing_id=made.rows.listings[row],
                knn_distance=distance,
                glosh=glosh,
                cluster=cluster,
                reason=told[row],
                kind=before.kind if before else KINDS[made.odd.kinds[row]],
                lof=before.lof if before else float(made.odd.lof[row]),
                evidence=before.evidence if before else evidence(made.odd, row),
            )


def _told(made: Made, names: Sequence[str], progress: Progress) -> list[str]:
    """The reason of each row."""
    near, count = made.clusters.nearest, len(made.rows.listings)
    facets, _ = appearance.facets(made.rows.listings, made.listings)
    if made.told:
        told = restated(made.told, made.clusters, near, names, facets)
    else:
        told = reasons(made.odd, made.clusters, near, names, facets)
    found = []
    for row, reason in enumerate(told):
        if row % _BLOCK == 0:
            progress("store", count, 2 * count, "reasons")
        found.append(reason)
    return found


def _blocks(rows: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    for start in range(0, len(rows), _BLOCK):
        yield start, rows[start : start + _BLOCK]


def _columns(*arrays: NDArray[Any]) -> list[list[Any]]:
    return [array.tolist() for array in arrays]
