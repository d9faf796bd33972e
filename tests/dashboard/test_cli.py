from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cql.errors import InputError, UnavailableError
from cql.settings import names
from dashboard import cli, commands, demo, options


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


COMMANDS = [
    ("demo",), ("serve",), ("ingest",), ("extract",), ("analyse",), ("search",), ("status",),
    ("evaluate",), ("delete",), ("settings",), ("train", "distil"), ("bench", "extract"),
    ("stock", "get"), ("stock", "set"), ("stock", "report"), ("export",), ("decisions", "replay"),
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(*command, "--help", capsys=capsys)
    assert code == 0
    assert "Example" in out
    assert "sightline" in out or "SIGHTLINE" in out


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom dashboard import cli\n"
        "try:\n    cli.main(['--help'])\nexcept SystemExit as e:\n    assert not e.code\n"
        "heavy = {'torch', 'pyspark', 'dash', 'numpy', 'cassandra', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert command[0] in done.stdout
    # Half a second on a quiet machine; tests share theirs.
    assert time.monotonic() - start < 30


def test_settings_are_listed_in_both_forms(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run("settings", "--json", capsys=capsys)
    assert code == 0
    assert [row["name"] for row in json.loads(out)] == list(names())
    code, out, _ = run("settings", capsys=capsys)
    assert code == 0
    assert "port" in out


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("ingest", "/no/such/folder"), 2, "must be a folder"),
        (("demo", "--photos", "/no/such/folder"), 2, "must be a folder"),
        (("status", "--set", "nonsense=1"), 2, "no setting is called 'nonsense'"),
        (("status", "--set", "port"), 2, "NAME=VALUE"),
        (("serve", "--port", "99999"), 2, "at most 65535"),
        (("delete",), 2, "one of --image and --listing"),
        (("nonsense",), 2, "No such command"),
    ],
)
def test_errors_are_one_clear_line(
    arguments: tuple[str, ...], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, out, err = run(*arguments, capsys=capsys)
    assert found == code
    assert text in err
    assert "Traceback" not in out + err


def test_a_fault_is_told_and_debug_shows_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_settings: object) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(commands, "status", broken)
    code, _, err = run("status", capsys=capsys)
    assert code == 70
    assert "RuntimeError: first line" in err
    assert "--debug" in err
    with pytest.raises(RuntimeError):
        cli.main(["status", "--debug"])


def test_an_unavailable_service_is_exit_code_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_settings: object) -> None:
        raise UnavailableError("Cassandra must answer: start it")

    monkeypatch.setattr(commands, "status", broken)
    assert run("status", capsys=capsys)[0] == 1


def test_status_of_a_collection_that_does_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run("status", "--json", "--data-dir", str(tmp_path), capsys=capsys)
    assert code == 1
    assert json.loads(out)["health"]["ready"] is False


def test_flags_beat_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SIGHTLINE_PORT", "8100")
    assert options.load(None, None).port == 8100
    assert options.load(tmp_path, ["port=8200"]).port == 8200
    assert options.load(tmp_path, None, port=8300).port == 8300
    assert options.load(tmp_path, None).data_dir == tmp_path


def test_each_photo_folder_has_a_collection_of_its_own(tmp_path: Path) -> None:
    first, second = tmp_path / "My photos", tmp_path / "b" / "My photos"
    first.mkdir()
    second.mkdir(parents=True)
    folders = {demo.folder_of(path) for path in (first, second)}
    assert len(folders) == 2
    assert all(folder and folder.name.startswith("my-photos-") for folder in folders)
    assert demo.folder_of(first) == demo.folder_of(first / ".." / "My photos")
    assert demo.folder_of(None) is None
    other = demo.folder_of(None, images=50)
    assert other is not None
    assert other.name == "sample-50-7"
    with pytest.raises(InputError, match="must be a folder"):
        demo.folder_of(tmp_path / "absent")


@pytest.mark.parametrize(
    ("flags", "asked"), [((), {}), (("--cluster-size", "40"), {"cluster_size": 40})]
)
def test_analyse_passes_a_size_of_clusters_on(
    flags: tuple[str, ...],
    asked: dict[str, int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[Any] = []

    def work(_: Any, given: list[Any]) -> list[Any]:
        steps.extend(given)
        return []

    monkeypatch.setattr("dashboard.commands.work", work)
    code, _, _ = run("analyse", "--data-dir", str(tmp_path), *flags, capsys=capsys)
    assert code == 0
    assert [step.kind for step in steps] == ["snapshot", "analyse"]
    known = {name: steps[1].parameters.get(name) for name in ("seed", "cluster_size")}
    assert known == {"seed": 1, "cluster_size": asked.get("cluster_size")}
