"""Compiling loops with numba, kept on disk until any source that they may be made of changes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])

_HERE = Path(__file__).parent


def compiled(function: Function, *, fast: bool | Collection[str] = False) -> Function:
    """Compile for this CPU, cached on disk, without the GIL; strict IEEE arithmetic unless `fast`.

    `fast`: sums may be reordered and more (True), or what LLVM calls by these names.

    numba compares a cached function with its own file alone, but has built into it what it calls
    from others: the folder of the cache is named by all sources that hold compiled functions or
    intrinsics.
    """
    config: Any = numba.config
    before = config.CACHE_DIR
    folder = _folder(before)
    if folder:
        config.CACHE_DIR = folder
    try:
        flags = fast if isinstance(fast, bool) else set(fast)
        make = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=flags)
        made = make(function)
    finally:
        config.CACHE_DIR = before
    return cast("Function", made)


@cache
def _folder(given: str) -> str:
    """Below `NUMBA_CACHE_DIR`, else beside the code; empty where neither can be written."""
    base = Path(given) if given else _HERE / "__pycache__"
    digest = hashlib.sha256()
    for path in sorted(_HERE.glob("*.py")):
        text = path.read_bytes()
        if b"analytics.compiler import" in text or b"numba" in text:
            digest.update(path.name.encode() + b"\0" + text)
    folder = base / f"compiled-{digest.hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return ""
    return str(folder) if os.access(folder, os.W_OK) else ""
