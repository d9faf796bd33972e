"""Jobs: claimed once, followed, cancelled, taken over."""

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import uuid4

import pytest

from analytics.forecast import Forecast, JobStep, left_of_step
from analytics.jobs import Handler, Runner, again, steps, submit, wait
from analytics.making.steps import KEPT
from cql.errors import InputError, UnavailableError
from cql.progress import CancelledError, Progress
from cql.records import Job
from cql.store import Store
from tests.analytics.conftest import Memory
from tests.waiting import until


@pytest.fixture
def memory() -> Memory:
    return Memory()


def runner(memory: Memory, handlers: Mapping[str, Handler], **changes: Any) -> Runner:
    return Runner(cast("Store", memory), handlers, uuid4(), **changes)


def put(memory: Memory, kind: str = "work", parameters: Mapping[str, Any] | None = None) -> Job:
    return submit(cast("Store", memory), kind, parameters)


def test_a_job_runs_with_its_parameters_and_progress(memory: Memory) -> None:
    seen: list[Any] = []

    def handler(parameters: Mapping[str, Any], progress: Progress) -> None:
        seen.append(dict(parameters))
        progress("first", 1, 2)
        progress("second", 2, 2, "nearly")

    job = put(memory, parameters={"b": 1, "a": [2]})
    assert job.parameters == '{"a":[2],"b":1}'
    done = runner(memory, {"work": handler}).run_once()
    assert done is not None
    assert (done.state, done.step, done.done, done.total) == ("done", "second", 2, 2)
    assert seen == [{"a": [2], "b": 1}]
    assert runner(memory, {"work": handler}).run_once() is None


def test_jobs_run_oldest_first_and_only_of_known_kinds(memory: Memory) -> None:
    order: list[int] = []
    for number in range(3):
        put(memory, parameters={"n": number})
    other = put(memory, "unknown")
    memory.work = dict(reversed(memory.work.items()))
    run = runner(memory, {"work": lambda parameters, _: order.append(parameters["n"])})
    while run.run_once():
        pass
    assert order == [0, 1, 2]
    assert memory.job(other.job_id).state == "queued"


def test_no_job_begins_beside_what_a_cancelled_one_left(memory: Memory) -> None:
    job, left = put(memory), [True, True, False]
    run = runner(memory, {"work": lambda *_: None}, busy=lambda: left.pop(0))
    assert (run.run_once(), run.run_once()) == (None, None)
    assert memory.job(job.job_id).state == "queued"
    done = run.run_once()
    assert done is not None
    assert done.state == "done"


def test_two_runners_never_run_one_job_twice(memory: Memory) -> None:
    ran: list[int] = []
    for number in range(20):
        put(memory, parameters={"n": number})

    def work() -> None:
        run = runner(memory, {"work": lambda parameters, _: ran.append(parameters["n"])})
        while run.run_once():
            pass

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ran) == list(range(20))


@pytest.mark.parametrize("error", [InputError("give more"), RuntimeError("a bug")])
def test_an_error_is_recorded(memory: Memory, error: Exception) -> None:
    def handler(_: Mapping[str, Any], __: Progress) -> None:
        raise error

    put(memory)
    done = runner(memory, {"work": handler}).run_once()
    assert done is not None
    assert done.state == "failed"
    assert str(error) in done.error


def test_a_cancelled_job_stops_at_its_next_progress(memory: Memory) -> None:
    steps: list[int] = []
    job = put(memory)

    def handler(_: Mapping[str, Any], progress: Progress) -> None:
        for step in range(1000):
            if step == 3:
                memory.cancel_job(job.job_id)
            progress("step", step, 1000)
            steps.append(step)
            time.sleep(0.01)

    done = runner(memory, {"work": handler}).run_once()
    assert done is not None
    assert done.state == "cancelled"
    assert 3 <= len(steps) < 1000


