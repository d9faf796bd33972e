"""Codes against float64 products: what is lost is told, for every vector."""

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics.scanning import codes


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    wide = vectors.astype(np.float64)
    found: NDArray[np.float32] = (wide / np.linalg.norm(wide, axis=-1, keepdims=True)).astype(
        np.float32
    )
    return found


@pytest.mark.parametrize("dim", [1, 50, 64, 65, 128, 129, 576])
def test_codes_have_the_shapes_promised(dim: int) -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(7, dim)))
    coded, asked, short = (
        codes.encode(vectors), codes.encode_queries(vectors[:2]), codes.encode_shortly(vectors[:2])
    )  # fmt: skip
    size = codes.width(dim)
    assert size % 128 == 0
    assert 0 <= size - dim < 128
    assert coded.high.dtype == coded.middle.dtype == coded.low.dtype == np.uint8
    assert coded.high.shape == coded.low.shape == (7, size // 2)
    assert coded.middle.shape == (7, size // 8)
    assert coded.scales.dtype == coded.residuals.dtype == coded.coarse.dtype == np.float32
    assert asked.values.dtype == np.int16
    assert short.values.dtype == np.int8
    assert short.sums.dtype == np.int32
    assert asked.values.shape == short.values.shape == (2, size)
    assert short.sums.tolist() == short.values.astype(int).sum(axis=1).tolist()


@pytest.mark.parametrize("dim", [1, 50, 128, 300])
def test_planes_are_the_bits_of_the_codes(dim: int) -> None:
    """Bit by bit, by a plain loop over the numbers of each row."""
    vectors = unit(np.random.default_rng(dim).standard_t(2, size=(5, dim)))
    coded = codes.encode(vectors)
    whole = codes.joined(coded)
    assert whole.dtype == np.int8
    for row in range(5):
        for at in range(codes.width(dim)):
            group, place = divmod(at, 128)
            moved = 4 * (place // 64)
            byte = group * 64 + place % 64
            high = (int(coded.high[row, byte]) >> moved) & 15
            low = (int(coded.low[row, byte]) >> moved) & 15
            assert 16 * high + low - 128 == whole[row, at]
            assert (int(coded.middle[row, at // 8]) >> at % 8) & 1 == low >> 3
    assert not whole[:, dim:].any()


@pytest.mark.parametrize("kind", ["normal", "one hot", "heavy tail"])
def test_what_is_lost_is_no_more_than_is_told(kind: str) -> None:
    rng = np.random.default_rng(3)
    rows = {
        "normal": rng.normal(size=(40, 200)),
        "one hot": np.eye(200)[rng.integers(0, 200, 40)],
        "heavy tail": rng.standard_t(1.1, size=(40, 200)),
    }[kind]
    vectors = unit(rows)
    coded = codes.encode(vectors)
    whole = codes.joined(coded)[:, :200].astype(np.float64)
    scales = coded.scales[:, None].astype(np.float64)
    upper = np.floor((whole + 128) / 8) * 8 - 124
    for values, lost in ((whole, coded.residuals), (upper, coded.coarse)):
        gap = np.linalg.norm(vectors - values * scales, axis=1)
        assert (gap <= lost).all()
        assert (lost <= gap * (1 + 1e-5) + 1e-9).all()


@pytest.mark.parametrize("dim", [1, 7, 63, 129, 500])
@pytest.mark.parametrize("sign", [1, -1])
def test_each_number_is_coded_by_the_level_nearest_to_it(dim: int, sign: int) -> None:
    """Also where the largest is negative, rows are tiny, and zeros have signs."""
    rng = np.random.default_rng(dim)
    rows = rng.normal(size=(60, dim)).astype(np.float32)
    rows[:, dim // 2] = sign * (np.abs(rows).max(axis=1) + 1)
    rows[:20] *= np.float32(1e-12)
    rows[rng.random(rows.shape) < 0.1] *= np.float32(-0.0)
    rows[:, dim // 2] = np.where(rows[:, dim // 2] == 0, sign, rows[:, dim // 2])
    coded = codes.encode(rows)
    largest = np.abs(rows).max(axis=1)
    assert np.allclose(coded.scales, largest / 127, rtol=2e-7, atol=0)
    whole = codes.joined(coded)[:, :dim].astype(np.float64)
    assert np.abs(whole).max(axis=1).tolist() == [127] * 60
    apart = np.abs(rows / coded.scales[:, None].astype(np.float64) - whole)
    assert apart.max() <= 0.5 + 1e-4


def test_rows_are_coded_alike_alone_and_in_parts() -> None:
    vectors = unit(np.random.default_rng(4).normal(size=(37, 200)))
    whole, parts = codes.encode(vectors), codes.unwritten(37, 200)
    for at in range(0, 37, 5):
        codes.encode_into(parts, at, vectors[at : at + 5])
    for name in codes.Codes._fields:
        assert np.array_equal(getattr(whole, name), getattr(parts, name)), name


def test_short_queries_have_as_many_levels_as_rows() -> None:
    coded = codes.encode_shortly(np.eye(3, 40, dtype=np.float32))
    assert np.abs(coded.values.astype(int)).max() == 127
    assert (coded.offsets < 1e-5).all()
    assert (coded.slopes >= 1).all()
