"""When changes are folded into a new snapshot."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
import pytest

from analytics.hosting import merge
from analytics.hosting.merge import Backlog, backlogs
from analytics.jobs import submit
from cql.errors import NotFoundError
from cql.records import Job, Model
from cql.store import Store
from cql.wire import Pool
from tests.analytics.conftest import MODEL, Memory, World
from tests.analytics.test_changes import DIM, put
from tests.naive import unit
from tests.waiting import until

Make = Callable[..., World]


def found(world: World, pool: Pool) -> Backlog:
    (seen,) = backlogs(cast("Store", world.store), pool)
    return seen


def test_the_backlog_counts_what_hosts_hold_beyond_the_snapshot(world: Make) -> None:
    one = world()
    rng = np.random.default_rng(0)
    one.fill(unit(rng, 9, DIM), ["a"] * 3 + ["b"] * 3 + ["c"] * 3, cuts=2)
    one.host(2)
    pool = Pool(one.settings)
    try:
        first = found(one, pool)
        assert (first.model_id, first.rows, first.changed, first.behind) == (MODEL, 9, 0, 0)
        assert not first.due
        put(one, "new", unit(rng, 2, DIM))
        until(lambda: found(one, pool).changed == 2)
        one.store.features["b"] = one.store.features["b"][:1]
        one.store.note("image_deleted", "b")
        until(lambda: found(one, pool).changed == 2 + 3 + 1)
        assert 0 < found(one, pool).age_s < 60
        one.close()
        one.store.registered.clear()
        assert backlogs(cast("Store", one.store), pool) == []
    finally:
        pool.close()


def test_without_a_snapshot_there_is_no_backlog(world: Make) -> None:
    one = world()
    pool = Pool(one.settings)
    assert backlogs(cast("Store", one.store), pool) == []
    pool.close()


@pytest.mark.parametrize(
    ("rows", "changed", "behind", "age", "due"),
    [
        (10, 0, 0, 0.0, False),
        (10, 1, 0, 5.0, False),
        (10, 1, 0, merge.AGE_S, True),
        (10, merge.CHANGED_MIN, 0, 1.0, True),
        (10_000_000, merge.CHANGED_MIN, 0, 1.0, False),
        (10_000_000, 1_000_000, 0, 1.0, True),
        (10, 1, 1, 1.0, True),
    ],
)
def test_due(rows: int, changed: int, behind: int, age: float, due: bool) -> None:
    seen = Backlog(model_id=MODEL, rows=rows, changed=changed, behind=behind, age_s=age)
    assert seen.due is due


def backlog(model_id: str, changed: int) -> Backlog:
    """Of a small snapshot, a moment after the first change."""
    return Backlog(model_id=model_id, rows=10, changed=changed, behind=0, age_s=1.0)


def queued(store: Memory, *found: Backlog) -> list[str]:
    """Models whose snapshots are queued; jobs that name no model are of the model `toy`."""
    jobs = merge.queue(cast("Store", store), found, default="toy")
    assert all(store.job(job.job_id).state == "queued" for job in jobs)
    assert {job.kind for job in jobs} <= {"snapshot"}
    return [json.loads(job.parameters)["model_id"] for job in jobs]


def work(store: Memory, parameters: dict[str, Any], **changes: Any) -> Job:
    """A snapshot job as it is stored."""
    job = submit(cast("Store", store), "snapshot", parameters)
    return store.put_job(replace(job, **changes))


def test_a_snapshot_is_queued_once_enough_has_changed_and_not_before() -> None:
    store = Memory()
    assert queued(store, backlog(MODEL, merge.CHANGED_MIN - 1)) == []
    assert queued(store) == []
    assert store.work == {}
    assert queued(store, backlog(MODEL, merge.CHANGED_MIN)) == [MODEL]
    assert len(store.work) == 1


@pytest.mark.parametrize("state", ["queued", "running"])
@pytest.mark.parametrize("parameters", [{"model_id": MODEL}, {"model": "toy"}, {}])
def test_none_is_queued_beside_one_on_its_way(state: str, parameters: dict[str, Any]) -> None:
    store = Memory()
    due = backlog(MODEL, merge.CHANGED_MIN)
    job = work(store, parameters, state=state)
    assert queued(store, due) == []
    store.put_job(replace(job, state="done", finished_at=datetime.now(UTC)))
    assert queued(store, due) == [MODEL]
    assert queued(store, due) == []


def test_a_job_of_yesterday_is_on_its_way_today() -> None:
    store = Memory()
    due = backlog(MODEL, merge.CHANGED_MIN)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    work(store, {"model_id": MODEL}, state="running", created_at=yesterday)
    assert queued(store, due) == []


def test_a_model_that_is_gone_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Memory()
    model = store.model

    def known(model_id: str) -> Model:
        if model_id == "gone@1":
            raise NotFoundError("no such model")
        return model(model_id)

    monkeypatch.setattr(store, "model", known)
    due = [backlog(name, merge.CHANGED_MIN) for name in ("gone@1", MODEL)]
    assert queued(store, *due) == [MODEL]


def test_models_and_kinds_of_jobs_do_not_hold_each_other_up() -> None:
    store = Memory()
    due = [backlog(name, merge.CHANGED_MIN) for name in (MODEL, "b@1", "c@1")]
    work(store, {"model_id": "b@1"}, state="running")
    submit(cast("Store", store), "extract", {"model": "toy"})
    submit(cast("Store", store), "analyse", {"model": "c"})
    assert queued(store, *due, backlog("d@1", 1)) == [MODEL, "c@1"]
    assert queued(store, *due) == []


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_after_a_failure_it_rests_before_another_try(state: str) -> None:
    store = Memory()
    due = [backlog(name, merge.CHANGED_MIN) for name in (MODEL, "b@1")]
    now = datetime.now(UTC)
    job = work(store, {"model_id": MODEL}, state=state, finished_at=now)
    assert queued(store, *due) == ["b@1"]
    earlier = now - timedelta(seconds=merge.AGAIN_S + 1)
    store.put_job(replace(job, finished_at=earlier))
    assert queued(store, *due) == [MODEL]


def test_a_failure_before_one_that_ended_well_is_no_reason_to_rest() -> None:
    store = Memory()
    now = datetime.now(UTC)
    work(store, {}, state="done", finished_at=now)
    work(store, {}, state="failed", finished_at=now - timedelta(seconds=5))
    assert queued(store, backlog(MODEL, merge.CHANGED_MIN)) == [MODEL]
