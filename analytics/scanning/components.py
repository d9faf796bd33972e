"""Leading principal components of rows, as codes: bounds of scores from few numbers of each row.

Features that a network makes do not fill their space: a few directions hold most of each row. With
columns V of such directions and h' the decoded codes of V^T x, the product of a query q and a row x
is <V^T q, h'> + <q, e>, e = x - V h'; and with t = q - V V^T q, the part of the query that lies
elsewhere, |<q, e>| <= |V^T q| |V^T e| + |t| |e| (Cauchy-Schwarz, twice). So codes of few numbers
and |e| bound what a row can score, and most rows are far below the best: an exact search by inner
products that begins with the largest components, after Li, Chan, Yiu and Mamoulis, "FEXIPRO: Fast
and Exact Inner Product Retrieval in Recommender Systems", SIGMOD 2017. The mean is not taken off
first, so that products stay products.

Directions are found by a subspace iteration on some of the rows (Halko, Martinsson and Tropp,
"Finding Structure with Randomness", 2011, algorithm 4.4). Which ones they are decides how tight
bounds are, never an answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from analytics.compiler import compiled
from analytics.scanning.codes import LEVELS, ShortCodes
from analytics.scanning.processor import UNIT
from analytics.scanning.products import short_queries
from analytics.scanning.vectorcode import BOTH, rough_tile
from cql.codec import NORM_TOLERANCE, error_bound

LANES = 64
"""The number of components is a multiple of this: no loop has a tail."""

_SHARE, _MOST = 8, 256
"""Components: one for so many numbers of a row, at most so many."""

_LEAST_ROWS = 4096
"""Fewer rows are scanned as they are."""

_SAMPLE = 4096
"""Rows by which directions are chosen, and as many others by which they are judged."""

_TURNS = 2

_HELD = 0.5
"""Of the squared length of rows: where directions hold less, bounds tell nothing apart."""

_CHUNK = 4096
"""Rows that are projected together."""

_NARROWED = 2**-23
"""More than what a score changes by when a query's components are narrowed to float32."""

_TINY = np.float32(1e-30)

_SQUARE = 1e-9
"""More than a square of a length errs where large ones are subtracted in float64."""

_TOGETHER, _ASKED = 4, UNIT.queries
"""Rows and queries of a tile."""

_tile, _query, _one = (
    rough_tile(rows, queries, BOTH, lanes=LANES)
    for rows, queries in ((_TOGETHER, _ASKED), (_TOGETHER, 1), (1, 1))
)


class ComponentCodes(NamedTuple):
    """Coded components of rows: `values` uint8 (N, R), 128 more than a code.

    The codes times `scales` float32 (N,) are h'; `rests` float32 (N,): |e|, rounded up.
    """

    values: NDArray[np.uint8]
    scales: NDArray[np.float32]
    rests: NDArray[np.float32]


def _sealed(codes: ComponentCodes) -> ComponentCodes:
    """Read-only arrays: compiled code is made once for each kind of array."""
    for each in codes:
        each.flags.writeable = False
    return codes


def _unwritten(rows: int, count: int) -> ComponentCodes:
    return ComponentCodes(
        np.empty((rows, count), np.uint8), np.empty(rows, np.float32), np.empty(rows, np.float32)
    )


NOTHING = _sealed(_unwritten(0, 0))
"""The components of no row."""


