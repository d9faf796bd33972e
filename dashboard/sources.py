"""Where photos and manifests are: a path of this machine, or an fsspec URL such as `s3://...`."""

from __future__ import annotations

from pathlib import Path

from cql.errors import InputError


def folder(photos: str | Path) -> str:
    """The folder as an absolute path, or the URL as it is. InputError for a path that is none."""
    text = str(photos)
    if _is_url(text):
        return text.rstrip("/")
    if not text.strip():
        raise InputError("photos must be named, got an empty path: name a folder")
    resolved = Path(text).expanduser().resolve()
    if not resolved.is_dir():
        raise InputError(f"photos must be a folder, {photos} is none: check the path")
    return str(resolved)


def file(manifest: str | Path) -> str:
    """The file as an absolute path, or the URL as it is. InputError for a path that is none."""
    text = str(manifest)
    if _is_url(text):
        return text
    resolved = Path(text).expanduser().resolve()
    if not resolved.is_file():
        raise InputError(f"a manifest must be a file, {manifest} is none: check the path")
    return str(resolved)


def ingest_parameters(photos: str | Path, manifest: str | Path | None) -> dict[str, str]:
    """Parameters of an ingest job: the engine may have another working directory."""
    found = {"photos": folder(photos)}
    return found if manifest is None else {**found, "manifest": file(manifest)}


def _is_url(text: str) -> bool:
    return "://" in text and not Path(text).exists()
