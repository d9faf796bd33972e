"""The map of a snapshot: a table of steps whose results are kept, stored and made live."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from analytics import clustering, comparison, kept, outliers, projection
from analytics.clustering import Clusters
from analytics.extension import extend
from analytics.linking import SPARK_ROWS
from analytics.neighbours import Collection, Graph, collect, graph
from analytics.outliers import Outliers
from analytics.pointers import make_default
from analytics.publish import Made, publish
from analytics.search import Searcher
from analytics.steps import Step, drop, run
from analytics.tiles import MapTable
from cql.errors import ConflictError, IntegrityError, NotFoundError, UnavailableError
from cql.progress import Progress, silent
from cql.records import NAMESPACE, Listing, MapVersion, Snapshot
from cql.settings import Settings
from cql.store import Store

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

KEEP = 5
"""Maps that stay in Cassandra, the live one included: a link to an older one still opens."""

GRAPHS = 2
"""Neighbour graphs that stay in files: of the live map's data, and of the data before."""

LEFT_S = 24 * 3600.0
"""Seconds for which work on another map that nobody finished is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What a map depends on beside the data and the seed. `version` changes with the method."""

    version: int = 1
    neighbours: int = 30
    map_neighbours: int = 15
    map_min_dist: float = 0.1
    cluster_dims: int = 10
    cluster_neighbours: int = 15
    min_samples: int = 5
    outlier_neighbours: int = outliers.NEIGHBOURS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Making:
    """What every step of a map is given. `previous` is the map that was live when it began.

    A step in a process of its own gets no `searcher`.
    """

    settings: Settings
    searcher: Searcher | None
    snapshot: Snapshot
    map_id: UUID
    chosen: Parameters
    seed: int
    previous: UUID | None
    spark: SparkSession | None = None

    @property
    def hosts(self) -> Searcher:
        """The searcher, for a step of the engine's own process."""
        if self.searcher is None:
            raise UnavailableError("a step that asks the hosts must run in the engine")
        return self.searcher

    @property
    def data(self) -> str:
        """Identity of the rows, however they are sharded."""
        return self.snapshot.fingerprint or str(self.snapshot.snapshot_id)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The picture: `placed` float32 (N, 2) in [0, 1), and how far it can be trusted."""

    placed: NDArray[np.float32]
    quality: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """The space that clusters are found in: `rows` float32 (N, E)."""

    rows: NDArray[np.float32]


def _collect(making: Making, progress: Progress) -> Collection:
    return collect(making.hosts, making.snapshot, progress=progress)


def _graph(making: Making, progress: Progress, rows: Collection) -> Graph:
    # One graph serves the maps of every seed: it has its own.
    count = making.chosen.neighbours
    earlier = _earlier_graph(making)
    if earlier is not None:
        return extend(
            earlier,
            rows,
            k=count,
            threads=making.settings.cores or os.cpu_count() or 1,
            spark=making.spark if len(rows.listings) >= SPARK_ROWS else None,
            folder=_work(making.settings),
            model_id=making.snapshot.model_id,
            data=making.data,
            progress=progress,
        )
    return graph(
        making.hosts,
        making.snapshot,
        rows,
        count,
        spark=making.spark,
        progress=progress,
    )


def _earlier_graph(making: Making) -> Graph | None:
    """The newest graph of the model that is kept: only what changed since is searched for."""
    places = graphs(making.settings).glob("graph-*")
    for path in sorted(places, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            found = kept.load(path, Graph, key=kept.key_of(path))
        except (FileNotFoundError, IntegrityError):
            continue
        if found.model_id == making.snapshot.model_id:
            return found
    return None


def _layout(making: Making, progress: Progress, rows: Collection, near: Graph) -> Layout:
    placed = projection.fit(
        projection.layout(
            rows.vectors,
            near,
            seed=making.seed,
            neighbours=making.chosen.map_neighbours,
            min_dist=making.chosen.map_min_dist,
        )
    )
    progress("layout", 1, 2, "measuring")
    trusted = projection.trust(rows.vectors, placed, seed=making.seed)
    return Layout(placed, projection.as_dict(trusted))


def _space(making: Making, _: Progress, rows: Collection, near: Graph) -> Space:
    return Space(
        projection.layout(
            rows.vectors,
            near,
            seed=making.seed,
            dims=min(making.chosen.cluster_dims, max(2, len(rows.vectors) - 2)),
            neighbours=making.chosen.cluster_neighbours,
            min_dist=0.0,
        )
    )


def _clusters(making: Making, _: Progress, space: Space) -> Clusters:
    return clustering.cluster(space.rows, min_samples=making.chosen.min_samples)


def _outliers(making: Making, _: Progress, near: Graph, found: Clusters) -> Outliers:
    return outliers.score(near, found, k=making.chosen.outlier_neighbours)


def _bare(making: Making) -> Making:
    return dataclasses.replace(making, searcher=None, spark=None)


def _chosen(*names: str) -> Callable[[Making], Mapping[str, Any]]:
    """The parameters that a step depends on, and the seed where it is named."""

    def depends(making: Making) -> dict[str, Any]:
        known = {**asdict(making.chosen), "seed": making.seed}
        return {name: known[name] for name in names}

    return depends


STEPS: tuple[Step[Making], ...] = (
    Step(
        name="collect",
        make=_collect,
        writes=Collection,
        depends=lambda making: {"data": making.data},
        # Which row of which shard a row is follows from the snapshot; what is made of it does not.
        stamp=lambda making: str(making.snapshot.snapshot_id),
    ),
    Step(
        name="graph",
        make=_graph,
        reads=("collect",),
        writes=Graph,
        depends=_chosen("neighbours"),
        folder=lambda making: graphs(making.settings),
    ),
    Step(
        name="layout",
        make=_layout,
        apart=True,
        reads=("collect", "graph"),
        writes=Layout,
        depends=_chosen("version", "map_neighbours", "map_min_dist", "seed"),
    ),
    Step(
        name="space",
        make=_space,
        apart=True,
        reads=("collect", "graph"),
        writes=Space,
        depends=_chosen("version", "cluster_neighbours", "cluster_dims", "seed"),
    ),
    Step(
        name="clusters",
        make=_clusters,
        apart=True,
        reads=("space",),
        writes=Clusters,
        depends=_chosen("version", "min_samples"),
    ),
    Step(
        name="outliers",
        make=_outliers,
        reads=("graph", "clusters"),
        writes=Outliers,
        depends=_chosen("version", "outlier_neighbours"),
    ),
)
"""Steps whose results are kept in files; those that follow write to Cassandra."""


def analyse(
    spark: SparkSession | None,
    settings: Settings,
    store: Store,
    *,
    model_id: str,
    seed: int = 1,
    progress: Progress = silent,
    parameters: Parameters | None = None,
) -> MapVersion:
    """Make the map of the live snapshot of `model_id`, and move the live map to it.

    That snapshot is the default one from then on: pages show the map and the searches of one model.

    Steps (names given to `progress`): texts, those of `STEPS`, store, changes and tiles. What a
    step made is kept in a folder of the map in `data_dir` until the map is live: a run that was
    cancelled, killed or failed continues after its last finished step when it is asked for again.
    Idempotent: the same data, listing texts, parameters and seed give the same map id and the same
    rows, also over a snapshot that was sharded anew; a map that is stored already is made live.
    A failed step leaves the previous live map. UnavailableError when no hosts hold the snapshot.
    """
    chosen = parameters or Parameters()
    projection.prepare_cache(settings.data_dir / "numba")
    with Searcher(settings, store) as searcher:
        try:
            snapshot = searcher.snapshot(model_id)
        except NotFoundError as error:
            raise UnavailableError(
                f"a snapshot of model {model_id} must be live, none is: build and host it first"
            ) from error
        listings = _listings(store, snapshot, progress)
        map_id = _identity(snapshot, listings, chosen, seed)
        stored = _stored(store, map_id)
        if stored is None:
            making = Making(
                settings=settings,
                searcher=searcher,
                snapshot=snapshot,
                map_id=map_id,
                chosen=chosen,
                seed=seed,
                previous=store.live("map"),
                spark=spark,
            )
            folder = _work(settings) / str(map_id)
            done = run(STEPS, making, folder, progress, rows=snapshot.rows, bare=_bare)
            made = _made(making, done, listings)
            stored, found = publish(settings, store, made, progress)
            progress("changes", 0, len(found))
            comparison.record(settings, store, made, found, progress)
            # Last: whoever sees the map's row sees all of it.
            store.put_map(stored)
            progress("changes", len(found), len(found))
        elif stored.snapshot_id != snapshot.snapshot_id:
            # The same data, sharded anew.
            stored = dataclasses.replace(stored, snapshot_id=snapshot.snapshot_id)
            store.put_map(stored)
    progress("tiles", 0, stored.rows_scored)
    MapTable.open(settings, store, map_id, progress=progress)
    progress("tiles", stored.rows_scored, stored.rows_scored)
    _go_live(store, map_id)
    make_default(store, model_id)
    _forget(settings, store, map_id)
    return stored


def graphs(settings: Settings) -> Path:
    """Folder of the neighbour graphs: one a snapshot's data and number of neighbours."""
    return settings.data_dir / "graphs"


