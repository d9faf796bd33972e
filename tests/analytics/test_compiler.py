"""The cache of compiled code: another folder for other sources."""

import fcntl
import os
import select
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from analytics import compiler
from cql.settings import ROOT

ASK = """
import sys
from analytics import codes, compiler, links
assert codes._encode._cache.cache_path == links.product._cache.cache_path
print(codes._encode._cache.cache_path)
print(compiler._folder(""))
"""


def kept(checkout: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", ASK], cwd=checkout, capture_output=True, text=True, check=True
    )
    return done.stdout.split("\n")[:2]


def test_compiled_code_is_kept_by_all_sources_it_is_made_of(tmp_path: Path) -> None:
    for name in ("analytics", "cql"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    first, folder = kept(tmp_path)
    assert first.startswith(folder)
    assert folder.startswith(str(tmp_path / "analytics" / "__pycache__" / "compiled-"))
    assert kept(tmp_path) == [first, folder]
    # What `codes` calls is built into it, though numba looks at the file of `codes` alone.
    for name in ("heaps.py", "vectorcode.py"):
        with (tmp_path / "analytics" / name).open("a") as file:
            file.write("# changed\n")
        before, first = first, kept(tmp_path)[0]
        assert first != before


COMPILE = """
import numpy as np
from analytics import links
print("asks", flush=True)
links.product(np.ones(3, np.float32), np.ones(3, np.float32))
print(sum(links.product.stats.cache_misses.values()), flush=True)
"""


def asking(cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", COMPILE],
        cwd=ROOT,
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_one_process_compiles_a_function_and_others_wait(tmp_path: Path) -> None:
    lock = Path(compiler._folder(str(tmp_path)), "analytics.links.product.lock")
    with lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        first = asking(tmp_path)
        assert first.stdout is not None
        assert first.stdout.readline() == "asks\n"
        assert select.select([first.stdout], [], [], 2.0)[0] == []
    misses = [int(first.communicate(timeout=60)[0])]
    misses.append(int(asking(tmp_path).communicate(timeout=60)[0].split()[-1]))
    assert misses == [1, 0]  # the second reads what the first has kept


def test_threads_that_compile_the_same_and_calls_within_calls_do_not_stop_one_another() -> None:
    @compiler.compiled
    def inner(value: float) -> float:
        return value + 1.0 if value > 100.0 else inner(value + 50.0)

    @compiler.compiled
    def outer(value: float) -> float:
        return float(inner(value) * 2.0)

    calls = [partial(inner, 1), partial(outer, 1), partial(outer, 1.0), partial(inner, 1.0)]
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(call) for call in calls]
        assert [each.result(timeout=100) for each in waiting] == [102.0, 204.0, 204.0, 102.0]


def test_a_process_that_is_stopped_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "PATIENCE_S", 0.1)
    function = SimpleNamespace(compile=lambda signature: signature)
    compiler._once(function, tmp_path / "lock")
    with (tmp_path / "lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert function.compile("float64(float64)") == "float64(float64)"


def test_where_no_lock_can_be_had_none_is_waited_for(tmp_path: Path) -> None:
    function = SimpleNamespace(compile=lambda signature: signature)
    compiler._once(function, tmp_path / "no folder" / "lock")
    assert function.compile("float64(float64)") == "float64(float64)"
