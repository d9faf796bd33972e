from __future__ import annotations

import re
from pathlib import Path

import pytest

from cql.settings import ROOT
from tests.bench.rows import Row, compare, load, save
from tests.bench.scaling import (
    BEGIN,
    END,
    Node,
    Rates,
    main,
    need,
    rates,
    replaced,
    tables,
)

MEASURED = Rates(
    scan=5e9, build=10e6, codes=0.25, resident=0.5, fixed_s=0.02, size="1,000 x 512 isotropic"
)


def rows(size: str = "big", scanned: int = 250_000_000) -> list[Row]:
    return [
        compare(
            "bytes scanned a second",
            size,
            8.0,
            unit="GB/s",
            quality={"threads": 2, "bytes": scanned},
        ),
        compare(
            "resident memory of the hosts", size, 400.0, unit="MB (PSS)", peer="f", theirs=1000.0
        ),
        compare(
            "snapshot build: share beside reading",
            size,
            0.2,
            unit="of the total",
            quality={"build s": 50.0},
        ),
        compare("fixed cost through the service", "40 images", 12.0, unit="ms"),
    ]


def test_rates_are_a_core_and_of_the_largest_collection() -> None:
    found = rates([*rows("small", 1000), *rows()])
    assert found.size == "big"
    assert found.scan == pytest.approx(4e9)
    assert found.build == pytest.approx(10e6)
    assert found.codes == pytest.approx(0.25)
    assert found.resident == pytest.approx(0.4)
    assert found.fixed_s == pytest.approx(0.012)


@pytest.mark.parametrize("lost", range(4))
def test_a_row_that_lacks_is_named(lost: int) -> None:
    kept = [row for at, row in enumerate(rows()) if at != lost]
    with pytest.raises(ValueError, match=re.escape(rows()[lost].work)):
        rates(kept)


def test_memory_decides_how_many_nodes() -> None:
    node = Node(10, 100e9)
    found = need(1500e9, node, MEASURED)
    assert found.resident == 750e9
    assert found.nodes == 10
    assert found.query_s == pytest.approx(0.02 + 375e9 / (10 * 10 * 5e9))
    assert found.build_s == pytest.approx(1500e9 / (10 * 10 * 10e6))
    assert found.disk == pytest.approx(1500e9 * (4 + 9 / 32) / 10)


def test_a_time_limit_adds_nodes_until_it_is_met() -> None:
    node = Node(10, 100e9)
    found = need(1500e9, node, MEASURED, within_s=0.5)
    assert found.nodes == 16
    assert found.query_s <= 0.5
    with pytest.raises(ValueError, match="20 ms beside its scan"):
        need(1500e9, node, MEASURED, within_s=0.02)


def test_a_small_collection_still_has_as_many_nodes_as_replicas() -> None:
    assert need(1e9, Node(10, 100e9), MEASURED).nodes == 3


def test_a_page_keeps_what_is_outside_the_markers() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert replaced(page, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    with pytest.raises(ValueError, match="markers"):
        replaced("no markers", "new")


def test_the_command_writes_its_tables_into_a_page(tmp_path: Path) -> None:
    save(rows(), tmp_path / "rows.json")
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    assert main([str(tmp_path / "rows.json"), "--doc", str(page)]) == 0
    assert tables(rates(rows())) in page.read_text()


def test_the_page_has_the_figures_of_its_rows() -> None:
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    measured = rates(load(ROOT / "docs" / "measured" / "search.json"))
    assert replaced(page, tables(measured)) == page
