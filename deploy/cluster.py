"""A small real cluster on this machine: Cassandra nodes and a Spark standalone master with workers.

Each has a loopback address of its own. `python -m deploy.cluster FOLDER` starts three nodes and two
workers, prints the settings that point Sightline at them, and runs until Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from analytics.hosting.shelf import VARIABLE
from cql import java
from cql.embedded import USER, Cassandra, Node
from cql.errors import UnavailableError
from cql.jars import fetch
from cql.settings import ROOT, Settings

TOKENS = 4
"""Token ranges of a node: `num_tokens` in cassandra.yaml."""
RING_DELAY_MS = 3000
DAEMON_MB = 256
START_S = 60.0
JAVA_OPTIONS = "-XX:TieredStopAtLevel=1"
"""Many young Java processes share this machine, so they do not compile much."""
_EXECUTOR = "CoarseGrainedExecutorBackend"


class Ring:
    """Cassandra nodes that replicate to each other: `base`.1, `base`.2, ..., data in `folder`.

    `options` are further arguments of each node's Java process.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        *,
        base: str,
        nodes: int = 3,
        options: Sequence[str] = (),
    ) -> None:
        self.hosts = tuple(f"{base}.{number + 1}" for number in range(nodes))
        self.password = secrets.token_urlsafe(32)
        with _free(self.hosts[0]) as storage, _free(self.hosts[0]) as native:
            self.ports = (storage.getsockname()[1], native.getsockname()[1])
        self._settings = [
            settings.replace(data_dir=folder / f"node{number + 1}") for number in range(nodes)
        ]
        self._options = options
        self._nodes: dict[int, Cassandra] = {}
        with ThreadPoolExecutor(nodes) as threads:
            started = [threads.submit(self.start, number) for number in range(nodes)]
        try:
            for each in started:
                each.result()
        except BaseException:
            self.close()
            raise

    def start(self, number: int) -> None:
        """Start a node, for the first time or again."""
        if number in self._nodes:
            self._nodes[number].stop()  # of a dead one it closes the lifeline
        count = len(self.hosts)
        # Every node is a seed, so that all start at once; tokens are given, so that none collide.
        step = 2**64 // (count * TOKENS)
        tokens = [-(2**63) + step * (turn * count + number) for turn in range(TOKENS)]
        copies = min(3, count)
        options = [
            f"-Dcassandra.initial_token={','.join(map(str, tokens))}",
            f"-Dcassandra.ring_delay_ms={RING_DELAY_MS}",
            # The first role is written at a quorum: not before the others can be seen.
            "-Dcassandra.superuser_setup_delay_ms=1000",
            f"-Dcassandra.system_auth.default_rf={copies}",
            f"-Dcassandra.system_distributed.default_rf={copies}",
            JAVA_OPTIONS,
            *self._options,
        ]
        self._nodes[number] = Cassandra.start(
            self._settings[number],
            options=options,
            node=Node(
                address=self.hosts[number],
                seeds=self.hosts,
                ports=self.ports,
                password=self.password,
                first=number == 0,
            ),
        )

    def kill(self, number: int) -> None:
        """End a node as a power cut would."""
        os.kill(self._nodes[number].pid, signal.SIGKILL)

    def close(self) -> None:
        """Stop every node."""
        with ThreadPoolExecutor(len(self.hosts)) as threads:
            list(threads.map(lambda node: node.stop(), self._nodes.values()))


