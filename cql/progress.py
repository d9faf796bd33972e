"""How long work tells what it has done: one call a step, and the way to stop it."""

from __future__ import annotations

from typing import Protocol

from cql.errors import SightlineError


class CancelledError(SightlineError):
    """Whoever watches the work asked it to stop; what is stored so far stays."""


class Progress(Protocol):
    """Called often and cheaply: `done` of `total` units of `step` (`total` 0: not known yet).

    It may raise `CancelledError`, which the work lets through.
    """

    def __call__(self, step: str, done: int, total: int, message: str = "") -> None:
        """Take note."""


def silent(step: str, done: int, total: int, message: str = "") -> None:
    """Ignore progress."""
    del step, done, total, message
