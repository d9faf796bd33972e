from __future__ import annotations

from pathlib import Path

import pytest

from cql.errors import InputError
from cql.settings import Settings
from dashboard import bench


def test_only_pictures_are_measured_and_at_most_as_many_as_asked(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    for name in ("a/1.jpg", "a/2.JPG", "b/3.png", "a.csv", "listings.csv", "notes.txt"):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    assert bench._linked(source, tmp_path / "all", 100) == 3
    found = sorted(path for path in (tmp_path / "all").rglob("*") if path.is_file())
    assert [path.read_text() for path in found] == ["a/1.jpg", "a/2.JPG", "b/3.png"]
    assert bench._linked(source, tmp_path / "two", 2) == 2


def test_what_is_no_folder_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be a folder"):
        bench.extract(Settings(data_dir=tmp_path), photos=tmp_path / "absent", images=1)
