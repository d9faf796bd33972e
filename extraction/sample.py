"""The sample collection: rendered pictures of buried utilities in listings, with planted truth.

Layout: `photos/<listing_id>/<nn>.jpg`, `listings.csv` (what a surveyor notes) and `truth/truth.csv`
(outliers and near-duplicates; only tests read it). The same seed and number of pictures give the
same bytes, whatever the number of workers.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cql.errors import InputError
from cql.progress import Progress, silent
from extraction.rendering import listing as listings

COLUMNS = (
    "listing_id",
    "pos",
    "path",
    "title",
    "material",
    "depth_m",
    "district",
    "surveyed",
    "stock",
)
"""Header of listings.csv."""
TRUTH = ("path", "listing_id", "kind", "outlier", "group", "copy")
"""Header of truth.csv."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleReport:
    """What was rendered: pictures, listings, planted outliers and near-duplicates, bytes."""

    folder: Path
    images: int
    listings: int
    outliers: int
    duplicates: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Done:
    rows: list[tuple[str, ...]]
    truth: list[tuple[str, ...]]
    size: int


def render(
    folder: Path,
    *,
    images: int = 1600,
    seed: int = 7,
    workers: int | None = None,
    progress: Progress = silent,
) -> SampleReport:
    """Render the collection into `folder`, which must be new or empty.

    Listings are rendered in parallel by `workers` processes (default: all cores) and written as
    they finish; the two tables get their names last: a folder without them is incomplete.
    """
    count = os.cpu_count() or 1 if workers is None else workers
    if count < 1:
        raise InputError(f"at least 1 worker must render, got {workers}: raise it")
    layout = listings.plan(images, seed)
    folder = Path(folder).absolute()
    if folder.exists() and any(folder.iterdir()):
        raise InputError(
            f"a sample needs a new or empty folder, {folder} holds files: name another"
        )
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    (folder / "truth").mkdir(exist_ok=True)
    manifest, secret = folder / "listings.csv", folder / "truth" / "truth.csv"
    done = size = 0
    with ExitStack() as stack:
        tables = []
        for path, header in ((manifest, COLUMNS), (secret, TRUTH)):
            part = stack.enter_context(
                path.with_suffix(".part").open("w", newline="", encoding="utf-8")
            )
            table = csv.writer(part, lineterminator="\n")
            table.writerow(header)
            tables.append(table)
        progress("render", 0, images)
        for result in _results(layout, folder, count):
            tables[0].writerows(result.rows)
            tables[1].writerows(result.truth)
            done += len(result.rows)
            size += result.size
            progress("render", done, images)
    secret.with_suffix(".part").replace(secret)
    manifest.with_suffix(".part").replace(manifest)
    return SampleReport(
        folder=folder,
        images=done,
        listings=layout.listings,
        outliers=len(layout.outliers),
        duplicates=len(layout.copies),
        bytes=size,
    )


def _results(layout: listings.Plan, folder: Path, workers: int) -> Iterator[_Done]:
    """Results in listing order; at most a few listings a worker wait at any time."""
    # The first listing is rendered here: it fills the cache of compiled loops for the workers.
    yield _listing(layout, 0, folder)
    if workers == 1:
        for number in range(1, layout.listings):
            yield _listing(layout, number, folder)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_adopt, initargs=(layout, folder)
    ) as pool:
        waiting: list[Future[_Done]] = []
        following = 1
        try:
            while following < layout.listings or waiting:
                while following < layout.listings and len(waiting) < 4 * workers:
                    waiting.append(pool.submit(_task, following))
                    following += 1
                yield waiting.pop(0).result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_work: dict[str, tuple[listings.Plan, Path]] = {}


def _adopt(layout: listings.Plan, folder: Path) -> None:
    """Give a worker process the plan once, instead of with every task."""
    _work["now"] = (layout, folder)


def _task(number: int) -> _Done:
    layout, folder = _work["now"]
    return _listing(layout, number, folder)


def _listing(layout: listings.Plan, number: int, folder: Path) -> _Done:
    from extraction.rendering import shoot

    spec = layout.spec(number)
    target = folder / "photos" / spec.listing_id
    target.mkdir(exist_ok=True)
    rows: list[tuple[str, ...]] = []
    truth: list[tuple[str, ...]] = []
    size = 0
    for shot, data in shoot.pictures(layout, number):
        path = f"photos/{spec.listing_id}/{shot.position:02d}.jpg"
        (folder / path).write_bytes(data)
        size += len(data)
        rows.append(
            (
                spec.listing_id,
                str(shot.position),
                path,
                spec.title,
                spec.material,
                f"{spec.depth_m:.2f}",
                spec.district,
                spec.surveyed,
                str(spec.stock),
            )
        )
        truth.append((path, spec.listing_id, spec.kind, shot.outlier, shot.group, shot.copy))
    return _Done(rows, truth, size)
