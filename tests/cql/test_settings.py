"""The settings table: precedence, conversion, bounds, and that nothing unknown passes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from cql.errors import InputError
from cql.settings import PREFIX, ROOT, Settings, names, table


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "sightline.toml"
    path.write_text('port = 1001\nkeyspace = "from_file"\ncassandra_hosts = ["a", "b"]\n')
    return path


def test_flags_win_over_environment_over_file_over_default(config: Path) -> None:
    env = {"SIGHTLINE_PORT": "1002", "SIGHTLINE_BATCH_SIZE": "7", "PATH": "/bin"}
    found = Settings.load({"port": 1003}, environ=env, config=config)
    assert (found.port, found.batch_size, found.keyspace) == (1003, 7, "from_file")
    assert found.cassandra_hosts == ("a", "b")
    assert Settings.load(environ=env, config=config).port == 1002
    assert Settings.load(environ={}, config=config).port == 1001
    assert found.host == Settings().host


def test_the_file_is_named_by_the_environment(config: Path) -> None:
    assert Settings.load(environ={"SIGHTLINE_CONFIG": str(config)}).port == 1001
    with pytest.raises(InputError, match="must exist"):
        Settings.load(environ={"SIGHTLINE_CONFIG": str(config) + "x"})


@pytest.mark.parametrize("source", ["environment", "file", "flag"])
def test_an_unknown_key_is_refused(source: str, tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text("prot = 1\n" if source == "file" else "")
    env = {"SIGHTLINE_PROT": "1"} if source == "environment" else {}
    flags = {"prot": 1} if source == "flag" else {}
    with pytest.raises(InputError, match="no setting is called 'prot'; the settings are data_dir"):
        Settings.load(flags, environ=env, config=path)


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text("port: 1")
    with pytest.raises(InputError, match="must be TOML"):
        Settings.load(environ={}, config=path)


@pytest.mark.parametrize("spec", dataclasses.fields(Settings), ids=lambda spec: spec.name)
def test_bounds_hold(spec: dataclasses.Field[object]) -> None:
    low, high, choices = (spec.metadata[name] for name in ("low", "high", "choices"))
    kind: Any = type(spec.default)
    for bound, step, word in ((low, -1, "at least"), (high, 1, "at most")):
        if bound is not None:
            assert getattr(Settings(**{spec.name: kind(bound)}), spec.name) == bound
            with pytest.raises(InputError, match=f"{spec.name} must be {word}"):
                Settings(**{spec.name: kind(bound) + step})
    if choices:
        with pytest.raises(InputError, match="must be one of"):
            Settings().replace(**{spec.name: "no such choice"})
    assert spec.metadata["help"].endswith(".")


@pytest.mark.parametrize(
    ("key", "value"), [("port", "http"), ("query_deadline_s", ""), ("batch_size", "6.5")]
)
def test_a_value_of_another_type_is_refused(key: str, value: str) -> None:
    with pytest.raises(InputError, match=f"{key} must be"):
        Settings.load({key: value}, environ={}, config=None)


@pytest.mark.parametrize(
    "line",
    ["port = 8050.9", "port = true", "port = [1]", "keyspace = 5", "log_level = true",
     "query_deadline_s = false"],
)  # fmt: skip
def test_a_file_value_of_another_type_is_refused(line: str, tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(line)
    with pytest.raises(InputError, match=f"{line.partition(' ')[0]} must be"):
        Settings.load(environ={}, config=path)


def test_whole_numbers_pass_in_either_form(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text("port = 8050.0\nquery_deadline_s = 3")
    found = Settings.load(environ={}, config=path)
    assert (found.port, found.query_deadline_s) == (8050, 3.0)


@pytest.mark.parametrize("name", ["", "Photos", "my-photos", "1st", "a; DROP", "a" * 41])
def test_a_keyspace_that_cassandra_refuses_is_refused_here(name: str) -> None:
    with pytest.raises(InputError, match="keyspace must match"):
        Settings(keyspace=name)
    assert Settings(keyspace="a" * 40).results_keyspace == "a" * 40 + "_results"


def test_a_bound_is_not_passed_by_nan() -> None:
    with pytest.raises(InputError, match="query_deadline_s"):
        Settings(query_deadline_s=float("nan"))


def test_the_environment_of_a_child_says_the_same(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path / "with space",
        cassandra_hosts=("a", "b"),
        cassandra_password="s e=c,ret",
        query_deadline_s=2.5,
    )
    assert Settings.load(environ=settings.environment()) == settings


def test_the_table_is_whole_and_names_no_machine() -> None:
    rows = table()
    assert tuple(row["name"] for row in rows) == names()
    assert all(row["variable"] == PREFIX + row["name"].upper() for row in rows)
    assert str(ROOT) not in str(rows)


def test_secrets_are_not_shown() -> None:
    assert "hidden7" not in repr(Settings(cassandra_password="hidden7"))


def test_settings_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]
    assert Settings().replace(port=1).port == 1
    with pytest.raises(InputError, match="port"):
        Settings().replace(port=-1)
