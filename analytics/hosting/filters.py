"""Selections on a map as masks of a shard's rows, applied before anything is ranked."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from analytics.decisions.decided import DECIDED
from analytics.maps.regions import Selection
from analytics.scanning.blocks import Block
from analytics.tiles import MapTable

T = TypeVar("T")

TABLES = 2
MASKS = 32
_ATTRIBUTE = "attr:"


class Filters:
    """Masks of the blocks of one snapshot, kept for selections that come again. Thread-safe.

    A selection says which points of a map it takes: by polygons and columns. An image that the map
    does not hold, because it is newer, is taken by its listing's attributes alone, and never by a
    polygon, a cluster or a score.

    `table` gives the table of a map with all that was placed on it by now. `decided` gives it as
    analysts decided, and a text that changes when they decide more: filters on clusters and labels
    are about that one.
    """

    def __init__(
        self,
        table: Callable[[UUID], MapTable],
        decided: Callable[[UUID, Callable[[], MapTable]], tuple[str, MapTable]] | None = None,
    ) -> None:
        self._open, self._decide = table, decided
        self._lock = threading.Lock()
        self._rows: OrderedDict[UUID, int] = OrderedDict()
        self._places: OrderedDict[Hashable, NDArray[np.int64]] = OrderedDict()
        self._taken: OrderedDict[Hashable, NDArray[np.uint8]] = OrderedDict()
        self._masks: OrderedDict[Hashable, NDArray[np.uint8]] = OrderedDict()

    def mask(self, block: Block, map_id: UUID, selection: Selection) -> NDArray[np.uint8]:
        """Rows of a snapshot's own block that the selection takes: uint8 (N,)."""
        token, table = self._decided(map_id, selection)
        return self._kept(
            self._masks,
            (map_id, table.rows, token, _key(selection), block.number),
            MASKS,
            lambda: self._select(token, table, selection)[self._where(table, block)],
        )

    def fresh(
        self,
        block: Block,
        attributes: Sequence[Mapping[str, str]],
        map_id: UUID,
        selection: Selection,
    ) -> NDArray[np.uint8]:
        """Rows of a block of changed listings, by their `attributes` of now: uint8 (N,)."""
        table = self._table(map_id)
        own = {name: rule for name, rule in selection.filters.items() if _is_attribute(name)}
        drawn = {name: rule for name, rule in selection.filters.items() if name not in own}
        passed = np.array(
            [
                all(table.accepts(name, rule, held) for name, rule in own.items())
                for held in attributes
            ],
            np.uint8,
        )
        rows: NDArray[np.uint8] = np.repeat(passed, np.diff(block.offsets))
        if selection.polygons or drawn:
            rest = Selection(selection.polygons, drawn)
            token, decided = self._decided(map_id, rest)
            rows &= self._select(token, decided, rest)[decided.rows_of(block.images)]
        return rows

    def _decided(self, map_id: UUID, selection: Selection) -> tuple[str, MapTable]:
        if self._decide is None or not DECIDED & set(selection.filters):
            return "", self._table(map_id)
        return self._decide(map_id, lambda: self._table(map_id))

    def _select(self, token: str, table: MapTable, selection: Selection) -> NDArray[np.uint8]:
        """What the selection takes of the map's rows, and a 0 at the end for images not on it."""

        def make() -> NDArray[np.uint8]:
            taken = np.zeros(table.rows + 1, np.uint8)
            taken[table.select(selection)] = 1
            return taken

        key = (table.version.map_id, table.rows, token, _key(selection))
        return self._kept(self._taken, key, MASKS, make)

    def _where(self, table: MapTable, block: Block) -> NDArray[np.int64]:
        return self._kept(
            self._places,
            (table.version.map_id, table.rows, block.number),
            1024,
            lambda: table.rows_of(block.images),
        )

    def _table(self, map_id: UUID) -> MapTable:
        table = self._open(map_id)
        with self._lock:
            before = self._rows.pop(map_id, None)
            self._rows[map_id] = table.rows
            while len(self._rows) > TABLES:
                self._rows.popitem(last=False)
            if before != table.rows:
                # Masks of a map that nobody asks about any more, or of fewer rows, take memory.
                for known in (self._places, self._taken, self._masks):
                    for key in [key for key in known if self._rows.get(key[0]) != key[1]]:  # type: ignore[index]
                        del known[key]
        return table

    def _kept(
        self, known: OrderedDict[Hashable, T], key: Hashable, most: int, make: Callable[[], T]
    ) -> T:
        with self._lock:
            if key in known:
                known.move_to_end(key)
                return known[key]
        made = make()
        with self._lock:
            known[key] = made
            while len(known) > most:
                known.popitem(last=False)
        return made


def _is_attribute(name: str) -> bool:
    return name.startswith(_ATTRIBUTE)


def _key(selection: Selection) -> str:
    return json.dumps(selection.to_json(), sort_keys=True)
