"""Small shared parts: icons, pictures, badges, numbers as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from dash import html

API = "/api/v1"


def aria(**values: str) -> dict[str, Any]:
    """Return `aria-*` properties by their names without the prefix."""
    return {f"aria-{name}": value for name, value in values.items()}


def data(**values: str) -> dict[str, Any]:
    """Return `data-*` properties, which assets/keys.js reads, by their names without the prefix."""
    return {f"data-{name}": value for name, value in values.items()}


def icon(name: str) -> html.Span:
    """Build an icon (assets/icons.css); decoration beside text that carries the meaning."""
    return html.Span(className=f"icon icon--{name}", **aria(hidden="true"))


def thumbnail_url(image_id: UUID) -> str:
    """Return the address of an image's thumbnail."""
    return f"{API}/images/{image_id}/thumbnail"


def photo_url(image_id: UUID) -> str:
    """Return the address of an image's full picture."""
    return f"{API}/images/{image_id}/photo"


def picture(image_id: UUID, *, alt: str, css: str = "picture") -> html.Div:
    """Build a thumbnail in a box of fixed shape; assets/pictures.js loads it near the screen."""
    return html.Div(
        html.Img(alt=alt, draggable="false", **data(src=thumbnail_url(image_id))), className=css
    )


def badge(text: str, tone: str = "plain") -> html.Span:
    """Build a badge; tones are plain, accent, ok, warn, danger."""
    return html.Span(text, className=f"badge badge--{tone}")


def stock_words(stock: int) -> str:
    """Say how many of a listing are for sale."""
    return f"In stock: {count(stock)}" if stock else "Out of stock"


def stock_read(stock: int, read_at: datetime | None) -> list[Any]:
    """Build how many were for sale when that was read, with the time of day (UTC)."""
    if read_at is None:
        return [html.Span(f"in stock: {count(stock)}")]
    moment = read_at.astimezone(UTC)
    return [
        html.Span(f"in stock: {count(stock)}, "),
        html.Time(
            f"read {moment:%H:%M:%S}",
            dateTime=moment.isoformat(timespec="milliseconds"),
            title=f"Read from Cassandra at {moment:%Y-%m-%d %H:%M:%S} UTC",
        ),
    ]


def prose(text: str) -> list[Any]:
    """Build text whose `quoted` parts are code; everything stays text, never markup."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:
        return [text]
    return [html.Code(piece) if at % 2 else piece for at, piece in enumerate(pieces) if piece]


def count(value: int) -> str:
    """Write an integer with thousands separators."""
    return f"{value:,}"


def size(value: int) -> str:
    """Write bytes as people say them: `640 MB`, `2.1 GB`; the space does not break."""
    large = value >= 10**9
    return f"{value / 10**9:.1f}\u00a0GB" if large else f"{value / 10**6:.0f}\u00a0MB"


def plural(value: int, one: str, many: str = "") -> str:
    """Write a count with its noun: `1 image`, `2,640 images`."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def around(quality: Mapping[str, float]) -> str:
    """Write how a map was laid out that was too large for one node; nothing for any other."""
    images = int(quality.get("placed", 0))
    if not images:
        return ""
    stood = plural(int(quality["landmarks"]), "landmark")
    return f"{plural(images, 'image')} placed around {stood}"


def percent(share: float) -> str:
    """Write a share in [0, 1]: `12%`, `0.4%`, `<0.1%`; 100% only when it is all."""
    if 0.0 < share < 0.001:
        return "<0.1%"
    if 0.99 < share < 1.0:
        return f"{min(share * 100, 99.9):.1f}%"
    return f"{share * 100:.1f}%" if 0.0 < share < 0.1 else f"{share * 100:.0f}%"


def duration(seconds: float | None) -> str:
    """Write seconds as people say them: `41 ms`, `1.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`.

    The spaces do not break, so that a number never loses its unit at the end of a line.
    """
    return "" if seconds is None else _duration(max(seconds, 0.0)).replace(" ", "\u00a0")


def _duration(seconds: float) -> str:
    if 0 < seconds < 0.9995:
        return f"{max(round(seconds * 1000), 1)} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def when(moment: datetime | None, now: datetime | None = None) -> html.Time | None:
    """Build a moment as distance from now, the exact time in its title."""
    if moment is None:
        return None
    exact = moment.astimezone(UTC)
    return html.Time(
        ago(exact, now or datetime.now(UTC)),
        dateTime=exact.isoformat(timespec="seconds"),
        title=f"{exact:%Y-%m-%d %H:%M:%S} UTC",
    )


def ago(moment: datetime, now: datetime) -> str:
    """Write how long ago a moment was."""
    seconds = max((now - moment).total_seconds(), 0.0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now"
