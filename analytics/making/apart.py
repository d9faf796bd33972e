"""A step in a process of its own: `python -m analytics.making.apart`.

It can be stopped in the middle of a call into a library, gives its memory back when it ends, and
takes nothing else with it when it dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from analytics.making import kept
from cql.errors import SightlineError
from cql.progress import Progress
from cql.settings import ROOT
from cql.wire import follow_parent

POLL_S = 0.2
"""Seconds between two looks whether the work was cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the process is to do: `make(context, progress, *read)`, kept at `path` under `key`.

    `reads`: path, type and key of each result that it is given.
    """

    name: str
    make: Callable[..., Any]
    context: Any
    reads: tuple[tuple[Path, type[Any], str], ...]
    path: Path
    key: str


def carry_out(order: Order, progress: Progress) -> None:
    """Run an order to its end; what it made is kept.

    Progress is called several times a second. Whatever it raises ends the process first.

    Raises:
        SightlineError: the step's own, or the process died: its signal or last words say why.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])}
    command = [sys.executable, "-m", "analytics.making.apart"]
    with (
        tempfile.TemporaryFile() as words,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
            env=environment,
        ) as process,
    ):
        try:
            with contextlib.suppress(BrokenPipeError):  # how it ended says more
                _pipe(process.stdin).write(pickle.dumps(order))
                _pipe(process.stdin).close()
            failure = _follow(process, order.name, progress)
        finally:
            process.kill()  # does nothing to one that has ended
        if failure is not None:
            raise failure
        if process.wait():
            words.seek(0)
            told = words.read().decode(errors="replace").strip().splitlines()
            raise SightlineError(
                f"step {order.name} must end by itself, its process ended by "
                f"{_ending(process.returncode)} ({told[-1] if told else 'without a word'}): "
                "run it again, with more memory where that was short"
            )


def _follow(
    process: subprocess.Popen[bytes], name: str, progress: Progress
) -> BaseException | None:
    """Pass progress on until the process has no more to tell; the error that it sent."""
    source = _pipe(process.stdout)
    done, total, message = 0, 0, ""
    buffer = b""
    while True:
        if select.select([source], [], [], POLL_S)[0]:
            block = os.read(source.fileno(), 1 << 16)
            if not block:
                process.wait()
                return None
            *lines, buffer = (buffer + block).split(b"\n")
            for line in lines:
                told = json.loads(line)
                if "error" in told:
                    error: BaseException = pickle.loads(bytes.fromhex(told["error"]))  # noqa: S301 - our own child
                    return error
                done, total, message = told["done"], told["total"], told["message"]
        progress(name, done, total, message)


def _pipe(end: IO[bytes] | None) -> IO[bytes]:
    if end is None:
        raise AssertionError("the process was started with pipes")
    return end


def _ending(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit status {code}"


def main() -> None:
    """Carry out the order on standard input; progress and errors go to standard output."""
    follow_parent()
    order: Order = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 - from the parent alone
    # What libraries print is no message of ours.
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(**values: Any) -> None:
        told.write(json.dumps(values) + "\n")
        told.flush()

    def note(step: str, done: int, total: int, message: str = "") -> None:
        del step
        tell(done=int(done), total=int(total), message=message)

    try:
        read = [kept.load(path, kind, key=key) for path, kind, key in order.reads]
        kept.save(order.path, order.make(order.context, note, *read), key=order.key)
    except SightlineError as error:
        tell(error=pickle.dumps(error).hex())


if __name__ == "__main__":
    main()
