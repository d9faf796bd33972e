"""Clusters as analysts decided: merges and splits replayed over any clustering, old or new.

A decision names clusters by key, and keys are carried on from map to map
(`analytics.hierarchy.keys`). What names a cluster that a map does not have waits, and holds again
when it comes back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from analytics.decisions.decided import MERGE, PREFIXES, SPLIT
from analytics.hierarchy.keys import SAME
from analytics.identity import packed
from cql.errors import InputError
from cql.records import NAMESPACE, Decision

IMAGES_MAX = 200_000
"""Most images of a cluster that is split: its decision names each of them."""
PARTS_MAX = 32
ANCHORS = 256
"""Images of a part that new images are compared with."""

RowsOf = Callable[[NDArray[np.uint8]], NDArray[np.int64]]
"""Image ids, uint8 (M, 16), to rows of the map, -1 for those that are not on it."""

Nearest = Callable[[NDArray[np.int64], Sequence[NDArray[np.uint8]]], NDArray[np.int64]]
"""Rows (M,) and the anchors of P parts, uint8 (A, 16) each, to the nearest part of each row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a split cluster: `images` are those that were in it when it was decided."""

    key: UUID
    name: str
    images: frozenset[UUID]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A cluster and what it was split into; the first part is the rest, and keeps its key.

    `known`: keys of all clusters of the map `map_id`, on which it was decided.
    """

    parts: tuple[Part, ...]
    map_id: UUID
    known: frozenset[UUID]


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """A cluster to show: `key` is what decisions about it name.

    `units` are the keys of the clusters and parts in it, the largest first; `rows` how many rows.
    `lead` is the place of its own unit, else of its largest: that of a cluster in the list that was
    given, of a part behind them, in the order of decisions.
    """

    key: UUID
    units: tuple[UUID, ...]
    rows: int
    lead: int


@dataclass(frozen=True, slots=True, eq=False)
class Regrouped:
    """Groups, largest first; `codes` int64 (N,) is each row's group, -1 for none.

    `parts` int64 (N,) is each row's place in `units`: what it would be if nothing was merged.
    `names` of parts; `origin` of parts, by key: the cluster they were split from. `waiting` are
    the subjects whose decision finds nothing on this map.
    """

    groups: tuple[Group, ...]
    codes: NDArray[np.int64]
    units: tuple[UUID, ...]
    parts: NDArray[np.int64]
    names: Mapping[UUID, str]
    origin: Mapping[UUID, UUID]
    waiting: frozenset[str]


def part_key(cluster: UUID, version: int, number: int) -> UUID:
    """Key of a part: of the cluster, of the decision's version, of the part's number from 1."""
    return uuid5(NAMESPACE, f"part\0{cluster}\0{version}\0{number}")


def write(split: Split) -> str:
    """The value of a decision that splits a cluster. InputError beyond the limits."""
    held = sum(len(part.images) for part in split.parts)
    if held > IMAGES_MAX:
        raise InputError(
            f"a cluster that is split may have {IMAGES_MAX:,} images, got {held:,}: analyse with "
            "smaller clusters first"
        )
    if not 2 <= len(split.parts) <= PARTS_MAX:
        raise InputError(f"a split has 2 to {PARTS_MAX} parts, got {len(split.parts)}")
    if any(not part.images for part in split.parts):
        raise InputError("every part must have an image, one has none: choose fewer images")
    return json.dumps(
        {
            "map": str(split.map_id),
            "known": sorted(map(str, split.known)),
            "parts": [
                {
                    "key": str(part.key),
                    "name": part.name,
                    "images": sorted(image.hex for image in part.images),
                }
                for part in split.parts
            ],
        },
        separators=(",", ":"),
    )


def read(value: str) -> Split:
    """Read `write`. InputError for any other text."""
    try:
        given = json.loads(value)
        parts = tuple(
            Part(
                key=UUID(each["key"]),
                name=str(each["name"]),
                images=frozenset(UUID(hex=image) for image in each["images"]),
            )
            for each in given["parts"]
        )
        known = frozenset(UUID(key) for key in given["known"])
        return Split(parts=parts, map_id=UUID(given["map"]), known=known)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"a split must say its parts as JSON, got {value[:60]!r} ({error}): decide it again"
        ) from error


def roots(merges: Mapping[UUID, Decision]) -> dict[UUID, UUID]:
    """The cluster that each merged one belongs to in the end, by the newest decision on each.

    Chains are followed. Clusters that were merged in a circle are one: it is named after the
    one whose own merge was decided last, so that the earlier decisions hold.
    """
    to = {key: UUID(each.value) for key, each in merges.items() if each.value}
    found: dict[UUID, UUID] = {}
    for start in to:
        path = [start]
        while path[-1] in to and to[path[-1]] not in path:
            path.append(to[path[-1]])
        end = path[-1]
        if end in to:
            circle = path[path.index(to[end]) :]
            end = max(circle, key=lambda key: (merges[key].at, merges[key].subject))
        found[start] = end
    return {key: end for key, end in found.items() if key != end}


