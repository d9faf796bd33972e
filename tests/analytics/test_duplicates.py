"""Near-duplicates: hashes, alignment, groups, the curve; planted copies and degenerate sets."""

import time
from itertools import combinations
from uuid import UUID, uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics import duplicates
from analytics.duplicates import Found, Planted
from analytics.evidence import copies
from analytics.evidence.copies import Pictures
from analytics.neighbours import Graph
from extraction.copies import HOW, altered
from tests import doubles
from tests.naive import graph_of, unit

DISTINCT = 60


@pytest.fixture(scope="module")
def planted() -> tuple[Pictures, NDArray[np.int64], Graph]:
    """60 pictures, four copies of each of the first 20, and a graph as features would give it."""
    rng = np.random.default_rng(5)
    scenes = [doubles.scene(seed) for seed in range(DISTINCT)]
    truth = list(range(DISTINCT))
    images = list(scenes)
    for origin in range(20):
        for how in HOW:
            images.append(altered(scenes[origin], how, rng))
            truth.append(origin)
    own = np.array(truth)
    vectors = unit(rng, DISTINCT, 32)[own] + rng.normal(scale=0.05, size=(len(own), 32))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return doubles.pictures(doubles.figures(images)), own, graph_of(vectors, 12)


def pairs_of(found: Found) -> set[tuple[int, int]]:
    pairs = set()
    for number in range(found.count):
        rows = sorted(found.rows[found.groups == number].tolist())
        pairs |= set(combinations(rows, 2))
    return pairs


def test_planted_copies_are_found_and_nothing_else(
    planted: tuple[Pictures, NDArray[np.int64], Graph],
) -> None:
    pictures, own, graph = planted
    found = duplicates.find(pictures, graph)
    right = {(a, b) for a, b in combinations(range(len(own)), 2) if own[a] == own[b]}
    got = pairs_of(found)
    assert len(got & right) / len(right) >= 0.98
    assert len(got & right) / len(got) >= 0.98
    assert found.count == 20
    assert (np.diff(found.groups) >= 0).all()


def test_hashes_alone_find_all_but_crops(
    planted: tuple[Pictures, NDArray[np.int64], Graph],
) -> None:
    pictures, own, _ = planted
    got = pairs_of(duplicates.find(pictures, None))
    assert all(own[a] == own[b] for a, b in got)
    how = [HOW[(row - DISTINCT) % 4] for row in range(len(own))]
    for row in range(DISTINCT, len(own)):
        if how[row] != "cropped":
            assert (own[row], row) in got


def test_every_member_hangs_on_an_earlier_one(
    planted: tuple[Pictures, NDArray[np.int64], Graph],
) -> None:
    pictures, _, graph = planted
    prefer = np.arange(len(pictures))[::-1].astype(float)
    found = duplicates.find(pictures, graph, prefer=prefer)
    for place, tied in enumerate(found.tied):
        if tied < 0:
            members = found.rows[found.groups == found.groups[place]]
            assert found.rows[place] == members[np.argmax(prefer[members])]
            continue
        assert tied < place
        assert found.groups[tied] == found.groups[place]
        pair = np.array([found.rows[tied]]), np.array([found.rows[place]])
        assert found.alike[place] == pytest.approx(copies.alike(pictures, *pair)[0], abs=1e-6)
        assert found.bits[place] == copies.bits(pictures.hashes[pair[0]], pictures.hashes[pair[1]])


def test_the_curve_is_measured_on_planted_copies(
    planted: tuple[Pictures, NDArray[np.int64], Graph],
) -> None:
    pictures, own, graph = planted
    first, last = (
        Pictures(pictures.hashes[part], pictures.signatures[part], pictures.known[part])
        for part in (slice(DISTINCT), slice(DISTINCT, None))
    )
    near = np.where(graph.rows[DISTINCT:] < DISTINCT, graph.rows[DISTINCT:], 0)
    made = Planted(last, own[DISTINCT:], near, graph.scores[DISTINCT:])
    curve = duplicates.curve(first, made, floor=-1.0)
    at = curve.thresholds.index(curve.chosen)
    assert curve.copies == 80
    assert curve.precision[at] >= 0.99
    assert curve.recall[at] >= 0.98
    assert list(curve.recall) == sorted(curve.recall, reverse=True)
    # A naive count at the chosen threshold.
    likeness = {}
    for row in range(DISTINCT, len(own)):
        for other in range(DISTINCT):
            pair = np.array([other]), np.array([row])
            if (
                other in near[row - DISTINCT]
                or copies.bits(pictures.hashes[pair[0]], pictures.hashes[pair[1]]) <= 6
            ):
                likeness[row, other] = copies.alike(pictures, *pair)[0]
    taken = [key for key, value in likeness.items() if value >= curve.chosen]
    right = [1 for row, other in taken if own[row] == other]
    assert curve.recall[at] == pytest.approx(len(right) / 80)
    assert curve.precision[at] == pytest.approx(len(right) / len(taken))


