"""Near-duplicates over all rows: candidates, a check of each pair, groups that hang together.

Candidates are pairs that the neighbour graph or the hashes put close; each is decided by how alike
the two pictures are (`copies.alike`), and a group is a connected component of decided pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree

from analytics.evidence.copies import Pictures, alike, bits
from analytics.identity import places
from analytics.neighbours import Graph
from cql.progress import Progress, silent
from cql.records import NAMESPACE

FLOOR = 0.75
"""Least similarity of features at which neighbours are compared as pictures."""
NEAREST = 15
"""Neighbours of each row that are compared; copies beyond them hang on by others."""
FAR = 8
"""Most bits by which hashes of a candidate pair differ."""
THRESHOLD = 0.955
"""Least likeness of copies where it was not chosen on the collection itself."""
SURE = 0.99
"""Precision that a chosen threshold must reach on planted copies."""
SAME = 0.3
"""Least overlap (Jaccard, of images) at which a group carries on the key of an earlier one."""

_CHUNKS = 8
_WINDOW = 64
_ROUND = 1 << 17

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Pairs of rows, `left` < `right`, each once: int64 (P,); `cosine` float32, 0 where unknown."""

    left: Rows
    right: Rows
    cosine: NDArray[np.float32]

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.left)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Groups of near-duplicates over N rows.

    Members of all groups by group, the largest group first, the representative first within:
    `rows` int64 (M,), `groups` int64 (M,); `tied` int64 (M,), the member's place in `rows` that it
    hangs on (-1 for a representative), with `alike` float32, `bits` int64 and `cosine` float32 of
    that pair. `candidates` pairs were looked at.
    """

    rows: Rows
    groups: Rows
    tied: Rows
    alike: NDArray[np.float32]
    bits: Rows
    cosine: NDArray[np.float32]
    candidates: int

    @property
    def count(self) -> int:
        """Number of groups."""
        return int(self.groups[-1]) + 1 if len(self.groups) else 0


@dataclass(frozen=True, slots=True, eq=False)
class Planted:
    """C copies of rows of the collection, made to measure how well copies are found.

    `origins` int64 (C,) are rows; `rows` int64 (C, K) and `scores` float32 (C, K) are the nearest
    rows by features, K may be 0.
    """

    pictures: Pictures
    origins: Rows
    rows: Rows
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Curve:
    """Precision and recall of pairs by threshold, ascending, and the threshold chosen."""

    thresholds: tuple[float, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    chosen: float
    copies: int


def candidates(
    pictures: Pictures, graph: Graph | None, *, floor: float = FLOOR, nearest: int = NEAREST
) -> Pairs:
    """Pairs worth comparing: close in features, or of hashes that differ in at most 8 bits.

    At most `nearest` pairs a row come from the graph, and a bounded number from the hashes: the
    work is O(N log N) however many pictures are equal.
    """
    parts = [_hashed(pictures)]
    if graph is not None and graph.rows.shape[1]:
        near = graph.rows[:, :nearest]
        scores = graph.scores[:, :nearest]
        row, place = np.nonzero(scores >= floor)
        parts.insert(0, Pairs(row, near[row, place], scores[row, place]))
    left = np.concatenate([part.left for part in parts])
    right = np.concatenate([part.right for part in parts])
    cosine = np.concatenate([part.cosine for part in parts])
    low, high = np.minimum(left, right), np.maximum(left, right)
    keep = pictures.known[low] & pictures.known[high] & (low != high)
    low, high, cosine = low[keep], high[keep], cosine[keep]
    # Each pair once; a pair from the graph goes first and keeps its similarity.
    _, first = np.unique(low * np.int64(len(pictures)) + high, return_index=True)
    return Pairs(low[first], high[first], cosine[first])


def find(
    pictures: Pictures,
    graph: Graph | None,
    *,
    threshold: float = THRESHOLD,
    floor: float = FLOOR,
    nearest: int = NEAREST,
    prefer: NDArray[np.floating] | None = None,
    progress: Progress = silent,
    threads: int | None = None,
) -> Found:
    """Group the near-duplicates of a collection.

    `prefer` float (N,) ranks the members for the representative, the largest wins (ties: the first
    row). Pairs that already hang together are not compared again.
    """
    pairs = candidates(pictures, graph, floor=floor, nearest=nearest)
    far = bits(pictures.hashes[pairs.left], pictures.hashes[pairs.right])
    # Ties in no order: equal pictures hang together long before all their pairs are read.
    shuffled = np.random.default_rng(0).permutation(len(pairs))
    order = np.lexsort((shuffled, -pairs.cosine, far))
    label = np.arange(len(pictures))
    held: list[Rows] = []
    values: list[NDArray[np.float32]] = []
    for start in range(0, len(order), _ROUND):
        part = order[start : start + _ROUND]
        part = part[label[pairs.left[part]] != label[pairs.right[part]]]
        found = alike(pictures, pairs.left[part], pairs.right[part], threads=threads)
        good = found >= threshold
        held.append(part[good])
        values.append(found[good])
        if good.any():
            label = _join(label, pairs.left[part[good]], pairs.right[part[good]])
        progress("duplicates", min(start + _ROUND, len(order)), len(order))
    kept = np.concatenate(held) if held else np.empty(0, np.int64)
    likeness = np.concatenate(values) if values else np.empty(0, np.float32)
    edges = Pairs(pairs.left[kept], pairs.right[kept], pairs.cosine[kept])
    return _grouped(len(pictures), edges, likeness, far[kept], label, prefer, len(pairs))


def curve(
    pictures: Pictures, planted: Planted, *, floor: float = FLOOR, threads: int | None = None
) -> Curve:
    """Precision and recall of pairs over thresholds, on copies planted among the collection.

    A pair of a copy and its origin is right, a pair of a copy and any other row is wrong, unless
    that row cannot be told from the origin (equal signatures but for a level or two). What the
    collection holds of real copies counts as wrong, so the true precision is not below this one.
    Chosen is the middle of the thresholds with the best F1, among those from which on precision
    stays at least 0.99 where there are any.
    """
    count, copies = len(pictures), len(planted.origins)
    both = _appended(pictures, planted.pictures)
    found = _hashed(both)
    own = found.right >= count
    left, right = found.left[own], found.right[own]
    between = left < count
    left, right = left[between], right[between]
    copy, place = np.nonzero(planted.scores >= floor)
    left = np.concatenate([left, planted.rows[copy, place]])
    right = np.concatenate([right, copy + count])
    _, first = np.unique(left * np.int64(count + copies) + right, return_index=True)
    left, right = left[first], right[first]
    keep = both.known[left] & both.known[right]
    left, right = left[keep], right[keep]
    origin = planted.origins[right - count]
    true = left == origin
    twin = _twins(pictures, left, origin) & ~true
    left, right, true = left[~twin], right[~twin], true[~twin]
    likeness = alike(both, left, right, threads=threads)
    return _curve(likeness, true, copies)


def keys(
    digests: Sequence[bytes], groups: Rows, earlier_images: NDArray[np.uint8], earlier: Rows
) -> dict[int, int]:
    """Which earlier group each group carries on: {group: earlier group}.

    `digests` are the image ids (16 bytes) of the members in `groups` int64 (M,);
    `earlier_images` uint8 (E, 16) those of the earlier groups `earlier` int64 (E,). Pairs of groups
    are taken by falling Jaccard index down to 0.3, each group once.
    """
    if not len(groups) or not len(earlier):
        return {}
    now = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16)
    at = places(earlier_images, now)
    both = at >= 0
    old = np.where(both, earlier[at], -1)
    size, size_before = np.bincount(groups), np.bincount(earlier)
    joint, shared = np.unique(
        groups[both] * np.int64(len(size_before)) + old[both], return_counts=True
    )
    own, theirs = joint // len(size_before), joint % len(size_before)
    overlap = shared / (size[own] + size_before[theirs] - shared)
    found: dict[int, int] = {}
    taken: set[int] = set()
    for pair in np.lexsort((theirs, own, -overlap)):
        group, other = int(own[pair]), int(theirs[pair])
        if overlap[pair] >= SAME and group not in found and other not in taken:
            found[group] = other
            taken.add(other)
    return found


def fresh_key(images: Sequence[UUID]) -> UUID:
    """The key of a group that carries on no earlier one: from its smallest image id."""
    return uuid5(NAMESPACE, f"duplicates\0{min(images)}")


def digest(images: Sequence[UUID]) -> str:
    """What changes when the members of a group do: 12 hex digits."""
    text = b"".join(sorted(image.bytes for image in images))
    return hashlib.sha256(text).hexdigest()[:12]


def _hashed(pictures: Pictures) -> Pairs:
    """Pairs of rows whose hashes differ in at most 8 bits: all up to 6 bits, most beyond.

    Multi-index hashing (Norouzi, Punjani, Fleet, 2012): of 8 chunks of a hash, 6 bits leave at
    least 2 as they are, so that such hashes meet under one of the 28 pairs of chunks. Rows of one
    hash are tied in a chain; different hashes that meet are compared with the next 64 in order, so
    that the work stays bounded where thousands meet.
    """
    rows = np.flatnonzero(pictures.known)
    order = rows[np.argsort(pictures.hashes[rows], kind="stable")]
    values = pictures.hashes[order]
    equal = values[1:] == values[:-1]
    lefts, rights = [order[:-1][equal]], [order[1:][equal]]
    ones = order[np.concatenate([[True], ~equal])] if len(order) else order
    own = pictures.hashes[ones]
    for pair in combinations(range(_CHUNKS), 2):
        key = _chunks(own, pair)
        turn = np.lexsort((own, key))
        sorted_key, sorted_own, sorted_rows = key[turn], own[turn], ones[turn]
        for step in range(1, _WINDOW + 1):
            same = np.flatnonzero(sorted_key[step:] == sorted_key[:-step])
            if not len(same):
                break
            close = same[bits(sorted_own[same], sorted_own[same + step]) <= FAR]
            lefts.append(sorted_rows[close])
            rights.append(sorted_rows[close + step])
    left, right = np.concatenate(lefts), np.concatenate(rights)
    low, high = np.minimum(left, right), np.maximum(left, right)
    _, first = np.unique(low * np.int64(max(len(pictures), 1)) + high, return_index=True)
    low, high = low[first], high[first]
    return Pairs(low, high, np.zeros(len(low), np.float32))


def _chunks(hashes: NDArray[np.int64], chosen: Sequence[int]) -> NDArray[np.uint64]:
    """The bits of some chunks; a chunk is a diagonal of frequencies, low and high ones in each."""
    mask = sum(1 << bit for bit in range(64) if (bit + bit // _CHUNKS) % _CHUNKS in chosen)
    return hashes.view(np.uint64) & np.uint64(mask)


def _join(label: Rows, left: Rows, right: Rows) -> Rows:
    """Labels of rows after pairs were tied; a label is a number below N."""
    count = len(label)
    ones = np.ones(len(left), np.int8)
    tied = coo_array((ones, (label[left], label[right])), shape=(count, count))
    _, merged = connected_components(tied.tocsr(), directed=False)
    joined: Rows = merged.astype(np.int64)[label]
    return joined


def _grouped(  # noqa: PLR0917 - parts of one computation
    count: int,
    edges: Pairs,
    likeness: NDArray[np.float32],
    far: Rows,
    label: Rows,
    prefer: NDArray[np.floating] | None,
    looked: int,
) -> Found:
    """Order the members of groups and let each hang on an earlier one by its likeliest pair."""
    empty = np.empty(0, np.int64)
    if not len(edges):
        none = np.empty(0, np.float32)
        return Found(empty, empty, empty, none, empty, none, looked)
    rows = np.unique(np.concatenate([edges.left, edges.right]))
    _, inverse, sizes = np.unique(label[rows], return_inverse=True, return_counts=True)
    first = np.full(len(sizes), count)
    np.minimum.at(first, inverse, rows)
    ranked = np.lexsort((first, -sizes))
    rank = np.empty(len(sizes), np.int64)
    rank[ranked] = np.arange(len(sizes))
    liked = np.zeros(len(rows)) if prefer is None else -prefer[rows].astype(np.float64)
    head = np.lexsort((rows, liked, rank[inverse]))
    heads = head[np.concatenate([[0], np.cumsum(sizes[ranked])[:-1]])]
    # A spanning tree of the likeliest pairs, walked from the representatives by one more node.
    place = np.full(count, -1)
    place[rows] = np.arange(len(rows))
    a, b = place[edges.left], place[edges.right]
    weight = 2.0 - likeness.astype(np.float64)
    root = len(rows)
    tree = minimum_spanning_tree(
        coo_array(
            (
                np.concatenate([weight, np.full(len(heads), 0.5)]),
                (np.concatenate([a, np.full(len(heads), root)]), np.concatenate([b, heads])),
            ),
            shape=(root + 1, root + 1),
        ).tocsr()
    )
    walk, before = breadth_first_order(tree, root, directed=False)
    walk = walk[1:]
    walk = walk[np.argsort(rank[inverse[walk]], kind="stable")]
    at = np.empty(root + 1, np.int64)
    at[walk] = np.arange(root)
    parent = before[walk].astype(np.int64)
    hangs = parent != root
    edge = _edge_of(a, b, root, walk[hangs], parent[hangs])
    tied, value = np.full(root, -1), np.ones(root, np.float32)
    gap, cosine = np.zeros(root, np.int64), np.ones(root, np.float32)
    tied[hangs], value[hangs] = at[parent[hangs]], likeness[edge]
    gap[hangs], cosine[hangs] = far[edge], edges.cosine[edge]
    return Found(rows[walk], rank[inverse[walk]], tied, value, gap, cosine, looked)


def _edge_of(a: Rows, b: Rows, count: int, left: Rows, right: Rows) -> Rows:
    """Number of the edge between `left` and `right`."""
    width = np.int64(count + 1)
    key = np.minimum(a, b) * width + np.maximum(a, b)
    order = np.argsort(key)
    wanted = np.minimum(left, right) * width + np.maximum(left, right)
    found: Rows = order[np.searchsorted(key[order], wanted)]
    return found


def _appended(pictures: Pictures, more: Pictures) -> Pictures:
    return Pictures(
        np.concatenate([pictures.hashes, more.hashes]),
        np.concatenate([pictures.signatures, more.signatures]),
        np.concatenate([pictures.known, more.known]),
    )


def _twins(pictures: Pictures, left: Rows, right: Rows) -> NDArray[np.bool_]:
    """Whether two rows show the same but for two grey levels."""
    a = pictures.signatures[left].astype(np.int16)
    gap = np.abs(a - pictures.signatures[right]).max(axis=1, initial=0)
    same: NDArray[np.bool_] = (gap <= 2) & pictures.known[left] & pictures.known[right]
    return same


def _curve(likeness: NDArray[np.float32], true: NDArray[np.bool_], copies: int) -> Curve:
    thresholds = np.round(np.arange(0.5, 1.0, 0.005), 3)
    taken = likeness[None, :] >= thresholds[:, None]
    right = (taken & true).sum(axis=1)
    total = taken.sum(axis=1)
    precision = np.where(total > 0, right / np.maximum(total, 1), 1.0)
    recall = right / max(copies, 1)
    stays = np.minimum.accumulate(precision[::-1])[::-1] >= SURE
    value = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    if (stays & (recall > 0)).any():
        value[~stays] = -1.0
    plateau = np.flatnonzero(value >= value.max() - 1e-9)
    best = int(plateau[len(plateau) // 2])
    return Curve(
        tuple(thresholds.tolist()),
        tuple(precision.tolist()),
        tuple(recall.tolist()),
        float(thresholds[best]) if copies else THRESHOLD,
        copies,
    )
