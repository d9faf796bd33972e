"""Linear scores of every row: its class and how sure that is; the surest rows and the least sure.

Class c of C scores z_c = n_c (u_c . v) + b_c, with u_c of unit norm; the product is the float64 sum
in index order over the stored float32 numbers. With C = 1 the surety of a row is z; with more, the
row has the class of the highest score (of equal ones the first), and its surety is the log-odds
of that class under the softmax: z_c - log(sum of exp z_j over j != c), so that its confidence is
1 / (1 + exp(-surety)). A float32 pass with the bound of `cql.codec.error_bound` finds the rows that
could count; those are scored again as defined, so that any division into shards says the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from analytics.identity import halves
from analytics.kernels import Map
from cql.codec import error_bound
from cql.errors import InputError

if TYPE_CHECKING:
    from analytics.hosting.holding import Part
    from analytics.scanning.blocks import Block

CLASSES_MAX = 1_000
K_MAX = 10_000
"""Most rows of one ranking."""
CHUNK_BYTES = 8_000_000
"""Bytes of vectors that a thread reads at a time."""
_EXACT_ROWS = 1_024
_NORM = 1.02
"""No stored vector is longer."""


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """`units` float32 (C, D) of unit norm, `norms` and `biases` float64 (C,)."""

    units: NDArray[np.float32]
    norms: NDArray[np.float64]
    biases: NDArray[np.float64]

    @classmethod
    def of(cls, weights: NDArray[Any], biases: NDArray[Any]) -> Self:
        """From weights (C, D) and biases (C,). InputError for NaN, or shapes that do not fit."""
        wide = np.asarray(weights, np.float64)
        free = np.asarray(biases, np.float64)
        if wide.ndim != 2 or free.shape != wide.shape[:1] or not wide.size:
            raise InputError(
                f"weights must be (C, D) and biases (C,), got {wide.shape} and {free.shape}"
            )
        if len(wide) > CLASSES_MAX:
            raise InputError(f"at most {CLASSES_MAX} classes can be scored, got {len(wide)}")
        if not (np.isfinite(wide).all() and np.isfinite(free).all()):
            raise InputError("weights and biases must be finite numbers, some are not: train again")
        norms = np.linalg.norm(wide, axis=1)
        units = np.zeros(wide.shape, np.float32)
        units[:, 0] = 1  # a class without weights has a direction all the same
        some = norms > 0
        units[some] = wide[some] / norms[some, None]
        return cls(units, norms, free)

    def scaled(self, temperature: float) -> Linear:
        """Divide every score by a temperature: classes stay, confidence changes."""
        return Linear(self.units, self.norms / temperature, self.biases / temperature)

    def scores(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score float32 (N, D) as defined: float64 (N, C)."""
        found = np.empty((len(vectors), len(self.units)))
        wide = np.ascontiguousarray(self.units.T, np.float64)
        for start in range(0, len(vectors), _EXACT_ROWS):
            part = np.ascontiguousarray(vectors[start : start + _EXACT_ROWS].T, np.float64)
            total = np.zeros((part.shape[1], len(self.units)))
            for x, u in zip(part, wide, strict=True):
                total += x[:, None] * u[None, :]
            found[start : start + _EXACT_ROWS] = total * self.norms + self.biases
        return found

    def decide(self, vectors: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Class and surety of float32 (N, D): int32 (N,) and float32 (N,)."""
        return decided(self.scores(vectors))


def decided(scores: NDArray[np.floating[Any]]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Class and surety of scores (N, C)."""
    best, surety, _ = _decided(scores)
    return best, surety


def _decided(
    scores: NDArray[np.floating[Any]],
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.floating[Any]]]:
    """Class, surety, and by how much the best score is above the next."""
    best, surety, ahead = _wide(scores)
    return best, surety.astype(np.float32) + np.float32(0), ahead


