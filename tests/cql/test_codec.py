from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cql import codec
from cql.errors import InputError, IntegrityError


def naive_crc32c(data: bytes) -> int:
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def unit(rows: int, dim: int, seed: int = 0) -> NDArray[np.float32]:
    found = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def test_crc_of_the_published_check_value() -> None:
    assert codec.crc32c(b"123456789") == 0xE3069283
    assert codec.crc32c(b"") == 0


@pytest.mark.parametrize("length", [1, 2, 7, 64, 4 * 384])
def test_crc_equals_the_bitwise_loop(length: int) -> None:
    data = np.random.default_rng(length).integers(0, 256, length, dtype=np.uint8).tobytes()
    assert codec.crc32c(data) == naive_crc32c(data)


@pytest.mark.parametrize(("rows", "dim"), [(1, 1), (3, 5), (300, 17)])
def test_vectors_survive_the_round_trip_bit_by_bit(rows: int, dim: int) -> None:
    vectors = unit(rows, dim)
    blobs, sums = codec.encode(vectors)
    assert [len(blob) for blob in blobs] == [4 * dim] * rows
    assert sums == [naive_crc32c(blob) for blob in blobs]
    np.testing.assert_array_equal(codec.decode(blobs, sums, dim=dim), vectors)


def test_no_vectors_are_a_valid_batch() -> None:
    assert codec.encode(np.empty((0, 4), np.float32)) == ([], [])
    assert codec.decode([], [], dim=4).shape == (0, 4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 2.0])
def test_rows_that_are_no_unit_vectors_are_refused(bad: float) -> None:
    vectors = unit(3, 4)
    vectors[1] = [bad, 0, 0, 0]
    with pytest.raises(InputError, match="row 1"):
        codec.encode(vectors)


def test_other_dtypes_and_shapes_are_refused() -> None:
    double: Any = unit(2, 4).astype(np.float64)
    for wrong in (double, unit(2, 4)[0], np.empty((2, 0), np.float32)):
        with pytest.raises(InputError, match="float32"):
            codec.encode(wrong)


def test_a_flipped_bit_is_found() -> None:
    blobs, sums = codec.encode(unit(3, 8))
    blobs[2] = bytes([blobs[2][0] ^ 1]) + blobs[2][1:]
    with pytest.raises(IntegrityError, match="row 2"):
        codec.decode(blobs, sums, dim=8)


def test_a_vector_of_another_width_is_found() -> None:
    blobs, sums = codec.encode(unit(3, 8))
    with pytest.raises(IntegrityError, match="D=9"):
        codec.decode(blobs, sums, dim=9)


def test_float32_products_stay_within_their_bound() -> None:
    vectors = unit(500, 700, 1)
    rough = vectors @ vectors[0]
    true = vectors.astype(np.float64) @ vectors[0].astype(np.float64)
    assert np.abs(rough - true).max() <= codec.error_bound(700)
