"""The steps of a map: what each is given, what it makes, and from what it follows."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from analytics import clustering, duplicates, outliers, projection
from analytics.clustering import Clusters
from analytics.duplicates import Curve, Found
from analytics.evidence import appearance, groups, patches, spots
from analytics.evidence.appearance import Appearance
from analytics.evidence.groups import Plant
from analytics.evidence.patches import Patches
from analytics.evidence.spots import Spots
from analytics.graph.extension import extend
from analytics.graph.linking import SPARK_ROWS, link
from analytics.hierarchy.tree import Linkage
from analytics.identity import places
from analytics.layouts import landmarks
from analytics.making import kept
from analytics.making.steps import Step
from analytics.neighbours import Collection, Graph, collect
from analytics.outliers import Outliers
from analytics.search import Searcher
from analytics.tiles import MapTable
from cql.errors import IntegrityError, NotFoundError, UnavailableError
from cql.progress import Progress
from cql.records import Listing, Snapshot
from cql.settings import Settings
from cql.store import Store

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What a map depends on beside the data and the seed. `version` changes with the method.

    `min_cluster_size` None: as many as suit the number of images.
    """

    version: int = 7
    neighbours: int = 30
    map_neighbours: int = 15
    map_min_dist: float = 0.1
    cluster_dims: int = 10
    cluster_neighbours: int = 15
    min_samples: int = 5
    min_cluster_size: int | None = None
    outlier_neighbours: int = outliers.NEIGHBOURS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Making:
    """What every step of a map is given. `previous` is the map that was live when it began.

    `start`: the map whose layout this one starts from, so that images stay where they were.
    `parameters`: as the map stores them. `measured`: how many pictures have measures, `patched`:
    how many have features of their regions; `plant` makes copies of some images, on which the
    threshold of near-duplicates is chosen. A step in a process of its own gets neither `store`,
    `searcher`, `spark`, `listings` nor `plant`.
    """

    settings: Settings
    store: Store | None
    searcher: Searcher | None
    spark: SparkSession | None
    listings: Mapping[str, Listing]
    snapshot: Snapshot
    map_id: UUID
    chosen: Parameters
    parameters: str
    seed: int
    previous: UUID | None
    start: UUID | None = None
    measured: int = 0
    patched: int = 0
    plant: Plant | None = None

    @property
    def hosts(self) -> Searcher:
        """The searcher, for a step of the engine's own process."""
        if self.searcher is None:
            raise UnavailableError("a step that asks the hosts must run in the engine")
        return self.searcher

    @property
    def data(self) -> str:
        """Identity of the rows, however they are sharded."""
        return data_of(self.snapshot)

    @property
    def threads(self) -> int:
        """Cores that a step may use."""
        return self.settings.cores or os.cpu_count() or 1

    @property
    def workers(self) -> dict[str, Any]:
        """Who does work that can be divided, for functions that run `analytics.parts`."""
        large = self.snapshot.rows >= SPARK_ROWS
        return {
            "threads": self.threads,
            "spark": self.spark if large else None,
            "folder": self.settings.data_dir / "work",
        }


@dataclass(frozen=True, slots=True, eq=False)
class Before:
    """Where the rows were on the map that this one starts from, in units of its layout.

    `placed` float32 (N, 2), NaN for new rows; (0, 2) without such a map. `frame`: what it showed.
    """

    placed: NDArray[np.float32]
    frame: dict[str, float]

    @property
    def known(self) -> NDArray[np.bool_] | None:
        """Rows that were there, bool (N,); None where none was."""
        found = np.isfinite(self.placed).all(axis=1)
        return np.asarray(found, np.bool_) if found.any() else None


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The picture: `placed` float32 (N, 2) in [0, 1), and how far it can be trusted.

    `trust` float32 (N,): the share of each row's true neighbours that are near it in the picture.
    """

    placed: NDArray[np.float32]
    trust: NDArray[np.float32]
    quality: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """The space that clusters are found in: `rows` float32 (N, E)."""

    rows: NDArray[np.float32]


def data_of(snapshot: Snapshot) -> str:
    """Identity of the rows of a snapshot, however they are sharded."""
    return snapshot.fingerprint or str(snapshot.snapshot_id)


def graphs(settings: Settings) -> Path:
    """Folder of the neighbour graphs: one a snapshot's data and number of neighbours."""
    return settings.data_dir / "graphs"


