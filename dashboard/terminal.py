"""What a person reads while work runs: bars on a terminal, plain lines in a log or a pipe."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Column

from analytics.forecast import LEAST_RATE, left_of_step

PLAIN_EVERY_S = 5.0
"""Seconds between two plain lines of one step."""


class Screen:
    """Shows steps with rate and time left. Thread-safe; a context manager.

    On a terminal every running step has a bar; elsewhere each step writes a line when it starts,
    every five seconds, and when it ends.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.started = time.monotonic()
        self._lock = threading.RLock()
        self._live = self.console.is_terminal
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", table_column=Column(min_width=12)),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}", table_column=Column(ratio=1, no_wrap=True)),
            console=self.console,
            transient=True,
            expand=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._begun: dict[str, float] = {}
        self._spoke: dict[str, float] = {}
        self._said: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self._live:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the bars away; what was said stays."""
        if self._live:
            self._bars.stop()

    def begin(self, step: str, text: str = "") -> None:
        """A step starts."""
        with self._lock:
            if step in self._begun:
                return
            self._begun[step] = time.monotonic()
            self._spoke[step] = self._begun[step]
            if self._live:
                self._tasks[step] = self._bars.add_task(step, total=None, text=escape(text))
            else:
                self._line(f"{step}: {text or 'started'}")

    def update(
        self,
        step: str,
        done: int,
        total: int,
        *,
        rate: float = 0.0,
        left_s: float | None = None,
        message: str = "",
    ) -> None:
        """A step moved on: `done` of `total` items at `rate` items a second.

        `left_s`: seconds left where they are known better than from the rate.
        """
        with self._lock:
            self.begin(step)
            text = progress_text(done, total, rate, message, left_s=left_s)
            if self._live:
                self._bars.update(
                    self._tasks[step], completed=done, total=total or None, text=escape(text)
                )
            elif self._due(step, text):
                self._spoke[step], self._said[step] = time.monotonic(), text
                self._line(f"{step}: {text}")

    def done(self, step: str, text: str = "") -> None:
        """A step ended well."""
        self._end(step, "[green]✓[/]", text)

    def failed(self, step: str, text: str) -> None:
        """A step ended badly."""
        self._end(step, "[red]✗[/]", text)

    def note(self, text: str) -> None:
        """Something worth a line of its own."""
        self._line(text)

    def elapsed(self) -> float:
        """Seconds since the screen was made."""
        return time.monotonic() - self.started

    def _due(self, step: str, text: str) -> bool:
        fresh = bool(text) and text != self._said.get(step)
        return fresh and time.monotonic() - self._spoke[step] >= PLAIN_EVERY_S

    def _end(self, step: str, mark: str, text: str) -> None:
        with self._lock:
            now = time.monotonic()
            took = now - self._begun.pop(step, now)
            task = self._tasks.pop(step, None)
            if task is not None:
                self._bars.remove_task(task)
            self.console.print(
                f"{mark} {escape(step):<12} {escape(text)} [dim]({seconds(took)})[/]",
                soft_wrap=True,
            )

    def _line(self, text: str) -> None:
        self.console.print(escape(text), soft_wrap=True)


def progress_text(
    done: int, total: int, rate: float, message: str = "", *, left_s: float | None = None
) -> str:
    """`1,200 of 1,600 · 45/s · 9 s left · message`, leaving out what is not known yet."""
    parts = [f"{done:,} of {total:,}" if total else f"{done:,}" if done else ""]
    if rate >= LEAST_RATE:
        parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s")
    if left_s is None:
        left_s = left_of_step(done, total, rate)
    if left_s is not None:
        parts.append(f"{seconds(left_s)} left")
    parts.append(message)
    return " · ".join(part for part in parts if part)


def seconds(value: float) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`."""
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
