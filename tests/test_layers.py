"""Imports go one way; heavy libraries stay behind their door."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {
    "cql": {"cql"},
    "analytics": {"analytics", "cql"},
    "extraction": {"extraction", "cql"},
    "dashboard": {"dashboard", "analytics", "extraction", "cql"},
}
HEAVY = ("torch", "timm", "torchvision")


def imports(path: Path) -> set[str]:
    """Top-level names that a file imports anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_follow_the_arrows(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = {
        str(path.relative_to(ROOT)): sorted(imports(path) & (set(ALLOWED) - ALLOWED[package]))
        for path in files
        if "node_modules" not in path.parts and imports(path) & (set(ALLOWED) - ALLOWED[package])
    }
    assert wrong == {}


@pytest.mark.parametrize("package", ["cql", "analytics", "dashboard"])
def test_torch_stays_in_extraction(package: str) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        if "node_modules" not in path.parts:
            assert not imports(path) & set(HEAVY), path


SCAN = {
    "analytics.scan", "analytics.bounds", "analytics.codes", "analytics.batch", "analytics.scores",
}  # fmt: skip
HOSTED = {
    "host", "batch", "scan", "bounds", "scores", "blocks", "holding", "shards", "kernels", "hosts",
}  # fmt: skip


def test_vectors_are_scored_in_host_tasks_alone() -> None:
    """The scan is imported by the modules that run inside host tasks, and by no other."""
    for package in sorted(ALLOWED):
        for path in sorted((ROOT / package).rglob("*.py")):
            if "node_modules" in path.parts or (package == "analytics" and path.stem in HOSTED):
                continue
            tree = ast.parse(path.read_text(encoding="utf-8"))
            named = {
                name
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and node.module and node.level == 0
                for name in (node.module, *(f"{node.module}.{one.name}" for one in node.names))
            }
            assert path.stem in {"codes", "bounds"} or not named & SCAN, path


def test_the_searcher_cannot_score() -> None:
    """A web worker, and whoever else searches, does not even load the compiled scan."""
    wanted = sorted(SCAN | {"numba", "sklearn", "analytics.host"})
    code = (
        "import sys, analytics.search, dashboard.services, dashboard.web; "
        f"print([name for name in {wanted!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_callbacks_hold_no_storage_or_arrays() -> None:
    banned = {"cassandra", "pyspark", "pandas", "numpy", "cql"}
    for path in sorted((ROOT / "dashboard" / "callbacks").glob("*.py")):
        wrong = imports(path) & banned
        if wrong == {"cql"}:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
            # Errors of the one root are what a callback turns into a message.
            assert {name for name in modules if name and name.startswith("cql")} <= {"cql.errors"}
            continue
        assert not wrong, path


@pytest.mark.parametrize("module", ["dashboard.cli", "dashboard.app", "dashboard.services"])
def test_web_and_command_line_start_without_torch_and_spark(module: str) -> None:
    code = (
        f"import sys, {module}; "
        "print([name for name in ('torch', 'pyspark', 'timm', 'umap', 'hdbscan') "
        "if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_cql_stands_in_one_module() -> None:
    verbs = (
        "SELECT ", "INSERT INTO", "UPDATE ", "DELETE FROM", "CREATE ", "ALTER ", "TRUNCATE ",
        "DROP ", "GRANT ", "BEGIN ",
    )  # fmt: skip
    homes = {"cql/statements.py"}
    for package in ALLOWED:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            if name in homes or "node_modules" in path.parts:
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    assert not node.value.lstrip().startswith(verbs), f"{name}: {node.value[:60]}"


def test_only_the_renderer_knows_where_the_truth_lies() -> None:
    naming = set()
    for package in ALLOWED:
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text(encoding="utf-8") if "node_modules" not in path.parts else ""
            if "truth.csv" in text or '"truth"' in text:
                naming.add(str(path.relative_to(ROOT)))
    assert naming == {"extraction/sample.py"}
