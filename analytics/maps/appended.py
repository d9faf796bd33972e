"""Map tables with the images that were placed on a map after it was made."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from analytics.identity import halves, packed
from analytics.maps import columns as attributes
from analytics.maps.columns import Column
from analytics.maps.table import SOFT, cells, mixed, morton
from analytics.tiles import MapTable
from cql.errors import IntegrityError
from cql.records import Cluster, Group, MapPoint, PlacedBatch
from cql.settings import Settings
from cql.store import Store

PLACED = "placed"
"""Column of a table that has rows which came later."""

_SHIFT = np.uint64(24)


class Tables:
    """Map tables kept open, each with what was placed since. Thread-safe.

    What is placed is only ever added: the number of rows says which of its states a table is in.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        most: int = 4,
        clock: Callable[[], float] = time.monotonic,
        opened: Callable[[UUID], MapTable] | None = None,
    ) -> None:
        """Keep `most` tables; `opened` opens one as it was made."""
        self._store, self._most, self._clock = store, most, clock
        self._open = opened or (lambda map_id: MapTable.open(settings, store, map_id))
        self._lock = threading.Lock()
        self._kept: OrderedDict[UUID, _Kept] = OrderedDict()

    def late(self, map_id: UUID, *, max_age_s: float = 0.0) -> int:
        """How many images were placed on a map since it was made, as of `max_age_s` ago."""
        kept = self._of(map_id)
        with kept.lock:
            return self._look(map_id, kept, max_age_s)

    def batches(self, map_id: UUID) -> tuple[PlacedBatch, ...]:
        """The batches that `late` and `table` last saw."""
        kept = self._of(map_id)
        with kept.lock:
            return tuple(kept.batches)

    def table(self, map_id: UUID, *, max_age_s: float = 0.0) -> MapTable:
        """The table with all that was placed `max_age_s` ago. NotFoundError."""
        kept = self._of(map_id)
        with kept.lock:
            if kept.table is None:
                kept.table = self._open(map_id)
            self._look(map_id, kept, max_age_s)
            while kept.taken < len(kept.batches):
                new = kept.batches[kept.taken :]
                batches = [points_of(self._store, batch) for batch in new]
                kept.table = extended(self._store, kept.table, *batches)
                kept.taken += len(new)
            return kept.table

    def _of(self, map_id: UUID) -> _Kept:
        with self._lock:
            kept = self._kept.setdefault(map_id, _Kept())
            self._kept.move_to_end(map_id)
            while len(self._kept) > self._most:
                # Ids of maps that there are not, which anybody may ask for, go before tables do.
                others = list(self._kept)[:-1]
                bare = (each for each in others if self._kept[each].table is None)
                del self._kept[next(bare, others[0])]
            return kept

    def _look(self, map_id: UUID, kept: _Kept, max_age_s: float) -> int:
        moment = self._clock()
        if kept.looked is None or moment - kept.looked >= max_age_s:
            after = kept.batches[-1].number if kept.batches else 0
            kept.batches += self._store.placed_batches(map_id, after=after)
            kept.looked = moment
        return sum(batch.rows for batch in kept.batches)


@dataclass(slots=True)
class _Kept:
    """A table, the batches that are known, and how many of them it holds."""

    table: MapTable | None = None
    batches: list[PlacedBatch] = field(default_factory=list)
    taken: int = 0
    looked: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


def points_of(store: Store, batch: PlacedBatch) -> list[MapPoint]:
    """Points of a batch in the order of their rows, which is the same everywhere."""
    return sorted(store.placed_points(batch), key=lambda point: point.image_id.bytes)


def extended(store: Store, table: MapTable, *batches: Sequence[MapPoint]) -> MapTable:
    """A table with more rows behind those that it has; their listings' attributes are read.

    The column `placed` says which came later. N + M values of each column are copied. Codes are
    given batch by batch, so that they mean the same wherever and whenever the table is read.
    """
    points = [point for batch in batches for point in batch]
    if not points:
        return table
    images = packed(point.image_id for point in points)
    owners = [point.listing_id for point in points]
    known = {column.name: column for column in table.columns()}
    columns: dict[str, Column] = {}
    added: dict[str, NDArray[Any]] = _plain(points)
    for name, column in known.items():
        if name in added:
            columns[name] = attributes.widened(column, added[name])
    added |= _categories(table, known, added["cluster_number"])
    held = store.listings(sorted(set(owners)))
    for name, column in known.items():
        if name.startswith("attr:"):
            key = name.removeprefix("attr:")
            codes, wider = [], column
            for batch in batches:
                own = (held.get(point.listing_id) for point in batch)
                texts = ["" if each is None else each.attributes.get(key, "") for each in own]
                wider, values = attributes.extend(wider, texts)
                codes.append(values)
            columns[name], added[name] = wider, np.concatenate(codes)
    columns[PLACED] = Column(
        name=PLACED,
        label="Placed on the map",
        kind="category",
        keys=("0", "1"),
        categories=("When it was made", "Since it was made"),
    )
    added[PLACED] = np.ones(len(points), np.float32)
    arrays = _joined(table, added)
    arrays |= _orders(table, images)
    return table.appended(images, owners, list(columns.values()), arrays)


