"""The map of a snapshot: its steps carried out, stored, compared and made live."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from analytics import arrowfile, projection
from analytics.evidence.groups import Plant
from analytics.hierarchy.grown import Grown, path_of
from analytics.hosting.pointers import make_default
from analytics.making import comparison, division
from analytics.making.plan import STEPS, Making, Parameters, bare, data_of, graphs
from analytics.making.publish import Made, publish
from analytics.making.steps import drop, run
from analytics.search import Searcher
from analytics.tiles import MapTable
from cql.errors import ConflictError, NotFoundError, UnavailableError
from cql.progress import Progress, silent, telling
from cql.records import NAMESPACE, Listing, MapVersion, Snapshot
from cql.settings import Settings
from cql.store import Store

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["STEPS", "Parameters", "analyse"]

KEEP = 5
"""Newest data whose maps stay in Cassandra: a link to an older map still opens."""

VERSIONS = 5
"""Maps that stay of the same data: the newest, of other sizes of clusters or another seed."""

GRAPHS = 2
"""Neighbour graphs that stay in files: of the live map's data, and of the data before."""

LEFT_S = 24 * 3600.0
"""Seconds for which work on another map that nobody finished is kept."""


def analyse(
    spark: SparkSession | None,
    settings: Settings,
    store: Store,
    *,
    model_id: str,
    seed: int = 1,
    progress: Progress = silent,
    parameters: Parameters | None = None,
    plant: Plant | None = None,
) -> MapVersion:
    """Make the map of the live snapshot of `model_id`, and move the live map to it.

    That snapshot is the default one from then on: pages show the map and the searches of one model.

    Steps (names given to `progress`): texts, those of `STEPS` (more of them above the size that one
    node lays out, `analytics.making.division`), store, changes and tiles. What a
    step made is kept in a folder of the map in `data_dir` until the map is live: a run that was
    cancelled, killed or failed continues after its last finished step when it is asked for again.
    `plant` makes copies of images, on which the threshold of near-duplicates is chosen.
    Idempotent: the same data, listing texts, parameters and seed give the same map id and the same
    rows, also over a snapshot that was sharded anew; a map that is stored already is made live.
    The layout starts from that of the newest map of other data: images stay where they were. A
    failed step leaves the previous live map. UnavailableError when no hosts hold the snapshot.
    """
    chosen = parameters or Parameters()
    projection.prepare_cache(settings.data_dir / "numba")
    with Searcher(settings, store) as searcher:
        try:
            snapshot = searcher.snapshot(model_id)
        except NotFoundError as error:
            raise UnavailableError(
                f"a snapshot of model {model_id} must be live, none is: build and host it first"
            ) from error
        listings = read_listings(store, snapshot.listings, progress)
        start = start_of(store, snapshot, seed)
        measured = len(store.measured())
        patched = store.patched(snapshot.model_id)
        landmarks = division.count(settings, snapshot)
        gone = 0
        while True:
            told = text(
                chosen, seed, data_of(snapshot), start,
                measured=measured, patched=patched, gone=gone, landmarks=landmarks,
            )  # fmt: skip
            map_id = identity(listings, told, progress)
            stored = find(store, map_id)
            left = 0 if stored is None else vanished(store, stored)
            if not left:
                break
            # The same data again, but that map shows images which were placed on it and deleted.
            gone += left
        if stored is None:
            making = Making(
                settings=settings,
                store=store,
                searcher=searcher,
                spark=spark,
                listings=listings,
                snapshot=snapshot,
                map_id=map_id,
                chosen=chosen,
                parameters=told,
                seed=seed,
                previous=store.live("map"),
                start=start,
                measured=measured,
                patched=patched,
                plant=plant,
            )
            folder = _work(settings) / str(map_id)
            steps = division.divided(STEPS) if landmarks else STEPS
            done = run(steps, making, folder, progress, rows=snapshot.rows, bare=bare)
            stored = store_all(settings, store, _made(making, done), progress)
        elif stored.snapshot_id != snapshot.snapshot_id:
            # The same data, sharded anew.
            stored = dataclasses.replace(stored, snapshot_id=snapshot.snapshot_id)
            store.put_map(stored)
    progress("tiles", 0, stored.rows_scored)
    MapTable.open(settings, store, map_id, progress=progress)
    progress("tiles", stored.rows_scored, stored.rows_scored)
    go_live(settings, store, map_id)
    make_default(store, model_id)
    return stored


def store_all(settings: Settings, store: Store, made: Made, progress: Progress) -> MapVersion:
    """Store a map and what changed since the one before; its own row is written last."""
    stored, found = publish(settings, store, made, progress)
    progress("changes", 0, len(found))
    comparison.record(settings, store, made, found, progress)
    # Last: whoever sees the map's row sees all of it.
    store.put_map(stored)
    progress("changes", len(found), len(found))
    return stored


def _work(settings: Settings) -> Path:
    return settings.data_dir / "work"


