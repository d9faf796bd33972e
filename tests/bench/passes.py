"""First passes of a scan: by our kernel, and by kernels and indexes of others.

Where a kernel takes int8 the rows are our codes, and the error that coding costs is added to its
products; where it takes float32, the vectors and the error of the arithmetic. Indexes give their K
best alone, without any bound.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any, Protocol

import numba
import numpy as np
from numpy.typing import NDArray

from analytics.compiler import compiled
from analytics.scanning.bounds import MAX, Plan
from analytics.scanning.codes import Codes, QueryCodes, ShortCodes
from analytics.scanning.products import chosen_products, high_products, scratch, short_products
from analytics.scanning.sweep import MANY, near
from cql.codec import error_bound
from tests.bench.coded import Asked, Counts, Data, Floats, K

_RUN = 128
"""Rows that our scan scores at a time: see `analytics.scanning.bounds`."""

_BLOCK = 8192
"""Rows that a call of a library scores."""

Best = tuple[Floats, Counts]
"""Scores (Q, K) and row numbers (Q, K) of a part, best first."""


class Kernel(Protocol):
    """Something that makes a first pass; made of `Data`, ImportError where it is not installed."""

    name: str
    coding: str
    """Of rows x of queries."""

    size: int
    """Bytes of the rows that a pass reads."""

    def scan(self, part: int, asked: Asked) -> Counts | Best:
        """Score a part: how many of its rows may be among the best, (Q,); of an index the best."""


class Ours:
    """The loops of `analytics.scanning.products`, as a scan calls them: rough, then the rest.

    `size` is what one query reads: the upper bits.
    """

    coding = "int8 x int16"

    def __init__(self, data: Data) -> None:
        self.name = "ours"
        self._data, self.size = data, data.codes.high.nbytes + data.codes.middle.nbytes

    def scan(self, part: int, asked: Asked) -> Counts:
        """Bound a part in runs of rows."""
        left = np.zeros(len(asked.vectors), np.int64)
        own = self._data.parts[part]
        codes = self._data.codes
        _tiled(codes, own.start, own.stop, asked.wide, asked.rough, asked.limits, left)
        return left


class Loop(Ours):
    """Three plain loops that numba compiles: what our kernel would be without its tiles."""

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self.name = f"numba {numba.__version__}, plain loops"
        self.size = data.whole.nbytes

    def scan(self, part: int, asked: Asked) -> Counts:
        """Bound a part row by row."""
        left = np.zeros(len(asked.vectors), np.int64)
        own = self._data.parts[part]
        data = self._data
        _looped(data.whole, data.codes, own.start, own.stop, asked.wide, asked.limits, left)
        return left


class Int8:
    """Products of int8 codes with int8 codes by a library, block by block."""

    name: str
    coding = "int8 x int8"

    def __init__(self, data: Data) -> None:
        self._data, self.size = data, data.whole.nbytes

    def scan(self, part: int, asked: Asked) -> Counts:
        """Bound a part in blocks."""
        left = np.zeros(len(asked.vectors), np.int64)
        own, codes = self._data.parts[part], self._data.codes
        queries = asked.narrow.values
        held = self.pack(queries)
        for start in range(own.start, own.stop, _BLOCK):
            rows = slice(start, min(start + _BLOCK, own.stop))
            found = self.products(self._data.whole[rows], held)
            _reaching(
                found, codes.scales[rows], codes.residuals[rows], asked.narrow, asked.limits, left
            )
        return left

    def pack(self, queries: NDArray[np.int8]) -> Any:
        """Prepare int8 (Q, W) for `products`."""
        return queries

    def products(self, rows: NDArray[np.int8], queries: Any) -> NDArray[Any]:
        """Products of rows int8 (R, W) with what `pack` made: (Q, R)."""
        raise NotImplementedError


class NumkongPairs(Int8):
    """numkong's pairwise products."""

    def __init__(self, data: Data) -> None:
        import numkong

        super().__init__(data)
        self._library, self.name = numkong, f"numkong {version('numkong')} cdist"

    def products(self, rows: NDArray[np.int8], queries: Any) -> NDArray[Any]:
        """One call."""
        return np.asarray(self._library.cdist(queries, rows, "dot")).reshape(-1, len(rows))


class NumkongPacked(Int8):
    """numkong's matrix product with queries that it has packed."""

    def __init__(self, data: Data) -> None:
        import numkong

        super().__init__(data)
        self._library, self.name = numkong, f"numkong {version('numkong')} dots_packed"

    def pack(self, queries: NDArray[np.int8]) -> Any:
        """Lay the queries out as the CPU's tiles want them."""
        return self._library.dots_pack(queries)

    def products(self, rows: NDArray[np.int8], queries: Any) -> NDArray[Any]:
        """One call."""
        return np.asarray(self._library.dots_packed(rows, queries)).T


