"""`sightline demo`: the plan of a collection from photos to a served dashboard."""

from __future__ import annotations

import hashlib
import re
import threading
import webbrowser
from pathlib import Path

from cql.settings import ROOT, Settings
from dashboard import sources
from dashboard.pipeline import Step
from dashboard.supervisor import Plan, Supervisor
from dashboard.terminal import Screen

SAMPLE = "sample"
IMAGES = 1600
SEED = 7


def folder_of(photos: str | Path | None, *, images: int = IMAGES, seed: int = SEED) -> Path | None:
    """The data folder of a photo folder or URL: `.sightline/<name>-<8 hex of its path>`.

    None for the usual sample, whose folder the settings name; another size or seed has its own.
    """
    if photos is None:
        usual = (images, seed) == (IMAGES, SEED)
        return None if usual else ROOT / ".sightline" / f"sample-{images}-{seed}"
    source = sources.folder(photos)
    slug = re.sub(r"[^a-z0-9]+", "-", Path(source).name.lower()).strip("-")[:40] or "photos"
    digest = hashlib.sha256(source.encode()).hexdigest()[:8]
    return ROOT / ".sightline" / f"{slug}-{digest}"


def steps(
    settings: Settings,
    *,
    photos: str | Path | None,
    manifest: str | Path | None,
    images: int,
    seed: int,
) -> list[Step]:
    """Everything between photos and a map; each step does only what is missing."""
    found: list[Step] = []
    if photos is None:
        folder = settings.data_dir / SAMPLE
        found.append(
            Step(kind="render", parameters={"folder": str(folder), "images": images, "seed": seed})
        )
        # Its listings.csv names the pictures; nothing else of the folder is read.
        found.append(Step(kind="ingest", parameters={"photos": str(folder)}))
    else:
        found.append(Step(kind="ingest", parameters=sources.ingest_parameters(photos, manifest)))
    model = {"model": settings.model}
    found.append(Step(kind="extract", parameters=model))
    found.append(Step(kind="snapshot", parameters=model))
    found.append(Step(kind="analyse", parameters=model))
    return found


def run(
    settings: Settings,
    *,
    photos: str | Path | None,
    manifest: str | Path | None,
    images: int,
    seed: int,
    browser: bool,
) -> None:
    """Run the demo until Ctrl-C or SIGTERM."""
    plan = Plan(steps=steps(settings, photos=photos, manifest=manifest, images=images, seed=seed))
    with Screen() as screen:
        supervisor = Supervisor(settings, plan, screen)
        if browser and screen.console.is_terminal:
            supervisor.on_page = _open
        screen.note(f"Collection in {settings.data_dir}. Ctrl-C stops everything.")
        try:
            supervisor.run()
        except KeyboardInterrupt:
            screen.note("stopped")


def _open(url: str) -> None:
    # A browser that cannot be started is no reason to wait.
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
