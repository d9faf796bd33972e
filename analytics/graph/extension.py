"""A stored neighbour graph brought up to date with a new snapshot of the same collection.

Rows that are still the same keep their lists, without those that left. New rows, and rows whose
list lost somebody, are searched for; new rows are entered into the lists of old ones. That costs
the share of the rows that changed, not a rebuild.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analytics.graph import audit, cells, equal, exhaustive, linking, links
from analytics.identity import places
from analytics.neighbours import Collection, Graph
from analytics.parts import Arrays, Parts, cut
from cql.errors import InputError
from cql.progress import Progress, silent

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

REBUILD = 0.3
"""Share of rows to search for from which everything is linked anew."""

QUICK = 0.02
"""Share of `linking.EXACT` up to which rows are compared with all in an approximate graph, too:
above, walking from neighbour to neighbour is quicker."""

_PIVOTS = 8192
_BLOCK = 2048
_PART = 8192


def extend(
    graph: Graph,
    rows: Collection,
    *,
    k: int | None = None,
    seed: int | None = None,
    threads: int = 1,
    spark: SparkSession | None = None,
    folder: Path | None = None,
    model_id: str = "",
    data: str = "",
    audited: int = audit.ROWS,
    progress: Progress = silent,
) -> Graph:
    """Make the graph of `rows` from that of an earlier snapshot.

    An exact graph stays exact: the result is what `linking.link` gives. An approximate one is
    judged again. Everything is linked anew where that is cheaper, where k grows, and where more
    than k rows are equal to one another. Keywords as of `linking.link`.

    Raises:
        InputError: the graph is of another model, or knows nothing of its rows; bad vectors.
    """
    _match(graph, model_id)
    count, dim = rows.vectors.shape
    wanted = graph.rows.shape[1] if k is None else k
    own_seed = graph.seed if seed is None else seed
    linking.check(rows.vectors)
    near_k = max(0, min(wanted, count - 1))
    with Parts(threads, spark=spark, folder=folder) as parts:
        parts.put("vectors", rows.vectors)
        marked = equal.marks(parts, "vectors")
        ranks = linking.rank(rows.images)
        old = _before(graph, rows.images, marked)
        near, scores = _kept(graph, old, near_k)
        asked = np.flatnonzero(near[:, -1] < 0) if near_k else np.arange(count)
        limit = linking.EXACT if graph.exact else QUICK * linking.EXACT
        affordable = float(len(asked)) * count * dim <= limit
        if (
            near_k > 0
            and len(asked) <= REBUILD * count
            and (affordable or not graph.exact)
            and equal.groups(rows.vectors, marked, ranks).largest <= near_k
        ):
            parts.put("ranks", ranks)
            told = linking.shared(progress, count)
            if affordable:
                _by_all(parts, near, scores, fresh=old < 0, asked=asked, progress=told)
            else:
                _by_descent(parts, near, scores, asked=asked, seed=own_seed, progress=told)
            found, found_scores = parts["near"].astype(np.int64), np.array(parts["near_scores"])
            recall, judged = 1.0, 0
            if not graph.exact:
                chosen = audit.chosen(count, own_seed, audited)
                kth = audit.truth(parts, chosen, near_k)
                recall, judged = audit.recall(found_scores[chosen], kth), len(chosen)
            progress("neighbours", count, count)
            return Graph(
                found,
                found_scores,
                exact=graph.exact,
                recall=recall,
                audited=judged,
                method=graph.method,
                seed=own_seed,
                model_id=model_id,
                data=data,
                images=rows.images,
                marks=marked,
            )
    return linking.link(
        rows, wanted, seed=own_seed, threads=threads, spark=spark, folder=folder,
        model_id=model_id, data=data, audited=audited, progress=progress,
    )  # fmt: skip


def _match(graph: Graph, model_id: str) -> None:
    """InputError for a graph that vectors of this model cannot extend."""
    if graph.model_id != model_id:
        raise InputError(
            f"a graph is extended by vectors of its own model {graph.model_id!r}, these are of "
            f"{model_id!r}: make a new graph"
        )
    if len(graph.images) != len(graph.rows) or len(graph.marks) != len(graph.rows):
        raise InputError(
            "a graph to extend must know its images and marks, this one does not: "
            "make it with `linking.link`"
        )


def _before(
    graph: Graph, images: NDArray[np.uint8], marked: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Row of the graph that each row was, same image and same vector: int64 (N,), -1 for none."""
    found = places(graph.images, images)
    there = np.flatnonzero(found >= 0)
    found[there[graph.marks[found[there]] != marked[there]]] = -1
    return found


