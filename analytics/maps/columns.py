"""Columns of the map table: listing attributes as categories or numbers."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analytics.maps.regions import Range, days
from cql.progress import Progress, silent
from cql.records import Listing
from cql.store import Store

CATEGORIES_MAX = 50
"""A category column keeps its most frequent values; the others share one that says so."""

NAMES_MAX = 64
_BLOCK = 2_000
"""Listings read at a time."""

OTHER = "\x00other"
"""Key of the category that rare values share."""
_UNIT = re.compile(r" (mm|cm|m|km|ft|kg|kw|kv|bar|m2|m3)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column to colour or filter by. Code i of a category column means `categories[i]`.

    `label` is for people; `keys` are the values that a filter names (for `cluster`: the cluster
    number as text, "-1" for noise; for others the category itself). Numbers of the scale `date` are
    days since 1970-01-01.
    """

    name: str
    label: str
    kind: Literal["category", "number"]
    keys: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    scale: Literal["linear", "date"] = "linear"


def form(column: Column) -> dict[str, Any]:
    """The JSON form that the table's schema keeps."""
    return asdict(column)


def parse(value: Mapping[str, Any]) -> Column:
    """Read `form`."""
    given = dict(value)
    given["keys"], given["categories"] = tuple(given["keys"]), tuple(given["categories"])
    return Column(**given)


def readable(name: str) -> str:
    """An attribute's name for people: `depth_m` is "Depth (m)"."""
    text = _UNIT.sub(r" (\1)", " ".join(name.replace("_", " ").split()))
    return text[:1].upper() + text[1:]


def number(
    name: str,
    label: str,
    values: NDArray[np.floating[Any]],
    *,
    scale: Literal["linear", "date"] = "linear",
) -> Column:
    """Describe a number column; low and high are of the values that are there."""
    present = values[~np.isnan(values)]
    low, high = (float(present.min()), float(present.max())) if len(present) else (0.0, 0.0)
    return Column(name=name, label=label, kind="number", low=low, high=high, scale=scale)


def read(
    store: Store, owners: Sequence[str], wanted: Iterable[str], *, progress: Progress = silent
) -> list[tuple[Column, NDArray[Any]]]:
    """Columns `attr:<name>` for rows owned by `owners`, from the listings' attributes.

    A column is a number when every value that is not empty reads as one, and a date when every one
    is an ISO date.
    """
    asked = list(wanted)
    listings: dict[str, Listing] = {}
    for start in range(0, len(asked), _BLOCK):
        progress("tiles", start, len(asked), "reading listings")
        listings |= store.listings(asked[start : start + _BLOCK])
    names = Counter(
        name for listing in listings.values() for name, value in listing.attributes.items() if value
    )
    kept = sorted(sorted(names), key=lambda name: -names[name])[:NAMES_MAX]
    # One value per listing, then spread over its rows.
    index = {listing_id: at for at, listing_id in enumerate(sorted(listings))}
    rows = np.array([index.get(owner, -1) for owner in owners], np.int64)
    found = []
    for name in sorted(kept):
        progress("tiles", len(asked), len(asked), "attributes")
        texts = [listings[listing_id].attributes.get(name, "") for listing_id in index]
        column, values = encode(f"attr:{name}", readable(name), texts)
        spread = np.append(values, np.nan).astype(values.dtype)[rows]  # -1 is the NaN at the end
        found.append((column, spread))
    return found


def encode(name: str, label: str, texts: Sequence[str]) -> tuple[Column, NDArray[Any]]:
    """Encode texts ("" is missing); NaN is missing.

    float64 numbers, float64 days since 1970-01-01 (ISO dates), or float32 category codes.
    """
    for read_, scale in _SCALES:
        numbers = [read_(text) for text in texts]
        if all(value is not None for value, text in zip(numbers, texts, strict=True) if text):
            values = np.array([np.nan if v is None else v for v in numbers], np.float64)
            return number(name, label, values, scale=scale), values
    column, codes = categories(name, label, Counter(text for text in texts if text))
    values = np.array([codes[text] if text else np.nan for text in texts], np.float32)
    return column, values


def categories(name: str, label: str, counts: Mapping[str, int]) -> tuple[Column, dict[str, int]]:
    """A category column of texts, by name, and the code of each; rare ones share the last code."""
    ranked = sorted(counts, key=lambda text: (-counts[text], text))
    kept = sorted(ranked if len(ranked) <= CATEGORIES_MAX else ranked[: CATEGORIES_MAX - 1])
    codes = {text: code for code, text in enumerate(kept)}
    keys, shown = list(kept), list(kept)
    if len(kept) < len(ranked):
        keys.append(OTHER)
        shown.append(f"Other ({len(ranked) - len(kept)} values)")
    column = Column(
        name=name, label=label, kind="category", keys=tuple(keys), categories=tuple(shown)
    )
    return column, {text: codes.get(text, len(kept)) for text in ranked}


def extend(column: Column, texts: Sequence[str]) -> tuple[Column, NDArray[Any]]:
    """Encode more texts ("" is missing) in a column that is there: codes mean what they did.

    A category that is new gets the next code, or that of the others where the column is full. What
    does not read as a number or a date of such a column is missing.
    """
    if column.kind == "number":
        read_ = days if column.scale == "date" else _number
        found = [read_(text) for text in texts]
        values = np.array([np.nan if each is None else each for each in found], np.float64)
        return widened(column, values), values
    keys, shown = list(column.keys), list(column.categories)
    codes = {key: code for code, key in enumerate(keys)}
    for text in sorted({text for text in texts if text} - set(codes)):
        if OTHER in codes:
            codes[text] = codes[OTHER]
            continue
        if len(keys) >= CATEGORIES_MAX:
            keys.append(OTHER)
            shown.append("Other values")
            codes[text] = codes[OTHER] = len(keys) - 1
            continue
        codes[text] = len(keys)
        keys.append(text)
        shown.append(text)
    values = np.array([codes[text] if text else np.nan for text in texts], np.float32)
    return replace(column, keys=tuple(keys), categories=tuple(shown)), values


def widened(column: Column, values: NDArray[np.floating[Any]]) -> Column:
    """A number column whose low and high take in more values."""
    own = number(column.name, column.label, values)
    if np.isnan(values).all():
        return column
    if column.low == column.high == 0:  # it may have had no values
        return replace(column, low=min(own.low, 0.0), high=max(own.high, 0.0))
    return replace(column, low=min(column.low, own.low), high=max(column.high, own.high))


def accepts(column: Column, rule: tuple[str, ...] | Range, attributes: Mapping[str, str]) -> bool:
    """Whether a filter on `attr:<name>` takes a listing, by its attributes as text."""
    text = attributes.get(column.name.removeprefix("attr:"), "")
    if isinstance(rule, Range):
        value = days(text) if column.scale == "date" else _number(text)
        return value is not None and (
            (rule.low is None or value >= rule.low) and (rule.high is None or value <= rule.high)
        )
    if text in column.keys:
        return text in rule
    return bool(text) and OTHER in column.keys and OTHER in rule


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


_SCALES: tuple[tuple[Callable[[str], float | None], Literal["linear", "date"]], ...] = (
    (_number, "linear"),
    (days, "date"),
)
