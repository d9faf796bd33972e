"""Steps of a map of more rows than one node lays out: landmarks there, all others by Spark tasks.

The picture starts from an earlier map where there is one: what that has stays where it was, bit
for bit in units of its layout, and only what is new is placed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analytics import projection
from analytics.layouts import anchors, satellites
from analytics.layouts import landmarks as sketches
from analytics.layouts.anchors import Anchors, Landmarks
from analytics.making.plan import Before, Layout, Making, Space, chosen, pictured, space_dims
from analytics.making.steps import Step
from analytics.neighbours import Collection, Graph
from cql.progress import Progress
from cql.records import Snapshot
from cql.settings import Settings


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """The anchors of the space, which are the landmarks, and of the picture.

    `picture` None: the same. A picture that starts from an earlier map has that map's rows, too.
    """

    space: Anchors
    picture: Anchors | None


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """Where the landmarks are: `placed` float32 (L, dims), in units of the layout."""

    placed: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Where all rows are, `placed` float32 (N, 2), of which so many stood as anchors."""

    placed: NDArray[np.float32]
    anchors: int


def count(settings: Settings, snapshot: Snapshot) -> int:
    """Landmarks of the map of a snapshot; 0 where one node lays it out whole."""
    return settings.layout_rows if snapshot.rows > settings.layout_rows else 0


def divided(steps: Sequence[Step[Making]]) -> tuple[Step[Making], ...]:
    """The steps of a map, with those in the place of `layout` and `space` that divide the work."""
    made: list[Step[Making]] = []
    for step in steps:
        if step.name == "layout":
            reads = "collect", "graph", "before", "placed"
            made += [*STEPS, replace(step, make=_layout, reads=reads)]
        elif step.name == "space":
            reads = "graph", "landmarks", "nearest", "sketch-space"
            made.append(replace(step, make=_space, apart=False, reads=reads))
        else:
            made.append(step)
    return tuple(made)


def _landmarks(making: Making, progress: Progress, rows: Collection, near: Graph) -> Landmarks:
    return anchors.landmarks(
        rows,
        near,
        making.settings.layout_rows,
        seed=making.seed,
        neighbours=max(making.chosen.map_neighbours, making.chosen.cluster_neighbours),
        progress=progress,
        **making.workers,
    )


def _nearest(  # noqa: PLR0917 - a result of each step that it reads
    making: Making,
    progress: Progress,
    rows: Collection,
    near: Graph,
    before: Before,
    landmarks: Landmarks,
) -> Nearest:
    find = partial(anchors.around, rows, near, landmarks, progress=progress, **making.workers)
    return Nearest(find(), None if before.known is None else find(known=before.known))


def _sketch(
    making: Making, progress: Progress, rows: Collection, before: Before, landmarks: Landmarks
) -> Sketch:
    options: dict[str, Any] = {
        "seed": making.seed,
        "neighbours": making.chosen.map_neighbours,
        "min_dist": making.chosen.map_min_dist,
        "threads": making.threads,
        "progress": progress,
    }
    vectors = rows.vectors[landmarks.rows]
    if before.known is not None:
        start = landmarks.start(before.placed)[landmarks.rows]
        if np.isfinite(start).any():
            return Sketch(
                projection.layout(vectors, landmarks.graph, start=start, still=True, **options)
            )
    return Sketch(sketches.layout(vectors, landmarks.graph, **options))


def _sketch_space(
    making: Making, progress: Progress, rows: Collection, landmarks: Landmarks
) -> Sketch:
    return Sketch(
        sketches.layout(
            rows.vectors[landmarks.rows],
            landmarks.graph,
            seed=making.seed,
            dims=space_dims(making, len(rows.vectors)),
            neighbours=making.chosen.cluster_neighbours,
            min_dist=0.0,
            threads=making.threads,
            progress=progress,
        )
    )


def _placed(  # noqa: PLR0917 - a result of each step that it reads
    making: Making,
    progress: Progress,
    near: Graph,
    before: Before,
    landmarks: Landmarks,
    found: Nearest,
    sketch: Sketch,
) -> Placed:
    around = found.picture or found.space
    laid = np.empty((len(around.rows), 2), np.float32)
    if before.known is not None:
        laid[:] = landmarks.start(before.placed)[around.rows]
    laid[np.searchsorted(around.rows, landmarks.rows)] = sketch.placed
    free = np.ones(len(around.rows), np.bool_)
    if before.known is not None:
        free[np.searchsorted(around.rows, np.unique(landmarks.stands[before.known]))] = False
    placed = satellites.place(
        around,
        laid,
        landmarks.stands,
        near,
        free=free,
        seed=making.seed,
        neighbours=making.chosen.map_neighbours,
        min_dist=making.chosen.map_min_dist,
        progress=progress,
        **making.workers,
    )
    if before.known is not None:
        # Of a crowd the rows that were apart stay apart.
        placed[before.known] = before.placed[before.known]
    return Placed(placed, len(around.rows))


def _layout(  # noqa: PLR0917 - a result of each step that it reads
    making: Making,
    progress: Progress,
    rows: Collection,
    near: Graph,
    before: Before,
    found: Placed,
) -> Layout:
    made = pictured(making, progress, rows, near, before, found.placed)
    told = {"landmarks": float(found.anchors), "placed": float(len(found.placed) - found.anchors)}
    return replace(made, quality={**made.quality, **told})


def _space(  # noqa: PLR0917 - a result of each step that it reads
    making: Making,
    progress: Progress,
    near: Graph,
    landmarks: Landmarks,
    found: Nearest,
    sketch: Sketch,
) -> Space:
    return Space(
        satellites.place(
            found.space,
            sketch.placed,
            landmarks.stands,
            near,
            seed=making.seed,
            neighbours=making.chosen.cluster_neighbours,
            min_dist=0.0,
            progress=progress,
            **making.workers,
        )
    )


def _depends(making: Making) -> dict[str, Any]:
    own = chosen("version", "map_neighbours", "cluster_neighbours", "seed")(making)
    return {**own, "layout_rows": making.settings.layout_rows}


STEPS: tuple[Step[Making], ...] = (
    Step(
        name="landmarks",
        make=_landmarks,
        reads=("collect", "graph"),
        writes=Landmarks,
        depends=_depends,
    ),
    Step(
        name="nearest",
        make=_nearest,
        reads=("collect", "graph", "before", "landmarks"),
        writes=Nearest,
    ),
    Step(
        name="sketch",
        make=_sketch,
        apart=True,
        reads=("collect", "before", "landmarks"),
        writes=Sketch,
        depends=chosen("version", "map_neighbours", "map_min_dist", "seed"),
    ),
    Step(
        name="sketch-space",
        make=_sketch_space,
        apart=True,
        reads=("collect", "landmarks"),
        writes=Sketch,
        depends=chosen("version", "cluster_neighbours", "cluster_dims", "seed"),
    ),
    Step(
        name="placed",
        make=_placed,
        reads=("graph", "before", "landmarks", "nearest", "sketch"),
        writes=Placed,
        depends=chosen("version", "map_neighbours", "map_min_dist", "seed"),
    ),
)
"""Steps that come before `layout` is measured, and before all rows have a place in the space."""
