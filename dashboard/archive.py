"""`sightline export` and `sightline decisions`: decisions as files, and files as decisions."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from dashboard.options import DataDir, Json, Set, load, report

decisions = typer.Typer(no_args_is_help=True, help="Decisions of analysts.")


def export(
    *,
    file: Annotated[Path, typer.Argument(help="File to write.", show_default=False)],
    fmt: Annotated[
        str,
        typer.Option(
            "--format", help="`csv`, `parquet` or `coco` (JSON).", show_default="by the name"
        ),
    ] = "",
    history: Annotated[
        bool, typer.Option("--history", help="The whole ledger, with all versions.")
    ] = False,
    json_: Json = False,
    data_dir: DataDir = None,
    pairs: Set = None,
) -> None:
    """Write label, cluster and verdict of every image to a file, or the ledger of decisions.

    Example: `sightline export decisions.parquet`
    """
    from dashboard import commands

    chosen = fmt or {".parquet": "parquet", ".json": "coco"}.get(file.suffix, "csv")
    found = commands.export(load(data_dir, pairs), file, chosen, history=history)
    report(found, json_, partial(commands.show_table, "exported"))


@decisions.command("replay")
def replay(
    *,
    file: Annotated[
        Path, typer.Argument(help="A ledger from `export --history`.", show_default=False)
    ],
    author: Annotated[str, typer.Option(help="Who replays it.")] = "analyst",
    json_: Json = False,
    data_dir: DataDir = None,
    pairs: Set = None,
) -> None:
    """Make the decisions of an exported ledger in this collection; a second run adds nothing.

    Example: `sightline decisions replay ledger.csv`
    """
    from dashboard import commands

    found = commands.replay(load(data_dir, pairs), file, author=author)
    report(found, json_, partial(commands.show_table, "replayed"))
