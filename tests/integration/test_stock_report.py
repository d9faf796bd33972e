"""Stock reports by Spark's direct join, against a naive loop over the store."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
import pytest

from analytics import stock
from analytics.decisions.decided import RENAME
from cql.errors import InputError, NotFoundError
from cql.records import Cluster, Listing, MapPoint, MapVersion, PlacedBatch, Stock
from cql.settings import Settings
from cql.store import Store
from dashboard import commands, ledger, stocks
from dashboard.pipeline import Step

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.service

MATERIALS = ("steel", "clay", "", "PVC <b>")


@pytest.fixture(scope="module")
def version(store: Store) -> MapVersion:
    """300 listings, two thirds with stock; 450 points of most of them in clusters -1 to 3."""
    rng = np.random.default_rng(5)
    listings = [
        Listing(
            listing_id=f"s{n:03}",
            attributes={"serial": str(n)}
            | ({"material": MATERIALS[n % 4]} if n % 7 else {"owner": "city"}),
        )
        for n in range(300)
    ]
    store.put_listings(listings)
    store.load_stock(
        Stock(listing_id=f"s{n:03}", inventory=int(rng.integers(0, 4)), etag="e")
        for n in range(300)
        if n % 3
    )
    store.load_stock([Stock(listing_id="not-a-listing", inventory=1_000_000, etag="e")])
    for n in (1, 2, 4):
        store.set_stock(f"s{n:03}", 2_000_000_000, etag="e")
    points = [
        MapPoint(
            image_id=uuid4(),
            listing_id=f"s{int(rng.integers(0, 280)):03}",
            x=0.5,
            y=0.5,
            cluster=int(rng.integers(-1, 4)),
            membership=1.0,
            outlier_score=0.0,
            knn_distance=0.0,
            glosh=0.0,
        )
        for _ in range(450)
    ]
    made = MapVersion(
        map_id=uuid4(),
        model_id="m",
        snapshot_id=uuid4(),
        rows=450,
        rows_scored=450,
        clusters=4,
        noise=0,
        seed=1,
        parameters="{}",
        quality={},
        code_version="1",
        created_at=datetime.now(UTC),
    )
    other = replace(made, map_id=uuid4())
    for each in (made, other):
        some = points if each is made else [replace(point, cluster=9) for point in points[:50]]
        store.put_points(each.map_id, some)
        store.put_map(each)
    store.put_clusters(
        Cluster(
            map_id=made.map_id,
            cluster=number,
            cluster_key=uuid4(),
            size=1,
            listings=1,
            name=f"cluster {number}",
            exemplars=(),
            x=0.5,
            y=0.5,
        )
        for number in range(4)
    )
    store.set_live("map", made.map_id, expected=None)
    return made


def naive(store: Store, groups: dict[str, set[str]]) -> dict[str, tuple[int, int, int, int]]:
    """Listings, known, in stock, pieces of each group of listing ids, one by one."""
    found = {}
    for group, members in groups.items():
        known = in_stock = pieces = 0
        for listing_id in members:
            row = store.stock([listing_id]).get(listing_id)
            if row is not None:
                known += 1
                in_stock += row.inventory > 0
                pieces += row.inventory
        found[group] = (len(members), known, in_stock, pieces)
    return found


def figures(rows: Iterable[stock.Count]) -> dict[str, tuple[int, int, int, int]]:
    return {row.group: (row.listings, row.known, row.in_stock, row.pieces) for row in rows}


@pytest.mark.parametrize("by", ["material", "attr:material"])
def test_by_attribute_equals_a_loop(
    spark: SparkSession, settings: Settings, store: Store, version: MapVersion, by: str
) -> None:
    groups = defaultdict(set)
    for listing in store.iter_listings():
        groups[listing.attributes.get("material", "")].add(listing.listing_id)
    said: list[str] = []
    found = stock.report(
        spark, settings, store, by=by, progress=lambda *call: said.append(str(call[-1]))
    )
    assert figures(found.rows) == naive(store, groups)
    assert figures([found.total]) == naive(store, {"": set().union(*groups.values())})
    assert found.total.pieces > 2**31
    assert [row.listings for row in found.rows] == sorted(
        (row.listings for row in found.rows), reverse=True
    )
    assert said[-1] == f"{found.total.in_stock} of 300 listings are in stock"
    header, *lines = found.lines()
    assert header == ("group", "label", "listings", "known", "in_stock", "pieces")
    assert lines[-1][1:3] == ("total", 300)


def test_by_cluster_of_the_live_map_equals_a_loop(
    spark: SparkSession, settings: Settings, store: Store, version: MapVersion
) -> None:
    groups = defaultdict(set)
    for point in store.points(version.map_id, version.rows_scored):
        groups[str(point.cluster)].add(point.listing_id)
    found = stock.report(spark, settings, store, by="cluster")
    assert figures(found.rows) == naive(store, groups)
    assert figures([found.total]) == naive(store, {"": set().union(*groups.values())})
    assert found.map_id == version.map_id
    assert {row.group: row.label for row in found.rows} == {
        "-1": "none",
        **{str(n): f"cluster {n}" for n in range(4)},
    }
    # Images that were placed on the map since: in listings that it had, and in others.
    points = [
        replace(point, image_id=uuid4(), listing_id=f"s{280 + n:03}", cluster=n % 3)
        for n, point in enumerate([next(store.points(version.map_id, version.rows_scored))] * 20)
    ]
    for number, some in enumerate((points[:12], points[12:])):
        batch = PlacedBatch(
            map_id=version.map_id, number=number + 1, batch_id=uuid4(), first=12 * number,
            rows=len(some), read_to=datetime.now(UTC), placed_at=datetime.now(UTC),
        )  # fmt: skip
        store.append_placed(batch, some)
    for point in points:
        groups[str(point.cluster)].add(point.listing_id)
    assert figures(stock.report(spark, settings, store, by="cluster").rows) == naive(store, groups)
    store.delete_placed(version.map_id)


def test_the_total_alone(
    spark: SparkSession, settings: Settings, store: Store, version: MapVersion
) -> None:
    found = stock.report(spark, settings, store)
    assert found.rows == ()
    assert found.total.listings == 300


@pytest.mark.parametrize("by", ["", "material", "cluster"])
def test_the_plan_is_a_direct_join(
    spark: SparkSession, settings: Settings, version: MapVersion, by: str
) -> None:
    frame = stock.counts(spark, settings, by=by, version=version if by == stock.CLUSTER else None)
    plan = frame._jdf.queryExecution().executedPlan().toString()
    table = f"{settings.keyspace}.stock_level"
    assert re.search(rf"Cassandra Direct Join \[listing_id = listing_id#\d+\] {table}", plan)
    # Only the side with the listings is scanned.
    assert plan.count("BatchScan") == 1
    if by == stock.CLUSTER:
        assert f'"map_id" = ?, {version.map_id}' in plan


def test_the_command_prints_what_the_job_wrote(
    spark: SparkSession,
    settings: Settings,
    store: Store,
    version: MapVersion,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    key = store.clusters(version.map_id)[2].cluster_key
    store.append_decision(
        ledger.cluster_subject(key), RENAME, "[red] pipes", author="a", expected_version=0
    )
    said: list[str] = []

    def work(_settings: Settings, steps: list[Step]) -> None:
        (step,) = steps
        assert step.kind == stocks.KIND
        for _ in range(2):  # a job that is taken over writes the same file again
            stocks.run_report(
                spark, settings, store, step.parameters, lambda *call: said.append(str(call[-1]))
            )

    monkeypatch.setattr(commands, "work", work)
    found = commands.stock_report(settings, "cluster")
    *rows, total = found["rows"]
    expected = stock.report(spark, settings, store, by="cluster")
    assert [row["pieces"] for row in rows] == [row.pieces for row in expected.rows]
    assert total["label"] == "total"
    assert {row["group"]: row["label"] for row in rows}["2"] == "[red] pipes"
    assert said[-1].endswith(f"reports/{Path(found['file']).name}")
    assert [path.name for path in (settings.data_dir / "reports").iterdir()] == [
        Path(found["file"]).name
    ]
    commands.show_stock(found)
    out = capsys.readouterr().out
    assert "[red] pipes" in out
    assert f"{expected.total.pieces:,}" in out


def test_what_cannot_be_grouped_by_is_refused(
    spark: SparkSession,
    settings: Settings,
    store: Store,
    version: MapVersion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(NotFoundError, match="'colour'"):
        stock.report(spark, settings, store, by="colour")
    monkeypatch.setattr(stock, "GROUPS_MAX", 299)
    with pytest.raises(InputError, match="299 groups, 'serial' has more"):
        stock.report(spark, settings, store, by="serial")
    monkeypatch.setattr(stock, "GROUPS_MAX", 300)
    assert len(stock.report(spark, settings, store, by="serial").rows) == 300
