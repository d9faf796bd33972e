"""Maps as analysts decided: clusters merged and split, labels and what they teach as columns."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from analytics.decisions import regroup
from analytics.decisions.decided import LABEL, MERGE, PREFIXES, SPLIT
from analytics.decisions.regroup import Regrouped
from analytics.decisions.standing import Moment, Standing
from analytics.identity import packed, parsed
from analytics.learning.predicted import Predictions, Said
from analytics.maps import columns as attributes
from analytics.maps.columns import Column
from analytics.tiles import MapTable
from cql import codec
from cql.records import Cluster, Decision
from cql.store import Store

VIEWS = 4
"""Maps that are kept as decided."""
PART_NUMBER = 1_000_000_000
"""Parts are no clusters of a map: their numbers begin here and follow from their keys."""
EXEMPLARS = 9
_SHOWN = (MERGE, SPLIT, LABEL)
_BLOCK = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """A cluster to show. `units`: keys of what it was merged of; `origin`: it was split from."""

    cluster: Cluster
    units: tuple[UUID, ...]
    origin: UUID | None = None


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A map as decided: `table` (None: as the analysis left it) and clusters, largest first.

    `waiting` are subjects of decisions that find nothing on it. `versions`: the newest version of
    each subject of a merge or split that it shows, those taken back included. `said` changes when
    a classifier says something else of its images, or something of more of them.
    """

    table: MapTable | None
    clusters: tuple[Effective, ...]
    waiting: frozenset[str]
    token: str
    regrouped: Regrouped | None = None
    versions: Mapping[str, int] = field(default_factory=dict)
    said: str = ""


class Views:
    """Maps as decided, kept until somebody decides something else. Thread-safe."""

    def __init__(self, store: Store, standing: Standing | None = None) -> None:
        self._store = store
        self.standing = standing or Standing(store)
        self._predictions = Predictions(store)
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[UUID, str, int], View] = OrderedDict()
        self._regrouped: OrderedDict[tuple[UUID, str, int], Regrouped] = OrderedDict()

    def token(self, *, max_age_s: float = 0.0) -> str:
        """A text that changes when a view does."""
        decided = self.standing.read(max_age_s=max_age_s).token(*_SHOWN)
        return _joined(decided, self._predictions.read(max_age_s=max_age_s).token)

    def view(
        self,
        map_id: UUID,
        table: Callable[[], MapTable],
        clusters: Callable[[], Sequence[Cluster]],
        *,
        max_age_s: float = 0.0,
        late: int = 0,
    ) -> View:
        """A map with every decision of now, or of `max_age_s` ago.

        `table` and `clusters` give it as the analysis left it, with `late` images placed since.
        """
        key = (map_id, self.token(max_age_s=max_age_s), late)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        # Another thread may have read since: what is shown is what the token says.
        held, said = self.standing.moment(*_SHOWN), self._predictions.now()
        key = (map_id, _joined(held.token(*_SHOWN), said.token), late)
        made = self._make(table, clusters(), held, said, _with(key[1], late))
        with self._lock:
            # A view of fewer images keeps columns of its own, and nobody asks for it again.
            for old in [each for each in self._kept if each[0] == map_id and each[2] < late]:
                del self._kept[old]
            self._kept[key] = made
            while len(self._kept) > VIEWS:
                self._kept.popitem(last=False)
        return made

    def _make(
        self,
        opened: Callable[[], MapTable],
        clusters: Sequence[Cluster],
        held: Moment,
        said: Said,
        token: str,
    ) -> View:
        versions = held.versions(MERGE, SPLIT)
        shown = tuple(
            Effective(cluster=cluster, units=(cluster.cluster_key,))
            for cluster in sorted(clusters, key=lambda c: (-c.size, c.cluster))
        )
        waiting: frozenset[str] = frozenset()
        found: Regrouped | None = None
        columns: list[tuple[Column, NDArray[Any]]] = []
        numbers = None
        decisions = [*held.of(MERGE).values(), *held.of(SPLIT).values()]
        labels = held.of(LABEL)
        if not decisions and not labels and not said.token:
            return View(None, shown, waiting, token, versions=versions)
        table = opened()
        if decisions:
            found = self._replay(table, clusters, decisions, held.token(MERGE, SPLIT))
            waiting = found.waiting
            shown = tuple(_effective(table, clusters, found))
            columns.append(_cluster_column(shown, found, len(clusters)))
            numbers = np.array([each.cluster.cluster for each in shown] + [-1], np.int64)
            numbers = numbers[found.codes]
        if labels:
            columns.append(_label_column(table, labels))
        columns += said.columns(table)
        made = table.overlaid(columns, numbers)
        return View(made, shown, waiting, token, found, versions, said.token)

    def _replay(
        self,
        table: MapTable,
        clusters: Sequence[Cluster],
        decisions: Sequence[Decision],
        token: str,
    ) -> Regrouped:
        """Replayed anew only when a merge or a split changed: a label changes no group."""
        key = (table.version.map_id, token, table.rows)
        with self._lock:
            if key in self._regrouped:
                return self._regrouped[key]
        ordered = sorted(clusters, key=lambda cluster: cluster.cluster)
        numbers = np.array([cluster.cluster for cluster in ordered], np.int64)
        at = np.searchsorted(numbers, table.clusters)
        at[at == len(numbers)] = 0
        known = len(numbers) > 0 and numbers[at] == table.clusters
        found = regroup.regroup(
            [cluster.cluster_key for cluster in ordered],
            np.where(known, at, -1).astype(np.int64),
            decisions,
            rows_of=table.rows_of,
            nearest=nearest_part(self._store, table),
        )
        with self._lock:
            self._regrouped[key] = found
            while len(self._regrouped) > VIEWS:
                self._regrouped.popitem(last=False)
        return found


