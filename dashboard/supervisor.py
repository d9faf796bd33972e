"""The supervisor: embedded Cassandra, the engine and the web workers of one collection, together.

It starts them in parallel, brings the collection up step by step, starts a crashed child again with
a growing pause, and stops all of them, whatever ends it: the children also watch it themselves.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cql import embedded, jars
from cql.errors import ConflictError, SightlineError
from cql.settings import Settings
from dashboard import web
from dashboard.children import BACKOFF_S, STEADY_S, Child
from dashboard.logs import tail
from dashboard.pipeline import Step, bring_up
from dashboard.terminal import Screen, seconds

LOOK_S = 0.5
"""Seconds between two looks at the children."""

FIRST_PAGE_S = 180.0
"""Seconds in which the first page must be answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run: the steps that bring the collection up, then a task; engine and web workers.

    Without web workers the run ends when the task has ended.
    """

    steps: Sequence[Step] = ()
    task: Callable[[Screen, threading.Event], None] | None = None
    engine: bool = True
    web: bool = True


class Lock:
    """Holds a data folder for one supervisor; its file tells others where that one answers."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / "supervisor.json"
        data_dir.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held = running(data_dir)
            self._file.close()
            where = held.get("url") or f"process {held.get('pid', 'unknown')}"
            raise ConflictError(
                f"one Sightline may hold {data_dir}, another does: open {where}, or stop it first"
            ) from None
        self.write(pid=os.getpid())

    def write(self, **values: Any) -> None:
        """Tell others who holds the folder."""
        self._file.seek(0)
        self._file.truncate()
        json.dump(values, self._file)
        self._file.flush()

    def release(self) -> None:
        """Let the folder go."""
        self._file.seek(0)
        self._file.truncate()
        self._file.close()