def counted(clusters: Iterable[Cluster], table: MapTable) -> list[Cluster]:
    """Clusters with the images, and their listings, that were placed since the map was made."""
    late = table.clusters[table.made :]
    touched = set(np.unique(late).tolist())
    found = []
    for each in clusters:
        if each.cluster in touched:
            rows = np.flatnonzero(table.clusters == each.cluster)
            listings = table.gist(rows, 0).listings
            found.append(replace(each, size=len(rows), listings=listings))
        else:
            found.append(each)
    return found


def counted_groups(groups: Iterable[Group], table: MapTable) -> list[Group]:
    """Groups of clusters with the images, and their listings, that were placed since."""
    every = list(groups)
    if table.rows == table.made or not every:
        return every
    codes = table.numbers("group").astype(np.int64)
    parent = {group.number: group.parent for group in every if group.level == 1}
    found = []
    for each in every:
        own = (
            [each.number]
            if each.level == 1
            else [n for n, up in parent.items() if up == each.number]
        )
        rows = np.flatnonzero(np.isin(codes, own))
        if len(rows) and rows[-1] >= table.made:
            listings = table.gist(rows, 0).listings
            found.append(replace(each, size=len(rows), listings=listings))
        else:
            found.append(each)
    return found


def _plain(points: Sequence[MapPoint]) -> dict[str, NDArray[Any]]:
    """Numbers of points by the names that they have in a table."""

    def of(name: str, kind: Any = np.float32) -> NDArray[Any]:
        return np.array([getattr(point, name) for point in points], kind)

    names = ("x", "y", "membership", "outlier_score", "knn_distance")
    found = {name: of(name) for name in names}
    found["morton"] = morton(cells(found["x"]), cells(found["y"]))
    found["trust"] = np.full(len(points), np.nan, np.float32)
    found["cluster_number"] = of("cluster", np.int32)
    for place in range(SOFT):
        pairs = [
            (point.soft_clusters[place], point.soft_shares[place])
            if place < len(point.soft_clusters) else (-1, 0.0)
            for point in points
        ]  # fmt: skip
        found[f"soft_cluster_{place}"] = np.array([cluster for cluster, _ in pairs], np.int32)
        found[f"soft_share_{place}"] = np.array([share for _, share in pairs], np.float32)
    return found


def _categories(
    table: MapTable, known: Mapping[str, Column], numbers: NDArray[np.int32]
) -> dict[str, NDArray[np.float32]]:
    """Codes of the columns `cluster` and `group` for cluster numbers, as the map has them."""
    keys = known["cluster"].keys
    codes = {int(key): code for code, key in enumerate(keys)}
    none = codes.get(-1, len(keys) - 1)
    found = {"cluster": np.array([codes.get(n, none) for n in numbers.tolist()], np.float32)}
    if "group" in known:
        group = dict.fromkeys(codes, float(known["group"].keys.index("-1")))
        made = table.clusters[: table.made]
        first = np.unique(made, return_index=True)
        of = table.numbers("group")[first[1]].tolist()
        group.update(zip(first[0].tolist(), of, strict=True))
        found["group"] = np.array(
            [group.get(n, group.get(-1, np.nan)) for n in numbers.tolist()], np.float32
        )
    return found


def _joined(table: MapTable, added: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Whole columns: what the table has, zeros or nothing where it lacks one, then what came."""
    found = {}
    for name, values in added.items():
        held = table.held(name)
        if held is None:
            if name != PLACED:
                continue
            held = np.zeros(table.rows, np.float32)
        found[name] = np.concatenate([held, values.astype(held.dtype)])
    return found


def _of(table: MapTable, name: str) -> NDArray[Any]:
    held = table.held(name)
    if held is None:
        raise IntegrityError(f"a map table must have the array {name}: delete its file")
    return held


def _orders(table: MapTable, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Ranks and the order by image of all rows.

    A rank is where the image's hash would stand among those of the first rows, so that any tile
    shows of both an equal share; no two ranks are equal.
    """
    hashes = mixed(images)
    ranks = _of(table, "rank")
    if table.rows == table.made:
        ranks = ranks.astype(np.uint64) << _SHIFT
    scaled = (hashes >> np.uint64(32)).astype(np.float64) / 2.0**32 * table.made
    number = np.arange(table.rows - table.made, table.rows - table.made + len(images))
    own = (scaled.astype(np.uint64) << _SHIFT) + number.astype(np.uint64) + np.uint64(1)
    every = np.concatenate([table.images, images])
    return {
        "rank": np.concatenate([ranks, own]),
        "by_image": np.lexsort(halves(every)).astype(np.int64),
    }
