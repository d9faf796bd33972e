"""Maps and query results: what can be computed again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from cassandra.query import UNSET_VALUE

from cql import statements as cql
from cql.access import Access, Pair, now, record, utc, values_of
from cql.duplicates import Duplicates
from cql.errors import InputError, NotFoundError
from cql.placed import Placed
from cql.records import Cluster, Group, Hit, MapPoint, MapVersion, Outlier, Query
from cql.work import newest

NAME_LIMIT = 120
"""Characters of a query's name."""
POINT_BUCKET = 10_000
"""Points of a map in one partition."""
OUTLIER_BANDS = 100
_MAP = (
    "map_id model_id snapshot_id rows rows_scored clusters noise seed parameters quality "
    "code_version created_at watermark"
)
_POINT = (
    "map_id bucket image_id listing_id x y cluster membership outlier_score knn_distance glosh "
    "trust soft_clusters soft_shares space"
)
_NUMBERS = ("x", "y", "membership", "outlier_score", "knn_distance", "glosh")
_TRUSTED = (*_NUMBERS, "trust")
_SCORES = ("score", "knn_distance", "glosh", "lof")
_CLUSTER = "map_id cluster cluster_key size listings name exemplars x y family"
_GROUP = "map_id level number group_key size listings clusters name parent"
_OUTLIER = (
    "map_id bucket score image_id listing_id knn_distance glosh cluster reason kind lof evidence"
)
_QUERY = (
    "query_id spec name model_id snapshot_id state attempt hits rows rows_scanned seconds "
    "created_at"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierPage:
    """Outliers in rank order; `next_page` is None on the last page, else opaque."""

    rows: tuple[Outlier, ...]
    next_page: str | None


class Results(Duplicates, Placed):
    """The part of the store about maps and queries."""

    _access: Access

    # Maps

    def put_map(self, version: MapVersion) -> None:
        """Write a map's own row: last, when its points, clusters and outliers are written."""
        for name, value in version.quality.items():
            _number(value, "quality {}", name)
        quality = {name: float(value) for name, value in version.quality.items()}
        self._access.run(cql.PUT_MAP, *values_of(version, _MAP, quality=quality))

    def map(self, map_id: UUID) -> MapVersion:
        """One map. NotFoundError."""
        row = self._access.one(cql.MAP, map_id)
        if row is None:
            raise NotFoundError(f"no map has the id {map_id}")
        return record(MapVersion, row)

    def maps(self) -> list[MapVersion]:
        """All maps, newest first."""
        found = [record(MapVersion, row) for row in self._access.each(cql.MAPS)]
        return sorted(found, key=lambda each: (each.created_at, each.map_id.bytes), reverse=True)

    def put_points(self, map_id: UUID, points: Iterable[MapPoint]) -> int:
        """Write all points of a map, in one call; returns how many. NaN is refused."""

        def rows() -> Iterator[tuple[object, ...]]:
            for row, point in enumerate(points):
                for name in _NUMBERS if point.trust is None else _TRUSTED:
                    _number(getattr(point, name), "{} of image {}", name, point.image_id)
                yield values_of(
                    point,
                    _POINT,
                    map_id=map_id,
                    bucket=row // POINT_BUCKET,
                    soft_clusters=list(point.soft_clusters),
                    soft_shares=list(point.soft_shares),
                )

        return self._access.bulk(cql.PUT_POINT, rows(), key=2)

    def points(self, map_id: UUID, rows: int) -> Iterator[MapPoint]:
        """All points of a map of `rows` rows: by bucket, then image id."""
        for bucket in range(-(-rows // POINT_BUCKET)):
            for row in self._access.each(cql.POINTS, map_id, bucket):
                yield record(MapPoint, row)

    def put_clusters(self, clusters: Iterable[Cluster]) -> int:
        """Write clusters of maps; returns how many."""
        return self._access.write(
            cql.PUT_CLUSTER,
            (values_of(each, _CLUSTER, exemplars=list(each.exemplars)) for each in clusters),
        )

    def clusters(self, map_id: UUID) -> list[Cluster]:
        """Clusters of a map, by number."""
        return [record(Cluster, row) for row in self._access.each(cql.CLUSTERS, map_id)]

    def put_groups(self, groups: Iterable[Group]) -> int:
        """Write groups of clusters of maps; returns how many."""
        return self._access.write(cql.PUT_GROUP, (values_of(each, _GROUP) for each in groups))

    def groups(self, map_id: UUID) -> list[Group]:
        """Groups of clusters of a map, by level and number."""
        return [record(Group, row) for row in self._access.each(cql.GROUPS, map_id)]

    def put_outliers(
        self, map_id: UUID, outliers: Iterable[Outlier], *, ranked: int | None = None
    ) -> int:
        """Write all outliers of a map, in one call: each goes into its percentile band.

        `ranked`: how many there are, where they come in rank order (score descending, then image
        id) and need not be held at once.
        """
        if ranked is None:
            ordered = sorted(outliers, key=lambda each: (-each.score, each.image_id.bytes))
            outliers, ranked = ordered, len(ordered)

        def rows() -> Iterator[tuple[object, ...]]:
            for rank, each in enumerate(outliers):
                for name in _SCORES:
                    _number(getattr(each, name), "{} of image {}", name, each.image_id)
                band = OUTLIER_BANDS - 1 - rank * OUTLIER_BANDS // ranked
                yield values_of(each, _OUTLIER, map_id=map_id, bucket=band)

        return self._access.bulk(cql.PUT_OUTLIER, rows(), key=2)

    def outliers(self, map_id: UUID, *, limit: int, page_state: str | None = None) -> OutlierPage:
        """The next `limit` outliers in rank order: score descending, then image id."""
        if limit < 1:
            raise InputError(f"a page must have at least 1 row, got {limit}")
        band, state = _page_state(page_state)
        found: list[Outlier] = []
        while band >= 0:
            rows, state = self._access.page(
                cql.OUTLIERS, (map_id, band), rows=limit - len(found), state=state
            )
            found += [record(Outlier, row) for row in rows]
            if state is None:
                band -= 1
            if len(found) >= limit:
                break
        following = f"{band}:{state.hex() if state else ''}" if band >= 0 else None
        return OutlierPage(rows=tuple(found), next_page=following)

    def delete_map(self, map_id: UUID) -> None:
        """Remove a map with its points, also those placed later, clusters, outliers and duplicates.

        NotFoundError.
        """
        version = self.map(map_id)
        buckets = range(-(-max(version.rows, version.rows_scored) // POINT_BUCKET))
        self._access.write(cql.DELETE_POINTS, ((map_id, bucket) for bucket in buckets))
        self._access.write(cql.DELETE_OUTLIERS, ((map_id, band) for band in range(OUTLIER_BANDS)))
        self._access.run(cql.DELETE_CLUSTERS, map_id)
        self._access.run(cql.DELETE_GROUPS, map_id)
        self.delete_duplicates(map_id)
        self.delete_placed(map_id)
        self._access.run(cql.DELETE_MAP, map_id)

    # Queries

    def put_query(self, query: Query) -> Query:
        """Write a query as asked; returns it with its time."""
        stored = replace(query, created_at=query.created_at or now())
        self._access.together(_written(stored))
        return stored

    def query(self, query_id: UUID) -> Query:
        """One query. NotFoundError, also once it is older than `query_ttl_days`."""
        row = self._access.one(cql.QUERY, query_id)
        if row is None or row.spec is None:
            raise NotFoundError(
                f"no query has the id {query_id}: it may have expired, search again"
            )
        return record(Query, row)

    def rename_query(self, query_id: UUID, name: str) -> Query:
        """Give a query another name, "" for none; returns it as it is now.

        It keeps its time in the history and the day on which it expires. Asked again and published
        again, it has the name it was asked with.

        Raises:
            NotFoundError: no such query, or it has expired.
            InputError: the name has a control character or more than 120 characters.
        """
        if not name.isprintable():
            raise InputError(
                f"a query's name must be of printable characters, got {name[:40]!r}: remove the "
                "control characters"
            )
        if len(name) > NAME_LIMIT:
            raise InputError(
                f"a query's name may have {NAME_LIMIT} characters, got {len(name)}: shorten it"
            )
        query = self.query(query_id)
        left = self._access.one(cql.QUERY_TTL, query_id)
        # Seconds are cut off when read: one less, and the name never outlives the row.
        ttl = max(1, ((left and left.ttl) or 1) - 1)
        key = (_day(query.created_at), query.created_at, query_id)
        self._access.together(
            (cql.NAME_QUERY, (ttl, name, query_id)), (cql.NAME_QUERY_DAY, (ttl, name, *key))
        )
        return replace(query, name=name)

    def publish(self, query: Query, attempt: UUID, hits: Iterable[Hit]) -> Query:
        """Write the hits of an attempt, then let the query name it: all of them or none is seen.

        An attempt is written once; a retry is a new attempt. Returns the query as stored.

        Raises:
            InputError: a score is not a finite number, or one listing comes twice.
        """
        return self.publish_and_read(query, attempt, hits, limit=0)[0]

    def publish_and_read(
        self, query: Query, attempt: UUID, hits: Iterable[Hit], *, limit: int
    ) -> tuple[Query, list[Hit]]:
        """As `publish`, and the first `limit` (at most 2,000) hits in clustering order, read back.

        They are read while the query is written: both come after the hits. What is not there is
        left out. A row is known by its listing, so that nothing else of it need be read.
        """
        rows = list(hits)
        listings = {hit.listing_id: hit for hit in rows}
        if len(listings) != len(rows):
            raise InputError(f"a listing is one hit, got {len(rows)} hits of {len(listings)}")
        self._put_hits(query.query_id, attempt, rows)
        done = replace(
            query,
            state="done",
            attempt=attempt,
            hits=len(rows),
            created_at=query.created_at or now(),
        )
        written = _written(done)
        if not limit or not rows:
            self._access.together(written)
            return done, []
        _, names = self._access.together(written, (cql.HIT_NAMES, (query.query_id, attempt, limit)))
        return done, [listings[row.listing_id] for row in names]

    def _put_hits(self, query_id: UUID, attempt: UUID, hits: Sequence[Hit]) -> None:
        for hit in hits:
            _number(hit.score, "score of listing {!r}", hit.listing_id)
        # Cassandra orders -0 below 0, a tie must not depend on the sign of nothing.
        rows = [(query_id, attempt, hit.score + 0.0, *hit[1:]) for hit in hits]
        if all(hit.inventory is None and hit.stock_read_at is None for hit in hits):
            self._access.batch(cql.PUT_HIT, [row[:-2] for row in rows])
        else:
            # A null would be stored, as a tombstone.
            stocked = ([UNSET_VALUE if value is None else value for value in row] for row in rows)
            self._access.batch(cql.PUT_STOCKED_HIT, stocked)

    def hits(
        self, query_id: UUID, attempt: UUID, *, limit: int, after: Hit | None = None
    ) -> list[Hit]:
        """At most `limit` hits in clustering order (score descending, listing), behind `after`."""
        if limit < 1:
            return []
        if after is None:
            rows = list(self._access.each(cql.HITS, query_id, attempt, limit))
        else:
            key = (query_id, attempt, after.score)
            rows = list(self._access.each(cql.HITS_TIED, *key, after.listing_id, limit))
            if len(rows) < limit:
                rows += self._access.each(cql.HITS_BELOW, *key, limit - len(rows))
        return [
            Hit(
                score=row.score,
                listing_id=row.listing_id,
                image_id=row.image_id,
                inventory=row.inventory,
                stock_read_at=utc(row.stock_read_at),
            )
            for row in rows
        ]

    def hits_of(
        self, query: Query, *, limit: int, after: Hit | None = None, read: int = 0
    ) -> list[Hit]:
        """At most `limit` hits of a published query, behind `after`, before which `read` came.

        The first page tells whether all of them are there, too. None where nothing is published.

        Raises:
            NotFoundError: hits are missing. They have no commit log, so those of the last minutes
                are gone when Cassandra was killed; and they expire moments before their query.
        """
        if query.attempt is None or limit < 1:
            return []
        found = self.hits(query.query_id, query.attempt, limit=limit, after=after)
        whole = len(found) == min(limit, max(0, query.hits - read))
        if whole and after is None and limit < query.hits:
            row = self._access.one(cql.HIT_COUNT, query.query_id, query.attempt)
            whole = row.hits == query.hits
        if not whole:
            raise NotFoundError(
                f"query {query.query_id} had {query.hits} hits, they are not all there any more: "
                "it may have expired, search again"
            )
        return found

    def queries(self, limit: int = 50) -> list[Query]:
        """The newest queries that have not expired, newest first."""
        ids = newest(
            self._access, cql.QUERIES_OF_DAY, "query_id", limit=limit, days=self._query_days()
        )
        found = self._access.many(cql.QUERY, ((each,) for each in dict.fromkeys(ids)))
        return [record(Query, rows[0]) for rows in found if rows and rows[0].spec is not None]

    def _query_days(self) -> int:
        return self._access.settings.query_ttl_days + 2


def _written(query: Query) -> list[Pair]:
    """What writes the rows of a query, which may be there one without the other."""
    day = (_day(query.created_at), query.created_at, query.query_id, query.name)
    return [(cql.PUT_QUERY, values_of(query, _QUERY)), (cql.PUT_QUERY_DAY, day)]


def _day(moment: datetime | None) -> int:
    return int((utc(moment) or now()).strftime("%Y%m%d"))


def _number(value: float, what: str, *named: object) -> None:
    """InputError unless it is finite; `what` is put into words only then: there are millions."""
    if not math.isfinite(value):
        raise InputError(f"{what.format(*named)} must be a finite number, got {value}")


def _page_state(text: str | None) -> tuple[int, bytes | None]:
    if text is None:
        return OUTLIER_BANDS - 1, None
    try:
        band, _, state = text.partition(":")
        return int(band), bytes.fromhex(state) or None
    except ValueError as error:
        raise InputError(f"this is no page of outliers: {text[:40]!r}") from error
