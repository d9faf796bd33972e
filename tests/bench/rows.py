"""Rows of a benchmark: ours beside a peer's, the ratio, the target, whether it is met."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Value = float | int | str | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line. `ratio` is ours / theirs; `target` bounds it, or `ours` where there is no peer.

    `ours` None: not measured, and `quality["note"]` says why. `quality` has figures for both.
    """

    work: str
    size: str
    ours: float | None
    unit: str
    peer: str = ""
    theirs: float | None = None
    ratio: float | None = None
    target: float | None = None
    ok: bool | None = None
    quality: Mapping[str, Value] = field(default_factory=dict)


def compare(
    work: str,
    size: str,
    ours: float,
    *,
    unit: str,
    peer: str = "",
    theirs: float | None = None,
    target: float | None = None,
    quality: Mapping[str, Value] | None = None,
) -> Row:
    """Make a row: `target` bounds the ratio from above where there is a peer, else `ours`.

    What is not `identical` to brute force, where the quality says so, meets no target.
    ValueError for a figure that is not finite, and for a peer's that is not positive.
    """
    for name, value in (("ours", ours), ("theirs", theirs), ("target", target)):
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{name} of {work!r} must be a finite number, got {value}")
    if theirs is not None and theirs <= 0:
        raise ValueError(f"a peer's figure must be above 0, got {theirs} for {work!r}")
    ratio = None if theirs is None else ours / theirs
    judged = ours if ratio is None else ratio
    same = (quality or {}).get("identical", True) is True
    return Row(
        work=work,
        size=size,
        ours=ours,
        unit=unit,
        peer=peer,
        theirs=theirs,
        ratio=ratio,
        target=target,
        ok=None if target is None else judged <= target and same,
        quality=dict(quality or {}),
    )


def missing(work: str, size: str, why: str, *, unit: str, target: float | None = None) -> Row:
    """Make the row of something that could not be measured: a target is then not met."""
    return Row(
        work=work,
        size=size,
        ours=None,
        unit=unit,
        target=target,
        ok=None if target is None else False,
        quality={"note": why},
    )


def table(rows: Sequence[Row]) -> str:
    """Lay the rows out as text, one line each, columns aligned."""
    head = ("work", "size", "ours", "peer", "theirs", "unit", "ratio", "target", "ok", "quality")
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head) - 1)]
    text = [
        "  ".join([*(f"{cell:<{w}}" for cell, w in zip(line, widths, strict=False)), line[-1]])
        for line in lines
    ]
    text.insert(1, "-" * (sum(widths) + 2 * len(widths) + len(head[-1])))
    return "\n".join(line.rstrip() for line in text)


def save(rows: Sequence[Row], path: Path) -> None:
    """Write the rows as a JSON list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> list[Row]:
    """Read what `save` wrote."""
    return [Row(**each) for each in json.loads(path.read_text(encoding="utf-8"))]


def _cells(row: Row) -> tuple[str, ...]:
    quality = ", ".join(f"{name} {_short(value)}" for name, value in row.quality.items())
    ok = {None: "", True: "yes", False: "NO"}[row.ok]
    ours = "not measured" if row.ours is None else _short(row.ours)
    figures = (row.ratio, row.target)
    ratio, target = ("" if value is None else _short(value) for value in figures)
    theirs = "" if row.theirs is None else _short(row.theirs)
    return row.work, row.size, ours, row.peer, theirs, row.unit, ratio, target, ok, quality


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
