"""The benchmark of placement runs, and loses little on rows in groups."""

from __future__ import annotations

import pytest

from analytics import projection
from tests.bench import satellites
from tests.bench.vectors import Dataset


def test_placement_stands_beside_a_layout_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(satellites, "LEAST", 600)
    # umap-learn compiles for half a minute.
    monkeypatch.setattr(projection, "LIBRARY_ROWS", 0)
    rows = satellites.placed(Dataset(6000, 48, "clustered"), (3000, 4000), threads=2)
    assert [row.work for row in rows] == [
        "picture and space, 3,000 landmarks", "picture and space, 4,000 landmarks",
    ]  # fmt: skip
    for row in rows:
        assert row.theirs
        figures = {name: float(value) for name, value in row.quality.items()}  # type: ignore[arg-type]
        assert figures["trust placed"] >= figures["trust whole"] - 0.02
        assert figures["kept placed"] >= figures["kept whole"] - 0.1
        assert figures["ARI placed"] > 0.5