def _work(settings: Settings) -> Path:
    return settings.data_dir / "work"


def _made(making: Making, done: Mapping[str, Any], listings: Mapping[str, Listing]) -> Made:
    near, layout, found = done["graph"], done["layout"], done["clusters"]
    return Made(
        map_id=making.map_id,
        snapshot=making.snapshot,
        previous=making.previous,
        listings=listings,
        seed=making.seed,
        parameters=_text(making.chosen, making.seed),
        rows=done["collect"],
        near=near,
        placed=layout.placed,
        space=done["space"].rows,
        clusters=found,
        odd=done["outliers"],
        quality={
            **layout.quality,
            "neighbours": float(near.rows.shape[1]),
            "neighbours_recall": near.recall,
            "neighbours_audited": float(near.audited),
            "clustered": float((found.labels >= 0).mean()) if len(found.labels) else 0.0,
        },
    )


def _listings(store: Store, snapshot: Snapshot, progress: Progress) -> dict[str, Listing]:
    found: dict[str, Listing] = {}
    for listing in store.iter_listings():
        if len(found) % 2_000 == 0:
            progress("texts", len(found), snapshot.listings)
        found[listing.listing_id] = listing
    return found


def _identity(
    snapshot: Snapshot, listings: Mapping[str, Listing], chosen: Parameters, seed: int
) -> UUID:
    """Identity of a map: its data, the texts that name clusters and fill columns, and how."""
    texts = hashlib.sha256()
    for listing_id in sorted(listings):
        listing = listings[listing_id]
        row = [listing_id, listing.title, sorted(listing.attributes.items())]
        texts.update(json.dumps(row).encode())
    data = snapshot.fingerprint or str(snapshot.snapshot_id)
    name = f"map\0{data}\0{texts.hexdigest()}\0{_text(chosen, seed)}"
    return uuid5(NAMESPACE, name)


def _text(chosen: Parameters, seed: int) -> str:
    return json.dumps({**asdict(chosen), "seed": seed}, sort_keys=True)


def _stored(store: Store, map_id: UUID) -> MapVersion | None:
    try:
        return store.map(map_id)
    except NotFoundError:
        return None


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
    """Delete what only making the map needed, and maps beyond the newest few.

    Links to them say that they are gone. Work that was left unfinished stays for a day.
    """
    newest = sorted(store.maps(), key=lambda version: version.created_at, reverse=True)
    for version in newest[KEEP:]:
        if version.map_id != live:
            store.delete_comparisons(version.map_id)
            store.delete_map(version.map_id)
            (settings.data_dir / "maps" / f"{version.map_id}.arrow").unlink(missing_ok=True)
    drop(_work(settings) / str(live))
    kept = sorted(graphs(settings).glob("[!.]*"), key=lambda path: path.stat().st_mtime)
    for path in kept[:-GRAPHS]:
        drop(path)
    # What a kill left half written begins with a dot.
    for path in (*_work(settings).glob("*"), *graphs(settings).glob(".*")):
        if time.time() - path.stat().st_mtime > LEFT_S:
            drop(path)
