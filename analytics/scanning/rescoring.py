"""Exact scores of the listings that a scan's bounds leave, and the k best of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analytics.scanning import bounds, scores
from analytics.scanning.ask import Ask
from analytics.scanning.blocks import Block
from analytics.scanning.codes import QueryCodes

_SETTLED = 128
"""Listings that one call settles: small, so that all threads have work."""

_PAIRS = 1024
"""Rows of a block that are read together for all queries."""

_READ_BYTES = 8 * 2**20
"""Vectors that a thread reads at a time."""

_FEW_ROWS = 2048
"""Up to here all rows that one ask leaves are scored exactly at once, without a rough pass."""

Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""`map` of a crew, or a plain loop."""


@dataclass(frozen=True, slots=True, eq=False)
class Listings:
    """Best listings: `scores` float32 (K,) descending, ties by id; `images` uint8 (K, 16) won.

    `scanned` rows were bounded by their codes, `rescored` rows were read as float32 to settle the
    answer.
    """

    scores: NDArray[np.float32]
    ids: list[str]
    images: NDArray[np.uint8]
    scanned: int
    rescored: int


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Blocks, and the numbers of the first listing and row of each through all: int64 (B + 1,)."""

    blocks: Sequence[Block]
    listings: NDArray[np.int64]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, blocks: Sequence[Block]) -> Places:
        """Number the listings and rows of some blocks."""
        return cls(
            blocks,
            np.r_[0, np.cumsum([len(block.offsets) - 1 for block in blocks])].astype(np.int64),
            np.r_[0, np.cumsum([block.rows for block in blocks])].astype(np.int64),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Left:
    """What the bounds leave of an ask, by listing, int64 (L,): `rows` as `notes.Found` has them.

    `examples` float32 (P + M, D) and their `codes` are the ask's own, `scanned` rows were bounded.
    """

    ask: Ask
    examples: NDArray[np.float32]
    codes: QueryCodes
    listings: NDArray[np.int64]
    rows: NDArray[np.int64]
    scanned: int


@dataclass(frozen=True, slots=True, eq=False)
class _Scored:
    """Exact scores float32 (C,) of listings of one ask, and the rows that won."""

    listings: NDArray[np.int64]
    values: NDArray[np.float32]
    winners: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Listings of one block that one ask still has to score, and their rows that matter.

    Listing c of `chosen` has `rows` starts[c] to starts[c + 1]; both are numbered in the block.
    """

    at: int
    number: int
    chosen: NDArray[np.int64]
    rows: NDArray[np.int64]
    starts: NDArray[np.int64]

    def kept(self, listings: NDArray[np.bool_]) -> _Piece:
        """Only some of the listings."""
        sizes = np.diff(self.starts)
        starts = np.r_[0, np.cumsum(sizes[listings])]
        rows = self.rows[np.repeat(listings, sizes)]
        return _Piece(self.at, self.number, self.chosen[listings], rows, starts)


def settle(places: Places, left: Sequence[Left], each: Map) -> list[Listings]:
    """Find the k best of what the bounds left of every ask.

    Rows that alone can win their listings are scored for all asks together, block by block.
    """
    blocks, known = places.blocks, [one.rows >= 0 for one in left]
    few = [np.count_nonzero(own) <= _FEW_ROWS for own in known]
    together = np.flatnonzero(few).tolist()
    found, read = _alone(places, left, known, together, each)
    pieces: list[_Piece] = []
    wide: list[tuple[int, int, NDArray[np.int64]]] = []
    for at, one in enumerate(left):
        for number, own in _by_block(places.listings, one.listings):
            sure = known[at][own]
            listings = one.listings[own] - places.listings[number]
            if not few[at]:
                pieces += _sure(
                    at, number, listings[sure], one.rows[own][sure] - places.rows[number]
                )
            wide += [(at, number, part) for part in _cut(listings[~sure])]
    pieces += each(lambda part: _narrowed(blocks[part[1]], left[part[0]], *part), wide)
    for piece in pieces:
        read[piece.at] += len(piece.rows)
    many = [piece for piece in pieces if read[piece.at] > _FEW_ROWS]
    if many:
        pieces = [piece for piece in pieces if read[piece.at] <= _FEW_ROWS]
        pieces += _likely(blocks, left, many, each)
    groups = _grouped(pieces)
    exact = each(lambda group: [_score(blocks, left, piece, exact=True) for piece in group], groups)
    for group, scored in zip(groups, exact, strict=True):
        for piece, (values, winners) in zip(group, scored, strict=True):
            listings = piece.chosen + places.listings[piece.number]
            won = winners + places.rows[piece.number]
            found[piece.at].append(_Scored(listings, values, won))
    return _ranked(places, left, found, read)


