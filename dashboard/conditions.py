"""Conditions in words of the command line, `material=PVC` or `depth_m=0.5..1.2`, as a selection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from analytics.maps.regions import days
from cql.errors import InputError
from dashboard.views import ColumnView


def selection(texts: Iterable[str], columns: Sequence[ColumnView]) -> dict[str, Any]:
    """The selection, as JSON, of all conditions: values of one column are alternatives.

    A category takes its values (a cluster also its name), a number or a date `low..high` with
    either side left out, or one value. InputError names the columns or values that there are.
    """
    filters: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"a filter must be attribute=value, got {text!r}")
        column = _column(name.strip(), columns)
        if column.kind == "category":
            filters.setdefault(column.name, []).append(_value(column, value))
        elif column.name in filters:
            raise InputError(f"{name} can have one range, got a second one: {text!r}")
        else:
            filters[column.name] = _range(column, value)
    return {"polygons": [], "filters": filters}


def _column(name: str, columns: Sequence[ColumnView]) -> ColumnView:
    for column in columns:
        if column.name in {name, f"attr:{name}"}:
            return column
    known = ", ".join(column.name.removeprefix("attr:") for column in columns)
    raise InputError(f"no attribute is called {name!r}; the attributes are {known}")


def _value(column: ColumnView, value: str) -> str:
    if value in column.keys:
        return value
    for key, label in zip(column.keys, column.labels, strict=True):
        if label == value:
            return key
    some = ", ".join(column.labels[:20])
    raise InputError(f"{column.label} has no value {value!r}; the values are {some}")


def _range(column: ColumnView, text: str) -> dict[str, Any]:
    low, dots, high = text.partition("..")
    sides = {"low": _bound(column, low), "high": _bound(column, high if dots else low)}
    if sides == {"low": None, "high": None}:
        raise InputError(f"{column.label} must be low..high or one value, got {text!r}")
    return sides


def _bound(column: ColumnView, text: str) -> str | float | None:
    if not text:
        return None
    if column.scale == "date":
        if days(text) is None:
            raise InputError(f"{column.label} must be a date YYYY-MM-DD, got {text!r}")
        return text
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{column.label} must be a number, got {text!r}") from None
