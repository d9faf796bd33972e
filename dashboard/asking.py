"""How a web worker asks an engine: whichever is alive answers."""

from __future__ import annotations

from cql.errors import UnavailableError
from cql.store import Store
from cql.wire import Message, Pool


def ask(
    store: Store, pool: Pool, method: str, message: Message, *, timeout_s: float, what: str
) -> Message:
    """Ask the engines one after the other; `what` says what one is needed for.

    UnavailableError when none is alive or answers in time; an engine's own error as it is.
    """
    trouble = f"no engine is alive: start one {what}"
    for engine in store.services("engine"):
        try:
            return pool.call(engine.address, method, message, timeout_s=timeout_s)
        except UnavailableError as error:
            trouble = str(error)
    raise UnavailableError(trouble)
