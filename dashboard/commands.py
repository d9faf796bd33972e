"""What the commands do, apart from their flags: attach to a running demo, or run an engine."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cql import embedded
from cql.errors import InputError, NotFoundError, UnavailableError
from cql.settings import Settings
from cql.store import Store
from dashboard import exports, present, stocks
from dashboard import replay as replaying
from dashboard.api import to_json
from dashboard.atlas import Atlas
from dashboard.connection import open_store
from dashboard.pipeline import Step, bring_up
from dashboard.reference import version
from dashboard.services import Services
from dashboard.supervisor import Plan, Supervisor, running
from dashboard.terminal import Screen

READY_S = 180.0
"""Seconds to wait for an engine of our own to serve the snapshot."""


def work(settings: Settings, steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Run the steps by the engine that is there, else by one of our own; their jobs as JSON."""
    found: list[dict[str, Any]] = []

    def record(screen: Screen, stop: threading.Event) -> None:
        found.extend(
            to_json(present.job_view(job)) for job in bring_up(settings, steps, screen, stop)
        )

    with_engine(settings, record)
    return found


def status(settings: Settings) -> dict[str, Any]:
    """Collection, health, jobs and the address of a running demo, as JSON."""
    if settings.embedded and not embedded.running(settings):
        reason = f"nothing runs for {settings.data_dir}"
        return {
            "data_dir": str(settings.data_dir),
            "url": None,
            "health": {"ready": False, "checks": [{"name": "cassandra", "detail": reason}]},
        }
    services = Services.open(settings)
    try:
        return {
            "data_dir": str(settings.data_dir),
            "url": running(settings.data_dir).get("url"),
            "collection": to_json(services.collection()),
            "health": to_json(services.health()),
            "jobs": to_json(list(services.jobs(10))),
        }
    finally:
        services.close()


def evaluate(settings: Settings, attribute: str, *, k: int) -> dict[str, Any]:
    """k-NN accuracy and precision@1 over the stored features, labels from an attribute."""
    from analytics.retrieval import knn_accuracy, precision_at_1
    from extraction.models import describe

    model_id = describe(settings.model, settings).model_id
    with _store(settings) as store:
        vectors, labels = features(store, model_id, attribute)
    return {
        "model": model_id,
        "attribute": attribute,
        "images": len(labels),
        "labels": len(set(labels)),
        f"{k}-NN accuracy": knn_accuracy(vectors, np.array(labels), k=k),
        "precision@1": precision_at_1(vectors, np.array(labels)),
    }


def features(store: Store, model_id: str, attribute: str) -> tuple[NDArray[np.float32], list[str]]:
    """Stored vectors, float32 (N, D), and the labels of their listings, by listing and image."""
    rows: list[NDArray[np.float32]] = []
    labels: list[str] = []
    known: set[str] = set()
    for listing in store.iter_listings():
        known |= set(listing.attributes)
        label = listing.attributes.get(attribute)
        if label is None:
            continue
        for feature in store.features_of(listing.listing_id, model_id):
            rows.append(np.frombuffer(feature.vector, "<f4"))
            labels.append(label)
    if not rows:
        raise NotFoundError(
            f"no image has features of {model_id} and the attribute {attribute!r} "
            f"(attributes: {', '.join(sorted(known)) or 'none'}): extract, or name another"
        )
    return np.stack(rows), labels


def delete(settings: Settings, *, image: str | None, listing: str | None) -> list[Step]:
    """Delete an image or a listing. NotFoundError when it is not there.

    Returns the steps that take it out of shards and map too; none where there is no map yet.
    """
    image_id = None if image is None else _uuid(image)
    # The store's own check also finds what an interrupted delete has left.
    with _store(settings) as store:
        if image_id is not None:
            store.delete_image(image_id)
        elif listing is not None:
            store.delete_listing(listing)
        live = store.live("map")
        if live is None:
            return []
        version = store.map(live)
        model = store.model(version.model_id).name
    return [
        Step(kind="snapshot", parameters={"model": model}),
        Step(kind="analyse", parameters={"model": model, "seed": version.seed}),
    ]


def stock_get(settings: Settings, listing: str) -> dict[str, Any]:
    """The StockView of a listing as JSON."""
    with _store(settings) as store:
        found: dict[str, Any] = to_json(stocks.read(store, listing))
    return found


def stock_set(
    settings: Settings, listing: str, inventory: int, *, etag: str | None
) -> dict[str, Any]:
    """Set the stock of a listing; its StockView as JSON."""
    with _store(settings) as store:
        found: dict[str, Any] = to_json(stocks.change(store, listing, inventory, etag=etag))
    return found


def stock_report(settings: Settings, by: str) -> dict[str, Any]:
    """Report stock by an engine; {by, file, rows} with the total last."""
    step = stocks.report_step(by)
    work(settings, [step])
    path = stocks.report_file(settings, step.parameters)
    return {"by": by, "file": str(path), "rows": stocks.read_report(path)}


def export(settings: Settings, path: Path, fmt: str, *, history: bool) -> dict[str, Any]:
    """Write decisions to a file; its name, form and size as JSON."""
    if not path.parent.is_dir():
        raise InputError(f"the folder of {path} must be there, it is not: make it first")
    with _store(settings) as store:
        pieces = exports.stream(
            store, Atlas(settings, store), fmt, history=history, version=version()
        )
        size = exports.write(path, pieces)
    return {"file": str(path), "format": fmt, "history": history, "bytes": size}


