"""Shard files: cut, written, checked."""

import hashlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest

from analytics import shards
from analytics.hosting import stream
from analytics.scanning import components
from cql import codec
from cql.errors import IntegrityError
from cql.records import Shard
from tests.naive import low_rank, unit


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


def test_an_opened_shard_has_components_where_these_tell_rows_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    owners = np.array([f"l{at:03d}" for at in range(900)], object)
    images = np.frombuffer(b"".join(uuid4().bytes for _ in range(900)), np.uint8).reshape(-1, 16)
    monkeypatch.setattr(components, "_LEAST_ROWS", 900)
    for stem, vectors in (("a", low_rank(rng, 900, 100)), ("b", unit(rng, 900, 512))):
        done = shards.write(tmp_path, stem, owners, images, vectors)
        shard = Shard(snapshot_id=uuid4(), shard=0, **done)
        block = shards.open_block(tmp_path, shard, dim=vectors.shape[1])
        assert (block.components is not None) == (stem == "a")


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


def test_a_shard_of_an_older_sightline_is_told_as_such(tmp_path: Path) -> None:
    """Its files had sums by SHA-256, and before that there were fewer files."""
    shard, _ = made(tmp_path)
    older = {
        name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in shard.files
    }
    fewer = {name: own for name, own in shard.files.items() if "coarse" not in name}
    for files in (older, fewer):
        with pytest.raises(IntegrityError, match=r"older Sightline wrote it.*rebuild the snapshot"):
            shards.open_block(tmp_path, replace(shard, files=files), dim=8)
    assert (
        shards.Contents(rows=1, listings=1, mark=1).fingerprint("m") == "4:m:1:1:0000000000000001"
    )


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("sorted_images", [True, False])
@pytest.mark.parametrize("chunked", [True, False])
def test_rows_are_ordered_however_they_come(
    together: bool, sorted_images: bool, chunked: bool
) -> None:
    rng = np.random.default_rng(8)
    owners = [f"l{n}" for n in rng.permutation([1, 2, 2, 10, 10, 10, 10, 33, 33, 4, 5])]
    # Few different bytes: the second half decides, and some ids are the same.
    images = rng.integers(0, 2, (len(owners), 16), np.uint8) * (np.arange(16) > 6).astype(np.uint8)
    images[:, 6] = 255 * rng.integers(0, 2, len(owners))
    if together:
        owners = sorted(owners, key=lambda name: (name[::-1], name))
    if sorted_images:
        images = np.array(sorted(images.tolist()), np.uint8)
    names: pa.Array | pa.ChunkedArray = pa.array(owners)
    if chunked:
        names = pa.chunked_array([names[:4], names[4:5], names[5:]])
    order, starts, found = shards._sorted(names, images)
    wanted = sorted(range(len(owners)), key=lambda n: (owners[n], images[n].tobytes(), n))
    assert order.tolist() == wanted
    assert found.to_pylist() == sorted(set(owners))
    first = [wanted.index(n) for n in wanted if owners[n] != owners[wanted[wanted.index(n) - 1]]]
    assert starts.tolist() == sorted({0, *first})


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


def decoded(features: pa.Table, dim: int) -> np.ndarray:
    rows = stream.Rows(dim, room=1)
    for batch in features.to_batches():
        rows.add(batch)
    return rows.first(len(features))


def test_decode_reads_what_was_encoded() -> None:
    vectors = unit(np.random.default_rng(3), 5, 8)
    assert np.array_equal(decoded(table(vectors), 8), vectors)


def test_decode_finds_a_wrong_checksum_and_dimension() -> None:
    good = table(unit(np.random.default_rng(3), 5, 8))
    bad = good.set_column(5, "crc32c", pa.array([1, 2, 3, 4, 5], pa.int64()))
    with pytest.raises(IntegrityError, match="CRC"):
        decoded(bad, 8)
    with pytest.raises(IntegrityError, match="dim of every feature must be 4"):
        decoded(good, 4)


@pytest.mark.parametrize("chunks", [[700], [1, 300, 399], [0, 256, 444]])
@pytest.mark.parametrize("room", [1, 300, 1000])
def test_rows_are_kept_in_the_order_in_which_they_came(chunks: list[int], room: int) -> None:
    """More than are looked at together, in batches of any size that are cut from larger arrays."""
    vectors = unit(np.random.default_rng(6), 700, 5)
    (whole,) = table(vectors).to_batches()
    rows, came, gone = stream.Rows(5, room=room), 0, 0
    for size in chunks:
        rows.add(whole.slice(came, size))
        came += size
        assert len(rows) == came - gone
        assert np.array_equal(rows.first(1000), vectors[gone:came])
        rows.drop(size // 2)
        gone += size // 2
        assert np.array_equal(rows.first(100), vectors[gone : min(came, gone + 100)])


@pytest.mark.parametrize("row", [0, 255, 256, 699])
def test_decode_finds_a_damaged_row_wherever_it_is(row: int) -> None:
    vectors = unit(np.random.default_rng(6), 700, 5)
    good = table(vectors)
    sums = good["crc32c"].to_pylist()
    sums[row] ^= 1
    at = good.schema.get_field_index("crc32c")
    with pytest.raises(IntegrityError, match="CRC-32C"):
        decoded(good.set_column(at, "crc32c", pa.array(sums, pa.int64())), 5)
    for value in (np.nan, 1.0003, 0.0):
        wrong = vectors.copy()
        wrong[row] *= np.float32(value)
        with pytest.raises(IntegrityError, match="unit L2 norm"):
            stream.check_vectors(wrong, 5, "rows")


def test_norms_at_the_edge_of_what_is_allowed_are_judged_alike() -> None:
    """The quick look must say no more than the rule, and the rule decides what it leaves."""
    rows = unit(np.random.default_rng(7), 1, 64)
    for step in np.linspace(0.9998, 1.0002, 41):
        scaled = (rows * step).astype(np.float32)
        wrong = abs(np.linalg.norm(scaled.astype(np.float64)) - 1) > codec.NORM_TOLERANCE
        if wrong:
            with pytest.raises(IntegrityError):
                stream.check_vectors(scaled, 64, "rows")
        else:
            stream.check_vectors(scaled, 64, "rows")


def test_uuid_bytes() -> None:
    ids = [uuid4() for _ in range(4)]
    found = stream.uuid_bytes(pa.array([str(one) for one in ids]))
    assert [row.tobytes() for row in found] == [one.bytes for one in ids]
