import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from cql.errors import InputError
from cql.settings import ROOT, Settings
from extraction.decode import DecodeError, decode, inspect
from extraction.sandbox import Sandbox
from tests.extraction.pictures import encoded, gradient, photo, png

SETTINGS = Settings(decode_memory_mb=256)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SETTINGS, workers=2) as pool:
        yield pool


def test_a_picture_comes_back_as_decoded_in_this_process(sandbox: Sandbox) -> None:
    for data in (photo(), encoded(gradient(), "GIF")):
        assert sandbox.inspect(data) == inspect(data, SETTINGS)


def test_an_upload_comes_back_as_pixels(sandbox: Sandbox) -> None:
    data = photo(width=1600, height=1200)
    found = sandbox.decode(data, detail=300)
    assert found.tobytes() == decode(data, SETTINGS, detail=300).tobytes()
    assert found.size == (400, 300)
    with pytest.raises(DecodeError, match="empty"):
        sandbox.decode(b"", detail=300)
    with pytest.raises(InputError, match="detail"):
        sandbox.decode(data, detail=0)


def test_a_refusal_comes_back_with_its_reason_and_the_worker_stays(sandbox: Sandbox) -> None:
    sandbox.inspect(photo())
    before = sandbox.pids
    with pytest.raises(DecodeError, match="not a picture"):
        sandbox.inspect(b"no picture")
    assert sandbox.pids == before


def test_a_bomb_within_the_pixel_cap_ends_by_memory_and_the_next_picture_decodes() -> None:
    # 100 million pixels of one colour: 1.3 MB that become 300 MB, more than the limit allows.
    rows = bytes(1 + 3 * 10_000) * 10_000
    bomb = png(10_000, 10_000, rows)
    assert len(bomb) < 2 << 20
    with Sandbox(SETTINGS, workers=1) as pool:
        with pytest.raises(DecodeError, match=r"memory|ended the decoder"):
            pool.inspect(bomb)
        assert pool.inspect(photo()).width == 64


def test_a_picture_that_takes_too_long_is_given_up() -> None:
    rows = bytes(1 + 3 * 8_000) * 8_000
    slow = png(8_000, 8_000, rows)
    with Sandbox(Settings(decode_timeout_s=0.1), workers=1) as pool:
        start = time.monotonic()
        with pytest.raises(DecodeError, match=r"more than 0\.1 s"):
            pool.inspect(slow)
        assert time.monotonic() - start < 30
        assert not pool.pids


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_dies_while_decoding_is_replaced(sign: signal.Signals) -> None:
    slow = png(8_000, 8_000, bytes(1 + 3 * 8_000) * 8_000)
    with Sandbox(Settings(), workers=1) as pool:
        pool.inspect(photo())
        (pid,) = pool.pids
        worker = psutil.Process(pid)
        idle = worker.cpu_times().user

        def kill() -> None:
            # A worker that has not begun yet would die while idle, whatever the clock says.
            while worker.cpu_times().user < idle + 0.03:
                time.sleep(0.005)
            worker.send_signal(sign)

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(DecodeError, match=sign.name):
            # Usually in the first one, unless this process gets no turn meanwhile.
            list(map(pool.inspect, [slow] * 9))
        killer.join()
        assert pool.inspect(photo()).width == 64
        assert pool.pids != [pid]


def test_a_worker_that_died_while_idle_costs_no_picture(sandbox: Sandbox) -> None:
    sandbox.inspect(photo())
    for pid in sandbox.pids:
        os.kill(pid, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=5)
    assert sandbox.inspect(photo()).width == 64


def test_many_threads_share_the_workers(sandbox: Sandbox) -> None:
    data = [photo(seed) for seed in range(24)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(sandbox.inspect, data))
    assert found == [inspect(item, SETTINGS) for item in data]
    assert len(sandbox.pids) == 2


def test_workers_end_with_the_pool_and_with_a_killed_parent() -> None:
    with Sandbox(SETTINGS, workers=1) as pool:
        pool.inspect(photo())
        (pid,) = pool.pids
    assert not psutil.pid_exists(pid)
    script = (
        "import sys, time\n"
        "from cql.settings import Settings\n"
        "from extraction.sandbox import Sandbox\n"
        "from tests.extraction.pictures import photo\n"
        "pool = Sandbox(Settings(), workers=1)\n"
        "pool.inspect(photo())\n"
        "print(pool.pids[0], flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT
    ) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        assert not psutil.wait_procs([worker], timeout=20)[1]


def test_a_worker_has_no_secrets_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    with Sandbox(Settings(cassandra_password="hidden"), workers=1) as pool:
        pool.inspect(photo())
        process = psutil.Process(pool.pids[0])
        assert "hidden" not in str(process.environ()) + str(process.cmdline())
