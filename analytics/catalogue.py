"""Clusters and groups of a map as rows: members counted, named, with keys that outlive the map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from analytics import clustering, naming
from analytics.clustering import Clusters
from cql.errors import NotFoundError
from cql.records import Cluster, Group, Listing
from cql.store import Store

Members = Mapping[UUID, frozenset[UUID]]
"""Images by key."""


@dataclass(frozen=True, slots=True, eq=False)
class Earlier:
    """Images of each cluster of the live map, and of each group by level, by their keys."""

    clusters: Members = field(default_factory=dict)
    groups: Mapping[int, Members] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store, map_id: UUID | None) -> Earlier:
        """Those of a map; none where there is no such map."""
        try:
            version = None if map_id is None else store.map(map_id)
        except NotFoundError:
            version = None
        if version is None or map_id is None:
            return cls()
        numbers = {cluster.cluster: cluster for cluster in store.clusters(map_id)}
        images: dict[int, set[UUID]] = {number: set() for number in numbers}
        for point in store.points(map_id, version.rows_scored):
            if point.cluster in images:
                images[point.cluster].add(point.image_id)
        found = {numbers[number].cluster_key: frozenset(held) for number, held in images.items()}
        groups: dict[int, dict[UUID, frozenset[UUID]]] = {}
        known = {(group.level, group.number): group for group in store.groups(map_id)}
        for number, held in images.items():
            level, family = 1, numbers[number].family
            while family is not None and (level, family) in known:
                group = known[level, family]
                own = groups.setdefault(level, {})
                own[group.group_key] = own.get(group.group_key, frozenset()) | held
                level, family = level + 1, group.parent
        return cls(found, groups)


def catalogue(
    map_id: UUID,
    clusters: Clusters,
    *,
    images: Sequence[UUID],
    owners: Sequence[str],
    placed: NDArray[np.float32],
    space: NDArray[np.float32],
    listings: Mapping[str, Listing],
    earlier: Earlier,
) -> tuple[list[Cluster], list[Group]]:
    """Describe the clusters and groups of a map: N `images` of the listings `owners`.

    `placed` float32 (N, 2) is the picture, `space` float32 (N, E) where the clusters were found. A
    group has a name of its own, unlike that of any cluster: where its text has none, it is called
    by its largest cluster. One of a single cluster has the name of that.
    """
    rows = _rows(clusters.labels, clusters.count)
    counts = [Counter(owners[row] for row in own) for own in rows]
    members = [frozenset(images[row] for row in own) for own in rows]
    known = clustering.keys(members, earlier.clusters)
    names = naming.names(counts, listings)
    found = []
    for number, own in enumerate(rows):
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
                exemplars=tuple(images[int(row)] for row in shown),
                x=float(middle[0]),
                y=float(middle[1]),
                family=int(clusters.groups[number]) if len(clusters.groups) else None,
            )
        )
    groups: list[Group] = []
    held = [[number] for number in range(len(rows))]
    taken = list(names)
    for level, cut in enumerate((clusters.groups, clusters.wider), 1):
        if not len(cut):
            break
        inside = [np.flatnonzero(cut == number).tolist() for number in range(int(cut.max()) + 1)]
        counts = [_sum(counts[at] for at in own) for own in inside]
        members = [frozenset().union(*(members[at] for at in own)) for own in inside]
        held = [sorted(number for at in own for number in held[at]) for own in inside]
        given = _titles(counts, held, names, taken, listings)
        taken += given
        known = clustering.keys(members, earlier.groups.get(level, {}), kind=f"group {level}")
        further = clusters.wider if level == 1 and len(clusters.wider) else None
        groups += [
            Group(
                map_id=map_id,
                level=level,
                number=number,
                group_key=known[number],
                size=len(members[number]),
                listings=len(counts[number]),
                clusters=len(held[number]),
                name=given[number],
                parent=None if further is None else int(further[number]),
            )
            for number in range(len(inside))
        ]
    return found, groups


def _titles(
    counts: Sequence[Counter[str]],
    held: Sequence[Sequence[int]],
    names: Sequence[str],
    taken: Sequence[str],
    listings: Mapping[str, Listing],
) -> list[str]:
    """Name groups that hold the clusters `held`, ascending and so by falling size."""
    several = [number for number, own in enumerate(held) if len(own) > 1]
    fresh = naming.names([counts[number] for number in several], listings, taken=taken)
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