def _joined(decided: str, predicted: str) -> str:
    return f"{decided}-{predicted}" if predicted else decided


def _with(token: str, late: int) -> str:
    return f"{token}-{late}" if late else token


def nearest_part(store: Store, table: MapTable) -> regroup.Nearest:
    """The part that holds the nearest anchor of an image, by the map's own features.

    An image whose feature is gone stays with the rest.
    """

    def vectors(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 (M, D); zeros where there is no feature."""
        model_id = table.version.model_id
        found = store.features_at(
            [(listing_id, model_id, image_id) for image_id, listing_id in table.ids(rows)]
        )
        held = [(at, each) for at, each in enumerate(found) if each is not None]
        if not held:
            return np.zeros((len(rows), 1), np.float32)
        out = np.zeros((len(rows), held[0][1].dim), np.float32)
        out[[at for at, _ in held]] = codec.decode(
            [each.vector for _, each in held],
            [each.crc32c for _, each in held],
            dim=held[0][1].dim,
        )
        return out

    def nearest(rows: NDArray[np.int64], parts: Sequence[NDArray[np.uint8]]) -> NDArray[np.int64]:
        on_map = (table.rows_of(part) for part in parts)
        examples = [vectors(part[part >= 0]) for part in on_map]
        chosen = np.zeros(len(rows), np.int64)
        for start in range(0, len(rows), _BLOCK):
            some = vectors(rows[start : start + _BLOCK])
            best = np.full((len(some), len(parts)), -np.inf)
            for number, each in enumerate(examples):
                if len(each) and each.shape[1] == some.shape[1]:
                    best[:, number] = (some @ each.T).max(axis=1)
            known = some.any(axis=1)
            chosen[start : start + _BLOCK] = np.where(known, best.argmax(axis=1), 0)
        return chosen

    return nearest


def _effective(
    table: MapTable, clusters: Sequence[Cluster], regrouped: Regrouped
) -> list[Effective]:
    known = {cluster.cluster_key: cluster for cluster in clusters}
    return [_shown(table, known, regrouped, number) for number in range(len(regrouped.groups))]


def _shown(
    table: MapTable, known: Mapping[UUID, Cluster], regrouped: Regrouped, number: int
) -> Effective:
    group = regrouped.groups[number]
    origin = regrouped.origin.get(group.key)
    own = [known[unit] for unit in group.units if unit in known]
    named = known.get(group.key)
    if named is not None and group.units == (group.key,) and named.size == group.rows:
        return Effective(cluster=named, units=group.units)
    rows = np.flatnonzero(regrouped.codes == number)
    gist = table.gist(rows, EXEMPLARS)
    turns = chain.from_iterable(zip_longest(*(each.exemplars for each in own)))
    chosen = [image for image in turns if image is not None]
    if chosen:
        at = table.rows_of(packed(chosen))
        inside = (at >= 0) & (regrouped.codes[at] == number)
        chosen = [image for image, kept in zip(chosen, inside, strict=True) if kept]
    largest = known.get(group.units[0])
    part = regrouped.names.get(group.key) or regrouped.names.get(group.units[0], "")
    numbered = named or largest
    return Effective(
        cluster=Cluster(
            map_id=table.version.map_id,
            cluster=numbered.cluster if numbered else PART_NUMBER + group.key.int % PART_NUMBER,
            cluster_key=group.key,
            size=len(rows),
            listings=gist.listings,
            name=named.name if named else part or (largest.name if largest else ""),
            exemplars=tuple(dict.fromkeys([*chosen, *gist.images]))[:EXEMPLARS],
            x=gist.x,
            y=gist.y,
            family=_family(known, regrouped, numbered, group.key),
        ),
        units=group.units,
        origin=origin,
    )


def _family(
    known: Mapping[UUID, Cluster], regrouped: Regrouped, numbered: Cluster | None, key: UUID
) -> int | None:
    """The group of the cluster that a shown one is numbered by, else of what it was split from."""
    origin: UUID | None = key
    while numbered is None and origin is not None:
        origin = regrouped.origin.get(origin)
        numbered = known.get(origin) if origin is not None else None
    return None if numbered is None else numbered.family


def _cluster_column(
    shown: Sequence[Effective], found: Regrouped, clusters: int
) -> tuple[Column, NDArray[np.float32]]:
    """Codes stay what they are: of the map's clusters, then of none, then of parts.

    A tile that a browser read before a decision still means what it says. What was merged into
    another cluster has an empty key and no rows.
    """
    places = [group.lead if group.lead < clusters else group.lead + 1 for group in found.groups]
    keys = [""] * (max([clusters, *places]) + 1)
    names = list(keys)
    keys[clusters], names[clusters] = "-1", "No cluster"
    for place, each in zip(places, shown, strict=True):
        keys[place], names[place] = str(each.cluster.cluster), each.cluster.name
    column = Column(
        name="cluster", label="Cluster", kind="category", keys=tuple(keys), categories=tuple(names)
    )
    return column, np.array([*places, clusters], np.float32)[found.codes]


def _label_column(
    table: MapTable, labels: Mapping[str, Decision]
) -> tuple[Column, NDArray[np.float32]]:
    """Labels in force; NaN for images without one. Rare labels share one category."""
    counts = Counter(each.value for each in labels.values())
    column, code = attributes.categories("label", "Label", counts)
    rows = table.rows_of(parsed(subject.removeprefix(PREFIXES[LABEL]) for subject in labels))
    values = np.full(table.rows, np.nan, np.float32)
    codes = np.array([code[each.value] for each in labels.values()], np.float32)
    values[rows[rows >= 0]] = codes[rows >= 0]
    return column, values
