"""How often Python looks for objects that only name each other: where many are made, seldom."""

from __future__ import annotations

import gc

_THRESHOLDS = (10_000, 20, 50)
"""Objects made beyond those let go of before a young collection is made, young ones before a middle
one, middle ones before a full one.

A search makes some thousands of objects, hardly one of them in a cycle. By Python's own numbers
(700, 10, 10) a fifth of a web worker's time went into looking for some.
"""


def seldom() -> None:
    """Collect less often from now on, and never look at what is there: for a started process.

    What is there are modules, classes and statements, which stay until it ends anyway. Little else,
    as a connection that is replaced later, is never freed.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
