"""Spanning tree, condensed tree, shares and levels: against naive loops and against hdbscan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hdbscan import HDBSCAN
from hdbscan._hdbscan_tree import (
    compute_stability,
    condense_tree,
    get_clusters,
    outlier_scores,
)
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from analytics import clustering
from analytics.hierarchy import boxes, tree
from analytics.hierarchy.levels import levels
from analytics.hierarchy.soft import NEAR, soft
from analytics.hierarchy.soft import _exemplars as exemplars
from analytics.hierarchy.spanning import spanning
from analytics.hierarchy.tree import Coarse, Condensed, Linkage
from cql.errors import InputError

Points = NDArray[np.float32]


def cloud(kind: str, rows: int, dims: int, seed: int = 1) -> Points:
    rng = np.random.default_rng([seed, rows, dims])
    centres = rng.normal(scale=4, size=(4, dims))
    if kind == "spread":
        found = rng.normal(size=(rows, dims))
    elif kind == "grouped":
        found = centres[rng.integers(0, 4, rows)] + rng.normal(size=(rows, dims))
    elif kind == "apart":
        found = 90.0 * rng.integers(0, 3, (rows, 1)) + rng.normal(size=(rows, dims))
    elif kind == "grid":
        found = rng.integers(0, 4, (rows, dims)).astype(float)
    elif kind == "copies":
        few = max(1, rows // 8)
        found = rng.normal(size=(few, dims))[rng.integers(0, few, rows)]
    elif kind == "identical":
        found = np.ones((rows, dims))
    else:
        found = np.repeat(rng.integers(0, 2, (rows, 1)) * 1.0, dims, axis=1)
    return np.asarray(found, np.float32)


def reach(space: Points, samples: int) -> NDArray[np.float64]:
    """Mutual reachability of all pairs, (N, N)."""
    wide = space.astype(np.float64)
    far = np.sqrt(((wide[:, None] - wide[None]) ** 2).sum(axis=2))
    core = np.sort(far, axis=1)[:, min(samples, len(space) - 1)]
    found: NDArray[np.float64] = np.maximum(far, np.maximum(core[:, None], core[None]))
    return found


def prim(far: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lengths of a minimum spanning tree, ascending, one row after the other."""
    inside, nearest, taken = np.zeros(len(far), bool), far[0].copy(), []
    inside[0] = True
    for _ in range(len(far) - 1):
        row = int(np.argmin(np.where(inside, np.inf, nearest)))
        taken.append(nearest[row])
        inside[row] = True
        nearest = np.minimum(nearest, far[row])
    return np.sort(taken)