def _wide(
    scores: NDArray[np.floating[Any]],
) -> tuple[NDArray[np.int32], NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    """The same, with the surety as wide as the scores are."""
    if scores.shape[1] == 1:
        own = scores[:, 0].copy()
        return np.zeros(len(scores), np.int32), own, np.abs(own)
    best = scores.argmax(axis=1)
    rows = np.arange(len(scores))
    others = scores.copy()
    others[rows, best] = -np.inf
    second = others.max(axis=1)
    others -= second[:, None]
    np.exp(others, out=others)
    ahead = scores[rows, best] - second
    return best.astype(np.int32), ahead - np.log(others.sum(axis=1)), ahead


def confidence(surety: NDArray[Any]) -> NDArray[np.float64]:
    """Turn log-odds into a share: 1 / (1 + exp(-surety))."""
    wide = np.clip(np.asarray(surety, np.float64), -700, 700)
    return np.asarray(1 / (1 + np.exp(-wide)), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """Rows in rank order: `sureties` float32 (K,), `classes` int32, `images` uint8 (K, 16)."""

    sureties: NDArray[np.float32]
    classes: NDArray[np.int32]
    images: NDArray[np.uint8]
    listings: list[str]

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.sureties)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What some rows have together.

    `counts` int64 (C,): rows of each class; with C = 1 those of a surety of at least the threshold.
    `unsure`: the least sure rows (of C = 1 those nearest to 0); `best`: the surest of one class.
    """

    rows: int
    counts: NDArray[np.int64]
    unsure: Ranked
    best: Ranked


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """What is asked: the k least sure rows and the k surest of class `of` (None: of none).

    `without`: ids (16 bytes each) of images that are counted but not ranked. With C = 1 every row
    is of class 0, and those with a surety of at least `threshold` are counted.
    """

    k: int
    of: int | None = None
    without: frozenset[bytes] = frozenset()
    threshold: float = 0.0

    def check(self, classes: int) -> None:
        """InputError where it breaks a rule."""
        if not 1 <= self.k <= K_MAX:
            raise InputError(f"k must be from 1 to {K_MAX}, got {self.k}: ask for fewer")
        if self.of is not None and not 0 <= self.of < classes:
            raise InputError(f"a class must be from 0 to {classes - 1}, got {self.of}")
        if not np.isfinite(self.threshold):
            raise InputError(f"a threshold must be a finite number, got {self.threshold}")


def over_parts(parts: Sequence[Part], model: Linear, want: Want, *, each: Map = map) -> Found:
    """Score every row of some shards as they are now: changed listings fresh, deleted rows out."""
    want.check(len(model.units))
    found = []
    ids = np.frombuffer(b"".join(want.without), np.uint64)[::2]
    for part in parts:
        masks = (part.alive, None)
        for block, alive in zip(part.blocks, masks, strict=False):
            found.append(_over_block(block, alive, model, want, ids=ids, each=each))
    return merge(found, len(model.units), want)


@dataclass(frozen=True, slots=True, eq=False)
class Classified:
    """Every row: `images` uint8 (N, 16), `classes` uint16 (N,), `sureties` float32 (N,)."""

    images: NDArray[np.uint8]
    classes: NDArray[np.uint16]
    sureties: NDArray[np.float32]


def classified(parts: Sequence[Part], model: Linear, *, each: Map = map) -> Classified:
    """Class and surety of every row of some shards as they are now, each as defined.

    Float64 sums in any order err by so little that hardly a row has to be scored again.
    """
    found = []
    for part in parts:
        for block, alive in zip(part.blocks, (part.alive, None), strict=False):
            classes, sureties = _whole(block, model, each)
            seen = np.ones(block.rows, bool) if alive is None else alive.astype(bool)
            found.append(Classified(block.images[seen], classes[seen], sureties[seen]))
    return joined(found)


def joined(found: Sequence[Classified]) -> Classified:
    """All rows of several."""
    return Classified(
        np.concatenate([np.empty((0, 16), np.uint8), *(one.images for one in found)]),
        np.concatenate([np.empty(0, np.uint16), *(one.classes for one in found)]),
        np.concatenate([np.empty(0, np.float32), *(one.sureties for one in found)]),
    )


def _whole(
    block: Block, model: Linear, each: Map
) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    error = _wide_error(model)
    units = model.units.T.astype(np.float64)
    sureties = np.empty(block.rows, np.float32)
    classes = np.empty(block.rows, np.uint16)
    size = max(64, CHUNK_BYTES // (8 * block.vectors.shape[1]))

    def run(start: int) -> None:
        end = min(block.rows, start + size)
        part = block.gather(np.arange(start, end, dtype=np.int64))
        own, surety, ahead = _wide(part.astype(np.float64) @ units * model.norms + model.biases)
        least, most = (surety - error).astype(np.float32), (surety + error).astype(np.float32)
        at = np.flatnonzero((least != most) | (ahead <= error))
        rounded = surety.astype(np.float32) + np.float32(0)
        if len(at):
            own[at], rounded[at] = model.decide(part[at])
        classes[start:end], sureties[start:end] = own, rounded

    for _ in each(run, range(0, block.rows, size)):  # type: ignore[attr-defined]
        pass
    return classes, sureties


def merge(found: Sequence[Found], classes: int, want: Want) -> Found:
    """Put what several have together: the same as if one had seen all rows."""
    counts = np.zeros(classes, np.int64)
    for one in found:
        counts += one.counts
    return Found(
        sum(one.rows for one in found),
        counts,
        _first([one.unsure for one in found], want.k, _unsure_key(classes)),
        _first([one.best for one in found], want.k, np.asarray),
    )


Key = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def _unsure_key(classes: int) -> Key:
    return (lambda surety: -np.abs(surety)) if classes == 1 else (lambda surety: -surety)


def _first(lists: Sequence[Ranked], k: int, key: Key) -> Ranked:
    some = [each for each in lists if len(each)]
    if not some:
        return Ranked(
            np.empty(0, np.float32), np.empty(0, np.int32), np.empty((0, 16), np.uint8), []
        )
    sureties = np.concatenate([each.sureties for each in some])
    images = np.concatenate([each.images for each in some])
    names = [name for each in some for name in each.listings]
    order = _order(key(sureties), images)[:k]
    classes = np.concatenate([each.classes for each in some])
    return Ranked(
        sureties[order], classes[order], images[order], [names[at] for at in order.tolist()]
    )


def _order(keys: NDArray[np.float32], images: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.lexsort((*halves(images), -keys))


def _over_block(
    block: Block,
    alive: NDArray[np.uint8] | None,
    model: Linear,
    want: Want,
    *,
    ids: NDArray[np.uint64],
    each: Map,
) -> Found:
    slack, gap = _slack(model)
    single = len(model.units) == 1
    sureties = np.empty(block.rows, np.float32)
    classes = np.zeros(block.rows, np.int32)
    size = max(64, CHUNK_BYTES // (4 * block.vectors.shape[1]))
    scale, free = model.norms.astype(np.float32), model.biases.astype(np.float32)

    def run(start: int) -> None:
        end = min(block.rows, start + size)
        part = (
            block.vectors[start:end]
            if block.file is None
            else block.gather(np.arange(start, end, dtype=np.int64))
        )
        rough = part @ model.units.T
        rough *= scale
        rough += free
        own, surety, ahead = _decided(rough)
        near = np.abs(surety - np.float32(want.threshold)) if single else ahead
        close = near <= (slack if single else gap)
        at = np.flatnonzero(close)
        if len(at):  # what the rounding could decide is decided as defined
            own[at], surety[at] = model.decide(part[at])
        classes[start:end], sureties[start:end] = own, surety

    for _ in each(run, range(0, block.rows, size)):  # type: ignore[attr-defined]
        pass
    seen = np.ones(block.rows, bool) if alive is None else alive.astype(bool)
    total = int(seen.sum())
    if single:
        counts = np.array([np.count_nonzero(seen & (sureties >= np.float32(want.threshold)))])
    else:
        counts = np.bincount(classes[seen], minlength=len(model.units))
    if len(ids):  # half of an id tells nearly all apart, what is left is looked at whole
        keys = np.ascontiguousarray(block.images).view(np.uint64)[:, 0]
        for row in np.flatnonzero(seen & np.isin(keys, ids)):
            seen[row] = block.images[row].tobytes() not in want.without
    unsure = _ranked(
        block, seen, sureties, model, want, key=_unsure_key(len(model.units)), slack=slack
    )
    chosen = np.zeros(block.rows, bool) if want.of is None else seen & (classes == want.of)
    best = _ranked(block, chosen, sureties, model, want, key=np.asarray, slack=slack)
    return Found(total, counts.astype(np.int64), unsure, best)


def _ranked(
    block: Block,
    chosen: NDArray[np.bool_],
    sureties: NDArray[np.float32],
    model: Linear,
    want: Want,
    *,
    key: Key,
    slack: float,
) -> Ranked:
    rows = np.flatnonzero(chosen)
    keys = key(sureties[rows])
    if want.k < len(rows):
        cut = np.partition(keys, len(rows) - want.k)[len(rows) - want.k]
        rows = rows[keys >= cut - 2 * slack]
    own, exact = model.decide(block.gather(rows.astype(np.int64)))
    order = _order(key(exact), block.images[rows])[: want.k]
    rows = rows[order]
    owners = np.searchsorted(block.offsets, rows, side="right") - 1
    names = block.listings.take(owners).to_pylist() if len(owners) else []
    return Ranked(exact[order], own[order], np.array(block.images[rows]), names)


def _slack(model: Linear) -> tuple[float, float]:
    """By how much a rough surety may err, and how close two rough scores may be confused."""
    dim, classes = model.units.shape[1], len(model.units)
    unit = 2.0**-23
    most = float((model.norms * _NORM + np.abs(model.biases)).max())
    error = float(model.norms.max()) * error_bound(dim) + 4 * unit * most
    # exp of at most 90, a sum of C, a log, and the last rounding, all in float32.
    return 2 * error + (2 * classes + 200) * unit + 8 * unit * most, 2 * error


def _wide_error(model: Linear) -> float:
    """By how much a surety, or the distance of two scores, may err that is summed in float64.

    As `_slack`, with the unit of float64: a product of D numbers in any order errs by at most
    D units of the sum of its terms' sizes, which unit vectors keep below their norms' product.
    """
    dim, classes = model.units.shape[1], len(model.units)
    unit = 2.0**-52
    most = float((model.norms * _NORM + np.abs(model.biases)).max())
    return float(4 * (dim + 8) * unit * most + (2 * classes + 200) * unit)
