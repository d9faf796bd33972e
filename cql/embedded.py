"""Cassandra as a child process: one per data folder, loopback only, gone when its owner is."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import logging
import os
import secrets
import signal
import socket
import string
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from cql import jars, java, statements
from cql.errors import ConflictError, UnavailableError
from cql.session import (
    Endpoint,
    close,
    endpoint,
    endpoint_file,
    open_session,
    publish,
    write_private,
)
from cql.settings import Settings

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
USER = "sightline"
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 40.0

# What conf/jvm17-server.options of the distribution exports and opens.
_EXPORTS = (
    "java.base/jdk.internal.misc",
    "java.base/java.lang.ref",
    "java.rmi/sun.rmi.registry",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "jdk.unsupported/sun.misc",
    "jdk.compiler/com.sun.tools.javac.file",
    "jdk.attach/sun.tools.attach",
)
_OPENS = (
    "java.base/java.lang.module",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.util.jar",
    "jdk.management/com.sun.management.internal",
    "java.base/java.nio",
    "java.base/sun.nio.ch",
    "java.base/java.io",
    "java.base/java.lang.reflect",
    "java.base/java.lang",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/java.math",
    "java.base/java.net",
    "jdk.compiler/com.sun.tools.javac",
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node of several on this machine; the default is a node of its own.

    `ports` (storage, CQL) and `password` are the same on all nodes and `seeds` are their addresses.
    The `first` makes the role, so it answers once enough nodes run.
    """

    address: str = "127.0.0.1"
    seeds: tuple[str, ...] = ()
    ports: tuple[int, int] | None = None
    password: str = dataclasses.field(default="", repr=False)
    first: bool = True


_ALONE = Node()


class Cassandra:
    """A running embedded Cassandra that this process owns. Use `start`, then `stop` or `with`."""

    def __init__(self, settings: Settings, child: subprocess.Popen[bytes], found: Endpoint) -> None:
        self._settings = settings
        self._child = child
        self.endpoint = found

    @property
    def pid(self) -> int:
        """Process id of the Java process."""
        return self.endpoint.pid

    @classmethod
    def start(cls, settings: Settings, *, options: Sequence[str] = (), node: Node = _ALONE) -> Self:
        """Start Cassandra on `data_dir/cassandra` and wait until it answers CQL (about 10 s).

        `options` are further arguments of the Java process; `node` makes it one of several.

        Raises:
            ConflictError: a live instance holds the data folder.
            UnavailableError: it ends or does not answer in time; carries the end of its log.
        """
        home = settings.data_dir / "cassandra"
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _held(home / "lock") as lock:
            secret = node.password or _secret(home / "secret.json")
            for attempt in (1, 2):
                ports = node.ports or _ports(home)
                _configure(settings, home, node, ports)
                child, pid = _spawn(settings, home, lock, options)
                found = Endpoint((node.address,), ports[1], USER, secret, "datacenter1", pid)
                try:
                    _await_ready(settings, child, found)
                    if node.first:
                        _own_role(settings, child, found)
                    publish(settings, found)
                except BaseException as error:
                    _end(child, pid)
                    if attempt == 1 and node.ports is None and "in use" in str(error):
                        (home / "ports.json").unlink(missing_ok=True)
                        continue
                    raise
                log.info("Cassandra %d answers on port %d", pid, ports[1])
                return cls(settings, child, found)
        raise AssertionError("unreachable")

    def stop(self) -> None:
        """Stop it cleanly: Cassandra drains, so that the next start replays nothing."""
        endpoint_file(self._settings).unlink(missing_ok=True)
        _end(self._child, self.pid)

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child.poll() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def running(settings: Settings) -> bool:
    """Whether a live instance (of any process) holds the data folder and has told its address."""
    path = settings.data_dir / "cassandra" / "lock"
    if not path.exists():
        return False
    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            return False
    try:
        return bool(psutil.pid_exists(endpoint(settings).pid))
    except UnavailableError:
        return False


