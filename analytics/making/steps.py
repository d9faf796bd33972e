"""Steps of long work: each keeps its result, so that a later run continues where one ended."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from analytics.making import apart, kept
from analytics.making.apart import Order
from cql.errors import IntegrityError
from cql.progress import Progress

log = logging.getLogger(__name__)

Context = TypeVar("Context")

APART_ROWS = 5_000
"""Rows from which a long step gets a process of its own; below, starting one costs more."""

KEPT = "kept from an earlier run"
"""Message of the progress of a step whose result was there."""


def _nothing(_: Any) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Generic[Context]):
    """One step: `make(context, progress, *results of the steps it reads)` gives a `writes`.

    `writes` is a dataclass that `analytics.making.kept` can keep.
    `depends` says what the result follows from beside what the step reads; `version` changes with
    the method. `stamp`: what only the file of this step depends on, not what is made from it.
    `folder`: where results are kept that outlive the map; None for those that leave with the work.
    `apart`: its `make` needs nothing but `bare(context)` and what it reads, and may take long in
    one call: from `APART_ROWS` rows on it runs in a process of its own (`analytics.making.apart`).
    """

    name: str
    make: Callable[..., Any]
    writes: type[Any]
    reads: tuple[str, ...] = ()
    depends: Callable[[Context], Mapping[str, Any]] = _nothing
    stamp: Callable[[Context], str] = lambda _: ""
    folder: Callable[[Context], Path] | None = None
    version: int = 1
    apart: bool = False


def run(
    steps: Sequence[Step[Context]],
    context: Context,
    folder: Path,
    progress: Progress,
    *,
    rows: int = 1,
    bare: Callable[[Context], Context] = lambda context: context,
) -> dict[str, Any]:
    """Carry out the steps in order and return their results by name.

    A step whose result is kept for the same inputs is not carried out again. Each result is read
    back from its file, so a run that was interrupted goes on with the very same numbers.
    `rows`: what each step is about, as its progress tells it when it is done. `bare`: the context
    without what cannot go to another process.
    """
    results: dict[str, Any] = {}
    places: dict[str, tuple[Path, type[Any], str]] = {}
    keys: dict[str, str] = {}
    for step in steps:
        keys[step.name] = key = _key(step, context, keys)
        place = step.folder(context) if step.folder is not None else folder
        stamp = hashlib.sha256(step.stamp(context).encode()).hexdigest()[:8]
        path = place / f"{step.name}-{key}-{stamp}"
        progress(step.name, 0, rows)
        found = _kept(step, path, key)
        places[step.name] = (path, step.writes, key)
        if found is None:
            note = named(step.name, progress)
            if step.apart and rows >= APART_ROWS:
                reads = tuple(places[name] for name in step.reads)
                apart.carry_out(
                    Order(
                        name=step.name,
                        make=step.make,
                        context=bare(context),
                        reads=reads,
                        path=path,
                        key=key,
                    ),
                    note,
                )
            else:
                # Not held here: the file's pages can leave memory, the result's own could not.
                kept.save(path, step.make(context, note, *_read(step, results)), key=key)
            found = kept.load(path, step.writes, key=key)
            progress(step.name, rows, rows)
        else:
            # What is kept the longest is what was used last.
            with contextlib.suppress(OSError):
                os.utime(path)
            progress(step.name, rows, rows, KEPT)
        results[step.name] = found
    return results


def drop(folder: Path) -> None:
    """Delete what steps kept."""
    shutil.rmtree(folder, ignore_errors=True)


def _read(step: Step[Any], results: Mapping[str, Any]) -> list[Any]:
    return [results[name] for name in step.reads]


def _kept(step: Step[Any], path: Path, key: str) -> Any:
    try:
        return kept.load(path, step.writes, key=key)
    except FileNotFoundError:
        return None
    except IntegrityError as error:
        log.warning("step %s is carried out again: %s", step.name, error)
        return None


def _key(step: Step[Context], context: Context, keys: Mapping[str, str]) -> str:
    """Identity of a result: its step, method, parameters and the identities of what it reads."""
    own = [step.name, step.version, dict(step.depends(context)), [keys[n] for n in step.reads]]
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:24]


def named(name: str, progress: Progress) -> Progress:
    """Progress under the step's own name, whatever the functions that it calls say."""

    def note(step: str, done: int, total: int, message: str = "") -> None:
        del step
        progress(name, done, total, message)

    return note
