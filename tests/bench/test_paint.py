"""Waiting for a demo ends when it is ready, when it stops and when time is up."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.bench.paint import wait


def test_wait_returns_the_time_when_ready() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as demo:
        before = time.time()
        assert before <= wait(lambda: True, demo, 10, "page") <= time.time()


def test_a_demo_that_stopped_is_told_apart_from_a_slow_one() -> None:
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as demo:
        demo.wait()
        with pytest.raises(RuntimeError, match="stopped with 3 before page"):
            wait(lambda: False, demo, 10, "page")


def test_time_up_says_what_was_awaited() -> None:
    with (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as demo,
        pytest.raises(RuntimeError, match=r"no map tile within 0 s"),
    ):
        wait(lambda: False, demo, 0.2, "map tile")
