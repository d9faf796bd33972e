"""Numbered migrations: each file of `cql/schema` is applied once, whoever starts first."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4, uuid5

from cassandra import InvalidRequest
from cassandra.cluster import NoHostAvailable, ResultSet, Session

from cql import statements
from cql.access import TRANSIENT, unavailable
from cql.errors import InputError, IntegrityError, UnavailableError
from cql.records import NAMESPACE
from cql.session import was_applied
from cql.settings import Settings

FOLDER = Path(__file__).with_name("schema")
LOCK_TTL_S = 60
"""A starter that dies in the middle blocks the others for this long at most."""
WAIT_S = 120.0

FORMER = {
    9: ("929f53b5d077d054c93bc74d9453821b7a42a601a2444e145099fe135a5de576",),
    13: ("0acaddd280973c0a8d0bc99853193cffa525754ad84cb04668527474ff2106cf",),
}
"""SHA-256 of earlier texts of a migration, by number: with the same statements, another comment."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, name, text as written and the SHA-256 of that text."""

    number: int
    name: str
    text: str
    sha256: str


def load(folder: Path = FOLDER) -> list[Migration]:
    """All migrations in order. `InputError` where numbers are missing, doubled or not numbers."""
    found = []
    for path in sorted(folder.glob("*.cql")):
        head = path.name.partition("_")[0]
        if not head.isdigit():
            raise InputError(f"a migration is called NNN_name.cql, got {path.name}: rename it")
        text = path.read_text(encoding="utf-8")
        digest = hashlib.sha256(text.encode()).hexdigest()
        found.append(Migration(int(head), path.stem, text, digest))
    numbers = [migration.number for migration in found]
    if numbers != list(range(1, len(found) + 1)):
        raise InputError(f"migrations must be numbered 1, 2, 3 without gaps, got {numbers}")
    return found


def split(text: str) -> list[str]:
    """The statements of a migration: comments (`--`) removed, split at semicolons."""
    lines = [line.partition("--")[0] for line in text.splitlines()]
    return [part.strip() for part in "\n".join(lines).split(";") if part.strip()]


def migrate(session: Session, settings: Settings, *, folder: Path = FOLDER) -> list[int]:
    """Create keyspaces and apply what is new; returns the numbers applied by this call.

    Safe for two starters at once: one holds a lock row, the other waits and finds nothing to do.
    Every statement is idempotent, so that a starter that died in the middle is caught up on.

    Raises:
        IntegrityError: a file that was applied has changed since, or the schema is newer.
        UnavailableError: another starter holds the lock for longer than two minutes, or Cassandra
            does not answer.
    """
    try:
        return _migrated(session, settings, load(folder))
    except TRANSIENT as error:
        raise unavailable(error) from error


def _migrated(session: Session, settings: Settings, wanted: list[Migration]) -> list[int]:
    names = {
        "keyspace": settings.keyspace,
        "results": settings.results_keyspace,
        "ttl": settings.query_ttl_days * 86_400,
        "datacenter": settings.cassandra_datacenter if not settings.embedded else "datacenter1",
        "replication": settings.replication or (1 if settings.embedded else 3),
    }
    if not _pending(session, settings, wanted):
        return []
    for statement in statements.KEYSPACES:
        session.execute(statement.format(**names), timeout=60)
    for table, statement in statements.LEDGER.items():
        # Two nodes that create one table at once must give it one id.
        table_id = uuid5(NAMESPACE, f"table\0{settings.keyspace}\0{table}")
        session.execute(statement.format(**names, table_id=table_id), timeout=60)
    applied = []
    with _lock(session, settings.keyspace):
        for migration in _pending(session, settings, wanted):
            for text in split(migration.text):
                session.execute(text.format(**names), timeout=60)
            session.execute(
                statements.PUT_MIGRATION.format(**names),
                (migration.number, migration.name, migration.sha256),
            )
            applied.append(migration.number)
    return applied


def _pending(session: Session, settings: Settings, wanted: list[Migration]) -> list[Migration]:
    known = session.execute(statements.TABLES, (settings.keyspace,)).all()
    if "schema_migrations" not in {row.table_name for row in known}:
        return wanted
    rows = _asked(session, statements.MIGRATIONS.format(keyspace=settings.keyspace))
    if rows is None:
        # Another starter is creating the table: its name is listed before it can be read.
        return wanted
    done = {row.number: row for row in rows}
    newer = sorted(set(done) - {migration.number for migration in wanted})
    if newer:
        raise IntegrityError(
            f"the keyspace {settings.keyspace} has migrations {newer} that this version of "
            "Sightline does not know: update Sightline"
        )
    for migration in wanted:
        row = done.get(migration.number)
        known_as = (migration.sha256, *FORMER.get(migration.number, ()))
        if row is not None and row.sha256 not in known_as:
            raise IntegrityError(
                f"migration {migration.name} was applied with sha256 {row.sha256[:12]}, the file "
                f"has {migration.sha256[:12]}: never edit an applied migration, add a new one"
            )
    return [migration for migration in wanted if migration.number not in done]


@contextmanager
def _lock(session: Session, keyspace: str) -> Iterator[None]:
    owner = uuid4()
    take = statements.TAKE_LOCK.format(keyspace=keyspace, ttl=LOCK_TTL_S)
    deadline = time.monotonic() + WAIT_S
    while not _applied(session, take, (owner,)):
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"another process migrates {keyspace} for more than {WAIT_S:.0f} s: look at it"
            )
        time.sleep(0.25)
    try:
        yield
    finally:
        _applied(session, statements.DROP_LOCK.format(keyspace=keyspace), (owner,))


def _applied(session: Session, statement: str, values: tuple[UUID]) -> bool:
    """Not applied either where the node that answers has not heard of the table."""
    answer = _asked(session, statement, values)
    return answer is not None and was_applied(answer)


def _asked(session: Session, statement: str, values: tuple[UUID] | None = None) -> ResultSet | None:
    """None where the table is not there yet: unknown, or half made, an error of the server."""
    try:
        return session.execute(statement, values)
    except InvalidRequest as error:
        if "does not exist" in str(error):
            return None
        raise
    except NoHostAvailable as error:
        if any("Unknown CF" in str(answer) for answer in error.errors.values()):
            return None
        raise
