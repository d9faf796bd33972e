"""Migrations: their files, and that two starters make one schema."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from cassandra import InvalidRequest
from cassandra.cluster import NoHostAvailable, Session

from cql import migrations
from cql.errors import InputError, IntegrityError, UnavailableError
from cql.migrations import load, migrate, split
from cql.session import close, connect
from cql.settings import ROOT, Settings

ALL = [migration.number for migration in load()]


def folder_with(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        (tmp_path / f"{name.removeprefix('n')}.cql").write_text(text)
    return tmp_path


SUMS = {
    "001_collection": "e4a30ac6e05c38ea",
    "002_work": "8c0e6aa952eae39c",
    "003_results": "9ed1fc8d9c1d2a22",
    "004_stock": "4727b071384318bc",
    "005_pipeline": "dda93fce6ac51ccd",
    "006_decisions": "c04924ae1dca1926",
    "007_trust": "1574c060c28393dc",
    "008_clusters": "6e0389386e29f60d",
    "009_classifiers": "b138fcef33de8a26",
    "010_measures": "e9b4bf585a4ba98a",
    "011_placed": "cefd19409e69759f",
    "012_patches": "7dc32d6d98520e43",
    "013_predictions": "541e1d628bf547ed",
    "014_results_compaction": "247cb1b76c14ce27",
}
"""Beginnings of the sums of all migrations: one that was applied somewhere is never edited."""


def test_no_migration_is_edited() -> None:
    """Not even a comment: a database that has applied it would be refused. Add a new one here."""
    assert {each.name: each.sha256[:16] for each in load()} == SUMS


def test_earlier_texts_are_of_migrations_that_there_are() -> None:
    for number, sums in migrations.FORMER.items():
        (own,) = (each for each in load() if each.number == number)
        assert own.sha256 not in sums


def test_comments_and_blank_statements_are_left_out() -> None:
    text = "-- one; two\nCREATE a; -- three;\n\n;  SELECT 'x';\n"
    assert split(text) == ["CREATE a", "SELECT 'x'"]
    assert split("") == []


def test_every_statement_may_run_twice() -> None:
    names = {"keyspace": "own", "results": "own_results", "ttl": 60}
    for migration in load():
        for statement in split(migration.text):
            text = statement.format(**names)
            # An option of a table that is set twice is what it was.
            option = text.startswith("ALTER TABLE") and " WITH " in text
            assert option or "IF NOT EXISTS" in text or "DROP TABLE IF EXISTS" in text, text


@pytest.mark.parametrize(
    "names", [("n001_a", "n003_b"), ("n002_a",), ("n001_a", "n001_b"), ("nfirst_a",)]
)
def test_numbers_have_no_gaps(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="migration"):
        load(folder_with(tmp_path, **dict.fromkeys(names, "")))


@pytest.fixture
def fresh(settings: Settings) -> Settings:
    return settings.replace(keyspace=f"mig_{uuid4().hex[:12]}")


@pytest.fixture
def session(settings: Settings) -> Iterator[Session]:
    opened = connect(settings)
    yield opened
    close(opened)


SMALL = "CREATE TABLE IF NOT EXISTS {keyspace}.t (a int PRIMARY KEY);"


@pytest.mark.service
def test_is_applied_once_and_a_new_file_is_added(
    session: Session, fresh: Settings, tmp_path: Path
) -> None:
    folder = folder_with(tmp_path, n001_t=SMALL)
    assert migrate(session, fresh, folder=folder) == [1]
    assert migrate(session, fresh, folder=folder) == []
    folder_with(tmp_path, n002_u=SMALL.replace(".t ", ".u "))
    assert migrate(session, fresh, folder=folder) == [2]
    session.execute(f"SELECT * FROM {fresh.keyspace}.u")


@pytest.mark.service
def test_a_changed_file_and_a_newer_schema_are_refused(
    session: Session, fresh: Settings, tmp_path: Path
) -> None:
    folder = folder_with(tmp_path, n001_t=SMALL, n002_u=SMALL)
    migrate(session, fresh, folder=folder)
    folder_with(tmp_path, n002_u=SMALL + "-- edited")
    with pytest.raises(IntegrityError, match=r"002_u was applied .* never edit"):
        migrate(session, fresh, folder=folder)
    (tmp_path / "002_u.cql").unlink()
    with pytest.raises(IntegrityError, match=r"\[2\].*update Sightline"):
        migrate(session, fresh, folder=folder)


@pytest.mark.service
def test_what_was_applied_with_another_comment_is_known(
    session: Session, fresh: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_with(tmp_path, n001_t=SMALL)
    migrate(session, fresh, folder=folder)
    (earlier,) = load(folder)
    folder_with(tmp_path, n001_t=SMALL + "-- said better")
    monkeypatch.setattr(migrations, "FORMER", {1: ("0" * 64, earlier.sha256)})
    assert migrate(session, fresh, folder=folder) == []
    monkeypatch.setattr(migrations, "FORMER", {2: (earlier.sha256,)})
    with pytest.raises(IntegrityError, match="never edit"):
        migrate(session, fresh, folder=folder)


@pytest.mark.service
def test_a_start_that_died_in_the_middle_is_caught_up_on(
    session: Session, fresh: Settings, tmp_path: Path
) -> None:
    folder = folder_with(tmp_path, n001_t=SMALL + "CREATE TABLE {keyspace}.broken (;")
    with pytest.raises(Exception, match="Syntax error"):
        migrate(session, fresh, folder=folder)
    folder_with(tmp_path, n001_t=SMALL + SMALL.replace(".t ", ".u "))
    assert migrate(session, fresh, folder=folder) == [1]


@pytest.mark.service
def test_a_lock_of_the_dead_ends_by_itself(
    session: Session, fresh: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_with(tmp_path, n001_t=SMALL)
    migrate(session, fresh, folder=folder)
    monkeypatch.setattr(migrations, "LOCK_TTL_S", 2)
    held = migrations._lock(session, fresh.keyspace)
    held.__enter__()
    folder_with(tmp_path, n002_u=SMALL)
    assert migrate(session, fresh, folder=folder) == [2]
    held.__exit__(None, None, None)


@pytest.mark.service
def test_of_threads_that_start_at_once_one_applies(settings: Settings, fresh: Settings) -> None:
    sessions = [connect(settings) for _ in range(3)]
    try:
        with ThreadPoolExecutor(3) as pool:
            results = list(pool.map(lambda opened: migrate(opened, fresh), sessions))
    finally:
        for opened in sessions:
            close(opened)
    assert sorted(number for applied in results for number in applied) == ALL


@pytest.mark.service
def test_of_processes_that_start_at_once_one_applies(fresh: Settings, tmp_path: Path) -> None:
    code = (
        "from cql.settings import Settings; from cql.session import connect\n"
        "from cql.migrations import migrate; from pathlib import Path; import sys\n"
        "s = Settings.load(); print(*migrate(connect(s), s, folder=Path(sys.argv[1])))"
    )
    folder = folder_with(tmp_path, n001_t=SMALL, n002_u=SMALL.replace(".t ", ".u "))
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(folder)],
            cwd=ROOT,
            env=fresh.environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    shown = [starter.communicate(timeout=120)[0].split() for starter in starters]
    assert [starter.returncode for starter in starters] == [0, 0]
    assert sorted(shown) == [[], ["1", "2"]]


HALF_MADE = NoHostAvailable(
    "", {"127.0.0.1": "java.lang.IllegalArgumentException: Unknown CF c77a7589"}
)


class Starting:
    """A session that lists the table of migrations and fails to read it."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def execute(self, statement: str, *values: object) -> Any:
        if "system_schema" in statement:
            return SimpleNamespace(all=lambda: [SimpleNamespace(table_name="schema_migrations")])
        raise self.error


@pytest.mark.parametrize(
    "error", [InvalidRequest("table schema_migrations does not exist"), HALF_MADE]
)
def test_a_table_that_another_starter_is_creating_counts_as_not_there(error: Exception) -> None:
    session: Any = Starting(error)
    wanted = load()
    assert migrations._pending(session, Settings(), wanted) == wanted


def test_any_other_failure_is_told_as_one_of_cassandra() -> None:
    session: Any = Starting(NoHostAvailable("", {"127.0.0.1": "connection refused"}))
    with pytest.raises(UnavailableError, match="connection refused"):
        migrate(session, Settings())


@pytest.mark.parametrize("error", [InvalidRequest("table schema_lock does not exist"), HALF_MADE])
def test_a_lock_that_a_node_has_not_heard_of_is_not_taken_yet(error: Exception) -> None:
    session: Any = Starting(error)
    assert not migrations._applied(session, "INSERT", (uuid4(),))


def test_a_statement_that_is_wrong_is_not_tried_for_two_minutes() -> None:
    session: Any = Starting(InvalidRequest("Undefined column name owner"))
    with pytest.raises(InvalidRequest):
        migrations._applied(session, "INSERT", (uuid4(),))