def running(data_dir: Path) -> dict[str, Any]:
    """What the supervisor that holds a data folder wrote (`pid`, `url`); empty when none does."""
    path = data_dir / "supervisor.json"
    try:
        with path.open("r", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found = json.loads(file.read() or "{}")
                return found if isinstance(found, dict) else {}
            return {}
    except (OSError, ValueError):
        return {}


class Supervisor:
    """Runs a plan until it is stopped. `run` must be called on the main thread."""

    def __init__(self, settings: Settings, plan: Plan, screen: Screen) -> None:
        self.settings = settings
        self.plan = plan
        self.screen = screen
        self.url = ""
        self.on_page: Callable[[str], None] | None = None
        self._stop = threading.Event()
        self._children: list[Child] = []
        self._cassandra: embedded.Cassandra | None = None
        self._cassandra_deaths = 0
        self._cassandra_born = 0.0
        self._failure: BaseException | None = None

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stop.set()

    def run(self) -> None:
        """Start everything, bring the collection up, keep it up until `stop`.

        ConflictError when another supervisor holds the data folder. An error of a step ends the run
        only when nothing can be served without it.
        """
        lock = Lock(self.settings.data_dir)
        listening: socket.socket | None = None
        try:
            with _signals(self.stop):
                if self.plan.web:
                    listening = web.listen(self.settings)
                    self.url = _url(self.settings.host, listening.getsockname()[1])
                    lock.write(pid=os.getpid(), url=self.url)
                self._start(listening)
                steps = threading.Thread(target=self._bring_up, name="steps", daemon=True)
                steps.start()
                self._watch()
        finally:
            self._stop.set()
            self._shut_down()
            if listening is not None:
                listening.close()
            lock.release()
        if self._failure is not None:
            raise self._failure

    def _start(self, listening: socket.socket | None) -> None:
        if self.settings.embedded or self.plan.engine:
            self._fetch()
        env = {**_clean_environment(), **self.settings.environment()}
        logs = self.settings.data_dir / "logs"
        if self.plan.engine:
            self._children.append(
                Child("engine", "dashboard.engine", log=logs / "engine.log", env=env)
            )
        for number in range(self.settings.web_workers if listening is not None else 0):
            assert listening is not None  # noqa: S101 - narrowed by the range
            fd = listening.fileno()
            self._children.append(
                Child(
                    "web worker",
                    "dashboard.web",
                    log=logs / f"web-{number}.log",
                    env={**env, "OMP_NUM_THREADS": "1"},
                    arguments=("--fd", str(fd)),
                    pass_fds=(fd,),
                )
            )
        # The children import and start Spark while Cassandra starts; they wait for it themselves.
        for child in self._children:
            child.start()
        if self.settings.embedded:
            self._start_cassandra("starting")

    def _fetch(self) -> None:
        def progress(step: str, done: int, total: int, message: str = "") -> None:
            self.screen.update(step, done, total, message=message)

        found = jars.fetch(self.settings, progress)
        self.screen.done("jars", f"{len(found)} pinned archives")

    def _start_cassandra(self, text: str) -> None:
        self.screen.begin("cassandra", text)
        self._cassandra = embedded.Cassandra.start(self.settings)
        self._cassandra_born = time.monotonic()
        self.screen.done("cassandra", f"answers CQL, pid {self._cassandra.pid}")

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_S):
            for child in self._children:
                said = child.tend()
                if said:
                    self.screen.note(said)
                    if "ended" in said:
                        self.screen.note(tail(child.log, lines=4))
            if self._cassandra is not None and not self._cassandra.alive():
                self._revive_cassandra()

    def _revive_cassandra(self) -> None:
        if time.monotonic() - self._cassandra_born > STEADY_S:
            self._cassandra_deaths = 0
        pause = BACKOFF_S[min(self._cassandra_deaths, len(BACKOFF_S) - 1)]
        self._cassandra_deaths += 1
        self.screen.note(f"cassandra died, starting it again in {pause:g} s")
        if self._stop.wait(pause):
            return
        try:
            self._start_cassandra("starting again")
        except SightlineError as error:
            if self._cassandra_deaths >= len(BACKOFF_S):
                raise
            self.screen.failed("cassandra", str(error))

    def _bring_up(self) -> None:
        try:
            if self.plan.web:
                threading.Thread(target=self._announce, name="announce", daemon=True).start()
            bring_up(
                self.settings,
                self.plan.steps,
                self.screen,
                self._stop,
                fresh=self.settings.embedded,
            )
            if self.plan.task is not None:
                self.plan.task(self.screen, self._stop)
        except SightlineError as error:
            self.screen.note(f"error: {error}")
            if not self.plan.web:
                self._failure = error
        except Exception as error:  # noqa: BLE001 - raised again on the main thread
            self._failure = error
            self._stop.set()
        if not self.plan.web:
            self._stop.set()

    def _announce(self) -> None:
        deadline = time.monotonic() + FIRST_PAGE_S
        while not self._stop.is_set() and time.monotonic() < deadline:
            if answers(self.url):
                took = seconds(self.screen.elapsed())
                self.screen.note(f"Sightline is at {self.url} (after {took})")
                if self.on_page is not None:
                    self.on_page(self.url)
                return
            self._stop.wait(0.25)
        if not self._stop.is_set():
            self.screen.note(f"no page from {self.url} yet: see {self.settings.data_dir / 'logs'}")

    def _shut_down(self) -> None:
        stoppers = [
            threading.Thread(target=child.stop, name=f"stop {child.name}")
            for child in self._children
        ]
        for thread in stoppers:
            thread.start()
        for thread in stoppers:
            thread.join()
        if self._cassandra is not None:
            self._cassandra.stop()


def answers(url: str) -> bool:
    """Whether a page comes from the address."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own address
            return int(response.status) == 200
    except (OSError, urllib.error.URLError, ValueError):
        return False


@contextlib.contextmanager
def _signals(stop: Any) -> Iterator[None]:
    """SIGINT and SIGTERM ask for a stop; a second one while stopping changes nothing."""

    def interrupted(number: int, _frame: object) -> None:
        stop()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = {s: signal.signal(s, interrupted) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number in before:
            signal.signal(number, signal.SIG_IGN)


def _url(host: str, port: int) -> str:
    shown = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - shown, not bound
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def _clean_environment() -> Mapping[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("SIGHTLINE_")}
