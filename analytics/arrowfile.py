"""Arrow tables in files that appear whole."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pyarrow as pa

ABANDONED_S = 3600.0
"""A draft that nobody wrote to for this long was left by a process that died: a writer of a live
one writes all the time."""


def write(table: pa.Table, path: Path) -> None:
    """Write a table as an Arrow file: beside its place first, then moved there when it is on disk.

    Whoever reads meanwhile has the old file or none; of several writers the last one's stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{time.time_ns()}")
    try:
        with draft.open("wb") as file:
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Delete drafts of `write` in a folder that processes left there when they died.

    Processes of other machines may write there, too: what tells is age.
    """
    for draft in folder.glob(".*.*.*"):
        try:
            if time.time() - draft.stat().st_mtime > ABANDONED_S:
                draft.unlink()
        except OSError:
            continue  # moved to its place, or deleted by another
