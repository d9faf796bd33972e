"""`sightline search`: from its flags to a request, and the answer as a table."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analytics.maps.regions import Selection
from analytics.request import Request
from cql.errors import InputError
from cql.settings import Settings
from dashboard import commands, conditions
from dashboard.answers import HitView, SearchView
from dashboard.api import to_json
from dashboard.services import PAGE_LIMIT, Services
from dashboard.terminal import Screen


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What the command line said. `examples` are image ids or picture files, told by what exists.

    `listings` count with all their photos; `filters` are `attribute=value`.
    """

    examples: Sequence[str] = ()
    images: Sequence[str] = ()
    files: Sequence[Path] = ()
    listings: Sequence[str] = ()
    negatives: Sequence[str] = ()
    aggregate: str = "max"
    best: int = 3
    in_stock: bool = False
    within: str | None = None
    filters: Sequence[str] = ()
    model: str | None = None
    k: int = 10
    name: str = ""


def search(settings: Settings, flags: Flags) -> dict[str, Any]:
    """Search as the flags say, by the engine that is there or one of our own.

    Returns the SearchView with all of its hits, as JSON.
    """
    _check(flags)
    found: list[SearchView] = []
    rest: list[HitView] = []

    def ask(_screen: Screen, stop: threading.Event) -> None:
        services = Services.open(settings)
        try:
            commands.await_ready(services, stop)
            answer = run(services, flags)
            found.append(answer)
            after = answer.next_after
            while after is not None:
                page = services.query(answer.query_id, limit=PAGE_LIMIT, after=after)
                rest.extend(page.hits)
                after = page.next_after
        finally:
            services.close()

    commands.with_engine(settings, ask)
    result: dict[str, Any] = to_json(found[0])
    result["hits"] += [to_json(hit) for hit in rest]
    result["next_after"] = None
    return result


def run(services: Services, flags: Flags) -> SearchView:
    """The answer with its first page of hits."""
    images, files = _examples(flags)
    listings = list(flags.listings)
    for listing_id in listings[1:]:
        images += [image.image_id for image in services.listing(listing_id).images]
    chosen = conditions.selection(flags.filters, services.columns()) if flags.filters else None
    request = Request(
        image_ids=tuple(images),
        listing_id=listings[0] if listings else None,
        negatives=tuple(image_id(text) for text in flags.negatives),
        aggregate=flags.aggregate,
        best=flags.best,
        selection=Selection.from_json(chosen),
        within=None if flags.within is None else image_id(flags.within, "a query"),
        in_stock=flags.in_stock,
        model=flags.model,
        k=flags.k,
        name=flags.name,
    )
    if files:
        return services.search_upload([(path.read_bytes(), path.name) for path in files], request)
    return services.search(request)


def image_id(text: str, what: str = "an image") -> UUID:
    """The id that a text names. InputError."""
    try:
        return UUID(text)
    except ValueError:
        hint = " or an existing file" if what == "an image" else ""
        raise InputError(f"{text!r} must be {what} id (a UUID){hint}: check it") from None


def show(found: Mapping[str, Any]) -> None:
    """A table of hits, and how complete the answer is."""
    stocked = bool(found["in_stock"])
    table = Table("rank", "score", "listing", "title", "image", *(["in stock"] if stocked else []))
    for hit in found["hits"]:
        cells = [
            str(hit["rank"]),
            f"{hit['score']:.4f}",
            escape(hit["listing_id"]),
            escape(hit["title"]),
            str(hit["image_id"]),
        ]
        table.add_row(*cells, *([f"{hit['inventory']:,}"] if stocked else []))
    console = Console(highlight=False)
    console.print(table)
    kind = "exact" if found["exact"] else "approximate"
    console.print(
        f"{kind}: {found['rows_scanned']:,} of {found['rows']:,} images, "
        f"{found['rescored'] or 0:,} rescored, in {found['seconds'] * 1000:.0f} ms"
    )
    if stocked and found["lag_s"] is not None:
        console.print(f"stock followed {found['lag_s']:.1f} s before, hits read again")
    if found["behind"]:
        console.print(f"{found['behind']:,} changes wait for the next snapshot")
    console.print(f"model {escape(found['model_id'])}")
    console.print(f"query {found['query_id']}")


def _check(flags: Flags) -> None:
    """What can be wrong before an engine is started for it."""
    images, files = _examples(flags)
    if not (images or files or flags.listings):
        raise InputError(
            "a search needs an example, got none: give an image id, a picture file or --listing"
        )
    for path in files:
        if not path.is_file():
            raise InputError(f"--file must be a picture file, got {str(path)!r}: check the path")
    for text in flags.negatives:
        image_id(text)
    if flags.within is not None:
        image_id(flags.within, "a query")
    Request(
        image_ids=tuple(images) or (UUID(int=0),),
        aggregate=flags.aggregate,
        best=flags.best,
        k=flags.k,
    ).check()


def _examples(flags: Flags) -> tuple[list[UUID], list[Path]]:
    images = [image_id(text) for text in flags.images]
    files = [path.expanduser() for path in flags.files]
    for text in flags.examples:
        path = Path(text).expanduser()
        if path.is_file():
            files.append(path)
        else:
            images.append(image_id(text))
    return images, files
