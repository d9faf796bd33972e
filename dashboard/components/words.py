"""What a search asked, in words: examples, scoring, filters, scope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboard.answers import AskedView
from dashboard.components.widgets import count, plural
from dashboard.state import Filter
from dashboard.views import ColumnView

AGGREGATES: Final = {
    "max": "Best photo",
    "mean": "Mean of best 3",
    "coverage": "All photos matched",
}


def words(asked: AskedView, columns: Sequence[ColumnView] = ()) -> list[str]:
    """Say what was asked, most important first; `columns` give filters their labels."""
    said = [examples(asked)]
    if asked.aggregate == "mean":
        said.append(f"by the mean of their best {plural(asked.best, 'photo')}")
    elif asked.aggregate == "coverage":
        said.append("every example matched")
    said += scope(asked, columns)
    if asked.in_stock:
        said.append("in stock only")
    return [*said, f"top {count(asked.k)}"]


def examples(asked: AskedView) -> str:
    """Say what hits were to be like, and unlike."""
    found = [plural(len(asked.image_ids), "image")] if asked.image_ids else []
    if asked.listing_id is not None:
        found.append(f"listing {asked.listing_id}")
    if asked.uploads:
        found.append(plural(len(asked.uploads), "uploaded picture"))
    text = f"Like {' and '.join(found)}" if found else "Like given vectors"
    return f"{text}, unlike {plural(len(asked.negatives), 'image')}" if asked.negatives else text


def scope(asked: AskedView, columns: Sequence[ColumnView] = ()) -> list[str]:
    """Say what could be found at all; nothing when it was everything."""
    by_name = {column.name: column for column in columns}
    said = []
    polygons = asked.selection.get("polygons") or ()
    if polygons:
        said.append(
            "in the drawn area" if len(polygons) == 1 else f"in {len(polygons)} drawn areas"
        )
    for name, rule in (asked.selection.get("filters") or {}).items():
        item = (
            Filter(name, low=rule.get("low"), high=rule.get("high"))
            if isinstance(rule, dict)
            else Filter(name, tuple(rule))
        )
        said.append(condition(item, by_name.get(name)))
    if asked.within is not None:
        said.append("within another result")
    return said


def condition(item: Filter, column: ColumnView | None) -> str:
    """Say one filter: `Material: PVC or steel`, `Depth (m) 0.5 to 1.2`."""
    label = column.label if column else item.column.removeprefix("attr:")
    if not item.values:
        low, high = (
            side if side is None or isinstance(side, str) else f"{side:g}"
            for side in (item.low, item.high)
        )
        if high is None:
            return f"{label} from {low}"
        return f"{label} to {high}" if low is None else f"{label} {low} to {high}"
    texts = dict(zip(column.keys, column.labels, strict=False)) if column else {}
    named = [texts.get(value, value) or "(empty)" for value in item.values]
    if len(named) <= 2:
        return f"{label}: {' or '.join(named)}"
    everything = len(column.keys) if column else 0
    return f"{label}: {len(named)}{f' of {everything}' if everything else ''}"