KINDS = ["spread", "grouped", "apart", "grid", "copies", "identical", "two places"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rows", "dims"), [(1, 2), (2, 3), (15, 2), (160, 5), (400, 2)])
def test_the_spanning_tree_is_the_shortest(kind: str, rows: int, dims: int) -> None:
    space = cloud(kind, rows, dims)
    for samples in (1, 5):
        found = spanning(space, min_samples=samples)
        assert len(found.length) == rows - 1
        assert sorted(tree.link(found, rows).size.tolist())[-1:] == [rows][: rows - 1]
        wanted = prim(reach(space, samples)) if rows > 1 else np.empty(0)
        assert np.allclose(np.sort(found.length), wanted, atol=1e-6)


@pytest.mark.parametrize("kind", ["grouped", "grid", "copies"])
def test_the_number_of_threads_changes_nothing(kind: str) -> None:
    space = cloud(kind, 3000, 3)
    one, three = (spanning(space, min_samples=5, threads=n) for n in (1, 3))
    for a, b in zip(one, three, strict=True):
        assert np.array_equal(a, b)


def test_neighbours_are_those_of_all_pairs() -> None:
    space = cloud("grouped", 500, 4)
    made = boxes.build(space)
    gaps, near = boxes.nearest(made, 7)
    wide = space[made.order].astype(np.float64)
    far = ((wide[:, None] - wide[None]) ** 2).sum(axis=2)
    np.fill_diagonal(far, np.inf)
    assert np.allclose(gaps, np.sort(far, axis=1)[:, :7], atol=1e-9)
    assert np.allclose(np.take_along_axis(far, near, 1), gaps, atol=1e-9)


def test_a_hundred_thousand_copies_cost_no_more_than_one() -> None:
    space = np.concatenate([np.zeros((100_000, 4), np.float32), cloud("grouped", 200, 4) + 50])
    found = clustering.cluster(space, min_samples=5, min_cluster_size=20)
    assert len(set(found.labels[:100_000].tolist())) == 1
    assert found.labels[0] == 0
    assert found.count >= 2
    assert np.isfinite(found.glosh).all()
    assert np.isfinite(found.membership).all()
    assert np.isfinite(found.soft_shares).all()


def grown(kind: str, rows: int, dims: int, samples: int = 5, seed: int = 1) -> Linkage:
    return clustering.grow(cloud(kind, rows, dims, seed), min_samples=samples)


def cut(linkage: Linkage, size: int) -> tuple[Condensed, NDArray[np.int64], NDArray[np.int64]]:
    """Condensed tree, the chosen cluster of each of its clusters, and of each row."""
    found = tree.condense(linkage, size)
    inside = tree.above(found, tree.heaviest(found))
    return found, inside, inside[found.owner]


def alike(one: Any, other: Any) -> bool:
    """Whether two labellings are the same but for the numbers."""
    pairs = set(zip(list(one), list(other), strict=True))
    return len(pairs) == len(set(one)) == len(set(other))


@pytest.mark.parametrize("kind", ["spread", "grouped", "apart"])
@pytest.mark.parametrize("size", [2, 5, 13, 40, 300])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_condensed_trees_labels_and_scores_are_those_of_hdbscan(
    kind: str, size: int, seed: int
) -> None:
    linkage = grown(kind, 500, 3, seed=seed)
    found, _, own = cut(linkage, size)
    merges = np.column_stack([linkage.left, linkage.right, linkage.distance, linkage.size])
    theirs = condense_tree(merges.astype(np.float64), size)
    stability = compute_stability(theirs)
    assert len(stability) == len(found.mass)
    assert np.allclose(sorted(stability.values()), np.sort(found.mass))
    labels, sure, _ = get_clusters(theirs, stability, "eom", False, False, 0.0, 0, np.inf)
    assert alike(labels, own)
    assert np.allclose(sure, tree.membership(found, own))
    assert np.allclose(outlier_scores(theirs), tree.glosh(found))


@pytest.mark.parametrize("kind", ["grouped", "apart"])
def test_clusters_are_as_good_as_those_of_hdbscan(kind: str) -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 6, 1500)
    space = (rng.normal(scale=5, size=(6, 10))[truth] + rng.normal(size=(1500, 10))).astype("f4")
    if kind == "apart":
        space[truth > 2] += 100
    ours = clustering.cluster(space, min_samples=5, min_cluster_size=20)
    theirs = HDBSCAN(
        min_cluster_size=20, min_samples=5, approx_min_span_tree=False, core_dist_n_jobs=1
    ).fit(space.astype(np.float64))
    mine = adjusted_rand_score(truth, ours.labels)
    assert mine >= adjusted_rand_score(truth, theirs.labels_) - 1e-9
    assert adjusted_rand_score(theirs.labels_, ours.labels) > 0.99


@pytest.mark.parametrize("kind", KINDS)
def test_a_coarser_tree_is_what_condensing_gives(kind: str) -> None:
    linkage = grown(kind, 400, 2)
    coarse = Coarse.of(linkage)
    for size in (2, 3, 4, 7, 20, 60, 100, 500):
        clusters, noise, mass, label = coarse.at(size)
        full, inside, own = cut(linkage, size)
        chosen = inside == np.arange(len(inside))
        assert clusters == chosen.sum()
        assert noise == (own < 0).mean()
        assert mass == pytest.approx(full.mass[chosen].sum() / 400)
        assert alike(label[coarse.tree.owner], own)