def regroup(
    keys: Sequence[UUID],
    labels: NDArray[np.int64],
    decisions: Iterable[Decision],
    *,
    rows_of: RowsOf,
    nearest: Nearest | None = None,
) -> Regrouped:
    """Replay the newest merges and splits over clusters.

    `keys` of C clusters; `labels` int64 (N,) are rows' clusters, -1 for none. Splits come first: a
    row whose image was in a part when it was decided is in that part; one that is new in the
    cluster goes to the `nearest` part (None: to the rest). A cluster that the map of the decision
    did not have and that is one of the parts (Jaccard 0.3 or more) is that part. Then clusters
    and parts are merged.
    """
    merges: dict[UUID, Decision] = {}
    splits: dict[UUID, Split] = {}
    for decision in sorted(decisions, key=lambda each: (each.at, each.subject)):
        for kind in (MERGE, SPLIT):
            if decision.subject.startswith(PREFIXES[kind]) and decision.value:
                key = UUID(decision.subject.removeprefix(PREFIXES[kind]))
                if kind == MERGE:
                    merges[key] = decision
                else:
                    splits[key] = read(decision.value)
    units = list(keys)
    codes = labels.astype(np.int64, copy=True)
    held = {part: rows for split in splits.values() for part, rows in _held(split, rows_of).items()}
    adopted = _adopt(units, codes, splits, held)
    waiting = {f"{PREFIXES[SPLIT]}{key}" for key in splits}
    for key in adopted.values():
        waiting -= {f"{PREFIXES[SPLIT]}{one}" for one, split in splits.items()
                    if key in {part.key for part in split.parts}}  # fmt: skip
    pending = dict(splits)
    while ready := [key for key in pending if key in units]:
        for key in ready:
            _divide(units, codes, pending.pop(key), held, nearest)
            waiting.discard(f"{PREFIXES[SPLIT]}{key}")
    to = roots(merges)
    waiting |= {f"{PREFIXES[MERGE]}{key}" for key in merges if key in to and key not in units}
    return _grouped(units, codes, to, splits, frozenset(waiting))


def _held(split: Split, rows_of: RowsOf) -> dict[Part, NDArray[np.int64]]:
    """Rows of each part's images that are on the map."""
    found = {}
    for part in split.parts:
        rows = rows_of(packed(part.images))
        found[part] = rows[rows >= 0]
    return found


def _adopt(
    units: list[UUID],
    codes: NDArray[np.int64],
    splits: Mapping[UUID, Split],
    held: Mapping[Part, NDArray[np.int64]],
) -> dict[int, UUID]:
    """Let new clusters that are parts of a split have the keys of those parts, best first."""
    sizes = np.bincount(codes[codes >= 0], minlength=len(units))
    pairs: list[tuple[float, int, str]] = []
    for key, split in splits.items():
        for number, part in enumerate(split.parts):
            if number == 0 and key in units:
                continue
            inside = codes[held[part]]
            shared = np.bincount(inside[inside >= 0], minlength=len(units))
            for place in np.flatnonzero(shared).tolist():
                if units[place] in split.known or units[place] == key:
                    continue
                overlap = shared[place] / (sizes[place] + len(part.images) - shared[place])
                if overlap >= SAME:
                    pairs.append((float(overlap), place, str(part.key)))
    adopted: dict[int, UUID] = {}
    for _, at, text in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
        key = UUID(text)
        if at not in adopted and key not in adopted.values() and key not in units:
            adopted[at] = key
    for at, key in adopted.items():
        units[at] = key
    return adopted


def _divide(
    units: list[UUID],
    codes: NDArray[np.int64],
    split: Split,
    held: Mapping[Part, NDArray[np.int64]],
    nearest: Nearest | None,
) -> None:
    """Give rows of one cluster to its parts, in place."""
    whole = units.index(split.parts[0].key)
    places = [whole]
    for part in split.parts[1:]:
        if part.key not in units:
            units.append(part.key)
        places.append(units.index(part.key))
    inside = codes == whole
    fresh = inside.copy()
    for place, part in zip(places, split.parts, strict=True):
        rows = held[part][inside[held[part]]]
        codes[rows] = place
        fresh[rows] = False
    rows = np.flatnonzero(fresh)
    if nearest is not None and len(rows):
        chosen = nearest(rows, [anchors(part.images) for part in split.parts])
        codes[rows] = np.array(places, np.int64)[chosen]


def anchors(images: Iterable[UUID]) -> NDArray[np.uint8]:
    """At most 256 of a part's images, uint8 (A, 16): evenly through their ids, which are hashes."""
    ordered = sorted(images, key=lambda image: image.bytes)
    if len(ordered) > ANCHORS:
        ordered = [ordered[at * len(ordered) // ANCHORS] for at in range(ANCHORS)]
    return packed(ordered)


def _grouped(
    units: Sequence[UUID],
    codes: NDArray[np.int64],
    to: Mapping[UUID, UUID],
    splits: Mapping[UUID, Split],
    waiting: frozenset[str],
) -> Regrouped:
    sizes = np.bincount(codes[codes >= 0], minlength=len(units))
    members: dict[UUID, list[int]] = {}
    for at, key in enumerate(units):
        if sizes[at]:
            members.setdefault(to.get(key, key), []).append(at)
    ranked = sorted(
        members.items(), key=lambda item: (-sum(int(sizes[at]) for at in item[1]), item[1][0])
    )
    turned = np.full(len(units) + 1, -1, np.int64)  # the last one is for -1
    groups = []
    for number, (key, own) in enumerate(ranked):
        turned[own] = number
        largest = sorted(own, key=lambda at: (-sizes[at], at))
        rows = sum(int(sizes[at]) for at in own)
        lead = next((at for at in own if units[at] == key), largest[0])
        groups.append(Group(key, tuple(units[at] for at in largest), rows, lead))
    parts = [
        (key, part) for key, split in splits.items() for part in split.parts if part.key != key
    ]
    return Regrouped(
        tuple(groups),
        turned[codes],
        tuple(units),
        codes,
        {part.key: part.name for _, part in parts},
        {part.key: key for key, part in parts},
        waiting,
    )
