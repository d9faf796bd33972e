"""The map of a snapshot: neighbours, layout, clusters, outliers, stored and made live."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from analytics import appearance, clustering, duplicates, groups, naming, outliers, projection
from analytics.appearance import Appearance
from analytics.clustering import Clusters
from analytics.duplicates import Curve, Found
from analytics.evidence import Facets
from analytics.groups import Plant
from analytics.neighbours import Collection, Graph, collect, graph
from analytics.outliers import KINDS, Outliers
from analytics.reasons import evidence, reasons
from analytics.search import Searcher
from analytics.shards import code_version
from analytics.table import order
from analytics.tiles import MapTable
from cql.errors import ConflictError, IntegrityError, NotFoundError, UnavailableError
from cql.progress import Progress, silent
from cql.records import NAMESPACE, Cluster, Listing, MapPoint, MapVersion, Outlier, Snapshot
from cql.settings import Settings
from cql.store import Store

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

KEEP = 5
"""Maps that stay in Cassandra, the live one included: a link to an older one still opens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What a map depends on beside the data and the seed. `version` changes with the method."""

    version: int = 2
    neighbours: int = 30
    map_neighbours: int = 15
    map_min_dist: float = 0.1
    cluster_dims: int = 10
    cluster_neighbours: int = 15
    min_samples: int = 5
    outlier_neighbours: int = outliers.NEIGHBOURS


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    """All of a map before it is stored."""

    rows: Collection
    placed: NDArray[np.float32]
    clusters: Clusters
    space: NDArray[np.float32]
    odd: Outliers
    near: NDArray[np.int64]
    facets: Facets
    seen: Appearance
    doubles: Found
    curve: Curve | None
    quality: Mapping[str, float]


def analyse(
    spark: SparkSession | None,
    settings: Settings,
    store: Store,
    *,
    model_id: str,
    seed: int = 1,
    progress: Progress = silent,
    parameters: Parameters | None = None,
    plant: Plant | None = None,
) -> MapVersion:
    """Make the map of the live snapshot of `model_id` and move the live map to it.

    Steps (names given to `progress`): neighbours, layout, clusters, outliers, duplicates, store,
    tiles. `plant` makes copies of images, on which the threshold of near-duplicates is chosen.
    Idempotent: the same data, listing texts, parameters and seed give the same map id and the same
    rows, also over a snapshot that was sharded anew; a map that is stored already is made live.
    A failed step leaves the previous live map. UnavailableError when no hosts hold the snapshot.
    """
    del spark  # the graph comes from the resident hosts; later sizes place landmarks by Spark
    chosen = parameters or Parameters()
    projection.prepare_cache(settings.data_dir / "numba")
    with Searcher(settings, store) as searcher:
        snapshot = searcher.snapshot()
        if snapshot.model_id != model_id:
            raise UnavailableError(
                f"a snapshot of model {model_id} must be live, it is of {snapshot.model_id}: "
                "build and host it first"
            )
        listings = {listing.listing_id: listing for listing in store.iter_listings()}
        map_id = _identity(snapshot, listings, chosen, seed, measured=len(store.measured()))
        stored = _stored(store, map_id)
        if stored is None:
            rows = collect(searcher, snapshot)
            if len(rows.listings) != snapshot.rows:
                raise IntegrityError(
                    f"all {snapshot.rows} rows must be read, {len(rows.listings)} were: try again"
                )
            progress("neighbours", 0, snapshot.rows)
            near = graph(searcher, snapshot, rows, chosen.neighbours, progress=progress)
            seen = appearance.read(store, rows)
            curve = groups.chosen(searcher, snapshot, rows, seen, plant, seed=seed)
            made = _make(rows, near, chosen, seed, progress, seen, curve, listings)
            stored = _store(
                store, snapshot, map_id, made, listings, chosen=chosen, seed=seed, progress=progress
            )
        elif stored.snapshot_id != snapshot.snapshot_id:
            # The same data, sharded anew.
            stored = dataclasses.replace(stored, snapshot_id=snapshot.snapshot_id)
            store.put_map(stored)
    progress("tiles", 0, stored.rows_scored)
    MapTable.open(settings, store, map_id)
    progress("tiles", stored.rows_scored, stored.rows_scored)
    _go_live(store, map_id)
    _forget(settings, store, map_id)
    return stored


def _identity(
    snapshot: Snapshot,
    listings: Mapping[str, Listing],
    chosen: Parameters,
    seed: int,
    *,
    measured: int,
) -> UUID:
    """Identity of a map: its data, the texts that name clusters and fill columns, and how.

    Measures follow from the images: how many have them says which were taken in.
    """
    texts = hashlib.sha256()
    for listing_id in sorted(listings):
        listing = listings[listing_id]
        row = [listing_id, listing.title, sorted(listing.attributes.items())]
        texts.update(json.dumps(row).encode())
    data = snapshot.fingerprint or str(snapshot.snapshot_id)
    name = f"map\0{data}\0{texts.hexdigest()}\0{_text(chosen, seed)}\0{measured}"
    return uuid5(NAMESPACE, name)


def _text(chosen: Parameters, seed: int) -> str:
    return json.dumps({**asdict(chosen), "seed": seed}, sort_keys=True)


def _stored(store: Store, map_id: UUID) -> MapVersion | None:
    try:
        return store.map(map_id)
    except NotFoundError:
        return None


def _make(  # noqa: PLR0917 - one argument a source
    rows: Collection,
    near: Graph,
    chosen: Parameters,
    seed: int,
    progress: Progress,
    seen: Appearance,
    curve: Curve | None,
    listings: Mapping[str, Listing],
) -> _Made:
    count = len(rows.listings)
    progress("layout", 0, 2)
    placed = projection.fit(
        projection.layout(
            rows.vectors,
            near,
            seed=seed,
            neighbours=chosen.map_neighbours,
            min_dist=chosen.map_min_dist,
        )
    )
    progress("layout", 1, 2, "measuring")
    trusted = projection.trust(rows.vectors, placed, seed=seed)
    progress("layout", 2, 2)
    progress("clusters", 0, 2)
    space = projection.layout(
        rows.vectors,
        near,
        seed=seed,
        dims=min(chosen.cluster_dims, max(2, count - 2)),
        neighbours=chosen.cluster_neighbours,
        min_dist=0.0,
    )
    progress("clusters", 1, 2)
    clusters = clustering.cluster(space, min_samples=chosen.min_samples)
    progress("clusters", 2, 2)
    progress("outliers", 0, count)
    facets, owners = appearance.facets(rows.listings, listings)
    odd = outliers.score(
        near,
        clusters,
        k=chosen.outlier_neighbours,
        looks=seen.looks,
        facets=facets,
        owners=owners,
        vectors=rows.vectors,
    )
    edge = outliers.nearest_cluster(near, clusters)
    progress("outliers", count, count)
    progress("duplicates", 0, count)
    doubles = duplicates.find(
        seen.pictures,
        near,
        threshold=curve.chosen if curve else duplicates.THRESHOLD,
        prefer=seen.preferred(),
        progress=progress,
    )
    quality = {
        **projection.as_dict(trusted),
        "neighbours": float(near.rows.shape[1]),
        "neighbours_recall": 1.0,
        "clustered": float((clusters.labels >= 0).mean()) if count else 0.0,
    }
    return _Made(rows, placed, clusters, space, odd, edge, facets, seen, doubles, curve, quality)


def _store(
    store: Store,
    snapshot: Snapshot,
    map_id: UUID,
    made: _Made,
    listings: Mapping[str, Listing],
    *,
    chosen: Parameters,
    seed: int,
    progress: Progress,
) -> MapVersion:
    count = len(made.rows.listings)
    # What an attempt that died left behind has the same keys and is written over.
    progress("store", 0, count)
    found = _clusters(store, map_id, made, listings)
    store.put_clusters(found)
    names = [cluster.name for cluster in found]
    images = [made.rows.image_id(row) for row in range(count)]
    labels, clusters, odd = made.clusters.labels, made.clusters, made.odd
    points = (
        MapPoint(
            image_id=images[row],
            listing_id=made.rows.listings[row],
            x=float(made.placed[row, 0]),
            y=float(made.placed[row, 1]),
            cluster=int(labels[row]),
            membership=float(clusters.membership[row]),
            outlier_score=float(odd.score[row]),
            knn_distance=float(odd.distance[row]),
            glosh=float(odd.glosh[row]),
        )
        for row in order(made.placed[:, 0], made.placed[:, 1], made.rows.images)
    )
    store.put_points(map_id, points)
    progress("store", count // 2, count)
    store.put_outliers(
        map_id,
        (
            Outlier(
                map_id=map_id,
                score=float(odd.score[row]),
                image_id=images[row],
                listing_id=made.rows.listings[row],
                knn_distance=float(odd.distance[row]),
                glosh=float(odd.glosh[row]),
                cluster=int(labels[row]),
                reason=reason,
                kind=KINDS[odd.kinds[row]],
                lof=float(odd.lof[row]),
                evidence=evidence(odd, row),
            )
            for row, reason in enumerate(reasons(odd, clusters, made.near, names, made.facets))
        ),
    )
    groups.put(store, map_id, made.rows, made.seen, made.doubles, made.curve)
    version = MapVersion(
        map_id=map_id,
        model_id=snapshot.model_id,
        snapshot_id=snapshot.snapshot_id,
        rows=snapshot.rows,
        rows_scored=count,
        clusters=len(found),
        noise=int((labels < 0).sum()),
        seed=seed,
        parameters=_text(chosen, seed),
        quality=made.quality,
        code_version=code_version(),
        created_at=datetime.now(UTC),
    )
    store.put_map(version)
    progress("store", count, count)
    return version


def _clusters(
    store: Store, map_id: UUID, made: _Made, listings: Mapping[str, Listing]
) -> list[Cluster]:
    labels = made.clusters.labels
    rows = [np.flatnonzero(labels == number) for number in range(made.clusters.count)]
    owners = [Counter(made.rows.listings[row] for row in own) for own in rows]
    members = [frozenset(made.rows.image_id(int(row)) for row in own) for own in rows]
    known = clustering.keys(members, _earlier(store))
    names = naming.names(owners, listings)
    found = []
    for number, own in enumerate(rows):
        middle = np.median(made.placed[own].astype(np.float64), axis=0)
        shown = clustering.exemplars(made.space, made.clusters, number)
        found.append(
            Cluster(
                map_id=map_id,
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


def _earlier(store: Store) -> dict[UUID, frozenset[UUID]]:
    """Images of each cluster of the live map, by key."""
    live = store.live("map")
    if live is None:
        return {}
    version = store.map(live)
    key = {cluster.cluster: cluster.cluster_key for cluster in store.clusters(live)}
    images: dict[UUID, set[UUID]] = {}
    for point in store.points(live, version.rows_scored):
        if point.cluster in key:
            images.setdefault(key[point.cluster], set()).add(point.image_id)
    return {own: frozenset(held) for own, held in images.items()}


def _go_live(store: Store, map_id: UUID) -> None:
    for _ in range(5):
        seen = store.live("map")
        if seen == map_id:
            return
        try:
            store.set_live("map", map_id, expected=seen)
        except ConflictError:
            continue
        return
    raise ConflictError(f"the live map must move to {map_id}: others keep moving it")


def _forget(settings: Settings, store: Store, live: UUID) -> None:
    """Delete maps beyond the newest few; links to them say that they are gone."""
    newest = sorted(store.maps(), key=lambda version: version.created_at, reverse=True)
    for version in newest[KEEP:]:
        if version.map_id != live:
            store.delete_map(version.map_id)
            (settings.data_dir / "maps" / f"{version.map_id}.arrow").unlink(missing_ok=True)