def test_hash_pairs_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(3)
    base = rng.integers(-(2**63), 2**63 - 1, 300)
    flips = np.array([sum(1 << int(bit) for bit in rng.choice(63, n % 7, replace=False))
                      for n in range(300)], np.int64)  # fmt: skip
    hashes = np.concatenate([base, base ^ flips])
    pictures = Pictures(hashes, np.zeros((600, 2304), np.uint8), np.ones(600, bool))
    found = duplicates.candidates(pictures, None)
    got = set(zip(found.left.tolist(), found.right.tolist(), strict=True))
    wanted = {
        (a, b)
        for a, b in combinations(range(600), 2)
        if ((int(hashes[a]) ^ int(hashes[b])) % 2**64).bit_count() <= 6
    }
    assert wanted <= got
    assert (copies.bits(hashes[found.left], hashes[found.right]) <= duplicates.FAR).all()


def test_a_hundred_thousand_equal_pictures_are_one_group_in_seconds() -> None:
    count = 100_000
    one = doubles.pictures(doubles.figures([doubles.scene(1)]))
    pictures = Pictures(
        np.repeat(one.hashes, count),
        np.broadcast_to(one.signatures, (count, 2304)),
        np.ones(count, bool),
    )
    rows = (np.arange(count)[:, None] + np.arange(1, 16)) % count
    graph = Graph(rows, np.ones(rows.shape, np.float32))
    start = time.process_time()
    found = duplicates.find(pictures, graph)
    assert time.process_time() - start < 30
    assert (found.count, len(found.rows)) == (1, count)
    assert found.candidates <= 16 * count


@pytest.mark.parametrize("count", [0, 1, 2, 15])
@pytest.mark.parametrize("kind", ["identical", "flat", "unknown", "distinct"])
def test_degenerate_collections(count: int, kind: str) -> None:
    if kind == "flat":
        grey = np.repeat(np.arange(count, dtype=np.uint8)[:, None] * 16, 2304, 1)
        pictures = Pictures(np.zeros(count, np.int64), grey, np.ones(count, bool))
    else:
        shown = [doubles.scene(0 if kind == "identical" else seed) for seed in range(count)]
        pictures = doubles.pictures(doubles.figures(shown))
    if kind == "unknown":
        pictures = Pictures(pictures.hashes, pictures.signatures, np.zeros(count, bool))
    k = max(0, min(5, count - 1))
    graph = Graph(np.zeros((count, k), np.int64), np.ones((count, k), np.float32))
    found = duplicates.find(pictures, graph)
    wanted = 1 if kind == "identical" and count > 1 else 0
    assert found.count == wanted
    assert len(found.rows) == (count if wanted else 0)
    none = np.empty((0, 0))
    empty = Planted(
        Pictures(np.empty(0, np.int64), np.empty((0, 2304), np.uint8), np.empty(0, bool)),
        np.empty(0, np.int64),
        none.astype(np.int64),
        none.astype(np.float32),
    )
    assert duplicates.curve(pictures, empty).chosen == duplicates.THRESHOLD


def test_keys_follow_the_members() -> None:
    images = [uuid4() for _ in range(12)]
    groups = np.array([0] * 5 + [1] * 4)
    first = [images[0:5], images[5:9]]
    flat = np.frombuffer(b"".join(image.bytes for image in images[:9]), np.uint8).reshape(-1, 16)
    same = duplicates.keys([image.bytes for image in images[:9]], groups, flat, groups)
    assert same == {0: 0, 1: 1}
    # The smaller group grew and comes first now; the other lost two, a third is new.
    moved = [*first[1], images[9], images[10], *first[0][:3], images[11], uuid4()]
    now = np.array([0] * 6 + [1] * 3 + [2] * 2)
    found = duplicates.keys([image.bytes for image in moved], now, flat, groups)
    assert found == {0: 1, 1: 0}
    assert duplicates.keys([], np.empty(0, np.int64), flat, groups) == {}
    assert duplicates.fresh_key(first[0]) == duplicates.fresh_key(list(reversed(first[0])))
    assert duplicates.digest(first[0]) == duplicates.digest(list(reversed(first[0])))
    assert duplicates.digest(first[0]) != duplicates.digest(first[1])
    assert isinstance(duplicates.fresh_key(first[0]), UUID)