def test_a_silent_job_is_taken_over_and_its_owner_stops(memory: Memory) -> None:
    job = put(memory)
    long_ago = datetime.now(UTC) - timedelta(seconds=60)
    memory.work[job.job_id] = replace(
        job, state="running", owner=uuid4(), heartbeat_at=long_ago, started_at=long_ago
    )
    done = runner(memory, {"work": lambda *_: None}).run_once()
    assert done is not None
    assert done.state == "done"


def test_a_job_with_a_heartbeat_is_left_alone(memory: Memory) -> None:
    job = put(memory)
    memory.work[job.job_id] = replace(
        job, state="running", owner=uuid4(), heartbeat_at=datetime.now(UTC)
    )
    assert runner(memory, {"work": lambda *_: None}).run_once() is None


def test_who_lost_a_job_does_not_end_it(memory: Memory) -> None:
    other = uuid4()

    def handler(_: Mapping[str, Any], progress: Progress) -> None:
        memory.work[job.job_id] = replace(memory.work[job.job_id], owner=other)
        with pytest.raises(CancelledError):
            progress("late", 1, 2)
        progress("later", 2, 2)

    job = put(memory)
    runner(memory, {"work": handler}).run_once()
    assert memory.job(job.job_id).state == "running"
    assert memory.job(job.job_id).owner == other


def test_the_heartbeat_goes_on_while_a_handler_is_busy(memory: Memory) -> None:
    beats: list[datetime | None] = []

    def handler(_: Mapping[str, Any], __: Progress) -> None:
        def beaten() -> bool:
            beats.append(memory.job(job.job_id).heartbeat_at)
            return len(set(beats)) >= 3

        until(beaten)

    job = put(memory)
    runner(memory, {"work": handler}, stale_s=0.4).run_once()
    assert len(set(beats)) >= 3


def test_progress_is_written_at_most_a_few_times_a_second(memory: Memory) -> None:
    writes: list[float] = []
    write = memory.update_job

    def counted(*args: Any, **values: Any) -> None:
        writes.append(time.monotonic())
        write(*args, **values)

    memory.update_job = counted  # type: ignore[method-assign]

    def handler(_: Mapping[str, Any], progress: Progress) -> None:
        for step in range(5000):
            progress("step", step, 5000)

    put(memory)
    began = time.monotonic()
    runner(memory, {"work": handler}).run_once()
    assert len(writes) <= 3 + 2 * (time.monotonic() - began + 1)


def test_wait_sees_changes_once_and_ends(memory: Memory) -> None:
    job = put(memory)
    run = runner(memory, {"work": lambda _, progress: progress("only", 1, 1)})
    seen: list[str] = []
    thread = threading.Timer(0.1, run.run_once)
    thread.start()
    done = wait(
        cast("Store", memory),
        job.job_id,
        lambda now: seen.append(now.state),
        poll_s=0.01,
        timeout_s=5,
    )
    thread.join()
    assert done.state == "done"
    assert seen[0] == "queued"
    assert seen[-1] == "done"
    assert seen.count("queued") == 1


def test_wait_gives_up(memory: Memory) -> None:
    job = put(memory)
    with pytest.raises(UnavailableError, match="engine"):
        wait(cast("Store", memory), job.job_id, timeout_s=0.05, poll_s=0.01)


def test_run_forever_stops(memory: Memory) -> None:
    stop = threading.Event()
    ran: list[int] = []
    run = runner(memory, {"work": lambda *_: ran.append(1)})
    thread = threading.Thread(target=run.run_forever, args=(stop,), kwargs={"poll_s": 0.01})
    thread.start()
    put(memory)
    until(lambda: ran == [1])
    stop.set()
    thread.join(2)
    assert not thread.is_alive()


