"""Outliers: LOF, tail probabilities and their combination, sorts, reasons, planted bad photos."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics import outliers
from analytics.clustering import Clusters
from analytics.evidence import appearance, tails
from analytics.evidence.reasons import evidence as told
from analytics.evidence.reasons import reasons
from analytics.evidence.tails import Facets, Looks
from analytics.neighbours import Graph
from cql.records import Listing
from cql.settings import Settings
from extraction import models
from tests.bench import outliers as bench
from tests.bench import planting
from tests.naive import graph_of, unit


def looks(count: int, **changes: NDArray[np.floating]) -> Looks:
    rng = np.random.default_rng(4)
    usual: dict[str, Any] = {
        "sharpness": rng.lognormal(6, 0.3, count),
        "brightness": rng.normal(0.45, 0.04, count),
        "contrast": rng.normal(0.2, 0.02, count),
        "blank": rng.normal(0.2, 0.02, count),
        "colour": rng.normal(40, 5, count),
    }
    return Looks(**{**usual, **changes})


def none(count: int) -> Clusters:
    return Clusters(np.full(count, -1), np.zeros(count), np.zeros(count))


@pytest.mark.parametrize("k", [5, 20])
def test_lof_equals_scikit_learn(k: int) -> None:
    from sklearn.neighbors import LocalOutlierFactor

    rng = np.random.default_rng(1)
    vectors = np.concatenate(
        [unit(rng, 300, 8), unit(rng, 1, 8) + rng.normal(scale=0.1, size=(200, 8))]
    )
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    peer = LocalOutlierFactor(n_neighbors=k, algorithm="brute").fit(vectors)
    found = outliers.lof(graph_of(vectors, 30), k=k)
    np.testing.assert_allclose(found, -peer.negative_outlier_factor_, rtol=1e-3)


def test_lof_of_equal_rows_is_one() -> None:
    vectors = np.repeat(unit(np.random.default_rng(2), 1, 6), 40, axis=0)
    np.testing.assert_allclose(outliers.lof(graph_of(vectors, 10)), 1.0)
    assert outliers.lof(graph_of(vectors[:1], 10)).tolist() == [1.0]


def test_a_tail_is_the_share_in_the_bulk_and_falls_on_beyond() -> None:
    rng = np.random.default_rng(3)
    values = rng.exponential(size=20_000)
    found = tails.tail(values)
    bulk = values <= np.quantile(values, 0.95)
    naive = (values[None, bulk][:, :50] <= values[:, None]).mean(axis=0)
    np.testing.assert_allclose(found[bulk][:50], naive)
    far = tails.tail(np.append(values, 20.0))[-1]
    assert far == pytest.approx(np.exp(-20), rel=1.0)
    assert (np.diff(found[np.argsort(values)]) <= 1e-12).all()
    assert tails.tail(np.array([np.nan, 1.0, 2.0]))[0] == 1.0
    assert (tails.tail(np.full(9, 3.0)) == 1.0).all()
    assert tails.bounded_tail(np.array([np.nan, 4.0, 2.0, 4.0, 9.0])).tolist() == [
        1,
        0.75,
        1,
        0.75,
        0.25,
    ]
    assert tails.bounded_tail(np.full(2, np.nan)).tolist() == [1.0, 1.0]
    assert len(tails.bounded_tail(np.empty(0))) == 0
    assert len(tails.tail(np.empty(0))) == 0


def test_combined_evidence_is_led_by_the_smallest_and_never_lost() -> None:
    small, plain, large = np.array([1e-9]), np.array([0.3]), np.array([1.0])
    assert tails.combine([small, plain, large])[0] == pytest.approx(3e-9, rel=1e-6)
    assert tails.combine([large, large])[0] == 1.0
    assert tails.combine([plain, plain])[0] == pytest.approx(0.3)


def test_bad_photos_lead_the_ranking_and_say_what_is_wrong() -> None:
    count = 400
    vectors = unit(np.random.default_rng(5), count, 12)
    seen = looks(count)
    seen.sharpness[0], seen.brightness[1], seen.brightness[2] = 2.0, 0.02, 0.97
    seen.contrast[3], seen.blank[3] = 0.001, 1.0
    found = outliers.score(graph_of(vectors, 12), none(count), k=12, looks=seen)
    assert set(np.argsort(-found.score)[:4].tolist()) == {0, 1, 2, 3}
    assert [outliers.KINDS[found.kinds[row]] for row in range(4)] == ["photo"] * 4
    words = list(reasons(found, none(count), np.full(count, -1), []))
    for row, start in enumerate(("Blurred", "Dark", "Overexposed", "Nearly blank")):
        assert words[row].startswith(start)
    assert "darker than 99.7 % of all images" in words[1]
    assert "blurred" in json.loads(told(found, 0))


def test_attributes_that_disagree_with_the_neighbours_are_told() -> None:
    rng = np.random.default_rng(6)
    vectors = unit(rng, 2, 16)[np.arange(200) % 2] + rng.normal(scale=0.1, size=(200, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    listings = {
        f"l{n}": Listing(listing_id=f"l{n}", attributes={"material": ("PE", "steel")[n % 2],
                                                         "serial_no": f"s{n}"})
        for n in range(200)
    }  # fmt: skip
    listings["l0"] = Listing(listing_id="l0", attributes={"material": "steel"})
    facets, owners = appearance.facets([f"l{n}" for n in range(200)], listings)
    assert list(facets.codes) == ["material"]
    clusters = Clusters(np.arange(200) % 2, np.ones(200), np.zeros(200))
    found = outliers.score(graph_of(vectors, 15), clusters, k=15, facets=facets, owners=owners)
    assert outliers.KINDS[found.kinds[0]] == "category"
    assert found.score[0] >= 0.95
    words = list(reasons(found, clusters, clusters.labels, ["Pipes", "Rods"], facets))
    assert "Material says “steel”, but 100 % of the images it looks like say “PE”" in words[0]
    rare = found.kinds == outliers.KINDS.index("rare")
    assert not any("says" in words[row] for row in np.flatnonzero(rare))


def test_the_facet_that_differs_from_the_nearest_cluster_is_told() -> None:
    count = 60
    vectors = unit(np.random.default_rng(7), count, 8)
    labels = np.zeros(count, np.int64)
    labels[0] = -1
    codes = np.ones(count, np.int64)
    codes[:3] = 0
    facets = Facets({"material": codes}, {"material": ["steel", "PE"]})
    found = outliers.score(graph_of(vectors, 5), Clusters(labels, *np.zeros((2, count))), k=5)
    forced = outliers.Outliers(
        found.score, found.distance, found.glosh, found.k, found.lof, found.tails, found.chance,
        np.full(count, outliers.KINDS.index("rare")),
    )  # fmt: skip
    clusters = Clusters(labels, np.zeros(count), np.zeros(count))
    words = list(reasons(forced, clusters, np.zeros(count, np.int64), ["Pipes"], facets))
    assert words[0].endswith("material: steel, where 96.6 % of “Pipes” is PE")
    assert "material" not in words[9]


def test_own_photos_do_not_vote_on_the_category() -> None:
    rows = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
    owners = np.array([0, 0, 0, 1])
    facets = Facets({"m": np.array([0, 0, 0, 1])}, {"m": ["a", "b"]})
    found = tails.category_evidence(rows, owners, facets)
    assert found.which.tolist() == [-1, -1, -1, 0]
    assert found.told[3] == 0
    assert found.share[3] == 1.0


@pytest.mark.parametrize("count", [0, 1, 2, 15])
@pytest.mark.parametrize("kind", ["spread", "identical", "unmeasured", "half measured"])
def test_degenerate_collections(count: int, kind: str) -> None:
    vectors = unit(np.random.default_rng(8), count, 6)
    if kind == "identical":
        vectors = np.repeat(unit(np.random.default_rng(8), 1, 6), count, axis=0)
    seen: Looks | None = looks(count)
    if kind == "unmeasured":
        seen = Looks(*np.full((5, count), np.nan))
    elif kind == "half measured":
        seen = looks(count)
        for values in (seen.sharpness, seen.brightness, seen.contrast, seen.blank, seen.colour):
            values[::2] = np.nan
    elif kind == "identical":
        seen = Looks(*np.full((5, count), 0.25))
    found = outliers.score(graph_of(vectors, 10), none(count), looks=seen)
    assert found.score.shape == found.lof.shape == found.chance.shape == (count,)
    assert ((found.score > 0) & (found.score <= 1)).all()
    assert np.isfinite(found.lof).all()
    words = list(reasons(found, none(count), np.full(count, -1), []))
    assert len(words) == count
    if kind == "identical":
        assert (found.score == 1.0).all()
        assert not found.kinds.any()


def test_reasons_of_all_rows_take_no_square() -> None:
    """Twice the rows, about twice the time: a count over all rows a row would take four times."""

    def seconds(count: int) -> float:
        rng = np.random.default_rng(9)
        graph = Graph(
            rng.integers(0, count, (count, 5)),
            np.sort(rng.random((count, 5)), 1)[:, ::-1].astype(np.float32),
        )
        found = outliers.score(graph, none(count), k=5, looks=looks(count))
        start = time.process_time()
        assert len(list(reasons(found, none(count), np.full(count, -1), []))) == count
        return time.process_time() - start

    seconds(1_000)
    assert seconds(60_000) < 8


def test_a_hundred_thousand_equal_rows_are_equally_strange_in_seconds() -> None:
    count = 100_000
    vectors = np.repeat(unit(np.random.default_rng(9), 1, 6), count, axis=0)
    graph = Graph(
        np.maximum(np.arange(5), np.arange(5)[None] + (np.arange(count)[:, None] < 5)),
        np.ones((count, 5), np.float32),
    )
    start = time.process_time()
    for owners in (np.zeros(count, np.int64), np.arange(count) // 4):
        found = outliers.score(graph, none(count), k=5, owners=owners, vectors=vectors)
        assert (found.score == 1.0).all()
        assert not found.kinds.any()
    assert len(list(reasons(found, none(count), np.full(count, -1), []))) == count
    assert time.process_time() - start < 20


def test_a_photo_unlike_the_others_of_its_listing_stands_out() -> None:
    rng = np.random.default_rng(12)
    count = 120
    owners = np.arange(count) // 4
    vectors = unit(rng, 30, 24)[owners] + rng.normal(scale=0.04, size=(count, 24))
    vectors[5] = unit(rng, 1, 24)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    apart = tails.sibling_evidence(vectors, owners)
    naive = [
        min(np.linalg.norm(vectors[a] - vectors[b]) for b in range(count)
            if a != b and owners[a] == owners[b])
        for a in range(count)
    ]  # fmt: skip
    np.testing.assert_allclose(apart, naive, atol=1e-3)
    owners[7] = 999
    assert np.isnan(tails.sibling_evidence(vectors, owners)[7])
    found = outliers.score(graph_of(vectors, 10), none(count), k=10, owners=owners, vectors=vectors)
    assert int(np.argmax(found.score)) == 5
    words = list(reasons(found, none(count), np.full(count, -1), []))
    assert "less like the other photos of its listing than 99" in words[5]


@pytest.mark.shared
def test_foreign_and_bad_photos_among_groceries_are_found_better_than_by_peers(
    shared_data: Path,
) -> None:
    weights = shared_data / "weights" / "mobilenetv2_100_tf2ptq_fp16.safetensors"
    embedder = models.load(f"file:{weights}:{models.TEACHER}", Settings(), device="cpu")
    planted = planting.grocery_with_foreign(shared_data, embedder, photos=100, foreign=6)
    ours = bench.precision(planted)["score"]
    assert ours >= max(bench.peers(planted).values())
    assert ours >= 0.7
