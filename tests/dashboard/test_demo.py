from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from cql.errors import ConflictError, UnavailableError
from cql.records import Job
from cql.settings import Settings
from dashboard import children, demo, pipeline, web
from dashboard.children import Child, status
from dashboard.connection import Connection
from dashboard.supervisor import Lock, _url, running
from dashboard.terminal import Screen, progress_text, seconds
from tests.dashboard.fakes import JOB, NOW
from tests.waiting import until


def plain() -> tuple[Screen, io.StringIO]:
    out = io.StringIO()
    return Screen(Console(file=out, force_terminal=False, width=200)), out


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ((0, 0, 0.0, ""), ""),
        ((5, 0, 0.0, "x"), "5 · x"),
        ((1200, 1600, 45.0, ""), "1,200 of 1,600 · 45/s · 8.9 s left"),
        ((1600, 1600, 2.5, "end"), "1,600 of 1,600 · 2.5/s · end"),
        ((1, 500, 0.053, ""), "1 of 500 · 0.1/s"),  # the first unit waits for a compiler
        ((1, 500, 0.04, "x"), "1 of 500 · x"),
        ((30, 500, 0.5, ""), "30 of 500 · 0.5/s · 15 min 40 s left"),
    ],
)
def test_progress_in_words(given: tuple[int, int, float, str], text: str) -> None:
    assert progress_text(*given) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.44, "0.4 s"),
        (12.4, "12 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_seconds_in_words(value: float, text: str) -> None:
    assert seconds(value) == text


def test_plain_output_is_one_line_an_event() -> None:
    screen, out = plain()
    with screen:
        screen.begin("ingest", "waiting [1]")
        screen.update("ingest", 1, 10)
        screen.done("ingest", "10 files [x]")
        screen.failed("extract", "no photo")
    lines = out.getvalue().splitlines()
    assert lines[0] == "ingest: waiting [1]"
    assert "10 files [x]" in lines[1]
    assert "no photo" in lines[2]
    assert len(lines) == 3


def test_one_supervisor_holds_a_folder_and_tells_where(tmp_path: Path) -> None:
    assert running(tmp_path) == {}
    lock = Lock(tmp_path)
    lock.write(pid=1, url="http://127.0.0.1:1")
    assert running(tmp_path)["url"] == "http://127.0.0.1:1"
    with pytest.raises(ConflictError, match=r"http://127\.0\.0\.1:1"):
        Lock(tmp_path)
    lock.release()
    assert running(tmp_path) == {}
    Lock(tmp_path).release()


def test_a_torn_supervisor_file_is_no_supervisor(tmp_path: Path) -> None:
    (tmp_path / "supervisor.json").write_text('{"pid"')
    assert running(tmp_path) == {}


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
    ],
)
def test_addresses(host: str, url: str) -> None:
    assert _url(host, 80) == url


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with web.listen(Settings(data_dir=tmp_path, port=0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UnavailableError, match=f"port {port}.*--port"):
            web.listen(Settings(data_dir=tmp_path, port=port))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Children whose program is a file of the test."""

    def make(code: str, name: str = "child") -> Child:
        path = tmp_path / f"{name}.py"
        path.write_text(code)
        made = Child(
            name, name, log=tmp_path / "logs" / f"{name}.log", env={"PYTHONPATH": str(tmp_path)}
        )
        started.append(made)
        return made

    started: list[Child] = []
    monkeypatch.setattr(children, "BACKOFF_S", (0.05, 0.1))
    yield make
    for child in started:
        child.stop(2)


def test_a_child_that_dies_starts_again_after_a_pause(module: Any) -> None:
    child = module("import time\ntime.sleep(60)\n")
    child.start()
    first = child.pid
    child._process.send_signal(signal.SIGKILL)
    until(lambda: not child.alive(), seconds=20)
    said = child.tend()
    assert "signal SIGKILL" in said
    assert "0.05 s" in said
    until(lambda: "runs again" in child.tend(), seconds=20)
    assert child.alive()
    assert child.pid != first
    child._process.send_signal(signal.SIGKILL)
    until(lambda: not child.alive(), seconds=20)
    assert "0.1 s" in child.tend()


def test_a_child_that_ignores_sigterm_goes_with_all_it_started(module: Any) -> None:
    child = module(
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "grand = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(grand.pid, flush=True)\n"
        "time.sleep(60)\n",
        "stubborn",
    )
    child.start()
    until(lambda: bool(child.log.exists() and child.log.read_text().strip()), seconds=20)
    grand = int(child.log.read_text())
    child.stop(0.5)
    stat = Path(f"/proc/{grand}/stat")
    until(lambda: not stat.exists() or "Z" in stat.read_text(), seconds=20)
    assert not child.alive()


@pytest.mark.parametrize(
    ("code", "text"), [(3, "exit code 3"), (-9, "signal SIGKILL"), (-250, "signal 250")]
)
def test_exit_statuses_in_words(code: int, text: str) -> None:
    assert status(code) == text


class FakeStore:
    """Jobs that take two looks to end."""

    def __init__(self, end: str = "done") -> None:
        self.rows: dict[Any, list[Job]] = {}
        self.cancelled: list[Any] = []
        self.end = end

    def put_job(self, job: Job) -> None:
        running = replace(job, state="running", done=1, total=2, started_at=NOW)
        ended = replace(running, state=self.end, done=2, message="did it", error="why not")
        self.rows[job.job_id] = [job, running, ended]

    def job(self, job_id: Any) -> Job:
        rows = self.rows[job_id]
        return rows.pop(0) if len(rows) > 1 else rows[0]

    def jobs(self, _limit: int) -> list[Job]:
        queued = Job(job_id=JOB, kind="ingest", parameters="{}", state="running")
        return [queued, replace(queued, state="done")]

    def cancel_job(self, job_id: Any) -> None:
        self.cancelled.append(job_id)

    def close(self) -> None:
        pass


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    made = FakeStore()
    monkeypatch.setattr("dashboard.connection.open_store", lambda _settings: made)
    monkeypatch.setattr(pipeline, "POLL_S", 0.01)
    return made


def test_steps_run_in_order_and_left_jobs_are_dropped(store: FakeStore, tmp_path: Path) -> None:
    screen, out = plain()
    steps = demo.steps(Settings(data_dir=tmp_path), photos=None, manifest=None, images=10, seed=1)
    jobs = pipeline.bring_up(
        Settings(data_dir=tmp_path), steps, screen, threading.Event(), fresh=True
    )
    assert [job.kind for job in jobs] == ["render", "ingest", "extract", "snapshot", "analyse"]
    assert store.cancelled == [JOB]
    assert json.loads(jobs[0].parameters)["images"] == 10
    assert json.loads(jobs[1].parameters) == {"photos": str(tmp_path / "sample")}
    assert out.getvalue().count("did it") == 5


def test_a_step_that_fails_ends_the_rest(store: FakeStore, tmp_path: Path) -> None:
    store.end = "failed"
    screen, out = plain()
    steps = demo.steps(
        Settings(data_dir=tmp_path), photos=tmp_path, manifest=None, images=1, seed=1
    )
    with pytest.raises(pipeline.StepError, match="ingest failed: why not"):
        pipeline.bring_up(Settings(data_dir=tmp_path), steps, screen, threading.Event())
    assert len(store.rows) == 1
    assert "why not" in out.getvalue()


def test_an_outage_is_waited_for(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers: list[Any] = [UnavailableError("gone"), UnavailableError("gone"), store]

    def open_store(_settings: Settings) -> FakeStore:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, FakeStore)
        return found

    monkeypatch.setattr("dashboard.connection.open_store", open_store)
    with Connection(
        Settings(data_dir=tmp_path),
        SimpleNamespace(wait=lambda _s: False),  # type: ignore[arg-type]
    ) as connection:
        assert connection.call(lambda opened: opened) is store  # type: ignore[comparison-overlap]


def test_the_worker_needs_its_socket() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dashboard.web"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--fd" in done.stderr
