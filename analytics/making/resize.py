"""Another size of the clusters: a new version of a map, of the tree that the map kept."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from functools import partial
from typing import Any
from uuid import UUID

import numpy as np

from analytics import clustering
from analytics.analysis import find, go_live, identity, read_listings, store_all
from analytics.hierarchy import grown
from analytics.hierarchy.grown import Grown
from analytics.making import comparison
from analytics.making.plan import Parameters
from analytics.making.publish import Made
from analytics.making.recollection import recollect
from analytics.making.watch import watched
from analytics.neighbours import Collection
from analytics.outliers import Outliers
from analytics.tiles import MapTable
from cql.errors import IntegrityError, NotFoundError
from cql.progress import Progress, silent, telling
from cql.records import MapPoint, MapVersion, Outlier
from cql.settings import Settings
from cql.store import Store

_PAGE = 5_000
"""Outliers read between two calls of progress."""


def resize(
    settings: Settings,
    store: Store,
    size: int | None,
    *,
    map_id: UUID | None = None,
    progress: Progress = silent,
) -> MapVersion:
    """Publish a map (None: the live one) with clusters of at least `size` images, and make it live.

    Places, outlier scores and distances stay; clusters, groups, memberships, names and reasons are
    made again, keys are matched. The result is what `analyse` gives with that size: the same map
    id, the same rows. `size` None is the size that suits the number of images. Steps (names given
    to `progress`): texts, clusters, collect, store, changes, tiles. A failed step leaves the
    previous live map.

    Raises:
        InputError: no cluster can have that size.
        NotFoundError: there is no map, or it holds no space of its clusters.
    """
    if size is not None:
        grown.check(size)
    base = map_id or store.live("map")
    if base is None:
        raise NotFoundError("no map is live yet: run `sightline analyse`, or wait for its job")
    version = store.map(base)
    chosen = replace(parameters(version), min_cluster_size=size)
    known = read_listings(store, version.rows, progress)
    told = _told(version, size)
    target = identity(known, told, progress)
    stored = find(store, target)
    if stored is None:
        begun, ended = (0, version.rows_scored), (version.rows_scored, version.rows_scored)
        progress("clusters", *begun)
        opened = partial(_tree, settings, store, base)
        tree = watched(opened, progress, "clusters", at=begun)
        cut = partial(_made, store, version, tree, chosen)
        found = watched(cut, progress, "clusters", at=begun)
        progress("clusters", *ended)
        recalled = partial(recollect, settings, store, version.model_id, found["rows"])
        found["rows"] = watched(recalled, progress, "collect", at=begun)
        made = Made(
            map_id=target,
            snapshot=version,  # the snapshot itself may be gone
            previous=base,
            other=_other(store, version),
            listings=known,
            seed=version.seed,
            parameters=told,
            **found,
        )
        # Before the map's row: whoever sees that sees them too.
        _copy_groups(store, base, target, progress)
        stored = store_all(settings, store, made, progress)
    progress("tiles", 0, stored.rows_scored)
    watched(
        lambda note: MapTable.open(settings, store, target, progress=note),
        progress,
        "tiles",
        at=(0, stored.rows_scored),
    )
    progress("tiles", stored.rows_scored, stored.rows_scored)
    go_live(settings, store, target)
    return stored


def wanted(store: Store, given: int | None) -> int | None:
    """The size that a new analysis takes: `given`, 0 being the one that suits the images.

    Without one it is that of the live map, so that what an analyst chose holds for new images.
    """
    if given is None:
        live = store.live("map")
        return None if live is None else parameters(store.map(live)).min_cluster_size
    if given:
        grown.check(given)
    return given or None


def parameters(version: MapVersion) -> Parameters:
    """What a stored map was made with."""
    known = {field.name for field in fields(Parameters)}
    held = json.loads(version.parameters)
    return Parameters(**{name: value for name, value in held.items() if name in known})


def _told(version: MapVersion, size: int | None) -> str:
    """The parameters of a map with another size, as `analysis.text` writes them."""
    return json.dumps({**json.loads(version.parameters), "min_cluster_size": size}, sort_keys=True)


def _tree(settings: Settings, store: Store, base: UUID, progress: Progress) -> Grown:
    return Grown.open(settings, store, base, progress=progress)


def _made(
    store: Store, version: MapVersion, tree: Grown, chosen: Parameters, progress: Progress
) -> dict[str, Any]:
    """Fields of the new map: what does not follow from the clusters is that of the old one."""
    points = _points(store, version, tree, progress)
    told = _told_of(store, version, tree, progress)
    count = len(tree.images)
    progress("clusters", 0, count, "cutting the tree")
    clusters = clustering.cluster(
        tree.space,
        min_samples=tree.min_samples,
        min_cluster_size=chosen.min_cluster_size,
        linkage=tree.linkage,
    )
    odd = Outliers(
        np.array([each.score for each in told], np.float64),
        np.array([point.knn_distance for point in points], np.float32),
        clusters.glosh,
        chosen.outlier_neighbours,
        np.array([each.lof for each in told], np.float64),
        {},
        np.empty(0),
        np.empty(0, np.int64),
    )
    placed = np.array([(point.x, point.y) for point in points], np.float32).reshape(count, 2)
    rows = Collection(
        np.empty((count, 0), np.float32),
        tree.images,
        [point.listing_id for point in points],
        np.arange(count),
    )
    clustered = float((clusters.labels >= 0).mean()) if count else 0.0
    quality = {**version.quality, "clustered": clustered}
    trust = np.array([point.trust for point in points], np.float32)
    return {
        "rows": rows,
        "placed": placed,
        "trust": trust,
        "clusters": clusters,
        "tree": tree,
        "odd": odd,
        "told": told,
        "quality": quality,
    }


def _other(store: Store, version: MapVersion) -> UUID | None:
    """The map of other data that a map was compared with last; None where there is none."""
    data = comparison.data_of(version)
    for each in store.comparisons(version.map_id):
        earlier = find(store, each.previous)
        if earlier is not None and comparison.data_of(earlier) != data:
            return earlier.map_id
    return None


def _points(store: Store, version: MapVersion, tree: Grown, progress: Progress) -> list[MapPoint]:
    """Points in the order of the tree's rows."""
    count = version.rows_scored
    points = telling(
        store.points(version.map_id, count), progress, "clusters", count, "reading points"
    )
    held = {point.image_id.bytes: point for point in points}
    try:
        return [held[row.tobytes()] for row in tree.images]
    except KeyError as error:
        raise IntegrityError(
            f"the tree of map {version.map_id} must be of its images, it is not: delete its file"
        ) from error


