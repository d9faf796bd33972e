"""Decoding in processes that may die: a pool of small workers with a memory and a time limit.

Wire, both ways: a little-endian uint32 length, then that many bytes. A request is the detail wanted
(uint32; 0 asks for the measures and the thumbnail) and a photo's bytes; an answer is a JSON header
(uint32 length before it) followed by the thumbnail, or by the pixels.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import resource
import select
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from PIL import Image

from cql.errors import InputError, UnavailableError
from cql.settings import ROOT, Settings
from extraction.decode import DecodeError, Picture, decode, inspect
from extraction.measures import Figures

_LENGTH = struct.Struct("<I")
_START_S = 60.0
_GRACE_S = 2.0
_CHUNK = 1 << 20
# Room that a fresh interpreter needs beyond one picture before the first picture is decoded.
_HEADROOM_MB = 64
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "PYTHONHOME")
_SETTINGS = (
    "max_image_pixels",
    "max_image_mb",
    "decode_memory_mb",
    "decode_timeout_s",
    "thumbnail_px",
)


class _DiedError(Exception):
    """The worker process ended before it answered."""


class _SlowError(Exception):
    """The worker did not answer in time."""


class Sandbox:
    """A pool of decoder processes; thread-safe, each worker decodes one picture at a time.

    A picture that kills its worker, exceeds its memory or takes too long raises `DecodeError` for
    that picture; the worker is replaced before the next one.
    """

    def __init__(self, settings: Settings, *, workers: int) -> None:
        self._settings = settings
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        self._all = [_Worker(settings) for _ in range(max(1, workers))]
        for worker in self._all:
            self._idle.put(worker)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that run now."""
        return [pid for worker in self._all if (pid := worker.pid)]

    def inspect(self, data: bytes) -> Picture:
        """`decode.inspect` in a worker. `DecodeError` tells why the bytes are no usable picture."""
        header, webp = self._ask(data, 0)
        figures = Figures.of_json(header.pop("figures"))
        return Picture(webp=webp, figures=figures, **header)

    def decode(self, data: bytes, *, detail: int) -> Image.Image:
        """`decode.decode` in a worker, for an uploaded picture; `detail` must be above 0."""
        if detail < 1:
            raise InputError(f"detail must be at least 1 pixel, got {detail}")
        header, pixels = self._ask(data, detail)
        return Image.frombytes("RGB", (header["width"], header["height"]), pixels)

    def _ask(self, data: bytes, detail: int) -> tuple[dict[str, Any], bytes]:
        if len(data) > self._settings.max_image_mb << 20:
            inspect(data, self._settings)  # refused by its size; nothing is decoded
        worker = self._idle.get()
        try:
            return worker.ask(data, detail)
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """End the workers."""
        for worker in self._all:
            worker.stop()


