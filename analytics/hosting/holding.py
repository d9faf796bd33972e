"""What a host holds of one snapshot: its shards, what changed since, and what is in stock."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analytics.hosting.filters import Filters
from analytics.maps.regions import Selection
from analytics.scanning.blocks import Block, find
from analytics.scanning.codes import encode
from cql.records import Snapshot

Flags = NDArray[np.uint8]

CHANGED_MIN = 20_000
"""Rows of changed listings that a host takes in whatever the size of its shards."""


@dataclass(frozen=True, slots=True, eq=False)
class Current:
    """A listing as Cassandra has it now: `vectors` float32 (n, D), `images` uint8 (n, 16)."""

    listing_id: str
    vectors: NDArray[np.float32]
    images: NDArray[np.uint8]
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One shard as queries see it. Immutable but for `stock`, whose flags change in place.

    `alive`: uint8 a row of `base`, 0 where its listing has changed since; None: all. `delta`: the
    changed listings as they are now, with their `attributes`. `stock` and `delta_stock`: uint8 a
    listing, whether it is in stock; `stock` is None until it is read.
    """

    base: Block
    alive: Flags | None = None
    delta: Block | None = None
    attributes: tuple[Mapping[str, str], ...] = ()
    stock: Flags | None = None
    delta_stock: Flags | None = None

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The snapshot's block, then that of changed listings."""
        return (self.base,) if self.delta is None else (self.base, self.delta)

    @property
    def rows(self) -> int:
        """Rows that a query sees."""
        return self.base.rows - self._gone + self._added

    @property
    def changed(self) -> int:
        """Rows that were added or taken out since the snapshot."""
        return self._gone + self._added

    @property
    def _gone(self) -> int:
        return 0 if self.alive is None else self.base.rows - int(self.alive.sum())

    @property
    def _added(self) -> int:
        return 0 if self.delta is None else self.delta.rows

    def row_masks(
        self, filters: Filters, map_id: UUID | None, selection: Selection
    ) -> list[Flags | None]:
        """Masks of the rows of `blocks`."""
        masks: list[Flags | None] = [self.alive]
        if self.delta is not None:
            masks.append(None)
        if map_id is None:
            return masks
        chosen = filters.mask(self.base, map_id, selection)
        masks[0] = chosen if self.alive is None else chosen & self.alive
        if self.delta is not None:
            masks[1] = filters.fresh(self.delta, self.attributes, map_id, selection)
        return masks

    def listing_masks(
        self, *, in_stock: bool, within: pa.Array | None, excluded: Sequence[str]
    ) -> list[Flags | None]:
        """Masks of the listings of `blocks`."""
        masks: list[Flags | None] = []
        for block, stock in zip(self.blocks, (self.stock, self.delta_stock), strict=False):
            # As it is now: a scan looks at it twice, and levels change meanwhile.
            mask = stock.copy() if in_stock and stock is not None else None
            if within is not None:
                inside = pc.is_in(block.listings, value_set=within)
                own = inside.to_numpy(zero_copy_only=False).astype(np.uint8)
                mask = own if mask is None else own & mask
            left_out = [at for at in map(block.find, excluded) if at >= 0]
            if left_out:
                mask = np.ones(len(block.listings), np.uint8) if mask is None else mask
                mask[left_out] = 0
            masks.append(mask)
        return masks


