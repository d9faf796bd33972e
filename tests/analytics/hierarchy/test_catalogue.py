"""Clusters and groups as rows: counted, named, and with keys that later maps carry on."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from analytics.clustering import Clusters
from analytics.hierarchy.catalogue import Earlier, catalogue
from cql.records import NAMESPACE, Cluster, Group, Listing

MAP = uuid5(NAMESPACE, "map of groups")
KINDS = ("Gas main", "Gas valve", "Water main", "Water valve", "Cable")


def listing(number: int, title: str = "") -> Listing:
    kind = KINDS[number]
    network = "Water" if kind.startswith("Water") else "Gas"
    return Listing(listing_id=kind, title=title or kind, attributes={"network": network})


def ids(count: int) -> NDArray[np.uint8]:
    every = b"".join(uuid5(NAMESPACE, f"image {row}").bytes for row in range(count))
    return np.frombuffer(every, np.uint8).reshape(-1, 16)


def described(
    labels: list[int], groups: list[int], wider: list[int], earlier: Earlier, **given: Any
) -> tuple[list[Cluster], list[Group]]:
    count = len(labels)
    found = Clusters(
        np.array(labels, np.int64),
        np.ones(count),
        np.zeros(count),
        groups=np.array(groups, np.int64),
        wider=np.array(wider, np.int64),
    )
    texts = given.get("texts") or {kind: listing(n) for n, kind in enumerate(KINDS)}
    return catalogue(
        given.get("map_id", MAP),
        found,
        images=ids(count),
        owners=[KINDS[max(label, 0)] for label in labels],
        placed=np.zeros((count, 2), np.float32),
        space=np.zeros((count, 2), np.float32),
        listings=texts,
        earlier=earlier,
    )


LABELS = [0] * 9 + [1] * 8 + [2] * 7 + [3] * 6 + [4] * 5 + [-1] * 3


def test_groups_count_and_are_named_unlike_their_clusters() -> None:
    clusters, groups = described(LABELS, [0, 0, 1, 1, 2], [0, 0, 1], Earlier())
    assert [cluster.family for cluster in clusters] == [0, 0, 1, 1, 2]
    first, second = groups[:3], groups[3:]
    assert [(g.level, g.number, g.size, g.clusters, g.listings) for g in first] == [
        (1, 0, 17, 2, 2), (1, 1, 13, 2, 2), (1, 2, 5, 1, 1),
    ]  # fmt: skip
    assert [(g.level, g.size, g.clusters, g.parent) for g in second] == [
        (2, 30, 4, None), (2, 5, 1, None),
    ]  # fmt: skip
    assert [group.parent for group in first] == [0, 0, 1]
    names = [cluster.name for cluster in clusters]
    assert first[0].name.startswith("Gas")
    assert first[1].name.startswith("Water")
    assert len({*names, *(group.name for group in groups if group.clusters > 1)}) == 8
    # A group of one cluster is that cluster.
    assert first[2].name == second[1].name == names[4]
    assert first[2].group_key != clusters[4].cluster_key


def test_groups_whose_text_says_no_more_are_called_by_their_largest_cluster() -> None:
    same = {kind: listing(n, "Trench") for n, kind in enumerate(KINDS)}
    same = {k: Listing(listing_id=k, title="Trench") for k in same}
    clusters, groups = described(LABELS, [0, 0, 1, 1, 1], [], Earlier(), texts=same)
    assert clusters[0].name == "Trench"
    assert [g.name for g in groups] == ["Trench and 1 more", "Trench (3) and 2 more"]


def test_keys_of_groups_are_carried_on() -> None:
    clusters, groups = described(LABELS, [0, 0, 1, 1, 2], [0, 0, 1], Earlier())
    rows = np.arange(len(LABELS))
    earlier = Earlier.found(clusters, groups, np.array(LABELS), rows)
    sizes = [{size for _, size in keys} for keys in earlier.keys]
    assert sizes == [{9, 8, 7, 6, 5}, {17, 13, 5}, {30, 5}]
    # Water leads now, one image left, and the numbers turned: keys follow the images.
    moved = [3 if label < 0 else (2, 3, 0, 1, 4)[label] for label in LABELS]
    after, again = described(moved, [0, 0, 1, 1, 2], [0, 0, 1], earlier, map_id=UUID(int=1))
    assert after[0].cluster_key == clusters[2].cluster_key
    assert [g.group_key for g in again[:3]] == [groups[n].group_key for n in (1, 0, 2)]
    assert [g.group_key for g in again[3:]] == [g.group_key for g in groups[3:]]


def test_images_that_are_new_were_nowhere() -> None:
    clusters, groups = described(LABELS, [0, 0, 1, 1, 2], [0, 0, 1], Earlier())
    rows = np.array([3, -1, len(LABELS) - 1, 20])
    earlier = Earlier.found(clusters, groups, np.array(LABELS), rows)
    assert [own.tolist() for own in earlier.was] == [[0, -1, -1, 2], [0, -1, -1, 1], [0, -1, -1, 0]]


def test_no_clusters_have_no_rows() -> None:
    assert described([-1, -1], [], [], Earlier()) == ([], [])
    assert described([], [], [], Earlier()) == ([], [])
