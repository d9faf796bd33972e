"""Rows and queries as first passes take them: float32, our codes, plain int8."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from analytics.scanning.codes import (
    LEVELS,
    Codes,
    QueryCodes,
    ShortCodes,
    encode,
    encode_queries,
    encode_shortly,
    joined,
)
from analytics.scanning.sweep import rough
from tests.bench.vectors import CHUNK, Dataset

K = 100

Floats = NDArray[np.float32]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Rows to scan, in `parts`: `vectors` float32 (N, D), and `codes` of the same rows.

    `whole`: int8 (N, W), the planes of the codes together, for kernels of others.
    `even`: int8 (N, D) by one scale for all rows, for indexes that know no other.
    """

    vectors: Floats
    codes: Codes
    whole: NDArray[np.int8]
    even: NDArray[np.int8]
    parts: tuple[slice, ...]

    @classmethod
    def of(cls, dataset: Dataset, parts: int) -> Data:
        """Make and code the rows of a data set."""
        vectors = np.empty((dataset.rows, dataset.dim), np.float32)
        for number, chunk in enumerate(dataset.chunks()):
            vectors[number * CHUNK : number * CHUNK + len(chunk)] = chunk
        even = np.empty(vectors.shape, np.int8)
        scale = np.float32(LEVELS / max(float(np.abs(vectors[:CHUNK]).max()), 1e-9))
        for start in range(0, len(vectors), CHUNK):
            step = np.rint(vectors[start : start + CHUNK] * scale)
            even[start : start + CHUNK] = np.clip(step, -LEVELS, LEVELS)
        edges = np.linspace(0, len(vectors), parts + 1).astype(int).tolist()
        cuts = tuple(slice(*pair) for pair in pairwise(edges))
        codes = encode(vectors)
        return cls(vectors, codes, joined(codes), even, cuts)


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Queries float32 (Q, D), coded in int16 (`wide`) and in int8 (`narrow`).

    `rough`: in int8 as our scan takes them on this CPU. `even`: int8 (Q, D), each by a scale of its
    own. `limits` float32 (Q,): the K-th best score, `best` int64 (Q, K): the rows that have the
    best ones.
    """

    vectors: Floats
    wide: QueryCodes
    narrow: ShortCodes
    rough: ShortCodes
    even: NDArray[np.int8]
    limits: Floats
    best: Counts

    @classmethod
    def of(cls, queries: Floats, data: Data) -> Asked:
        """Code queries, and find what the best scores are."""
        narrow = encode_shortly(queries)
        scores = np.concatenate([queries @ data.vectors[part].T for part in data.parts], axis=1)
        keep = min(K, scores.shape[1])
        best = np.argpartition(scores, -keep, axis=1)[:, -keep:]
        limits = np.take_along_axis(scores, best, 1).min(axis=1)
        even = np.ascontiguousarray(narrow.values[:, : queries.shape[1]])
        wide = encode_queries(queries)
        return cls(queries, wide, narrow, rough(queries), even, limits, best)
