"""The images a label spreads to, against a loop over all images."""

from __future__ import annotations

from uuid import UUID, uuid5

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics.learning.propagation import nearest
from analytics.search import Neighbours
from cql.records import NAMESPACE


class Rows:
    """Images whose k nearest are found by sorting all of them; counts what it was asked."""

    def __init__(self, count: int, *, dim: int = 8, same: bool = False, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self.ids = sorted((uuid5(NAMESPACE, str(n)) for n in range(count)), key=lambda i: i.bytes)
        vectors = rng.normal(size=(count, dim))
        if same:
            vectors[:] = vectors[:1]
        self.vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("<f4")
        self.asked: list[int] = []

    def search(self, queries: NDArray[np.float32], k: int) -> Neighbours:
        self.asked.append(k)
        scores = (queries.astype(np.float64) @ self.vectors.T.astype(np.float64)).astype("<f4")
        rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        images = np.array([[list(self.ids[r].bytes) for r in each] for each in rows], np.uint8)
        return Neighbours(
            scores=np.take_along_axis(scores, rows, 1), rows=rows,
            images=images.reshape(len(queries), rows.shape[1], 16),
        )  # fmt: skip

    def loop(self, seeds: list[int], k: int, leave_out: set[UUID]) -> list[tuple[UUID, float]]:
        found = []
        for row, image in enumerate(self.ids):
            if image not in leave_out:
                own = self.vectors[row].astype(float)
                best = max(float(np.float32(self.vectors[s].astype(float) @ own)) for s in seeds)
                found.append((image, best))
        return sorted(found, key=lambda item: (-item[1], item[0].bytes))[:k]


def check(rows: Rows, seeds: list[int], k: int, leave_out: set[UUID]) -> None:
    found = nearest(rows.search, rows.vectors[seeds], k=k, rows=len(rows.ids), leave_out=leave_out)
    wanted = rows.loop(seeds, k, leave_out)
    assert [near.image_id for near in found] == [image for image, _ in wanted]
    for near, (image, score) in zip(found, wanted, strict=True):
        assert near.score == pytest.approx(score, abs=1e-6)
        row = rows.ids.index(image)
        own = float(rows.vectors[seeds[near.seed]] @ rows.vectors[row])
        assert own == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("k", [1, 7, 50, 400])
@pytest.mark.parametrize("labelled", [3, 60, 290])
def test_the_nearest_are_those_of_a_loop(k: int, labelled: int) -> None:
    rows = Rows(300)
    check(rows, [0, 5, 9], k, set(rows.ids[:labelled]) | {rows.ids[5], rows.ids[9]})


def test_many_labelled_images_around_a_seed_hide_nothing() -> None:
    """All that is near is labelled: lists are asked for until k images count."""
    rows = Rows(500)
    near = [image for image, _ in rows.loop([0], 450, set())]
    check(rows, [0], 5, set(near))
    assert max(rows.asked) >= 455


def test_more_seeds_than_one_question_takes() -> None:
    rows = Rows(400)
    check(rows, list(range(300)), 20, set(rows.ids[:300]))


def test_one_image_and_all_identical_and_nothing_left() -> None:
    alone = Rows(1)
    assert nearest(alone.search, alone.vectors, k=5, rows=1, leave_out={alone.ids[0]}) == []
    same = Rows(40, same=True)
    check(same, [0], 5, {same.ids[0]})
    full = Rows(10)
    check(full, [0], 50, {full.ids[0]})
    assert nearest(full.search, full.vectors[:0], k=5, rows=10, leave_out=set()) == []
