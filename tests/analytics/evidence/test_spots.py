"""Spots: a naive loop, what is compared with what, degenerate collections, and the words."""

import math
from collections.abc import Sequence
from uuid import UUID, uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics import outliers
from analytics.clustering import Clusters
from analytics.evidence import patches, spots
from analytics.evidence.patches import Patches
from analytics.evidence.reasons import evidence as told
from analytics.evidence.reasons import reasons, restated, where
from analytics.neighbours import Collection, Graph
from cql import codec
from cql.records import Outlier
from cql.records import Patches as Row
from tests.analytics.conftest import Memory

SIDE, WIDTH = 3, 5
GRID = 6


def made(count: int, *, seed: int = 1, width: int = WIDTH) -> Patches:
    rng = np.random.default_rng(seed)
    return Patches(
        rng.integers(-127, 128, (count, SIDE * SIDE, width), np.int8),
        rng.uniform(0.5, 2.0, count).astype(np.float32),
        np.ones(count, bool),
        SIDE,
    )


def whitened(values: NDArray[np.float64], groups: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Features in which what is left between nearest regions of two photos is equally wide."""
    left = []
    for group in groups:
        for at, row in enumerate(group):
            other = values[group[(at + 1) % len(group)]]
            for one in values[row]:
                gaps = [float(np.sum((one - two) ** 2)) for two in other]
                left.append(one - other[int(np.argmin(gaps))])
    variances, directions = np.linalg.eigh(np.mean([np.outer(each, each) for each in left], axis=0))
    variances = np.maximum(variances, 1e-3 * variances[-1])
    found: NDArray[np.float64] = values @ (directions / np.sqrt(values.shape[2] * variances))
    return found


def naive(
    parts: Patches, owners: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The evidence of every image, and how unusual each of its regions is, (N, R)."""
    values = parts.codes.astype(np.float64) * parts.scales[:, None, None]
    groups = [
        [row for row in range(len(owners)) if owners[row] == owner and parts.known[row]]
        for owner in sorted(set(owners.tolist()))
    ]
    groups = [group for group in groups if len(group) > 1]
    values = whitened(values, groups)
    ratios = {}
    for group in groups:
        for row in group:
            far = np.array([
                min(np.linalg.norm(one - two) for b in group if b != row for two in values[b])
                for one in values[row]
            ]).reshape(SIDE, SIDE)  # fmt: skip
            held = np.pad(far, 1, mode="edge")
            for y, x in np.ndindex(SIDE, SIDE):
                mean = held[y : y + 3, x : x + 3].mean()
                ratios[row, y, x] = math.log((mean + 0.1) / (np.median(far) + 0.1))
    unusual = np.full((len(owners), SIDE * SIDE), np.nan)
    for (row, y, x), ratio in ratios.items():
        place = (min(y, SIDE - 1 - y), min(x, SIDE - 1 - x))
        same = [
            value for (_, v, u), value in ratios.items()
            if (min(v, SIDE - 1 - v), min(u, SIDE - 1 - u)) == place
        ]  # fmt: skip
        middle, most = np.quantile(same, [0.5, 0.95])
        unusual[row, SIDE * y + x] = (ratio - middle) / (most - middle)
    return unusual.max(axis=1), unusual


def check(found: spots.Spots, parts: Patches, owners: NDArray[np.int64]) -> None:
    evidence, unusual = naive(parts, owners)
    np.testing.assert_allclose(found.evidence, evidence, atol=0.02)
    some = np.flatnonzero(found.region >= 0)
    assert some.tolist() == np.flatnonzero(~np.isnan(evidence)).tolist()
    # Halves are kept of the ratios: of two regions as strange either may be named.
    assert (unusual[some, found.region[some]] >= evidence[some] - 0.02).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_evidence_equals_a_naive_loop(threads: int) -> None:
    owners = np.random.default_rng(2).integers(0, 9, 40)
    owners[7] = 99  # alone in its listing
    parts = made(40)
    parts.known[[3, 11]] = False
    found = spots.find(parts, owners, threads=threads)
    check(found, parts, owners)
    assert np.isnan(found.evidence[[3, 7, 11]]).all()
    assert found.side == SIDE
    alone = spots.find(parts, owners, threads=1)
    np.testing.assert_array_equal(found.evidence, alone.evidence)
    np.testing.assert_array_equal(found.region, alone.region)


def test_a_large_listing_is_compared_within_parts() -> None:
    parts, owners = made(11), np.zeros(11, np.int64)
    found = spots.find(parts, owners, most=4)
    # 11 photos in parts of at most 4: 4, 4 and 3.
    check(found, parts, np.repeat([0, 1, 2], [4, 4, 3]))


@pytest.mark.parametrize("count", [0, 1, 2, 9])
@pytest.mark.parametrize("kind", ["spread", "identical", "none known", "no patches", "no siblings"])
def test_degenerate_collections(count: int, kind: str) -> None:
    parts, owners = made(count), np.zeros(count, np.int64)
    if kind == "identical":
        parts = Patches(np.repeat(made(1).codes, count, 0), np.ones(count, np.float32),
                        parts.known, SIDE)  # fmt: skip
    elif kind == "none known":
        parts.known[:] = False
    elif kind == "no patches":
        parts = patches.nothing(count)
    elif kind == "no siblings":
        owners = np.arange(count)
    found = spots.find(parts, owners)
    assert found.evidence.shape == found.region.shape == (count,)
    if count > 1 and kind in {"spread", "identical"}:
        assert np.isfinite(found.evidence).all()
        assert ((found.region >= 0) & (found.region < SIDE * SIDE)).all()
    else:
        assert np.isnan(found.evidence).all()
        assert (found.region == -1).all()
    if kind == "identical" and count > 1:
        assert not found.evidence.any()
    # The score takes it as it is.
    odd = scored(count, owners, found)
    assert ((odd.score > 0) & (odd.score <= 1)).all()
    assert len(list(reasons(odd, none(count), np.full(count, -1), []))) == count


def none(count: int) -> Clusters:
    return Clusters(np.full(count, -1), np.zeros(count), np.zeros(count))


def scored(count: int, owners: NDArray[np.int64], found: spots.Spots | None) -> outliers.Outliers:
    """Outliers of rows that are all equally far from one another."""
    k = max(0, min(5, count - 1))
    rows = (np.arange(count)[:, None] + np.arange(1, k + 1)) % max(count, 1)
    graph = Graph(rows, np.full((count, k), 0.5, np.float32))
    return outliers.score(graph, none(count), owners=owners, spots=found)


def planted() -> tuple[Patches, NDArray[np.int64]]:
    """120 photos of 30 listings; the photo 40 shows something in its last region."""
    rng = np.random.default_rng(5)
    owners = np.arange(120) // 4
    scene = rng.normal(scale=30, size=(30, GRID * GRID, WIDTH))
    values = scene[owners] + rng.normal(scale=2, size=(120, GRID * GRID, WIDTH))
    values[40, GRID * GRID - 1] += 60
    scales = np.abs(values).max(axis=(1, 2)) / 127
    codes = np.rint(values / scales[:, None, None]).astype(np.int8)
    return Patches(codes, scales.astype(np.float32), np.ones(120, bool), GRID), owners


def test_a_small_thing_on_one_photo_leads_the_ranking_and_says_where_it_is() -> None:
    parts, owners = planted()
    found = spots.find(parts, owners)
    assert int(np.argmax(found.evidence)) == 40
    # The means of a region and those around it are compared: it is named, or one beside it.
    assert all(place >= GRID - 2 for place in divmod(int(found.region[40]), GRID))
    odd = scored(120, owners, found)
    assert int(np.argmax(odd.score)) == 40
    assert outliers.KINDS[odd.kinds[40]] == "rare"
    assert '"region"' in told(odd, 40)
    text = list(reasons(odd, none(120), np.full(120, -1), []))[40]
    said = (
        "something in its lower right is less like the other photos of its listing than in 99.1 %"
    )
    assert said in text
    # Another size of clusters says the same of it.
    row = Outlier(
        map_id=uuid4(), score=1.0, image_id=uuid4(), listing_id="", knn_distance=0.0, glosh=0.0,
        cluster=-1, reason=text, kind="rare",
    )  # fmt: skip
    assert next(restated([row], none(1), np.array([-1]), [])) == text


def test_an_image_with_nothing_to_compare_is_no_less_strange_for_it() -> None:
    parts, owners = planted()
    owners = owners.copy()
    owners[:4] = 900 + np.arange(4)
    with_spots = scored(120, owners, spots.find(parts, owners))
    without = scored(120, owners, None)
    np.testing.assert_array_equal(with_spots.chance[:4], without.chance[:4])
    assert with_spots.chance[40] < without.chance[40]


@pytest.mark.parametrize(
    ("region", "side", "words"),
    [
        (0, 6, "upper left"),
        (5, 6, "upper right"),
        (2, 6, "upper part"),
        (14, 6, "centre"),
        (12, 6, "left"),
        (23, 6, "right"),
        (33, 6, "lower part"),
        (35, 6, "lower right"),
        (0, 1, "upper left"),
        (4, 3, "centre"),
    ],
)
def test_places_in_words(region: int, side: int, words: str) -> None:
    assert where(region, side) == words


def test_patches_are_read_in_the_order_of_the_rows() -> None:
    store, count = Memory(), 5
    images = [uuid4() for _ in range(count)]
    rng = np.random.default_rng(3)
    coded = rng.integers(-127, 128, (count, 4, 3), np.int8)

    def row(image: UUID, codes: NDArray[np.int8], **changes: object) -> Row:
        data = codes.tobytes()
        fields = {
            "listing_id": "l", "model_id": "m", "image_id": image, "codes": data, "scale": 0.25,
            "side": 2, "dim": 3, "crc32c": codec.crc32c(data),
        }  # fmt: skip
        return Row(**{**fields, **changes})  # type: ignore[arg-type]

    rows = [row(images[n], coded[n], scale=0.25 + n) for n in (3, 0, 4)]
    # Not of this snapshot, of another shape, and of another model.
    rows += [row(uuid4(), coded[0]), row(images[1], coded[1], side=1, dim=12)]
    store.put_patches(rows)
    store.put_patches([row(images[2], coded[2], model_id="other")])
    ids = np.frombuffer(b"".join(each.bytes for each in images), np.uint8).reshape(-1, 16)
    given = Collection(np.zeros((count, 2), np.float32), ids, ["l"] * count, np.arange(count))
    found = patches.read(store, given, "m", shape=(2, 3))  # type: ignore[arg-type]
    assert found.known.tolist() == [True, False, False, True, True]
    assert found.side == 2
    for n in (0, 3, 4):
        np.testing.assert_array_equal(found.codes[n], coded[n])
        np.testing.assert_allclose(found.of(np.array([n]))[0], coded[n] * (0.25 + n), rtol=1e-6)
    assert not found.codes[[1, 2]].any()
    assert patches.read(store, given, "nobody").codes.shape == (count, 0, 0)  # type: ignore[arg-type]