def _kept(
    graph: Graph, old: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Old lists in new numbers without the rows that left: (N, k), -1 at the end."""
    count = len(old)
    new = np.full(len(graph.rows) + 1, -1, np.int32)
    new[old[old >= 0]] = np.flatnonzero(old >= 0)
    near, scores = np.full((count, k), -1, np.int32), np.full((count, k), -np.inf, np.float32)
    width = min(k, graph.rows.shape[1])
    kept = np.flatnonzero(old >= 0)
    lists, values = new[graph.rows[old[kept], :width]], graph.scores[old[kept], :width]
    order = np.argsort(lists < 0, axis=1, kind="stable")
    near[kept, :width] = np.take_along_axis(lists, order, 1)
    values = np.where(lists < 0, np.float32(-np.inf), values)
    scores[kept, :width] = np.take_along_axis(values, order, 1)
    return near, scores


def _lists(parts: Parts, near: NDArray[np.int32], scores: NDArray[np.float32], spare: int) -> None:
    """Make the arrays `rows` and `scores`: the old lists and room for `spare` more."""
    count, k = near.shape
    size = min(k + spare, count - 1)
    rows = parts.make("rows", (count, size), np.int32)
    values = parts.make("scores", (count, size), np.float32)
    rows[:], values[:] = -1, -np.inf
    rows[:, :k], values[:, :k] = near, scores


def _by_all(
    parts: Parts,
    near: NDArray[np.int32],
    scores: NDArray[np.float32],
    *,
    fresh: NDArray[np.bool_],
    asked: NDArray[np.int64],
    progress: Progress,
) -> None:
    """Compare new rows with all, and rows that lost somebody: exact for them and for the rest."""
    _lists(parts, near, scores, exhaustive.SPARE)
    parts.put("added", np.flatnonzero(fresh))
    parts.put("offered", parts["vectors"][fresh])
    parts.run(
        _offer, cut(len(near), _PART), ("vectors", "added", "offered", "rows", "scores"),
        progress=progress, step="search",
    )  # fmt: skip
    parts.drop("added", "offered")
    # Of the rows that are compared with all the lists do not matter.
    parts["scores"][asked] = -np.inf
    parts["rows"][asked] = -1
    exhaustive.settle(parts, near.shape[1], complete=True, progress=progress)


def _by_descent(
    parts: Parts,
    near: NDArray[np.int32],
    scores: NDArray[np.float32],
    *,
    asked: NDArray[np.int64],
    seed: int,
    progress: Progress,
) -> None:
    """Walk from neighbour to neighbour; a row without any starts at the best of some rows."""
    count, k = near.shape
    _lists(parts, near, scores, cells.spare(k))
    rng = np.random.default_rng([seed, 13])
    pivots = np.sort(rng.choice(count, min(count, _PIVOTS), replace=False))
    bare = asked[near[asked, 0] < 0]
    parts.put("asked", bare)
    parts.put("pivots", pivots)
    parts.put("offered", parts["vectors"][pivots])
    parts.run(
        _start,
        cut(len(bare), _PART),
        ("vectors", "asked", "pivots", "offered", "rows", "scores"),
        progress=progress,
        step="search",
    )
    parts.drop("asked", "pivots", "offered")
    fresh = parts.make("fresh", parts["rows"].shape, np.uint8)
    fresh[:] = 0
    fresh[asked] = 1
    cells.improve(parts, progress=progress)
    exhaustive.settle(parts, k, complete=False, progress=progress)


def _offer(arrays: Arrays, first: int, last: int) -> int:
    """Offer the new rows to the lists of rows first to last."""
    for low, high in cut(last - first, _BLOCK):
        span = slice(first + low, first + high)
        rows, scores = arrays["rows"][span], arrays["scores"][span]
        who = np.arange(high - low)
        for start, stop in cut(len(arrays["added"]), _BLOCK):
            found = arrays["vectors"][span] @ arrays["offered"][start:stop].T
            names = arrays["added"][start:stop]
            links.take(found, who, span.start, names, rows, scores)
    return 0


def _start(arrays: Arrays, first: int, last: int) -> int:
    """Give rows of `asked` the best pivots."""
    for low, high in cut(last - first, _BLOCK):
        asked = arrays["asked"][first + low : first + high]
        rows, scores = arrays["rows"][asked], arrays["scores"][asked]
        for start, stop in cut(len(arrays["pivots"]), _BLOCK):
            found = arrays["vectors"][asked] @ arrays["offered"][start:stop].T
            names = arrays["pivots"][start:stop]
            found[asked[:, None] == names[None, :]] = -np.inf
            links.take(found, np.arange(len(asked)), -1 - len(asked), names, rows, scores)
        arrays["rows"][asked], arrays["scores"][asked] = rows, scores
    return 0
