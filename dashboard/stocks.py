"""Stock of listings: read now, changed by compare-and-set, reported over the whole collection."""

from __future__ import annotations

import csv
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cql.errors import ConflictError, InputError, NotFoundError, UnavailableError
from cql.progress import Progress
from cql.settings import Settings
from cql.store import Store
from dashboard import ledger
from dashboard.pipeline import Step
from dashboard.views import StockView

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

KIND = "stock-report"
"""Kind of the job; its parameters are `by` and `file`."""
INVENTORY_MAX = 2**31 - 1
"""Most pieces of a listing: Cassandra keeps them as a 32-bit int."""
TRIES = 5
_FILE = re.compile(r"stock-[0-9]{8}T[0-9]{6}-[0-9a-f]{8}\.csv")
_ETAG = re.compile(r'"([\x21\x23-\x7e]{1,200})"')


def read(store: Store, listing_id: str) -> StockView:
    """Stock of one listing now. NotFoundError where it, or its stock, is not there."""
    found = store.stock([listing_id]).get(listing_id)
    if found is None:
        store.listing(listing_id)
        raise NotFoundError(f"listing {listing_id!r} has no stock yet: set it")
    return StockView(listing_id=listing_id, inventory=found.inventory, etag=found.etag)


def change(store: Store, listing_id: str, inventory: int, *, etag: str | None) -> StockView:
    """Set the stock if its etag is still `etag`, "" for none yet; returns it with its new etag.

    With None, whatever is there is replaced; a few times, should it change in between.

    Raises:
        NotFoundError: no such listing.
        InputError: the inventory is not from 0 to 2,147,483,647.
        ConflictError: somebody else changed it; it names both etags.
    """
    if not 0 <= inventory <= INVENTORY_MAX:
        raise InputError(f"an inventory must be from 0 to {INVENTORY_MAX:,}, got {inventory}")
    store.listing(listing_id)
    for left in reversed(range(1 if etag is not None else TRIES)):
        known = etag
        if known is None:
            found = store.stock([listing_id]).get(listing_id)
            known = found.etag if found is not None else ""
        try:
            done = store.set_stock(listing_id, inventory, etag=known)
        except ConflictError:
            if not left:
                raise
            continue
        return StockView(listing_id=listing_id, inventory=done.inventory, etag=done.etag)
    raise AssertionError("unreachable")


def condition(if_match: str | None, if_none_match: str | None) -> str:
    """The etag that a request names by its headers, "" for `If-None-Match: *`. InputError."""
    if if_none_match is not None:
        if if_match is not None or if_none_match.strip() != "*":
            raise InputError(
                "a change of stock must have If-Match with one ETag, or If-None-Match: *, got "
                f"{(if_match or 'nothing')[:80]} and {if_none_match[:80]}: send one of them"
            )
        return ""
    named = _ETAG.fullmatch((if_match or "").strip())
    if named is None:
        raise InputError(
            f"If-Match must be one strong ETag in quotes, got {(if_match or '')[:80]!r}: "
            "send the one that was read"
        )
    return named[1]


# Reports


def report_step(by: str) -> Step:
    """The job that reports stock by an attribute, `cluster` or "" into a file of its own."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    name = f"stock-{moment}-{secrets.token_hex(4)}.csv"
    return Step(kind=KIND, parameters={"by": by, "file": name})


def report_file(settings: Settings, parameters: Mapping[str, Any]) -> Path:
    """Where the report of a job lies. InputError for a name that `report_step` never gives."""
    name = str(parameters["file"])
    if not _FILE.fullmatch(name):
        raise InputError(f"a stock report must be named like {_FILE.pattern}, got {name[:80]!r}")
    return settings.data_dir / "reports" / name


def run_report(
    spark: SparkSession,
    settings: Settings,
    store: Store,
    parameters: Mapping[str, Any],
    progress: Progress,
) -> None:
    """Make the report of a job and write its CSV, whole or not at all; clusters as renamed."""
    from analytics import stock

    path = report_file(settings, parameters)
    found = stock.report(
        spark, settings, store, by=str(parameters.get("by") or ""), progress=progress
    )
    if found.map_id is not None:
        clusters = store.clusters(found.map_id)
        renamed = ledger.names(store, [each.cluster_key for each in clusters])
        labels = {
            str(each.cluster): renamed[each.cluster_key][0] or each.name
            for each in clusters
            if each.cluster_key in renamed
        }
        rows = tuple(replace(row, label=labels.get(row.group, row.label)) for row in found.rows)
        found = replace(found, rows=rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    with draft.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(found.lines())
    draft.replace(path)
    text = (
        f"{found.total.in_stock:,} of {found.total.listings:,} listings are in stock, "
        f"{found.total.pieces:,} pieces: reports/{path.name}"
    )
    progress(KIND, 1, 1, text)


def read_report(path: Path) -> list[dict[str, Any]]:
    """Rows of a report, the total last. UnavailableError where the engine wrote it elsewhere."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows: Sequence[dict[str, Any]] = list(csv.DictReader(file))
    except FileNotFoundError:
        raise UnavailableError(
            f"{path} must be there, it is not: the engine runs on another machine and has "
            f"reports/{path.name} in its own data_dir"
        ) from None
    numbers = ("listings", "known", "in_stock", "pieces")
    return [row | {name: int(row[name]) for name in numbers} for row in rows]
