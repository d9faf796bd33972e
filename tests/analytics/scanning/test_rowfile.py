"""Rows read from a file: any order, runs, and a file that ends too early."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest

from analytics.scanning.rowfile import RowFile
from cql.errors import IntegrityError


def saved(path: Path) -> np.ndarray:
    vectors = np.random.default_rng(1).normal(size=(50, 7)).astype(np.float32)
    path.write_bytes(b"head!" + vectors.tobytes())
    return vectors


@pytest.mark.parametrize(
    "rows", [[], [0], [49], [3, 4, 5, 9, 10, 2, 2, 49, 0], list(range(50)), [49, 48, 47]]
)
def test_rows_come_as_asked(tmp_path: Path, rows: list[int]) -> None:
    vectors = saved(tmp_path / "v")
    found = RowFile(tmp_path / "v", start=5, dim=7).rows(np.array(rows, np.int64))
    assert found.dtype == np.float32
    assert np.array_equal(found, vectors[rows])


def test_a_file_that_ends_before_a_row_is_damage(tmp_path: Path) -> None:
    saved(tmp_path / "v")
    file = RowFile(tmp_path / "v", start=5, dim=7)
    os.truncate(tmp_path / "v", 5 + 28 * 40 + 3)
    assert len(file.rows(np.arange(40))) == 40
    with pytest.raises(IntegrityError, match="v must hold row 40, it ends before"):
        file.rows(np.array([7, 40]))


def test_the_file_is_closed_with_its_object(tmp_path: Path) -> None:
    saved(tmp_path / "v")
    file = RowFile(tmp_path / "v", start=5, dim=7)
    descriptor = file._descriptor
    os.fstat(descriptor)
    del file
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
