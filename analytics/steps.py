"""Steps of long work: each keeps its result, so that a later run continues where one ended."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from analytics import kept
from cql.errors import IntegrityError
from cql.progress import Progress

log = logging.getLogger(__name__)

Context = TypeVar("Context")

KEPT = "kept from an earlier run"
"""Message of the progress of a step whose result was there."""


def _nothing(_: Any) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Generic[Context]):
    """One step: `make(context, progress, *results of the steps it reads)` gives a `writes`.

    `writes` is a dataclass of arrays, lists of text and JSON values (`analytics.kept`).
    `depends` says what the result follows from beside what the step reads; `version` changes with
    the method. `stamp`: what only the file of this step depends on, not what is made from it.
    `folder`: where results are kept that outlive the map; None for those that leave with the work.
    """

    name: str
    make: Callable[..., Any]
    writes: type[Any]
    reads: tuple[str, ...] = ()
    depends: Callable[[Context], Mapping[str, Any]] = _nothing
    stamp: Callable[[Context], str] = lambda _: ""
    folder: Callable[[Context], Path] | None = None
    version: int = 1


def run(
    steps: Sequence[Step[Context]],
    context: Context,
    folder: Path,
    progress: Progress,
    *,
    rows: int = 1,
) -> dict[str, Any]:
    """Carry out the steps in order and return their results by name.

    A step whose result is kept for the same inputs is not carried out again. Each result is read
    back from its file, so a run that was interrupted goes on with the very same numbers.
    `rows`: what each step is about, as its progress tells it when it is done.
    """
    results: dict[str, Any] = {}
    keys: dict[str, str] = {}
    for step in steps:
        keys[step.name] = key = _key(step, context, keys)
        place = step.folder(context) if step.folder is not None else folder
        stamp = hashlib.sha256(step.stamp(context).encode()).hexdigest()[:8]
        path = place / f"{step.name}-{key}-{stamp}"
        progress(step.name, 0, rows)
        found = _kept(step, path, key)
        if found is None:
            made = step.make(context, _named(step.name, progress), *_read(step, results))
            kept.save(path, made, key=key)
            del made  # the file's pages can leave memory, its own could not
            found = kept.load(path, step.writes, key=key)
            progress(step.name, rows, rows)
        else:
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


def _named(name: str, progress: Progress) -> Progress:
    """Progress under the step's own name, whatever the functions that it calls say."""

    def note(step: str, done: int, total: int, message: str = "") -> None:
        del step
        progress(name, done, total, message)

    return note
