"""Compiling loops with numba, kept on disk until any source that they may be made of changes."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import numba
from numba.core.compiler_lock import global_compiler_lock
from numba.core.sigutils import normalize_signature
from numba.extending import is_jitted

Function = TypeVar("Function", bound=Callable[..., Any])

_HERE = Path(__file__).parent

PATIENCE_S = 30.0
"""Seconds after which a function is compiled beside another process that seems to compile it."""

_OURS: set[Path] = set()
"""Locks that this process holds or has waited for in vain; numba's own guards them."""


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
    if folder and is_jitted(made):  # it is the function itself where numba is switched off
        _once(made, Path(folder, f"{function.__module__}.{function.__qualname__}.lock"))
    return cast("Function", made)


def _once(function: Any, path: Path) -> None:
    """Let one process compile a function while others wait, who then read what it has kept.

    Hosts of one machine start together and need the same code. A process that dies lets go; one
    that is stopped is waited for `PATIENCE_S`, once a function; where no lock can be had (a folder
    that cannot be written or locked) none is held. Locks are taken from callers to what they call,
    after numba's own lock, so that none is waited for in a circle.
    """
    compile_, made = function.compile, function.overloads

    def compiling(signature: Any) -> Any:
        types = normalize_signature(signature)[0]  # type: ignore[no-untyped-call]
        with global_compiler_lock, ExitStack() as stack:
            if path not in _OURS and tuple(types) not in made:
                with suppress(OSError):
                    in_time = _lock(stack.enter_context(path.open("a")))
                    _OURS.add(path)
                    if in_time:
                        stack.callback(_OURS.remove, path)
            return compile_(signature)

    function.compile = compiling


def _lock(file: IO[str]) -> bool:
    """Whether it was taken in time."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        else:
            return True


@cache
def _folder(given: str) -> str:
    """Below `NUMBA_CACHE_DIR`, else beside the code; empty where neither can be written."""
    base = Path(given) if given else _HERE / "__pycache__"
    digest = hashlib.sha256()
    for path in sorted(_HERE.rglob("*.py")):
        text = path.read_bytes()
        if b"analytics.compiler import" in text or b"numba" in text:
            digest.update(path.relative_to(_HERE).as_posix().encode() + b"\0" + text)
    folder = base / f"compiled-{digest.hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return ""
    return str(folder) if os.access(folder, os.W_OK) else ""
