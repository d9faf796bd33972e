"""The steps of a map: what each is given, what it makes, and from what it follows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from analytics import clustering, outliers, projection
from analytics.clustering import Clusters
from analytics.neighbours import Collection, Graph, collect, graph
from analytics.outliers import Outliers
from analytics.search import Searcher
from analytics.steps import Step
from cql.errors import UnavailableError
from cql.progress import Progress
from cql.records import Listing, Snapshot
from cql.settings import Settings
from cql.store import Store

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


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

    A step in a process of its own gets neither `store`, `searcher`, `spark` nor `listings`.
    """

    settings: Settings
    store: Store | None
    searcher: Searcher | None
    spark: SparkSession | None
    listings: Mapping[str, Listing]
    snapshot: Snapshot
    map_id: UUID
    chosen: Parameters
    seed: int
    previous: UUID | None

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


def graphs(settings: Settings) -> Path:
    """Folder of the neighbour graphs: one a snapshot's data and number of neighbours."""
    return settings.data_dir / "graphs"


def _collect(making: Making, progress: Progress) -> Collection:
    return collect(making.hosts, making.snapshot, progress=progress)


def _graph(making: Making, progress: Progress, rows: Collection) -> Graph:
    count = making.chosen.neighbours
    return graph(making.hosts, making.snapshot, rows, count, progress=progress)


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


def bare(making: Making) -> Making:
    """The context of a step in a process of its own."""
    return dataclasses.replace(making, store=None, searcher=None, spark=None, listings={})


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
