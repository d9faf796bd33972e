"""Shard files: cut, written, checked."""

from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest

from analytics import shards, stream
from cql import codec
from cql.errors import IntegrityError
from cql.records import Shard
from tests.naive import unit


def batches(sizes: list[int], batch: int) -> list[pa.RecordBatch]:
    names = [f"l{n:03d}" for n, size in enumerate(sizes) for _ in range(size)]
    whole = pa.record_batch({"listing_id": names, "row": list(range(len(names)))})
    return [whole.slice(at, batch) for at in range(0, len(names), batch)]


@pytest.mark.parametrize("sizes", [[], [1], [3, 1, 4, 1, 5, 9, 2, 6], [20], [2, 20, 2], [5] * 9])
@pytest.mark.parametrize("batch", [1, 3, 100])
@pytest.mark.parametrize("bound", [1, 6, 1000])
def test_cut_keeps_listings_whole_and_shards_small(
    sizes: list[int], batch: int, bound: int
) -> None:
    tables = list(stream.cut(batches(sizes, batch), bound))
    assert [n for table in tables for n in table["row"].to_pylist()] == list(range(sum(sizes)))
    seen = [set(table["listing_id"].to_pylist()) for table in tables]
    assert sum(len(one) for one in seen) == len(sizes)
    for table, names in zip(tables, seen, strict=True):
        assert len(table) <= bound or len(names) == 1
    for left, right in pairwise(tables):
        first = right["listing_id"][0].as_py()
        together = len(left) + right["listing_id"].to_pylist().count(first)
        assert together > bound, "the next listing had room in this shard"


def made(path: Path) -> tuple[Shard, np.ndarray]:
    rng = np.random.default_rng(2)
    vectors = unit(rng, 9, 8)
    owners = np.array(["b", "a", "b", "c", "a", "b", "é", "a", "c"], object)
    images = np.frombuffer(b"".join(uuid4().bytes for _ in range(9)), np.uint8).reshape(-1, 16)
    done = shards.write(path, "00000-00000", owners, images, vectors)
    block = shards.open_block(path, Shard(snapshot_id=uuid4(), shard=0, **done), dim=8)
    order = sorted(range(9), key=lambda n: (owners[n], images[n].tobytes()))
    assert np.array_equal(block.vectors, vectors[order])
    assert np.array_equal(block.images, images[order])
    assert block.listings.to_pylist() == ["a", "b", "c", "é"]
    assert block.offsets.tolist() == [0, 3, 6, 8, 9]
    assert [block.find(name) for name in ("a", "c", "é", "", "bb", "z")] == [0, 2, 3, -1, -1, -1]
    return Shard(snapshot_id=uuid4(), shard=0, **done), vectors


def test_written_rows_lie_in_listing_and_image_order(tmp_path: Path) -> None:
    shard, _ = made(tmp_path)
    assert (shard.first_listing, shard.last_listing) == ("a", "é")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("part", ["vectors.npy", "offsets.npy", "images.npy", "listings.arrow"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing"])
def test_damage_is_found(tmp_path: Path, part: str, damage: str) -> None:
    shard, _ = made(tmp_path)
    path = tmp_path / f"00000-00000.{part}"
    whole = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(whole[:-1])
    else:
        whole[-3] ^= 4
        path.write_bytes(whole)
    with pytest.raises(IntegrityError, match="rebuild"):
        shards.open_block(tmp_path, shard, dim=8)


def test_another_dimension_is_found(tmp_path: Path) -> None:
    shard, _ = made(tmp_path)
    with pytest.raises(IntegrityError, match=r"\(N, 16\)"):
        shards.open_block(tmp_path, shard, dim=16)


@pytest.mark.parametrize("value", [0.0, 2.0, np.nan, np.inf])
def test_vectors_that_are_not_of_unit_norm_are_found(tmp_path: Path, value: float) -> None:
    vectors = np.eye(3, dtype=np.float32)
    vectors[1, 1] = value
    images = np.arange(48, dtype=np.uint8).reshape(3, 16)
    done = shards.write(tmp_path, "s", np.array(["a", "a", "b"], object), images, vectors)
    with pytest.raises(IntegrityError, match="norm"):
        shards.open_block(tmp_path, Shard(snapshot_id=uuid4(), shard=0, **done), dim=3)


def table(vectors: np.ndarray) -> pa.Table:
    blobs, crcs = codec.encode(vectors)
    return pa.table(
        {
            "listing_id": ["a"] * len(blobs),
            "image_id": [str(uuid4()) for _ in blobs],
            "feature_vector": pa.array(blobs, pa.binary()),
            "dim": [vectors.shape[1]] * len(blobs),
            "dtype": ["float32"] * len(blobs),
            "crc32c": pa.array(crcs, pa.int64()),
        }
    )


def test_decode_reads_what_was_encoded() -> None:
    vectors = unit(np.random.default_rng(3), 5, 8)
    assert np.array_equal(stream.decode(table(vectors), 8), vectors)


def test_decode_finds_a_wrong_checksum_and_dimension() -> None:
    good = table(unit(np.random.default_rng(3), 5, 8))
    bad = good.set_column(5, "crc32c", pa.array([1, 2, 3, 4, 5], pa.int64()))
    with pytest.raises(IntegrityError, match="CRC"):
        stream.decode(bad, 8)
    with pytest.raises(IntegrityError, match="dim of every feature must be 4"):
        stream.decode(good, 4)


def test_uuid_bytes() -> None:
    ids = [uuid4() for _ in range(4)]
    found = stream.uuid_bytes(pa.array([str(one) for one in ids]))
    assert [row.tobytes() for row in found] == [one.bytes for one in ids]