def _told_of(store: Store, version: MapVersion, tree: Grown, progress: Progress) -> list[Outlier]:
    """The outliers of a map in the order of the tree's rows."""
    held: dict[bytes, Outlier] = {}
    page: str | None = None
    while True:
        progress("clusters", len(held), version.rows_scored, "reading outliers")
        found = store.outliers(version.map_id, limit=_PAGE, page_state=page)
        held |= {each.image_id.bytes: each for each in found.rows}
        page = found.next_page
        if page is None:
            break
    if len(held) != len(tree.images):
        raise IntegrityError(
            f"map {version.map_id} must rank its {len(tree.images)} images, {len(held)} are: run "
            "`sightline analyse`"
        )
    return [held[row.tobytes()] for row in tree.images]


def _copy_groups(store: Store, base: UUID, target: UUID, progress: Progress) -> None:
    """Near-duplicates do not depend on clusters: the new map has those of the old one."""
    run = store.duplicate_run(base)
    if run is None:
        return
    progress("store", 0, 0, "near-duplicates")
    groups = [replace(each, map_id=target) for each in store.duplicate_groups(base)]
    members = telling(store.iter_duplicate_members(base), progress, "store", 0, "near-duplicates")
    store.put_duplicates(replace(run, map_id=target), groups, members)
