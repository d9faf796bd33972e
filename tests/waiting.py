"""Waiting for something to come true."""

import time
from collections.abc import Callable


def until(true: Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)
