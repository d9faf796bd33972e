"""Child processes that die with their parent: start, watch, restart with back-off, stop."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Pauses before the restarts of a child that keeps dying."""

STEADY_S = 60.0
"""A child that lived this long starts again with the shortest pause."""


class Child:
    """One process of Sightline, its output in a log file.

    Started in a session of its own, so that Ctrl-C reaches the supervisor alone, which then stops
    its children. `start` must run on the main thread: the kernel tells a child of its parent's
    death when the thread that made it ends.
    """

    def __init__(
        self,
        name: str,
        module: str,
        *,
        log: Path,
        env: Mapping[str, str],
        arguments: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.log = log
        self._argv = [sys.executable, "-m", module, *arguments]
        self._env = dict(env)
        self._fds = tuple(pass_fds)
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._deaths = 0
        self._due = 0.0

    @property
    def pid(self) -> int:
        """Process id, 0 before the start."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start the process."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                self._argv,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=self._fds,
                start_new_session=True,
            )
        self._started = time.monotonic()
        self._due = 0.0

    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def tend(self) -> str:
        """Start it again when it died and its pause is over; what is worth saying, or empty."""
        if self._process is None or self.alive():
            return ""
        now = time.monotonic()
        if self._due:
            if now < self._due:
                return ""
            self.start()
            return f"{self.name} runs again (pid {self.pid})"
        if now - self._started > STEADY_S:
            self._deaths = 0
        pause = BACKOFF_S[min(self._deaths, len(BACKOFF_S) - 1)]
        self._deaths += 1
        self._due = now + pause
        return (
            f"{self.name} ended with {status(self._process.returncode)}, "
            f"starting it again in {pause:g} s (log: {self.log})"
        )

    def stop(self, timeout_s: float = 15.0) -> None:
        """SIGTERM, and after `timeout_s` SIGKILL to its whole session."""
        process = self._process
        if process is None:
            return
        self._process = None
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout_s)
        # Whatever it started (Spark's JVM and its workers) shares its session and goes with it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(5)


def status(code: int) -> str:
    """`exit code 3`, or `signal SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"
