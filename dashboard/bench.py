"""Throughput of extraction on this machine: the real parts, a collection that is thrown away."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cql import embedded, jars
from cql.errors import InputError
from cql.progress import Progress, silent
from cql.settings import Settings
from cql.store import Store
from dashboard.connection import open_store

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def extract(
    settings: Settings, *, photos: Path | None, images: int, progress: Progress = silent
) -> dict[str, Any]:
    """Ingest and extract at most `images` pictures; rates in images/s, shares in [0, 1].

    Without `photos` a sample is rendered first (not measured).
    """
    if photos is not None and not photos.is_dir():
        raise InputError(f"photos must be a folder, {photos} is none: check the path")
    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as folder:
        home = Path(folder)
        source = _render(home / "sample", images, progress) if photos is None else photos
        chosen = _linked(source, home / "photos", images)
        with _parts(settings, home) as (own, store, spark):
            from extraction.ingest import ingest
            from extraction.job import extract as run

            began = time.monotonic()
            ingested = ingest(own, store, home / "photos", progress=progress)
            ingest_s = time.monotonic() - began
            report = run(spark, own, store, model=own.model, progress=progress)
    return {
        "images": report.images,
        "files": chosen,
        "failed": ingested.failed + report.failed,
        "cores": settings.cores or os.cpu_count() or 1,
        "device": report.device,
        "model": report.model_id,
        "ingest images/s": ingested.ready / ingest_s if ingest_s > 0 else 0.0,
        "extract images/s": report.rate,
        "extract seconds": report.seconds,
        **{f"share {name}": share for name, share in report.shares.items()},
    }


def _render(folder: Path, images: int, progress: Progress) -> Path:
    from extraction.sample import render

    render(folder, images=images, seed=7, progress=progress)
    return folder / "photos"


def _linked(source: Path, target: Path, images: int) -> int:
    """Link the first pictures of a tree, by path, into a tree of their own; returns how many.

    Nothing else is linked: a manifest would name pictures that are not.
    """
    from extraction.photos import is_candidate

    found = (path for path in source.rglob("*") if is_candidate(path.name) and path.is_file())
    chosen = sorted(found)[:images]
    for path in chosen:
        link = target / path.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())
    return len(chosen)


@contextmanager
def _parts(settings: Settings, home: Path) -> Iterator[tuple[Settings, Store, SparkSession]]:
    """A Cassandra of our own, a store on it, and Spark."""
    from cql import spark

    own = settings.replace(data_dir=home / "data", cassandra_hosts=())
    jars.fetch(own)
    with embedded.Cassandra.start(own), open_store(own) as store:
        session = spark.session(own, app="sightline bench")
        try:
            yield own, store, session
        finally:
            session.stop()
