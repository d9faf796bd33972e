"""How callbacks call the services: off the event loop, errors as values."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

AUTHOR: Final = "analyst"
"""Who decides while there are no accounts."""


async def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Exception:
    """Run a blocking service call in a thread; return its value, or the error that it raised."""
    try:
        return await asyncio.to_thread(function, *args, **kwargs)
    except Exception as problem:  # noqa: BLE001  a page shows every error, `states.error` logs it
        return problem