class Standalone:
    """A Spark standalone master at `base`.100 and workers at `base`.101, `base`.102, ..."""

    def __init__(
        self,
        folder: Path,
        *,
        base: str,
        workers: int = 2,
        cores: int = 3,
        memory_mb: int = 1024,
        disks: bool = True,
    ) -> None:
        self.address = f"{base}.100"
        self._disks = disks
        self.workers = tuple(f"{base}.{number + 101}" for number in range(workers))
        self._folder = folder
        self._children: list[subprocess.Popen[bytes]] = []
        self._pids: dict[str, int] = {}
        with _free(self.address) as found:
            port = found.getsockname()[1]
        self.master = f"spark://{self.address}:{port}"
        try:
            self._run("master.Master", self.address, "--port", str(port))
            _await_port(self.address, port, self._log(self.address))
            for worker in self.workers:
                limits = ("--cores", str(cores), "--memory", f"{memory_mb}m")
                where = ("--work-dir", str(folder / worker))
                self._run("worker.Worker", worker, *limits, *where, self.master)
        except BaseException:
            self.close()
            raise

    def disk(self, worker: str) -> Path:
        """Folder of the shard files of one worker's machine."""
        return self._folder / f"{worker}-shards"

    def executors(self) -> dict[int, str]:
        """Java processes that run tasks: process id to the address of their worker."""
        found = {}
        for worker in self.workers:
            for child in psutil.Process(self._pids[worker]).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if any(_EXECUTOR in part for part in child.cmdline()):
                        found[child.pid] = worker
        return found

    def close(self) -> None:
        """Stop the daemons; their executors end with them."""
        for child in reversed(self._children):
            if child.stdin is not None:
                child.stdin.close()
        for child in self._children:
            child.wait(60)

    def _run(self, name: str, address: str, *arguments: str) -> None:
        import pyspark

        home = Path(pyspark.__file__).parent
        self._folder.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-I", "-S", str(ROOT / "cql" / "child.py"), "-",
            str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{name}",
            "--host", address, "--webui-port", "0", *arguments,
        ]  # fmt: skip
        scratch = self._folder / f"{address}-scratch"
        scratch.mkdir(exist_ok=True)
        with self._log(address).open("wb") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
                env={
                    **java.environment(),
                    "SPARK_HOME": str(home),
                    "SPARK_LOCAL_IP": address,
                    "SPARK_LOCAL_DIRS": str(scratch),
                    "SPARK_DAEMON_MEMORY": f"{DAEMON_MB}m",
                    "SPARK_DAEMON_JAVA_OPTS": "-XX:+UseSerialGC",
                    "JAVA_TOOL_OPTIONS": JAVA_OPTIONS,  # of the executors too
                    # These machines share a file system, so each one's disk is a folder.
                    **({VARIABLE: str(self.disk(address))} if self._disks else {}),
                    # A master gives an application up after ten executors that ended badly.
                    "SPARK_MASTER_OPTS": "-Dspark.deploy.maxExecutorRetries=-1",
                },
            )
        self._children.append(child)
        with child.stdout or contextlib.nullcontext() as told:
            line = told.readline() if told else b""
        if not line:
            raise UnavailableError(f"Spark's {name} cannot be started: see {self._log(address)}")
        self._pids[address] = int(line)

    def _log(self, address: str) -> Path:
        return self._folder / f"{address}.log"


class Cluster:
    """Both, and the settings that point Sightline at them.

    `disks`: each worker keeps shards on a disk of its own; else all share one. `options`: see Ring.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        *,
        nodes: int = 3,
        workers: int = 2,
        disks: bool = True,
        options: Sequence[str] = (),
    ) -> None:
        # Several clusters of one machine must not meet.
        base = f"127.{64 + os.getpid() % 128}.{secrets.randbelow(256)}"
        fetch(settings)
        self.spark = Standalone(folder / "spark", base=base, workers=workers, disks=disks)
        try:
            self.ring = Ring(settings, folder, base=base, nodes=nodes, options=options)
        except BaseException:
            self.spark.close()
            raise
        self.settings = settings.replace(
            data_dir=folder / "collection",
            cassandra_hosts=self.ring.hosts,
            cassandra_port=self.ring.ports[1],
            cassandra_user=USER,
            cassandra_password=self.ring.password,
            replication=min(3, nodes),
            spark_master=self.spark.master,
            shards_dir=str(self.spark.disk(self.spark.address)) if disks else "",
            shard_hosts=workers,
        )

    def close(self) -> None:
        """Stop all of it."""
        self.spark.close()
        self.ring.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _free(address: str) -> socket.socket:
    sock = socket.socket()
    sock.bind((address, 0))
    return sock


def _await_port(address: str, port: int, said: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection((address, port), 1).close()
            return
        time.sleep(0.1)
    raise UnavailableError(f"{address}:{port} must answer within {START_S:.0f} s: see {said}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a cluster until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path, help="data and logs of the cluster")
    folder = parser.parse_args(arguments).folder.absolute()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    own = ("cassandra_", "spark_master", "replication", "shard", "data_dir")
    with Cluster(Settings.load(), folder) as cluster, contextlib.suppress(KeyboardInterrupt):
        for name, value in cluster.settings.environment().items():
            if name.removeprefix("SIGHTLINE_").lower().startswith(own):
                print(f"export {name}='{value}'", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
