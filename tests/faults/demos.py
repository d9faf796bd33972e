"""A real `sightline demo` as a child of a test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psutil

from cql.settings import ROOT

T = TypeVar("T")


class Demo:
    """Starts `sightline demo` on a photo folder; `stop` ends it as Ctrl-C or kill -9 would."""

    def __init__(self, photos: Path, data_dir: Path, *flags: str) -> None:
        self.data_dir = data_dir
        self.log = data_dir.with_name(f"{data_dir.name}-{time.monotonic_ns()}.log")
        self._argv = [
            sys.executable, "-m", "dashboard.cli", "demo", "--photos", str(photos),
            "--data-dir", str(data_dir), "--port", "0", "--no-browser",
            "--set", "cassandra_heap_mb=512", "--set", "spark_memory_mb=1024",
            "--set", f"jars_dir={jars_dir()}", *flags,
        ]  # fmt: skip
        self._processes: set[psutil.Process] = set()

    def __enter__(self) -> Self:
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                self._argv, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.stop(signal.SIGTERM)

    def second(self) -> subprocess.CompletedProcess[str]:
        """The same command once more, beside this one."""
        return subprocess.run(
            self._argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def url(self) -> str:
        """The address, once a page comes from it."""

        def answered() -> str:
            held = json.loads((self.data_dir / "supervisor.json").read_text() or "{}")
            with urllib.request.urlopen(held["url"], timeout=10) as response:
                assert response.status == 200
            return str(held["url"])

        return self.until(answered, 180)

    def jobs(self) -> list[dict[str, Any]]:
        """Newest first."""
        with urllib.request.urlopen(f"{self.url()}/api/v1/jobs", timeout=30) as response:
            found: list[dict[str, Any]] = json.load(response)
        return found

    def cassandra_pid(self) -> int:
        endpoint = self.data_dir / "cassandra" / "endpoint.json"
        return int(json.loads(endpoint.read_text())["pid"])

    def until(self, look: Callable[[], T], timeout_s: float) -> T:
        """What `look` returns once it is true and raises nothing."""
        deadline = time.monotonic() + timeout_s
        problem: object = None
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the demo ended:\n{self.said()}")
            try:
                found = look()
            except (AssertionError, OSError, ValueError, KeyError) as error:
                problem = error
            else:
                if found:
                    return found
                problem = found
            time.sleep(0.1)
        raise AssertionError(f"not within {timeout_s} s ({problem!r}):\n{self.said()}")

    def remember(self) -> int:
        """Note every process that belongs to the demo now; returns how many."""
        own = psutil.Process(self.process.pid)
        self._processes |= set(own.children(recursive=True))
        return len(self._processes)

    def stop(self, number: signal.Signals) -> int:
        """Send a signal, wait for the end, and for the end of all that was noted."""
        if self.process.poll() is None:
            self.remember()
        self.process.send_signal(number)
        code = self.process.wait(60)
        _, left = psutil.wait_procs(list(self._processes), timeout=45)
        left = [p for p in left if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        for process in left:
            process.kill()
        assert not left, f"left after {number.name}: {left}"
        return code


def jars_dir() -> str:
    """The jars of the checkout, as the test session uses them."""
    return os.environ.get("SIGHTLINE_JARS_DIR", str(ROOT / ".sightline" / "jars"))
