"""Jobs, live versions, snapshots and processes: work and who does it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from cql import statements as cql
from cql.access import Access, conflict, now, record, utc, values_of
from cql.errors import ConflictError, InputError, NotFoundError
from cql.progress import CancelledError
from cql.records import Job, Service, Shard, Snapshot

HISTORY_DAYS = 400
"""How far back lists of jobs go."""

_SNAPSHOT = (
    "snapshot_id model_id rows listings dim shards watermark created_at code_version fingerprint"
)
_SHARD = "snapshot_id shard rows listings first_listing last_listing files"
_JOB = (
    "job_id kind parameters state step done total rate message error owner created_at started_at "
    "heartbeat_at finished_at"
)
_PROGRESS = "step done total rate message steps worked_s cpu_s peak_bytes left_s"
_ENDS = ("done", "failed", "cancelled")


class Work:
    """The part of the store about versions, jobs and processes."""

    _access: Access

    # Snapshots and live versions

    def put_snapshot(self, snapshot: Snapshot, shards: Iterable[Shard]) -> None:
        """Write a snapshot after its shards: whoever sees the snapshot sees all of them."""
        rows = [values_of(each, _SHARD, files=dict(each.files)) for each in shards]
        if len(rows) != snapshot.shards:
            raise InputError(f"the snapshot has {snapshot.shards} shards, got {len(rows)}")
        self._access.write(cql.PUT_SHARD, rows)
        self._access.run(cql.PUT_SNAPSHOT, *values_of(snapshot, _SNAPSHOT))

    def snapshot(self, snapshot_id: UUID) -> Snapshot:
        """One snapshot. NotFoundError."""
        row = self._access.one(cql.SNAPSHOT, snapshot_id)
        if row is None:
            raise NotFoundError(f"no snapshot has the id {snapshot_id}")
        return record(Snapshot, row)

    def shards(self, snapshot_id: UUID) -> list[Shard]:
        """Shards of a snapshot, by number."""
        return [record(Shard, row) for row in self._access.each(cql.SHARDS, snapshot_id)]

    def snapshots(self) -> list[Snapshot]:
        """All snapshots, oldest first."""
        found = [record(Snapshot, row) for row in self._access.each(cql.SNAPSHOTS)]
        return sorted(found, key=lambda each: (each.created_at, each.snapshot_id.bytes))

    def delete_snapshot(self, snapshot_id: UUID) -> None:
        """Forget a snapshot; its files are the caller's."""
        self._access.run(cql.DELETE_SNAPSHOT, snapshot_id)
        self._access.run(cql.DELETE_SHARDS, snapshot_id)

    def live(self, name: str) -> UUID | None:
        """The live version of a name (`snapshot`, `map`, ...), None before the first."""
        row = self._access.one(cql.LIVE, name)
        return row.version if row is not None else None

    def live_versions(self) -> dict[str, UUID]:
        """The live version of every name."""
        return {row.name: row.version for row in self._access.each(cql.LIVES)}

    def set_live(self, name: str, version: UUID, *, expected: UUID | None) -> None:
        """Move a live version if it is still `expected` (None: there is none). ConflictError."""

        def current() -> UUID | None:
            row = self._access.serial(cql.LIVE, name)
            return row.version if row is not None else None

        if expected is None:
            statement, values = cql.FIRST_LIVE, (name, version, now())
        else:
            statement, values = cql.MOVE_LIVE, (version, now(), name, expected)  # type: ignore[assignment]
        if not self._access.cas(statement, values, settled=lambda: current() == version):
            raise conflict(f"the live {name}", expected, current())

    def drop_live(self, name: str, *, expected: UUID) -> None:
        """Remove a live version if it is still `expected`; gone already is fine. ConflictError."""

        def current() -> UUID | None:
            row = self._access.serial(cql.LIVE, name)
            return row.version if row is not None else None

        done = self._access.cas(cql.DROP_LIVE, (name, expected), settled=lambda: current() is None)
        if not done and (found := current()) is not None:
            raise conflict(f"the live {name}", expected, found)

    # Jobs

    def put_job(self, job: Job) -> Job:
        """Queue a job; returns it with its time. Writing the same job again changes nothing."""
        stored = replace(job, created_at=job.created_at or now())
        day = _day(utc(stored.created_at))
        self._access.run(cql.PUT_JOB_DAY, day, stored.created_at, stored.job_id)
        self._access.cas(
            cql.ADD_JOB,
            values_of(stored, _JOB),
            settled=lambda: self._access.serial(cql.JOB, job.job_id) is not None,
        )
        return stored

    def job(self, job_id: UUID) -> Job:
        """One job. NotFoundError."""
        row = self._access.one(cql.JOB, job_id)
        if row is None:
            raise NotFoundError(f"no job has the id {job_id}")
        return record(Job, row)

    def jobs(self, limit: int = 50, *, days: int = HISTORY_DAYS) -> list[Job]:
        """The newest jobs of the last `days`, newest first."""
        ids = newest(self._access, cql.JOBS_OF_DAY, "job_id", limit=limit, days=days)
        found = self._access.many(cql.JOB, ((each,) for each in ids))
        return [record(Job, rows[0]) for rows in found if rows]

    def claim_job(self, job_id: UUID, owner: UUID, *, stale_s: float | None = None) -> bool:
        """Take a queued job, or with `stale_s` one whose owner has been silent for so long.

        Of several that try, one gets True.
        """
        moment = now()

        def mine() -> bool:
            row = self._access.serial(cql.JOB, job_id)
            return row is not None and row.owner == owner and row.state == "running"

        if self._access.cas(cql.CLAIM_JOB, (owner, moment, moment, job_id), settled=mine):
            return True
        if stale_s is None:
            return False
        row = self._access.serial(cql.JOB, job_id)
        if row is None or row.state != "running" or row.heartbeat_at is None:
            return False
        if moment - record(Job, row).heartbeat_at < timedelta(seconds=stale_s):  # type: ignore[operator]
            return False
        values = (owner, moment, moment, job_id, row.owner, row.heartbeat_at)
        return self._access.cas(cql.TAKE_OVER_JOB, values, settled=mine)

    def update_job(self, job_id: UUID, owner: UUID, **progress: Any) -> None:
        """Write progress and the heartbeat of a running job; what is not given stays as it is.

        Progress is step, done, total, rate and message, and how it went so far: steps, worked_s,
        cpu_s, peak_bytes, left_s.

        Raises:
            CancelledError: somebody cancelled it.
            ConflictError: another owner has it, or it ended.
        """
        unknown = set(progress) - set(_PROGRESS.split())
        if unknown:
            raise InputError(f"progress has the fields {_PROGRESS}, got {', '.join(unknown)}")
        row = self._access.serial(cql.JOB, job_id)
        _must_own(job_id, owner, row)
        values = tuple(progress.get(name, getattr(row, name)) for name in _PROGRESS.split())
        moment = now()
        done = self._access.cas(
            cql.UPDATE_JOB,
            (*values, moment, job_id, owner),
            settled=lambda: utc(self._access.serial(cql.JOB, job_id).heartbeat_at) == moment,
        )
        if not done:
            _must_own(job_id, owner, self._access.serial(cql.JOB, job_id))

    def finish_job(self, job_id: UUID, owner: UUID, state: str, error: str = "") -> None:
        """End a running job: done, failed or cancelled. CancelledError, ConflictError."""
        if state not in _ENDS:
            raise InputError(f"a job ends as {', '.join(_ENDS)}, got {state!r}")

        def settled() -> bool:
            row = self._access.serial(cql.JOB, job_id)
            return row is not None and row.state == state and row.owner == owner

        values = (state, error, now(), job_id, owner)
        if not self._access.cas(cql.FINISH_JOB, values, settled=settled):
            row = self._access.serial(cql.JOB, job_id)
            if row is None or (row.state, row.owner) != (state, owner):
                _must_own(job_id, owner, row)

    def cancel_job(self, job_id: UUID) -> bool:
        """Cancel a job; whoever runs it learns it from `update_job`. False if it had ended."""

        def settled() -> bool:
            return bool(self.job(job_id).state == "cancelled")

        done = self._access.cas(cql.CANCEL_JOB, (now(), job_id), settled=settled)
        if not done:
            self.job(job_id)
        return done

    # Processes

    def heartbeat(self, service: Service, ttl_s: int) -> None:
        """Say that a process lives, for `ttl_s` seconds."""
        self._access.run(
            cql.HEARTBEAT,
            service.role,
            service.service_id,
            service.address,
            service.snapshot_id,
            list(service.shards),
            service.pid,
            now(),
            ttl_s,
        )

    def services(self, role: str) -> list[Service]:
        """Live processes of a role, by id."""
        return [record(Service, row) for row in self._access.each(cql.SERVICES, role)]

    def withdraw(self, role: str, service_id: UUID) -> None:
        """Say that a process is gone."""
        self._access.run(cql.WITHDRAW, role, service_id)


