"""Images placed on a map after it was made: batches, each of them seen whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from uuid import UUID

from cql import statements as cql
from cql.access import Access, conflict, record, values_of
from cql.errors import InputError
from cql.records import MapPoint, PlacedBatch

_NUMBERS = ("x", "y", "membership", "outlier_score", "knn_distance", "glosh")


class Placed:
    """The part of the store about images that came after their map."""

    _access: Access

    def append_placed(self, batch: PlacedBatch, points: Sequence[MapPoint]) -> None:
        """Write points, then their batch if the newest one of the map is the batch before.

        Raises:
            ConflictError: another engine placed a batch meanwhile; nothing of this one is seen.
            InputError: a number is not finite, or the batch has another number of rows.
        """
        if batch.rows != len(points):
            raise InputError(f"a batch of {batch.rows} rows needs as many points: {len(points)}")
        for point in points:
            for name in _NUMBERS:
                if not math.isfinite(getattr(point, name)):
                    raise InputError(
                        f"{name} of image {point.image_id} must be a finite number, "
                        f"got {getattr(point, name)}"
                    )
        self._access.bulk(
            cql.PUT_PLACED_POINT,
            (
                values_of(
                    point,
                    cql.PLACED_POINT_COLUMNS,
                    map_id=batch.map_id,
                    batch_id=batch.batch_id,
                    soft_clusters=list(point.soft_clusters),
                    soft_shares=list(point.soft_shares),
                )
                for point in points
            ),
            key=2,
        )

        def settled() -> bool:
            row = self._access.serial(cql.PLACED_BATCH, batch.map_id, batch.number)
            return row is not None and row.batch_id == batch.batch_id

        values = values_of(batch, cql.PLACED_BATCH_COLUMNS)
        if not self._access.cas(cql.ADD_PLACED_BATCH, values, settled=settled):
            self._access.run(cql.DELETE_PLACED_POINTS, batch.map_id, batch.batch_id)
            raise conflict(
                f"batch {batch.number} of map {batch.map_id}", batch.number - 1, batch.number
            )

    def placed_batches(self, map_id: UUID, *, after: int = 0) -> list[PlacedBatch]:
        """Batches of a map behind number `after`, in order."""
        rows = self._access.each(cql.PLACED_BATCHES, map_id, after)
        return [record(PlacedBatch, row) for row in rows]

    def placed_points(self, batch: PlacedBatch) -> list[MapPoint]:
        """Points of a batch, by image id."""
        rows = self._access.each(cql.PLACED_POINTS, batch.map_id, batch.batch_id)
        return [record(MapPoint, row, trust=None) for row in rows]

    def delete_placed(self, map_id: UUID) -> None:
        """Remove the batches of a map, if there are any."""
        batches = self.placed_batches(map_id)
        self._access.write(
            cql.DELETE_PLACED_POINTS, ((map_id, batch.batch_id) for batch in batches)
        )
        if batches:
            self._access.run(cql.DELETE_PLACED_BATCHES, map_id)
