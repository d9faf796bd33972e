"""Executors of a Spark cluster are killed again and again, and one falls silent, in mid-query.

`KILLS` in the environment says how often: 3 by default, 200 in the first round of `make soak`.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Iterator

import psutil
import pytest

from analytics.search import Request
from cql.settings import Settings
from cql.spark import LOST_S
from tests.cluster import Answer, Installation, Users
from tests.conftest import QUICK
from tests.naive import listings_among
from tests.waiting import until

pytestmark = [
    pytest.mark.service,
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]

KILLS = int(os.environ.get("KILLS", "3"))
BACK_S = 120.0
"""Seconds from a kill to right answers: Spark gives a task up after four of them, and its whole
job then starts again."""


SILENT_S = LOST_S + BACK_S
"""Seconds from the silence of an executor to right answers."""

Wanted = dict[str, tuple[Request, Answer]]


@pytest.fixture(scope="module")
def installation(
    cassandra_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    settings = cassandra_settings.replace(spark_memory_mb=512)
    # One file system: here executors are lost, not the disks of machines, nor nodes of Cassandra.
    folder = tmp_path_factory.mktemp("cluster")
    running = Installation(settings, folder, nodes=1, disks=False, options=[QUICK])
    yield running
    running.close()


@pytest.fixture(scope="module")
def wanted(installation: Installation) -> Wanted:
    images, vectors = installation.images, installation.vectors
    asked = {row: vectors[[row]] for row in (3, 77, 200)}
    return {
        f"row {row}": (Request(vectors=query, k=100), listings_among(images, vectors, query, 100))
        for row, query in asked.items()
    }


@pytest.fixture
def users(installation: Installation, wanted: Wanted) -> Iterator[Users]:
    until(lambda: bool(installation.hosts()), seconds=BACK_S)
    with Users(installation, wanted) as asking:
        asking.seconds_to_right(time.monotonic(), within_s=60)
        yield asking
    assert not asking.wrong
    assert installation.engine_lives(), installation.said()
    for outcome in asking.outcomes:
        assert outcome.right or "try again" in outcome.error, outcome


@pytest.mark.timeout(900 + KILLS * (BACK_S + 30))
def test_every_answer_is_right_however_often_executors_are_killed(
    installation: Installation, users: Users
) -> None:
    chance = random.Random(5)
    for _ in range(KILLS):
        until(lambda: bool(installation.hosts()), seconds=BACK_S)
        installation.kill_executor(pick=chance.randrange(2))
        users.seconds_to_right(time.monotonic(), within_s=BACK_S)


def test_an_executor_that_falls_silent_is_replaced(
    installation: Installation, users: Users
) -> None:
    """As of a machine whose network is cut: nothing is closed, nothing answers."""
    family = installation.executor()
    for process in family:
        process.suspend()
    try:
        users.seconds_to_right(time.monotonic(), within_s=SILENT_S)
    finally:
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