def kth(values: Sequence[NDArray[np.float32]], k: int) -> float:
    """The k-th largest of all, -inf where there are fewer."""
    if sum(map(len, values)) < k:
        return -np.inf
    every = np.concatenate(values)
    return float(np.partition(every, len(every) - k)[len(every) - k])


def exact(
    places: Places,
    examples: Sequence[NDArray[np.float32]],
    rows: Sequence[NDArray[np.int64]],
    each: Map,
) -> list[NDArray[np.float32]]:
    """Scores float32 (R,) of rows int64 (R,) by the best of some examples (E, D), of each ask.

    Rows are numbered through all blocks; those of all asks are read together, as they lie.
    """
    every, sizes = np.concatenate(rows), [len(own) for own in rows]
    who = np.repeat(np.arange(len(rows)), sizes)
    starts = np.r_[0, np.cumsum([len(own) for own in examples])].astype(np.int64)
    joined = np.concatenate(examples)
    order = np.argsort(every, kind="stable")
    values = np.empty(len(every), np.float32)

    def run(part: tuple[int, NDArray[np.int64]]) -> None:
        number, own = part
        vectors = places.blocks[number].gather(every[own] - places.rows[number])
        made = np.empty(len(own), np.float32)
        scores.best_of(vectors, joined, starts, who[own], made)
        values[own] = made

    parts = [
        (number, own[at : at + _PAIRS])
        for number, span in _by_block(places.rows, every[order])
        for own in (order[span],)
        for at in range(0, len(own), _PAIRS)
    ]
    for _ in each(run, parts):
        pass
    return np.split(values, np.cumsum(sizes)[:-1])


def _alone(
    places: Places,
    left: Sequence[Left],
    known: Sequence[NDArray[np.bool_]],
    asks: Sequence[int],
    each: Map,
) -> tuple[list[list[_Scored]], list[int]]:
    """Score the rows that alone can win their listings, of some asks; by ask, and rows read."""
    found: list[list[_Scored]] = [[] for _ in left]
    read = [0] * len(left)
    if not asks:
        return found, read
    rows = [left[at].rows[known[at]] for at in asks]
    every = exact(places, [left[at].examples for at in asks], rows, each)
    for at, own, values in zip(asks, rows, every, strict=True):
        read[at] = len(own)
        found[at].append(_Scored(left[at].listings[known[at]], values, own))
    return found, read


def _by_block(starts: NDArray[np.int64], numbers: NDArray[np.int64]) -> Iterator[tuple[int, slice]]:
    """Blocks that have some of ascending numbers of listings or rows, and which are theirs."""
    edges = np.searchsorted(numbers, starts).tolist()
    for number, (start, end) in enumerate(pairwise(edges)):
        if end > start:
            yield number, slice(start, end)


def _sure(
    at: int, number: int, listings: NDArray[np.int64], rows: NDArray[np.int64]
) -> list[_Piece]:
    """Pieces of listings that have one row each."""
    return [
        _Piece(at, number, listings[part], rows[part], np.arange(len(listings[part]) + 1))
        for part in (slice(start, start + _SETTLED) for start in range(0, len(listings), _SETTLED))
    ]


def _grouped(pieces: Sequence[_Piece]) -> list[list[_Piece]]:
    """Pieces that one call settles together: of one ask and not many listings."""
    groups: list[list[_Piece]] = []
    size = 0
    for piece in sorted(pieces, key=lambda each: each.at):
        size += len(piece.chosen)
        if groups and groups[-1][0].at == piece.at and size <= _SETTLED:
            groups[-1].append(piece)
        else:
            groups.append([piece])
            size = len(piece.chosen)
    return groups


