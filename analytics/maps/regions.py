"""Selections on the map: polygons and filters, exact over all rows."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from cql.errors import InputError

Mode = Literal["union", "subtract", "intersect"]
_MODES: tuple[Mode, ...] = ("union", "subtract", "intersect")
POINTS_MAX = 10_000
POLYGONS_MAX = 100
FAR = 1e6
"""Most of a coordinate: a point of the map has none beyond 1."""

_FORM = (
    '{"polygons": [{"points": [[x, y], ...], "mode": "union"}], '
    '"filters": {"column": ["value"] or {"low": number or "YYYY-MM-DD", "high": ...}}}'
)
_EPOCH = date(1970, 1, 1)
_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True, slots=True)
class Polygon:
    """A lasso or box in world coordinates ([0, 1] x [0, 1]), at least three points, even-odd rule.

    Polygons apply in order to the set so far; the first one starts from nothing for `union`
    and from everything for `subtract` and `intersect`.
    """

    points: tuple[tuple[float, float], ...]
    mode: Mode = "union"


@dataclass(frozen=True, slots=True)
class Range:
    """Inclusive bounds of a number column; None leaves a side open. NaN (missing) never matches.

    `dates`: the bounds were given as ISO dates, and are days since 1970-01-01; only a column of
    dates takes them.
    """

    low: float | None = None
    high: float | None = None
    dates: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """Polygons, then filters by column: any of the values of a category, or a range of a number."""

    polygons: tuple[Polygon, ...] = ()
    filters: Mapping[str, tuple[str, ...] | Range] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read the JSON form shared by URL, API and pages. InputError names what is wrong."""
        given = {} if value is None else value
        if not isinstance(given, Mapping) or set(given) - {"polygons", "filters"}:
            raise InputError(f"a selection must have the form {_FORM}, got {_short(given)}")
        polygons, filters = given.get("polygons") or [], given.get("filters") or {}
        if not isinstance(polygons, list | tuple) or len(polygons) > POLYGONS_MAX:
            raise InputError(f"polygons must be a list of at most {POLYGONS_MAX}: draw fewer")
        if not isinstance(filters, Mapping):
            raise InputError(f"filters must be an object by column, got {_short(filters)}")
        return cls(
            tuple(_polygon(item) for item in polygons),
            {str(name): _filter(str(name), item) for name, item in filters.items()},
        )

    def to_json(self) -> dict[str, Any]:
        """The JSON form; `Selection.from_json(s.to_json()) == s`."""
        filters: dict[str, Any] = {
            name: _range_json(rule) if isinstance(rule, Range) else list(rule)
            for name, rule in self.filters.items()
        }
        polygons = [
            {"points": [list(point) for point in polygon.points], "mode": polygon.mode}
            for polygon in self.polygons
        ]
        return {"polygons": polygons, "filters": filters}

    def without(self, column: str) -> Selection:
        """The selection without the filter of one column."""
        kept = {name: rule for name, rule in self.filters.items() if name != column}
        return Selection(self.polygons, kept)


def days(text: str) -> float | None:
    """Days since 1970-01-01 of an ISO date (YYYY-MM-DD); None for any other text."""
    if not _ISO.fullmatch(text):
        return None
    try:
        return float((date.fromisoformat(text) - _EPOCH).days)
    except ValueError:  # no such day
        return None


def iso(number: float) -> str:
    """The ISO date of the day that holds a number of days since 1970-01-01, years 1 to 9999."""
    least, most = (date.min - _EPOCH).days, (date.max - _EPOCH).days
    return (_EPOCH + timedelta(days=min(max(math.floor(number), least), most))).isoformat()


def mask(
    polygons: tuple[Polygon, ...], x: NDArray[np.float32], y: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Which of the points (N,) the polygons select, in order; all of them when there are none."""
    chosen = np.full(len(x), not polygons or polygons[0].mode != "union")
    for polygon in polygons:
        hit = inside(polygon.points, x, y)
        if polygon.mode == "union":
            chosen |= hit
        elif polygon.mode == "subtract":
            chosen &= ~hit
        else:
            chosen &= hit
    return chosen


def inside(
    points: tuple[tuple[float, float], ...], x: NDArray[np.float32], y: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Even-odd rule in float64 for float32 points (N,).

    An edge owns its lower end and not its upper one, and a point counts edges strictly to its
    right: so of two polygons that share an edge exactly one holds a point on it.
    """
    corners = np.asarray(points, np.float64)
    low, high = corners.min(axis=0), corners.max(axis=0)
    near = np.flatnonzero((x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1]))
    px, py = x[near].astype(np.float64), y[near].astype(np.float64)
    odd = np.zeros(len(near), bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if ay == by:
            continue
        # From the lower end up, whichever way the edge was drawn: both owners compute one number.
        x0, y0, x1, y1 = (ax, ay, bx, by) if ay < by else (bx, by, ax, ay)
        span = (py >= y0) & (py < y1)
        # The share of the edge first: its slope may be more than any number.
        cross = x0 + (x1 - x0) * ((py[span] - y0) / (y1 - y0))
        odd[span] ^= px[span] < cross
    found = np.zeros(len(x), bool)
    found[near] = odd
    return found


def _polygon(value: Any) -> Polygon:
    if not isinstance(value, Mapping):
        raise InputError(f"a polygon must have points and mode, got {_short(value)}")
    mode = value.get("mode", "union")
    if mode not in _MODES:
        raise InputError(f"mode must be one of {', '.join(_MODES)}, got {_short(mode)}")
    points = value.get("points")
    if not isinstance(points, list | tuple) or not 3 <= len(points) <= POINTS_MAX:
        raise InputError(f"a polygon has 3 to {POINTS_MAX} points [x, y], got {_short(points)}")
    return Polygon(tuple(_point(point) for point in points), mode)


def _point(value: Any) -> tuple[float, float]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise InputError(f"a point must be [x, y], got {_short(value)}")
    x, y = _number(value[0], "x"), _number(value[1], "y")
    if max(abs(x), abs(y)) > FAR:
        raise InputError(
            f"a point must lie within {FAR:g} of the map's corner, got {_short(value)}: the map is "
            "from 0 to 1"
        )
    return x, y


def _filter(name: str, value: Any) -> tuple[str, ...] | Range:
    if isinstance(value, Mapping):
        if set(value) - {"low", "high"}:
            raise InputError(f"a range on {name} has low and high, got {_short(value)}")
        given = [value.get(side) for side in ("low", "high")]
        texts = [item for item in given if isinstance(item, str)]
        if texts and len(texts) != len([item for item in given if item is not None]):
            raise InputError(f"a range on {name} has numbers or dates, got {_short(value)}")
        low, high = (
            None if item is None else _bound(item, f"{side} of {name}")
            for side, item in zip(("low", "high"), given, strict=True)
        )
        return Range(low, high, dates=bool(texts))
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise InputError(
        f"a filter on {name} must be a list of text values or a range, got {_short(value)}"
    )


def _bound(value: Any, name: str) -> float:
    if not isinstance(value, str):
        return _number(value, name)
    found = days(value)
    if found is None:
        raise InputError(f"{name} must be a number or a date YYYY-MM-DD, got {_short(value)}")
    return found


def _range_json(rule: Range) -> dict[str, float | str | None]:
    return {
        side: iso(value) if rule.dates and value is not None else value
        for side, value in (("low", rule.low), ("high", rule.high))
    }


def _number(value: Any, name: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, str) or not math.isfinite(number):
        raise InputError(f"{name} must be a finite number, got {_short(value)}")
    return number


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
