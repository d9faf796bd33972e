"""Rows of a file of vectors, read where they lie: nothing of the file is mapped into memory."""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from analytics.compiler import compiled
from cql.errors import IntegrityError

# The C library's own call (POSIX.1-2001): no page is faulted in, and no interpreter is waited for.
_pread: Any = types.ExternalFunction(
    "pread",
    types.intp(types.intc, types.intp, types.uintp, types.int64),
)


@compiled
def _read(descriptor: int, start: int, rows: NDArray[np.int64], out: NDArray[np.float32]) -> int:
    """Read runs of neighbouring rows with one call each; the first row that is not whole, or -1."""
    width = 4 * out.shape[1]
    target = out.ctypes.data
    at = 0
    while at < rows.size:
        end = at + 1
        while end < rows.size and rows[end] == rows[end - 1] + 1:
            end += 1
        place, left = start + rows[at] * width, (end - at) * width
        goal = target + at * width
        while left > 0:
            done = _pread(descriptor, goal, left, place)
            if done <= 0:
                return int(rows[at])
            place, goal, left = place + done, goal + done, left - done
        at = end
    return -1


class RowFile:
    """A file of float32 rows of `dim` numbers that begin at byte `start`. Thread-safe."""

    def __init__(self, path: Path, *, start: int, dim: int) -> None:
        self._path, self._start, self._dim = path, start, dim
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)

    def rows(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read rows int64 (R,): float32 (R, D). IntegrityError where the file ends before."""
        out = np.empty((len(rows), self._dim), np.float32)
        lost = _read(self._descriptor, self._start, rows, out)
        if lost >= 0:
            raise IntegrityError(
                f"{self._path.name} must hold row {lost}, it ends before: rebuild the snapshot"
            )
        return out
