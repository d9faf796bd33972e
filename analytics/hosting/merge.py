"""When changes are folded into shards: a new snapshot is built once enough has changed."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from analytics.hosting.placement import ROLE, cover
from analytics.hosting.pointers import live_snapshots
from analytics.jobs import ENDED, submit
from cql.errors import NotFoundError, UnavailableError
from cql.records import Job
from cql.store import Store
from cql.wire import Message, Pool

log = logging.getLogger(__name__)

CHANGED_MIN = 5_000
CHANGED_SHARE = 0.1
"""Changed rows, in all and as a share of the snapshot, from which on a scan would feel them."""

AGE_S = 900.0
"""Seconds after which even a single change is folded in."""

AGAIN_S = 300.0
"""Seconds of rest after a snapshot that failed or was cancelled."""

KIND = "snapshot"
"""The jobs that build snapshots."""

_ANSWER_S = 5.0
_LOOKBACK = 1_000
_DAYS = 7
"""A snapshot is queued, and built, in less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What changed since the live snapshot of a model, over all of its hosts.

    `changed` rows were added or taken out, `behind` listings are not shown yet, and the first
    change came `age_s` seconds ago.
    """

    model_id: str
    rows: int
    changed: int
    behind: int
    age_s: float

    @property
    def due(self) -> bool:
        """Whether a new snapshot should be built."""
        if not self.changed and not self.behind:
            return False
        many = self.changed >= max(CHANGED_MIN, CHANGED_SHARE * self.rows)
        return many or self.behind > 0 or self.age_s >= AGE_S


def backlogs(store: Store, pool: Pool) -> list[Backlog]:
    """Ask the hosts of every live snapshot; one whose hosts do not all answer is left out."""
    found = []
    for snapshot in live_snapshots(store).values():
        plan = cover(store.services(ROLE), snapshot)
        if plan is None:
            continue
        try:
            replies = [
                pool.call(
                    host.address,
                    "status",
                    Message({"snapshot": str(snapshot.snapshot_id), "shards": took}),
                    timeout_s=_ANSWER_S,
                ).values
                for host, took in plan
            ]
        except UnavailableError:
            continue
        found.append(
            Backlog(
                model_id=snapshot.model_id,
                rows=snapshot.rows,
                changed=sum(int(reply["changed"]) for reply in replies),
                behind=sum(int(reply["behind"]) for reply in replies),
                age_s=max((float(reply["age_s"]) for reply in replies), default=0.0),
            )
        )
    return found


def queue(store: Store, found: Iterable[Backlog], *, default: str) -> list[Job]:
    """Queue a snapshot of each model whose backlog is due; returns the jobs.

    Of a model of which one waits or runs, whoever asked for it, none is queued, nor of one whose
    last one did not end well less than `AGAIN_S` ago. `default`: the name of the model that a job
    is about which names none.
    """
    due = [each.model_id for each in found if each.due]
    if not due:
        return []
    jobs = [job for job in store.jobs(_LOOKBACK, days=_DAYS) if job.kind == KIND]
    queued = []
    for model_id in due:
        try:
            name = store.model(model_id).name
        except NotFoundError as error:
            log.warning("changes of a model are not folded in: %s", error)
            continue
        if not _held(jobs, model_id, name, default):
            queued.append(submit(store, KIND, {"model_id": model_id}))
    return queued


def _held(jobs: Iterable[Job], model_id: str, name: str, default: str) -> bool:
    """Whether a snapshot of a model is on its way, or the last one failed a moment ago."""
    own = [job for job in jobs if _about(job, model_id, name, default)]
    if any(job.state not in ENDED for job in own):
        return True
    since = datetime.now(UTC) - timedelta(seconds=AGAIN_S)
    ends = [(job.finished_at, job.state) for job in own if job.finished_at is not None]
    ended, state = max(ends, default=(since, "done"))
    return state != "done" and ended > since


def _about(job: Job, model_id: str, name: str, default: str) -> bool:
    """Whether a job is of a model, which it names by its id or by its name."""
    told = json.loads(job.parameters or "{}")
    if told.get("model_id"):
        return bool(told["model_id"] == model_id)
    return (told.get("model") or default) == name
