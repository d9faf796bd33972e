"""What a URL says: frozen page states, read from and written to the query part of the address.

An address is hostile input. Reading never raises: a value that breaks a rule is dropped, and the
rest of the address still works. What is written is canonical: `read(write(state)) == state`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal
from uuid import UUID

from analytics.maps.regions import days
from dashboard import ids
from dashboard.address import CONTROL, number, numbers, page_of, pairs_of, real, single_of, written
from dashboard.terms import Terms, uuid

Mode = Literal["union", "subtract", "intersect"]
"""How a polygon joins the selection before it."""

MAX_POLYGONS: Final = 16
MAX_POINTS: Final = 512
MAX_FILTERS: Final = 32
MAX_VALUES: Final = 256
MAX_TEXT: Final = 200
MAX_ZOOM: Final = 32.0
MAX_AFTER: Final = 1_000

NUMBER_COLUMNS: Final = ("outlier_score", "membership", "knn_distance", "confidence")
_COLUMN = re.compile(
    r"(?:cluster|group|placed|label|predicted|confidence|trust|outlier_score|membership"
    r"|knn_distance|attr:[^\x00-\x1f\x7f]{1,120})"
)
_MODES: Final[dict[str, Mode]] = {"u": "union", "s": "subtract", "i": "intersect"}
_LETTERS: Final = {mode: letter for letter, mode in _MODES.items()}


Bound = float | str | None
"""One side of a range: a number, an ISO date, or open."""


@dataclass(frozen=True, slots=True)
class Camera:
    """Centre of the view in world coordinates ([0, 1] each) and zoom (log2 of the scale)."""

    x: float
    y: float
    zoom: float


@dataclass(frozen=True, slots=True)
class Polygon:
    """A lasso or a box in world coordinates, at least three points."""

    points: tuple[tuple[float, float], ...]
    mode: Mode = "union"


@dataclass(frozen=True, slots=True)
class Filter:
    """A facet: either the `values` that pass, or the closed range from `low` to `high`.

    Bounds are numbers, or ISO dates as text.
    """

    column: str
    values: tuple[str, ...] = ()
    low: Bound = None
    high: Bound = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExploreState:
    """Everything that a link to Explore carries.

    `map_id` None means the live map; `image` is the opened picture; `query` a published search.
    Filters are sorted by column, one for each column. `terms` say how what is open is searched for.
    """

    map_id: UUID | None = None
    colour: str = "cluster"
    image: UUID | None = None
    query: UUID | None = None
    camera: Camera | None = None
    polygons: tuple[Polygon, ...] = ()
    filters: tuple[Filter, ...] = ()
    terms: Terms = field(default_factory=Terms)

    @classmethod
    def read(cls, search: str | None) -> ExploreState:
        """Return the state that the query part of an address (with or without `?`) names."""
        polygons: list[Polygon] = []
        filters: dict[str, Filter] = {}
        single: dict[str, str] = {}
        pairs = pairs_of(search)
        for key, value in pairs:
            if key == "sel" and len(polygons) < MAX_POLYGONS:
                polygon = _read_polygon(value)
                if polygon is not None:
                    polygons.append(polygon)
            elif key.startswith(("f.", "r.")):
                _read_filter(filters, key[0], key[2:], value)
            else:
                single.setdefault(key, value)
        colour = single.get("colour", "cluster")
        return cls(
            map_id=uuid(single.get("map")),
            colour=colour if is_column(colour) else "cluster",
            image=uuid(single.get("image")),
            query=uuid(single.get("q")),
            camera=_read_camera(single.get("cam", "")),
            polygons=tuple(polygons),
            filters=tuple(filters[column] for column in sorted(filters)),
            terms=Terms.read(pairs),
        )

    def write(self) -> str:
        """Return the query part with its `?`; empty for the default state."""
        pairs: list[tuple[str, str]] = []
        if self.map_id is not None:
            pairs.append(("map", str(self.map_id)))
        if self.colour != "cluster":
            pairs.append(("colour", self.colour))
        if self.image is not None:
            pairs.append(("image", str(self.image)))
        if self.query is not None:
            pairs.append(("q", str(self.query)))
        pairs += self.terms.pairs()
        if self.camera is not None:
            camera = self.camera
            pairs.append(("cam", ",".join(number(v) for v in (camera.x, camera.y, camera.zoom))))
        for polygon in self.polygons:
            points = ";".join(f"{number(x)},{number(y)}" for x, y in polygon.points)
            pairs.append(("sel", f"{_LETTERS[polygon.mode]};{points}"))
        for item in self.filters:
            if item.values:
                pairs.extend((f"f.{item.column}", value) for value in item.values)
            else:
                pairs.append((f"r.{item.column}", f"{_side(item.low)}..{_side(item.high)}"))
        return written(pairs)

    def href(self) -> str:
        """Address of Explore in this state."""
        return ids.PATH_EXPLORE + self.write()

    def selection(self) -> dict[str, object]:
        """Return the selection as JSON: the form of the map API and of `tiles.Selection`."""
        filters: dict[str, object] = {}
        for item in self.filters:
            filters[item.column] = (
                list(item.values) if item.values else {"low": item.low, "high": item.high}
            )
        return {
            "polygons": [
                {"points": [list(point) for point in polygon.points], "mode": polygon.mode}
                for polygon in self.polygons
            ],
            "filters": filters,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ClustersState:
    """Order and text filter of the cluster list; the `size` of a cluster that is looked at."""

    sort: Literal["size", "name"] = "size"
    text: str = ""
    size: int | None = None

    @classmethod
    def read(cls, search: str | None) -> ClustersState:
        """Return the state that the query part of an address names."""
        single = single_of(search)
        return cls(
            sort="name" if single.get("sort") == "name" else "size",
            text=single.get("text", "").strip()[:MAX_TEXT].strip(),
            size=_size(single.get("size", "")),
        )

    def write(self) -> str:
        """Return the query part with its `?`; empty for the default state."""
        pairs = [("sort", str(self.sort))] if self.sort != "size" else []
        pairs += [("text", self.text)] if self.text else []
        return written([*pairs, ("size", str(self.size))] if self.size is not None else pairs)


Show = Literal["all", "undecided", "outlier", "fine"]
"""`undecided` are those that nobody judged."""

_SHOW: Final[dict[str, Show]] = {
    "all": "all",
    "undecided": "undecided",
    "outlier": "outlier",
    "fine": "fine",
}


Sort = Literal["all", "photo", "category", "rare"]
"""Sorts of outliers: bad photos, wrong categories, rare things."""

_SORT: Final[dict[str, Sort]] = {
    "all": "all",
    "photo": "photo",
    "category": "category",
    "rare": "rare",
}

Decided = Literal["all", "undecided", "duplicate", "distinct", "changed"]
"""`changed` are groups that have other members than when they were decided."""

_DECIDED: Final[dict[str, Decided]] = {
    "all": "all",
    "undecided": "undecided",
    "duplicate": "duplicate",
    "distinct": "distinct",
    "changed": "changed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutliersState:
    """Which verdicts and sorts are shown, and which page, from 1."""

    show: Show = "all"
    sort: Sort = "all"
    page: int = 1

    @classmethod
    def read(cls, search: str | None) -> OutliersState:
        """Return the state that the query part of an address names."""
        single = single_of(search)
        return cls(
            show=_SHOW.get(single.get("show", "all"), "all"),
            sort=_SORT.get(single.get("sort", "all"), "all"),
            page=page_of(single),
        )

    def write(self) -> str:
        """Return the query part with its `?`; empty for the default state."""
        pairs = [("show", str(self.show))] if self.show != "all" else []
        pairs += [("sort", str(self.sort))] if self.sort != "all" else []
        return written([*pairs, ("page", str(self.page))] if self.page != 1 else pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicatesState:
    """Which decisions are shown, and which page, from 1."""

    show: Decided = "all"
    page: int = 1

    @classmethod
    def read(cls, search: str | None) -> DuplicatesState:
        """Return the state that the query part of an address names."""
        single = single_of(search)
        return cls(show=_DECIDED.get(single.get("show", "all"), "all"), page=page_of(single))

    def write(self) -> str:
        """Return the query part with its `?`; empty for the default state."""
        pairs = [("show", str(self.show))] if self.show != "all" else []
        return written([*pairs, ("page", str(self.page))] if self.page != 1 else pairs)


@dataclass(frozen=True, slots=True)
class ChangesState:
    """The two maps that are compared; None: the live one, and the one before it."""

    before: UUID | None = None
    after: UUID | None = None

    @classmethod
    def read(cls, search: str | None) -> ChangesState:
        """Return the state that the query part of an address names."""
        single = single_of(search)
        return cls(before=uuid(single.get("from")), after=uuid(single.get("to")))

    def write(self) -> str:
        """Return the query part with its `?`; empty for the default state."""
        pairs = [("from", self.before), ("to", self.after)]
        return written([(name, str(value)) for name, value in pairs if value is not None])


@dataclass(frozen=True, slots=True)
class JobsState:
    """The job whose steps are shown."""

    job: UUID | None = None

    @classmethod
    def read(cls, search: str | None) -> JobsState:
        """Return the state that the query part of an address names."""
        return cls(job=uuid(single_of(search).get("job")))

    def write(self) -> str:
        """Return the query part with its `?`; empty for the default state."""
        return written([("job", str(self.job))] if self.job is not None else [])


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchState:
    """The published query that a link to Search opens, and where its page begins (`after`)."""

    query: UUID | None = None
    after: str = ""

    @classmethod
    def read(cls, search: str | None) -> SearchState:
        """Return the state that the query part of an address names."""
        single = single_of(search)
        query = uuid(single.get("q"))
        return cls(query=query, after=single.get("after", "")[:MAX_AFTER] if query else "")

    def write(self) -> str:
        """Return the query part with its `?`; empty for the default state."""
        pairs = [("q", str(self.query))] if self.query is not None else []
        return written([*pairs, ("after", self.after)] if self.after else pairs)


def cluster_href(key: UUID) -> str:
    """Address of one cluster's page."""
    return f"{ids.PATH_CLUSTERS}/{key}"


