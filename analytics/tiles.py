"""The published map as a memory-mapped table: tiles, selections and facets over all rows."""

from __future__ import annotations

import copy
import json
import logging
import struct
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analytics.identity import halves, located
from analytics.maps import columns as attributes
from analytics.maps.columns import Column
from analytics.maps.regions import Mode, Polygon, Range, Selection, iso, mask
from analytics.maps.table import BITS, FORMAT, SOFT, build, morton
from cql.errors import InputError, IntegrityError, NotFoundError
from cql.progress import Progress, silent
from cql.records import MapVersion
from cql.settings import Settings
from cql.store import Store

__all__ = [
    "Column",
    "Facet",
    "MapTable",
    "Mode",
    "Polygon",
    "Range",
    "Row",
    "Selection",
]

log = logging.getLogger(__name__)

BINS = 24
_CACHE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Facet:
    """Counts of one column over all rows that match the selection without this column's filter.

    Category: `counts[i]` belongs to `keys[i]`, with the label `categories[i]`. Number: `counts` are
    of equal bins between `edges` (len(counts) + 1), which are days since 1970-01-01 where `scale`
    is `date`. `missing`: matching rows without a value.
    `selected`: rows that match all of the selection.
    """

    name: str
    label: str
    kind: Literal["category", "number"]
    keys: tuple[str, ...]
    categories: tuple[str, ...]
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    missing: int
    selected: int
    scale: Literal["linear", "date"] = "linear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One point with all that the table knows of it; missing attributes are left out.

    `soft_clusters` are those of largest share, with `soft_shares`, falling. `late`: it was placed
    since the map was made.
    """

    row: int
    image_id: UUID
    listing_id: str
    x: float
    y: float
    cluster: int
    membership: float
    outlier_score: float
    knn_distance: float
    attributes: Mapping[str, str | float]
    soft_clusters: tuple[int, ...] = ()
    soft_shares: tuple[float, ...] = ()
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Gist:
    """What some rows are: their listings, the median place, the images surest of their cluster."""

    listings: int
    x: float
    y: float
    images: tuple[UUID, ...]


class MapTable:
    """Rows of one map in Morton order, memory-mapped; a row number is stable for a map id."""

    def __init__(self, path: Path, version: MapVersion, *, tile_points: int) -> None:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        meta = {
            key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()
        }
        if meta.get("format") != FORMAT or meta.get("map_id") != str(version.map_id):
            raise IntegrityError(f"{path.name} must be a map table of format {FORMAT}: delete it")
        if len(table) != version.rows_scored:
            raise IntegrityError(f"{path.name} must hold {version.rows_scored} rows: delete it")
        self._version, self._tile_points = version, tile_points
        self._columns = {
            column.name: column for column in map(attributes.parse, json.loads(meta["columns"]))
        }
        self._arrays: dict[str, NDArray[Any]] = {
            name: table[name].combine_chunks().to_numpy(zero_copy_only=True)
            for name in table.column_names
            if name not in {"image_id", "listing_id"}
        }
        images = table["image_id"].combine_chunks()
        raw = np.frombuffer(images.buffers()[1] or b"", np.uint8) if len(table) else np.empty(0)
        self._images = raw.astype(np.uint8, copy=False).reshape(-1, 16)[: len(table)]
        self._listings = table["listing_id"].combine_chunks()
        self._made, self._late = len(table), np.empty(0, np.int64)
        self._ascending: NDArray[np.uint64] | None = None
        self._cache: OrderedDict[tuple[int, int, int, int], NDArray[np.int64]] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls, settings: Settings, store: Store, map_id: UUID, *, progress: Progress = silent
    ) -> MapTable:
        """Open `data_dir/maps/<map_id>.arrow`; built from Cassandra when missing or damaged."""
        version = store.map(map_id)
        path = settings.data_dir / "maps" / f"{map_id}.arrow"
        for _ in range(2):
            try:
                return cls(path, version, tile_points=settings.tile_points)
            except FileNotFoundError:
                log.info("map table %s is made from Cassandra", path.name)
            except (IntegrityError, pa.ArrowException, KeyError, ValueError, OSError) as error:
                log.warning("map table %s is made again: %s", path.name, error)
            build(store, version, path, progress=progress)
        return cls(path, version, tile_points=settings.tile_points)

    @property
    def version(self) -> MapVersion:
        """The map that this table holds."""
        return self._version

    @property
    def rows(self) -> int:
        """Number of points."""
        return len(self._images)

    @property
    def made(self) -> int:
        """Number of points that the map was made with: the first rows."""
        return self._made

    @property
    def images(self) -> NDArray[np.uint8]:
        """Image id of each row: uint8 (N, 16)."""
        return self._images

    @property
    def clusters(self) -> NDArray[np.int32]:
        """Cluster number of each row, -1 for none: int32 (N,)."""
        found: NDArray[np.int32] = self._arrays["cluster_number"]
        return found

    @property
    def placed(self) -> NDArray[np.float32]:
        """Place of each row on the map, float32 (N, 2) in [0, 1)."""
        return np.column_stack([self._arrays["x"], self._arrays["y"]])

    def numbers(self, column: str) -> NDArray[Any]:
        """Values of a column by row; InputError for one that is not there."""
        return self._values(column)

    def held(self, name: str) -> NDArray[Any] | None:
        """An array of the table by row, a column or not; None for one that is not there."""
        return self._arrays.get(name)

    def overlaid(
        self, columns: Sequence[tuple[Column, NDArray[Any]]], numbers: NDArray[np.int64] | None
    ) -> MapTable:
        """The same rows with other columns, or more, float32 (N,); `numbers` as of `clusters`."""
        made = copy.copy(self)
        made.__dict__.update(
            _columns={**self._columns, **{column.name: column for column, _ in columns}},
            _arrays={**self._arrays, **{column.name: values for column, values in columns}},
        )
        if numbers is not None:
            made.__dict__["_arrays"]["cluster_number"] = numbers
        return made

    def appended(
        self,
        images: NDArray[np.uint8],
        listings: Sequence[str],
        columns: Sequence[Column],
        arrays: Mapping[str, NDArray[Any]],
    ) -> MapTable:
        """The same rows and M more behind them, uint8 (M, 16); `arrays` hold whole columns, (N,).

        `columns` take the place of those of their names. Row numbers stay what they are.
        """
        made = copy.copy(self)
        late = np.arange(self._made, len(self._images) + len(images))
        late = late[np.argsort(arrays["morton"][late], kind="stable")]
        made.__dict__.update(
            _columns={**self._columns, **{column.name: column for column in columns}},
            _arrays={**self._arrays, **arrays},
            _images=np.concatenate([self._images, images]),
            _listings=pa.concat_arrays([self._listings, pa.array(listings, pa.string())]),
            _late=late,
            _ascending=None,
            _cache=OrderedDict(),
            _lock=threading.Lock(),
        )
        return made

    def gist(self, rows: NDArray[np.int64], most: int) -> Gist:
        """Sum up some rows, at least one; at most `most` images."""
        sure = rows[np.argsort(-self._arrays["membership"][rows], kind="stable")[:most]]
        return Gist(
            listings=len(self._listings.take(pa.array(rows)).unique()),
            x=float(np.median(self._arrays["x"][rows].astype(np.float64))),
            y=float(np.median(self._arrays["y"][rows].astype(np.float64))),
            images=tuple(image for image, _ in self.ids(sure)),
        )

    def columns(self) -> list[Column]:
        """`cluster`, `group` where there are some, numbers, then `attr:<name>` by name."""
        return list(self._columns.values())

    def tile(
        self, z: int, x: int, y: int, column: str = "cluster", placed: int | None = None
    ) -> bytes:
        """The tile body of the map format (version 1); InputError for a tile that cannot exist.

        `placed`: of the images that came later, so many are on it; None: all.
        """
        values = self._values(column)
        if not 0 <= z <= BITS or not (0 <= x < 2**z and 0 <= y < 2**z):
            raise InputError(
                f"a tile has 0 <= z <= {BITS} and 0 <= x, y < 2^z, got z={z} x={x} y={y}"
            )
        most = self.rows if placed is None else min(self.rows, self._made + placed)
        total, rows = self._shown(z, x, y, most)
        return b"".join(
            (
                struct.pack("<IIII", 1, len(rows), total, 0),
                self._arrays["x"][rows].astype("<f4").tobytes(),
                self._arrays["y"][rows].astype("<f4").tobytes(),
                rows.astype("<u4").tobytes(),
                values[rows].astype("<f4").tobytes(),
            )
        )

    def select(self, selection: Selection, *, first: int = 0) -> NDArray[np.int64]:
        """Row numbers that match, ascending: exact over all rows from `first` on."""
        chosen = mask(selection.polygons, self._arrays["x"][first:], self._arrays["y"][first:])
        for name, rule in selection.filters.items():
            chosen &= self._matches(name, rule, first)
        return first + np.flatnonzero(chosen).astype(np.int64)

    def facets(self, selection: Selection) -> list[Facet]:
        """Counts for every column over all rows."""
        drawn = mask(selection.polygons, self._arrays["x"], self._arrays["y"])
        passed = {name: self._matches(name, rule) for name, rule in selection.filters.items()}
        chosen = drawn.copy()
        for own in passed.values():
            chosen &= own
        selected = int(chosen.sum())
        facets = []
        for column in self._columns.values():
            rows = chosen
            if column.name in passed:
                rows = drawn.copy()
                for name, own in passed.items():
                    if name != column.name:
                        rows &= own
            facets.append(self._facet(column, rows, selected))
        return facets

    def ids(self, rows: NDArray[np.int64]) -> list[tuple[UUID, str]]:
        """(image id, listing id) of each row. InputError for a row that does not exist."""
        return [
            (UUID(bytes=self._images[row].tobytes()), self._listings[int(row)].as_py())
            for row in self._known(rows)
        ]

    def describe(self, rows: NDArray[np.int64]) -> list[Row]:
        """All columns of some rows."""
        known = self._known(rows)
        return [
            Row(
                row=int(row),
                image_id=image_id,
                listing_id=listing_id,
                x=float(self._arrays["x"][row]),
                y=float(self._arrays["y"][row]),
                cluster=int(self._arrays["cluster_number"][row]),
                membership=float(self._arrays["membership"][row]),
                outlier_score=float(self._arrays["outlier_score"][row]),
                knn_distance=float(self._arrays["knn_distance"][row]),
                attributes=self._attributes(int(row)),
                soft_clusters=tuple(number for number, _ in shares),
                soft_shares=tuple(share for _, share in shares),
                late=bool(row >= self._made),
            )
            for row, (image_id, listing_id) in zip(known, self.ids(known), strict=True)
            for shares in (self._shares(int(row)),)
        ]

    def row_of(self, image_id: UUID) -> int:
        """Row number of an image. NotFoundError when the map does not hold it."""
        order = self._arrays["by_image"]
        low, high, wanted = 0, len(order), image_id.bytes
        while low < high:
            middle = (low + high) // 2
            if self._images[order[middle]].tobytes() < wanted:
                low = middle + 1
            else:
                high = middle
        if low == len(order) or self._images[order[low]].tobytes() != wanted:
            raise NotFoundError(f"image {image_id} is not on map {self._version.map_id}")
        return int(order[low])

    def rows_of(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Row numbers of images, uint8 (N, 16) -> int64 (N,); -1 for those not on the map."""
        return located(self._images, self._arrays["by_image"], self._high_halves(), images)

    def _high_halves(self) -> NDArray[np.uint64]:
        """The high half of each image id, ascending: uint64 (N,). Every shard asks for it."""
        if self._ascending is None:
            self._ascending = halves(self._images)[1][self._arrays["by_image"]]
        return self._ascending

    def accepts(self, name: str, rule: tuple[str, ...] | Range, held: Mapping[str, str]) -> bool:
        """Whether a filter on an attribute column takes a listing with the attributes `held`."""
        self._values(name)
        return attributes.accepts(self._columns[name], rule, held)

    def _values(self, column: str) -> NDArray[Any]:
        if column not in self._columns:
            known = ", ".join(self._columns)
            raise InputError(f"no column is called {column!r}; the columns are {known}")
        return self._arrays[column]

    def _matches(
        self, name: str, rule: tuple[str, ...] | Range, first: int = 0
    ) -> NDArray[np.bool_]:
        values, column = self._values(name)[first:], self._columns[name]
        if isinstance(rule, Range):
            if column.kind != "number":
                raise InputError(f"{name} is a category: filter it by a list of values")
            if rule.dates and column.scale != "date":
                raise InputError(f"{name} is a number, not a date: filter it by numbers")
            # An open side still leaves out NaN, which compares false.
            low = -np.inf if rule.low is None else rule.low
            high = np.inf if rule.high is None else rule.high
            wide = values.astype(np.float64)
            return np.asarray((wide >= low) & (wide <= high))
        if column.kind != "category":
            raise InputError(f"{name} is a number: filter it by low and high")
        codes = [code for code, key in enumerate(column.keys) if key in set(rule)]
        return np.isin(values, codes)

    def _facet(self, column: Column, rows: NDArray[np.bool_], selected: int) -> Facet:
        values = self._arrays[column.name][rows]
        present = values[~np.isnan(values)]
        edges: tuple[float, ...] = ()
        if column.kind == "category":
            counts = np.bincount(present.astype(np.int64), minlength=len(column.keys))
        else:
            high = column.high if column.high > column.low else column.low + 1.0
            counts, cuts = np.histogram(
                present.astype(np.float64), bins=BINS, range=(column.low, high)
            )
            edges = tuple(float(cut) for cut in cuts)
        return Facet(
            name=column.name,
            label=column.label,
            kind=column.kind,
            keys=column.keys,
            categories=column.categories,
            edges=edges,
            counts=tuple(int(count) for count in counts),
            missing=len(values) - len(present),
            selected=selected,
            scale=column.scale,
        )

    def _shares(self, row: int) -> list[tuple[int, float]]:
        pairs = [
            (
                int(self._arrays[f"soft_cluster_{n}"][row]),
                float(self._arrays[f"soft_share_{n}"][row]),
            )
            for n in range(SOFT)
        ]
        return [pair for pair in pairs if pair[0] >= 0]

    def _attributes(self, row: int) -> dict[str, str | float]:
        found: dict[str, str | float] = {}
        for name, column in self._columns.items():
            value = float(self._arrays[name][row])
            if not name.startswith("attr:") or np.isnan(value):
                continue
            key = name.removeprefix("attr:")
            if column.kind == "category":
                found[key] = column.categories[int(value)]
            else:
                found[key] = iso(value) if column.scale == "date" else value
        return found

    def _known(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        rows = np.asarray(rows, np.int64)
        if len(rows) and not (rows.min() >= 0 and rows.max() < self.rows):
            raise InputError(f"rows of this map are 0 to {self.rows - 1}, got {rows.max()}")
        return rows

    def _span(self, z: int, x: int, y: int) -> tuple[int, int, NDArray[np.int64]]:
        """Rows of a tile: they lie together, because a tile is a range of Morton codes.

        First and last of those that the map was made with, and those that came later.
        """
        shift = 2 * (BITS - z)
        first = int(morton(np.array([x]), np.array([y]))[0]) << shift
        codes, ends = self._arrays["morton"], np.array([first, first + (1 << shift)], np.uint64)
        low, high = np.searchsorted(codes[: self._made], ends).tolist()
        start, end = np.searchsorted(codes[self._late], ends).tolist()
        return low, high, self._late[start:end]

    def _shown(self, z: int, x: int, y: int, most: int) -> tuple[int, NDArray[np.int64]]:
        """How many of the first `most` rows a tile has, and those that it carries.

        Those are of the least rank, so that a child shows them as well.
        """
        low, high, late = self._span(z, x, y)
        late = late[late < most]
        total = high - low + len(late)
        if total <= self._tile_points:
            return total, np.r_[np.arange(low, high), late]
        key = (z, x, y, most)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return total, self._cache[key]
        ranks = np.r_[self._arrays["rank"][low:high], self._arrays["rank"][late]]
        chosen = np.sort(np.argpartition(ranks, self._tile_points - 1)[: self._tile_points])
        rows = np.where(chosen < high - low, chosen + low, 0).astype(np.int64)
        behind = chosen >= high - low
        rows[behind] = late[chosen[behind] - (high - low)]
        with self._lock:
            self._cache[key] = rows
            if len(self._cache) > _CACHE:
                self._cache.popitem(last=False)
        return total, rows