def test_each_step_has_its_row_and_the_job_its_cost(memory: Memory) -> None:
    def handler(_: Mapping[str, Any], progress: Progress) -> None:
        progress("read", 0, 4)
        progress("read", 4, 4)
        progress("think", 0, 4)
        until_s = time.monotonic() + 0.3
        while time.monotonic() < until_s:
            progress("think", 2, 4)
        raise InputError("too hard")

    job = put(memory)
    done = runner(memory, {"work": handler}).run_once()
    assert done is not None
    assert [(each.step, each.state, each.rows) for each in steps(done)] == [
        ("read", "done", 4),
        ("think", "failed", 2),
    ]
    assert steps(done)[1].seconds >= 0.3
    assert done.worked_s >= 0.3
    assert 0 < done.cpu_s < 60
    assert done.peak_bytes > 10**7
    assert done.left_s is None
    with pytest.raises(InputError, match="failed or was cancelled"):
        again(cast("Store", memory), put(memory).job_id)
    assert again(cast("Store", memory), job.job_id).kind == "work"


def test_a_job_taken_over_keeps_what_was_done_and_spent(memory: Memory) -> None:
    def first(_: Mapping[str, Any], progress: Progress) -> None:
        progress("read", 0, 4)
        time.sleep(0.1)
        progress("read", 4, 4)
        progress("think", 1, 4)
        raise SystemExit(0)

    def second(_: Mapping[str, Any], progress: Progress) -> None:
        # As `steps.run` tells it: whether it was kept is known when its file has been checked.
        progress("read", 0, 4)
        progress("read", 4, 4, KEPT)
        progress("think", 4, 4)

    job = put(memory)
    with pytest.raises(SystemExit):
        runner(memory, {"work": first}).run_once()
    left = memory.job(job.job_id)
    assert (left.state, [each.state for each in steps(left)]) == ("running", ["done", "stopped"])
    long_ago = datetime.now(UTC) - timedelta(seconds=60)
    memory.work[job.job_id] = replace(left, heartbeat_at=long_ago)
    done = runner(memory, {"work": second}).run_once()
    assert done is not None
    assert [(each.step, each.state) for each in steps(done)] == [
        ("read", "kept"),
        ("think", "done"),
    ]
    assert steps(done)[0].seconds == steps(left)[0].seconds >= 0.1
    assert done.worked_s > left.worked_s


def test_a_try_that_ends_while_it_looks_forgets_nothing(memory: Memory) -> None:
    def first(_: Mapping[str, Any], progress: Progress) -> None:
        progress("read", 0, 4)
        time.sleep(0.1)
        progress("read", 4, 4)
        raise SystemExit(0)

    def second(_: Mapping[str, Any], progress: Progress) -> None:
        progress("read", 0, 4)
        raise SystemExit(0)

    def third(_: Mapping[str, Any], progress: Progress) -> None:
        progress("read", 0, 4)
        progress("read", 4, 4, KEPT)

    job = put(memory)
    took = []
    for handler in (first, second):
        with pytest.raises(SystemExit):
            runner(memory, {"work": handler}).run_once()
        left = memory.job(job.job_id)
        took.append(steps(left)[0].seconds)
        long_ago = datetime.now(UTC) - timedelta(seconds=60)
        memory.work[job.job_id] = replace(left, heartbeat_at=long_ago)
    done = runner(memory, {"work": third}).run_once()
    assert done is not None
    assert steps(done)[0].state == "kept"
    assert steps(done)[0].seconds == took[1] == took[0] >= 0.1


def test_a_cancelled_step_is_told(memory: Memory) -> None:
    def handler(_: Mapping[str, Any], progress: Progress) -> None:
        progress("read", 1, 4)
        raise CancelledError("enough")

    put(memory)
    done = runner(memory, {"work": handler}).run_once()
    assert done is not None
    assert [each.state for each in steps(done)] == ["cancelled"]


def row(step: str, state: str, seconds: float, rows: int) -> JobStep:
    return JobStep(step=step, state=state, seconds=seconds, rows=rows)