def test_the_curve_shows_the_cliff() -> None:
    rng = np.random.default_rng(5)
    # Three groups of 100, each of four of 25: above 25 the four become one.
    centres = np.repeat(rng.normal(scale=400, size=(3, 3)), 4, axis=0)
    centres += rng.normal(scale=30, size=(12, 3))
    space = (np.repeat(centres, 25, axis=0) + rng.normal(size=(300, 3))).astype(np.float32)
    coarse = Coarse.of(clustering.grow(space, min_samples=5))
    found = tree.curve(coarse, np.array([10, 20, 24, 26, 40, 60]))
    assert found.clusters.tolist() == [12, 12, 12, 3, 3, 3]
    assert found.same[2] < 0.5
    assert np.delete(found.same, 2).min() > 0.95
    for at in range(5):
        labels = [coarse.at(int(size))[3][coarse.tree.owner] for size in found.sizes[at : at + 2]]
        assert found.same[at] == pytest.approx(adjusted_rand_score(*labels))


def test_sizes_of_the_curve_suit_the_number_of_rows() -> None:
    for rows in (0, 1, 3, 15, 1000, 10**6):
        sizes = tree.sizes(rows)
        assert sizes[0] == 2
        assert len(sizes) <= 40
        assert sizes[-1] == max(2, rows // 4)
        assert (np.diff(sizes) > 0).all()


@pytest.mark.parametrize("rows", [0, 1, 2, 15])
@pytest.mark.parametrize("kind", ["spread", "identical", "two places"])
@pytest.mark.parametrize("size", [None, 2, 50])
def test_hardly_any_rows_are_clustered(rows: int, kind: str, size: int | None) -> None:
    space = cloud(kind, rows, 3) if rows else np.empty((0, 3), np.float32)
    found = clustering.cluster(space, min_samples=5, min_cluster_size=size)
    assert found.labels.shape == (rows,)
    for values in (found.membership, found.glosh, found.soft_shares):
        assert np.isfinite(values).all()
        assert ((values >= 0) & (values <= 1)).all()
    if rows > 1 and (kind == "identical" or size == 50):
        assert set(found.labels.tolist()) == {0}
    if rows == 1:
        assert found.labels.tolist() == [-1]


def test_a_space_that_is_not_finite_is_refused() -> None:
    space = cloud("spread", 30, 2)
    space[3, 1] = np.nan
    with pytest.raises(InputError, match="must be finite"):
        clustering.grow(space, min_samples=5)


def naive_soft(
    space: Points, found: Condensed, chosen: list[int], inside: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Shares of all clusters by walking the tree, float64 (N, K)."""

    def path(node: int) -> list[int]:
        return [] if node < 0 else [node, *path(int(found.parent[node]))]

    leaves = set(range(len(found.parent))) - set(found.parent.tolist())
    held: dict[int, list[int]] = {own: [] for own in chosen}
    for row, own in enumerate(found.owner.tolist()):
        if own in leaves and inside[own] >= 0 and found.level[row] >= found.death[own]:
            held[int(inside[own])].append(row)
    shares = np.zeros((len(space), len(chosen)))
    wide = space.astype(np.float64)
    for row in range(len(space)):
        own = int(found.owner[row])
        heights, gaps = np.zeros(len(chosen)), np.zeros(len(chosen))
        for at, other in enumerate(chosen):
            mine, theirs = path(own), path(other)
            if own in theirs or other in mine:
                heights[at] = found.level[row]
            else:
                heights[at] = found.birth[next(n for n in mine if found.parent[n] in theirs)]
            gap = min(np.sqrt(((wide[row] - wide[each]) ** 2).sum()) for each in held[other])
            grip = np.exp(-found.death[own] / heights[at]) if heights[at] > 0 else 0.0
            shares[row, at] = grip / (gap + 1e-9)
            # Of equal heights the row's own cluster counts first, then the nearest.
            gaps[at] = -1.0 if other == inside[own] else gap
        best = int(np.lexsort((gaps, -heights))[0])
        ceiling = max(found.death[chosen[best]], found.level[row])
        shares[row] *= heights[best] / ceiling / shares[row].sum() if shares[row].any() else 0.0
    return shares


def test_shares_are_those_of_the_naive_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analytics.hierarchy.soft.EXEMPLARS", 1000)
    space = cloud("grouped", 300, 2, seed=4)
    found, inside, own = cut(clustering.grow(space, min_samples=5), 12)
    chosen = np.unique(own[own >= 0])
    assert 3 <= len(chosen) <= NEAR
    shared = soft(space, found, chosen, inside)
    naive = naive_soft(space, found, chosen.tolist(), inside)
    order = np.argsort(-naive, axis=1, kind="stable")[:, :3]
    wanted = np.take_along_axis(naive, order, 1)
    assert np.allclose(shared.shares, np.where(wanted >= 0.005, wanted, 0), atol=1e-5)
    known = shared.clusters >= 0
    assert (shared.clusters[known] == order[known]).mean() > 0.99  # but for ties
    assert (shared.shares.sum(axis=1) <= 1 + 1e-6).all()
    members = own >= 0
    assert (chosen[shared.clusters[members, 0]] == own[members]).mean() > 0.95
    one, three = (soft(space, found, chosen, inside, threads=n) for n in (1, 3))
    assert np.array_equal(one.shares, three.shares)


def test_a_few_exemplars_stand_for_many() -> None:
    space = cloud("grouped", 2000, 2, seed=4)
    found, inside, own = cut(clustering.grow(space, min_samples=5), 60)
    chosen = np.unique(own[own >= 0])[::-1].copy()
    rows, start = exemplars(found, chosen, inside)
    assert start.tolist() == [8 * at for at in range(len(chosen) + 1)]
    assert len(set(rows.tolist())) == len(rows)
    assert own[rows].tolist() == np.repeat(chosen, 8).tolist()


def test_planted_levels_are_found() -> None:
    rng = np.random.default_rng(8)
    # Two halves 100,000 apart, of two groups 3,000 apart, of three clusters 100 apart.
    half, group, corner = np.unravel_index(np.arange(12), (2, 2, 3))
    triangle = np.array([[0, 0], [100, 0], [50, 87]])
    centres = triangle[corner] + np.column_stack([100_000 * half, 3000 * group])
    truth = np.repeat(np.arange(12), 40)
    space = (centres[truth] + rng.normal(size=(480, 2))).astype(np.float32)
    found = clustering.cluster(space, min_samples=5, min_cluster_size=15)
    assert found.count == 12
    own = np.array([truth[np.flatnonzero(found.labels == n)[0]] for n in range(12)])
    assert alike(found.groups, own // 3)
    # The root, which joins the halves, is no group.
    assert len(found.wider) == 4
    halves = {int(found.groups[n]): int(own[n]) // 6 for n in range(12)}
    assert alike(found.wider, [halves[n] for n in range(4)])


def test_levels_hold_every_cluster_once_and_never_the_root() -> None:
    found, _, own = cut(grown("grouped", 900, 2, samples=2), 5)
    chosen = np.unique(own[own >= 0])
    below = chosen
    for level in levels(found, chosen):
        assert len(level.group) == len(below)
        assert set(level.group.tolist()) == set(range(len(level.node)))
        assert 0 not in level.node
        assert len(level.node) < len(below)
        for own_node, number in zip(below.tolist(), level.group.tolist(), strict=True):
            above = own_node
            while above != level.node[number]:
                above = int(found.parent[above])
                assert above > 0
        below = level.node
    assert levels(found, np.empty(0, np.int64)) == ()


def test_groups_are_numbered_by_size() -> None:
    rng = np.random.default_rng(2)
    centres = np.array([[0, 0], [8, 0], [500, 0], [508, 0], [504, 8]], float)
    sizes = [90, 80, 70, 60, 50]
    space = np.concatenate(
        [rng.normal(size=(n, 2)) + c for n, c in zip(sizes, centres, strict=True)]
    )
    found = clustering.cluster(space.astype("f4"), min_samples=5, min_cluster_size=25)
    assert found.count == 5
    assert found.groups.tolist() == [1, 1, 0, 0, 0]
    assert found.wider.tolist() == []
