"""Results of steps in files: written whole or not at all, checked when they are opened."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from cql.errors import IntegrityError

Kept = TypeVar("Kept")

FORMAT = 1
_HEAD = "about.json"
_CHUNK = 1 << 22


def save(path: Path, item: Any, *, key: str) -> None:
    """Write a dataclass as a folder; it appears whole, also after a kill in the middle.

    Arrays become .npy files, lists of text .arrow files, all else JSON. `key` says what the result
    was made from: `load` refuses one of another key.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.{time.time_ns()}")
    draft.mkdir(parents=True)
    try:
        values: dict[str, Any] = {}
        files: dict[str, str] = {}
        for field in fields(item):
            value = getattr(item, field.name)
            if isinstance(value, np.ndarray):
                target = draft / f"{field.name}.npy"
                with target.open("wb") as file:
                    np.save(file, np.ascontiguousarray(value), allow_pickle=False)
            elif isinstance(value, list):
                target = draft / f"{field.name}.arrow"
                table = pa.table({field.name: pa.array(value, pa.string())})
                with target.open("wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                    writer.write_table(table)
            else:
                values[field.name] = value
                continue
            _settle(target)
            files[target.name] = _digest(target)
        about = {"format": FORMAT, "key": key, "values": values, "files": files}
        (draft / _HEAD).write_text(json.dumps(about, sort_keys=True), encoding="utf-8")
        _settle(draft / _HEAD)
        # What is there already is another engine's, of the same key, or damaged.
        shutil.rmtree(path, ignore_errors=True)
        draft.rename(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def load(path: Path, kind: type[Kept], *, key: str) -> Kept:
    """Open what `save` wrote: arrays are memory-mapped (changes to them stay in this process).

    Raises:
        FileNotFoundError: nothing is kept there.
        IntegrityError: it is of another key or format, or a file does not have its checksum.
    """
    text = (path / _HEAD).read_text(encoding="utf-8")
    try:
        about = json.loads(text)
        same = (about["format"], about["key"]) == (FORMAT, key)
        values, files = dict(about["values"]), dict(about["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path.name} must be a kept result, it is not: delete it") from error
    if not same:
        raise IntegrityError(f"{path.name} must be of key {key} and format {FORMAT}: delete it")
    for name, wanted in files.items():
        found = _digest(path / name) if (path / name).is_file() else "no file"
        if found != wanted:
            raise IntegrityError(
                f"{path.name}/{name} must have the sha256 {wanted[:12]}, it has {found[:12]}: "
                "delete it"
            )
        field, _, form = name.rpartition(".")
        values[field] = _array(path / name) if form == "npy" else _texts(path / name)
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if known != set(values):
        raise IntegrityError(f"{path.name} must hold the fields {sorted(known)}: delete it")
    return kind(**values)


def key_of(path: Path) -> str:
    """The key that a result was saved with. FileNotFoundError, IntegrityError as of `load`."""
    try:
        return str(json.loads((path / _HEAD).read_text(encoding="utf-8"))["key"])
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path.name} must be a kept result, it is not: delete it") from error


def _array(path: Path) -> np.ndarray[Any, Any]:
    # An empty file cannot be mapped. Copy on write: some libraries refuse arrays that they may
    # not write to, though they do not write.
    found = np.load(path, mmap_mode="c") if path.stat().st_size > 4096 else np.load(path)
    return np.asarray(found)


def _texts(path: Path) -> list[str]:
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    texts: list[str] = table.column(0).to_pylist()
    return texts


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            found.update(block)
    return found.hexdigest()


def _settle(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
