"""The cache of compiled code: another folder for other sources."""

import fcntl
import os
import select
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numba
import pytest

from analytics import compiler
from cql.settings import ROOT

ASK = """
import sys
from analytics.scanning import codes
from analytics import compiler
from analytics.graph import links
folder = compiler._folder("")
assert all(made._cache.cache_path.startswith(folder) for made in (codes._encode, links.product))
print(codes._encode._cache.cache_path)
print(folder)
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
    for name in ("scanning/heaps.py", "scanning/vectorcode.py"):
        with (tmp_path / "analytics" / name).open("a") as file:
            file.write("# changed\n")
        before, first = first, kept(tmp_path)[0]
        assert first != before


COMPILE = """
import numpy as np
from analytics.graph import links
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
    lock = Path(compiler._folder(str(tmp_path)), "analytics.graph.links.product.lock")
    with ExitStack() as stack, lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        children = [stack.enter_context(asking(tmp_path)) for _ in range(2)]
        outputs = []
        for child in children:
            stack.callback(child.kill)
            assert child.stdout is not None
            outputs.append(child.stdout)
            assert child.stdout.readline() == "asks\n"
        assert select.select(outputs, [], [], 2.0)[0] == []
        fcntl.flock(held, fcntl.LOCK_UN)
        misses = [int(child.communicate(timeout=60)[0]) for child in children]
    assert sorted(misses) == [0, 1]  # one reads what the other has kept


def test_threads_that_compile_the_same_and_calls_within_calls_do_not_stop_one_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

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
    monkeypatch.setattr(compiler, "PATIENCE_S", 0.2)
    function = SimpleNamespace(compile=lambda signature: signature, overloads={})
    compiler._once(function, tmp_path / "lock")
    with (tmp_path / "lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        began = time.monotonic()
        assert function.compile("float64(float64)") == "float64(float64)"
        waited = time.monotonic()
        assert waited - began >= 0.2
        monkeypatch.setattr(compiler, "PATIENCE_S", 60.0)
        assert function.compile("float64(float64)") == "float64(float64)"  # waited for once
        assert time.monotonic() - waited < 30.0


def test_what_is_compiled_already_waits_for_nobody(tmp_path: Path) -> None:
    made = {(numba.float64,): "code"}
    function = SimpleNamespace(compile=lambda _: "compiled", overloads=made)
    compiler._once(function, tmp_path / "lock")
    with (tmp_path / "lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert function.compile((numba.float64,)) == "compiled"


def test_where_no_lock_can_be_had_none_is_waited_for(tmp_path: Path) -> None:
    function = SimpleNamespace(compile=lambda signature: signature, overloads={})
    compiler._once(function, tmp_path / "no folder" / "lock")
    assert function.compile("float64(float64)") == "float64(float64)"