@contextlib.contextmanager
def ensure(settings: Settings) -> Iterator[Cassandra | None]:
    """Have Cassandra for the block: attach to a live one, else start one and stop it at the end.

    Yields the instance that this call owns, None where it attached or the cluster is external.
    """
    if not settings.embedded or running(settings):
        yield None
        return
    with Cassandra.start(settings) as owned:
        yield owned


@contextlib.contextmanager
def _held(path: Path) -> Iterator[int]:
    """Lock a file for the block. A child that inherits the descriptor keeps the lock after it."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        for left in (2, 1, 0):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if not left:
                    raise ConflictError(
                        f"{path.parent} is held by a live Cassandra: stop that one, or use another "
                        "data_dir"
                    ) from error
                # `running` of another process holds a shared lock for an instant.
                time.sleep(0.05)
        yield descriptor
    finally:
        os.close(descriptor)


def _secret(path: Path) -> str:
    if not path.exists():
        write_private(path, {"user": USER, "password": secrets.token_urlsafe(32)})
    return str(json.loads(path.read_text(encoding="utf-8"))["password"])


def _ports(home: Path) -> tuple[int, int]:
    """Storage and native port: those of the last start where free, so that clients reconnect."""
    path = home / "ports.json"
    try:
        storage, native = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        storage, native = 0, 0
    with contextlib.ExitStack() as stack:
        found = [_free_port(stack, wanted) for wanted in (storage, native)]
    path.write_text(json.dumps(found), encoding="utf-8")
    return found[0], found[1]


def _free_port(stack: contextlib.ExitStack, wanted: int) -> int:
    for port in (wanted, 0):
        sock = stack.enter_context(socket.socket())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return int(sock.getsockname()[1])
    raise UnavailableError("no TCP port of 127.0.0.1 is free: close some programs")


def _configure(settings: Settings, home: Path, node: Node, ports: tuple[int, int]) -> None:
    folders = {name: home / name for name in ("data", "commitlog", "caches", "hints", "cdc")}
    values: dict[str, object] = {
        **{name: json.dumps(str(path)) for name, path in folders.items()},
        "address": json.dumps(node.address),
        "storage_port": ports[0],
        "native_port": ports[1],
        "seeds": json.dumps(
            ",".join(f"{seed}:{ports[0]}" for seed in node.seeds or [node.address])
        ),
        "memtable": f"{max(32, settings.cassandra_heap_mb // 8)}MiB",
    }
    text = (HERE / "cassandra.yaml").read_text(encoding="utf-8")
    (home / "cassandra.yaml").write_text(string.Template(text).substitute(values), encoding="utf-8")


def _spawn(
    settings: Settings, home: Path, lock: int, options: Sequence[str]
) -> tuple[subprocess.Popen[bytes], int]:
    logs = settings.data_dir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-I", "-S", str(HERE / "child.py"), str(lock), str(java.java()),
        *_options(settings, home, logs), *options,
        "-cp", jars.classpath(settings, "cassandra"),
        "org.apache.cassandra.service.CassandraDaemon",
    ]  # fmt: skip
    with (logs / "cassandra.out").open("wb") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            cwd=home,
            env=java.environment(),
            pass_fds=[lock],
            start_new_session=True,
        )
    with child.stdout or contextlib.nullcontext() as told:
        line = told.readline() if told else b""
    if not line:
        child.wait()
        raise UnavailableError(f"Cassandra cannot be started:\n{_log_end(settings)}")
    return child, int(line)


def _options(settings: Settings, home: Path, logs: Path) -> list[str]:
    heap = settings.cassandra_heap_mb
    flags = [
        f"-Xms{min(heap, 256)}m", f"-Xmx{heap}m", f"-XX:MaxDirectMemorySize={max(256, heap // 2)}m",
        "-XX:+UseG1GC" if heap > 1024 else "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError",
        "-Xss512k", "-XX:+PerfDisableSharedMem", "-Djava.awt.headless=true",
        f"-Dcassandra.triggers_dir={_folder(home / 'triggers')}",
        "-Djdk.attach.allowAttachSelf=true", "-Dio.netty.tryReflectionSetAccessible=true",
        "-Djava.net.preferIPv4Stack=true", f"-Djava.io.tmpdir={_folder(home / 'tmp')}",
        f"-Dlogback.configurationFile={(HERE / 'logback.xml').as_uri()}",
        f"-Dcassandra.logdir={logs}", f"-Dcassandra.storagedir={home}",
        f"-Dcassandra.config={(home / 'cassandra.yaml').as_uri()}", "-Dcassandra-foreground=yes",
        # One node waits for nobody.
        "-Dcassandra.ring_delay_ms=0", "-Dcassandra.skip_wait_for_gossip_to_settle=0",
        "-Dcassandra.superuser_setup_delay_ms=0", "-Dcassandra.shutdown_announce_in_ms=0",
    ]  # fmt: skip
    flags += [f"--add-exports={name}=ALL-UNNAMED" for name in _EXPORTS]
    return flags + [f"--add-opens={name}=ALL-UNNAMED" for name in _OPENS]


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _await_ready(settings: Settings, child: subprocess.Popen[bytes], found: Endpoint) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise UnavailableError(
                f"Cassandra ended with status {child.returncode} while it started:\n"
                f"{_log_end(settings)}"
            )
        with contextlib.suppress(OSError):
            socket.create_connection((found.hosts[0], found.port), 1).close()
            return
        time.sleep(0.2)
    raise UnavailableError(
        f"Cassandra did not answer within {START_TIMEOUT_S:.0f} s:\n{_log_end(settings)}"
    )


def _own_role(settings: Settings, child: subprocess.Popen[bytes], found: Endpoint) -> None:
    """Make our superuser and take the well-known one away; a crash in between is caught up on."""
    marker = settings.data_dir / "cassandra" / "role.done"
    if marker.exists():
        return
    first = dataclasses.replace(found, user="cassandra", password="cassandra")  # noqa: S106
    deadline = time.monotonic() + 60
    while True:
        try:
            session = open_session(first)
            break
        except UnavailableError as error:
            if _accepted(found):
                marker.touch()
                return
            if child.poll() is not None or time.monotonic() > deadline:
                raise UnavailableError(f"{error}\n{_log_end(settings)}") from error
            time.sleep(0.3)
    try:
        session.execute(statements.CREATE_ROLE.format(user=USER, password=found.password))
    finally:
        close(session)
    session = open_session(found)
    try:
        # A role may not take its own rights away, so the new one does it.
        session.execute(statements.RETIRE_FIRST_ROLE.format(password=secrets.token_urlsafe(32)))
        # Else the caches would let the former password in for as long as they are valid.
        for statement in statements.FORGET_CACHES:
            session.execute(statement)
    finally:
        close(session)
    marker.touch()


def _accepted(found: Endpoint) -> bool:
    with contextlib.suppress(UnavailableError):
        close(open_session(found))
        return True
    return False


def _end(child: subprocess.Popen[bytes], pid: int) -> None:
    """SIGTERM, wait for the drain, SIGKILL at last."""
    if child.stdin is not None:
        child.stdin.close()
    try:
        child.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        log.warning("Cassandra %d did not stop in %.0f s: killed", pid, STOP_TIMEOUT_S)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        child.kill()
        child.wait()


def _log_end(settings: Settings, lines: int = 15) -> str:
    """The end of what Cassandra said: its output (a JVM that cannot start), then its log."""
    logs = settings.data_dir / "logs"
    parts = []
    for name in ("cassandra.out", "cassandra.log"):
        with contextlib.suppress(OSError):
            text = (logs / name).read_text(encoding="utf-8", errors="replace")
            parts += text.splitlines()[-lines:]
    return "\n".join(f"  {line}" for line in parts) + f"\nThe whole log is in {logs}"