class Holding:
    """The parts of a snapshot that one host holds; changes swap parts whole. Thread-safe.

    `names` has the listing ids of every shard of the snapshot, so that each host knows which one
    a changed listing belongs to: the shard that has it, or for a new one a hash of its id.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        blocks: Iterable[Block],
        names: Sequence[pa.Array],
        filters: Filters,
    ) -> None:
        self.snapshot, self.filters = snapshot, filters
        self.followed_at: datetime | None = None
        self.behind = 0
        self._names = names
        self._parts = {block.number: Part(block) for block in blocks}
        self._changed: dict[int, dict[str, Current]] = {number: {} for number in self._parts}
        self._levels: dict[str, bool] = {}
        self._first: float | None = None
        self._lock = threading.Lock()

    @property
    def age_s(self) -> float:
        """Seconds since the first change, 0 without one."""
        return 0.0 if self._first is None else time.monotonic() - self._first

    @property
    def parts(self) -> Mapping[int, Part]:
        """Parts by shard number, as they are now."""
        return self._parts

    def owner(self, listing_id: str) -> int:
        """Number of the shard that a listing belongs to, of this host or another."""
        for number, names in enumerate(self._names):
            if find(names, listing_id) >= 0:
                return number
        return zlib.crc32(listing_id.encode()) % max(1, len(self._names))

    def own(self, listing_ids: Iterable[str]) -> list[str]:
        """Those that belong to this host's shards."""
        return [name for name in listing_ids if self.owner(name) in self._parts]

    def room(self) -> int:
        """Rows of changed listings that may still be taken in before shards are built again."""
        held = sum(len(each.vectors) for own in self._changed.values() for each in own.values())
        size = sum(part.base.rows for part in self._parts.values())
        return max(CHANGED_MIN, size // 2) - held

    def change(self, listings: Iterable[Current], in_stock: Mapping[str, bool]) -> None:
        """Show these listings of this host as they are now; one without rows is gone."""
        with self._lock:
            touched: dict[int, None] = {}
            if self._first is None:
                self._first = time.monotonic()
            for each in listings:
                number = self.owner(each.listing_id)
                self._changed[number][each.listing_id] = each
                self._levels[each.listing_id] = in_stock.get(each.listing_id, False)
                touched[number] = None
            parts = dict(self._parts)
            for number in touched:
                parts[number] = self._rebuilt(parts[number], self._changed[number])
            self._parts = parts

    def load_stock(self, listing_ids: Sequence[str], in_stock: NDArray[np.bool_]) -> None:
        """Take the stock of the whole collection: what is not named has none."""
        ids = pa.array(listing_ids, pa.string())
        with self._lock:
            parts = {}
            for number, part in self._parts.items():
                flags = np.zeros(len(part.base.listings), np.uint8)
                at = pc.index_in(ids, value_set=part.base.listings)
                rows = at.fill_null(-1).to_numpy(zero_copy_only=False)
                known = rows >= 0
                flags[rows[known]] = in_stock[known]
                parts[number] = replace(part, stock=flags)
            self._parts = parts
            changed = list(self._levels)
        at = pc.index_in(pa.array(changed, pa.string()), value_set=ids).to_pylist()
        self.set_stock(
            {
                name: row is not None and bool(in_stock[row])
                for name, row in zip(changed, at, strict=True)
            }
        )

    def set_stock(self, in_stock: Mapping[str, bool]) -> None:
        """Take the stock of some listings, of any host."""
        with self._lock:
            for name, flag in in_stock.items():
                if name in self._levels:
                    self._levels[name] = flag
                for part in self._parts.values():
                    for block, stock in ((part.base, part.stock), (part.delta, part.delta_stock)):
                        at = block.find(name) if block is not None else -1
                        if at >= 0 and stock is not None:
                            stock[at] = flag

    def _rebuilt(self, part: Part, changed: Mapping[str, Current]) -> Part:
        alive = np.ones(part.base.rows, np.uint8)
        for name in changed:
            at = part.base.find(name)
            if at >= 0:
                alive[part.base.offsets[at] : part.base.offsets[at + 1]] = 0
        held = [changed[name] for name in sorted(changed) if len(changed[name].vectors)]
        if not held:
            return replace(part, alive=alive, delta=None, attributes=(), delta_stock=None)
        vectors = np.concatenate([each.vectors for each in held])
        delta = Block(
            number=part.base.number,
            base=-1,  # rows of a delta have no number in the snapshot
            vectors=vectors,
            codes=encode(vectors),
            offsets=np.r_[0, np.cumsum([len(each.vectors) for each in held])].astype(np.int64),
            listings=pa.array([each.listing_id for each in held], pa.string()),
            images=np.concatenate([each.images for each in held]),
        )
        return replace(
            part,
            alive=alive,
            delta=delta,
            attributes=tuple(each.attributes for each in held),
            delta_stock=np.array([self._levels[each.listing_id] for each in held], np.uint8),
        )
