"""Clusters and groups of a map as rows: members counted, named, with keys that outlive the map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from analytics import clustering
from analytics.clustering import Clusters
from analytics.hierarchy import naming
from analytics.hierarchy.keys import match
from analytics.identity import places
from analytics.neighbours import codes
from analytics.tiles import MapTable
from cql.errors import NotFoundError
from cql.progress import Progress, silent
from cql.records import Cluster, Group, Listing
from cql.settings import Settings
from cql.store import Store


@dataclass(frozen=True, slots=True, eq=False)
class Earlier:
    """Where each row was on an earlier map.

    At level 0 its cluster, at 1 and 2 the group of it: `was` int64 (N,) by level, -1 for none, is
    an index into `keys`, which hold the key and the size of each.
    """

    was: tuple[NDArray[np.int64], ...] = ()
    keys: tuple[list[tuple[UUID, int]], ...] = ()

    def at(self, level: int, rows: int) -> tuple[NDArray[np.int64], list[tuple[UUID, int]]]:
        """`was` and `keys` of a level; of N rows that were nowhere, where there is no such map."""
        if not self.was:
            return np.full(rows, -1, np.int64), []
        return self.was[level], self.keys[level]

    @classmethod
    def of(
        cls,
        settings: Settings,
        store: Store,
        map_id: UUID | None,
        images: NDArray[np.uint8],
        *,
        progress: Progress = silent,
    ) -> Earlier:
        """Those of a map, for images uint8 (N, 16); nothing where there is no such map."""
        if map_id is None:
            return cls()
        try:
            clusters, groups = store.clusters(map_id), store.groups(map_id)
            table = MapTable.open(settings, store, map_id, progress=progress)
        except NotFoundError:
            return cls()
        return cls.found(clusters, groups, table.clusters, places(table.images, images))

    @classmethod
    def found(
        cls,
        clusters: Sequence[Cluster],
        groups: Sequence[Group],
        numbers: NDArray[np.integer[Any]],
        rows: NDArray[np.int64],
    ) -> Earlier:
        """Of a map whose rows are in the clusters `numbers` (M,); `rows` int64 (N,): which was it.

        -1 in `numbers` is no cluster, in `rows` no row.
        """
        # One more place than there are numbers: that of -1, which is no cluster.
        index = np.full(max((each.cluster for each in clusters), default=-1) + 2, -1, np.int64)
        for at, each in enumerate(clusters):
            index[each.cluster] = at
        owner = {(each.level, each.number): each for each in groups}
        first = [owner.get((1, -1 if each.family is None else each.family)) for each in clusters]
        second = [
            None if each is None else owner.get((2, -1 if each.parent is None else each.parent))
            for each in first
        ]
        keys: list[list[UUID]] = [[each.cluster_key for each in clusters]]
        ups = [np.arange(len(clusters))]
        for above in (first, second):
            known = {each.number: each.group_key for each in above if each is not None}
            place = {number: at for at, number in enumerate(sorted(known))}
            keys.append([known[number] for number in sorted(known)])
            ups.append(np.array([-1 if each is None else place[each.number] for each in above]))
        held = index[numbers]
        every = [np.append(up, -1).astype(np.int64)[held] for up in ups]
        sizes = [
            np.bincount(own[own >= 0], minlength=len(named))
            for own, named in zip(every, keys, strict=True)
        ]
        return cls(
            tuple(np.where(rows >= 0, np.append(own, -1)[rows], -1) for own in every),
            tuple(
                list(zip(named, counts.tolist(), strict=True))
                for named, counts in zip(keys, sizes, strict=True)
            ),
        )


def catalogue(
    map_id: UUID,
    clusters: Clusters,
    *,
    images: NDArray[np.uint8],
    owners: Sequence[str],
    placed: NDArray[np.float32],
    space: NDArray[np.float32],
    listings: Mapping[str, Listing],
    earlier: Earlier,
    progress: Progress = silent,
) -> tuple[list[Cluster], list[Group]]:
    """Describe the clusters and groups of a map: images uint8 (N, 16) of the listings `owners`.

    `placed` float32 (N, 2) is the picture, `space` float32 (N, E) where the clusters were found. A
    group has a name of its own, unlike that of any cluster: where its text has none, it is called
    by its largest cluster. One of a single cluster has the name of that.
    """
    rows = _rows(clusters.labels, clusters.count)
    counts = _owners(clusters, owners)
    known = match(clusters.labels, images, *earlier.at(0, len(images)))
    names = naming.names(counts, listings, progress=progress)
    found = []
    for number, own in enumerate(rows):
        progress("names", number, len(rows), "counting")
        middle = np.median(placed[own].astype(np.float64), axis=0)
        shown = clustering.exemplars(space, clusters, number)
        found.append(
            Cluster(
                map_id=map_id,
                cluster=number,
                cluster_key=known[number],
                size=len(own),
                listings=len(counts[number]),
                name=names[number],
                exemplars=tuple(UUID(bytes=images[row].tobytes()) for row in shown.tolist()),
                x=float(middle[0]),
                y=float(middle[1]),
                family=int(clusters.groups[number]) if len(clusters.groups) else None,
            )
        )
    groups: list[Group] = []
    held = [[number] for number in range(len(rows))]
    taken = list(names)
    labels = clusters.labels
    for level, cut in enumerate((clusters.groups, clusters.wider), 1):
        if not len(cut):
            break
        labels = np.append(cut, -1)[labels]
        inside = [np.flatnonzero(cut == number).tolist() for number in range(int(cut.max()) + 1)]
        counts = [_sum(counts[at] for at in own) for own in inside]
        sizes = np.bincount(labels[labels >= 0], minlength=len(inside))
        held = [sorted(number for at in own for number in held[at]) for own in inside]
        given = _titles(counts, held, names, taken, listings, progress)
        taken += given
        before = earlier.at(level, len(images))
        known = match(labels, images, *before, kind=f"group {level}")
        further = clusters.wider if level == 1 and len(clusters.wider) else None
        groups += [
            Group(
                map_id=map_id,
                level=level,
                number=number,
                group_key=known[number],
                size=int(sizes[number]),
                listings=len(counts[number]),
                clusters=len(held[number]),
                name=given[number],
                parent=None if further is None else int(further[number]),
            )
            for number in range(len(inside))
        ]
    return found, groups


def _owners(clusters: Clusters, listings: Sequence[str]) -> list[Counter[str]]:
    """For each cluster its listings, in order, with how many images each has in it."""
    names, owner = codes(listings)
    rows = clusters.labels >= 0
    pairs, images = np.unique(
        clusters.labels[rows] * max(1, len(names)) + owner[rows], return_counts=True
    )
    found: list[Counter[str]] = [Counter() for _ in range(clusters.count)]
    for pair, own in zip(pairs.tolist(), images.tolist(), strict=True):
        number, listing = divmod(pair, len(names))
        found[number][names[listing]] = own
    return found


def _titles(  # noqa: PLR0917 - as the caller has them
    counts: Sequence[Counter[str]],
    held: Sequence[Sequence[int]],
    names: Sequence[str],
    taken: Sequence[str],
    listings: Mapping[str, Listing],
    progress: Progress,
) -> list[str]:
    """Name groups that hold the clusters `held`, ascending and so by falling size."""
    several = [number for number, own in enumerate(held) if len(own) > 1]
    members = [counts[number] for number in several]
    fresh = naming.names(members, listings, taken=taken, progress=progress)
    given = {
        number: f"{names[held[number][0]]} and {len(held[number]) - 1} more"
        if name in taken
        else name
        for number, name in zip(several, fresh, strict=True)
    }
    return [given.get(number) or names[own[0]] for number, own in enumerate(held)]


def _rows(labels: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    """Rows of each cluster, ascending."""
    order = np.argsort(labels, kind="stable")
    cuts = np.searchsorted(labels[order], np.arange(count + 1))
    return [order[a:b] for a, b in pairwise(cuts)]


def _sum(counts: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return total
