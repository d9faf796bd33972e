"""Bounds by principal components against naive loops: no row is above what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from analytics.scanning import components, tops
from analytics.scanning.codes import ShortCodes
from analytics.scanning.components import (
    LANES,
    NOTHING,
    ComponentCodes,
    Components,
    Directions,
    component_products,
    sift,
)
from analytics.scanning.tops import GROUP
from tests.analytics.scanning.test_tops import planned
from tests.naive import dot, low_rank, unit

DIM = 100


def made(vectors: NDArray[np.float32]) -> Components:
    found = Components.of(vectors, least=1)
    assert found is not None
    return found


def asked(found: Components, queries: NDArray[np.float32]) -> ShortCodes:
    return found.asked(found.directions.project(queries))


def rows(kind: str) -> NDArray[np.float32]:
    """Degenerate ones by name."""
    rng = np.random.default_rng(3)
    many = low_rank(rng, 203, DIM)
    spike = np.zeros((9, DIM), np.float32)
    spike[np.arange(9), np.arange(9)] = 1
    # One lies outside of what holds all others.
    line = np.repeat(spike[:1], 400, axis=0)
    line[7] = spike[1]
    made: dict[str, NDArray[np.float32]] = {
        "alike": many,
        "one image": many[:1],
        "identical": np.repeat(many[:1], 33, axis=0),
        "spikes": spike,
        "one apart": line,
        "opposite": np.r_[many[:20], -many[:20]],
    }
    return made[kind]


KINDS = ["alike", "one image", "identical", "spikes", "one apart", "opposite"]


def bounds(found: Components, queries: NDArray[np.float32]) -> NDArray[np.float32]:
    """Upper bounds (Q, N)."""
    short = asked(found, queries)
    uppers = np.empty((len(queries), len(found.codes.scales)), np.float32)
    component_products(found.codes, 0, uppers.shape[1], short, uppers)
    uppers += short.offsets[:, None] + short.slopes[:, None] * found.codes.rests
    return uppers


@pytest.mark.parametrize("kind", KINDS)
def test_no_row_is_above_its_bound(kind: str) -> None:
    vectors = rows(kind)
    found = made(vectors)
    rng = np.random.default_rng(1)
    queries = np.r_[vectors[:3], unit(rng, 3, DIM), -vectors[-1:]]
    uppers = bounds(found, queries)
    for at, query in enumerate(queries):
        exact = np.array([dot(query, row) for row in vectors])
        assert (exact <= uppers[at]).all()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_of_any_rows_no_one_is_above(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    dim = data.draw(st.integers(LANES + 1, 200))
    count = data.draw(st.integers(1, 60))
    vectors = low_rank(
        rng, count, dim, rank=data.draw(st.integers(1, 40)), noise=data.draw(st.floats(0, 2))
    )
    found = Components.of(vectors, least=1)
    if found is None:
        return
    queries = np.r_[vectors[:2], unit(rng, 2, dim), low_rank(rng, 2, dim)]
    uppers = bounds(found, queries)
    for at, query in enumerate(queries):
        assert all(dot(query, row) <= uppers[at, to] for to, row in enumerate(vectors))


def missing(found: Components, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """What components do not say of each row: e, float64 (N, D)."""
    codes = found.codes.values.astype(np.float64) - 128
    return vectors - codes * found.codes.scales[:, None] @ found.directions.basis.T


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("length", [1 - 9.9e-5, 1, 1 + 9.9e-5])
@pytest.mark.parametrize("kind", ["alike", "spikes", "opposite"])
def test_bounds_hold_for_queries_that_lie_in_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, kind: str, length: float, *, skewed: bool
) -> None:
    """For these both inequalities are nearly equal: with less added a row would be above."""
    if skewed:
        whole = components._subspace

        def leaning(sample: NDArray[np.float32], count: int) -> NDArray[np.float32]:
            basis = whole(sample, count)
            return basis * np.float32(1.03) + np.float32(0.02) * np.roll(basis, 1, axis=1)

        monkeypatch.setattr(components, "_subspace", leaning)
    vectors = rows(kind) * np.float32(length)
    found = made(vectors)
    basis, left = found.directions.basis, missing(found, vectors)
    within = np.sign(left @ basis) @ basis.T
    queries = np.r_[left, within][:: 1 if len(left) < 50 else 7]
    queries *= length / np.linalg.norm(queries, axis=1, keepdims=True)
    queries = queries.astype(np.float32)
    exact = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    uppers = bounds(found, queries)
    assert (exact <= uppers).all()
    # Their own rows are near their bounds, and would not be below much smaller ones.
    if not skewed and kind == "alike":
        without = uppers - asked(found, queries).slopes[:, None] * found.codes.rests / 2
        assert (exact > without).any()


@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-40, 3e-38, 1e-29, 1.0])
def test_rows_that_hardly_lie_in_any_direction(size: float) -> None:
    """All of them is missing, and their bound says so."""
    found = np.zeros((3, LANES), np.float32)
    found[:, 1] = size
    codes = components._unwritten(3, LANES)
    lost = components._encode(found, 1e-7, 1e-6, codes)
    kept = (codes.values.astype(np.float64) - 128) * codes.scales[:, None]
    gap = np.linalg.norm(found - kept, axis=1)
    assert (gap <= lost).all()
    assert lost < 1e-2
    assert (codes.rests >= np.sqrt(max(0, 1 - size**2))).all()
    assert (codes.rests < 1.001).all()


def test_directions_of_other_rows_do_where_they_hold_as_much() -> None:
    rng = np.random.default_rng(9)
    vectors = low_rank(rng, 400, DIM)
    first = made(vectors[:200])
    second = Components.of(vectors[200:], like=first.directions, least=1)
    assert second is not None
    assert second.directions is first.directions
    other = low_rank(rng, 300, 512)
    apart = Components.of(other, like=Directions.of(low_rank(rng, 300, 512)), least=1)
    assert apart is not None
    assert (other.astype(np.float64) @ other.T <= bounds(apart, other)).all()
    queries = vectors[:9]
    exact = queries.astype(np.float64) @ vectors[200:].T.astype(np.float64)
    assert (exact <= bounds(second, queries)).all()


def test_bounds_are_near_where_a_few_directions_hold_all() -> None:
    """The better rows are known by their components, the less is added."""
    rng = np.random.default_rng(2)
    slack = []
    for noise in (0.5, 0.1, 0.0):
        vectors = low_rank(rng, 500, DIM, noise=noise)
        queries = vectors[:5]
        exact = queries.astype(np.float64) @ vectors.T.astype(np.float64)
        slack.append(float((bounds(made(vectors), queries) - exact).max()))
    assert slack == sorted(slack, reverse=True)
    assert slack[-1] < 0.05


def test_shapes_and_kinds() -> None:
    vectors = rows("alike")
    found = made(vectors)
    codes = found.codes
    assert codes.values.shape == (203, LANES)
    assert codes.scales.shape == codes.rests.shape == (203,)
    assert [each.dtype for each in codes] == [np.uint8, np.float32, np.float32]
    assert not any(each.flags.writeable for each in codes)
    basis = found.directions.basis
    assert basis.shape == (DIM, LANES)
    assert basis.dtype == np.float64
    assert np.abs(basis.T @ basis - np.eye(LANES)).max() < 1e-5
    short = asked(found, vectors[:3])
    assert short.values.shape == (3, LANES)
    assert short.values.dtype == np.int8
    assert short.offsets.dtype == short.slopes.dtype == np.float32
    assert NOTHING.values.shape[0] == 0


def test_the_number_of_components_grows_with_that_of_the_features() -> None:
    rng = np.random.default_rng(4)
    for dim, count in ((65, 64), (512, 64), (1280, 192), (4000, 256)):
        assert made(low_rank(rng, 300, dim)).codes.values.shape[1] == count


def test_rows_that_lie_in_no_few_directions_have_none() -> None:
    rng = np.random.default_rng(5)
    assert Components.of(unit(rng, 3000, 512), least=1) is None
    assert Components.of(unit(rng, 50, LANES), least=1) is None
    assert Components.of(low_rank(rng, 50, DIM)[:0], least=0) is None


def test_few_rows_have_none() -> None:
    vectors = low_rank(np.random.default_rng(5), components._LEAST_ROWS, 70)
    assert Components.of(vectors[1:]) is None
    assert Components.of(vectors) is not None


def test_the_same_rows_have_the_same_components() -> None:
    one, other = made(rows("alike")), made(rows("alike"))
    assert (one.codes.values == other.codes.values).all()
    assert (one.codes.rests == other.codes.rests).all()


@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_rows_are_projected_in_parts(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(components, "_CHUNK", chunk)
    vectors = rows("alike")
    queries = vectors[:4]
    exact = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    assert (exact <= bounds(made(vectors), queries)).all()


@pytest.mark.parametrize("queries", [1, 2, 3, 4, 5, 33])
@pytest.mark.parametrize(("first", "last"), [(0, 203), (5, 6), (3, 7), (100, 202), (9, 9)])
def test_products_equal_plain_sums(queries: int, first: int, last: int) -> None:
    found = made(rows("alike"))
    codes = found.codes
    short = asked(found, unit(np.random.default_rng(0), queries, DIM))
    out = np.full((queries, 210), np.nan, np.float32)
    component_products(codes, first, last, short, out)
    whole = codes.values.astype(np.int64) - 128
    wanted = short.values.astype(np.int64) @ whole.T
    scaled = wanted * (short.scales[:, None].astype(np.float64) * codes.scales)
    assert np.allclose(out[:, : last - first], scaled[:, first:last], rtol=1e-6, atol=1e-7)
    assert np.isnan(out[:, last - first :]).all()


def test_products_of_the_largest_codes() -> None:
    """No sum of bytes saturates."""
    for sign in (-1, 1):
        codes = ComponentCodes(
            np.full((9, 256), 128 + 127 * sign, np.uint8),
            np.ones(9, np.float32),
            np.ones(9, np.float32),
        )
        found = made(rows("one apart"))
        short = asked(found, found.directions.basis[:, :1].T.astype(np.float32))
        level = int(np.abs(short.values).max())
        wide = short._replace(
            values=np.full((1, 256), level, np.int8), scales=np.ones(1, np.float32),
            sums=np.array([256 * level], np.int32),
        )  # fmt: skip
        out = np.empty((1, 9), np.float32)
        component_products(codes, 0, 9, wide, out)
        assert out.tolist() == [[256 * level * 127 * sign] * 9]


@pytest.mark.parametrize("examples", [1, 3])
@pytest.mark.parametrize("limit", [-2.0, 0.0, 0.5, 3.0])
def test_rows_are_sifted_as_by_a_loop(examples: int, limit: float) -> None:
    vectors = rows("alike")
    found = made(vectors)
    queries = np.r_[unit(np.random.default_rng(7), 2, DIM), vectors[:examples]]
    uppers = bounds(found, queries)[2:].max(axis=0)
    shift = 5
    places = np.r_[0, 1, 2, 3, 4, 9, 11, 12, 13, 14, 90, 150:198].astype(np.int64)
    wanted = [at for at in places.tolist() if uppers[shift + at] >= np.float32(limit)]
    short = asked(found, queries)
    kept = places.copy()
    count = sift(found.codes, shift, kept, short, 2, 2 + examples, np.float32(limit))
    near = [at for at in places.tolist() if abs(uppers[shift + at] - limit) < 1e-6]
    assert not near, "another seed: a bound lies on the limit"
    assert kept[:count].tolist() == wanted


@pytest.mark.parametrize("begin", [0, 5])
@pytest.mark.parametrize("count", [1, GROUP - 1, GROUP + 1, 150])
@pytest.mark.parametrize("asks", [(1,), (2, 1, 1), (1,) * 33])
def test_groups_are_bounded_by_their_best_row(
    begin: int, count: int, asks: tuple[int, ...]
) -> None:
    vectors = rows("alike")
    found = made(vectors)
    queries = unit(np.random.default_rng(1), sum(asks), DIM)
    numbers = planned(queries, asks)
    groups = -(-count // GROUP)
    out = np.full((len(asks), groups + 7), np.nan, np.float32)
    tops.fill_roughly(
        found.codes,
        begin,
        begin + count,
        asked(found, queries),
        np.array(numbers, np.int64),
        out,
        4,
    )
    assert np.isnan(out[:, :4]).all()
    assert np.isnan(out[:, 4 + groups :]).all()
    uppers = bounds(found, queries)[:, begin : begin + count]
    for ask, plan in enumerate(numbers):
        own = uppers[plan.start : plan.middle].max(axis=0)
        wanted = [own[at : at + GROUP].max() for at in range(0, count, GROUP)]
        assert np.allclose(out[ask, 4 : 4 + groups], wanted, atol=1e-6)
