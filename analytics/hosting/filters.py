"""Selections on a map as masks of a shard's rows, applied before anything is ranked."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
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
_PLACES = 1024
_ATTRIBUTE = "attr:"


class Filters:
    """Masks of the blocks of one snapshot, kept for selections that come again. Thread-safe.

    A selection says which points of a map it takes: by polygons and columns. An image of a listing
    that changed since the snapshot, and that is not placed on the map yet, is taken by the
    listing's attributes alone, and never by a polygon, a cluster or a score. One of the snapshot
    that the map lacks is taken by none until it is placed.

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
        self._maps: OrderedDict[UUID, None] = OrderedDict()
        self._places: _Kept[NDArray[np.int64]] = _Kept(_PLACES)
        self._taken: _Kept[NDArray[np.uint8]] = _Kept(MASKS)
        self._masks: _Kept[NDArray[np.uint8]] = _Kept(MASKS)
        self._changed: _Kept[NDArray[np.uint8]] = _Kept(MASKS)
        self._turns: dict[int, tuple[int, Block]] = {}

    def mask(self, block: Block, map_id: UUID, selection: Selection) -> NDArray[np.uint8]:
        """Rows of a snapshot's own block that the selection takes: uint8 (N,)."""
        token, table = self._decided(map_id, selection)
        found = self._masks.of(
            (map_id, token, _key(selection), block.number),
            table.rows,
            lambda _: self._select(token, table, selection)[self._where(table, block)],
        )
        self._let_go(map_id)
        return found

    def fresh(
        self,
        block: Block,
        attributes: Sequence[Mapping[str, str]],
        map_id: UUID,
        selection: Selection,
    ) -> NDArray[np.uint8]:
        """Rows of a block of changed listings, by their `attributes` of now: uint8 (N,).

        A block has the same attributes each time: where a listing changes there is another block.
        """
        token, decided = self._decided(map_id, selection)
        found = self._changed.of(
            (map_id, token, _key(selection), block.number, self._turn(block)),
            decided.rows,
            lambda _: self._among(block, attributes, token, decided, selection),
        )
        self._let_go(map_id)
        return found

    def _among(
        self,
        block: Block,
        attributes: Sequence[Mapping[str, str]],
        token: str,
        table: MapTable,
        selection: Selection,
    ) -> NDArray[np.uint8]:
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
            rows &= self._select(token, table, rest)[table.rows_of(block.images)]
        return rows

    def _turn(self, block: Block) -> int:
        """A number of its own for each block of changed listings that takes another's place."""
        with self._lock:
            turn, held = self._turns.get(block.number, (0, None))
            if held is not block:
                turn += 1
                self._turns[block.number] = (turn, block)
            return turn

    def _decided(self, map_id: UUID, selection: Selection) -> tuple[str, MapTable]:
        """The table that the selection is about, and "" where nothing is decided of it."""
        opened = self._table(map_id)
        if self._decide is None or not DECIDED & set(selection.filters):
            return "", opened
        token, table = self._decide(map_id, lambda: opened)
        return ("" if table is opened else token), table

    def _select(self, token: str, table: MapTable, selection: Selection) -> NDArray[np.uint8]:
        """What the selection takes of the map's rows, and a 0 at the end for images not on it."""

        def make(before: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
            taken = np.zeros(table.rows + 1, np.uint8)
            first = 0
            # With more images a decision may come to mean something else for those before.
            if before is not None and not token:
                first = len(before) - 1
                taken[:first] = before[:first]
            taken[table.select(selection, first=first)] = 1
            return taken

        return self._taken.of((table.version.map_id, token, _key(selection)), table.rows, make)

    def _where(self, table: MapTable, block: Block) -> NDArray[np.int64]:
        """Rows of the map that the block's images are, -1 for those not on it: int64 (N,)."""

        def make(before: NDArray[np.int64] | None) -> NDArray[np.int64]:
            if before is None:
                return table.rows_of(block.images)
            lacking = np.flatnonzero(before < 0)
            if not len(lacking):
                return before
            places = before.copy()
            places[lacking] = table.rows_of(block.images[lacking])
            return places

        return self._places.of((table.version.map_id, block.number), table.rows, make)

    def _table(self, map_id: UUID) -> MapTable:
        table = self._open(map_id)
        with self._lock:
            self._maps[map_id] = None
            self._maps.move_to_end(map_id)
            while len(self._maps) > TABLES:
                # Masks of a map that nobody asks about any more take memory.
                self._forget(self._maps.popitem(last=False)[0])
        return table

    def _let_go(self, map_id: UUID) -> None:
        """Forget what was made of a map while others pushed it out."""
        with self._lock:
            if map_id not in self._maps:
                self._forget(map_id)

    def _forget(self, map_id: UUID) -> None:
        for kept in (self._places, self._taken, self._masks, self._changed):
            kept.forget(map_id)


@dataclass(frozen=True, slots=True, eq=False)
class _Made(Generic[T]):
    """What somebody makes of a map with so many rows, or has made."""

    rows: int
    value: Future[T]

    def done(self) -> T | None:
        """What was made, once it is; None where that failed."""
        return None if self.value.exception() is not None else self.value.result()


class _Kept(Generic[T]):
    """What is made of maps, by keys that begin with a map's id: the `most` asked for last.

    One makes it for all who ask meanwhile. An error is raised to them all, and not kept.
    Thread-safe.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._made: OrderedDict[tuple[Any, ...], _Made[T]] = OrderedDict()

    def of(self, key: tuple[Any, ...], rows: int, make: Callable[[T | None], T]) -> T:
        """What `make` gives of a map with so many rows.

        A map's rows stay and more come behind them: it gets what there is of fewer, or None.
        """
        mine: _Made[T] = _Made(rows, Future())
        with self._lock:
            held = self._made.get(key)
            newest = held is None or held.rows < rows
            if newest:
                self._made[key] = mine
            self._made.move_to_end(key)
            while len(self._made) > self._most:
                self._made.popitem(last=False)
        if held is not None and not newest:
            # One who has an older table than others makes what nobody asks for again.
            return held.value.result() if held.rows == rows else make(None)
        try:
            # Who makes it of fewer rows waits for nobody that has more.
            mine.value.set_result(make(None if held is None else held.done()))
        except BaseException as error:  # noqa: BLE001 - raised by those who share it
            with self._lock:
                if self._made.get(key) is mine:
                    del self._made[key]
            mine.value.set_exception(error)
        return mine.value.result()

    def forget(self, map_id: UUID) -> None:
        """Let go of all that was made of a map."""
        with self._lock:
            for key in [key for key in self._made if key[0] == map_id]:
                del self._made[key]


def _is_attribute(name: str) -> bool:
    return name.startswith(_ATTRIBUTE)


def _key(selection: Selection) -> str:
    return json.dumps(selection.to_json(), sort_keys=True)
