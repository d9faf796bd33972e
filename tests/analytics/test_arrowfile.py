"""Tables appear whole, and a failed write leaves what was there."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pyarrow as pa
import pytest

from analytics import arrowfile


def test_a_table_comes_back_with_its_metadata(tmp_path: Path) -> None:
    table = pa.table({"n": [1, 2, 3]}).replace_schema_metadata({"kind": "some"})
    path = tmp_path / "new" / "some.arrow"
    arrowfile.write(table, path)
    with pa.memory_map(str(path)) as file:
        found = pa.ipc.open_file(file).read_all()
        assert found.equals(table, check_metadata=True)
    assert list(path.parent.iterdir()) == [path], "no draft stays"


def test_a_failed_write_leaves_the_old_file_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "some.arrow"
    arrowfile.write(pa.table({"n": [1]}), path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        arrowfile.write(pa.table({"n": [2]}), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_drafts_that_nobody_writes_to_are_swept(tmp_path: Path) -> None:
    arrowfile.write(pa.table({"n": [1]}), tmp_path / "some.arrow")
    old, new = tmp_path / ".some.arrow.77.1", tmp_path / ".some.tree.arrow.78.2"
    other = tmp_path / ".nfs0001"
    for path in (old, new, other):
        path.write_bytes(b"half")
    long_ago = time.time() - arrowfile.ABANDONED_S - 60
    for path in (old, other, tmp_path / "some.arrow"):
        os.utime(path, (long_ago, long_ago))
    arrowfile.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        (new.name, other.name, "some.arrow")
    )
    arrowfile.sweep(tmp_path / "absent")
