"""The benchmark of clusters runs, and what it says is of what was planted."""

from __future__ import annotations

import numpy as np

from tests.bench import clusters


def test_ours_stands_beside_hdbscan_on_a_small_space() -> None:
    rows = clusters.against_peers(3000)
    assert rows[0].peer == "hdbscan"
    assert rows[0].ours
    assert rows[0].theirs
    mine, theirs = (float(rows[0].quality[name]) for name in ("ARI", "their ARI"))  # type: ignore[arg-type]
    assert mine >= theirs - 0.02


def test_every_stage_is_measured() -> None:
    rows = clusters.at_size(3000)
    assert [row.work for row in rows] == [
        "grow the tree", "cut a size", "open for previews", "preview", "stability", "shares",
        "groups",
    ]  # fmt: skip
    assert all(row.ok for row in rows if row.target is not None)


def test_the_planted_space_has_its_noise() -> None:
    space, labels = clusters.planted(5000)
    assert space.shape == (5000, clusters.DIMS)
    assert 0.03 < float((labels < 0).mean()) < 0.07
    assert np.array_equal(space, clusters.planted(5000)[0])
