"""The plan of a collection: its listings, what a surveyor noted, where truth is planted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cql.errors import InputError

KINDS = (
    "electricity cable",
    "telecoms cable",
    "gas pipe",
    "water pipe",
    "gas joint",
    "water joint",
)
MEAN_PICTURES = 4
"""Pictures of a listing on average; a listing has 2 to 6."""
OUTLIER_SHARE = 0.02
COPY_SHARE = 0.025

OUTLIERS = (
    "blurred",
    "dark",
    "overexposed",
    "covered lens",
    "finger",
    "sky",
    "grass",
    "paper form",
    "asphalt",
    "boots",
    "spade",
    "bones",
    "bricks",
    "duct bundle",
    "bottle",
)
"""Sorts of planted outliers: bad photos, wrong subjects, rare finds."""
COPIES = ("resized", "cropped", "re-encoded", "brightened")
"""What was done to a planted near-duplicate."""

MATERIALS: dict[str, tuple[tuple[str, float], ...]] = {
    "electricity cable": (("XLPE, red", 0.36), ("XLPE, black", 0.36), ("PILC, jute", 0.28)),
    "telecoms cable": (
        ("PVC duct, grey", 0.25),
        ("PVC duct, green", 0.25),
        ("HDPE microduct", 0.28),
        ("PE sheath", 0.22),
    ),
    "gas pipe": (("PE, yellow", 0.5), ("cast iron", 0.28), ("steel", 0.22)),
    "water pipe": (
        ("MDPE, blue", 0.42),
        ("ductile iron", 0.26),
        ("cast iron", 0.16),
        ("fibre cement", 0.16),
    ),
    "gas joint": (("PE, yellow", 0.55), ("cast iron", 0.25), ("steel", 0.2)),
    "water joint": (("MDPE, blue", 0.46), ("ductile iron", 0.34), ("cast iron", 0.2)),
}
DIAMETERS = {
    "PE, yellow": (63, 90, 125, 180, 250),
    "cast iron": (100, 150, 200),
    "steel": (80, 100, 150),
    "MDPE, blue": (63, 90, 125, 180),
    "ductile iron": (100, 150, 200),
    "fibre cement": (100, 150),
    "PVC duct, grey": (96, 110),
    "PVC duct, green": (96, 110),
    "HDPE microduct": (7, 10, 14),
    "PE sheath": (16, 22, 30),
    "XLPE, red": (28, 36, 48),
    "XLPE, black": (28, 36, 48, 62),
    "PILC, jute": (36, 48, 62),
}
DEPTHS = {
    "electricity cable": (0.45, 1.0),
    "telecoms cable": (0.3, 0.65),
    "gas pipe": (0.6, 1.15),
    "water pipe": (0.75, 1.5),
    "gas joint": (0.6, 1.15),
    "water joint": (0.75, 1.5),
}
DISTRICTS = (
    "Harbour",
    "Old Town",
    "Millfield",
    "Northgate",
    "Riverside",
    "Castle Hill",
    "Eastmoor",
    "Quarry Bank",
)
STREETS = (
    "Harbour Street",
    "Mill Lane",
    "Station Road",
    "Church Walk",
    "High Street",
    "Albert Terrace",
    "Quarry Road",
    "Orchard Close",
    "Bridge Street",
    "Victoria Road",
    "Tanner's Row",
    "Kiln Lane",
    "Ferry Road",
    "Market Place",
    "Meadow Way",
    "Priory Gardens",
    "Chapel Street",
    "Beech Avenue",
    "Ropewalk",
    "Canal Side",
    "Foundry Street",
    "Nelson Road",
    "Willow Grove",
    "Park Crescent",
    "Heath Road",
    "Cooper Street",
    "Dock Road",
    "Gasworks Lane",
    "Springfield Road",
    "Windmill Hill",
    "Abbey Road",
    "Cross Street",
    "Elm Drive",
    "Garden Lane",
    "King's Parade",
    "Manor Road",
    "North Quay",
    "Paddock Lane",
    "School Lane",
    "Tower Street",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One listing with its number in the plan. `kind` is truth: no title or attribute says it."""

    number: int
    listing_id: str
    title: str
    kind: str
    material: str
    diameter: int
    depth_m: float
    district: str
    surveyed: str
    stock: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One picture to make; a near-duplicate copies the picture `origin` (listing, position)."""

    listing: int
    position: int
    outlier: str = ""
    origin: tuple[int, int] | None = None
    copy: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole collection in small arrays: pictures of each listing, planted outliers and copies."""

    seed: int
    sizes: np.ndarray
    kinds: np.ndarray
    outliers: dict[tuple[int, int], str]
    copies: dict[tuple[int, int], tuple[tuple[int, int], str, str]]
    groups: dict[tuple[int, int], str]

    @property
    def listings(self) -> int:
        """How many listings there are."""
        return len(self.sizes)

    def shots(self, listing: int) -> list[Shot]:
        """The pictures of one listing, by position."""
        found = []
        for position in range(int(self.sizes[listing])):
            at = (listing, position)
            origin, how, group = self.copies.get(at, (None, "", self.groups.get(at, "")))
            found.append(
                Shot(
                    listing=listing,
                    position=position,
                    outlier=self.outliers.get(at, ""),
                    origin=origin,
                    copy=how,
                    group=group,
                )
            )
        return found

    def spec(self, listing: int) -> Spec:
        """What the surveyor noted about one listing."""
        return describe(self.seed, listing, KINDS[int(self.kinds[listing])])


