"""Arrow tables in files that appear whole."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pyarrow as pa


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
