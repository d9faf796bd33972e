"""Steps in processes of their own: their results, errors, deaths, and being stopped."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from analytics import analysis
from analytics.making import apart, kept, steps
from analytics.making.apart import Order
from analytics.making.steps import Step
from cql.errors import ConflictError, SightlineError
from cql.progress import CancelledError, Progress, silent
from tests.analytics.conftest import World
from tests.analytics.making.test_steps import contents
from tests.analytics.test_analysis import planted, run
from tests.waiting import until


@dataclass(frozen=True)
class Numbers:
    values: NDArray[np.int64]


def act(how: str, progress: Progress, *read: Numbers) -> Numbers:
    sys.stdout.write("a library that talks\n")
    progress("any name", 1, 3, how)
    if how == "conflict":
        raise ConflictError("two of them", expected="1", found="2")
    if how == "bug":
        raise ZeroDivisionError("a bug")
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    while how == "long":
        time.sleep(1)
    return Numbers(np.arange(5) + sum(int(each.values.sum()) for each in read))


def order(folder: Path, how: str, *reads: Any) -> Order:
    return Order(name="act", make=act, context=how, reads=reads, path=folder / how, key="k")


def test_a_process_keeps_its_result_and_tells_its_progress(tmp_path: Path) -> None:
    kept.save(tmp_path / "given", Numbers(np.array([7])), key="g")
    told: list[Any] = []
    apart.carry_out(
        order(tmp_path, "fine", (tmp_path / "given", Numbers, "g")),
        lambda *given: told.append(given),
    )
    found = kept.load(tmp_path / "fine", Numbers, key="k")
    assert found.values.tolist() == [7, 8, 9, 10, 11]
    assert ("act", 1, 3, "fine") in told


def test_errors_come_back_and_deaths_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="two of them"):
        apart.carry_out(order(tmp_path, "conflict"), silent)
    with pytest.raises(SightlineError, match="ZeroDivisionError: a bug"):
        apart.carry_out(order(tmp_path, "bug"), silent)
    with pytest.raises(SightlineError, match="SIGKILL"):
        apart.carry_out(order(tmp_path, "die"), silent)
    assert list(tmp_path.iterdir()) == []


def test_a_call_that_never_ends_is_stopped_at_once(tmp_path: Path) -> None:
    def stop(step: str, done: int, total: int, message: str = "") -> None:
        if done:
            stopped.append(time.monotonic())
            raise CancelledError("enough")

    stopped: list[float] = []
    with pytest.raises(CancelledError):
        apart.carry_out(order(tmp_path, "long"), stop)
    assert time.monotonic() - stopped[0] < 20
    mine = psutil.Process()
    name = "analytics.making.apart"
    until(lambda: not [child for child in mine.children() if name in " ".join(child.cmdline())])


def test_a_map_is_the_same_wherever_its_steps_run(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = planted(world), planted(world)
    wanted = contents(one, run(one))
    ran: list[str] = []
    carry_out = apart.carry_out

    def counted(given: Order, progress: Progress) -> None:
        ran.append(given.name)
        carry_out(given, progress)

    monkeypatch.setattr(apart, "carry_out", counted)
    monkeypatch.setattr(steps, "APART_ROWS", 10)
    # A fresh process compiles UMAP for half a minute: one step that needs none is enough here.
    only = tuple(replace(step, apart=step.name == "clusters") for step in analysis.STEPS)
    assert [step.name for step in analysis.STEPS if step.apart] == [
        "layout",
        "space",
        "tree",
        "clusters",
        "spots",
        "duplicates",
    ]
    monkeypatch.setattr(analysis, "STEPS", only)
    assert contents(two, run(two)) == wanted
    assert ran == ["clusters"]


def test_only_what_is_apart_is(tmp_path: Path) -> None:
    own: Step[str] = Step(
        name="own", make=lambda *_: Numbers(np.array([os.getpid()])), writes=Numbers
    )
    found = steps.run([own], "", tmp_path, silent, rows=10**9)
    assert found["own"].values.tolist() == [os.getpid()]
