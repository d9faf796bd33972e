from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.bench import measure
from tests.bench.rows import compare, load, missing, save, table


def test_a_ratio_is_ours_over_theirs_and_is_judged_by_the_target() -> None:
    row = compare("q", "1", 30.0, unit="ms", peer="P 1", theirs=100.0, target=0.25)
    assert row.ratio == 0.3
    assert row.ok is False
    assert compare("q", "1", 25.0, unit="ms", peer="P", theirs=100.0, target=0.25).ok is True
    assert compare("q", "1", 25.0, unit="ms", peer="P", theirs=100.0).ok is None


def test_without_a_peer_the_target_bounds_the_figure_itself() -> None:
    row = compare("fixed", "1", 14.0, unit="ms", target=15.0)
    assert (row.ratio, row.ok) == (None, True)
    assert compare("fixed", "1", 15.1, unit="ms", target=15.0).ok is False


@pytest.mark.parametrize("same", [True, False])
def test_a_wrong_answer_meets_no_target(same: bool) -> None:
    row = compare("q", "1", 1.0, unit="ms", target=15.0, quality={"identical": same})
    assert row.ok is same


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_what_is_no_number_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        compare("q", "1", wrong, unit="ms")
    with pytest.raises(ValueError, match="finite"):
        compare("q", "1", 1.0, unit="ms", theirs=wrong)


def test_a_peer_that_took_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        compare("q", "1", 1.0, unit="ms", theirs=0.0)


def test_a_target_is_not_met_by_what_was_not_measured() -> None:
    assert missing("q", "1", "no link", unit="ms", target=1.0).ok is False
    assert missing("q", "1", "no link", unit="ms").ok is None


def test_rows_survive_their_file(tmp_path: Path) -> None:
    rows = [
        compare("q", "1", 1.5, unit="ms", peer="P", theirs=3.0, quality={"recall": 1.0, "n": 2}),
        missing("r", "2", "why", unit="s"),
    ]
    save(rows, tmp_path / "deep" / "rows.json")
    assert load(tmp_path / "deep" / "rows.json") == rows


def test_the_table_says_what_was_missed() -> None:
    rows = [
        compare("one", "1", 25.0, unit="ms", peer="P 1", theirs=100.0, target=0.1),
        missing("two", "1", "no link here", unit="ms"),
    ]
    head, _, first, second = table(rows).splitlines()
    assert head.split()[:3] == ["work", "size", "ours"]
    assert "P 1" in first
    assert "0.25" in first
    assert " NO" in first
    assert "not measured" in second
    assert "note no link here" in second
    assert first.index("ms") == second.index("ms")


def test_calls_are_made_in_turn() -> None:
    seen: list[tuple[str, int]] = []
    seconds = measure.alternate(
        {"a": lambda n: seen.append(("a", n)), "b": lambda n: seen.append(("b", n))}, 3, warm=1
    )
    assert seen == [(name, n) for n in (0, 0, 1, 2) for name in "ab"]
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}


def test_percentiles_are_in_milliseconds() -> None:
    found = measure.spread("ours", [0.001, 0.002, 0.003])
    assert found["p50 ours"] == pytest.approx(2.0)
    assert 2.0 < found["p95 ours"] <= 3.0


def test_resident_memory_is_read_in_bytes() -> None:
    text = "55d0-7ffe ---p 00000000 00:00 0 [rollup]\nRss: 900 kB\nPss:  512 kB\nPss_Anon: 9 kB\n"
    assert measure.proportional(text) == 512 * 1024
    with pytest.raises(ValueError, match="Pss"):
        measure.proportional("Rss: 1 kB\n")


def test_memory_streams_at_some_speed() -> None:
    assert 1e8 < measure.streaming(1, megabytes=64, repeats=2) < 1e12
