"""The process that watches a command: what the command gets from it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cql import child
from cql.settings import ROOT


@pytest.mark.skipif(sys.platform != "linux", reason="what is asked of the kernel is Linux's")
def test_a_command_wakes_up_less_often() -> None:
    command = ["cat", "/proc/self/timerslack_ns"]
    with subprocess.Popen(
        [sys.executable, "-I", "-S", str(ROOT / "cql" / "child.py"), "-", *command],
        stdin=subprocess.PIPE,  # the command ends with it
        stdout=subprocess.PIPE,
        text=True,
    ) as watcher:
        assert watcher.stdout is not None
        # The command's process id and what the command says, whichever comes first.
        said = watcher.stdout.read().split()
    assert len(said) == 2
    assert str(child.SLACK_NS) in said