def replay(settings: Settings, path: Path, *, author: str) -> dict[str, Any]:
    """Make the decisions of an exported ledger here; what became of them as JSON."""
    held = exports.read_ledger(path)
    with _store(settings) as store:
        found: dict[str, Any] = to_json(
            replaying.replay(store, held, author=author, source=path.name)
        )
    return found


TRAINING_SAMPLE = {"images": 384, "seed": 2024}
"""What is rendered to learn from where no sample is named: not the seed of the demo's sample."""


def distil(*, sample: Path | None, out: Path | None, **given: Any) -> dict[str, Any]:
    """Train the small model by `extraction.train.distil`; report and held-out figures as JSON."""
    from dashboard import training
    from extraction import train
    from extraction.sample import render

    with Screen() as screen, tempfile.TemporaryDirectory() as scratch:
        shown = _shown(screen)
        if sample is None:
            sample = Path(scratch) / "sample"
            render(sample, **TRAINING_SAMPLE, progress=shown)
            told = "sightline train distil"
        else:
            told = f"sightline train distil --sample {sample.name}"
        report = train.distil(
            **given, sample=sample, out=out or train.WEIGHTS, command=told, progress=shown
        )
        figures = training.evaluate(
            teacher=given["teacher"],
            photos=given["photos"],
            description=report.weights.with_suffix(".json"),
            progress=shown,
        )
    found: dict[str, Any] = to_json(report) | {"held_out": figures}
    return found


def bench_extract(settings: Settings, *, photos: Path | None, images: int) -> dict[str, Any]:
    """Images a second of extraction, and where the time goes."""
    from dashboard.bench import extract

    with Screen() as screen:
        return extract(settings, photos=photos, images=images, progress=_shown(screen))


def show_stock(found: Mapping[str, Any]) -> None:
    """A table of a stock report."""
    table = Table(found["by"] or "", "listings", "stock known", "in stock", "pieces")
    for row in found["rows"]:
        figures = (f"{row[name]:,}" for name in ("listings", "known", "in_stock", "pieces"))
        table.add_row(escape(row["label"] or "(none)"), *figures)
    console = Console()
    console.print(table)
    console.print(escape(found["file"]), soft_wrap=True)


def show_status(found: Mapping[str, Any]) -> None:
    """Status for a person."""
    console = Console(highlight=False)
    console.print(f"collection  {found['data_dir']}")
    if found.get("url"):
        console.print(f"dashboard   {found['url']}")
    collection = found.get("collection")
    if collection:
        console.print(
            f"photos      {collection['files_ready']:,} ready, "
            f"{collection['files_failed']:,} failed ({collection['state']})"
        )
        version = collection["map"]
        if version:
            console.print(
                f"map         {version['rows_scored']:,} of {version['rows']:,} images"
                + (f" and {version['placed']:,} placed since" if version.get("placed") else "")
                + f", {version['clusters']} clusters, model {version['model_id']}"
                + _around(version.get("quality") or {})
            )
    for check in found["health"]["checks"]:
        mark = "✓" if check.get("ok") else "✗"
        console.print(f"{mark} {check['name']}: {check['detail']}")
    for job in found.get("jobs", ()):
        console.print(f"  {job['kind']:<9} {job['state']:<9} {job['message'] or job['error']}")


def _around(quality: Mapping[str, float]) -> str:
    """How a map was laid out that was too large for one node; empty for any other."""
    if not quality.get("placed"):
        return ""
    return f", {int(quality['placed']):,} placed around {int(quality['landmarks']):,} landmarks"


def show_table(title: str, found: Mapping[str, Any]) -> None:
    """Names and figures."""
    table = Table("", "", title=title, show_header=False)
    for name, value in found.items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    Console().print(table)


def show_settings(rows: Sequence[Mapping[str, str]]) -> None:
    """The settings table."""
    table = Table("setting", "variable", "default", "meaning")
    for row in rows:
        table.add_row(row["name"], row["variable"], row["default"] or "(empty)", row["help"])
    Console().print(table)


def with_engine(settings: Settings, task: Callable[[Screen, threading.Event], None]) -> None:
    """Run a task while an engine lives: the one that is there, else our own for the time of it."""
    with Screen() as screen:
        if _attached(settings):
            task(screen, threading.Event())
            return
        Supervisor(settings, Plan(web=False, task=task), screen).run()


def _attached(settings: Settings) -> bool:
    """Whether an engine that is not ours will take the work."""
    if settings.embedded:
        return bool(running(settings.data_dir))
    with open_store(settings) as store:
        return bool(store.services("engine"))


@contextlib.contextmanager
def _store(settings: Settings) -> Iterator[Store]:
    with embedded.ensure(settings), open_store(settings) as store:
        yield store


def await_ready(services: Services, stop: threading.Event) -> None:
    """Wait until a snapshot can be searched. UnavailableError after `READY_S` seconds."""
    deadline = time.monotonic() + READY_S
    while not services.health().ready:
        if time.monotonic() > deadline or stop.wait(0.5):
            missing = "; ".join(c.detail for c in services.health().checks if not c.ok)
            raise UnavailableError(f"a snapshot must be loaded to search: {missing}")


def _shown(screen: Screen) -> Callable[..., None]:
    def progress(step: str, done: int, total: int, message: str = "") -> None:
        screen.update(step, done, total, message=message)

    return progress


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InputError(
            f"{text!r} must be an image id (a UUID) or an existing file: check it"
        ) from None