def _collect(making: Making, progress: Progress) -> Collection:
    return collect(making.hosts, making.snapshot, progress=progress)


def _graph(making: Making, progress: Progress, rows: Collection) -> Graph:
    # One graph serves the maps of every seed: it has its own.
    given: dict[str, Any] = {
        **making.workers,
        "model_id": making.snapshot.model_id,
        "data": making.data,
        "progress": progress,
    }
    count, earlier = making.chosen.neighbours, _earlier_graph(making)
    if earlier is None:
        return link(rows, count, **given)
    return extend(earlier, rows, k=count, **given)


def _earlier_graph(making: Making) -> Graph | None:
    """The newest graph of the model that is kept: only what changed since is searched for."""
    found = graphs(making.settings).glob("graph-*")
    for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            key, told = kept.head_of(path)
            if told.get("model_id") == making.snapshot.model_id:
                return kept.load(path, Graph, key=key)
        except (FileNotFoundError, IntegrityError):
            continue
    return None


def _before(making: Making, _: Progress, rows: Collection) -> Before:
    nothing = Before(np.empty((0, 2), np.float32), {})
    if making.start is None or making.store is None:
        return nothing
    try:
        quality = making.store.map(making.start).quality
        frame = {name: quality[f"frame_{name}"] for name in ("x", "y", "side")}
        table = MapTable.open(making.settings, making.store, making.start)
    except (NotFoundError, KeyError):
        return nothing  # it was deleted meanwhile
    at = places(table.images, rows.images)
    shown = table.placed
    placed = np.full((len(at), 2), np.nan, np.float32)
    placed[at >= 0] = projection.Frame(**frame).placed(shown[at[at >= 0]])
    return Before(placed, frame)


def _layout(
    making: Making, progress: Progress, rows: Collection, near: Graph, before: Before
) -> Layout:
    chosen, again = making.chosen, before.known is not None
    lay = partial(projection.layout, start=before.placed) if again else landmarks.layout
    laid = lay(
        rows.vectors,
        near,
        seed=making.seed,
        neighbours=chosen.map_neighbours,
        min_dist=chosen.map_min_dist,
        threads=making.threads,
        progress=progress,
    )
    return pictured(making, progress, rows, near, before, laid)


def pictured(  # noqa: PLR0917 - as a step is given them
    making: Making,
    progress: Progress,
    rows: Collection,
    near: Graph,
    before: Before,
    laid: NDArray[np.float32],
) -> Layout:
    """The picture of a layout, float32 (N, 2), in its frame, and how far it can be trusted."""
    again = before.known is not None
    frame = projection.Frame.around(laid, projection.Frame(**before.frame) if again else None)
    placed = frame.shown(laid)
    progress("layout", 0, 0, "measuring")
    trusted = projection.trust(rows.vectors, placed, seed=making.seed)
    trust = projection.kept(near, placed, making.chosen.map_neighbours)
    quality = {
        **projection.as_dict(trusted),
        "kept": float(trust.mean()) if len(trust) else 1.0,
        "frame_x": frame.x,
        "frame_y": frame.y,
        "frame_side": frame.side,
    }
    if again:
        moved = np.hypot(*(frame.shown(before.placed) - placed).T)
        quality["moved"] = float(np.nanmedian(moved))
    return Layout(placed, trust, quality)


def _space(making: Making, progress: Progress, rows: Collection, near: Graph) -> Space:
    return Space(
        landmarks.layout(
            rows.vectors,
            near,
            seed=making.seed,
            dims=space_dims(making, len(rows.vectors)),
            neighbours=making.chosen.cluster_neighbours,
            min_dist=0.0,
            threads=making.threads,
            progress=progress,
        )
    )


def space_dims(making: Making, count: int) -> int:
    """Dimensions of the space that clusters of `count` rows are found in."""
    return min(making.chosen.cluster_dims, max(2, count - 2))


def _tree(making: Making, _: Progress, space: Space) -> Linkage:
    return clustering.grow(space.rows, min_samples=making.chosen.min_samples)


