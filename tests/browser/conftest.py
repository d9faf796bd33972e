"""The real app and a real browser: a small demo collection, started once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from cql.settings import ROOT

SHOTS = ROOT / "artifacts" / "screenshots"
SIZES = {"wide": (1440, 900), "phone": (390, 844)}
WAIT_MS = 60_000
FLAGS = [
    "--headless",
    "--no-sandbox",  # containers run as root
    "--disable-gpu",
    "--use-gl=angle",  # WebGL2 in software, where there is no GPU
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
]
DRIVER = "GL Driver Message"
"""What software WebGL says of its own speed."""

BROWSERS = ("chromium", "google-chrome", "google-chrome-stable", "chromium-browser")

SEEN = """() => [...document.querySelectorAll("img")].every((image) => {
  const box = image.getBoundingClientRect();
  const away = box.bottom < 0 || box.top > innerHeight || box.width === 0;
  return away || (image.complete && image.naturalWidth > 0);
})"""
"""Every picture on the screen has loaded."""

Opened = Callable[..., Any]

IMAGES = 240
START_S = 900
"""Rendering, ingest, features, graph and map of 240 pictures on two busy cores, with room."""


def browser_path() -> str | None:
    """The installed Chrome or Chromium; None where there is none."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


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


@pytest.fixture(scope="package")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of the demo is `data` in here."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    found = browser_path()
    assert found, "browser tests need Chrome or Chromium: install the package chromium"
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Browser, app_url: str) -> Opened:
    """Open a page in a context of its own; leaving fails on any message of the console."""

    @contextmanager
    def opened_(
        path: str = "/", *, size: str = "wide", theme: Any = "light", expected: str = DRIVER
    ) -> Iterator[Page]:
        width, height = SIZES[size]
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme=theme,
            base_url=app_url,
            has_touch=size == "phone",
            reduced_motion="reduce",
        )
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        said: list[str] = []
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on(
            "console",
            lambda line: (
                said.append(line.text)
                if line.type in {"error", "warning"}
                and not any(known in line.text for known in (DRIVER, expected))
                else None
            ),
        )
        try:
            page.goto(path)
            if urlsplit(path).path == "/":
                ready(page)
            yield page
            assert said == []
        finally:
            context.close()

    return opened_


def ready(page: Page) -> None:
    """Wait until every tile is drawn and the panel has its pictures."""
    page.wait_for_selector(".sightline-map[data-state=ready]")
    expect(page.locator(".is-loading")).to_have_count(0)


def shoot(page: Page, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.wait_for_function(SEEN)
    page.wait_for_timeout(300)
    page.screenshot(path=SHOTS / f"{name}.png")