def plan(images: int, seed: int) -> Plan:
    """Lay out `images` pictures: the same seed and number give the same plan, on every machine."""
    if images < 1:
        raise InputError(f"a sample needs at least 1 picture, got {images}: ask for more")
    if not 0 <= seed < 2**63:
        raise InputError(f"the seed must be between 0 and 2^63 - 1, got {seed}: pick another")
    rng = np.random.default_rng([seed, 1])
    listings = max(1, round(images / MEAN_PICTURES))
    sizes = np.full(listings, images // listings)
    sizes[: images - int(sizes.sum())] += 1
    order = rng.permutation(listings)
    # Move one or two pictures between pairs of listings: the total stays, the sizes vary.
    pairs = listings // 3
    give = np.minimum(rng.integers(1, 3, pairs), np.maximum(0, sizes[order[:pairs]] - 2))
    sizes[order[:pairs]] -= give
    sizes[order[pairs : 2 * pairs]] += give
    kinds = rng.permutation(np.arange(listings) % len(KINDS))
    outliers = _plant_outliers(rng, images, sizes)
    copies, groups = _plant_copies(rng, images, sizes, kinds, outliers)
    return Plan(seed, sizes, kinds, outliers, copies, groups)


def _plant_outliers(
    rng: np.random.Generator, images: int, sizes: np.ndarray
) -> dict[tuple[int, int], str]:
    count = round(images * OUTLIER_SHARE)
    sorts = rng.permutation(len(OUTLIERS))
    chosen = np.sort(rng.choice(len(sizes), size=min(count, len(sizes)), replace=False))
    kinds = rng.permutation([sorts[n % len(OUTLIERS)] for n in range(len(chosen))])
    return {
        (int(listing), int(rng.integers(0, sizes[listing]))): OUTLIERS[int(kind)]
        for listing, kind in zip(chosen, kinds, strict=True)
    }


def _plant_copies(
    rng: np.random.Generator,
    images: int,
    sizes: np.ndarray,
    kinds: np.ndarray,
    outliers: dict[tuple[int, int], str],
) -> tuple[dict[tuple[int, int], tuple[tuple[int, int], str, str]], dict[tuple[int, int], str]]:
    """Half of the copies stand in the listing of their original, half in another of its kind."""
    count = round(images * COPY_SHARE)
    free = [n for n in rng.permutation(len(sizes)) if sizes[n] >= 2]
    used = {listing for listing, _ in outliers}
    free = [int(n) for n in free if n not in used]
    copies: dict[tuple[int, int], tuple[tuple[int, int], str, str]] = {}
    groups: dict[tuple[int, int], str] = {}
    waiting: dict[int, int] = {}
    for source in free:
        if len(copies) >= count:
            break
        how = COPIES[len(copies) % len(COPIES)]
        if len(copies) % 2 == 0:
            home, target = source, source
        else:
            kind = int(kinds[source])
            if kind not in waiting:
                waiting[kind] = source
                continue
            home, target = waiting.pop(kind), source
        group = f"copy-{len(copies):05d}"
        at, origin = (target, int(sizes[target]) - 1), (home, 0)
        copies[at] = (origin, how, group)
        groups[origin] = group
    return copies, groups


def describe(seed: int, listing: int, kind: str) -> Spec:
    """Attributes of a listing, from its own random stream."""
    rng = np.random.default_rng([seed, 2, listing])
    names, weights = zip(*MATERIALS[kind], strict=True)
    material = str(rng.choice(names, p=np.array(weights) / sum(weights)))
    diameter = int(rng.choice(DIAMETERS[material]))
    low, high = DEPTHS[kind]
    depth = low + (high - low) * float(rng.beta(2.2, 2.2))
    district = DISTRICTS[int(rng.integers(len(DISTRICTS)))]
    street = STREETS[int(rng.integers(len(STREETS)))]
    day = np.datetime64("2023-02-06") + np.timedelta64(int(rng.integers(0, 1000)), "D")
    stock = 0 if rng.random() < 0.12 else 1 + int(rng.geometric(0.22))
    size = f"{diameter} mm {material.split(',', maxsplit=1)[0]}"
    return Spec(
        number=listing,
        listing_id=f"asset-{100_000 + listing}",
        title=f"{size}, {street}",
        kind=kind,
        material=material,
        diameter=diameter,
        depth_m=math.floor(depth * 100.0) / 100.0,
        district=district,
        surveyed=str(day),
        stock=stock,
    )
