"""Images placed on a map later, in memory; `tests/cql` tests the real ones."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from cql.errors import ConflictError
from cql.records import MapPoint, PlacedBatch


class MemoryPlaced:
    """With the rules of `cql.placed.Placed`."""

    @property
    def placed_(self) -> dict[UUID, list[tuple[PlacedBatch, list[MapPoint]]]]:
        held: dict[UUID, list[tuple[PlacedBatch, list[MapPoint]]]] = self.__dict__.setdefault(
            "_placed", {}
        )
        return held

    def append_placed(self, batch: PlacedBatch, points: Sequence[MapPoint]) -> None:
        held = self.placed_.setdefault(batch.map_id, [])
        if batch.number != len(held) + 1:
            raise ConflictError(f"batch {batch.number} is there")
        held.append((batch, list(points)))

    def placed_batches(self, map_id: UUID, *, after: int = 0) -> list[PlacedBatch]:
        return [batch for batch, _ in self.placed_.get(map_id, [])[after:]]

    def placed_points(self, batch: PlacedBatch) -> list[MapPoint]:
        return self.placed_[batch.map_id][batch.number - 1][1]
