"""Jobs as they are shown: their rows with progress, steps and cost."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from dash import dcc, html

from analytics.forecast import LEAST_RATE
from dashboard import ids
from dashboard.components.widgets import (
    aria,
    badge,
    count,
    duration,
    prose,
    size,
    when,
)
from dashboard.state import JobsState
from dashboard.views import JobView

TONES: Final = {
    "queued": "plain",
    "running": "accent",
    "done": "ok",
    "failed": "danger",
    "cancelled": "warn",
}


def job_row(job: JobView, now: datetime, *, opened: bool = False) -> html.Article:
    """Build the row of a job: what it does, how far it is, why it failed, its steps if `opened`."""
    running = job.state == "running"
    body: list[Any] = [
        html.Div(
            [
                html.H3(job.kind.replace("_", " ").capitalize(), className="job__kind"),
                badge(job.state, TONES.get(job.state, "plain")),
                html.Span(_time(job, now), className="job__when"),
                _button(job),
            ],
            className="job__head",
        )
    ]
    if running:
        body.append(
            html.Div(
                html.Div(className="bar__fill", style={"width": f"{job.share * 100:.1f}%"}),
                className="bar" if job.total else "bar bar--unknown",
                role="progressbar",
                **aria(
                    label=job.step or job.kind,
                    valuenow=f"{job.share * 100:.0f}",
                    valuemin="0",
                    valuemax="100",
                ),
            )
        )
    facts = _facts(job)
    if facts:
        body.append(html.Div([html.Span(fact) for fact in facts], className="meta"))
    if job.error:
        body.append(html.P(prose(job.error), className="job__error", role="alert"))
    if job.steps:
        body.append(_steps(job, opened=opened))
    return html.Article(body, className=f"card job job--{job.state}", key=str(job.job_id))


def _steps(job: JobView, *, opened: bool) -> html.Div:
    """Build the fold of a job: its cost, and each step with its time and rows."""
    cost = [f"CPU {duration(job.cpu_s)}"] if job.cpu_s else []
    if job.peak_bytes:
        cost.append(f"{size(job.peak_bytes)} memory at most")
    head = html.Tr(
        [html.Th(name, scope="col") for name in ("Step", "State", "Time", "CPU", "Rows")]
    )
    rows = [
        html.Tr(
            [
                html.Th(each.step.replace("_", " ").capitalize(), scope="row"),
                html.Td(each.state),
                html.Td(duration(each.seconds) if each.seconds else "-"),
                html.Td(duration(each.cpu_s) if each.cpu_s else "-"),
                html.Td(count(each.rows)),
            ]
        )
        for each in job.steps
    ]
    # The address says which is open: the list is drawn anew every two seconds.
    toggle = dcc.Link(
        "Hide the steps" if opened else "Steps and cost",
        href=ids.PATH_JOBS + JobsState(None if opened else job.job_id).write(),
        className="job__toggle",
    )
    table = html.Table([html.Thead(head), html.Tbody(rows)], className="job__table")
    return html.Div(
        [
            html.Div([toggle, *(html.Span(text) for text in cost)], className="job__cost"),
            table if opened else None,
        ],
        className="job__steps",
    )


def _facts(job: JobView) -> list[str]:
    facts = [job.step] if job.step and job.state != "done" else []
    if job.total:
        facts.append(f"{count(job.done)} of {count(job.total)}")
    elif job.done:
        facts.append(count(job.done))
    if job.state == "running":
        if job.rate >= LEAST_RATE:
            facts.append(f"{job.rate:,.1f}/s")
        if job.left_s is not None:
            what = "left" if job.whole_left else "left in this step"
            facts.append(f"{duration(job.left_s)} {what}")
    if job.message:
        facts.append(job.message)
    return facts


def _time(job: JobView, now: datetime) -> list[Any]:
    took = f"{duration(job.seconds)}" if job.seconds is not None else ""
    moment = job.finished_at or job.started_at or job.created_at
    parts = [took, when(moment, now)]
    return [html.Span(part) for part in parts if part]


def _button(job: JobView) -> html.Button | None:
    if job.state in {"queued", "running"}:
        text, own = "Cancel", ids.job_cancel(str(job.job_id))
    elif job.again:
        text, own = "Run again", ids.job_again(str(job.job_id))
    else:
        return None
    return html.Button(text, id=own, className="button button--small", type="button")
