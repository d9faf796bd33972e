"""The rows of a stored map with their vectors, which the map itself does not hold."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analytics.hosting.placement import ROLE, cover
from analytics.identity import halves, located
from analytics.neighbours import Collection
from analytics.search import Searcher
from cql import codec
from cql.errors import IntegrityError, NotFoundError, UnavailableError
from cql.progress import Progress
from cql.settings import Settings
from cql.store import Store

log = logging.getLogger(__name__)

_BLOCK = 1_000
"""Vectors read from Cassandra at a time."""


def recollect(
    settings: Settings, store: Store, model_id: str, rows: Collection, progress: Progress
) -> Collection:
    """The rows of a map with the vectors of their images, (N, 0) so far, under a model.

    Those are what hosts hold of the model's live snapshot; others, all where no hosts hold it, are
    read from Cassandra. A row whose image is gone, or whose vector is damaged, has NaN; where that
    is true of all there are no dimensions. The vectors lie in a file that has no name and goes with
    the array: in memory is one block of them at a time. The step of `progress` is called collect.

    Raises:
        UnavailableError: `data_dir` has no room for them.
    """
    count = len(rows.listings)
    order = np.lexsort(halves(rows.images))
    high = halves(rows.images)[1][order]
    vectors = np.empty((count, 0), np.float32)
    left = np.ones(count, bool)
    progress("collect", 0, count)
    for images, block in _blocks(settings, store, model_id, rows, left):
        at = located(rows.images, order, high, images)
        known = at >= 0
        if not vectors.shape[1] and known.any():
            vectors = _file(settings.data_dir / "work", count, block.shape[1])
        vectors[at[known]] = block[known]
        left[at[known]] = False
        progress("collect", count - int(left.sum()), count)
    vectors[left] = np.nan
    progress("collect", count, count)
    return replace(rows, vectors=vectors)


def _blocks(
    settings: Settings, store: Store, model_id: str, rows: Collection, left: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Images uint8 (M, 16) and their vectors, (M, D) of one D; `left`: those not taken so far."""
    dim = 0
    try:
        with Searcher(settings, store) as searcher:
            snapshot = searcher.snapshot(model_id)
            # Without hosts nobody waits for them: Cassandra has the same.
            if cover(store.services(ROLE), snapshot) is not None:
                dim = snapshot.dim
                for part in searcher.stored(snapshot):
                    yield part.images, part.vectors
    except (NotFoundError, UnavailableError) as error:
        log.info("vectors of a map are read from Cassandra: %s", error)
    wanted = np.flatnonzero(left)
    for start in range(0, len(wanted), _BLOCK):
        own = wanted[start : start + _BLOCK].tolist()
        found = []
        for each in store.features_at((rows.listings[n], model_id, rows.image_id(n)) for n in own):
            if each is None:
                continue
            dim = dim or each.dim
            try:
                found.append(
                    (each.image_id.bytes, codec.decode([each.vector], [each.crc32c], dim=dim))
                )
            except IntegrityError as error:
                log.warning("image %s counts in no cluster's mean: %s", each.image_id, error)
        images = np.frombuffer(b"".join(image for image, _ in found), np.uint8).reshape(-1, 16)
        yield images, np.concatenate([np.empty((0, dim), np.float32), *(own for _, own in found)])


def _file(folder: Path, count: int, dim: int) -> NDArray[np.float32]:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        # All of it now: a disk that is full later would end the process, not raise.
        try:
            os.posix_fallocate(file.fileno(), 0, 4 * count * dim)
        except OSError as error:
            raise UnavailableError(
                f"{folder} must have room for {4 * count * dim / 1e9:.1f} GB of vectors, it has "
                f"{shutil.disk_usage(folder).free / 1e9:.1f} GB: free some"
            ) from error
        return np.asarray(np.memmap(file, np.float32, "r+", shape=(count, dim)))
