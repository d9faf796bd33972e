"""Near-duplicates through an analysis: planted copies choose the threshold, keys carry on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import numpy as np
import pytest

from analytics.analysis import Parameters, analyse
from cql.progress import CancelledError, Progress, silent
from cql.records import Measures
from cql.store import Store
from extraction.copies import HOW, altered
from tests import doubles
from tests.analytics.conftest import MODEL, World
from tests.naive import unit

QUICK = Parameters(neighbours=8, outlier_neighbours=8)


def test_an_analysis_finds_copies_and_carries_their_keys_on(world: Callable[..., World]) -> None:
    one, rng = world(), np.random.default_rng(2)
    scenes = [doubles.scene(seed) for seed in range(24)]
    scenes += [altered(scenes[0], "resized", rng), altered(scenes[1], "cropped", rng)]
    vectors = unit(rng, 24, 16)
    vectors = np.concatenate([vectors, vectors[:2]])
    one.fill(vectors, [f"l{n:02d}" for n in range(26)], cuts=2)
    figures = doubles.figures(scenes)
    one.store.put_measures(
        Measures(
            listing_id=one.owners[n], image_id=one.images[n], pixels=100 - n,
            **{name: getattr(figures[n], name) for name in figures[n].__slots__},
        )
        for n in range(26)
    )  # fmt: skip
    one.host()

    def plant(images: Sequence[UUID], seed: int, progress: Progress) -> Any:
        progress("curve", 0, len(images), "making copies")
        rows = [one.images.index(image) for image in images]
        copies = [altered(scenes[row], how, rng) for row in rows for how in HOW]
        return SimpleNamespace(
            origins=np.repeat(np.arange(len(rows)), len(HOW)),
            figures=doubles.figures(copies),
            vectors=np.repeat(vectors[rows], len(HOW), axis=0),
        )

    def run(seed: int, progress: Progress = silent) -> UUID:
        store = cast("Store", one.store)
        made = analyse(
            None, one.settings, store, model_id=MODEL, seed=seed, parameters=QUICK, plant=plant,
            progress=progress,
        )  # fmt: skip
        return made.map_id

    # A cancel is heard in the middle of a step; the live map stays, here none.
    for at in (
        ("outliers", "densities of neighbours"),
        ("outliers", "photos of one listing"),
        ("outliers", "combining"),
        ("curve", "making copies"),
        ("curve", "neighbours of the copies"),
        ("curve", "comparing copies"),
    ):
        heard: list[tuple[str, str]] = []

        def stop(step: str, done: int, total: int, message: str = "") -> None:
            del done, total
            heard.append((step, message))  # noqa: B023 - called before the next round
            if heard[-1] == at:  # noqa: B023
                raise CancelledError("stop")

        with pytest.raises(CancelledError):
            run(1, stop)
        assert heard[-1] == at
        assert one.store.live("map") is None
        assert one.store.runs == {}

    first = run(1)
    told = one.store.runs[first]
    assert (told.rows, told.measured, told.groups, told.images) == (26, 26, 2, 4)
    assert told.basis.startswith("104 copies of 26 of the images")
    assert {"threshold", "precision", "recall"} == set(json.loads(told.curve)[0])
    groups, members = one.store.doubles[first]
    assert {frozenset(group.images) for group in groups} == {
        frozenset((one.images[0], one.images[24])),
        frozenset((one.images[1], one.images[25])),
    }
    # The representative has the most pixels.
    assert {members[0].image_id, members[2].image_id} == {one.images[0], one.images[1]}
    assert members[1].tied == members[0].image_id
    second = run(2)
    again, _ = one.store.doubles[second]
    assert second != first
    assert [group.group_key for group in again] == [group.group_key for group in groups]