def cluster_of(pathname: str) -> UUID | None:
    """Return the cluster key in `/clusters/<key>`; None when the path names none."""
    prefix = ids.PATH_CLUSTERS + "/"
    return uuid(pathname.removeprefix(prefix)) if pathname.startswith(prefix) else None


def is_column(name: str) -> bool:
    """Whether `name` can be a column of the map: it may still be unknown to this collection."""
    return _COLUMN.fullmatch(name) is not None and not CONTROL.search(name)


def _size(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) and int(text) >= 2 else None


def _side(value: Bound) -> str:
    return "" if value is None else value if isinstance(value, str) else number(value)


def _bound(text: str) -> Bound:
    return text if days(text) is not None else real(text)


def _read_camera(text: str) -> Camera | None:
    values = numbers(text.split(","))
    if values is None or len(values) != 3:
        return None
    x, y, zoom = values
    inside = -1.0 <= x <= 2.0 and -1.0 <= y <= 2.0 and -4.0 <= zoom <= MAX_ZOOM
    return Camera(x, y, zoom) if inside else None


def _read_polygon(text: str) -> Polygon | None:
    letter, _, rest = text.partition(";")
    pieces = rest.split(";")
    if letter not in _MODES or not 3 <= len(pieces) <= MAX_POINTS:
        return None
    points: list[tuple[float, float]] = []
    for piece in pieces:
        pair = numbers(piece.split(","))
        if pair is None or len(pair) != 2 or not all(-1.0 <= value <= 2.0 for value in pair):
            return None
        points.append((pair[0], pair[1]))
    return Polygon(tuple(points), _MODES[letter])


def _read_filter(filters: dict[str, Filter], kind: str, column: str, value: str) -> None:
    """Add one pair to `filters`; values of a column gather, of two ranges the first counts."""
    known = filters.get(column)
    if not is_column(column) or (known is None and len(filters) >= MAX_FILTERS):
        return
    if kind == "f":
        values = () if known is None else known.values
        ranged = known is not None and not known.values
        if not ranged and column not in NUMBER_COLUMNS and len(value) <= MAX_TEXT:
            unique = dict.fromkeys((*values, value))
            filters[column] = Filter(column, tuple(unique)[:MAX_VALUES])
        return
    low_text, separator, high_text = value.partition("..")
    if known is not None or not separator or column in {"cluster", "group", "predicted"}:
        return
    low, high = _bound(low_text), _bound(high_text)
    broken = (low_text and low is None) or (high_text and high is None)
    if broken or (low is None and high is None):
        return
    if isinstance(low, str) != isinstance(high, str) and None not in {low, high}:
        return
    # Two numbers, or two ISO dates, which sort as text.
    if low is not None and high is not None and low > high:  # type: ignore[operator]
        return
    filters[column] = Filter(column, low=low, high=high)
