"""Codes against float64 products: the bound must hold for every pair."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as shapes
from numpy.typing import NDArray

from analytics import codes

ALL = np.ones(4096, np.uint8)


def products(
    rows: NDArray[np.float32], queries: NDArray[np.float32]
) -> tuple[NDArray[np.float32], codes.Codes, codes.QueryCodes]:
    coded, asked = codes.encode(rows), codes.encode_queries(queries)
    out = np.full((len(queries), len(rows)), np.nan, np.float32)
    assert codes.products(coded, 0, len(rows), ALL, asked, out) == len(rows)
    return out.T, coded, asked


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    wide = vectors.astype(np.float64)
    found: NDArray[np.float32] = (wide / np.linalg.norm(wide, axis=-1, keepdims=True)).astype(
        np.float32
    )
    return found


@pytest.mark.parametrize("dim", [1, 2, 31, 32, 33, 384, 1280, 4000])
@pytest.mark.parametrize("count", [1, 3, 4, 9])
@pytest.mark.parametrize("kind", ["isotropic", "one hot", "heavy tail"])
def test_products_stay_within_their_bound(dim: int, count: int, kind: str) -> None:
    rng = np.random.default_rng(dim + count)
    rows = rng.normal(size=(200, dim))
    if kind == "one hot":
        rows = np.eye(dim)[rng.integers(0, dim, 200)]
    if kind == "heavy tail":
        rows = rng.standard_t(1.1, size=(200, dim))
    vectors = unit(rows)
    queries = np.concatenate([vectors[:1], unit(rng.normal(size=(count - 1, dim)))])
    out, coded, asked = products(vectors, queries)
    true = vectors.astype(np.float64) @ queries.T.astype(np.float64)
    bound = asked.offsets + asked.slopes * coded.residuals[:, None]
    assert (np.abs(out - true) <= bound).all()


@settings(max_examples=200, deadline=None)
@given(
    shapes.arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(1, 70)),
        elements=st.floats(-1, 1, width=32, allow_subnormal=False),
    )
)
def test_bound_holds_for_any_vectors(given_rows: NDArray[np.float32]) -> None:
    norms = np.linalg.norm(given_rows.astype(np.float64), axis=1)
    kept = given_rows[norms > 1e-3]
    if len(kept) == 0:
        return
    vectors = unit(kept)
    out, coded, asked = products(vectors, vectors)
    true = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    assert (np.abs(out - true) <= asked.offsets + asked.slopes * coded.residuals[:, None]).all()


def test_integer_products_equal_a_naive_loop() -> None:
    """Rows and queries of plain integers: every sum is exact, the largest ones as well."""
    rng = np.random.default_rng(2)
    size = 4000
    levels = (2**31 - 1) // (codes.LEVELS * size)
    rows = rng.integers(-127, 128, (5, size)).astype(np.int8)
    rows[0] = 127
    queries = rng.integers(-levels, levels + 1, (6, size)).astype(np.int16)
    queries[0], queries[5] = levels, -levels
    ones = np.ones(6, np.float32)
    coded = codes.Codes(rows, ones[:5], ones[:5])
    asked = codes.QueryCodes(queries, ones, ones, ones)
    out = np.empty((6, 5), np.float32)
    codes.products(coded, 0, 5, ALL, asked, out)
    for row in range(5):
        for query in range(6):
            total = sum(
                a * b for a, b in zip(rows[row].tolist(), queries[query].tolist(), strict=True)
            )
            assert out[query, row] == np.float32(total)


def test_codes_have_the_shapes_promised() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(7, 50)))
    coded, asked = codes.encode(vectors), codes.encode_queries(vectors[:2])
    assert coded.values.dtype == np.int8
    assert coded.values.shape == (7, 64)
    assert coded.scales.dtype == coded.residuals.dtype == np.float32
    assert asked.values.dtype == np.int16
    assert asked.values.shape == (2, 64)
    assert not coded.values[:, 50:].any()
    decoded = coded.values[:, :50].astype(np.float64) * coded.scales[:, None].astype(np.float64)
    assert (np.linalg.norm(vectors - decoded, axis=1) <= coded.residuals).all()


def test_rows_that_are_not_wanted_are_passed_over() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(6, 40)))
    coded, asked = codes.encode(vectors), codes.encode_queries(vectors[:5])
    out = np.full((5, 4), np.nan, np.float32)
    wanted = np.array([1, 0, 0, 1], np.uint8)
    assert codes.products(coded, 2, 6, wanted, asked, out) == 2
    assert np.isnan(out[:, 1:3]).all()
    np.testing.assert_allclose(out[:, [0, 3]], vectors[:5] @ vectors[[2, 5]].T, atol=0.02)
