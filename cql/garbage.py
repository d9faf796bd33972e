"""How often Python looks for objects that only name each other: where many are made, seldom."""

from __future__ import annotations

import gc

_THRESHOLDS = (10_000, 20, 50)
"""Objects more than were let go of, and younger and middle collections, before one is made.

A search makes some thousands of objects, hardly one of them in a cycle. By Python's own numbers
(700, 10, 10) a fifth of a web worker's time went into looking for some.
"""


def seldom() -> None:
    """Collect less often from now on, and never what is there: for a process that has started.

    Modules, classes and statements stay until the process ends, so that nothing is lost by it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
