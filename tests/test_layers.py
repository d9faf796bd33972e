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


def modules_of(package: str) -> dict[str, set[str]]:
    """Each module of a package, and the modules of the same package that it imports anywhere."""
    named = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in sorted((ROOT / package).rglob("*.py"))
        if "node_modules" not in path.parts and path.name != "__init__.py"
    }
    found: dict[str, set[str]] = {}
    for name, path in named.items():
        imported: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module)
                imported.update(f"{node.module}.{alias.name}" for alias in node.names)
        found[name] = imported & set(named)
    return found


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    left = modules_of(package)
    assert len(left) > 10
    while free := {name for name, needs in left.items() if not needs & set(left)}:
        left = {name: needs for name, needs in left.items() if name not in free}
    assert left == {}


@pytest.mark.parametrize("package", ["cql", "analytics", "dashboard"])
def test_torch_stays_in_extraction(package: str) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        if "node_modules" not in path.parts:
            assert not imports(path) & set(HEAVY), path


SCAN = {
    f"analytics.scanning.{name}"
    for name in (
        "scan", "survey", "sweep", "bounds", "codes", "products", "rescoring", "batch", "scores",
        "tops", "firstpass", "components",
    )
}  # fmt: skip
LINEAR = "analytics.learning.linear"
SCORERS = {"analytics.kernels.best_images", f"{LINEAR}.over_parts"}
"""The other calls that score rows of shards; their modules also hold what an asker needs."""
HOSTED = {
    "analytics/hosting/host.py",
    "analytics/hosting/holding.py",
    "analytics/shards.py",
    *(
        f"analytics/scanning/{name}.py"
        for name in (
            "batch", "scan", "ask", "firstpass", "survey", "sweep", "tops", "bounds", "processor",
            "products", "vectorcode", "rescoring", "scores", "blocks", "components",
        )
    ),
}  # fmt: skip
"""Modules that run inside tasks of Spark: the host and what it holds, the shards' builder."""


def scored_by(source: str) -> set[str]:
    """What a module's text names of all that scores rows of shards, however it is imported."""
    tree = ast.parse(source)
    named: set[str] = set()
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named.update(alias.name for alias in node.names)
            known.update({each.asname or each.name: each.name for each in node.names})
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            named.update({node.module, *(f"{node.module}.{each.name}" for each in node.names)})
            known.update(
                {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
            )
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            named.add(f"{known.get(owner, owner)}.{node.attr}")
    return named & (SCAN | SCORERS)


def test_vectors_are_scored_in_host_tasks_alone() -> None:
    """What scores is named by the modules that run inside host tasks, and by no other."""
    looked = 0
    for package in sorted(ALLOWED):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if "node_modules" not in path.parts and name not in HOSTED:
                looked += 1
                assert not scored_by(path.read_text(encoding="utf-8")), name
    assert looked > 100
    # The list above is no longer than it must be, and what is looked for is there.
    for name in sorted(HOSTED):
        assert scored_by((ROOT / name).read_text(encoding="utf-8")), name
    for name in SCORERS:
        module, call = name.rsplit(".", 1)
        assert f"def {call}(" in (ROOT / f"{module.replace('.', '/')}.py").read_text("utf-8")


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import analytics.scanning.scan", {"analytics.scanning.scan"}),
        ("import analytics.scanning.scan as s", {"analytics.scanning.scan"}),
        ("from analytics.scanning import heaps, scan", {"analytics.scanning.scan"}),
        ("def f():\n    from analytics.scanning.codes import encode", {"analytics.scanning.codes"}),
        ("from analytics.kernels import best_images", {"analytics.kernels.best_images"}),
        ("from analytics import kernels\nkernels.best_images()", {"analytics.kernels.best_images"}),
        (f"import {LINEAR} as l\nl.over_parts(1)", {f"{LINEAR}.over_parts"}),
        (f"import {LINEAR}\n{LINEAR}.over_parts", {f"{LINEAR}.over_parts"}),
        ("from analytics.kernels import Images, merge_images", set()),
        ("from analytics.learning.linear import Linear\nLinear.of", set()),
    ],
)
def test_the_search_for_scoring_sees_every_import(source: str, found: set[str]) -> None:
    assert scored_by(source) == found


def test_the_searcher_cannot_score() -> None:
    """A web worker, and whoever else searches, does not even load the compiled scan."""
    wanted = sorted(SCAN | {"numba", "sklearn", "analytics.hosting.host"})
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
        "SELECT ",
        "INSERT INTO",
        "UPDATE ",
        "DELETE FROM",
        "CREATE ",
        "ALTER ",
        "TRUNCATE ",
        "DROP ",
        "GRANT ",
        "BEGIN ",
    )
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