class Simsimd(Int8):
    """simsimd's pairwise products."""

    def __init__(self, data: Data) -> None:
        import simsimd

        super().__init__(data)
        self._library, self.name = simsimd, f"simsimd {version('simsimd')} cdist"

    def products(self, rows: NDArray[np.int8], queries: Any) -> NDArray[Any]:
        """One call."""
        return np.asarray(self._library.cdist(queries, rows, "dot")).reshape(-1, len(rows))


class Torch(Int8):
    """torch's integer matrix product."""

    def __init__(self, data: Data) -> None:
        import torch

        super().__init__(data)
        self._library, self.name = torch, f"torch {torch.__version__.split('+')[0]} _int_mm"

    def pack(self, queries: NDArray[np.int8]) -> Any:
        """As a tensor."""
        return self._library.from_numpy(queries)

    def products(self, rows: NDArray[np.int8], queries: Any) -> NDArray[Any]:
        """One call."""
        found: NDArray[Any] = self._library._int_mm(
            queries, self._library.from_numpy(rows).T
        ).numpy()
        return found


class Pointer(Int8):
    """A library's product of two int8 vectors, called from a compiled loop of ours by address."""

    def __init__(self, data: Data, library: str, result: type[np.generic]) -> None:
        module = importlib.import_module(library)
        super().__init__(data)
        self.name = f"{library} {version(library)} dot, from our loop"
        self._result = result
        self._call = _called(module.pointer_to_dot("int8"))

    def products(self, rows: NDArray[np.int8], queries: Any) -> NDArray[Any]:
        """One call a row and query."""
        found = np.empty((len(queries), len(rows)), self._result)
        self._call(rows, queries, found)
        return found


class Blas:
    """The float32 matrix product of the BLAS that NumPy has."""

    coding = "float32 x float32"

    def __init__(self, data: Data) -> None:
        self.name = f"NumPy {np.__version__} sgemm"
        self._data, self.size = data, data.vectors.nbytes
        self._bound = np.float32(error_bound(data.vectors.shape[1]))

    def scan(self, part: int, asked: Asked) -> Counts:
        """Bound a part in blocks."""
        left = np.zeros(len(asked.vectors), np.int64)
        own, needed = self._data.parts[part], (asked.limits - self._bound)[:, None]
        for start in range(own.start, own.stop, _BLOCK):
            rows = self._data.vectors[start : min(start + _BLOCK, own.stop)]
            left += np.count_nonzero(asked.vectors @ rows.T >= needed, axis=1)
        return left


class Faiss:
    """An index of FAISS: its K best of each part."""

    def __init__(self, data: Data, kind: str) -> None:
        import faiss

        self.name = f"FAISS {faiss.__version__} {kind}"
        dim = data.vectors.shape[1]
        self.coding = {
            "IndexFlatIP": "float32 x float32",
            "QT_fp16": "float16 x float32",
            "QT_8bit_direct_signed": "int8 x float32",
        }[kind]
        self._even = kind == "QT_8bit_direct_signed"
        rows = data.even if self._even else data.vectors
        self.size = rows.size * {"I": 4, "f": 2, "8": 1}[kind.removeprefix("QT_")[0]]
        self._starts = [part.start for part in data.parts]
        self._indexes = []
        for part in data.parts:
            if kind == "IndexFlatIP":
                index: Any = faiss.IndexFlatIP(dim)
            else:
                coder = getattr(faiss.ScalarQuantizer, kind)
                index = faiss.IndexScalarQuantizer(dim, coder, faiss.METRIC_INNER_PRODUCT)
            for start in range(part.start, part.stop, _BLOCK):
                own = rows[start : min(start + _BLOCK, part.stop)]
                index.add(np.ascontiguousarray(own, np.float32))
            self._indexes.append(index)
        self._quiet = partial(faiss.omp_set_num_threads, 1)

    def scan(self, part: int, asked: Asked) -> Best:
        """Search one index."""
        self._quiet()
        queries = asked.even.astype(np.float32) if self._even else asked.vectors
        scores, rows = self._indexes[part].search(queries, K)
        return scores, rows + self._starts[part]


class Usearch:
    """The exact search of usearch over int8: the K best of each part."""

    coding = "int8 x int8"

    def __init__(self, data: Data) -> None:
        from usearch import index

        self.name = f"usearch {version('usearch')} exact int8"
        self._library = index
        self._data, self.size = data, data.even.nbytes

    def scan(self, part: int, asked: Asked) -> Best:
        """Search one part."""
        own = self._data.parts[part]
        found = self._library.search(
            self._data.even[own],
            asked.even,
            min(K, own.stop - own.start),
            self._library.MetricKind.IP,
            exact=True,
            threads=1,
        )
        shape = (len(asked.even), -1)
        rows = np.asarray(found.keys).astype(np.int64).reshape(shape)
        return -np.asarray(found.distances, np.float32).reshape(shape), rows + own.start


