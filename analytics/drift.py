"""What changed between two maps: clusters that came, went and drifted, images that became outliers.

Clusters are the same where they have one key (`analytics.hierarchy.keys.match`), images where
they have one id. Every count is over all images of both maps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from analytics.identity import halves, places
from cql.progress import Progress, silent

SAMPLE = 128
"""Listings of each side of a cluster that its test compares, drawn by the seed."""
PERMUTATIONS = 499
SHARE = 100
"""An outlier is one of the strangest 1/SHARE of a map, one image at least."""
LEVEL = 0.05
"""False discovery rate at which a cluster counts as drifted."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Side:
    """One map: `images` uint8 (N, 16), `labels` int (N,) with -1 for none, `scores` (N,).

    `keys`, `names` and `means` (float64 (D,), of the members' vectors) are by cluster number.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.integer]
    scores: NDArray[np.floating]
    keys: Sequence[UUID]
    names: Sequence[str]
    means: Mapping[int, NDArray[np.floating]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Where images of a cluster come from or go to: a cluster, none of them, or not in that map."""

    key: UUID | None
    name: str
    images: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One cluster in two maps; `kind`: new, vanished or kept.

    Of `after` images now and `before` images then, `joined` came (`added` of them are new to the
    collection) and `left` went (`removed` of them from the collection). `parts`: where the images
    of a new cluster were, or where those of a vanished one are; the most first.

    `shift`: Euclidean distance of the two means of unit vectors. `energy`, `p`, `q`: energy
    distance between the listings that joined and those that were there, its permutation p-value,
    and that value corrected for the number of clusters; None where there is nothing to test.
    """

    kind: str
    key: UUID
    number: int
    name: str
    before: int
    after: int
    joined: int
    added: int
    left: int
    removed: int
    parts: tuple[Part, ...] = ()
    shift: float | None = None
    energy: float | None = None
    p: float | None = None
    q: float | None = None

    @property
    def drifted(self) -> bool:
        """Whether what joined differs from what was there."""
        return self.q is not None and self.q <= LEVEL


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """All that changed. `added` and `removed` images; clusters: new, vanished, then the others.

    `outliers` int64: rows of the later map that are outliers now and were none before, the
    strangest first; `scores_before` float64: their score then, NaN for images that were not there.
    """

    rows_before: int
    rows_after: int
    added: int
    removed: int
    clusters: tuple[Change, ...]
    outliers: NDArray[np.int64]
    scores_before: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy distance and its p-value."""

    value: float
    p: float


def compare(
    before: Side,
    after: Side,
    *,
    vectors: NDArray[np.float32] | None = None,
    owners: NDArray[np.int64] | None = None,
    seed: int = 1,
    progress: Progress = silent,
) -> Comparison:
    """Compare two maps.

    With `vectors` float32 (N, D) and `owners` int64 (N,), the listings, of the later map's images,
    the listings that joined each cluster are tested against those that were in it; rows of NaN are
    left out.
    """
    at = places(before.images, after.images)
    was = np.where(at >= 0, before.labels[at] if len(before.labels) else -1, -1)
    gone = np.ones(len(before.labels), bool)
    gone[at[at >= 0]] = False
    now = np.full(len(before.labels), -1, np.int64)
    now[at[at >= 0]] = after.labels[at >= 0]
    numbers = {key: number for number, key in enumerate(before.keys)}
    found = []
    for number, key in enumerate(after.keys):
        progress("changes", number, len(after.keys))
        mine = after.labels == number
        old = numbers.get(key)
        if old is None:
            size = int(mine.sum())
            found.append(
                Change(
                    kind="new",
                    key=key,
                    number=number,
                    name=after.names[number],
                    before=0,
                    after=size,
                    joined=size,
                    added=int((mine & (at < 0)).sum()),
                    left=0,
                    removed=0,
                    parts=_parts(was[mine], at[mine] < 0, before),
                )
            )
            continue
        then = before.labels == old
        joined = mine & (was != old)
        tested = _tested(vectors, owners, joined, was == old, [seed, number])
        found.append(
            Change(
                kind="kept",
                key=key,
                number=number,
                name=after.names[number],
                before=int(then.sum()),
                after=int(mine.sum()),
                joined=int(joined.sum()),
                added=int((joined & (at < 0)).sum()),
                left=int((then & (now != number)).sum()),
                removed=int((then & gone).sum()),
                shift=_shift(before.means.get(old), after.means.get(number)),
                energy=None if tested is None else tested.value,
                p=None if tested is None else tested.p,
            )
        )
    kept = set(after.keys)
    for old, key in enumerate(before.keys):
        progress("changes", len(after.keys), len(after.keys))
        if key not in kept:
            then = before.labels == old
            found.append(
                Change(
                    kind="vanished",
                    key=key,
                    number=old,
                    name=before.names[old],
                    before=int(then.sum()),
                    after=0,
                    joined=0,
                    added=0,
                    left=int(then.sum()),
                    removed=int((then & gone).sum()),
                    parts=_parts(now[then], gone[then], after),
                )
            )
    order = {"new": 0, "vanished": 1, "kept": 2}
    clusters = sorted(_corrected(found), key=lambda each: (order[each.kind], -each.after))
    strange, earlier = _outliers(before, after, at)
    return Comparison(
        rows_before=len(before.labels),
        rows_after=len(after.labels),
        added=int((at < 0).sum()),
        removed=int(gone.sum()),
        clusters=tuple(clusters),
        outliers=strange,
        scores_before=earlier,
    )


