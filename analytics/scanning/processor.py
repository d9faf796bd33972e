"""How the CPU that compiled code is made for multiplies bytes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
from numba.core import codegen

from analytics.scanning.codes import LEVELS

_PAIRED_LEVELS = 64
"""Two products of whole codes (to 255) and values of so many levels fit 16 bits."""


class Unit(NamedTuple):
    """How a CPU multiplies unsigned bytes by signed ones: `size` of its registers, in bytes.

    `fused`: the instruction that adds products of four neighbours to 32 bits (VNNI); `paired`:
    those that add products of two neighbours in 16 bits, saturating, and two such sums in 32. Where
    there is neither, bytes are widened first. `queries`: of a tile, so that its sums stay in
    registers.
    """

    size: int
    queries: int
    fused: str = ""
    paired: tuple[str, str] | None = None

    @property
    def levels(self) -> int:
        """Of queries that are multiplied by whole codes: no sum may saturate."""
        return _PAIRED_LEVELS if self.paired else LEVELS


UNITS = {
    "avx512vnni": Unit(64, 4, fused="llvm.x86.avx512.vpdpbusd.512"),
    "avx512bw": Unit(
        64, 4, paired=("llvm.x86.avx512.pmaddubs.w.512", "llvm.x86.avx512.pmaddw.d.512")
    ),
    "avx2": Unit(32, 2, paired=("llvm.x86.avx2.pmadd.ub.sw", "llvm.x86.avx2.pmadd.wd")),
    "": Unit(16, 2),
}
"""By the feature that a CPU must have, the best first."""


def usable() -> list[Unit]:
    """What the CPU that numba compiles for can do, the best first; the last one any can."""
    config: Any = numba.config
    given = config.CPU_FEATURES
    # A name alone changes no features; for some CPUs numba leaves out all that begins with avx.
    text = codegen.get_host_cpu_features() if given is None else given  # type: ignore[no-untyped-call]
    features = {each[1:] for each in text.split(",") if each.startswith("+")}
    return [unit for name, unit in UNITS.items() if not name or name in features]


UNIT = usable()[0]
