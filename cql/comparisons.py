"""Comparisons of maps: what changed from one to the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

from cql import statements as cql
from cql.access import Access, record, values_of
from cql.records import ClusterChange, Comparison, NewOutlier

_COMPARISON = "map_id previous rows_before rows_after added removed outliers seed created_at"
_CHANGE = (
    "map_id previous number kind cluster_key name before after joined added departed removed parts "
    "exemplars shift energy p q"
)
_OUTLIER = "map_id previous rank image_id listing_id score score_before"


class Comparisons:
    """The part of the store about how maps differ."""

    _access: Access

    def put_means(self, map_id: UUID, means: Mapping[int, bytes]) -> None:
        """Write the mean vector (float32, little-endian) of each cluster of a map, by number."""
        self._access.write(cql.PUT_MEAN, ((map_id, *each) for each in means.items()))

    def means(self, map_id: UUID) -> dict[int, bytes]:
        """Mean vectors of the clusters of a map by number; none for a map of an older version."""
        return {row.cluster: row.mean for row in self._access.each(cql.MEANS, map_id)}

    def put_comparison(
        self,
        comparison: Comparison,
        clusters: Iterable[ClusterChange],
        outliers: Iterable[NewOutlier],
    ) -> None:
        """Write a comparison: its own row last."""
        rows = (values_of(each, _CHANGE, exemplars=list(each.exemplars)) for each in clusters)
        self._access.write(cql.PUT_CLUSTER_CHANGE, rows)
        ranked = (values_of(each, _OUTLIER) for each in outliers)
        self._access.bulk(cql.PUT_NEW_OUTLIER, ranked, key=2)
        self._access.run(cql.PUT_COMPARISON, *values_of(comparison, _COMPARISON))

    def comparisons(self, map_id: UUID) -> list[Comparison]:
        """What a map was compared with, the newest first."""
        found = [record(Comparison, row) for row in self._access.each(cql.COMPARISONS, map_id)]
        return sorted(found, key=lambda each: each.created_at, reverse=True)

    def cluster_changes(self, map_id: UUID, previous: UUID) -> list[ClusterChange]:
        """Clusters of a comparison: new, vanished, then the others."""
        rows = self._access.each(cql.CLUSTER_CHANGES, map_id, previous)
        return [record(ClusterChange, row) for row in rows]

    def new_outliers(self, map_id: UUID, previous: UUID, *, limit: int) -> list[NewOutlier]:
        """The first `limit` images that became outliers, the strangest first."""
        rows = self._access.each(cql.NEW_OUTLIERS, map_id, previous, limit)
        return [record(NewOutlier, row) for row in rows]

    def delete_comparisons(self, map_id: UUID) -> None:
        """Forget the means of a map, and what it was compared with."""
        for each in self.comparisons(map_id):
            self._access.run(cql.DELETE_CLUSTER_CHANGES, map_id, each.previous)
            self._access.run(cql.DELETE_NEW_OUTLIERS, map_id, each.previous)
        self._access.run(cql.DELETE_COMPARISONS, map_id)
        self._access.run(cql.DELETE_MEANS, map_id)