def newest(
    access: Access, statement: cql.Statement, column: str, *, limit: int, days: int
) -> list[Any]:
    """Values of `column` from a table by day, newest first, at most `limit`.

    `days`: today and so many less one before. Days are read a few at once, and more at a time the
    further back it goes.
    """
    found: list[Any] = []
    today = datetime.now(UTC).date()
    day, last = today + timedelta(days=1), today - timedelta(days=days)  # a clock may be ahead
    step = 3
    while len(found) < limit and day > last:
        keys = [day - timedelta(days=count) for count in range(min(step, (day - last).days))]
        blocks = access.many(statement, ((int(key.strftime("%Y%m%d")), limit) for key in keys))
        found += [getattr(row, column) for block in blocks for row in block]
        day -= timedelta(days=len(keys))
        step *= 4
    return found[:limit]


def _must_own(job_id: UUID, owner: UUID, row: Any) -> None:
    if row is None:
        raise NotFoundError(f"no job has the id {job_id}")
    if row.state == "cancelled":
        raise CancelledError(f"job {job_id} was cancelled")
    if row.state != "running" or row.owner != owner:
        raise ConflictError(
            f"job {job_id} must be running for {owner}, it is {row.state} for {row.owner}: leave it"
        )


def _day(moment: datetime | None) -> int:
    return int((moment or now()).strftime("%Y%m%d"))
