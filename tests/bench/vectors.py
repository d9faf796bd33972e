"""Collections to measure on: seeded vectors in a file, listings, queries, the true answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

Kind = Literal["isotropic", "clustered"]

CHUNK = 16_384
"""Rows that are made at once; a chunk has a seed of its own."""

CENTRES = 200
RANK = 32
_SLACK = 2e-3
"""Above the error of a float32 dot product at D = 4000, for picking candidates."""


@dataclass(frozen=True)
class Dataset:
    """`rows` unit vectors of `dim` numbers in listings of 1 to 7 images (4 on average).

    isotropic: every direction alike. clustered: a centre, an offset of the listing and one of the
    image within 32 directions that all share, and a little noise in all of them.
    """

    rows: int
    dim: int
    kind: Kind
    seed: int = 1

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.kind}-{self.rows}x{self.dim}-{self.seed}"

    @property
    def size(self) -> str:
        """The size in a row of a benchmark."""
        return f"{self.rows:,} x {self.dim} {self.kind}"

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First row of each listing, and `rows` at the end: int64 (L + 1,)."""
        sizes = np.random.default_rng(self.seed).integers(1, 8, self.rows)
        ends = np.cumsum(sizes)
        found: NDArray[np.int64] = np.r_[0, ends[ends < self.rows], self.rows].astype(np.int64)
        return found

    @property
    def listings(self) -> int:
        """Number of listings."""
        return len(self.starts) - 1

    @cached_property
    def owners(self) -> NDArray[np.int64]:
        """Listing number of each row: int64 (N,)."""
        return np.repeat(np.arange(self.listings), np.diff(self.starts))

    def listing_id(self, number: int) -> str:
        """Id of a listing; ids ascend with numbers."""
        return f"l{number:08d}"

    def rare(self, number: int) -> bool:
        """Whether a listing is in stock, and of the rare kind: one of a hundred is."""
        return number % 100 == 37

    def image_keys(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Ids of the images of `rows`: uint8 (R, 16), of the form of a UUIDv5."""
        high, low = _mixed(rows.astype(np.uint64)), _mixed(~rows.astype(np.uint64))
        keys = np.stack([high, low], axis=1).astype(">u8").view(np.uint8).reshape(-1, 16)
        keys[:, 6] = keys[:, 6] & 0x0F | 0x50
        keys[:, 8] = keys[:, 8] & 0x3F | 0x80
        return keys

    def image_id(self, row: int) -> UUID:
        """Id of the image of a row."""
        return UUID(bytes=self.image_keys(np.array([row])).tobytes())

    def chunks(self) -> Iterator[NDArray[np.float32]]:
        """The vectors, chunk by chunk: float32 (<= CHUNK, D), unit L2 norm."""
        for number, first in enumerate(range(0, self.rows, CHUNK)):
            rng = np.random.default_rng([self.seed, number])
            owners = self.owners[first : first + CHUNK]
            yield self._made(rng, owners)

    def write(self, path: Path) -> None:
        """Write all vectors as an .npy file; it appears whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        array = np.lib.format.open_memmap(
            draft, mode="w+", dtype=np.float32, shape=(self.rows, self.dim)
        )
        for number, chunk in enumerate(self.chunks()):
            array[number * CHUNK : number * CHUNK + len(chunk)] = chunk
        array.flush()
        del array
        draft.replace(path)

    def queries(self, count: int, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Queries (count, D): in turn a new draw, and a row of the collection with noise."""
        rng = np.random.default_rng([self.seed, 2**31])
        fresh = self._made(rng, rng.integers(0, self.listings, count))
        near = vectors[rng.integers(0, self.rows, count)]
        noise = rng.standard_normal((count, self.dim), np.float32) * np.float32(0.3 / self.dim**0.5)
        odd = np.arange(count)[:, None] % 2 == 1
        return _unit(np.where(odd, near + noise, fresh))

    @cached_property
    def _shape(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Centres (C, D), shared directions (R, D), offsets of listings (L, R)."""
        rng = np.random.default_rng([self.seed, 2**32])
        centres = _unit(rng.standard_normal((CENTRES, self.dim), np.float32))
        shared = _unit(rng.standard_normal((RANK, self.dim), np.float32))
        return centres, shared, rng.standard_normal((self.listings, RANK), np.float32)

    def _made(self, rng: np.random.Generator, owners: NDArray[np.int64]) -> NDArray[np.float32]:
        noise = rng.standard_normal((len(owners), self.dim), np.float32)
        if self.kind == "isotropic":
            return _unit(noise)
        centres, shared, offsets = self._shape
        image = rng.standard_normal((len(owners), RANK), np.float32)
        within = (0.7 * offsets[owners] + 0.3 * image) @ shared / np.float32(RANK**0.5)
        return _unit(centres[owners % CENTRES] + within + noise * np.float32(0.1 / self.dim**0.5))


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The true k best: `listings` (K,), `rows` (K,) that won, `scores` float32 (K,) descending.

    `images`: rows of the k best images (K,), whatever their listing.
    """

    listings: NDArray[np.int64]
    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    images: NDArray[np.int64]


def truth(
    dataset: Dataset, vectors: NDArray[np.float32], query: NDArray[np.float32], k: int
) -> Answer:
    """Find the k best by brute force: all rows in float32, then in float64 whatever is near.

    A score is float32 of the float64 sum of products in index order; ties go by listing, image id.
    """
    rough = vectors @ query
    rows = np.flatnonzero(rough >= _kth(rough, k) - _SLACK)
    by_image = np.lexsort((rows, -_scores(vectors[rows], query)))[:k]
    tops = np.maximum.reduceat(rough, dataset.starts[:-1])
    chosen = np.flatnonzero(tops >= _kth(tops, k) - _SLACK)
    near = np.concatenate([np.arange(dataset.starts[at], dataset.starts[at + 1]) for at in chosen])
    near = near[rough[near] >= tops[dataset.owners[near]] - _SLACK]
    scores = _scores(vectors[near], query)
    owners = dataset.owners[near]
    keys = np.ascontiguousarray(dataset.image_keys(near)).view(">u8").astype(np.uint64)
    order = np.lexsort((keys[:, 1], keys[:, 0], -scores, owners))
    first = order[np.r_[True, np.diff(owners[order]) > 0]]
    best = first[np.lexsort((owners[first], -scores[first]))[:k]]
    return Answer(owners[best], near[best], scores[best], rows[by_image])


def recall(found: NDArray[np.integer], wanted: NDArray[np.integer]) -> float:
    """Share of the wanted that were found."""
    return len(np.intersect1d(found, wanted)) / len(wanted) if len(wanted) else 1.0


def _scores(rows: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float32]:
    total = np.zeros(len(rows))
    for column, weight in zip(rows.T.astype(np.float64), query.astype(np.float64), strict=True):
        total += column * weight
    return total.astype(np.float32)


def _kth(values: NDArray[np.float32], k: int) -> float:
    if len(values) <= k:
        return -np.inf
    return float(np.partition(values, len(values) - k)[len(values) - k])


def _unit(values: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.sqrt(np.einsum("nd,nd->n", values, values, dtype=np.float64))
    return np.asarray(values / norms[:, None], np.float32)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread the bits of uint64 (splitmix64, Steele et al. 2014): one to one."""
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))
