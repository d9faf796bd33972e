"""The flags of `sightline search`; what it does is in `dashboard.finder`, imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dashboard.options import DataDir, Json, Set, load, report


def search(
    *,
    examples: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGE]...", help="Image ids or picture files.", show_default=False
        ),
    ] = None,
    image: Annotated[
        list[str] | None, typer.Option(help="An image id; may be repeated.", show_default=False)
    ] = None,
    listing: Annotated[
        list[str] | None,
        typer.Option(help="A listing id, for all its photos; may be repeated.", show_default=False),
    ] = None,
    file: Annotated[
        list[Path] | None, typer.Option(help="A picture file; may be repeated.", show_default=False)
    ] = None,
    negatives: Annotated[
        list[str] | None,
        typer.Option(
            "--not",
            metavar="IMAGE",
            help="An image id that hits must not be like; may be repeated.",
            show_default=False,
        ),
    ] = None,
    aggregate: Annotated[
        str,
        typer.Option(
            help="Listings score their best photo (`max`), the mean of their `--best` best photos "
            "(`mean`), or the example that they match worst (`coverage`)."
        ),
    ] = "max",
    best: Annotated[int, typer.Option(help="Photos of a listing that `mean` takes.")] = 3,
    in_stock: Annotated[
        bool, typer.Option("--in-stock", help="Only listings that are in stock now.")
    ] = False,
    within: Annotated[
        str | None,
        typer.Option(
            metavar="QUERY", help="A query id: only what it found can be found.", show_default=False
        ),
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="ATTRIBUTE=VALUE",
            help="`material=PVC`, `depth_m=0.5..1.2`, `built=2024-01-01..`; may be repeated.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Whose vectors are searched: a model's id, or its name as of `extract --model`.",
            show_default="the default model",
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Listings to return, at most 10,000.")] = 10,
    name: Annotated[str, typer.Option(help="Name in the history.", show_default=False)] = "",
    json_: Json = False,
    data_dir: DataDir = None,
    pairs: Set = None,
) -> None:
    """Find the listings most like images, picture files or listings, and unlike others.

    Example: `sightline search crack.jpg --not 5f0c41b2-... --in-stock --filter material=PVC -k 20`
    """
    from dashboard import finder

    flags = finder.Flags(
        examples=examples or (),
        images=image or (),
        files=file or (),
        listings=listing or (),
        negatives=negatives or (),
        aggregate=aggregate,
        best=best,
        in_stock=in_stock,
        within=within,
        filters=filters or (),
        model=model,
        k=k,
        name=name,
    )
    report(finder.search(load(data_dir, pairs), flags), json_, finder.show)
