"""Jobs: rows that an engine claims by compare-and-set; progress is read from the row."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID, uuid4, uuid5

from analytics.cost import Meter
from analytics.forecast import Forecast, JobStep
from analytics.making.steps import KEPT
from cql.errors import (
    ConflictError,
    InputError,
    NotFoundError,
    SightlineError,
    UnavailableError,
)
from cql.progress import CancelledError, Progress
from cql.records import NAMESPACE, Job
from cql.store import Store

log = logging.getLogger(__name__)

Handler = Callable[[Mapping[str, Any], Progress], None]
"""Runs one kind of job: (parameters, progress). Progress raises CancelledError when cancelled."""

ENDED = frozenset({"done", "failed", "cancelled"})
_LOOKBACK = 1000
_LOOK_S = 60.0
_WRITE_S = 0.5
_BEAT_S = 3.0
_METER_S = 2.0
"""Seconds between two looks at the processes: each costs milliseconds."""
_HISTORY_DAYS = 30
_EARLIER = 5
"""Jobs of the same kind that tell how long its steps will take: the newest, of these days."""


def steps(job: Job) -> tuple[JobStep, ...]:
    """Steps of a job in the order in which they began."""
    return tuple(JobStep(**each) for each in json.loads(job.steps or "[]"))


def again(store: Store, job_id: UUID) -> Job:
    """Queue a job that failed or was cancelled once more: what its steps kept is not done again.

    Raises:
        NotFoundError: there is no such job.
        InputError: it has not ended, or has ended well.
    """
    job = store.job(job_id)
    if job.state not in {"failed", "cancelled"}:
        raise InputError(
            f"only a job that failed or was cancelled runs again, job {job_id} is {job.state}: "
            "start a new one"
        )
    return submit(store, job.kind, json.loads(job.parameters or "{}"))


def submit(store: Store, kind: str, parameters: Mapping[str, Any] | None = None) -> Job:
    """Queue a job; parameters are stored as canonical JSON."""
    text = json.dumps(dict(parameters or {}), sort_keys=True, separators=(",", ":"))
    now = datetime.now(UTC)
    job = Job(
        job_id=uuid5(NAMESPACE, f"job\0{kind}\0{text}\0{time.time_ns()}\0{os.getpid()}\0{uuid4()}"),
        kind=kind,
        parameters=text,
        state="queued",
        created_at=now,
    )
    store.put_job(job)
    return job


def wait(
    store: Store,
    job_id: UUID,
    on_change: Callable[[Job], None] = lambda _job: None,
    *,
    timeout_s: float | None = None,
    poll_s: float = 0.25,
) -> Job:
    """Follow a job until it is done, failed or cancelled; `on_change` sees every change once.

    UnavailableError after `timeout_s`.
    """
    began, shown = time.monotonic(), None
    while True:
        job = store.job(job_id)
        # A heartbeat alone is no change that anybody wants to see.
        seen = dataclasses.replace(job, heartbeat_at=None)
        if seen != shown:
            shown = seen
            on_change(job)
        if job.state in ENDED:
            return job
        if timeout_s is not None and time.monotonic() - began > timeout_s:
            raise UnavailableError(
                f"job {job_id} ({job.kind}) must end within {timeout_s:g} s, it is {job.state} in "
                f"step {job.step or 'none'}: wait longer, or see whether an engine runs"
            )
        time.sleep(poll_s)


class Runner:
    """Claims queued jobs (oldest first) and running ones whose owner stopped its heartbeat.

    `owner` names the process. A job that this owner itself left running (a handler that was
    killed with its thread) is claimed again like any other once its heartbeat is `stale_s` old.
    While the process is `busy` with what a cancelled job left, none is claimed.
    """

    def __init__(
        self,
        store: Store,
        handlers: Mapping[str, Handler],
        owner: UUID,
        *,
        stale_s: float = 15.0,
        busy: Callable[[], bool] | None = None,
    ) -> None:
        self._store, self._handlers, self._owner = store, dict(handlers), owner
        self._stale_s, self._busy = stale_s, busy
        self._looked = -math.inf

    def run_once(self) -> Job | None:
        """Run the next job to its end and return it; None when nothing waits."""
        if self._busy is not None and self._busy():
            return None
        now = datetime.now(UTC)
        # All of history once in a while; each poll looks at yesterday and today.
        full = time.monotonic() - self._looked > _LOOK_S
        recent = self._store.jobs(_LOOKBACK, **({} if full else {"days": 2}))
        if full:
            self._looked = time.monotonic()
        waiting = [job for job in recent if self._waits(job, now)]
        for job in sorted(waiting, key=lambda job: (job.created_at or now, str(job.job_id))):
            if self._store.claim_job(job.job_id, self._owner, stale_s=self._stale_s):
                return self._run(self._store.job(job.job_id))
        return None

    def run_forever(self, stop: threading.Event, *, poll_s: float = 0.5) -> None:
        """Run jobs until `stop` is set. A store that does not answer is asked again."""
        while not stop.is_set():
            try:
                if self.run_once() is not None:
                    continue
            except SightlineError as error:
                log.warning("jobs: %s", error)
            stop.wait(poll_s)

    def _forecast(self, job: Job) -> Forecast:
        """What earlier jobs of its kind say of how long each step takes."""
        earlier = [
            each
            for each in self._store.jobs(_LOOKBACK, days=_HISTORY_DAYS)
            if each.kind == job.kind and each.state == "done" and each.steps
        ]
        return Forecast([steps(each) for each in earlier[:_EARLIER]])

    def _waits(self, job: Job, now: datetime) -> bool:
        if job.kind not in self._handlers:
            return False
        if job.state == "queued":
            return True
        beat = job.heartbeat_at or job.started_at
        return job.state == "running" and (
            beat is None or (now - beat).total_seconds() > self._stale_s
        )

    def _run(self, job: Job) -> Job:
        report = _Report(
            self._store,
            job,
            self._owner,
            beat_s=min(_BEAT_S, self._stale_s / 4),
            forecast=self._forecast(job),
        )
        log.info("job %s (%s) starts", job.job_id, job.kind)
        state, message = "done", ""
        try:
            parameters = json.loads(job.parameters or "{}")
            with report:
                self._handlers[job.kind](parameters, report)
                report.check()
        except CancelledError:
            state = "cancelled"
        except SightlineError as error:
            state, message = "failed", str(error)
            log.warning("job %s (%s) failed: %s", job.job_id, job.kind, error)
        except Exception as error:  # a bug in one job must not end the engine
            state, message = "failed", f"{type(error).__name__}: {error}"
            log.exception("job %s (%s) failed", job.job_id, job.kind)
        try:
            self._store.finish_job(job.job_id, self._owner, state, message)
        except CancelledError:
            log.info("job %s was cancelled", job.job_id)
        except ConflictError as error:
            log.warning("job %s belongs to another engine now: %s", job.job_id, error)
        return self._store.job(job.job_id)


class _Report:
    """Progress of one job: written at most twice a second, with a heartbeat from a thread."""

    def __init__(
        self, store: Store, job: Job, owner: UUID, *, beat_s: float, forecast: Forecast
    ) -> None:
        self._store, self._job_id, self._owner, self._beat_s = store, job.job_id, owner, beat_s
        self._forecast = forecast
        self._now: dict[str, Any] = {"step": "", "done": 0, "total": 0, "rate": 0.0, "message": ""}
        # What a try before this one did and cost: it ended without a word.
        self._earlier = {
            each.step: dataclasses.replace(
                each, state="stopped" if each.state == "running" else each.state
            )
            for each in steps(job)
        }
        self._steps = dict(self._earlier)
        self._before = job
        self._meter = Meter()
        self._started = self._began = time.monotonic()
        self._written = self._cpu = 0.0
        self._looked = time.monotonic()
        self._first = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._stopped = ""
        self._thread = threading.Thread(target=self._beat, name="job-heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended.set()
        self._thread.join(10)
        with self._lock:
            self._meter.look()
            self._close(_ending(kind))
        if not self._stopped:
            self._write()

    def __call__(self, step: str, done: int, total: int, message: str = "") -> None:
        """Take note; raises CancelledError when the job was cancelled or claimed by another."""
        self.check()
        now = time.monotonic()
        with self._lock:
            fresh = step != self._now["step"]
            if fresh:
                self._meter.look()
                self._close("done")
                self._began, self._first, self._cpu = now, done, self._meter.cpu_s
            spent = now - self._began
            rate = (done - self._first) / spent if spent > 0.2 else 0.0
            self._now = {
                "step": step,
                "done": int(done),
                "total": int(total),
                "rate": float(rate),
                "message": message,
            }
            self._note("kept" if message == KEPT else "running")
            due = fresh or done >= total > 0 or now - self._written >= _WRITE_S
            due = due and (fresh or now - self._written >= _WRITE_S / 5)
            if due:
                self._written = now
        if due:
            self._write()
            self.check()

    def check(self) -> None:
        """Raise CancelledError when the job was cancelled, or belongs to another engine now."""
        if self._stopped:
            raise CancelledError(self._stopped)

    def _close(self, state: str) -> None:
        """Say how the present step ended."""
        if self._now["step"]:
            own = self._steps[self._now["step"]]
            self._note("kept" if own.state == "kept" else state)

    def _note(self, state: str) -> None:
        name = self._now["step"]
        if state == "kept":
            # Its time is that of the try which did it, where that was this job's; else of a look.
            known = self._earlier.get(name) or self._steps.get(name)
            known = known or JobStep(step=name, state=state)
            rows = int(self._now["done"])
            self._steps[name] = dataclasses.replace(known, state=state, rows=rows)
            return
        before = self._earlier.get(name)
        if before is not None and state in {"running", "stopped"} and not self._now["done"]:
            # It may be kept: what it took is not forgotten before that is known.
            self._steps[name] = dataclasses.replace(before, state=state, rows=0)
            return
        self._steps[name] = JobStep(
            step=name,
            state=state,
            seconds=round(time.monotonic() - self._began, 3),
            rows=int(self._now["done"]),
            cpu_s=round(self._meter.cpu_s - self._cpu, 3),
        )

    def _beat(self) -> None:
        while not self._ended.wait(self._beat_s):
            self._write()

    def _write(self) -> None:
        with self._lock:
            if time.monotonic() - self._looked >= _METER_S:
                self._looked = time.monotonic()
                self._meter.look()
            if self._now["step"] and not self._ended.is_set():
                self._note(self._steps[self._now["step"]].state)
            shown = list(self._steps.values())
            now = dict(self._now)
        went = {
            "steps": json.dumps([asdict(each) for each in shown]),
            "worked_s": self._before.worked_s + time.monotonic() - self._started,
            "cpu_s": self._before.cpu_s + self._meter.cpu_s,
            "peak_bytes": max(self._before.peak_bytes, self._meter.peak_bytes),
            "left_s": self._forecast.left(shown, total=now["total"]),
        }
        try:
            self._store.update_job(self._job_id, self._owner, **now, **went)
        except (CancelledError, ConflictError, NotFoundError) as error:
            self._stopped = str(error)
        except SightlineError as error:
            log.warning("progress of job %s: %s", self._job_id, error)


def _ending(kind: type[BaseException] | None) -> str:
    """State of the step that ran when a handler ended, by what it raised."""
    if kind is None:
        return "done"
    if issubclass(kind, CancelledError):
        return "cancelled"
    return "failed" if issubclass(kind, Exception) else "stopped"
