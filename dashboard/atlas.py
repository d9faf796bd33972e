"""Maps as the web workers see them: the live pointer, and memory-mapped tables by map id."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import TypeVar
from uuid import UUID

from analytics.tiles import MapTable, Selection
from cql.errors import NotFoundError
from cql.records import Cluster, DuplicateGroup, DuplicateRun, MapVersion, Outlier
from cql.settings import Settings
from cql.store import Store

T = TypeVar("T")

LIVE_TTL_S = 2.0
"""A new live map is noticed within this time."""

TABLES = 4
"""Map tables kept open; older ones are opened again when asked for."""

RANKED = 20_000
"""Outliers of one map that a worker keeps; the ranking of a map never changes."""


class Atlas:
    """Thread-safe. Everything but the live pointer is immutable by map id, so it is kept."""

    def __init__(
        self, settings: Settings, store: Store, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._live: tuple[float, UUID | None] | None = None
        self._tables: OrderedDict[UUID, MapTable] = OrderedDict()
        self._clusters: OrderedDict[UUID, tuple[Cluster, ...]] = OrderedDict()
        self._rankings: OrderedDict[UUID, tuple[Outlier, ...]] = OrderedDict()
        self._ranks: OrderedDict[UUID, dict[UUID, Outlier]] = OrderedDict()
        self._doubles: OrderedDict[UUID, tuple[DuplicateRun | None, tuple[DuplicateGroup, ...]]] = (
            OrderedDict()
        )
        self._totals: OrderedDict[UUID, dict[str, dict[str, int]]] = OrderedDict()

    def live_id(self) -> UUID | None:
        """Id of the live map, at most two seconds old."""
        now = self._clock()
        with self._lock:
            if self._live is not None and now < self._live[0]:
                return self._live[1]
        found = self._store.live("map")
        with self._lock:
            self._live = (now + LIVE_TTL_S, found)
        return found

    def resolve(self, map_id: UUID | None) -> UUID:
        """The map meant by an optional id. NotFoundError while no map is live."""
        found = map_id or self.live_id()
        if found is None:
            raise NotFoundError("no map is live yet: run `sightline analyse`, or wait for its job")
        return found

    def version(self, map_id: UUID | None) -> MapVersion:
        """The map's row."""
        return self.table(map_id).version

    def table(self, map_id: UUID | None) -> MapTable:
        """The memory-mapped table of a map."""
        return self._kept(
            self._tables,
            self.resolve(map_id),
            lambda found: MapTable.open(self._settings, self._store, found),
        )

    def clusters(self, map_id: UUID | None) -> tuple[Cluster, ...]:
        """Clusters as the analysis left them, largest first."""
        return self._kept(
            self._clusters,
            self.resolve(map_id),
            lambda found: tuple(
                sorted(self._store.clusters(found), key=lambda c: (-c.size, c.cluster))
            ),
        )

    def ranking(self, map_id: UUID | None) -> tuple[Outlier, ...]:
        """Outliers, strangest first: the first 20,000 of the map."""
        return self._kept(self._rankings, self.resolve(map_id), self._read_ranking)

    def ranked(self, image_id: UUID) -> Outlier | None:
        """The image's row in the live map's ranking; None beyond what is kept."""
        index = self._kept(
            self._ranks, self.resolve(None), lambda m: {o.image_id: o for o in self.ranking(m)}
        )
        return index.get(image_id)

    def duplicates(
        self, map_id: UUID | None
    ) -> tuple[DuplicateRun | None, tuple[DuplicateGroup, ...]]:
        """How near-duplicates were looked for, and the groups, the largest first."""
        return self._kept(
            self._doubles,
            self.resolve(map_id),
            lambda found: (
                self._store.duplicate_run(found),
                tuple(self._store.duplicate_groups(found)),
            ),
        )

    def totals(self, map_id: UUID | None) -> dict[str, dict[str, int]]:
        """Rows of the whole map by column and facet key (number columns: by bin number)."""
        return self._kept(self._totals, self.resolve(map_id), self._counted)

    def _read_ranking(self, map_id: UUID) -> tuple[Outlier, ...]:
        found: list[Outlier] = []
        state = None
        while len(found) < RANKED:
            page = self._store.outliers(map_id, limit=2_000, page_state=state)
            found.extend(page.rows)
            state = page.next_page
            if state is None:
                break
        return tuple(islice(found, RANKED))

    def _counted(self, map_id: UUID) -> dict[str, dict[str, int]]:
        return {
            facet.name: dict(
                zip(
                    facet.keys if facet.kind == "category" else map(str, range(len(facet.counts))),
                    facet.counts,
                    strict=True,
                )
            )
            for facet in self.table(map_id).facets(Selection())
        }

    def _kept(self, kept: OrderedDict[UUID, T], key: UUID, make: Callable[[UUID], T]) -> T:
        with self._lock:
            if key in kept:
                kept.move_to_end(key)
                return kept[key]
        made = make(key)
        with self._lock:
            kept[key] = made
            while len(kept) > TABLES:
                kept.popitem(last=False)
        return made
