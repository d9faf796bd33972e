from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from cql import codec
from tests.bench.claims import sorted_page
from tests.bench.tasks import best_listings, drain, feature_rows, listing_rows
from tests.bench.vectors import Dataset


def numbers(*parts: range) -> list[pa.RecordBatch]:
    return [pa.record_batch([pa.array(list(part), pa.int64())], names=["id"]) for part in parts]


def test_rows_of_features_are_those_of_the_file(tmp_path: Path) -> None:
    dataset = Dataset(300, 16, "clustered")
    dataset.write(tmp_path / "v.npy")
    made = list(
        feature_rows(
            numbers(range(100), range(0), range(100, 300)),
            dataset=dataset,
            path=tmp_path / "v.npy",
        )
    )
    table = pa.Table.from_batches(made)
    blobs, sums = table["feature_vector"].to_pylist(), table["crc32c"].to_pylist()
    assert np.array_equal(codec.decode(blobs, sums, dim=16), np.load(tmp_path / "v.npy"))
    assert table["listing_id"].to_pylist() == [
        dataset.listing_id(own) for own in dataset.owners.tolist()
    ]
    assert table["image_id"].to_pylist() == [str(dataset.image_id(row)) for row in range(300)]


def test_one_listing_of_a_hundred_is_of_the_rare_kind() -> None:
    (batch,) = listing_rows(numbers(range(200)), dataset=Dataset(1000, 8, "isotropic"))
    kinds = [dict(each)["kind"] for each in batch.column(2).to_pylist()]
    assert [n for n, kind in enumerate(kinds) if kind == "rare"] == [37, 137]


def test_the_best_listings_of_a_stream_are_found_whatever_its_order() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((40, 6)).astype(np.float32)
    names = [f"l{n % 7}" for n in range(40)]
    query = vectors[3]
    batches = [
        pa.record_batch(
            [pa.array(names[a:b]), pa.array([v.tobytes() for v in vectors[a:b]], pa.binary())],
            names=["listing_id", "feature_vector"],
        )
        for a, b in ((0, 11), (11, 11), (11, 40))
    ]
    (found,) = best_listings(batches, query=query, k=3)
    best: dict[str, float] = {}
    for name, score in zip(names, (vectors @ query).tolist(), strict=True):
        best[name] = max(best.get(name, -np.inf), score)
    wanted = sorted(best, key=lambda name: -best[name])[:3]
    assert found.column(0).to_pylist() == wanted
    np.testing.assert_allclose(found.column(1).to_numpy(), [best[name] for name in wanted])
    assert list(best_listings([], query=query, k=3)) == []


def test_drained_rows_are_counted() -> None:
    (batch,) = drain(numbers(range(5), range(7)))
    assert batch.column(0).to_pylist() == [12]


def test_an_application_sorts_by_score_then_listing() -> None:
    rows = [(0.5, "b"), (0.9, "z"), (0.5, "a"), (0.1, "c")]
    assert sorted_page(rows, start=1, count=2) == [(0.5, "a"), (0.5, "b")]
