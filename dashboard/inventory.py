"""`sightline stock`: read, set and report how many of each listing are for sale."""

from __future__ import annotations

from typing import Annotated

import typer

from dashboard.options import DataDir, Json, Set, emit, load, report

stock = typer.Typer(
    no_args_is_help=True, help="Read, set and report how many of a listing are for sale."
)

Listing = Annotated[str, typer.Argument(help="A listing id.", show_default=False)]


@stock.command("get")
def stock_get(
    *, listing: Listing, json_: Json = False, data_dir: DataDir = None, pairs: Set = None
) -> None:
    """Show the stock of a listing now, and its etag.

    Example: `sightline stock get asset-0042`
    """
    from dashboard import commands

    found = commands.stock_get(load(data_dir, pairs), listing)
    if json_:
        emit(found)
    else:
        typer.echo(f"{found['inventory']} in stock, etag {found['etag']}")


@stock.command("set")
def stock_set(
    *,
    listing: Listing,
    inventory: Annotated[int, typer.Argument(min=0, help="Pieces for sale.", show_default=False)],
    etag: Annotated[
        str | None,
        typer.Option(
            help='Only if nobody changed it since this etag was read ("": it has no stock yet).',
            show_default="whatever is there",
        ),
    ] = None,
    json_: Json = False,
    data_dir: DataDir = None,
    pairs: Set = None,
) -> None:
    """Set the stock of a listing by compare-and-set.

    Example: `sightline stock set asset-0042 3 --etag 5f0c`
    """
    from dashboard import commands

    found = commands.stock_set(load(data_dir, pairs), listing, inventory, etag=etag)
    if json_:
        emit(found)
    else:
        typer.echo(f"{found['inventory']} in stock, etag {found['etag']}")


@stock.command("report")
def stock_report(
    *,
    by: Annotated[
        str,
        typer.Option(
            help="An attribute of the listings, or `cluster` of the live map.",
            show_default="the total alone",
        ),
    ] = "",
    json_: Json = False,
    data_dir: DataDir = None,
    pairs: Set = None,
) -> None:
    """Count listings, known stock, listings in stock and pieces over the whole collection.

    The rows are also written to a CSV file under `reports` in the data folder.

    Example: `sightline stock report --by material --json`
    """
    from dashboard import commands

    found = commands.stock_report(load(data_dir, pairs), by)
    report(found, json_, commands.show_stock)
