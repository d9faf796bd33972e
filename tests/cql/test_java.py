"""Which Java is taken, tried with programs that only tell a version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cql import java
from cql.errors import UnavailableError


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    java.java_home.cache_clear()
    yield
    java.java_home.cache_clear()


def a_java(folder: Path, version: str) -> Path:
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2026-01-01' >&2\n")
    program.chmod(0o755)
    return folder


def only(monkeypatch: pytest.MonkeyPatch, *homes: Path) -> None:
    monkeypatch.setattr(java, "_candidates", lambda: iter(homes))


def test_the_first_17_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = a_java(tmp_path / "a 17", "17.0.9")
    old, later = a_java(tmp_path / "8", "1.8.0_402"), a_java(tmp_path / "17b", "17")
    only(monkeypatch, old, tmp_path / "none", wanted, later)
    assert java.java_home() == wanted
    assert java.java() == wanted / "bin" / "java"
    child = java.environment()
    assert child["JAVA_HOME"] == str(wanted)
    assert child["PATH"].startswith(f"{wanted / 'bin'}:")


def test_what_was_seen_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, a_java(tmp_path / "21", "21.0.1"), a_java(tmp_path / "8", "1.8.0"), tmp_path)
    with pytest.raises(UnavailableError, match=r"Java 21.*Java 8.*no java.*JAVA_HOME"):
        java.java_home()
    only(monkeypatch)
    java.java_home.cache_clear()
    with pytest.raises(UnavailableError, match="no Java at all"):
        java.java_home()


def test_java_home_goes_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = a_java(tmp_path / "mine", "17"), a_java(tmp_path / "other", "17")
    monkeypatch.setenv("JAVA_HOME", str(mine))
    monkeypatch.setenv("PATH", str(other / "bin"))
    assert list(java._candidates())[:2] == [mine, other]
    monkeypatch.delenv("JAVA_HOME")
    assert next(iter(java._candidates())) == other
