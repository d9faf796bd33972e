"""Why each row stands out, in words: O(N log N) for all rows together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from analytics.clustering import Clusters
from analytics.evidence.tails import Facets, Floats
from analytics.maps.columns import readable
from analytics.outliers import KINDS, LIMIT, Outliers, below
from cql.records import Outlier

COMMON = 0.6
"""Share of a cluster from which on a value is what the cluster has."""
SELDOM = 0.1
"""Share of a cluster below which a row's own value differs from it."""

_PLACES = ("at the edge of “", "its cluster is “", "in no cluster")
_SIBLINGS = "less like the other photos of its listing than "
_SPOT = "something in its "
_ROWS, _COLUMNS = ("upper", "", "lower"), ("left", "", "right")
_PHOTO = {
    "blurred": "Blurred: less detail for its contrast than {} of all images",
    "dark": "Dark: darker than {} of all images",
    "overexposed": "Overexposed: brighter than {} of all images",
    "blank": "Nearly blank: less contrast than {} of all images",
    "one tone": "Nearly blank: one tone covers more of it than in {} of all images",
}


def reasons(
    found: Outliers,
    clusters: Clusters,
    near: NDArray[np.int64],
    names: Sequence[str],
    facets: Facets | None = None,
) -> Iterator[str]:
    """The reason of each row in turn; `near` int64 (N,) is its nearest cluster, -1 for none.

    Says how far the row is from its neighbours, as a percentile of all rows, of which cluster it
    is nearest, which attributes differ from that cluster's, and first what is wrong with the photo
    or the attributes where that is the stronger evidence.
    """
    far = below(found.distance)
    photo = _photo(found)
    alone = below(-found.tails["siblings"]) if "siblings" in found.tails else None
    spot = _spots(found)
    differs = _differences(clusters, near, names, facets)
    for row in range(len(found.distance)):
        kind = KINDS[found.kinds[row]]
        text = ""
        if kind == "photo" and photo[row]:
            text = photo[row] + "; "
        elif kind == "category" and found.disagreement is not None and facets is not None:
            text = _category(found, row, facets) + "; "
        text += f"farther from its {found.k} nearest images than {_percent(far[row])} of all images"
        text += _place(clusters, near, names, row)
        if kind == "rare" and alone is not None and found.tails["siblings"][row] <= LIMIT:
            text += f"; {_SIBLINGS}{_percent(alone[row])}"
        if kind == "rare" and spot[row]:
            text += f"; {spot[row]}"
        if kind and kind != "category" and differs[row]:
            text += f"; {differs[row]}"
        yield text[0].upper() + text[1:]


def restated(
    told: Sequence[Outlier],
    clusters: Clusters,
    near: NDArray[np.int64],
    names: Sequence[str],
    facets: Facets | None = None,
) -> Iterator[str]:
    """The reasons `told` of all rows, with what they say of clusters said of other ones."""
    differs = _differences(clusters, near, names, facets)
    for row, each in enumerate(told):
        parts = each.reason.split("; ")
        at = next((n for n, part in enumerate(parts) if part.startswith(_PLACES)), len(parts))
        alone = [part for part in parts[at + 1 :] if part.startswith((_SIBLINGS, _SPOT))]
        text = "; ".join(parts[:at]) + _place(clusters, near, names, row)
        text += "".join(f"; {part}" for part in alone)
        if each.kind and each.kind != "category" and differs[row]:
            text += f"; {differs[row]}"
        yield text


def _place(clusters: Clusters, near: NDArray[np.int64], names: Sequence[str], row: int) -> str:
    own, beside = int(clusters.labels[row]), int(near[row])
    if own >= 0:
        edge = clusters.glosh[row] > 0.5
        return f"; at the edge of “{names[own]}”" if edge else f"; its cluster is “{names[own]}”"
    return f"; in no cluster, nearest is “{names[beside]}”" if beside >= 0 else "; in no cluster"


