"""Stock of the whole collection by attribute or cluster: a Spark direct join with Cassandra."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from cql import spark as engine
from cql.access import now
from cql.errors import InputError, NotFoundError
from cql.progress import Progress, silent
from cql.records import MapVersion, PlacedBatch
from cql.settings import Settings
from cql.store import Store

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from pyspark.sql import DataFrame, SparkSession

CLUSTER = "cluster"
PREFIX = "attr:"
"""What an attribute's name starts with where it is a column of the map."""
GROUPS_MAX = 10_000
"""Most groups of a report: an attribute that is another one for every listing groups nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Stock of a group: `known` listings have a stock row, `in_stock` a piece; sum of `pieces`.

    `group` is the attribute's value ("" for listings without it) or the cluster's number.
    """

    group: str
    label: str
    listings: int
    known: int
    in_stock: int
    pieces: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`total` counts every listing once; `rows` has most listings first, then by group.

    A listing with photos in several clusters counts in each of them. `at` is when the report
    was made; it reads listing by listing, so stock that moves meanwhile is old or new.
    """

    by: str
    map_id: UUID | None
    at: datetime
    total: Count
    rows: tuple[Count, ...]

    def lines(self) -> Iterator[tuple[str | int, ...]]:
        """The report as rows of a table: a header, the groups, the total."""
        names = [each.name for each in fields(Count)]
        yield tuple(names)
        for row in (*self.rows, self.total):
            yield tuple(getattr(row, name) for name in names)


def report(
    spark: SparkSession,
    settings: Settings,
    store: Store,
    *,
    by: str = "",
    progress: Progress = silent,
) -> Report:
    """Count stock over all listings, by an attribute, or over those of the live map, by `cluster`.

    `by` is `cluster`, an attribute's name with or without `attr:`, or "" for the total alone.

    Raises:
        NotFoundError: no listing has the attribute, or there is no live map.
        InputError: more than 10,000 groups.
    """
    version = _live_map(store) if by == CLUSTER else None
    progress("stock", 0, 1, "joining listings with their stock")
    moment = now()
    late = store.placed_batches(version.map_id) if version else ()
    frame = counts(spark, settings, by=by, version=version, late=late)
    found = frame.limit(GROUPS_MAX + 2).collect()
    if len(found) > GROUPS_MAX + 1:
        raise InputError(
            f"a stock report may have {GROUPS_MAX:,} groups, {by!r} has more: "
            "choose an attribute with fewer values"
        )
    rows = [row for row in found if row["group"] is not None]
    if _attribute(by) and rows and all(row["group"] == "" for row in rows):
        raise NotFoundError(f"no listing has the attribute {_attribute(by)!r}: name another one")
    labels = (
        {str(each.cluster): each.name for each in store.clusters(version.map_id)} | {"-1": "none"}
        if version
        else {}
    )
    groups = [_count(row, labels.get(row["group"], row["group"])) for row in rows if by]
    total = next((_count(row, "total") for row in found if row["group"] is None), _NOTHING)
    text = f"{total.in_stock:,} of {total.listings:,} listings are in stock"
    progress("stock", 1, 1, text)
    return Report(
        by=by,
        map_id=version.map_id if version else None,
        at=moment,
        total=total,
        rows=tuple(sorted(groups, key=lambda row: (-row.listings, row.group))),
    )


def counts(
    spark: SparkSession,
    settings: Settings,
    *,
    by: str,
    version: MapVersion | None = None,
    late: Sequence[PlacedBatch] = (),
) -> DataFrame:
    """Figures of each group, and of all listings under the group null: lazy.

    `version` is the map whose clusters count, for `by` = `cluster`, with the images of `late`,
    which were placed on it since it was made. The join asks Cassandra for the stock of the listings
    on the left, key by key: it never scans `stock_level`.
    """
    from pyspark.sql import functions as sql

    left = (
        _of_map(spark, settings, version, late)
        if version is not None
        else _of_listings(spark, settings, _attribute(by))
    )
    options = {"keyspace": settings.keyspace, "table": "stock_level", "directJoinSetting": "on"}
    stock = spark.read.format(engine.FORMAT).options(**options).load()
    joined = left.join(stock.select("listing_id", "inventory"), "listing_id", "left")
    whole = sql.array(sql.lit(None).cast("string"))
    grouped = joined.withColumn("group", sql.explode(sql.concat(whole, "groups")))
    return grouped.groupBy("group").agg(
        sql.count(sql.lit(1)).alias("listings"),
        sql.count("inventory").alias("known"),
        sql.count(sql.when(sql.col("inventory") > 0, 1)).alias("in_stock"),
        sql.coalesce(sql.sum(sql.col("inventory").cast("long")), sql.lit(0)).alias("pieces"),
    )


def _of_listings(spark: SparkSession, settings: Settings, attribute: str) -> DataFrame:
    from pyspark.sql import functions as sql

    value = sql.element_at("attributes", sql.lit(attribute)) if attribute else sql.lit("")
    groups = sql.array(sql.coalesce(value, sql.lit(""))).alias("groups")
    return engine.read(spark, settings, "listings").select("listing_id", groups)


def _of_map(
    spark: SparkSession, settings: Settings, version: MapVersion, late: Sequence[PlacedBatch]
) -> DataFrame:
    from pyspark.sql import functions as sql

    from cql.results import POINT_BUCKET

    # Whole partition keys are pushed down; a map's id alone would scan the points of all maps.
    buckets = list(range(-(-version.rows_scored // POINT_BUCKET)))
    points = engine.read(spark, settings, "map_points").where(
        (sql.col("map_id") == str(version.map_id)) & sql.col("bucket").isin(buckets)
    )
    points = points.select("listing_id", "cluster")
    if late:
        placed = engine.read(spark, settings, "placed_points").where(
            (sql.col("map_id") == str(version.map_id))
            & sql.col("batch_id").isin([str(batch.batch_id) for batch in late])
        )
        points = points.unionByName(placed.select("listing_id", "cluster"))
    groups = sql.collect_set(sql.col("cluster").cast("string")).alias("groups")
    return points.groupBy("listing_id").agg(groups)


def _live_map(store: Store) -> MapVersion:
    live = store.live("map")
    if live is None:
        raise NotFoundError("there is no map yet: run `sightline analyse`, then report by cluster")
    return store.map(live)


def _attribute(by: str) -> str:
    return "" if by == CLUSTER else by.removeprefix(PREFIX)


def _count(row: Any, label: str) -> Count:
    return Count(
        group=row["group"] or "",
        label=label,
        listings=row["listings"],
        known=row["known"],
        in_stock=row["in_stock"],
        pieces=row["pieces"],
    )


_NOTHING = Count(group="", label="total", listings=0, known=0, in_stock=0, pieces=0)
