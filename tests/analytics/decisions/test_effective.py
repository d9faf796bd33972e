"""Maps as decided, as hosts filter by them: against sets of images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest

from analytics.decisions import regroup
from analytics.decisions.decided import subject_of
from analytics.decisions.effective import Views
from analytics.hosting.filters import Filters
from analytics.maps.columns import CATEGORIES_MAX, OTHER
from analytics.maps.regions import Selection
from analytics.scanning.blocks import Block
from analytics.scanning.codes import encode
from analytics.tiles import MapTable
from cql.errors import InputError
from cql.store import Store
from tests.analytics.test_tiles import opened, stored


class Scene:
    """A map of 90 points in two clusters and noise, as two processes see it."""

    def __init__(self, folder: Path, rows: int = 90) -> None:
        self.memory, self.map_id = stored(rows)
        self.table = opened(folder, self.memory, self.map_id)
        self.views = Views(cast("Store", self.memory))
        self.filters = Filters(lambda _: self.table, self.decided)
        self.points = self.memory.map_points[self.map_id]

    def decided(self, map_id: UUID, table: Callable[[], MapTable]) -> tuple[str, MapTable]:
        view = self.views.view(map_id, table, lambda: self.memory.clusters(map_id))
        return view.token, view.table or table()

    def decide(self, kind: str, key: object, value: str) -> None:
        subject = subject_of(kind, key)
        version = len(self.memory.decisions(subject))
        self.memory.append_decision(subject, kind, value, author="ann", expected_version=version)

    def block(self) -> Block:
        """The map's images in another order, and one that is not on it."""
        images = [*reversed([point.image_id for point in self.points]), UUID(int=7)]
        raw = b"".join(image.bytes for image in images)
        vectors = np.tile(np.array([[1.0, 0, 0, 0]], np.float32), (len(images), 1))
        return Block(
            number=0, base=0, vectors=vectors, codes=encode(vectors),
            offsets=np.arange(len(images) + 1), listings=pa.array([str(i) for i in images]),
            images=np.frombuffer(raw, np.uint8).reshape(-1, 16),
        )  # fmt: skip

    def passed(self, **filters: list[str]) -> set[UUID]:
        block = self.block()
        selection = Selection.from_json({"filters": filters})
        mask = self.filters.mask(block, self.map_id, selection)
        return {UUID(bytes=i.tobytes()) for i, kept in zip(block.images, mask, strict=True) if kept}

    def members(self, *numbers: int) -> set[UUID]:
        return {point.image_id for point in self.points if point.cluster in numbers}

    def key(self, number: int) -> UUID:
        return self.memory.clusters(self.map_id)[number].cluster_key


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_hosts_filter_by_merged_clusters_and_forget_it_after_an_undo(scene: Scene) -> None:
    assert scene.passed(cluster=["0"]) == scene.members(0)
    scene.decide("merge", scene.key(1), str(scene.key(0)))
    assert scene.passed(cluster=["0"]) == scene.members(0, 1)
    assert scene.passed(cluster=["1"]) == set()
    assert scene.passed(cluster=["-1"]) == scene.members(-1)
    scene.decide("merge", scene.key(1), "")
    assert scene.passed(cluster=["1"]) == scene.members(1)


def test_hosts_filter_by_labels(scene: Scene) -> None:
    with pytest.raises(InputError, match="no column is called 'label'"):
        scene.passed(label=["pipe"])
    chosen = sorted(scene.members(0))[:4]
    for image in chosen:
        scene.decide("label", image, "pipe")
    scene.decide("label", UUID(int=9), "pipe")  # of an image that is not on the map
    assert scene.passed(label=["pipe"]) == set(chosen)
    assert scene.passed(label=["pipe"], cluster=["1"]) == set()
    scene.decide("label", chosen[0], "joint")
    assert scene.passed(label=["pipe"]) == set(chosen[1:])
    assert scene.passed(label=["pipe", "joint"]) == set(chosen)


def test_rare_labels_share_a_category(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    for number, point in enumerate(scene.points):
        scene.decide("label", point.image_id, f"label {max(0, number - 30):02d}")
    _, table = scene.decided(scene.map_id, lambda: scene.table)
    column = next(c for c in table.columns() if c.name == "label")
    assert len(column.keys) == CATEGORIES_MAX
    assert column.keys[-1] == OTHER
    facet = next(f for f in table.facets(Selection()) if f.name == "label")
    assert sum(facet.counts) == 90
    assert facet.counts[0] == 31
    assert facet.missing == 0


def test_a_label_does_not_replay_merges(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.decide("merge", scene.key(1), str(scene.key(0)))
    replays = []
    real = regroup.regroup

    def counted(*args: Any, **named: Any) -> Any:
        replays.append(1)
        return real(*args, **named)

    monkeypatch.setattr(regroup, "regroup", counted)
    for number, image in enumerate(sorted(scene.members(0))[:5]):
        scene.decide("label", image, f"{number}")
        scene.passed(cluster=["0"])
    assert replays == [1]


def test_a_map_without_decisions_is_not_even_opened(scene: Scene) -> None:
    def fail() -> MapTable:
        raise AssertionError

    view = scene.views.view(scene.map_id, fail, lambda: scene.memory.clusters(scene.map_id))
    assert view.table is None
    assert {each.units[0] for each in view.clusters} == {scene.key(0), scene.key(1)}