def _clusters(making: Making, _: Progress, space: Space, linkage: Linkage) -> Clusters:
    return clustering.cluster(
        space.rows,
        min_samples=making.chosen.min_samples,
        min_cluster_size=making.chosen.min_cluster_size,
        linkage=linkage,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Threshold:
    """How well copies of some images were found by threshold; None where none were planted."""

    curve: Curve | None


def _appearance(making: Making, _: Progress, rows: Collection) -> Appearance:
    if making.store is None:
        raise UnavailableError("a step that reads measures must run in the engine")
    return appearance.read(making.store, rows)


def _patches(making: Making, progress: Progress, rows: Collection) -> Patches:
    if making.store is None:
        raise UnavailableError("a step that reads patches must run in the engine")
    if not making.patched:
        return patches.nothing(len(rows.listings))
    return patches.read(making.store, rows, making.snapshot.model_id, progress=progress)


def _spots(making: Making, progress: Progress, rows: Collection, parts: Patches) -> Spots:
    return spots.find(parts, rows.owners, threads=making.threads, progress=progress)


def _outliers(  # noqa: PLR0917 - a result of each step that it reads
    making: Making,
    progress: Progress,
    near: Graph,
    found: Clusters,
    rows: Collection,
    seen: Appearance,
    strange: Spots,
) -> Outliers:
    facets, owners = appearance.facets(rows.listings, making.listings)
    return outliers.score(
        near,
        found,
        k=making.chosen.outlier_neighbours,
        looks=seen.looks,
        facets=facets,
        owners=owners,
        vectors=rows.vectors,
        progress=progress,
        spots=strange,
    )


def _curve(making: Making, progress: Progress, rows: Collection, seen: Appearance) -> Threshold:
    return Threshold(
        groups.chosen(
            making.hosts,
            making.snapshot,
            rows,
            seen,
            making.plant,
            seed=making.seed,
            progress=progress,
        )
    )


def _duplicates(
    making: Making, progress: Progress, near: Graph, seen: Appearance, planted: Threshold
) -> Found:
    del making
    curve = planted.curve
    return duplicates.find(
        seen.pictures,
        near,
        threshold=curve.chosen if curve else duplicates.THRESHOLD,
        prefer=seen.preferred(),
        progress=progress,
    )


def bare(making: Making) -> Making:
    """The context of a step in a process of its own."""
    return dataclasses.replace(
        making, store=None, searcher=None, spark=None, listings={}, plant=None
    )


def chosen(*names: str) -> Callable[[Making], Mapping[str, Any]]:
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
        depends=chosen("neighbours"),
        folder=lambda making: graphs(making.settings),
    ),
    Step(
        name="before",
        make=_before,
        reads=("collect",),
        writes=Before,
        depends=lambda making: {"start": str(making.start)},
    ),
    Step(
        name="layout",
        make=_layout,
        apart=True,
        reads=("collect", "graph", "before"),
        writes=Layout,
        depends=chosen("version", "map_neighbours", "map_min_dist", "seed"),
    ),
    Step(
        name="space",
        make=_space,
        apart=True,
        reads=("collect", "graph"),
        writes=Space,
        depends=chosen("version", "cluster_neighbours", "cluster_dims", "seed"),
    ),
    Step(
        name="tree",
        make=_tree,
        apart=True,
        reads=("space",),
        writes=Linkage,
        depends=chosen("version", "min_samples"),
    ),
    Step(
        name="clusters",
        make=_clusters,
        apart=True,
        reads=("space", "tree"),
        writes=Clusters,
        depends=chosen("version", "min_samples", "min_cluster_size"),
    ),
    Step(
        name="appearance",
        make=_appearance,
        reads=("collect",),
        writes=Appearance,
        depends=lambda making: {"measured": making.measured},
    ),
    Step(
        name="patches",
        make=_patches,
        reads=("collect",),
        writes=Patches,
        depends=lambda making: {"patched": making.patched},
    ),
    Step(
        name="spots",
        make=_spots,
        apart=True,
        reads=("collect", "patches"),
        writes=Spots,
        depends=chosen("version"),
    ),
    Step(
        name="outliers",
        make=_outliers,
        reads=("graph", "clusters", "collect", "appearance", "spots"),
        writes=Outliers,
        version=2,
        depends=chosen("version", "outlier_neighbours"),
    ),
    Step(
        name="curve",
        make=_curve,
        reads=("collect", "appearance"),
        writes=Threshold,
        depends=chosen("version", "seed"),
    ),
    Step(
        name="duplicates",
        make=_duplicates,
        apart=True,
        reads=("graph", "appearance", "curve"),
        writes=Found,
        depends=chosen("version"),
    ),
)
"""Steps whose results are kept in files; those that follow write to Cassandra."""
