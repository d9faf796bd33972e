"""A gate before Cassandra: bytes pass as they are, and a message can be waited for."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

Seen = Callable[[bytes, bytes], bool]
"""Whether a message is the one: what came last on its connection, and what comes now."""

_TAIL = 16_384
"""Bytes of a connection that are remembered: a message may come in pieces."""


class Gate:
    """Listens on a port of its own and passes every connection on to Cassandra.

    Drivers find a Cassandra of one node under the address that they were given, so all of its
    clients stay behind the gate.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._seen: Seen | None = None
        self._act: Callable[[], None] = lambda: None
        self._passed = threading.Event()
        threading.Thread(target=self._accept, name="gate", daemon=True).start()

    @property
    def port(self) -> int:
        """Port that it listens on."""
        return int(self._listening.getsockname()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A thread in `accept` is not woken by `close`.
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def watch(self, seen: Seen, act: Callable[[], None]) -> threading.Event:
        """Act when the first message comes that is `seen`; it passes afterwards.

        Returns what is set once it has passed.
        """
        passed = threading.Event()
        with self._lock:
            self._seen, self._act, self._passed = seen, act, passed
        return passed

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            for source, target, look in ((client, server, True), (server, client, False)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(
                    target=self._pass, args=(source, target, look), name="gate pass", daemon=True
                ).start()

    def _pass(self, source: socket.socket, target: socket.socket, look: bool) -> None:
        tail = b""
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                passed = self._look(tail, data) if look else None
                target.sendall(data)
                if passed is not None:
                    passed.set()
                tail = (tail + data)[-_TAIL:]
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()

    def _look(self, tail: bytes, data: bytes) -> threading.Event | None:
        with self._lock:
            if self._seen is None or not self._seen(tail, data):
                return None
            self._seen = None
            self._act()
            return self._passed
