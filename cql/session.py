"""Connections to Cassandra: where it is, who we are, how long an answer may take."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from cassandra import ConsistencyLevel, DriverException, ProtocolVersion
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import (
    EXEC_PROFILE_DEFAULT,
    Cluster,
    ExecutionProfile,
    NoHostAvailable,
    ResultSet,
    Session,
)
from cassandra.policies import (
    ConstantReconnectionPolicy,
    DCAwareRoundRobinPolicy,
    RetryPolicy,
    TokenAwarePolicy,
)
from cassandra.query import BoundStatement, named_tuple_factory

from cql.errors import UnavailableError
from cql.settings import Settings

REQUEST_TIMEOUT_S = 25.0
"""Longer than every timeout of the server, so that its answer (which names the cause) arrives."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where Cassandra answers and as whom we connect; `pid` is 0 for an external cluster."""

    hosts: tuple[str, ...]
    port: int
    user: str
    password: str
    datacenter: str
    pid: int = 0

    def __repr__(self) -> str:
        return f"Endpoint({','.join(self.hosts)}:{self.port} as {self.user})"


class Wide(Cluster.connection_class):  # type: ignore[misc]  # the driver has no types
    """The driver's connection, which sends and takes in a request of some kilobytes at once.

    Its pieces are of 4 KiB, and each of them waits for the interpreter's lock anew.
    """

    in_buffer_size = out_buffer_size = 64 * 1024


class Once(RetryPolicy):  # type: ignore[misc]  # the driver has no types
    """The driver's policy, but a compare-and-set that lost its connection is not sent again.

    It may have been applied: another node would then answer "not applied", and the caller would
    take its own success for that of a rival.
    """

    def on_request_error(
        self, query: object, consistency: object, error: object, retry_num: int
    ) -> tuple[int, object]:
        """Ask the next node, unless the statement must not run twice."""
        if isinstance(query, BoundStatement) and not query.is_idempotent:
            return self.RETHROW, None
        decided: tuple[int, object] = super().on_request_error(query, consistency, error, retry_num)
        return decided


@lru_cache(maxsize=512)
def _row(names: tuple[str, ...]) -> Callable[[Iterable[Any]], Any]:
    made = named_tuple_factory(names, [(None,) * len(names)])
    # What `_make` does beside this is to count the values, of which each row has as many as names.
    return partial(tuple.__new__, type(made[0]))


def named_rows(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[Any]:
    """Rows as named tuples, of one class for the same names.

    The driver makes a class for each answer: that costs more than reading a row.
    """
    return list(map(_row(tuple(names)), rows))


def was_applied(answer: ResultSet) -> bool:
    """Whether a compare-and-set was carried out: the first column of its only row."""
    (row,) = answer.current_rows
    return bool(row[0])


def endpoint_file(settings: Settings) -> Path:
    """File (mode 0600) in which the embedded Cassandra tells how to reach it."""
    return settings.data_dir / "cassandra" / "endpoint.json"


def endpoint(settings: Settings) -> Endpoint:
    """The external cluster of the settings, or the embedded one that `data_dir` names.

    Raises:
        UnavailableError: the embedded Cassandra is not running.
    """
    if not settings.embedded:
        return Endpoint(
            settings.cassandra_hosts,
            settings.cassandra_port,
            settings.cassandra_user,
            settings.cassandra_password,
            settings.cassandra_datacenter,
        )
    path = endpoint_file(settings)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Endpoint(
            (raw["host"],), raw["port"], raw["user"], raw["password"], "datacenter1", raw["pid"]
        )
    except (OSError, ValueError, KeyError) as error:
        raise UnavailableError(
            f"the embedded Cassandra of {settings.data_dir} is not running: start it with "
            "`sightline demo`, or set cassandra_hosts"
        ) from error


def write_private(path: Path, content: dict[str, object]) -> None:
    """Write JSON that only the owner may read; the file appears whole."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(content, stream)
        stream.flush()
        os.fsync(stream.fileno())
    scratch.replace(path)


def publish(settings: Settings, found: Endpoint) -> None:
    """Write the endpoint file of the embedded Cassandra."""
    row = asdict(found)
    write_private(
        endpoint_file(settings),
        {"host": row["hosts"][0], **{key: row[key] for key in ("port", "user", "password", "pid")}},
    )


def connect(settings: Settings) -> Session:
    """Open a session on the external or the embedded Cassandra; close it with `close`.

    Raises:
        UnavailableError: nothing answers, or the user is refused.
    """
    return open_session(endpoint(settings))


def open_session(target: Endpoint, *, connect_timeout_s: float = 10.0) -> Session:
    """Open a session on one endpoint: LOCAL_QUORUM, LOCAL_SERIAL, rows as named tuples."""
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(target.datacenter)),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL,
        request_timeout=REQUEST_TIMEOUT_S,
        retry_policy=Once(),
        row_factory=named_rows,
    )
    auth = PlainTextAuthProvider(target.user, target.password) if target.user else None
    cluster = Cluster(
        target.hosts,
        port=target.port,
        auth_provider=auth,
        connection_class=Wide,
        protocol_version=ProtocolVersion.V5,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        connect_timeout=connect_timeout_s,
        control_connection_timeout=connect_timeout_s,
        # A restarted Cassandra is found again within a second; the default backs off to minutes.
        reconnection_policy=ConstantReconnectionPolicy(1.0, max_attempts=None),
        # The second piece of a large request would wait 40 ms for the delayed acknowledgement of
        # the first.
        sockopts=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    )
    try:
        return cluster.connect()
    except (NoHostAvailable, DriverException, OSError) as error:
        cluster.shutdown()
        raise UnavailableError(
            f"Cassandra does not answer at {target!r}: {_reason(error)}; check that it runs, "
            "its port, and the user"
        ) from error


def close(session: Session) -> None:
    """Close a session and all its connections."""
    session.cluster.shutdown()


def _reason(error: BaseException) -> str:
    causes = getattr(error, "errors", None)
    if isinstance(causes, dict) and causes:
        return "; ".join(str(cause) for cause in causes.values())
    return str(error) or type(error).__name__
