"""Near-duplicates of a map as rows of the store, and the copies planted to choose the threshold."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from analytics import duplicates
from analytics.duplicates import Curve, Found, Planted
from analytics.evidence.appearance import Appearance
from analytics.evidence.copies import Pictures
from analytics.identity import packed
from analytics.neighbours import Collection
from analytics.search import Searcher
from cql.progress import Progress, silent
from cql.records import DuplicateGroup, DuplicateMember, DuplicateRun, Snapshot
from cql.store import Store

PLANTED = 200
"""Images that are altered, four ways each, to measure how well copies are found."""
SHOWN = 12
"""Members that a group's own row names."""


class Figured(Protocol):
    """What is measured of a copy."""

    @property
    def phash(self) -> int:
        """Signed 64-bit hash."""

    @property
    def signature(self) -> bytes:
        """The grey picture at 48 x 48."""


class Made(Protocol):
    """Copies of some images: `origins` int64 (C,) into them, figures, vectors float32 (C, D)."""

    @property
    def origins(self) -> NDArray[np.int64]:
        """Of which of the images each copy is."""

    @property
    def figures(self) -> Sequence[Figured]:
        """What was measured of each copy."""

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Features of each copy; D is 0 where there is no model."""


Plant = Callable[[Sequence[UUID], int, Progress], Made]
"""Makes copies of images with a seed: what knows pictures and models lies above this package."""


def chosen(
    searcher: Searcher,
    snapshot: Snapshot,
    rows: Collection,
    seen: Appearance,
    plant: Plant | None,
    *,
    seed: int,
    progress: Progress = silent,
) -> Curve | None:
    """Choose the threshold on copies of 200 of the images; None where nothing can be planted.

    `progress` hears of the step curve.
    """
    known = np.flatnonzero(seen.pictures.known)
    if plant is None or not len(known):
        return None
    rng = np.random.default_rng([seed, 8])
    picked = np.sort(rng.permutation(known)[:PLANTED])
    made = plant([rows.image_id(int(row)) for row in picked], seed, progress)
    if not len(made.origins):
        return None
    near = np.empty((len(made.origins), 0), np.int64)
    scores = np.empty(near.shape, np.float32)
    if made.vectors.shape[1] == snapshot.dim:
        k = min(duplicates.NEAREST, len(rows.listings))
        progress("curve", 0, 0, "neighbours of the copies")
        found = searcher.neighbours(made.vectors, k, snapshot=snapshot)
        back = np.empty(len(rows.place), np.int64)
        back[rows.place] = np.arange(len(rows.place))
        near, scores = back[found.rows], found.scores
    planted = Planted(_pictures(made.figures), picked[made.origins], near, scores)
    progress("curve", 0, 0, "comparing copies")
    return duplicates.curve(seen.pictures, planted)


def put(  # noqa: PLR0917 - one argument a source
    store: Store,
    map_id: UUID,
    rows: Collection,
    seen: Appearance,
    found: Found,
    curve: Curve | None,
) -> DuplicateRun:
    """Store the groups of a map; keys carry on from the live map's groups."""
    images = [rows.image_id(int(row)) for row in found.rows]
    earlier_keys, earlier = _carried(store, images, found)
    starts = np.flatnonzero(np.diff(found.groups, prepend=-1))
    ends = np.append(starts[1:], len(found.rows))[: len(starts)]
    taken: set[UUID] = set()
    groups = []
    for number, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        own = images[start:end]
        key = earlier_keys[earlier[number]] if number in earlier else duplicates.fresh_key(own)
        if key in taken:  # an earlier group carries the key that this one would begin with
            key = duplicates.fresh_key([*own, key])
        taken.add(key)
        members = found.rows[start:end]
        groups.append(
            DuplicateGroup(
                map_id=map_id,
                number=number,
                group_key=key,
                digest=duplicates.digest(own),
                size=len(own),
                listings=len({rows.listings[row] for row in members}),
                least=float(found.alike[start:end].min()),
                first=start,
                images=tuple(own[:SHOWN]),
            )
        )
    run = DuplicateRun(
        map_id=map_id,
        rows=len(rows.listings),
        measured=seen.measured,
        candidates=found.candidates,
        groups=len(groups),
        images=len(images),
        threshold=curve.chosen if curve else duplicates.THRESHOLD,
        basis=_basis(curve),
        curve=_text(curve),
    )
    members_ = (
        DuplicateMember(
            number=int(found.groups[at]),
            place=at - int(starts[found.groups[at]]),
            image_id=images[at],
            listing_id=rows.listings[found.rows[at]],
            tied=images[found.tied[at]] if found.tied[at] >= 0 else None,
            alike=float(found.alike[at]),
            bits=int(found.bits[at]),
            cosine=float(found.cosine[at]),
        )
        for at in range(len(images))
    )
    store.put_duplicates(run, groups, members_)
    return run


def _carried(store: Store, images: list[UUID], found: Found) -> tuple[list[UUID], dict[int, int]]:
    live = store.live("map")
    before = store.duplicate_groups(live) if live is not None else []
    if live is None or not before:
        return [], {}
    held = [(each.image_id, each.number) for each in store.iter_duplicate_members(live)]
    earlier = packed(image for image, _ in held)
    numbers = np.array([number for _, number in held], np.int64)
    carried = duplicates.keys([image.bytes for image in images], found.groups, earlier, numbers)
    return [group.group_key for group in before], carried


def _pictures(figures: Sequence[Figured]) -> Pictures:
    signatures = b"".join(each.signature for each in figures)
    return Pictures(
        np.array([each.phash for each in figures], np.int64),
        np.frombuffer(signatures, np.uint8).reshape(len(figures), -1),
        np.ones(len(figures), bool),
    )


def _basis(curve: Curve | None) -> str:
    if curve is None:
        return "no copies were planted: the threshold is the usual one"
    return (
        f"{curve.copies} copies of {curve.copies // 4} of the images, each resized, cropped by "
        "10 %, re-encoded and brightened"
    )


def _text(curve: Curve | None) -> str:
    if curve is None:
        return "[]"
    return json.dumps(
        [
            {"threshold": threshold, "precision": round(precision, 5), "recall": round(recall, 5)}
            for threshold, precision, recall in zip(
                curve.thresholds, curve.precision, curve.recall, strict=True
            )
        ]
    )
