"""The real app for browser tests: a small demo collection, started once a session."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from cql.settings import ROOT

IMAGES = 240
START_S = 900
"""Rendering, ingest, features, graph and map of 240 pictures on two busy cores, with room."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _ready(url: str) -> bool:
    """Whether a snapshot is loaded and a map is live."""
    try:
        with urllib.request.urlopen(f"{url}/api/v1/health", timeout=10) as answer:
            healthy = bool(json.load(answer)["ready"])
        with urllib.request.urlopen(f"{url}/api/v1/map", timeout=10) as answer:
            return healthy and json.load(answer)["rows"] == IMAGES
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-4000:]


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of the demo is `data` in here."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="session")
def app_url(demo_folder: Path) -> Iterator[str]:
    """Address of `sightline demo --images 240` in a data folder of its own."""
    if not (ROOT / "assets" / "map.js").exists():
        pytest.fail("assets/map.js is absent: run make setup")
    folder = demo_folder
    log = folder / "demo.log"
    port = _free_port()
    command = [sys.executable, "-m", "dashboard.cli", "demo", "--images", str(IMAGES)]
    command += ["--port", str(port), "--no-browser", "--data-dir", str(folder / "data")]
    small = {"SIGHTLINE_CASSANDRA_HEAP_MB": "512", "SIGHTLINE_SPARK_MEMORY_MB": "1024"}
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as out:
        demo = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **small},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + START_S
        while not _ready(url):
            if demo.poll() is not None:
                pytest.fail(f"the demo ended with {demo.returncode}:\n{_tail(log)}")
            if time.monotonic() > end:
                pytest.fail(f"the demo was not ready after {START_S} s:\n{_tail(log)}")
            time.sleep(1.0)
        yield url
    finally:
        demo.send_signal(signal.SIGINT)
        try:
            demo.wait(60)
        except subprocess.TimeoutExpired:
            demo.kill()
            demo.wait()
