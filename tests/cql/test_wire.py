"""The wire between processes: its address, its token, its encryption."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cql import wire
from cql.errors import InputError, UnavailableError
from cql.settings import ROOT, Settings
from cql.wire import Message, Pool, Server, own_address


def certificates(folder: Path) -> Path:
    """A root of its own and a certificate for the name that all servers share."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is absent")
    folder.mkdir()
    elliptic = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for command in (
        ("req", "-x509", *elliptic, "-keyout", "root.pem", "-out", "ca.pem", "-subj", "/CN=root"),
        (
            *("req", "-x509", *elliptic, "-keyout", "key.pem", "-out", "cert.pem"),
            *("-subj", "/CN=sightline", "-addext", "subjectAltName=DNS:sightline"),
            *("-CA", "ca.pem", "-CAkey", "root.pem"),
        ),
    ):
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
    return folder


def double(message: Message) -> Message:
    return Message({"seen": message.values["number"]}, {"rows": 2 * message.arrays["rows"]})


def ask(pool: Pool, address: str) -> Message:
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    return pool.call(address, "double", Message({"number": 7}, {"rows": rows}), timeout_s=10)


def test_a_message_comes_back_with_its_arrays(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    with Server(settings, {"double": double}) as server:
        reply = ask(Pool(settings), server.address)
    assert reply.values == {"seen": 7}
    assert reply.arrays["rows"].tolist() == [[0, 2, 4], [6, 8, 10]]


def test_another_collection_is_refused(tmp_path: Path) -> None:
    with (
        Server(Settings(data_dir=tmp_path / "a"), {"double": double}) as server,
        pytest.raises(UnavailableError, match="refused the token"),
    ):
        ask(Pool(Settings(data_dir=tmp_path / "b")), server.address)


def test_an_encrypted_server_answers_those_who_know_its_root(tmp_path: Path) -> None:
    plain = Settings(data_dir=tmp_path)
    settings = plain.replace(wire_tls=str(certificates(tmp_path / "tls")))
    other = plain.replace(wire_tls=str(certificates(tmp_path / "other")))
    with Server(settings, {"double": double}, host="127.0.0.2") as server:
        assert server.address.startswith("grpc+tls://127.0.0.2:")
        assert ask(Pool(settings), server.address).values == {"seen": 7}
        with pytest.raises(UnavailableError, match="double at grpc"):
            ask(Pool(other), server.address)
        with pytest.raises(UnavailableError, match="double at grpc"):
            ask(Pool(plain), server.address.replace("grpc+tls", "grpc"))


def test_a_token_does_not_go_out_in_the_clear(tmp_path: Path) -> None:
    plain = Settings(data_dir=tmp_path)
    settings = plain.replace(wire_tls=str(certificates(tmp_path / "tls")))
    with (
        Server(plain, {"double": double}) as server,
        pytest.raises(UnavailableError, match="does not encrypt"),
    ):
        ask(Pool(settings), server.address)


ASLEEP = """
import sys, time
from pathlib import Path
from cql.settings import Settings
from cql.wire import Message, Server
def wait(message):
    time.sleep(message.values["seconds"])
    return Message({"ok": True})
with Server(Settings(data_dir=Path(sys.argv[1])), {"wait": wait}) as server:
    print(server.address, flush=True)
    sys.stdin.read()
"""


def test_a_server_that_falls_silent_is_given_up_early_and_one_that_works_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "PING_S", 0.3)
    monkeypatch.setattr(wire, "SILENT_S", 2.0)
    pool = Pool(Settings(data_dir=tmp_path))
    command = [sys.executable, "-c", ASLEEP, str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        address = child.stdout.readline().strip()
        try:
            # Longer than it takes to give up: pings are answered while a method runs.
            works = Message({"seconds": 4.0})
            assert pool.call(address, "wait", works, timeout_s=20).values == {"ok": True}
            # Right after a call with more than two pings the next one is held back.
            pool.call(address, "wait", Message({"seconds": 0}), timeout_s=20)
            os.kill(child.pid, signal.SIGSTOP)
            began = time.monotonic()
            with pytest.raises(UnavailableError, match="wait at grpc"):
                pool.call(address, "wait", Message({"seconds": 0}), timeout_s=20)
            assert time.monotonic() - began < 15
        finally:
            # Else what is wrong would be waited for, as a child that stands still.
            child.kill()


@pytest.mark.parametrize("start", [lambda s: Server(s, {}), Pool])
def test_missing_certificates_are_named(
    tmp_path: Path, start: Callable[[Settings], object]
) -> None:
    settings = Settings(data_dir=tmp_path, wire_tls=str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"none/(ca|cert)\.pem cannot be read"):
        start(settings)


def test_an_address_is_one_that_other_machines_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPARK_LOCAL_IP", raising=False)
    alone = Settings(data_dir=tmp_path)
    assert own_address(alone) == "127.0.0.1"
    cluster = alone.replace(spark_master="spark://m:7077", cassandra_hosts=("127.0.0.9",))
    assert own_address(cluster).startswith("127.")
    with pytest.raises(UnavailableError, match="must have a route"):
        own_address(cluster.replace(cassandra_hosts=("no.such.host.invalid",)))
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.5")
    assert own_address(cluster) == "127.0.0.5"