class _Worker:
    """One decoder process, started when it is first needed and again after each death."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        process = self._process
        return process.pid if process and process.poll() is None else 0

    def ask(self, data: bytes, detail: int) -> tuple[dict[str, Any], bytes]:
        if not self.pid:
            self._start()
        try:
            header, body = self._exchange(data, detail)
        except _SlowError as error:
            self.stop()
            limit = self._settings.decode_timeout_s
            raise DecodeError(
                f"decoding it takes more than {limit:g} s (decode_timeout_s)"
            ) from error
        except _DiedError as error:
            code = self.stop(grace_s=_GRACE_S)
            raise DecodeError(f"decoding it ended the decoder process ({_ending(code)})") from error
        if "reason" in header:
            if header.get("memory"):
                # What the allocator kept would narrow the next picture's room: start afresh.
                self.stop()
            raise DecodeError(str(header["reason"]))
        return header, body

    def _start(self) -> None:
        self.stop()
        # Hostile input is decoded without the parent's secrets: neither its environment nor its
        # credentials are handed on. The working directory is not on the path.
        environ = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}
        environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *sys.path[1:]])
        limits = json.dumps({name: getattr(self._settings, name) for name in _SETTINGS})
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "extraction.sandbox", limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environ,
            cwd=Path.cwd().anchor,
            # Ctrl-C ends the parent first, which then ends its workers.
            start_new_session=True,
        )
        try:
            self._read(_LENGTH.size, time.monotonic() + _START_S)
        except (_DiedError, _SlowError) as error:
            code = self.stop()
            raise UnavailableError(
                f"a decoder process must start within {_START_S:g} s, it did not "
                f"({_ending(code)}): free some memory and try again"
            ) from error

    def _exchange(self, data: bytes, detail: int) -> tuple[dict[str, Any], bytes]:
        deadline = time.monotonic() + self._settings.decode_timeout_s
        pipe = cast("IO[bytes]", self._running().stdin)
        try:
            pipe.write(_LENGTH.pack(_LENGTH.size + len(data)) + _LENGTH.pack(detail))
            pipe.write(data)
            pipe.flush()
        except OSError as error:
            raise _DiedError from error
        body = self._read(_LENGTH.unpack(self._read(_LENGTH.size, deadline))[0], deadline)
        split = _LENGTH.size + _LENGTH.unpack_from(body)[0]
        return json.loads(body[_LENGTH.size : split]), body[split:]

    def _read(self, size: int, deadline: float) -> bytes:
        handle = cast("IO[bytes]", self._running().stdout).fileno()
        parts = bytearray()
        while len(parts) < size:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([handle], [], [], left)[0]:
                raise _SlowError
            part = os.read(handle, min(size - len(parts), _CHUNK))
            if not part:
                raise _DiedError
            parts += part
        return bytes(parts)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise _DiedError
        return self._process

    def stop(self, *, grace_s: float = 0.0) -> int:
        """Kill the process if it runs, and return its exit code (0 when there was none)."""
        process, self._process = self._process, None
        if process is None:
            return 0
        # A worker that closed its end is about to exit by itself: its own exit code says more.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
        process.kill()
        code = process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        return code


def _ending(code: int) -> str:
    if code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"


def _serve(settings: Settings, source: IO[bytes], target: IO[bytes]) -> None:
    """Answer requests until the parent closes its end."""
    target.write(_LENGTH.pack(0))
    target.flush()
    while len(head := source.read(_LENGTH.size)) == _LENGTH.size:
        data = source.read(_LENGTH.unpack(head)[0])
        (detail,) = _LENGTH.unpack_from(data)
        # The parent enforces the limit; this one ends the process if the parent was killed.
        signal.setitimer(signal.ITIMER_REAL, 2 * settings.decode_timeout_s)
        header, body = _answer(data[_LENGTH.size :], detail, settings)
        signal.setitimer(signal.ITIMER_REAL, 0)
        text = json.dumps(header).encode()
        target.write(_LENGTH.pack(_LENGTH.size + len(text) + len(body)))
        target.write(_LENGTH.pack(len(text)))
        target.write(text)
        target.write(body)
        target.flush()


def _answer(data: bytes, detail: int, settings: Settings) -> tuple[dict[str, Any], bytes]:
    try:
        if detail:
            image = decode(data, settings, detail=detail)
            return {"width": image.width, "height": image.height}, image.tobytes()
        picture = inspect(data, settings)
    except DecodeError as error:
        return {"reason": str(error), "memory": isinstance(error.__cause__, MemoryError)}, b""
    return {
        "width": picture.width,
        "height": picture.height,
        "format": picture.format,
        "thumbnail_width": picture.thumbnail_width,
        "thumbnail_height": picture.thumbnail_height,
        "figures": picture.figures.to_json(),
    }, picture.webp


def _limit(settings: Settings) -> None:
    """Cap the address space at what is used now plus the setting; leave no core dump."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    growth = (settings.decode_memory_mb + _HEADROOM_MB) << 20
    limit = pages * resource.getpagesize() + growth
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Run one decoder process on stdin and stdout."""
    import warnings

    from PIL import Image

    warnings.simplefilter("ignore")
    Image.init()
    settings = Settings(**json.loads(sys.argv[1]))
    _limit(settings)
    _serve(settings, sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
