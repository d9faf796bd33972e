"""Maps as the web workers see them: the live pointer, and tables by map id, as decided.

A table has the images that were placed since its map was made.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import TypeVar
from uuid import UUID

from analytics.decisions.effective import View, Views
from analytics.decisions.standing import Standing
from analytics.maps.appended import Tables, counted, counted_groups
from analytics.tiles import MapTable, Selection
from cql.errors import NotFoundError
from cql.records import Cluster, DuplicateGroup, DuplicateRun, Group, MapVersion, Outlier
from cql.settings import Settings
from cql.store import Store

T = TypeVar("T")
K = TypeVar("K")

LIVE_TTL_S = 2.0
"""A new live map is noticed within this time, and what is placed on a map."""

TILE_TTL_S = 1.0
"""A tile shows a decision within this time; its codes mean the same before and after it."""

TABLES = 4
"""Map tables kept open; older ones are opened again when asked for."""

RANKED = 20_000
"""Outliers of one map that a worker keeps; the ranking of a map never changes."""


class Atlas:
    """Thread-safe. But for the live pointer, decisions and what is placed, nothing ever changes."""

    def __init__(
        self, settings: Settings, store: Store, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._live: tuple[float, UUID | None] | None = None
        self._tables = Tables(
            settings,
            store,
            most=TABLES,
            clock=clock,
            opened=lambda map_id: MapTable.open(settings, store, map_id),
        )
        self._clusters: OrderedDict[tuple[UUID, int], tuple[Cluster, ...]] = OrderedDict()
        self._groups: OrderedDict[tuple[UUID, int], tuple[Group, ...]] = OrderedDict()
        self._rankings: OrderedDict[UUID, tuple[Outlier, ...]] = OrderedDict()
        self._ranks: OrderedDict[UUID, dict[UUID, Outlier]] = OrderedDict()
        self._totals: OrderedDict[tuple[UUID, str], dict[str, dict[str, int]]] = OrderedDict()
        self._views = Views(store)
        self._doubles: OrderedDict[UUID, tuple[DuplicateRun | None, tuple[DuplicateGroup, ...]]] = (
            OrderedDict()
        )

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

    def table(self, map_id: UUID | None, *, max_age_s: float = 0.0) -> MapTable:
        """The memory-mapped table of a map, with clusters and labels as decided."""
        return self.decided(map_id, max_age_s=max_age_s)[1]

    def analysed_table(self, map_id: UUID | None) -> MapTable:
        """The memory-mapped table of a map, with clusters as the analysis left them."""
        return self._table(self.resolve(map_id))

    def decided(self, map_id: UUID | None, *, max_age_s: float = 0.0) -> tuple[View, MapTable]:
        """A map as decided and its table, both of one reading of the ledger."""
        made = self._table(self.resolve(map_id))
        view = self._views.view(
            made.version.map_id,
            lambda: made,
            lambda: self._analysed(made),
            max_age_s=max_age_s,
            late=made.rows - made.made,
        )
        return view, view.table or made

    def view(self, map_id: UUID | None, *, max_age_s: float = 0.0) -> View:
        """A map as analysts decided."""
        return self.decided(map_id, max_age_s=max_age_s)[0]

    def late(self, map_id: UUID | None, *, max_age_s: float = LIVE_TTL_S) -> int:
        """How many images were placed on a map since it was made, as of `max_age_s` ago."""
        return self._tables.late(self.resolve(map_id), max_age_s=max_age_s)

    def token(self, map_id: UUID | None) -> str:
        """A text that changes when a tile of the map may have other clusters or labels."""
        return f"{self.resolve(map_id)}-{self._views.token(max_age_s=TILE_TTL_S)}"

    @property
    def standing(self) -> Standing:
        """Decisions in force, as of the last view; `read` takes in newer ones."""
        return self._views.standing

    def _table(self, found: UUID) -> MapTable:
        return self._tables.table(found, max_age_s=LIVE_TTL_S)

    def clusters(self, map_id: UUID | None) -> tuple[Cluster, ...]:
        """Clusters as the analysis left them, with what was placed since; largest first."""
        return self._analysed(self._table(self.resolve(map_id)))

    def _analysed(self, table: MapTable) -> tuple[Cluster, ...]:
        def make(key: tuple[UUID, int]) -> tuple[Cluster, ...]:
            every = self._store.clusters(key[0])
            every = counted(every, table) if table.rows > table.made else every
            return tuple(sorted(every, key=lambda c: (-c.size, c.cluster)))

        return self._kept(self._clusters, (table.version.map_id, table.rows), make)

    def groups(self, map_id: UUID | None) -> tuple[Group, ...]:
        """Groups of clusters, by level and number: as made, at each level the largest first."""
        table = self._table(self.resolve(map_id))

        def make(key: tuple[UUID, int]) -> tuple[Group, ...]:
            every = self._store.groups(key[0])
            every = counted_groups(every, table) if table.rows > table.made else every
            return tuple(sorted(every, key=lambda g: (g.level, g.number)))

        return self._kept(self._groups, (table.version.map_id, table.rows), make)

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

    def totals(self, view: View, table: MapTable) -> dict[str, dict[str, int]]:
        """Rows of the whole map by column and facet key (number columns: by bin number).

        `view` and `table` as `decided` gave them.
        """
        key = (table.version.map_id, view.token)
        return self._kept(self._totals, key, lambda _: _counted(table))

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

    def _kept(self, kept: OrderedDict[K, T], key: K, make: Callable[[K], T]) -> T:
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


def _counted(table: MapTable) -> dict[str, dict[str, int]]:
    return {
        facet.name: dict(
            zip(
                facet.keys if facet.kind == "category" else map(str, range(len(facet.counts))),
                facet.counts,
                strict=True,
            )
        )
        for facet in table.facets(Selection())
    }