def evidence(found: Outliers, row: int) -> str:
    """The evidence that speaks for a row, as JSON {name: tail probability}; "" for none."""
    strong = {
        name: float(f"{values[row]:.2g}")
        for name, values in found.tails.items()
        if values[row] <= LIMIT
    }
    return json.dumps(strong) if strong else ""


def where(region: int, side: int) -> str:
    """The place of a region in words, as "upper left"; "centre" for the middle."""
    row, column = (3 * each // side for each in divmod(region, side))
    words = f"{_ROWS[row]} {_COLUMNS[column]}".strip()
    return {"": "centre", "upper": "upper part", "lower": "lower part"}.get(words, words)


def _spots(found: Outliers) -> list[str]:
    """What is said of the strangest region of each picture, "" where it is none."""
    texts = [""] * len(found.distance)
    if found.spots is None or "region" not in found.tails:
        return texts
    share = below(-found.tails["region"])
    for row in np.flatnonzero(found.tails["region"] <= LIMIT):
        place = where(int(found.spots.region[row]), found.spots.side)
        texts[row] = (
            f"{_SPOT}{place} is less like the other photos of its listing than in "
            f"{_percent(float(share[row]))} of all images"
        )
    return texts


def _photo(found: Outliers) -> list[str]:
    """The strongest complaint about each photo, "" where there is none."""
    names = [name for name in _PHOTO if name in found.tails]
    count = len(found.distance)
    if not names:
        return [""] * count
    tails = np.stack([found.tails[name] for name in names])
    which = np.argmin(tails, axis=0)
    share = [below(-tails[number]) for number in range(len(names))]
    return [
        _PHOTO[names[which[row]]].format(_percent(float(share[which[row]][row])))
        if tails[which[row], row] <= LIMIT
        else ""
        for row in range(count)
    ]


def _category(found: Outliers, row: int, facets: Facets) -> str:
    said = found.disagreement
    assert said is not None  # noqa: S101 - for the type checker; the caller looked
    name = said.names[said.which[row]]
    values = facets.values[name]
    own, other = values[facets.codes[name][row]], values[said.told[row]]
    return (
        f"{readable(name)} says “{own}”, but {_percent(float(said.share[row]))} of the images it "
        f"looks like say “{other}”"
    )


def _differences(
    clusters: Clusters,
    near: NDArray[np.int64],
    names: Sequence[str],
    facets: Facets | None,
) -> list[str]:
    """The attribute of each row that differs most from its cluster's, or from the nearest one's."""
    labels = np.where(clusters.labels >= 0, clusters.labels, near)
    texts = [""] * len(labels)
    if facets is None or not clusters.count:
        return texts
    best = np.zeros(len(labels))
    for name, codes in facets.codes.items():
        values = facets.values[name]
        top, share, own = _shares(clusters, labels, codes, len(values))
        differ = (labels >= 0) & (codes >= 0) & (share >= COMMON) & (own < SELDOM)
        for row in np.flatnonzero(differ & (share > best)):
            texts[row] = (
                f"{readable(name).lower()}: {values[codes[row]]}, where "
                f"{_percent(float(share[row]))} of “{names[labels[row]]}” is {values[top[row]]}"
            )
            best[row] = share[row]
    return texts


def _shares(
    clusters: Clusters, labels: NDArray[np.int64], codes: NDArray[np.int64], values: int
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Of each row's cluster: the commonest value, its share, and the share of the row's own."""
    inside = (clusters.labels >= 0) & (codes >= 0)
    key = clusters.labels[inside] * np.int64(values) + codes[inside]
    table = np.bincount(key, minlength=clusters.count * values).reshape(clusters.count, values)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    top = np.argmax(share, axis=1)
    at = np.maximum(labels, 0)
    return top[at], share[at, top[at]], share[at, np.maximum(codes, 0)]


def _percent(share: float) -> str:
    return f"{np.floor(share * 1000) / 10:g} %"
