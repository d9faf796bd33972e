"""What commands share: their common flags, settings from flags, results as JSON or as tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cql.errors import InputError
from cql.settings import Settings

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of the collection.", show_default=False),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Any setting (`sightline settings` lists them)."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write the result to standard output as JSON.")]


def load(data_dir: Path | None = None, pairs: list[str] | None = None, **flags: object) -> Settings:
    """Settings from flags over environment over file; a flag that is None is not set."""
    overrides: dict[str, object] = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"--set must be NAME=VALUE, got {pair!r}")
        overrides[name.strip()] = value
    if data_dir is not None:
        overrides["data_dir"] = data_dir
    overrides |= {name: value for name, value in flags.items() if value is not None}
    return Settings.load(overrides)


def report(found: Any, json_: bool, show: Callable[[Any], None]) -> None:
    """Write a result as JSON, or show it to a person."""
    if json_:
        emit(found)
    else:
        show(found)


def emit(value: Any) -> None:
    """Write a value to standard output as JSON."""
    typer.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))
