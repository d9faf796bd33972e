"""A virtual network link of a given speed, and what lies at its far end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cql.settings import ROOT, Settings
from cql.wire import Message, Pool

BLOCK = 8192
TIMEOUT_S = 600.0


class NoLinkError(Exception):
    """This machine cannot make one; the message says why."""


@dataclass(frozen=True, slots=True)
class Link:
    """A namespace behind a link; `address` is this side's, as the far side sees it."""

    namespace: str
    address: str


@contextmanager
def link(megabits: int) -> Iterator[Link]:
    """Make a veth pair into a network namespace, shaped by tbf on the way out.

    Delay is not shaped (that needs the module netem). NoLinkError without root, ip or tc.
    """
    tools = [name for name in ("ip", "tc") if shutil.which(name) is None]
    if tools or os.geteuid() != 0:
        lack = f"no {' and no '.join(tools)}" if tools else "not root"
        raise NoLinkError(f"a virtual link needs root, ip and tc: {lack} here")
    name = f"slb{os.getpid()}"
    near, far, net = f"{name}a", f"{name}b", f"10.213.{os.getpid() % 250}"
    try:
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        _run("ip", "addr", "add", f"{net}.1/30", "dev", near)
        _run("ip", "link", "set", near, "up")
        _run("ip", "-n", name, "addr", "add", f"{net}.2/30", "dev", far)
        _run("ip", "-n", name, "link", "set", far, "up")
        shape = ("rate", f"{megabits}mbit", "burst", "512kb", "latency", "100ms")
        _run("tc", "qdisc", "add", "dev", near, "root", "tbf", *shape)
        yield Link(name, f"{net}.1")
    finally:
        for command in (("ip", "link", "del", near), ("ip", "netns", "del", name)):
            subprocess.run(command, check=False, capture_output=True)


def far_seconds(
    settings: Settings, address: str, *, rows: int, repeats: int, namespace: str | None
) -> list[float]:
    """Seconds of queries by a process that fetches all vectors for each, from behind a link."""
    command = [sys.executable, "-m", "tests.bench.link", address, str(rows), str(repeats)]
    if namespace is not None:
        command = ["ip", "netns", "exec", namespace, *command]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **settings.environment()},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise NoLinkError(f"the far side ended with {done.returncode}: {done.stderr[-400:]}")
    seconds: list[float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def serve(vectors: NDArray[np.float32]) -> dict[str, object]:
    """Handlers of a wire server that hands out rows: values start; at most BLOCK rows."""

    def rows(message: Message) -> Message:
        start = int(message.values["start"])
        return Message({}, {"vectors": vectors[start : start + BLOCK]})

    return {"rows": rows}


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise NoLinkError(f"`{' '.join(command)}` said: {done.stderr.strip()}")


def _main() -> None:
    """Be the far side: fetch every block of rows, score it, keep the best."""
    address, rows, repeats = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    pool = Pool(Settings.load())
    seconds: list[float] = []
    for turn in range(repeats + 1):
        began = time.perf_counter()
        query: NDArray[np.float32] | None = None
        best = np.empty(0, np.float32)
        for start in range(0, rows, BLOCK):
            reply = pool.call(address, "rows", Message({"start": start}), timeout_s=TIMEOUT_S)
            vectors = reply.arrays["vectors"]
            if query is None:
                query = vectors[turn % len(vectors)]
            best = np.sort(np.concatenate([best, vectors @ query]))[-100:]
        if turn:
            seconds.append(time.perf_counter() - began)
    pool.close()
    sys.stdout.write(json.dumps(seconds) + "\n")


if __name__ == "__main__":
    _main()
