"""The benchmark of first passes: every kernel that is installed finds what naive sums do."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics.scanning.codes import QueryCodes, ShortCodes
from tests.bench import kernels, measure
from tests.bench.coded import Asked, Data, K
from tests.bench.kernels import judged
from tests.bench.passes import PEERS, Int8, Kernel, Ours
from tests.bench.rows import load
from tests.bench.vectors import Dataset

BORDER = 2e-6
"""float32 sums in another order may put a row on the other side of a limit."""


@cache
def scene() -> tuple[Data, Asked]:
    """Rows of a width that codes are padded from, in two parts that no block divides."""
    data = Data.of(Dataset(1_203, 40, "clustered"), 2)
    queries = Dataset(1_203, 40, "clustered").queries(5, data.vectors)
    return data, Asked.of(queries, data)


def opened(name: str) -> Kernel:
    data, _ = scene()
    try:
        return Ours(data) if name == "ours" else PEERS[name](data)
    except ImportError as error:
        pytest.skip(f"{error.name} is not installed: `make bench-search` installs it")


def reaching(
    data: Data, queries: QueryCodes | ShortCodes, limits: NDArray[np.float32], slack: float
) -> list[int]:
    """How many rows reach each limit less a slack, by sums of whole numbers."""
    counts = []
    for query in range(len(limits)):
        count = 0
        for row in range(len(data.vectors)):
            total = sum(
                a * b
                for a, b in zip(
                    data.whole[row].tolist(), queries.values[query].tolist(), strict=True
                )
            )
            score = total * float(data.codes.scales[row]) * float(queries.scales[query])
            error = float(queries.slopes[query]) * float(data.codes.residuals[row])
            count += score + error + float(queries.offsets[query]) >= limits[query] - slack
        counts.append(count)
    return counts


@cache
def bounds(coding: str) -> tuple[list[int], list[int]]:
    """Fewest and most rows that a pass may leave."""
    data, asked = scene()
    if coding.startswith("float32"):
        scores = data.vectors.astype(np.float64) @ asked.vectors.astype(np.float64).T
        return [int(each) for each in (scores >= asked.limits + BORDER).sum(axis=0)], [
            int(each) for each in (scores >= asked.limits - 1e-3).sum(axis=0)
        ]
    queries: QueryCodes | ShortCodes = asked.wide if coding.endswith("int16") else asked.narrow
    low, high = (reaching(data, queries, asked.limits, slack) for slack in (-BORDER, BORDER))
    return low, high


@pytest.mark.parametrize("name", ["ours", *PEERS])
def test_a_pass_leaves_the_rows_that_naive_sums_leave(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, asked = scene()
    kernel = opened(name)
    products: list[NDArray[Any]] = []
    if isinstance(kernel, Int8):
        multiply = kernel.products

        def kept(rows: NDArray[np.int8], queries: Any) -> NDArray[Any]:
            products.append(multiply(rows, queries))
            return products[-1]

        monkeypatch.setattr(kernel, "products", kept)
    parts = [kernel.scan(part, asked) for part in range(len(data.parts))]
    found = judged(kernel, parts, asked)
    if f"recall@{K}" in found:
        # One scale for all rows costs an index of int8 a little; of floats it costs nothing.
        exact = kernel.coding == "float32 x float32"
        assert found[f"recall@{K}"] >= (1.0 if exact else 0.93)
        return
    if products:
        # Whole numbers, so exact: what differs below is then our counting, not their library.
        whole = asked.narrow.values.astype(np.int64) @ data.whole.astype(np.int64).T
        assert np.array_equal(np.concatenate(products, axis=1), whole)
    left = np.sum([part for part in parts if not isinstance(part, tuple)], axis=0)
    low, high = bounds(kernel.coding)
    assert (np.array(low) <= left).all(), (low, left)
    assert (left <= np.array(high)).all(), (left, high)
    assert found == {"left": float(np.median(left))}


def test_no_coding_loses_one_of_the_best() -> None:
    data, asked = scene()
    scores = data.vectors.astype(np.float64) @ asked.vectors.astype(np.float64).T
    codings: tuple[QueryCodes | ShortCodes, ...] = (asked.wide, asked.narrow)
    for queries in codings:
        products = data.whole.astype(np.int64) @ queries.values.astype(np.int64).T
        rough = products * data.codes.scales[:, None].astype(np.float64) * queries.scales
        error = queries.offsets + queries.slopes * data.codes.residuals[:, None].astype(np.float64)
        assert (np.abs(rough - scores) <= error).all()
    fine, coarse = (np.median(reaching(data, each, asked.limits, 0.0)) for each in codings)
    assert K <= fine < coarse


def test_the_command_measures_and_writes_every_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # put back afterwards
    monkeypatch.setattr(measure, "streaming", lambda threads, **_: 1e9 * threads)
    monkeypatch.setitem(PEERS, "usearch", absent)
    path = tmp_path / "rows.json"
    arguments = ["--rows", "900", "--dim", "32", "--repeats", "2", "--json", str(path)]
    assert kernels.main([*arguments, "--peer", "numba", "blas", "usearch"]) == 0
    rows = load(path)
    works = [row.work for row in rows]
    assert works[:2] == ["streaming read, 1 thread", "streaming read, 2 threads"]
    assert works[2:6] == [
        "first pass, 1 query, 1 thread",
        "first pass, 32 queries, 1 thread",
        "first pass, 1 query, 2 threads",
        "first pass, 32 queries, 2 threads",
    ]
    assert len(rows) == 11
    assert all(row.ours and row.theirs and row.ratio for row in rows[2:10])
    assert rows[2].quality["left ours"] == rows[2].quality["left theirs"]
    assert rows[10].quality["note"] == "usearch is not installed: `make bench-search` installs it"
    assert "numba" in capsys.readouterr().out


def test_too_few_rows_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        kernels.main(["--rows", "199"])
    assert "at least 200, got 199" in capsys.readouterr().err


def absent(_: Data) -> Kernel:
    raise ImportError("No module named 'usearch'", name="usearch")
