"""Vectors of a map's images, read again from hosts and Cassandra."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics.identity import packed
from analytics.making import recollection
from analytics.making.recollection import recollect
from analytics.neighbours import Collection
from cql.progress import CancelledError, Progress, silent
from cql.store import Store
from tests.analytics.conftest import MODEL, World
from tests.naive import unit

Make = Callable[..., World]


def scene(make: Make, count: int = 20, *, cuts: int = 3, hosts: bool = True) -> World:
    one = make()
    one.fill(
        unit(np.random.default_rng(4), count, 6), [f"l{n // 2}" for n in range(count)], cuts=cuts
    )
    if hosts:
        one.host()
    return one


def bare(one: World, order: Sequence[int]) -> Collection:
    """Some rows of the collection without their vectors."""
    images = packed(one.images[n] for n in order)
    listings = [one.owners[n] for n in order]
    return Collection(
        np.empty((len(listings), 0), np.float32), images, listings, np.arange(len(listings))
    )


def read(one: World, rows: Collection, progress: Progress = silent) -> NDArray[np.float32]:
    found = recollect(one.settings, cast("Store", one.store), MODEL, rows, progress)
    assert np.array_equal(found.images, rows.images)
    assert found.listings == rows.listings
    assert found.vectors.dtype == np.float32
    return found.vectors


@pytest.mark.parametrize("hosts", [True, False])
def test_each_row_has_its_vector_again(
    world: Make, monkeypatch: pytest.MonkeyPatch, hosts: bool
) -> None:
    monkeypatch.setattr(recollection, "_BLOCK", 3)
    one = scene(world, hosts=hosts)
    if hosts:
        one.store.features.clear()  # the hosts have all of them
    order = np.random.default_rng(5).permutation(20)[:17].tolist()
    assert np.array_equal(read(one, bare(one, order)), one.vectors[order])
    assert list((one.settings.data_dir / "work").iterdir()) == []


def test_what_hosts_lack_is_read_from_cassandra(world: Make) -> None:
    one = scene(world)
    old, images, owners = one.vectors, list(one.images), list(one.owners)
    kept = dict(one.store.features)
    one.close()
    one.store.features.clear()
    # The next snapshot has other images and some of the same.
    one.fill(old[:8], owners[:8])
    one.store.features = kept
    one.host()
    one.images, one.owners = images, owners
    assert np.array_equal(read(one, bare(one, range(20))), old)


def test_rows_of_images_that_are_gone_or_damaged_are_nan(
    world: Make, caplog: pytest.LogCaptureFixture
) -> None:
    one = scene(world, hosts=False)
    del one.store.features["l2"]
    (first, second) = one.store.features["l4"]
    one.store.features["l4"] = [replace(first, crc32c=first.crc32c ^ 1), second]
    found = read(one, bare(one, range(20)))
    lost = [4, 5, one.images.index(first.image_id)]
    assert np.isnan(found[lost]).all()
    left = [n for n in range(20) if n not in lost]
    assert np.array_equal(found[left], one.vectors[left])
    assert str(first.image_id) in caplog.text


@pytest.mark.parametrize("count", [0, 3])
def test_without_any_vector_there_are_no_dimensions(world: Make, count: int) -> None:
    one = scene(world, hosts=False)
    rows = bare(one, range(count))
    one.store.features.clear()
    assert read(one, rows).shape == (count, 0)


@pytest.mark.parametrize("hosts", [True, False])
def test_a_cancel_is_heard_between_blocks(
    world: Make, monkeypatch: pytest.MonkeyPatch, hosts: bool
) -> None:
    monkeypatch.setattr(recollection, "_BLOCK", 4)
    one = scene(world, cuts=5, hosts=hosts)
    seen: list[int] = []

    def progress(step: str, done: int, total: int, message: str = "") -> None:
        assert (step, total, message) == ("collect", 20, "")
        seen.append(done)
        if len(seen) == 3:
            raise CancelledError("stop")

    with pytest.raises(CancelledError):
        read(one, bare(one, range(20)), progress)
    assert seen == [0, 4, 8]
