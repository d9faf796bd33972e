"""The cache of compiled code: another folder for other sources."""

import shutil
import subprocess
import sys
from pathlib import Path

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
