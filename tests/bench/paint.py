"""Time from `make demo` to the first paint, a map tile and search.

Run `.venv/bin/python -m tests.bench.paint`, with `--checkout DIR` for another clone. It needs the
packages of the tests, which `make check` or `make test` installs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import sync_playwright

from cql.settings import ROOT
from tests.browser.conftest import FLAGS, browser_path

PAINTED = """() => {
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  return paint ? performance.timeOrigin + paint.startTime : null;
}"""
"""Wall-clock milliseconds of the first content on the screen (W3C Paint Timing)."""


def answers(url: str) -> bool:
    """Whether the address answers 200 now."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def searches(url: str) -> bool:
    """Whether a snapshot is loaded, as the health check says."""
    try:
        with urllib.request.urlopen(f"{url}/api/v1/health", timeout=5) as answer:
            return bool(json.load(answer)["ready"])
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def wait(
    ready: Callable[[], bool], demo: subprocess.Popen[bytes], limit_s: float, what: str
) -> float:
    """Ask until ready; returns the wall-clock seconds then.

    Raises RuntimeError when the demo stopped or the limit passed, with what was awaited.
    """
    end = time.time() + limit_s
    while time.time() < end:
        if demo.poll() is not None:
            raise RuntimeError(f"make demo stopped with {demo.returncode} before {what}")
        if ready():
            return time.time()
        time.sleep(0.1)
    raise RuntimeError(f"no {what} within {limit_s:.0f} s: raise --limit or read the log")


def first_paint(url: str) -> float:
    """Open the page in an empty headless browser; the wall-clock seconds of its first content."""
    found = browser_path()
    if found is None:
        raise RuntimeError("first paint needs Chrome or Chromium: install the package chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=FLAGS)
        try:
            page = browser.new_page()
            page.goto(url)
            return float(page.wait_for_function(PAINTED, timeout=60_000).json_value()) / 1000.0
        finally:
            browser.close()


def measure(checkout: Path, url: str, limit_s: float, log: Path) -> dict[str, float]:
    """Run `make demo` in the checkout and stop it again: seconds from its start to each."""
    if answers(url):
        raise RuntimeError(f"{url} answers already: stop what serves there first")
    with log.open("wb") as out:
        begin = time.time()
        demo = subprocess.Popen(
            ["make", "demo"],
            cwd=checkout,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            seen = {"page": wait(lambda: answers(url), demo, limit_s, "page")}
            seen["first_paint"] = first_paint(url)
            tile = f"{url}/api/v1/map/tiles/0/0/0"
            seen["map_tile"] = wait(lambda: answers(tile), demo, limit_s, "map tile")
            seen["search_ready"] = wait(lambda: searches(url), demo, limit_s, "search")
        finally:
            if demo.poll() is None:
                os.killpg(demo.pid, signal.SIGINT)
                demo.wait(timeout=120)
    return {name: round(at - begin, 1) for name, at in seen.items()}


def main() -> int:
    """Print the seconds as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--checkout",
        type=Path,
        default=ROOT,
        help="where to run make demo (a fresh clone for a first run)",
    )
    parser.add_argument("--url", default="http://127.0.0.1:8050", help="where that demo serves")
    parser.add_argument("--limit", type=float, default=900, help="seconds to wait for each")
    given = parser.parse_args()
    log = Path(tempfile.mkdtemp(prefix="paint")) / "demo.log"
    sys.stderr.write(f"log: {log}\n")
    sys.stdout.write(json.dumps(measure(given.checkout, given.url, given.limit, log)) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
