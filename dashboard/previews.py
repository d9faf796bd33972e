"""The engine's side of choosing a size of the clusters: trees of maps, opened once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np

from cql.settings import Settings
from cql.store import Store
from cql.wire import Message

if TYPE_CHECKING:
    from analytics.hierarchy.grown import Preview

KEPT = 2
"""Trees that stay open: of the live map, and of the one before."""


class Previews:
    """Thread-safe; what is asked of one map while its tree is opened waits for that."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._open: OrderedDict[UUID, Preview] = OrderedDict()

    def stability(self, store: Store, message: Message) -> Message:
        """{map_id} -> what each size gives, as arrays of one length; the size now."""
        from analytics.clustering import least_size
        from analytics.making.resize import parameters

        map_id = UUID(str(message.values["map_id"]))
        version = store.map(map_id)
        found = self._of(store, map_id).curve()
        chosen = parameters(version).min_cluster_size
        automatic = least_size(version.rows_scored)
        return Message(
            {"size": chosen or automatic, "automatic": automatic},
            {
                "sizes": found.sizes,
                "clusters": found.clusters,
                "noise": found.noise,
                "mass": found.mass,
                "same": np.asarray(found.same, np.float64),
            },
        )

    def preview(self, store: Store, message: Message) -> Message:
        """{map_id, size} -> {clusters, noise}: how many, and the share of images in none."""
        found = self._of(store, UUID(str(message.values["map_id"])))
        clusters, noise = found.at(int(message.values["size"]))
        return Message({"clusters": clusters, "noise": noise})

    def _of(self, store: Store, map_id: UUID) -> Preview:
        from analytics.hierarchy.grown import Grown, Preview

        with self._lock:
            if map_id not in self._open:
                self._open[map_id] = Preview(Grown.open(self._settings, store, map_id))
                while len(self._open) > KEPT:
                    self._open.popitem(last=False)
            self._open.move_to_end(map_id)
            return self._open[map_id]