def _made(making: Making, done: Mapping[str, Any]) -> Made:
    near, layout, found = done["graph"], done["layout"], done["clusters"]
    return Made(
        map_id=making.map_id,
        snapshot=making.snapshot,
        previous=making.previous,
        listings=making.listings,
        seed=making.seed,
        parameters=making.parameters,
        rows=done["collect"],
        placed=layout.placed,
        trust=layout.trust,
        tree=Grown(
            done["collect"].images, done["space"].rows, done["tree"], making.chosen.min_samples
        ),
        clusters=found,
        odd=done["outliers"],
        seen=done["appearance"],
        doubles=done["duplicates"],
        curve=done["curve"].curve,
        quality={
            **layout.quality,
            "neighbours": float(near.rows.shape[1]),
            "neighbours_recall": near.recall,
            "neighbours_audited": float(near.audited),
            "clustered": float((found.labels >= 0).mean()) if len(found.labels) else 0.0,
        },
    )


def read_listings(store: Store, total: int, progress: Progress) -> dict[str, Listing]:
    """All listings by id; `total` is about how many there are, for the progress."""
    every = telling(store.iter_listings(), progress, "texts", total)
    return {listing.listing_id: listing for listing in every}


def start_of(store: Store, snapshot: Snapshot, seed: int) -> UUID | None:
    """The map to start from: the newest of the same model and other data.

    A map of the same data and seed that is there already has said which: asked again, the same.
    """
    data = data_of(snapshot)
    told = [(each, json.loads(each.parameters)) for each in store.maps()]
    own = [
        (each, about)
        for each, about in told
        if each.model_id == snapshot.model_id and "frame_side" in each.quality
    ]
    for _, about in own:
        if about.get("data") == data and about.get("seed") == seed:
            return UUID(about["start"]) if about["start"] else None
    newest = max(
        (each for each, about in own if about.get("data") != data),
        key=lambda each: each.created_at,
        default=None,
    )
    return None if newest is None else newest.map_id


def identity(listings: Mapping[str, Listing], parameters: str, progress: Progress = silent) -> UUID:
    """Identity of a map: how it is made and of what data, and the texts that name clusters."""
    texts = hashlib.sha256()
    for listing_id in telling(sorted(listings), progress, "texts", len(listings)):
        listing = listings[listing_id]
        row = [listing_id, listing.title, sorted(listing.attributes.items())]
        texts.update(json.dumps(row).encode())
    return uuid5(NAMESPACE, f"map\0{texts.hexdigest()}\0{parameters}")


def text(
    chosen: Parameters,
    seed: int,
    data: str,
    start: UUID | None,
    *,
    measured: int,
    patched: int,
    gone: int = 0,
    landmarks: int = 0,
) -> str:
    """The parameters of a map as it stores them: canonical JSON.

    Measures and patches follow from the images: how many have them says which were taken in. `gone`
    tells a map from one of the same data on which so many deleted images still stand; `landmarks`
    is 0 for a map that is laid out whole.
    """
    facts = {
        "seed": seed, "data": data, "start": str(start) if start else "", "measured": measured,
        "patched": patched,
    }  # fmt: skip
    if gone:
        facts["gone"] = gone
    if landmarks:
        facts["landmarks"] = landmarks
    return json.dumps({**asdict(chosen), **facts}, sort_keys=True)


def vanished(store: Store, version: MapVersion) -> int:
    """How many images that were placed on a map since it was made have no features any more."""
    lost = 0
    for batch in store.placed_batches(version.map_id):
        keys = [
            (point.listing_id, version.model_id, point.image_id)
            for point in store.placed_points(batch)
        ]
        lost += sum(each is None for each in store.features_at(keys))
    return lost


def find(store: Store, map_id: UUID) -> MapVersion | None:
    try:
        return store.map(map_id)
    except NotFoundError:
        return None


def go_live(settings: Settings, store: Store, map_id: UUID) -> None:
    """Move the live map to one that is stored whole, and forget all but the newest few.

    Those are the newest `VERSIONS` of each of the newest `KEEP` data, and the live map.
    """
    for _ in range(5):
        seen = store.live("map")
        try:
            if seen != map_id:
                store.set_live("map", map_id, expected=seen)
        except ConflictError:
            continue
        _forget(settings, store, map_id)
        return
    raise ConflictError(f"the live map must move to {map_id}: others keep moving it")


def _forget(settings: Settings, store: Store, live: UUID) -> None:
    """Delete what only making the map needed, and maps beyond the newest few.

    Links to them say that they are gone. Work that was left unfinished stays for a day.
    """
    for version in _old(store.maps()):
        if version.map_id != live:
            store.delete_comparisons(version.map_id)
            store.delete_map(version.map_id)
            (settings.data_dir / "maps" / f"{version.map_id}.arrow").unlink(missing_ok=True)
            path_of(settings, version.map_id).unlink(missing_ok=True)
    drop(_work(settings) / str(live))
    kept = sorted(graphs(settings).glob("[!.]*"), key=lambda path: path.stat().st_mtime)
    for path in kept[:-GRAPHS]:
        drop(path)
    # What a kill left half written begins with a dot.
    for path in (*_work(settings).glob("*"), *graphs(settings).glob(".*")):
        if time.time() - path.stat().st_mtime > LEFT_S:
            drop(path)
    arrowfile.sweep(settings.data_dir / "maps")


def _old(maps: Iterable[MapVersion]) -> list[MapVersion]:
    """Maps beyond the newest `VERSIONS` of each of the newest `KEEP` data, the newest first."""
    held: Counter[str] = Counter()
    old = []
    for version in sorted(maps, key=lambda each: each.created_at, reverse=True):
        data = comparison.data_of(version)
        if held[data] < VERSIONS and (data in held or len(held) < KEEP):
            held[data] += 1
        else:
            old.append(version)
    return old