Make = Callable[[Data], Kernel]
PEERS: dict[str, Make] = {
    "numba": Loop,
    "numkong-cdist": NumkongPairs,
    "numkong-packed": NumkongPacked,
    "numkong-dot": lambda data: Pointer(data, "numkong", np.int32),
    "simsimd-cdist": Simsimd,
    "simsimd-dot": lambda data: Pointer(data, "simsimd", np.float64),
    "torch": Torch,
    "blas": Blas,
    "faiss-flat": lambda data: Faiss(data, "IndexFlatIP"),
    "faiss-fp16": lambda data: Faiss(data, "QT_fp16"),
    "faiss-int8": lambda data: Faiss(data, "QT_8bit_direct_signed"),
    "usearch": Usearch,
}


@compiled
def _tiled(
    codes: Codes,
    first: int,
    last: int,
    queries: QueryCodes,
    short: ShortCodes,
    limits: Floats,
    left: Counts,
) -> None:
    count, room = limits.size, scratch(codes)
    wanted, places = np.ones(_RUN, np.uint8), np.empty(_RUN, np.int64)
    rough, scores = np.zeros((count, _RUN), np.float32), np.zeros((count, _RUN), np.float32)
    for at in range(first, last, _RUN):
        end = min(at + _RUN, last)
        residuals = codes.residuals[at:end]
        if count < MANY:
            residuals = codes.coarse[at:end]
            high_products(codes, at, end, wanted, short, rough)
        else:
            short_products(codes, at, end, wanted, short, room, rough)
        for query in range(count):
            plan = Plan(query, query + 1, query + 1, MAX, 1, 0, 0)
            kept = near(rough, residuals, short, plan, limits[query], wanted, at, places)
            own = places[:kept]
            chosen_products(codes, at, own, queries, query, query + 1, room, scores)
            for row in own:
                error = queries.offsets[query] + queries.slopes[query] * codes.residuals[at + row]
                left[query] += scores[query, row] + error >= limits[query]


@compiled
def _looped(
    whole: NDArray[np.int8],
    codes: Codes,
    first: int,
    last: int,
    queries: QueryCodes,
    limits: Floats,
    left: Counts,
) -> None:
    for row in range(first, last):
        for query in range(limits.size):
            total = _product(whole[row], queries.values[query])
            score = np.float32(total) * codes.scales[row] * queries.scales[query]
            error = queries.offsets[query] + queries.slopes[query] * codes.residuals[row]
            left[query] += score + error >= limits[query]


@partial(compiled, fast=True)
def _product(row: NDArray[np.int8], query: NDArray[np.int16]) -> np.int32:
    total = np.int32(0)
    for at in range(row.size):
        total += np.int32(row[at]) * np.int32(query[at])
    return total


@compiled
def _reaching(
    found: NDArray[Any],
    scales: Floats,
    residuals: Floats,
    queries: ShortCodes,
    limits: Floats,
    left: Counts,
) -> None:
    """Add to `left` how many rows of products (Q, R) reach the limits."""
    for query in range(limits.size):
        left[query] += _count(
            found[query], scales, residuals, queries.scales[query], queries.offsets[query],
            queries.slopes[query], limits[query],
        )  # fmt: skip


@partial(compiled, fast=True)
def _count(
    found: NDArray[Any],
    scales: Floats,
    residuals: Floats,
    scale: np.float32,
    offset: np.float32,
    slope: np.float32,
    limit: np.float32,
) -> int:
    count = 0
    for row in range(found.size):
        score = np.float32(found[row]) * scales[row] * scale
        count += score + slope * residuals[row] + offset >= limit
    return count


def _called(address: int) -> Callable[[NDArray[np.int8], NDArray[np.int8], NDArray[Any]], None]:
    """A loop over rows and queries that calls void f(a, b, n, result) at an address."""
    kind = ctypes.CFUNCTYPE(
        None, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_uint64, ctypes.c_size_t
    )
    dot = kind(address)

    def loop(rows: NDArray[np.int8], queries: NDArray[np.int8], found: NDArray[Any]) -> None:
        size = rows.shape[1]
        for row in range(rows.shape[0]):
            for query in range(queries.shape[0]):
                place = (query * rows.shape[0] + row) * found.itemsize
                dot(
                    rows.ctypes.data + row * size,
                    queries.ctypes.data + query * size,
                    size,
                    found.ctypes.data + place,
                )

    made: Callable[..., None] = numba.njit(nogil=True)(loop)
    return made