def _likely(
    blocks: Sequence[Block], left: Sequence[Left], pieces: Sequence[_Piece], each: Map
) -> list[_Piece]:
    """The listings whose rough score is near enough to the k-th best one."""
    rough = list(each(lambda piece: _score(blocks, left, piece, exact=False), pieces))
    values: dict[int, list[NDArray[np.float32]]] = {}
    for piece, (value, _) in zip(pieces, rough, strict=True):
        values.setdefault(piece.at, []).append(value)
    slack = 2 * float(bounds.ROUNDING)
    cuts = {own: kth(every, left[own].ask.k) - slack for own, every in values.items()}
    near = [value >= cuts[piece.at] for piece, (value, _) in zip(pieces, rough, strict=True)]
    return [piece.kept(own) for piece, own in zip(pieces, near, strict=True) if own.any()]


def _narrowed(block: Block, left: Left, at: int, number: int, chosen: NDArray[np.int64]) -> _Piece:
    most = int((block.offsets[chosen + 1] - block.offsets[chosen]).sum())
    rows, starts = np.empty(most, np.int64), np.empty(len(chosen) + 1, np.int64)
    mask = left.ask.mask(number)
    plan = np.array(left.ask.plan(0, mask), np.int64)
    count = bounds.narrow(block.codes, block.offsets, chosen, left.codes, plan, rows, starts)
    return _Piece(at, number, chosen, rows[:count], starts)


def _score(
    blocks: Sequence[Block], left: Sequence[Left], piece: _Piece, *, exact: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores of a piece's listings and the rows that won; no more is read at a time than fits."""
    examples, chosen, block = left[piece.at].examples, piece.chosen, blocks[piece.number]
    pairs = np.empty((len(piece.rows), len(examples)), np.float32)
    step = max(1, _READ_BYTES // (4 * examples.shape[1]))
    product = scores.exactly if exact else scores.roughly
    for at in range(0, len(piece.rows), step):
        product(block.gather(piece.rows[at : at + step]), examples, pairs[at : at + step])
    values, winners = np.empty(len(chosen), np.float32), np.empty(len(chosen), np.int64)
    plan = np.array(left[piece.at].ask.plan(0), np.int64)
    scores.listings(pairs, piece.starts, piece.rows, plan, values, winners)
    return values, winners


def _cut(chosen: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [chosen[at : at + _SETTLED] for at in range(0, len(chosen), _SETTLED)]


def _ranked(
    places: Places,
    left: Sequence[Left],
    found: Sequence[Sequence[_Scored]],
    read: Sequence[int],
) -> list[Listings]:
    """The k best of each ask; names and images are looked up for all of them together."""
    kept: list[_Scored] = []
    for one, scored in zip(left, found, strict=True):
        every = _Scored(
            *(
                np.concatenate([getattr(part, name) for part in scored] or [np.empty(0, kind)])
                for name, kind in (
                    ("listings", np.int64), ("values", np.float32), ("winners", np.int64)
                )
            )
        )  # fmt: skip
        near = every.values >= kth([every.values], one.ask.k)
        kept.append(_Scored(every.listings[near], every.values[near], every.winners[near]))
    listings = np.concatenate([each.listings for each in kept])
    winners = np.concatenate([each.winners for each in kept])
    names, images = _looked_up(places, listings, winners)
    answers, start = [], 0
    for one, each, rescored in zip(left, kept, read, strict=True):
        order = _order(each.values, names[start : start + len(each.values)])[: one.ask.k]
        answers.append(
            Listings(
                scores=each.values[order],
                ids=[names[start + at] for at in order],
                images=images[[start + at for at in order]],
                scanned=one.scanned,
                rescored=rescored,
            )
        )
        start += len(each.values)
    return answers


def _order(values: NDArray[np.float32], names: Sequence[str]) -> list[int]:
    """Places by value, descending, then by name."""
    order: list[int] = np.argsort(-values, kind="stable").tolist()
    ranked = values[order]
    if (ranked[1:] == ranked[:-1]).any():
        order.sort(key=lambda at: (-values[at], names[at]))
    return order


def _looked_up(
    places: Places,
    listings: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> tuple[list[str], NDArray[np.uint8]]:
    """Ids of listings, and image ids uint8 (C, 16) of rows of them."""
    order = np.argsort(listings, kind="stable")
    names = np.empty(len(listings), object)
    images = np.empty((len(listings), 16), np.uint8)
    for number, own in _by_block(places.listings, listings[order]):
        at, block = order[own], places.blocks[number]
        names[at] = block.listings.take(listings[at] - places.listings[number]).to_pylist()
        images[at] = block.images[rows[at] - places.rows[number]]
    return names.tolist(), images
