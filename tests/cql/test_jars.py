"""The pinned archives: the list itself, and fetching with a repository that lies or fails."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from cql import jars
from cql.errors import InputError, IntegrityError, UnavailableError
from cql.settings import Settings

BYTES = b"a Java archive"
PINS = [
    jars.Jar("cassandra", f"org.example:a{n}:1", len(BYTES), hashlib.sha256(BYTES).hexdigest())
    for n in range(3)
]


class Repository:
    """A resolver that hands out `answers` in turn, then `BYTES`."""

    def __init__(self, answers: list[bytes | Exception] | None = None) -> None:
        self.answers = answers or []
        self.asked: list[str] = []

    def download(self, artifact: Any) -> Path:
        self.asked.append(artifact.filename)
        answer = self.answers.pop(0) if self.answers else BYTES
        if isinstance(answer, Exception):
            raise answer
        path: Path = artifact.cached_path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(answer)
        return path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(jars_dir=tmp_path / "a folder", data_dir=tmp_path)


def use(monkeypatch: pytest.MonkeyPatch, repository: Repository) -> Repository:
    from jgo.maven import MavenContext

    def context(scratch: Path) -> Any:
        resolver: Any = repository
        return MavenContext(repo_cache=scratch, resolver=resolver)

    def pinned(group: str | None = None) -> list[jars.Jar]:
        return PINS

    monkeypatch.setattr(jars, "_context", context)
    monkeypatch.setattr(jars, "pinned", pinned)
    return repository


def test_the_list_is_whole_and_names_no_host() -> None:
    rows = jars.pinned()
    assert {jar.group for jar in rows} == {"cassandra", "spark"}
    for jar in rows:
        assert re.fullmatch(r"[0-9a-f]{64}", jar.sha256)
        assert jar.bytes > 0
        assert jar.coordinate.count(":") in (2, 3)
    assert "://" not in jars.LIST.read_text(encoding="utf-8")
    names = {jar.coordinate for jar in rows}
    assert "org.apache.cassandra:cassandra-all:5.0.8" in names
    assert "com.datastax.spark:spark-cassandra-connector_2.12:3.5.1" in names
    by_name: dict[str, str] = {}
    for jar in rows:
        assert by_name.setdefault(jar.filename, jar.sha256) == jar.sha256


def test_an_unknown_group_is_refused() -> None:
    with pytest.raises(InputError, match="cassandra, spark"):
        jars.pinned("kafka")


def test_fetches_what_is_missing_and_tells(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = use(monkeypatch, Repository())
    told: list[tuple[int, int]] = []
    paths = jars.fetch(settings, lambda _step, done, total, _message="": told.append((done, total)))
    assert [path.read_bytes() for path in paths] == [BYTES] * 3
    assert told[0] == (0, 3 * len(BYTES))
    assert told[-1] == (3 * len(BYTES), 3 * len(BYTES))
    paths[1].write_bytes(BYTES[:-1])
    repository.asked.clear()
    assert jars.fetch(settings) == paths
    assert repository.asked == ["a1-1.jar"]
    assert sorted(path.name for path in settings.jars_dir.iterdir()) == [
        "a0-1.jar",
        "a1-1.jar",
        "a2-1.jar",
    ]


@pytest.mark.parametrize("fault", [BYTES[:3], OSError("reset"), RuntimeError("503")])
def test_a_cut_transfer_and_a_fault_of_the_network_are_tried_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, fault: bytes | Exception
) -> None:
    repository = use(monkeypatch, Repository([fault, fault]))
    assert all(path.read_bytes() == BYTES for path in jars.fetch(settings))
    assert len(repository.asked) == 5


def test_other_bytes_are_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Repository([BYTES[::-1]] * 9))
    with pytest.raises(IntegrityError, match="must have sha256"):
        jars.fetch(settings)
    assert not list(settings.jars_dir.glob("*.jar"))


def test_no_network_is_said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Repository([OSError("no route to host")] * 9))
    with pytest.raises(UnavailableError, match=r"no route to host.*check the network"):
        jars.fetch(settings)


def test_a_class_path_needs_its_archives(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Repository())
    with pytest.raises(UnavailableError, match="3 of 3 Java archives"):
        jars.classpath(settings, "cassandra")
    paths = jars.fetch(settings)
    assert jars.classpath(settings, "cassandra") == ":".join(map(str, paths))
