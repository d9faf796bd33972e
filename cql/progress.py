"""How long work tells what it has done: one call a step, and the way to stop it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from cql.errors import SightlineError

Item = TypeVar("Item")

TOLD = 2_000
"""Items between two calls of progress."""


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


def telling(
    items: Iterable[Item], progress: Progress, step: str, total: int, message: str = ""
) -> Iterator[Item]:
    """The items, while `progress` hears of every 2,000th how many came before it."""
    for number, item in enumerate(items):
        if number % TOLD == 0:
            progress(step, number, total, message)
        yield item
