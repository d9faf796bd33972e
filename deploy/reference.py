"""Write docs/reference.md: settings, commands, routes and keys, from the code itself.

`python -m deploy.reference` writes the page; a test compares it with `page()`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import typer
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from cql import settings
from dashboard import api
from dashboard.cli import app
from dashboard.components.shell import KEYS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference.md"


def page() -> str:
    """The whole page as Markdown."""
    parts = [
        "# Reference",
        "Made by `python -m deploy.reference` from the code; a test fails when it is stale.",
        "## Settings",
        (
            "From flags (`--set name=value`), the environment, `sightline.toml` (or the file that "
            "`SIGHTLINE_CONFIG` names), in that order. An unknown name is refused."
        ),
        "\n".join(_settings()),
        "## Commands",
        "`sightline COMMAND --help` shows every flag with an example.",
        "\n".join(_commands()),
        "## Routes",
        "Below `/api/v1`; a running Sightline describes them in full at `/api/v1/docs`.",
        "\n".join(_routes()),
        "## Keys",
        "\n".join(_keys()),
    ]
    return "\n\n".join(parts) + "\n"


def _settings() -> Iterator[str]:
    yield "| setting | variable | default | meaning |"
    yield "|---|---|---|---|"
    for row in settings.table():
        default = f"`{row['default']}`" if row["default"] else ""
        yield f"| `{row['name']}` | `{row['variable']}` | {default} | {_cell(row['help'])} |"


def _commands() -> Iterator[str]:
    yield "| command | does |"
    yield "|---|---|"
    root: Any = typer.main.get_command(app)
    context = click.Context(root, info_name="sightline")
    for path, command in _walk(root, context, "sightline"):
        yield f"| `{path}` | {_cell((command.help or '').strip().splitlines()[0])} |"


def _walk(group: Any, context: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if hasattr(command, "list_commands"):
            yield from _walk(command, context, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _routes() -> Iterator[str]:
    server = FastAPI()
    services: Any = None
    api.mount(server, services)
    yield "| method | path | does |"
    yield "|---|---|---|"
    document = get_openapi(title="", version="0", routes=server.routes)
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            text = route.get("description") or route["summary"]
            yield f"| {method.upper()} | `{path}` | {_cell(text.splitlines()[0])} |"


def _keys() -> Iterator[str]:
    yield "| where | keys | does |"
    yield "|---|---|---|"
    for title, rows in KEYS:
        for keys, meaning in rows:
            yield f"| {title} | {' '.join(f'`{key}`' for key in keys)} | {_cell(meaning)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
