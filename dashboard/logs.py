"""Logging of the processes: one line an event on standard error, which the supervisor keeps."""

from __future__ import annotations

import logging
from pathlib import Path

from cql.settings import Settings

NOISY = ("py4j", "cassandra", "fsspec", "urllib3", "asyncio", "PIL", "uvicorn.access")
"""Libraries whose information is detail to us."""


def configure(settings: Settings) -> None:
    """Send every logger to standard error at the level of the settings."""
    logging.basicConfig(
        level=settings.log_level,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    if settings.log_level != "DEBUG":
        for name in NOISY:
            logging.getLogger(name).setLevel(logging.WARNING)


def tail(path: Path, *, lines: int = 12) -> str:
    """The last lines of a log, for a message about a process that died."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 16_384))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
