"""How a decision about one row of a page is given: what was pressed, what is shown afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import dash
from dash import ctx, no_update

from cql.errors import ConflictError
from dashboard import undo
from dashboard.callbacks.calls import call
from dashboard.components import states
from dashboard.components.toast import toast


class Versioned(Protocol):
    """What is decided, with the version of its subject."""

    @property
    def version(self) -> int: ...  # noqa: D102


T = TypeVar("T", bound=Versioned)


def pressed() -> dict[str, Any] | None:
    """The id of the button that was pressed; None where a button only came to the page."""
    trigger = ctx.triggered_id
    found: dict[str, Any] | None = trigger if isinstance(trigger, dict) else None
    return found if found and ctx.triggered[0]["value"] else None


def known_of(
    key: str, field: str, rows: Sequence[dict[str, str]], stores: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """What the page's row whose id has `key` in `field` knew when it was shown."""
    return stores[[row[field] for row in rows].index(key)]


async def settle(
    done: T | Exception,
    *,
    subject: str,
    stack: undo.Stack | None,
    said: Callable[[T], str],
    show: Callable[[T], None],
    reread: Callable[[], T],
    word: Callable[[T], str],
    mine: str,
) -> tuple[Any, Any]:
    """The toast of a decision, and the undo stack with it.

    After a conflict what won is read again, shown and told: `word` of it, and `mine`.
    """
    if isinstance(done, ConflictError):
        theirs = await call(reread)
        if isinstance(theirs, Exception):
            return toast(states.message(theirs), tone="danger"), no_update
        show(theirs)
        text = (
            f"Another analyst was first: {word(theirs)} (version {theirs.version}). "
            f"Yours was {mine}; choose again to change it."
        )
        return toast(text, tone="danger"), no_update
    if isinstance(done, Exception):
        return toast(states.message(done), tone="danger"), no_update
    show(done)
    label = said(done)
    return toast(label, undo=True), undo.push(stack, subject, done.version, label)


def count(store: str, counts: dict[str, int] | None, known: dict[str, Any], done: object) -> None:
    """One more is judged, where a first verdict was given."""
    if counts and not known["verdict"] and not isinstance(done, Exception):
        dash.set_props(store, {"data": {**counts, "judged": counts["judged"] + 1}})
