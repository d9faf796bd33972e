"""Results of steps in files: written whole or not at all, checked when they are opened."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import numpy as np
import pyarrow as pa

from analytics.checksum import checksum
from cql.errors import InputError, IntegrityError

Kept = TypeVar("Kept")

FORMAT = 3
_HEAD = "about.json"
_LEAST_MAPPED = 4096
"""Bytes of a file from which an array is memory-mapped."""


def save(path: Path, item: Any, *, key: str) -> None:
    """Write a dataclass as a folder; it appears whole, also after a kill in the middle.

    Its fields may be arrays (.npy files), lists of text (.arrow), numbers, text, None, UUIDs, and
    dataclasses, lists, tuples and mappings (with text as keys) of all these. `key` says what the
    result was made from: `load` refuses one of another key.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.{time.time_ns()}")
    draft.mkdir(parents=True)
    try:
        value = _write(draft, "", item)
        files = {}
        for each in sorted(draft.iterdir()):
            _settle(each)
            files[each.name] = checksum(each)
        about = {"format": FORMAT, "key": key, "value": value, "files": files}
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
        IntegrityError: it is of another key, format or type, or a file is damaged.
    """
    text = (path / _HEAD).read_text(encoding="utf-8")
    try:
        about = json.loads(text)
        same = (about["format"], about["key"]) == (FORMAT, key)
        value, files = about["value"], dict(about["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path.name} must be a kept result, it is not: delete it") from error
    if not same:
        raise IntegrityError(f"{path.name} must be of key {key} and format {FORMAT}: delete it")
    for name, wanted in files.items():
        found = checksum(path / name) if (path / name).is_file() else "no file"
        if found != wanted:
            raise IntegrityError(
                f"{path.name}/{name} must have the sum {wanted[:12]}, it has {found[:12]}: "
                "delete it"
            )
    try:
        item = _read(path, value)
    except (AttributeError, ImportError, KeyError, TypeError, ValueError) as error:
        raise IntegrityError(
            f"{path.name} must be of this version's types, it is not ({error}): delete it"
        ) from error
    if type(item) is not kind:
        raise IntegrityError(f"{path.name} must hold a {kind.__name__}: delete it")
    return item


def _write(folder: Path, name: str, value: Any) -> Any:
    """The JSON form of a value; its arrays and texts become files called by their place in it."""

    def inside(part: object) -> str:
        return f"{name}.{part}" if name else str(part)

    form: Any
    if value is None or isinstance(value, bool | int | float | str):
        form = value
    elif isinstance(value, np.generic):
        form = value.item()
    elif isinstance(value, UUID):
        form = {"uuid": str(value)}
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        form = {"array": f"{name}.npy", "shape": list(value.shape)}
        with (folder / f"{name}.npy").open("wb") as file:
            np.save(file, np.ascontiguousarray(value), allow_pickle=False)
    elif isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        form = {"texts": f"{name}.arrow"}
        table = pa.table({"texts": pa.array(value, pa.string())})
        target = folder / f"{name}.arrow"
        with target.open("wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    elif is_dataclass(value):
        held = {own.name: getattr(value, own.name) for own in fields(value)}
        form = {
            "record": f"{type(value).__module__}:{type(value).__qualname__}",
            "fields": {own: _write(folder, inside(own), each) for own, each in held.items()},
        }
    elif isinstance(value, Mapping):
        form = {"map": {str(own): _write(folder, inside(own), held) for own, held in value.items()}}
    elif isinstance(value, list | tuple):
        items = [_write(folder, inside(number), held) for number, held in enumerate(value)]
        form = {"list" if isinstance(value, list) else "tuple": items}
    else:
        raise InputError(f"{name or 'a result'} cannot be kept: it is a {type(value).__name__}")
    return form


def _read(folder: Path, form: Any) -> Any:
    """The value of a JSON form: an object there has one key that says what it is."""
    if not isinstance(form, dict):
        return form
    value: Any
    if "array" in form:
        # An array without dimensions would come back with one.
        value = _array(folder / form["array"]).reshape(form["shape"])
    elif "texts" in form:
        value = _texts(folder / form["texts"])
    elif "uuid" in form:
        value = UUID(form["uuid"])
    elif "map" in form:
        value = {own: _read(folder, held) for own, held in form["map"].items()}
    elif "list" in form:
        value = [_read(folder, held) for held in form["list"]]
    elif "tuple" in form:
        value = tuple(_read(folder, held) for held in form["tuple"])
    else:
        module, _, name = form["record"].partition(":")
        kind = getattr(importlib.import_module(module), name)
        if not is_dataclass(kind) or not isinstance(kind, type):
            raise TypeError(f"{form['record']} must be a dataclass")
        value = kind(**{own: _read(folder, held) for own, held in form["fields"].items()})
    return value


def head_of(path: Path) -> tuple[str, dict[str, Any]]:
    """The key that a result was saved with, and its fields that are numbers or text, unchecked.

    Nothing but its head is read. FileNotFoundError, IntegrityError as of `load`.
    """
    try:
        head = json.loads((path / _HEAD).read_text(encoding="utf-8"))
        held = dict(head["value"]["fields"])
        return str(head["key"]), {n: each for n, each in held.items() if not isinstance(each, dict)}
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path.name} must be a kept result, it is not: delete it") from error


def _array(path: Path) -> np.ndarray[Any, Any]:
    # An empty file cannot be mapped. Copy on write: some libraries refuse arrays that they may
    # not write to, though they do not write.
    large = path.stat().st_size > _LEAST_MAPPED
    return np.asarray(np.load(path, mmap_mode="c") if large else np.load(path))


def _texts(path: Path) -> list[str]:
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    texts: list[str] = table.column(0).to_pylist()
    return texts


def _settle(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
