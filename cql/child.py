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


def main() -> int:
    """Start the command, tell its pid, wait, and return its exit status."""
    lock = [int(sys.argv[1])] if sys.argv[1] != "-" else []
    parent = os.getppid()
    command = subprocess.Popen(
        sys.argv[2:],
        stdin=subprocess.DEVNULL,
        pass_fds=lock,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - this process has one thread
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


def die_with_parent() -> None:
    """Ask the kernel to end this process when the one that watches it is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


if __name__ == "__main__":
    sys.exit(main())
