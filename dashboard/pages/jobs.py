"""Jobs: what runs now, how fast and how long still, and what ran before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from dash import dcc, html

from dashboard import ids
from dashboard.components import states
from dashboard.components.jobs import job_row
from dashboard.components.widgets import plural
from dashboard.views import JobView

LIMIT: Final = 100
"""Jobs that the page lists."""

BUSY_MS: Final = 2_000
IDLE_MS: Final = 15_000


def layout(_: str | None = None) -> html.Div:
    """Build the page before its data came."""
    return html.Div(
        [
            dcc.Interval(id=ids.JOBS_TICK, interval=BUSY_MS),
            html.Div(
                html.Div(
                    [
                        html.H1("Jobs"),
                        html.P(id=ids.JOBS_SUMMARY, className="page-head__summary", role="status"),
                    ],
                    className="page-head__text",
                ),
                className="page-head",
            ),
            html.Div(states.rows_skeleton(4), id=ids.JOBS_LIST),
        ],
        className="content content--narrow",
    )


def busy(jobs: Sequence[JobView]) -> bool:
    """Whether some job is still to change."""
    return any(job.state in {"queued", "running"} for job in jobs)


def summary(jobs: Sequence[JobView]) -> str:
    """Return the line that counts jobs by state."""
    if not jobs:
        return ""
    order = ("running", "queued", "done", "failed", "cancelled")
    counts = {state: sum(job.state == state for job in jobs) for state in order}
    text = ", ".join(f"{number:,} {state}" for state, number in counts.items() if number)
    return text if len(jobs) < LIMIT else f"Newest {plural(len(jobs), 'job')}: {text}"


def listing(jobs: Sequence[JobView], now: datetime, opened: UUID | None = None) -> Any:
    """Build the running jobs, the queue, the history, newest first; `opened` shows its steps."""
    if not jobs:
        return states.empty(
            "No jobs yet",
            "Ingesting, extracting and analysing are jobs: start one with `sightline ingest`, or "
            "everything at once with `sightline demo`.",
            picture="jobs",
        )
    groups = (
        ("Running", [job for job in jobs if job.state == "running"]),
        ("Waiting", [job for job in jobs if job.state == "queued"]),
        ("History", [job for job in jobs if job.state not in {"queued", "running"}]),
    )
    return [
        html.Section(
            [
                html.H2(title, className="group-title"),
                html.Div(
                    [job_row(job, now, opened=job.job_id == opened) for job in found],
                    className="stack",
                ),
            ],
            className="group",
        )
        for title, found in groups
        if found
    ]
