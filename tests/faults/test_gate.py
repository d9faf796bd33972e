"""The gate that kills wait at: bytes pass unchanged, and each moment knows its message."""

from __future__ import annotations

import io
import socket
import struct
import threading
import time
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from cassandra import ConsistencyLevel
from cassandra.protocol import ExecuteMessage

from tests.faults.gate import Gate
from tests.faults.test_step_kills import MOMENTS
from tests.waiting import until

ROWS = 40


def message(*values: bytes) -> bytes:
    """A bound statement as the driver sends it."""
    sent = io.BytesIO()
    ExecuteMessage(
        b"prepared", list(values), ConsistencyLevel.LOCAL_QUORUM, result_metadata_id=b"shape"
    ).send_body(sent, 5)
    return sent.getvalue()


def test_each_moment_comes_once_and_in_order() -> None:
    """A whole job as messages: every moment is told by one of them, its own."""
    job_id, other, made, first = (uuid4() for _ in range(4))
    moved_at = struct.pack(">q", time.time_ns() // 1_000_000)
    site: Any = SimpleNamespace(making=lambda: made, rows=ROWS)

    def progress(step: str, job: bytes = job_id.bytes) -> bytes:
        steps = b'[{"step": "%s"}]' % b'"}, {"step": "'.join(known)
        return message(step.encode(), b"\0" * 8, b"", steps, moved_at, job, other.bytes)

    def row() -> bytes:
        return message(made.bytes, b"\0\0\0\1", uuid4().bytes, b"a listing of the map")

    known: list[bytes] = []
    sent: list[tuple[str, bytes]] = [("", progress("texts"))]
    for moment in MOMENTS:
        step = moment.step
        if moment.name == "store, half written":
            sent += [("", row()) for _ in range(round(1.5 * ROWS))]
            sent += [("store, half written", row())]
        elif moment.name == "changes, written":
            text = b'{"cluster_dims": 10, "cluster_neighbours": 15, "seed": 1}'
            sent += [("changes, written", message(made.bytes, b"a model", text))]
        elif moment.live:
            sent += [
                ("", message(b"map")),
                ("", message(first.bytes, moved_at, b"map", made.bytes)),
            ]
            sent += [(moment.name, message(made.bytes, moved_at, b"map", first.bytes))]
        else:
            sent += [("", progress(step, other.bytes)), (step, progress(step))]
            known.append(step.encode())
    for moment in MOMENTS:
        seen, tail = moment.seen(site, job_id), b""
        for name, data in sent:
            # In two pieces, as it may come; rows are counted in whole ones.
            cut = 0 if moment.name == "store, half written" else len(data) // 2
            found = seen(tail, data[:cut]) or seen(tail + data[:cut], data[cut:])
            assert found == (name == moment.name), (moment.name, name)
            if found:
                break
            tail = (tail + data)[-16_384:]
        else:
            raise AssertionError(f"{moment.name} was not seen")


def test_what_passes_the_gate_is_unchanged_and_seen_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo() -> None:
            client, _ = server.accept()
            with client:
                while data := client.recv(1000):
                    client.sendall(data)

        threading.Thread(target=echo, daemon=True).start()
        acted: list[bytes] = []
        with Gate("127.0.0.1", server.getsockname()[1]) as gate:
            passed = gate.watch(
                lambda before, now: b"needle" in before + now, lambda: acted.append(b"now")
            )
            with socket.create_connection(("127.0.0.1", gate.port)) as client:
                for data in (b"hay" * 9_000, b"nee", b"dle", b"needle"):
                    client.sendall(data)
                    back = b""
                    while len(back) < len(data):
                        back += client.recv(1 << 16)
                    assert back == data
                    seen = data in {b"dle", b"needle"}
                    # What has passed may be back before the gate says so.
                    assert passed.wait(10 if seen else 0) == seen
            until(lambda: not [t for t in threading.enumerate() if t.name == "gate pass"])
        assert acted == [b"now"]