def energy(left: NDArray[np.floating], right: NDArray[np.floating], seed: Sequence[int]) -> Energy:
    """Energy distance of two samples (Székely and Rizzo, 2013) with its permutation p-value.

    2 E|X - Y| - E|X - X'| - E|Y - Y'| of Euclidean distances; at least 0, and 0 for equal
    distributions alone. p = (1 + permutations at least as far) / (1 + all of them).
    """
    both = np.concatenate([left, right]).astype(np.float64)
    squares = (both**2).sum(axis=1)
    gaps = np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2 * both @ both.T, 0.0))
    np.fill_diagonal(gaps, 0.0)
    own = np.zeros(len(both))
    own[: len(left)] = 1.0
    rng = np.random.default_rng(seed)
    drawn = np.tile(own, (1 + PERMUTATIONS, 1))
    rng.permuted(drawn[1:], axis=1, out=drawn[1:])
    across = drawn @ gaps
    inside = (across * drawn).sum(axis=1)
    between = (across * (1 - drawn)).sum(axis=1)
    outside = gaps.sum() - inside - 2 * between
    n, m = len(left), len(right)
    values = 2 * between / (n * m) - inside / n**2 - outside / m**2
    # Sums in another order differ by rounding: a permutation that swaps equal rows is a tie.
    least = values[0] - 1e-9 * max(1.0, abs(float(values[0])))
    p = (1 + np.count_nonzero(values[1:] >= least)) / (1 + PERMUTATIONS)
    return Energy(max(0.0, float(values[0])), float(p))


def _tested(
    vectors: NDArray[np.float32] | None,
    owners: NDArray[np.int64] | None,
    joined: NDArray[np.bool_],
    there: NDArray[np.bool_],
    seed: Sequence[int],
) -> Energy | None:
    """Energy distance and p of those that joined beside those that were there.

    One image of a listing: photos of one thing are no independent draws.
    """
    if vectors is None or owners is None:
        return None
    rng = np.random.default_rng(seed)
    sides = [_drawn(np.flatnonzero(rows), owners, rng) for rows in (joined, there)]
    # A listing that was there and got more photos is no newcomer.
    sides[0] = sides[0][~np.isin(owners[sides[0]], owners[there])][:SAMPLE]
    sides[1] = sides[1][:SAMPLE]
    drawn = [vectors[side] for side in sides]
    drawn = [side[~np.isnan(side).any(axis=1)] for side in drawn]
    if min(len(side) for side in drawn) < 2:
        return None
    return energy(drawn[0], drawn[1], seed)


def _drawn(
    rows: NDArray[np.int64], owners: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """One row of each listing among `rows`, in random order."""
    mixed = rng.permutation(rows)
    _, first = np.unique(owners[mixed], return_index=True)
    chosen: NDArray[np.int64] = rng.permutation(mixed[first])
    return chosen


def _corrected(changes: Sequence[Change]) -> list[Change]:
    """Give each tested cluster its q (Benjamini and Hochberg, 1995)."""
    tested = [n for n, each in enumerate(changes) if each.p is not None]
    tested.sort(key=lambda n: changes[n].p or 0.0)
    found, least = list(changes), 1.0
    for rank in range(len(tested), 0, -1):
        number = tested[rank - 1]
        least = min(least, (changes[number].p or 0.0) * len(tested) / rank)
        found[number] = replace(changes[number], q=least)
    return found


def _shift(before: NDArray[np.floating] | None, after: NDArray[np.floating] | None) -> float | None:
    if before is None or after is None or len(before) != len(after):
        return None
    return float(np.linalg.norm(np.asarray(after, np.float64) - np.asarray(before, np.float64)))


def _parts(labels: NDArray[np.integer], absent: NDArray[np.bool_], side: Side) -> tuple[Part, ...]:
    """Count images by where they are in the other map."""
    counts = np.bincount(labels[(labels >= 0) & ~absent], minlength=len(side.keys))
    found = [
        Part(key=side.keys[number], name=side.names[number], images=int(images))
        for number, images in enumerate(counts)
        if images
    ]
    none = int(((labels < 0) & ~absent).sum())
    if none:
        found.append(Part(key=None, name="No cluster", images=none))
    if absent.any():
        found.append(Part(key=None, name="Not in the collection", images=int(absent.sum())))
    return tuple(sorted(found, key=lambda part: (-part.images, part.name)))


def _outliers(
    before: Side, after: Side, at: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    then = np.zeros(len(before.labels), bool)
    then[strangest(before)] = True
    rows = strangest(after)
    if len(then):
        rows = rows[(at[rows] < 0) | ~then[at[rows]]]
        scores = np.where(at[rows] >= 0, before.scores[at[rows]].astype(np.float64), np.nan)
    else:
        scores = np.full(len(rows), np.nan)
    return rows, scores


def strangest(side: Side) -> NDArray[np.int64]:
    """Rows of the strangest hundredth of a map, one at least: by score, then image id."""
    count = len(side.labels)
    if not count:
        return np.empty(0, np.int64)
    ranked = np.lexsort((*halves(side.images), -side.scores.astype(np.float32)))
    return ranked[: -(-count // SHARE)].astype(np.int64)
