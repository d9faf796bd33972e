"""What changed between two maps, against planted changes and naive loops."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid5

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics import drift
from analytics.drift import Change, Side, compare
from cql.records import NAMESPACE
from tests.naive import unit

KEYS = [uuid5(NAMESPACE, f"key {number}") for number in range(9)]


def images(names: list[int]) -> NDArray[np.uint8]:
    raw = b"".join(uuid5(NAMESPACE, str(name)).bytes for name in names)
    return np.frombuffer(raw, np.uint8).reshape(-1, 16)


def side(names: list[int], labels: list[int], keys: list[UUID], seed: int = 1) -> Side:
    return Side(
        images=images(names),
        labels=np.array(labels, np.int32),
        scores=np.random.default_rng(seed).permutation(len(names)).astype(np.float32) + 1,
        keys=keys,
        names=[f"name {KEYS.index(key)}" for key in keys],
    )


def of(found: drift.Comparison) -> dict[UUID, Change]:
    return {each.key: each for each in found.clusters}


def test_clusters_come_go_grow_and_shrink() -> None:
    before = side([*range(12)], [0] * 4 + [1] * 4 + [2] * 3 + [-1], KEYS[:3])
    # 0 loses image 0 to nothing and gains 12, 13; 1 is gone; 3 is new: 4, 5 of it and two new ones.
    names = [0, 1, 2, 3, 12, 13, 4, 5, 14, 15, 8, 9, 11]
    after = side(names, [-1, 0, 0, 0, 0, 0, 2, 2, 2, 2, 1, 1, 1], [KEYS[0], KEYS[2], KEYS[3]])
    found = compare(before, after)
    assert (found.rows_before, found.rows_after, found.added, found.removed) == (12, 13, 4, 3)
    assert [each.kind for each in found.clusters] == ["new", "vanished", "kept", "kept"]
    new, gone = of(found)[KEYS[3]], of(found)[KEYS[1]]
    assert (new.after, new.joined, new.added) == (4, 4, 2)
    assert [(part.name, part.images) for part in new.parts] == [
        ("Not in the collection", 2), ("name 1", 2),
    ]  # fmt: skip
    assert (gone.before, gone.left, gone.removed) == (4, 4, 2)
    assert [(part.key, part.images) for part in gone.parts] == [(None, 2), (KEYS[3], 2)]
    grown, other = of(found)[KEYS[0]], of(found)[KEYS[2]]
    assert (grown.before, grown.after, grown.joined, grown.added) == (4, 5, 2, 2)
    assert (grown.left, grown.removed) == (1, 0)
    assert (other.before, other.after, other.joined, other.left, other.removed) == (3, 3, 1, 1, 1)
    assert all(each.p is None and each.shift is None for each in found.clusters)


def test_counts_equal_a_naive_loop() -> None:
    rng = np.random.default_rng(3)
    one, two = rng.permutation(300)[:200].tolist(), rng.permutation(300)[:220].tolist()
    labels = rng.integers(-1, 5, 200).tolist(), rng.integers(-1, 6, 220).tolist()
    keys = KEYS[:5], [KEYS[1], KEYS[0], KEYS[6], KEYS[3], KEYS[7], KEYS[2]]
    found = compare(side(one, labels[0], keys[0]), side(two, labels[1], keys[1], seed=2))
    held = dict(zip(one, labels[0], strict=True))
    now = dict(zip(two, labels[1], strict=True))
    assert found.added == len(set(two) - set(one))
    assert found.removed == len(set(one) - set(two))
    for each in found.clusters:
        then = {n for n in one if held[n] >= 0 and keys[0][held[n]] == each.key}
        mine = {n for n in two if now[n] >= 0 and keys[1][now[n]] == each.key}
        assert (each.before, each.after) == (len(then), len(mine))
        assert (each.joined, each.left) == (len(mine - then), len(then - mine))
        assert each.added == len(mine - set(one))
        assert each.removed == len(then - set(two))
        assert sum(part.images for part in each.parts) in {0, each.before or each.after}


def test_images_that_became_outliers() -> None:
    before = side([*range(300)], [0] * 300, KEYS[:1])
    after = side([*range(100, 450)], [0] * 350, KEYS[:1])
    scores = np.zeros(350, np.float32)
    scores[[0, 7, 300, 301]] = [9, 8, 7, 6]  # images 100, 107, 400, 401
    old = np.zeros(300, np.float32)
    old[[100, 5, 6]] = [3, 2, 1]
    found = compare(replace(before, scores=old), replace(after, scores=scores))
    assert found.outliers.tolist() == [7, 300, 301]
    assert found.scores_before[0] == 0
    assert np.isnan(found.scores_before[1:]).all()


def cloud(
    rng: np.random.Generator, count: int, spread: float, centre: int = 0
) -> NDArray[np.float32]:
    middle = unit(np.random.default_rng(centre), 1, 16)
    rows = middle + rng.normal(scale=spread, size=(count, 16))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize("moved", [False, True])
def test_drift_is_found_where_it_was_planted_alone(moved: bool) -> None:
    rng = np.random.default_rng(4)
    vectors = np.concatenate(
        [cloud(rng, 120, 0.1), cloud(rng, 60, 0.1, 0 if not moved else 5), cloud(rng, 90, 0.1, 7)]
    )
    names = [*range(270)]
    before = side([*range(120), *range(180, 230)], [0] * 120 + [1] * 50, KEYS[:2])
    after = side(names, [0] * 180 + [1] * 90, KEYS[:2])
    means = {0: vectors[:120].mean(0), 1: vectors[180:230].mean(0)}, {
        0: vectors[:180].mean(0), 1: vectors[180:].mean(0),
    }  # fmt: skip
    found = of(
        compare(
            replace(before, means=means[0]),
            replace(after, means=means[1]),
            vectors=vectors,
            owners=np.arange(270),
        )
    )
    one, other = found[KEYS[0]], found[KEYS[1]]
    assert one.drifted is moved
    assert not other.drifted
    assert one.p is not None
    assert one.q is not None
    assert one.shift is not None
    assert (one.p < 0.01) is moved
    assert (one.shift > 0.1) is moved
    assert one.q >= one.p


def test_photos_of_one_listing_are_one_draw() -> None:
    rng = np.random.default_rng(4)
    vectors = np.concatenate([cloud(rng, 60, 0.1), cloud(rng, 40, 0.01, 5)])
    before, after = side([*range(60)], [0] * 60, KEYS[:1]), side([*range(100)], [0] * 100, KEYS[:1])
    owners = np.r_[np.arange(60), np.full(40, 60)]
    (alone,) = compare(before, after, vectors=vectors, owners=owners).clusters
    assert alone.p is None  # forty photos of one new listing: nothing to test
    owners = np.r_[np.arange(60), np.arange(40)]
    (known,) = compare(before, after, vectors=vectors, owners=owners).clusters
    assert known.p is None  # more photos of listings that were there


def test_rows_whose_vectors_are_gone_are_left_out() -> None:
    rng = np.random.default_rng(4)
    vectors = np.concatenate([cloud(rng, 60, 0.1), cloud(rng, 20, 0.1, 5)])
    before, after = side([*range(60)], [0] * 60, KEYS[:1]), side([*range(80)], [0] * 80, KEYS[:1])
    vectors[[3, 70]] = np.nan
    (some,) = compare(before, after, vectors=vectors, owners=np.arange(80)).clusters
    assert some.energy is not None
    left = [n for n in range(80) if n not in {3, 70}]
    wanted = drift.energy(vectors[left[59:]], vectors[left[:59]], [1]).value
    assert some.energy == pytest.approx(wanted)
    vectors[61:] = np.nan
    (few,) = compare(before, after, vectors=vectors, owners=np.arange(80)).clusters
    assert few.energy is None


def test_p_values_are_uniform_without_drift() -> None:
    rng = np.random.default_rng(9)
    found = [
        drift.energy(rng.normal(size=(12, 3)), rng.normal(size=(15, 3)), [n]).p for n in range(200)
    ]
    assert 0.02 <= np.mean(np.array(found) <= 0.05) <= 0.09 or np.mean(found) > 0.4
    assert 0.4 < np.mean(found) < 0.6


def test_energy_equals_a_naive_loop() -> None:
    rng = np.random.default_rng(2)
    left, right = rng.normal(size=(7, 3)), rng.normal(size=(9, 3)) + 1

    def mean(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
        return float(np.mean([[np.linalg.norm(a - b) for b in two] for a in one]))

    wanted = 2 * mean(left, right) - mean(left, left) - mean(right, right)
    found = drift.energy(left, right, [1])
    assert found.value == pytest.approx(wanted)
    assert found == drift.energy(left, right, [1])
    same = np.ones((5, 3))
    assert drift.energy(same, same[:3], [1]) == drift.Energy(0.0, 1.0)


def test_q_follows_benjamini_and_hochberg() -> None:
    from scipy.stats import false_discovery_control

    base = compare(side([1], [0], KEYS[:1]), side([1], [0], KEYS[:1])).clusters[0]
    values = [0.04, 0.001, 0.5, 0.03, 0.9]
    found = drift._corrected([replace(base, p=value) for value in values] + [base])
    assert [each.q for each in found[:-1]] == pytest.approx(false_discovery_control(values))
    assert found[-1].q is None


def test_the_same_map_has_no_changes() -> None:
    rng = np.random.default_rng(1)
    one = side([*range(50)], rng.integers(0, 3, 50).tolist(), KEYS[:3])
    found = compare(one, one, vectors=cloud(rng, 50, 0.1), owners=np.arange(50))
    assert (found.added, found.removed, len(found.outliers)) == (0, 0, 0)
    assert all(
        (each.kind, each.joined, each.left, each.p) == ("kept", 0, 0, None)
        for each in found.clusters
    )


@pytest.mark.parametrize(("one", "two"), [(0, 0), (0, 5), (5, 0), (5, 5)])
def test_disjoint_and_empty_collections(one: int, two: int) -> None:
    before = side([*range(one)], [0] * one, KEYS[:1] if one else [])
    after = side([*range(100, 100 + two)], [0] * two, KEYS[1:2] if two else [])
    vectors = cloud(np.random.default_rng(1), two, 0.1)
    found = compare(before, after, vectors=vectors, owners=np.arange(two))
    assert (found.added, found.removed) == (two, one)
    assert [each.kind for each in found.clusters] == ["new"] * (two > 0) + ["vanished"] * (one > 0)
    assert len(found.outliers) == (two > 0)


def test_one_image_and_all_in_no_cluster() -> None:
    before, after = side([1], [-1], []), side([1, 2], [-1, -1], [])
    found = compare(before, after)
    assert found.clusters == ()
    assert (found.added, found.removed) == (1, 0)
