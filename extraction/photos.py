"""Where photos are: fsspec URLs, listing a folder tree, reading one file with its size and time."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cql.errors import InputError

SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".tif", ".tiff", ".bmp", ".dib",
        ".gif",
        # Not decoded: these end as failed with a reason instead of being passed over.
        ".heic", ".heif", ".avif", ".jxl", ".jp2", ".psd", ".svg", ".dng", ".cr2", ".cr3", ".nef",
        ".arw", ".raw", ".orf", ".rw2",
    }
)  # fmt: skip
"""Suffixes that make a file of a folder tree a candidate, compared in lower case."""

_FILE = "file://"


class ReadError(InputError):
    """A file that cannot be read; the message is the reason, in plain words."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Size in bytes and modification time of a file; `mtime_ns` is 0 where the store has none."""

    bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Found:
    """A candidate of a folder tree: its URL, and its path below the root ('/' between parts)."""

    uri: str
    path: str
    facts: Facts | None = None
    problem: str = ""


@dataclass(slots=True)
class Ignored:
    """How many files of a tree were passed over: hidden ones, and ones that are no pictures."""

    hidden: int = 0
    other: int = 0


def url_of(place: str | Path) -> str:
    """fsspec URL of a path or URL. The path of a file URL stands as it is, not percent-encoded."""
    text = str(place)
    if "://" in text and not text.startswith(_FILE):
        return text.rstrip("/")
    return _FILE + os.path.normpath(Path(text.removeprefix(_FILE)).expanduser().absolute())


def join(root: str, path: str) -> str:
    """URL of a manifest's `path`: as it is when it is a URL or absolute, else below `root`."""
    if "://" in path:
        return url_of(path)
    if root.startswith(_FILE):
        return url_of(Path(root.removeprefix(_FILE)) / path)
    return f"{root}/{path.lstrip('/')}"


def facts_of(uri: str) -> Facts:
    """Size and time of the file at `uri`. `ReadError` when there is no regular file to read."""
    try:
        if uri.startswith(_FILE):
            return _facts(os.stat(uri.removeprefix(_FILE)))  # noqa: PTH116 - a str is enough, and faster
        fs, path = _filesystem(uri)
        info = fs.info(path)
    except (OSError, ValueError) as error:
        raise ReadError(_reason(error)) from error
    if info["type"] != "file":
        raise ReadError("a folder, not a file")
    return _remote_facts(info)


def read(uri: str, *, limit: int) -> bytes:
    """The bytes at `uri`, at most `limit` + 1 of them. `ReadError` tells why there are none."""
    try:
        if uri.startswith(_FILE):
            # A name that became a pipe or a device since it was listed must not block us.
            handle = os.open(uri.removeprefix(_FILE), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(handle, "rb") as file:
                _facts(os.fstat(handle))
                return file.read(limit + 1)
        fs, path = _filesystem(uri)
        data: bytes = fs.cat_file(path, start=0, end=limit + 1)
    except (OSError, ValueError) as error:
        raise ReadError(_reason(error)) from error
    return data


def walk(root: str, ignored: Ignored) -> Iterator[Found]:
    """Candidates below `root` in path order; hidden and other files are counted in `ignored`.

    Symbolic links to folders are not followed. `InputError` when `root` is no folder.
    """
    if not root.startswith(_FILE):
        yield from _walk_remote(root, ignored)
        return
    folder = root.removeprefix(_FILE)
    if not os.path.isdir(folder):  # noqa: PTH112
        raise InputError(f"photos must be a folder that exists, {folder} is not: check the path")
    yield from _walk_local(folder, "", ignored)


def _walk_local(folder: str, prefix: str, ignored: Ignored) -> Iterator[Found]:
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        yield Found(_FILE + _text(folder), _text(prefix.rstrip("/")), problem=_reason(error))
        return
    if not entries and is_candidate(prefix.rstrip("/")):
        yield Found(
            _FILE + _text(folder), _text(prefix.rstrip("/")), problem="a folder, not a file"
        )
    for entry in entries:
        name = prefix + entry.name
        if entry.name.startswith("."):
            ignored.hidden += 1
        elif entry.is_dir(follow_symlinks=False):
            yield from _walk_local(entry.path, name + "/", ignored)
        elif not is_candidate(entry.name):
            ignored.other += 1
        elif _text(name) != name:
            problem = "its name is not valid UTF-8: rename it"
            yield Found(_FILE + _text(entry.path), _text(name), problem=problem)
        else:
            yield Found(_FILE + entry.path, name, *_local_facts(entry))


def _local_facts(entry: os.DirEntry[str]) -> tuple[Facts | None, str]:
    try:
        return _facts(entry.stat()), ""
    except OSError as error:
        return None, _reason(error)
    except ReadError as error:
        return None, str(error)


def _walk_remote(root: str, ignored: Ignored) -> Iterator[Found]:
    fs, folder = _filesystem(root)
    try:
        infos: dict[str, dict[str, Any]] = fs.find(folder, detail=True)
    except OSError as error:
        raise InputError(f"photos must be a folder that can be listed, {root}: {error}") from error
    if not infos and not fs.isdir(folder):
        raise InputError(f"photos must be a folder that exists, {root} is not: check the URL")
    for path in sorted(infos):
        name = path.removeprefix(folder).lstrip("/")
        if any(part.startswith(".") for part in name.split("/")):
            ignored.hidden += 1
        elif not is_candidate(name):
            ignored.other += 1
        else:
            yield Found(f"{root}/{name}", name, _remote_facts(infos[path]))


def is_candidate(name: str) -> bool:
    """Whether a file of this name is taken for a picture in a folder tree."""
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122


def _filesystem(uri: str) -> tuple[Any, str]:
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(uri)
    except (ImportError, ValueError) as error:
        raise InputError(f"photos at {uri} need a file system that is not here: {error}") from error
    return fs, path


def _facts(status: os.stat_result) -> Facts:
    if stat.S_ISDIR(status.st_mode):
        raise ReadError("a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise ReadError("not a regular file")
    return Facts(status.st_size, status.st_mtime_ns)


def _remote_facts(info: dict[str, Any]) -> Facts:
    for key in ("mtime", "LastModified", "last_modified", "modified", "updated", "created"):
        value = info.get(key)
        if isinstance(value, datetime):
            value = value.timestamp()
        if isinstance(value, (int, float)):
            return Facts(int(info["size"] or 0), int(value * 1e9))
    return Facts(int(info["size"] or 0), 0)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, PermissionError):
        return "it may not be read: permission denied"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"it cannot be read: {text or type(error).__name__}"


def _text(name: str) -> str:
    """A name that can be stored: bytes that are not UTF-8 become backslash escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
