"""Run one command and end it when the parent goes away: `python child.py COMMAND...`.

Standard input is the lifeline: its other end is held by the parent alone, so it ends however the
parent dies. The program is run by path, in isolated mode, and imports nothing of Sightline.
Its first output line is the process id of the command.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
from types import FrameType

GRACE_S = 25.0
"""Seconds that the command has to end after SIGTERM."""

SLACK_NS = 500_000
"""How late a timed sleep of the command may end, usually 50,000. Idle threads of Cassandra sleep
for 10,000 at a time and look for work, for a while after each request: that was most of what a
query cost it, on cores that a scan needs. No read takes longer for it. Programs of Spark that
`deploy.cluster` starts have it, too: they wait for nothing so short."""


def main() -> int:
    """Start the command, tell its pid, wait, and return its exit status."""
    lock = [int(sys.argv[1])] if sys.argv[1] != "-" else []
    parent = os.getppid()
    command = subprocess.Popen(
        sys.argv[2:],
        stdin=subprocess.DEVNULL,
        pass_fds=lock,
        preexec_fn=_prepare,  # noqa: PLW1509 - this process has one thread
    )

    def stop(_signal: int, _frame: FrameType | None) -> None:
        command.terminate()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.write(1, f"{command.pid}\n".encode())
    os.close(1)
    while command.poll() is None:
        ended, _, _ = select.select([0], [], [], 1.0)
        if ended or os.getppid() != parent:
            command.terminate()
            break
    try:
        return command.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        command.kill()
        return command.wait()


def _prepare() -> None:
    """Ask the kernel to end this process with its watcher, and to let timed sleeps end late."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        libc.prctl(29, ctypes.c_ulong(SLACK_NS))  # PR_SET_TIMERSLACK


if __name__ == "__main__":
    sys.exit(main())