class Projected(NamedTuple):
    """Components of queries as codes `short`, whose slopes are |t|.

    `within` float64 (Q,): what multiplies the largest |V^T e| of rows.
    """

    short: ShortCodes
    within: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Directions:
    """V: `basis` float64 (D, R), about orthonormal; `skew` is the norm of V^T V - 1."""

    basis: NDArray[np.float64]
    skew: float

    @classmethod
    def of(cls, vectors: NDArray[np.float32]) -> Self | None:
        """Directions that hold most of rows float32 (N, D), by some of them.

        None where D is too small for that to be worth it, and where no few hold half of them.
        """
        dim = vectors.shape[1]
        count = min(_MOST, -(-dim // _SHARE // LANES) * LANES)
        if count >= dim:
            return None
        basis = _subspace(_some(vectors, 0), count).astype(np.float64)
        skew = float(np.linalg.norm(basis.T @ basis - np.eye(count), 2)) + 1e-12
        made = cls(basis, skew)
        return made if made.hold(vectors) else None

    def hold(self, vectors: NDArray[np.float32]) -> bool:
        """Whether they hold half of rows float32 (N, D), by some that did not decide on them."""
        some = _some(vectors, 1)
        own = some @ self.basis.astype(np.float32)
        return bool(np.square(own).sum() >= _HELD * np.square(some).sum())

    def project(self, queries: NDArray[np.float32]) -> Projected:
        """Code the components of queries float32 (Q, D), of about unit L2 norm."""
        wide = queries.astype(np.float64)
        own = wide @ self.basis
        # |q - V V^T q|^2 = |q|^2 - 2 |V^T q|^2 + |V V^T q|^2.
        square = np.square(wide).sum(axis=1) - (1 - self.skew) * np.square(own).sum(axis=1)
        outside = np.sqrt(np.maximum(square, 0) + _SQUARE)
        coded = short_queries(own.astype(np.float32))
        short = coded._replace(
            values=np.ascontiguousarray(coded.values[:, : own.shape[1]]), slopes=_above(outside)
        )
        # The slope of a code is what multiplies the error of what it is multiplied with.
        return Projected(short, coded.slopes.astype(np.float64))


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """The components of some rows in `directions`. `lost`: the largest |V^T e|."""

    directions: Directions
    codes: ComponentCodes
    lost: float

    @classmethod
    def of(
        cls,
        vectors: NDArray[np.float32],
        *,
        like: Directions | None = None,
        least: int | None = None,
    ) -> Self | None:
        """Components of rows float32 (N, D), unit L2 norm; None where they would bound badly.

        That is where there are fewer than `least` rows (None: `_LEAST_ROWS`), or no few directions
        hold half of them. `like`: directions of other rows, which do where they hold as much.
        """
        if len(vectors) < max(1, _LEAST_ROWS if least is None else least):
            return None
        directions = like if like is not None and like.hold(vectors) else Directions.of(vectors)
        if directions is None:
            return None
        codes = _unwritten(len(vectors), directions.basis.shape[1])
        narrow = directions.basis.astype(np.float32)
        # Of the components of a row, as a float32 product has them.
        error = error_bound(vectors.shape[1]) * float(np.linalg.norm(narrow))
        lost = 0.0
        for at in range(0, len(vectors), _CHUNK):
            own = ComponentCodes._make(each[at : at + _CHUNK] for each in codes)
            found = vectors[at : at + _CHUNK] @ narrow
            lost = max(lost, _encode(found, directions.skew, error, own))
        return cls(directions, _sealed(codes), lost)

    def asked(self, queries: Projected) -> ShortCodes:
        """Queries of its directions for products with `codes`.

        The product of a row errs by at most `offsets` + `slopes` * its rest.
        """
        more = queries.within * self.lost + _NARROWED
        return queries.short._replace(offsets=_above(queries.short.offsets + more))


def _some(vectors: NDArray[np.float32], turn: int) -> NDArray[np.float32]:
    """At most `_SAMPLE` rows, others for each turn where there are more."""
    step = -(-len(vectors) // _SAMPLE)
    return np.ascontiguousarray(vectors[turn % step :: step])


def _above(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The numbers in float32, and by more than rounding larger."""
    return np.nextafter((values * (1 + 1e-6)).astype(np.float32), np.float32(np.inf))


def _subspace(sample: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Orthonormal columns float32 (D, R) that hold most of some rows (S, D).

    They are turned at random among themselves, so that all hold about as much: codes have one scale
    a row.
    """
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((sample.shape[1], count), np.float32)
    for _ in range(_TURNS):
        basis, _ = np.linalg.qr(sample.T @ (sample @ basis))
    turn, _ = np.linalg.qr(rng.standard_normal((count, count)))
    return np.ascontiguousarray(basis @ turn, np.float32)


@partial(compiled, fast=True)
def _encode(found: NDArray[np.float32], skew: float, error: float, codes: ComponentCodes) -> float:
    """Fill `codes` by the components (N, R) of rows, which err by at most `error`, as a vector.

    `skew`: the norm of V^T V - 1. Returns the largest |V^T e|.
    """
    count = found.shape[1]
    norm = (1 + NORM_TOLERANCE) ** 2
    worst = 0.0
    for row in range(found.shape[0]):
        most = np.float32(0)
        for at in range(count):
            most = max(most, abs(found[row, at]))
        scale = most / np.float32(LEVELS)
        # Of a scale near 0 the inverse is infinite: all codes are 0 then.
        inverse = np.float32(0) if scale < _TINY else np.float32(1) / scale
        step = np.float64(scale)
        gap = both = own = 0.0
        for at in range(count):
            level = np.rint(found[row, at] * inverse)
            level = min(max(level, np.float32(-LEVELS)), np.float32(LEVELS))
            codes.values[row, at] = np.uint8(np.int32(level) + np.int32(LEVELS + 1))
            number, kept = np.float64(found[row, at]), np.float64(level) * step
            gap += (number - kept) * (number - kept)
            both += number * kept
            own += kept * kept
        # |e|^2 = |x|^2 - 2 <V^T x, h'> + <h', V^T V h'>.
        square = norm - 2 * both + (1 + skew) * own + 2 * error * np.sqrt(own)
        codes.scales[row] = scale
        codes.rests[row] = np.float32(np.sqrt(max(square, 0.0) + _SQUARE) * (1 + 1e-6))
        worst = max(worst, np.sqrt(gap) + error + skew * np.sqrt(own))
    return worst * (1 + 1e-6)


@compiled
def component_products(
    codes: ComponentCodes, first: int, last: int, queries: ShortCodes, out: NDArray[np.float32]
) -> None:
    """Score rows first to last by their components: `out` float32 (Q, >= last - first).

    All arrays are contiguous; `queries` are of `Components.asked`.
    """
    count, size = queries.values.shape
    rows, scales = codes.values.ctypes.data, codes.scales.ctypes.data
    columns, asked, sums = (
        queries.values.ctypes.data, queries.scales.ctypes.data, queries.sums.ctypes.data
    )  # fmt: skip
    found, stride = out.ctypes.data, 4 * out.shape[1]
    together = last - (last - first) % _TOGETHER
    whole = count - count % _ASKED
    for row in range(first, together, _TOGETHER):
        own, scale, target = rows + row * size, scales + 4 * row, found + 4 * (row - first)
        for query in range(0, whole, _ASKED):
            _tile(
                own, 0, columns + query * size, size, scale, asked + 4 * query, sums + 4 * query,
                target + query * stride, stride,
            )  # fmt: skip
        for query in range(whole, count):
            _query(
                own, 0, columns + query * size, size, scale, asked + 4 * query, sums + 4 * query,
                target + query * stride, stride,
            )  # fmt: skip
    for row in range(together, last):
        own, scale, target = rows + row * size, scales + 4 * row, found + 4 * (row - first)
        for query in range(count):
            _one(
                own, 0, columns + query * size, size, scale, asked + 4 * query, sums + 4 * query,
                target + query * stride, stride,
            )  # fmt: skip


@compiled
def sift(
    codes: ComponentCodes,
    shift: int,
    places: NDArray[np.int64],
    queries: ShortCodes,
    start: int,
    stop: int,
    limit: np.float32,
) -> int:
    """Keep, in front, of `places` int64 (C,), ascending, those of rows that may reach a limit.

    Rows lie at `shift` + places; they are bounded by queries start to stop. Returns how many there
    are.
    """
    size = codes.values.shape[1]
    rows, scales = codes.values.ctypes.data, codes.scales.ctypes.data
    columns, asked, sums = (
        queries.values.ctypes.data, queries.scales.ctypes.data, queries.sums.ctypes.data
    )  # fmt: skip
    found = np.empty(_TOGETHER, np.float32)
    target, stride = found.ctypes.data, 4 * _TOGETHER
    at = kept = 0
    while at < places.size:
        place, taken = places[at], 1
        if at + _TOGETHER <= places.size and places[at + _TOGETHER - 1] - place == _TOGETHER - 1:
            taken = _TOGETHER
        own, scale = rows + (shift + place) * size, scales + 4 * (shift + place)
        reaches = 0
        for query in range(start, stop):
            values, factor, lost = columns + query * size, asked + 4 * query, sums + 4 * query
            if taken > 1:
                _query(own, 0, values, size, scale, factor, lost, target, stride)
            else:
                _one(own, 0, values, size, scale, factor, lost, target, stride)
            least = limit - queries.offsets[query]
            for each in range(taken):
                upper = found[each] + queries.slopes[query] * codes.rests[shift + place + each]
                reaches |= (upper >= least) << each
        for each in range(taken):
            places[kept] = place + each
            kept += (reaches >> each) & 1
        at += taken
    return kept