def test_time_left_comes_from_earlier_jobs() -> None:
    before = [row("a", "done", 10, 100), row("b", "done", 20, 2), row("c", "done", 30, 100)]
    found = Forecast([before])
    # Twice the rows, at the same pace.
    assert found.left([row("a", "running", 0, 0)], total=200) == pytest.approx(120)
    assert found.left([row("a", "running", 5, 0)], total=200) == pytest.approx(115)
    # Half of a took 30 s: the step goes by its own pace, the rest by that of what is finished.
    assert found.left([row("a", "running", 30, 100)], total=200) == pytest.approx(30 + 100)
    slow = [row("a", "done", 40, 200), row("b", "running", 0, 0)]
    assert found.left(slow, total=2) == pytest.approx(2 * 100)
    kept = [row("a", "kept", 0, 200), row("b", "kept", 0, 2), row("c", "running", 0, 0)]
    assert found.left(kept, total=200) == pytest.approx(60)
    stopped = [row("a", "kept", 0, 200), row("c", "stopped", 9, 1), row("b", "running", 0, 0)]
    assert found.left(stopped, total=2) == pytest.approx(100)
    assert found.left([row("new", "running", 1, 0)], total=0) == pytest.approx(60)


@pytest.mark.parametrize(
    ("done", "total", "rate", "left"),
    [
        (1, 500, 1 / 18, None),  # one unit, however long it took
        (24, 500, 2.0, None),  # less than a twentieth
        (25, 500, 2.0, 237.5),
        (25, 500, 5.5, None),  # not five seconds yet
        (100, 1_000_000, 10.0, 99_990.0),  # a hundred are enough of many
        (99, 1_000_000, 10.0, None),
        (2, 3, 0.1, 10.0),
        (0, 10, 0.0, None),
        (0, 0, 0.0, None),
        (7, 0, 1.0, None),
        (10, 10, 1.0, None),
    ],
)
def test_time_left_of_a_step_is_told_once_it_rests_on_enough(
    done: int, total: int, rate: float, left: float | None
) -> None:
    assert left_of_step(done, total, rate) == (left if left is None else pytest.approx(left))


def test_a_moment_of_work_does_not_scale_what_earlier_jobs_say() -> None:
    before = [row("a", "done", 0.1, 100), row("b", "done", 20, 100)]
    found = Forecast([before])
    # Five times as long as foreseen, but half a second; then long enough to believe it.
    steps = [row("a", "done", 0.5, 100), row("b", "running", 0, 0)]
    assert found.left(steps, total=100) == pytest.approx(20)
    steps = [row("a", "done", 50, 100), row("b", "running", 0, 0)]
    assert found.left(steps, total=100) == pytest.approx(100)
    # A tenth of b in a second is no pace yet, in ten it is.
    assert found.left([row("b", "running", 1, 20)], total=100) == pytest.approx(19.1)
    assert found.left([row("b", "running", 10, 20)], total=100) == pytest.approx(40.1)


def test_time_left_without_history_is_not_known() -> None:
    assert Forecast([]).left([row("a", "running", 1, 1)], total=2) is None
    assert Forecast([[row("a", "kept", 0, 1)]]).left([row("a", "running", 1, 1)], total=2) is None
    assert Forecast([[row("a", "done", 1, 1)]]).left([], total=2) is None


def test_the_median_of_earlier_jobs_counts() -> None:
    runs = [[row("a", "done", seconds, 10)] for seconds in (4.0, 400.0, 5.0)]
    assert Forecast(runs).left([row("a", "running", 0, 0)], total=10) == pytest.approx(5)


def test_a_running_job_says_what_is_left(memory: Memory) -> None:
    def handler(_: Mapping[str, Any], progress: Progress) -> None:
        progress("a", 0, 10)
        progress("a", 10, 10)
        progress("b", 0, 10)
        seen.append(memory.job(job.job_id).left_s)

    seen: list[float | None] = []
    old = put(memory)
    text = json.dumps([asdict(row("a", "done", 1, 10)), asdict(row("b", "done", 60, 10))])
    memory.work[old.job_id] = replace(old, state="done", steps=text)
    job = put(memory)
    runner(memory, {"work": handler}).run_once()
    assert seen[0] is not None
    assert 10 < seen[0] <= 60
