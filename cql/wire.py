"""Arrow Flight between processes: server, client pool, bearer token, heartbeat.

A call is a Flight action: its name is the method, its body a `Message`. Both sides of the wire
belong to one collection, which the bearer token in `data_dir/token` proves. With the setting
`wire_tls` every call is encrypted, and the server proves that it is ours by its certificate.
"""

from __future__ import annotations

import ctypes
import dataclasses
import hmac
import json
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from uuid import UUID

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import flight

from cql.errors import (
    ConflictError,
    InputError,
    IntegrityError,
    NotFoundError,
    SightlineError,
    UnavailableError,
)
from cql.records import Service
from cql.session import endpoint
from cql.settings import Settings

log = logging.getLogger(__name__)

HEARTBEAT_S = 3.0
TTL_S = 10
PING_S = 3.0
SILENT_S = 10.0
"""A server that has sent nothing for `PING_S` while it is asked is pinged; one whose machine or
process is cut off, and cannot even say that it works, is given up `SILENT_S` later."""
TLS_NAME = "sightline"
"""The name that every server's certificate holds, whatever its address."""
_ALIGN = 64
_ERRORS = (InputError, NotFoundError, ConflictError, UnavailableError, IntegrityError)


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """JSON-able `values` and plain `arrays` (numbers and bytes, never objects)."""

    values: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def encode(self) -> pa.Buffer:
        """Length of the header, JSON header, then the arrays at multiples of 64 bytes."""
        described: list[tuple[str, str, list[int], int]] = []
        blocks: list[NDArray[Any]] = []
        at = 0
        for name, given in self.arrays.items():
            array = np.ascontiguousarray(given)
            if array.dtype.hasobject:
                raise InputError(
                    f"a message carries plain arrays, {name} holds objects: convert it"
                )
            described.append((name, array.dtype.str, list(array.shape), at))
            blocks.append(array)
            at += -(-array.nbytes // _ALIGN) * _ALIGN
        header = json.dumps({"values": dict(self.values), "arrays": described}).encode()
        start = -(-(8 + len(header)) // _ALIGN) * _ALIGN
        body = np.zeros(start + at, np.uint8)
        body[:8] = np.frombuffer(len(header).to_bytes(8, "little"), np.uint8)
        body[8 : 8 + len(header)] = np.frombuffer(header, np.uint8)
        for array, (_, _, _, offset) in zip(blocks, described, strict=True):
            flat = array.reshape(-1).view(np.uint8)
            body[start + offset : start + offset + flat.size] = flat
        return pa.py_buffer(body)

    @classmethod
    def decode(cls, buffer: pa.Buffer) -> Message:
        """Arrays are views of the buffer (read-only)."""
        try:
            view = memoryview(buffer)
            size = int.from_bytes(view[:8], "little")
            header = json.loads(bytes(view[8 : 8 + size]))
            start = -(-(8 + size) // _ALIGN) * _ALIGN
            arrays = {}
            for name, dtype, shape, offset in header["arrays"]:
                count = int(np.prod(shape, dtype=np.int64))
                flat = (
                    np.frombuffer(view, np.dtype(dtype), count, start + offset)
                    if count
                    else (np.empty(0, np.dtype(dtype)))
                )
                arrays[name] = flat.reshape(shape)
            return cls(header["values"], arrays)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"a message must be in the wire's format: {error}") from error


Handler = Callable[[Message], Message]


def token(settings: Settings) -> str:
    """Return the collection's bearer token: made once (mode 0600), also by racing starters."""
    path = settings.data_dir / "token"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # A complete file is linked into place: a racing reader never sees half a token, and
        # of two writers one keeps the other's.
        draft = path.with_name(f".token-{os.getpid()}-{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(32))
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(draft, path)
            except FileExistsError:
                log.debug("another process made the token first")
        finally:
            draft.unlink(missing_ok=True)
    return path.read_text(encoding="ascii").strip()


def own_address(settings: Settings) -> str:
    """Address of this machine that the collection's other processes reach: for a `Server`.

    Loopback without a Spark cluster. In one, `SPARK_LOCAL_IP` where the machine has it, else the
    address by which it reaches Cassandra.

    Raises:
        UnavailableError: no host of Cassandra has an address.
    """
    if not settings.spark_master:
        return "127.0.0.1"
    given = os.environ.get("SPARK_LOCAL_IP")
    if given:
        return given
    target = endpoint(settings)
    reason: object = None
    for host in target.hosts:
        try:
            found = socket.getaddrinfo(host, target.port, type=socket.SOCK_DGRAM)[0]
            # A datagram socket is connected without a packet: the kernel only looks up the route.
            with socket.socket(found[0], found[1]) as probe:
                probe.connect(found[4])
                return str(probe.getsockname()[0])
        except OSError as error:
            reason = error
    raise UnavailableError(f"{target!r} must have a route, it has none ({reason}): check the names")


class _Guard(flight.ServerMiddlewareFactory):  # type: ignore[misc]
    def __init__(self, expected: str) -> None:
        super().__init__()
        self._expected = f"Bearer {expected}".encode()

    def start_call(self, _info: Any, headers: Mapping[str, list[str]]) -> None:
        given = next((v[0] for k, v in headers.items() if k.lower() == "authorization"), "")
        if not hmac.compare_digest(given.encode(), self._expected):
            raise flight.FlightUnauthenticatedError(
                "the bearer token of this collection is required"
            )


class _Flight(flight.FlightServerBase):  # type: ignore[misc]
    def __init__(
        self, location: str, handlers: Mapping[str, Handler], secret: str, **options: Any
    ) -> None:
        super().__init__(location, middleware={"guard": _Guard(secret)}, **options)
        self._handlers = handlers

    def do_action(self, _context: Any, action: Any) -> Iterator[Any]:
        try:
            reply = self._handler(action.type)(Message.decode(action.body))
        except SightlineError as error:
            reply = Message({"error": type(error).__name__, "message": str(error)})
        except Exception as error:  # a caller elsewhere must learn of it
            log.exception("method %s failed", action.type)
            reply = Message({"error": "SightlineError", "message": f"{action.type}: {error!r}"})
        return iter([flight.Result(reply.encode())])

    def _handler(self, method: str) -> Handler:
        if method not in self._handlers:
            known = ", ".join(sorted(self._handlers))
            raise InputError(f"no method is called {method!r}; the methods are {known}")
        return self._handlers[method]


class Server:
    """Serves methods on `host:port` until closed (port 0: a free one); calls run in threads."""

    def __init__(
        self,
        settings: Settings,
        handlers: Mapping[str, Handler],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        host = f"[{host}]" if ":" in host else host
        scheme, options = "grpc", {}
        if settings.wire_tls:
            scheme = "grpc+tls"
            pair = (_tls(settings, "cert.pem"), _tls(settings, "key.pem"))
            options = {"tls_certificates": [pair]}
        location = f"{scheme}://{host}"
        self._flight = _Flight(f"{location}:{port}", handlers, token(settings), **options)
        self.address = f"{location}:{self._flight.port}"
        self._thread = threading.Thread(target=self._flight.serve, name="wire", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop accepting calls and wait for those that run."""
        self._flight.shutdown()
        self._thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Pool:
    """Open connections by address, shared by threads."""

    def __init__(self, settings: Settings) -> None:
        self._header = (b"authorization", f"Bearer {token(settings)}".encode())
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._tls = (
            {"tls_root_certs": _tls(settings, "ca.pem"), "override_hostname": TLS_NAME}
            if settings.wire_tls
            else {}
        )
        self._options = [
            ("grpc.keepalive_time_ms", int(PING_S * 1000)),
            ("grpc.http2.ping_timeout_ms", int(SILENT_S * 1000)),
        ]

    def call(self, address: str, method: str, message: Message, *, timeout_s: float) -> Message:
        """Ask one server. Its own errors arrive as they were raised.

        UnavailableError when it does not answer within `timeout_s`, refuses the connection, or
        falls silent: then it comes early. A server that works for long still answers pings.
        """
        options = flight.FlightCallOptions(timeout=max(timeout_s, 0.001), headers=[self._header])
        try:
            client = self._client(address)
            results = list(client.do_action(flight.Action(method, message.encode()), options))
        except flight.FlightUnauthenticatedError as error:
            raise UnavailableError(
                f"{address} refused the token: it belongs to another collection, check data_dir"
            ) from error
        except (flight.FlightError, pa.ArrowException, OSError) as error:
            self._drop(address)
            raise UnavailableError(
                f"{method} at {address} must answer within {timeout_s:.1f} s, it did not "
                f"({_first_line(error)}): wait for the service or start it"
            ) from error
        reply = Message.decode(results[0].body)
        if "error" in reply.values:
            kind = {e.__name__: e for e in _ERRORS}.get(reply.values["error"], SightlineError)
            raise kind(reply.values["message"])
        return reply

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()

    def _client(self, address: str) -> Any:
        with self._lock:
            client = self._clients.get(address)
            if client is None:
                if self._tls and not address.startswith("grpc+tls:"):
                    # The token must not go out in the clear because a row says so.
                    raise OSError("it does not encrypt, and wire_tls is set")
                client = flight.connect(address, generic_options=self._options, **self._tls)
                self._clients[address] = client
            return client

    def _drop(self, address: str) -> None:
        # Not closed here: another thread may be in a call on it; it closes when unreferenced.
        with self._lock:
            self._clients.pop(address, None)


def _tls(settings: Settings, name: str) -> bytes:
    path = Path(settings.wire_tls) / name
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"wire_tls must be a folder with ca.pem, cert.pem and key.pem, {path} cannot be read "
            f"({error.strerror}): create it or unset wire_tls"
        ) from error


class Registry(Protocol):
    """The part of the store that a heartbeat needs."""

    def heartbeat(self, service: Service, ttl_s: int) -> None:
        """Write the service's row; it vanishes after `ttl_s`."""

    def withdraw(self, role: str, service_id: UUID) -> None:
        """Delete the service's row."""


class Beacon:
    """Keeps a service's row alive from a thread until closed."""

    def __init__(
        self, store: Registry, service: Service, *, ttl_s: int = TTL_S, every_s: float = HEARTBEAT_S
    ) -> None:
        self._store, self._service, self._ttl, self._every = store, service, ttl_s, every_s
        self._wake, self._closed = threading.Event(), False
        self._lock = threading.Lock()
        store.heartbeat(service, ttl_s)
        self._thread = threading.Thread(target=self._beat, name="beacon", daemon=True)
        self._thread.start()

    @property
    def service(self) -> Service:
        """The row as it is written."""
        return self._service

    def update(self, **changes: Any) -> None:
        """Change the row (snapshot, shards) and write it now."""
        with self._lock:
            self._service = dataclasses.replace(self._service, **changes)
            self._store.heartbeat(self._service, self._ttl)

    def close(self) -> None:
        """Stop and withdraw the row; a store that is gone already is fine."""
        self._closed = True
        self._wake.set()
        self._thread.join(10)
        try:
            self._store.withdraw(self._service.role, self._service.service_id)
        except SightlineError:
            log.debug("the row of %s leaves by TTL", self._service.service_id)

    def _beat(self) -> None:
        while not self._wake.wait(self._every):
            if self._closed:
                return
            try:
                with self._lock:
                    self._store.heartbeat(self._service, self._ttl)
            except Exception as error:  # noqa: BLE001 - the next beat may find the store again
                log.warning("heartbeat of %s: %s", self._service.role, _first_line(error))


def follow_parent(*, every_s: float = 1.0) -> None:
    """End this process (SIGTERM, then exit) when its parent dies: nothing is left behind."""
    parent = os.getppid()
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)

    def watch() -> None:
        pause = threading.Event()
        while os.getppid() == parent:
            pause.wait(every_s)
        os.kill(os.getpid(), signal.SIGTERM)
        pause.wait(5)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
