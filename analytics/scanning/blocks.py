"""An opened shard: rows in listing order, as float32 vectors and as codes."""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analytics.scanning.codes import Codes
from analytics.scanning.components import ComponentCodes, Components
from analytics.scanning.rowfile import RowFile

_TRIED = 512
"""One row in so many is tried before all are bounded."""


class Trial(NamedTuple):
    """Copies of the codes of a few rows of a block, and of their components where it has these."""

    codes: Codes
    components: ComponentCodes | None


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """An opened shard. Rows are ordered by (listing, image id); a listing is never empty.

    `vectors` float32 (N, D), `codes` of the same rows, `offsets` int64 (L + 1): listing l owns rows
    offsets[l] to offsets[l + 1]; `listings`: L ids ascending; `images` uint8 (N, 16); `base`: row
    number in the snapshot of the first row; `number`: of the shard; `file`: where the vectors lie,
    None where they are in memory. `components`: of all rows, None where they would tell little.
    `trial`: a few of the rows.
    """

    number: int
    base: int
    vectors: NDArray[np.float32]
    codes: Codes
    offsets: NDArray[np.int64]
    listings: pa.Array
    images: NDArray[np.uint8]
    file: RowFile | None = None
    components: Components | None = None
    trial: Trial = field(init=False)

    def __post_init__(self) -> None:
        """Make every array read-only: compiled code is made once for each kind of array."""
        for name in ("vectors", "offsets", "images"):
            object.__setattr__(self, name, _sealed(getattr(self, name)))
        object.__setattr__(self, "codes", Codes._make(_sealed(each) for each in self.codes))
        object.__setattr__(self, "trial", self._tried())

    def _tried(self) -> Trial:
        """The same share of any rows."""
        codes = Codes._make(_sealed(each[::_TRIED].copy()) for each in self.codes)
        if self.components is None:
            return Trial(codes, None)
        own = self.components.codes
        return Trial(codes, ComponentCodes._make(_sealed(each[::_TRIED].copy()) for each in own))

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Copy rows int64 (R,) of `vectors`: float32 (R, D). Of a file, no page stays mapped."""
        if self.file is not None:
            return self.file.rows(rows)
        return np.ascontiguousarray(self.vectors[rows])

    def release(self) -> None:
        """Unmap the pages of `vectors` that were read: a host keeps codes in memory, not those."""
        base: Any = self.vectors
        while base is not None:
            mapped = getattr(base, "_mmap", None)
            if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                mapped.madvise(mmap.MADV_DONTNEED)
                return
            base = getattr(base, "base", None)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.vectors.shape[0])

    def find(self, listing_id: str) -> int:
        """Index of a listing, or -1."""
        return find(self.listings, listing_id)


def find(names: pa.Array, name: str) -> int:
    """Index of a name among ascending ones, or -1."""
    low, high = 0, len(names)
    while low < high:
        middle = (low + high) // 2
        if names[middle].as_py() < name:
            low = middle + 1
        else:
            high = middle
    return low if low < len(names) and names[low].as_py() == name else -1


def _sealed(array: Any) -> Any:
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view
