"""The benchmark of clusters runs, and what it says is of what was planted."""

from __future__ import annotations

from types import SimpleNamespace

import hdbscan
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.bench import clusters
from tests.bench.vectors import Dataset


def test_ours_stands_beside_hdbscan_on_a_small_space() -> None:
    # The others compile for a minute where they are installed.
    rows = clusters.against_peers(3000, ["hdbscan"])
    assert rows[0].peer.startswith("hdbscan ")
    assert rows[0].ours
    assert rows[0].theirs
    mine, theirs = (float(rows[0].quality[name]) for name in ("ARI", "their ARI"))  # type: ignore[arg-type]
    assert mine >= theirs - 0.02


def test_all_steps_from_vectors_find_what_was_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Umap:
        """Takes the first numbers of each vector: compiling umap-learn takes a minute."""

        def __init__(self, *, n_components: int, min_dist: float, n_neighbors: int) -> None:
            self.kept = n_components

        def fit_transform(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
            return vectors[:, : self.kept]

    known = {"umap": SimpleNamespace(UMAP=Umap), "hdbscan": hdbscan}
    monkeypatch.setattr(clusters, "_module", known.get)
    (row,) = clusters.from_vectors(Dataset(3000, 48, "clustered"), ["umap-learn + hdbscan"])
    assert row.peer.startswith("umap-learn ")
    assert " + hdbscan " in row.peer
    assert row.ours
    assert row.theirs
    mine, theirs = (float(row.quality[name]) for name in ("ARI", "their ARI"))  # type: ignore[arg-type]
    assert mine > 0.6
    # Ten numbers of 48 tell little.
    assert 0 < theirs < mine


def test_a_peer_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_module", lambda name: None)
    monkeypatch.setattr(clusters, "_whole", lambda *given: np.zeros(600, np.int64))
    rows = clusters.against_peers(1000)
    notes = [str(row.quality["note"]).split(":")[0] for row in rows]
    assert notes == [f"{name} is not installed" for name in ("hdbscan", "fast_hdbscan", "evoc")]
    rows = clusters.from_vectors(Dataset(600, 16, "clustered"))
    assert [row.ours for row in rows] == [None] * 3
    assert str(rows[1].quality["note"]).startswith("umap-learn + fast_hdbscan is not installed")


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
