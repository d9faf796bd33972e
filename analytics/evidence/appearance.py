"""What is stored about how images look and what their listings say, in the order of the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analytics.evidence.copies import Pictures
from analytics.evidence.tails import Facets, Looks
from analytics.identity import numbered
from analytics.neighbours import Collection
from cql.records import Listing
from cql.store import Store

VALUES = 64
"""Most values of an attribute that is a category: more of them say little of what is seen."""
_SIGNATURE = 2304


@dataclass(frozen=True, slots=True, eq=False)
class Appearance:
    """Measures of N rows; those without have NaN in `looks` and are not `known` in `pictures`.

    `pixels` int64 (N,) is the size of each photo, 0 where it was not measured.
    """

    looks: Looks
    pictures: Pictures
    pixels: NDArray[np.int64]

    @property
    def measured(self) -> int:
        """Rows that have measures."""
        return int(self.pictures.known.sum())

    def preferred(self) -> NDArray[np.float64]:
        """Which of several copies to show, float64 (N,): the most pixels, then the sharpest."""
        sharp = np.nan_to_num(self.looks.sharpness, nan=0.0)
        order = np.lexsort((sharp, self.pixels))
        rank = np.empty(len(order))
        rank[order] = np.arange(len(order))
        return rank


def read(store: Store, rows: Collection) -> Appearance:
    """Read the measures of all rows; images that the snapshot lacks are passed over."""
    count = len(rows.listings)
    figures = np.full((5, count), np.nan, np.float32)
    hashes, signatures = np.zeros(count, np.int64), np.zeros((count, _SIGNATURE), np.uint8)
    pixels, known = np.zeros(count, np.int64), np.zeros(count, bool)
    place = {image.tobytes(): row for row, image in enumerate(rows.images)}
    for each in store.iter_measures():
        row = place.get(each.image_id.bytes)
        if row is None or len(each.signature) != _SIGNATURE:
            continue
        figures[:, row] = (
            each.sharpness, each.brightness, each.contrast, each.blank, each.colour,
        )  # fmt: skip
        hashes[row], pixels[row], known[row] = each.phash, each.pixels, True
        signatures[row] = np.frombuffer(each.signature, np.uint8)
    return Appearance(Looks(*figures), Pictures(hashes, signatures, known), pixels)


def facets(
    owners: Sequence[str], listings: Mapping[str, Listing]
) -> tuple[Facets, NDArray[np.int64]]:
    """Attributes of the rows that are categories (2 to 64 values), and listings by number."""
    numbers, own = numbered(owners)
    texts: dict[str, dict[int, str]] = {}
    for name, number in numbers.items():
        listing = listings.get(name)
        for key, value in listing.attributes.items() if listing else ():
            if value:
                texts.setdefault(key, {})[number] = value
    codes: dict[str, NDArray[np.int64]] = {}
    values: dict[str, Sequence[str]] = {}
    for key in sorted(texts):
        known = sorted(set(texts[key].values()))
        # A value of its own for most listings is a name, not a category.
        if not 2 <= len(known) <= VALUES or 2 * len(known) > len(texts[key]):
            continue
        code = {value: number for number, value in enumerate(known)}
        table = np.full(len(numbers), -1, np.int64)
        for number, value in texts[key].items():
            table[number] = code[value]
        codes[key], values[key] = table[own], known
    return Facets(codes, values), own
