"""Steps that bring a collection up, as jobs that an engine runs, shown while they run."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from analytics.jobs import submit
from cql.errors import SightlineError
from cql.records import Job
from cql.settings import Settings
from cql.store import Store
from dashboard.connection import Connection
from dashboard.terminal import Screen

ENDED = frozenset({"done", "failed", "cancelled"})
POLL_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A job to run and wait for. `kind` names it in the jobs table and on the screen."""

    kind: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


class StepError(SightlineError):
    """A step failed; the message is the job's own."""


def bring_up(
    settings: Settings,
    steps: Sequence[Step],
    screen: Screen,
    stop: threading.Event,
    *,
    fresh: bool = False,
) -> list[Job]:
    """Run the steps in order and return their jobs. StepError at the first that fails.

    `fresh`: this is the start of a supervisor, so unfinished jobs are left from one that ended.
    """
    done: list[Job] = []
    with Connection(settings, stop) as connection:
        if fresh:
            connection.call(drop_left)
        for step in steps:
            if stop.is_set():
                break
            screen.begin(step.kind, "waiting for the engine")
            job = connection.call(partial(_submit, step))
            job = follow(connection, job, screen, stop)
            if job.state != "done":
                if stop.is_set():
                    break
                screen.failed(step.kind, job.error or job.state)
                raise StepError(f"{step.kind} {job.state}: {job.error or 'see the engine log'}")
            screen.done(step.kind, job.message)
            done.append(job)
    return done


def _submit(step: Step, store: Store) -> Job:
    return submit(store, step.kind, step.parameters)


def drop_left(store: Store) -> None:
    """Cancel unfinished jobs: the steps that follow do their work, and only what is missing."""
    for job in store.jobs(200):
        if job.state not in ENDED:
            store.cancel_job(job.job_id)


def follow(connection: Connection, job: Job, screen: Screen, stop: threading.Event) -> Job:
    """Show a job until it ends (or `stop` is set), and return its last row."""
    job_id = job.job_id
    while not stop.is_set():
        job = connection.call(lambda store: store.job(job_id))
        if job.state in ENDED:
            return job
        if job.state == "running":
            step = job.step if job.step != job.kind else ""
            text = " · ".join(part for part in (step, job.message) if part)
            screen.update(
                job.kind, job.done, job.total, rate=job.rate, left_s=job.left_s, message=text
            )
        stop.wait(POLL_S)
    return job
