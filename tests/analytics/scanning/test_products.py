"""Products of codes against float64 products: the bound must hold for every pair."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as shapes
from numpy.typing import NDArray

from analytics.scanning import codes, processor, products, vectorcode
from tests.analytics.scanning.test_codes import unit

ALL = np.ones(4096, np.uint8)

Floats = NDArray[np.float32]


def every(
    rows: Floats, queries: Floats, wanted: NDArray[np.uint8] = ALL
) -> Iterator[tuple[Floats, Floats]]:
    """Products (N, Q) in each of the ways there are, and how far each of them may be wrong."""
    coded, asked = codes.encode(rows), codes.encode_queries(queries)
    rough, short = codes.encode_shortly(queries), products.short_queries(queries)
    room = products.scratch(coded)
    count, size = len(queries), len(rows)
    taken = np.count_nonzero(wanted[:size])
    fine = asked.offsets + asked.slopes * coded.residuals[:, None]
    out = [np.full((count, size), np.nan, np.float32) for _ in range(4)]
    assert products.products(coded, 0, size, wanted, asked, 0, count, room, out[0]) == taken
    yield out[0].T, fine
    places = np.flatnonzero(wanted[:size])
    products.chosen_products(coded, 0, places, asked, 0, count, room, out[1])
    yield out[1].T, fine
    assert products.short_products(coded, 0, size, wanted, short, room, out[2]) == taken
    yield out[2].T, short.offsets + short.slopes * coded.residuals[:, None]
    assert products.high_products(coded, 0, size, wanted, rough, out[3]) == taken
    yield out[3].T, rough.offsets + rough.slopes * coded.coarse[:, None]


@pytest.mark.parametrize("dim", [1, 2, 63, 64, 65, 128, 384, 1280, 4000])
@pytest.mark.parametrize("count", [1, 3, 4, 9])
@pytest.mark.parametrize("kind", ["isotropic", "one hot", "heavy tail"])
def test_products_stay_within_their_bound(dim: int, count: int, kind: str) -> None:
    rng = np.random.default_rng(dim + count)
    rows = rng.normal(size=(201, dim))
    if kind == "one hot":
        rows = np.eye(dim)[rng.integers(0, dim, 201)]
    if kind == "heavy tail":
        rows = rng.standard_t(1.1, size=(201, dim))
    vectors = unit(rows)
    queries = np.concatenate([vectors[:1], unit(rng.normal(size=(count - 1, dim)))])
    true = vectors.astype(np.float64) @ queries.T.astype(np.float64)
    for found, bound in every(vectors, queries):
        assert (np.abs(found - true) <= bound).all()


@settings(max_examples=200, deadline=None)
@given(
    shapes.arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(1, 140)),
        elements=st.floats(-1, 1, width=32, allow_subnormal=False),
    )
)
def test_bound_holds_for_any_vectors(given_rows: Floats) -> None:
    norms = np.linalg.norm(given_rows.astype(np.float64), axis=1)
    kept = given_rows[norms > 1e-3]
    if len(kept) == 0:
        return
    vectors = unit(kept)
    true = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    for found, bound in every(vectors, vectors):
        assert (np.abs(found - true) <= bound).all()


def test_integer_products_equal_a_naive_loop() -> None:
    """Rows and queries of plain integers: every sum is exact, the largest ones as well."""
    rng = np.random.default_rng(2)
    size = codes.width(4000)
    levels = (2**31 - 1) // (codes.LEVELS * size)
    rows = rng.integers(-127, 128, (5, size))
    rows[0] = 127
    queries = rng.integers(-levels, levels + 1, (6, size)).astype(np.int16)
    queries[0], queries[5] = levels, -levels
    # Rows whose largest number is 127 are coded as they are.
    rows[:, 0] = 127
    coded = codes.encode(rows.astype(np.float32))
    np.testing.assert_array_equal(codes.joined(coded), rows)
    ones = np.ones(6, np.float32)
    asked = codes.QueryCodes(queries, ones, ones, ones)
    out = np.empty((6, 5), np.float32)
    products.products(coded, 0, 5, ALL, asked, 0, 6, products.scratch(coded), out)
    for row in range(5):
        for query in range(6):
            total = sum(
                a * b for a, b in zip(rows[row].tolist(), queries[query].tolist(), strict=True)
            )
            assert out[query, row] == np.float32(total)


def test_rows_that_are_not_wanted_are_passed_over() -> None:
    rng = np.random.default_rng(0)
    vectors = unit(rng.normal(size=(23, 40)))
    wanted = (rng.random(23) < 0.7).astype(np.uint8)
    true = vectors.astype(np.float64) @ vectors[:5].T.astype(np.float64)
    for found, bound in every(vectors, vectors[:5], wanted):
        assert np.isnan(found[wanted == 0]).all()
        assert (np.abs(found - true) <= bound)[wanted > 0].all()


def test_only_the_queries_asked_for_are_scored() -> None:
    vectors = unit(np.random.default_rng(1).normal(size=(9, 40)))
    coded, asked = codes.encode(vectors), codes.encode_queries(vectors)
    room = products.scratch(coded)
    whole = np.empty((9, 9), np.float32)
    products.products(coded, 0, 9, ALL, asked, 0, 9, room, whole)
    for start, stop in ((0, 1), (2, 7), (3, 9)):
        out = np.full((9, 9), np.nan, np.float32)
        products.products(coded, 0, 9, ALL, asked, start, stop, room, out)
        np.testing.assert_array_equal(out[start:stop], whole[start:stop])
        assert np.isnan(np.delete(out, np.arange(start, stop), axis=0)).all()


@pytest.mark.parametrize("planes", [vectorcode.HIGH, vectorcode.BOTH])
@pytest.mark.parametrize("largest", [False, True])
def test_any_cpu_finds_the_same_sums(planes: int, *, largest: bool) -> None:
    """Whatever it multiplies bytes by: also the largest codes by the largest values."""
    rng = np.random.default_rng(4)
    vectors = np.ones((4, 200)) if largest else rng.normal(size=(4, 200))
    coded = codes.encode(unit(vectors))
    asked = unit(np.ones((4, 200)) if largest else rng.normal(size=(4, 200)))
    whole = (codes.joined(coded).view(np.uint8) ^ 128).astype(np.uint8)
    if planes == vectorcode.HIGH:
        values = whole.astype(np.int64) // 8 * 8 - 124
    else:
        values = whole.astype(np.int64) - 128
    for unit_of, short in both(planes, asked):
        made = found(planes, unit_of, coded, short, whole)
        true = values @ short.values.T.astype(np.int64) * coded.scales[:, None].astype(np.float64)
        np.testing.assert_allclose(made.T, true * short.scales, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("width", [64, 192, 256])
@pytest.mark.parametrize("largest", [False, True])
def test_any_cpu_finds_the_same_sums_of_components(width: int, *, largest: bool) -> None:
    """Their number is a multiple of 64."""
    rng = np.random.default_rng(4)
    whole = rng.integers(1, 256, (4, width)).astype(np.uint8)
    if largest:
        whole[:] = 255
    scales = rng.random(4).astype(np.float32)
    coded = codes.encode(unit(rng.normal(size=(4, width))))._replace(scales=scales)
    for unit_of, short in both(vectorcode.BOTH, unit(rng.normal(size=(4, width)))):
        values = short.values[:, :width].copy()
        if largest:
            values[:] = unit_of.levels
        own = short._replace(values=values, sums=values.sum(axis=1).astype(np.int32))
        made = found(vectorcode.BOTH, unit_of, coded, own, whole, lanes=64)
        true = (whole.astype(np.int64) - 128) @ values.T.astype(np.int64)
        wanted = true * scales[:, None].astype(np.float64) * short.scales
        np.testing.assert_allclose(made.T, wanted, rtol=1e-6, atol=1e-7)


def both(planes: int, asked: Floats) -> Iterator[tuple[processor.Unit, codes.ShortCodes]]:
    """Each way this CPU can multiply, with queries in as many levels as it takes."""
    for each in processor.usable():
        levels = codes.LEVELS if planes == vectorcode.HIGH else each.levels
        yield each, codes.encode_shortly(asked, levels)


def found(
    planes: int,
    unit_of: processor.Unit,
    coded: codes.Codes,
    short: codes.ShortCodes,
    whole: NDArray[np.uint8],
    lanes: int = codes.LANES,
) -> Floats:
    tile: Any = vectorcode.rough_tile(4, 4, planes, unit=unit_of, lanes=lanes)
    size = whole.shape[1]

    @numba.njit
    def run(
        row: Any, middle: Any, values: Any, scales: Any, asked: Any, sums: Any, out: Any
    ) -> None:
        tile(
            row.ctypes.data, middle.ctypes.data, values.ctypes.data, size, scales.ctypes.data,
            asked.ctypes.data, sums.ctypes.data, out.ctypes.data, 16,
        )  # fmt: skip

    out = np.empty((4, 4), np.float32)
    rows = coded.high if planes == vectorcode.HIGH else whole
    run(rows, coded.middle, short.values, coded.scales, short.scales, short.sums, out)
    return out
