"""Which instructions are used: those of the CPU that numba compiles for, and no others."""

from __future__ import annotations

import numba
import pytest
from numba.core import codegen

from analytics.scanning import processor
from analytics.scanning.codes import LEVELS
from analytics.scanning.processor import UNITS

FUSED, WIDE, NARROW, PLAIN = UNITS.values()


@pytest.mark.parametrize(
    ("features", "found"),
    [
        ("", [PLAIN]),
        ("+sse4.2,-avx2", [PLAIN]),
        ("+avx,+avx2", [NARROW, PLAIN]),
        ("+avx2,+avx512bw,-avx512vnni", [WIDE, NARROW, PLAIN]),
        ("+avx2,+avx512bw,+avx512vnni", [FUSED, WIDE, NARROW, PLAIN]),
    ],
)
def test_features_say_what_can_be_used(
    monkeypatch: pytest.MonkeyPatch, features: str, found: list[processor.Unit]
) -> None:
    monkeypatch.setattr(numba.config, "CPU_FEATURES", features)
    assert processor.usable() == found
    monkeypatch.setattr(numba.config, "CPU_FEATURES", None)
    monkeypatch.setattr(codegen, "get_host_cpu_features", lambda: features)
    assert processor.usable() == found


def test_what_numba_leaves_out_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """It compiles without AVX where it is told to, and for some CPUs by itself."""
    monkeypatch.setattr(numba.config, "CPU_FEATURES", None)
    monkeypatch.setattr(numba.config, "ENABLE_AVX", 0)
    assert processor.usable() == [PLAIN]


def test_a_name_alone_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for numba, which keeps compiled code by name and features."""
    before = processor.usable()
    monkeypatch.setattr(numba.config, "CPU_NAME", "haswell")
    assert processor.usable() == before


@pytest.mark.parametrize("unit", UNITS.values())
def test_no_sum_of_two_products_of_whole_codes_saturates(unit: processor.Unit) -> None:
    assert unit.levels == LEVELS or 2 * 255 * unit.levels < 2**15
    assert bool(unit.paired) == (unit.levels < LEVELS)
