"""What changes after a snapshot: images, listings and stock, as hosts follow the log."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics.hosting import follow, holding
from analytics.hosting import host as hosting
from analytics.request import Request
from analytics.scanning import scan
from analytics.scanning.scan import Listings
from analytics.search import Searcher
from cql import codec
from cql.errors import UnavailableError
from cql.records import NAMESPACE, Feature, Listing
from tests.analytics.conftest import MODEL, World
from tests.analytics.test_search import searcher, seen
from tests.naive import dot, unit
from tests.waiting import until

Make = Callable[..., World]
DIM = 16
PATIENCE_S = 60.0


def collection(world: World, *, cuts: int, hosts: int) -> None:
    rng = np.random.default_rng(3)
    owners = [f"l{n:03d}" for n in range(25) for _ in range(int(rng.integers(1, 6)))]
    world.fill(unit(rng, len(owners), DIM), owners, cuts=cuts)
    world.host(hosts)


def put(world: World, listing_id: str, vectors: NDArray[np.float32]) -> list[UUID]:
    """Write images with features, as extraction does: the log comes last."""
    ids = [uuid4() for _ in vectors]
    blobs, crcs = codec.encode(vectors)
    world.store.titles.setdefault(listing_id, Listing(listing_id=listing_id))
    for image_id, blob, crc in zip(ids, blobs, crcs, strict=True):
        world.store.features.setdefault(listing_id, []).append(
            Feature(
                listing_id=listing_id,
                model_id=MODEL,
                image_id=image_id,
                vector=blob,
                dim=vectors.shape[1],
                crc32c=crc,
            )
        )
    # Not before all are there: a host may look between two entries.
    for _ in ids:
        world.store.note("feature_added", listing_id)
    return ids


def naive(world: World, query: NDArray[np.float32], k: int) -> list[tuple[str, UUID, float]]:
    """The k best listings of what the store holds now."""
    hits = []
    for listing_id, features in world.store.features.items():
        scored = []
        for each in features:
            vector = codec.decode([each.vector], [each.crc32c], dim=each.dim)[0]
            scored.append((-dot(query, vector), each.image_id.bytes))
        if scored:
            score, image = min(scored)
            hits.append((listing_id, UUID(bytes=image), -score))
    return sorted(hits, key=lambda hit: (-hit[2], hit[0]))[:k]


def agrees(world: World, find: Searcher, query: NDArray[np.float32]) -> bool:
    found = find.search(Request(vectors=query[None], k=1000))
    rows = sum(len(each) for each in world.store.features.values())
    return seen(found) == naive(world, query, 1000) and found.rows == rows


@pytest.mark.parametrize("cuts", [1, 3])
@pytest.mark.parametrize("hosts", [1, 2])
def test_changes_are_found_without_a_new_snapshot(world: Make, cuts: int, hosts: int) -> None:
    """A new listing, a new image of an old one, a deleted image, a deleted listing."""
    one = world()
    collection(one, cuts=cuts, hosts=hosts)
    rng = np.random.default_rng(8)
    query = unit(rng, 1, DIM)[0]
    with searcher(one) as find:
        assert agrees(one, find, query)
        new = put(one, "brand new", query[None])
        until(lambda: agrees(one, find, query))
        first = find.search(Request(vectors=query[None], k=1)).hits[0]
        assert (first.listing_id, first.image_id) == ("brand new", new[0])
        put(one, "l004", unit(rng, 3, DIM))
        until(lambda: agrees(one, find, query))
        one.store.features["l004"] = one.store.features["l004"][1:]
        one.store.note("image_deleted", "l004")
        until(lambda: agrees(one, find, query))
        one.store.features["l007"] = []
        one.store.note("listing_changed", "l007")
        until(lambda: agrees(one, find, query))
        assert find.search(Request(vectors=query[None])).lag_s is not None


def test_a_host_that_starts_again_reads_the_log_from_its_snapshot_on(world: Make) -> None:
    one = world()
    collection(one, cuts=2, hosts=1)
    query = unit(np.random.default_rng(8), 1, DIM)[0]
    put(one, "brand new", query[None])
    one.close()
    one.host()
    with searcher(one) as find:
        # At once: no answer is of the snapshot alone.
        assert agrees(one, find, query)


def test_a_host_with_much_to_take_in_serves_and_says_how_far_behind_it_is(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = world()
    collection(one, cuts=1, hosts=0)
    query = unit(np.random.default_rng(8), 1, DIM)[0]
    put(one, "brand new", query[None])
    monkeypatch.setattr(hosting, "_CATCH_UP_S", -1.0)
    host = one.held()
    try:
        with searcher(one) as find:
            assert find.search(Request(vectors=query[None])).behind == 1
            host.poll()
            assert find.search(Request(vectors=query[None])).behind == 0
            assert agrees(one, find, query)
    finally:
        host.close()


def test_a_damaged_vector_stops_no_other_change(
    world: Make, caplog: pytest.LogCaptureFixture
) -> None:
    one = world()
    collection(one, cuts=1, hosts=1)
    query = unit(np.random.default_rng(8), 1, DIM)[0]

    def names() -> set[str]:
        found = find.search(Request(vectors=query[None], k=1000))
        assert found.behind == 0
        return {hit.listing_id for hit in found.hits}

    with searcher(one) as find:
        before = names()
        put(one, "l003", query[None])
        whole = one.store.features["l003"][-1]
        one.store.features["l003"][-1] = replace(whole, crc32c=whole.crc32c ^ 1)
        put(one, "brand new", query[None])
        until(lambda: "brand new" in names())
        # It is shown as it was.
        assert names() == before | {"brand new"}
        assert "listing l003 is shown as it was" in caplog.text
        one.store.features["l003"][-1] = whole
        until(lambda: agrees(one, find, query))
    assert caplog.text.count("listing l003 is shown as it was") == 1


def test_a_snapshot_that_is_wanted_again_is_served_again(world: Make) -> None:
    one = world()
    collection(one, cuts=1, hosts=0)
    host = one.held()
    try:
        version = one.store.pointers["snapshot"]
        one.store.pointers["snapshot"] = uuid4()
        host.refresh()
        assert one.store.services("host") == []
        one.store.pointers["snapshot"] = version
        host.refresh()
        (row,) = one.store.services("host")
        assert row.snapshot_id == version
    finally:
        host.close()


def test_an_entry_that_arrives_late_is_not_lost(world: Make) -> None:
    """A writer's clock may be behind: its entry appears below the last poll's time."""
    one = world()
    collection(one, cuts=1, hosts=1)
    query = unit(np.random.default_rng(8), 1, DIM)[0]
    with searcher(one) as find:
        until(lambda: find.search(Request(vectors=query[None])).followed_at is not None)
        put(one, "brand new", query[None])
        late = one.store.log.pop()
        one.store.log.append(replace(late, at=datetime.now(UTC) - timedelta(seconds=4)))
        until(lambda: agrees(one, find, query))


def test_an_answer_claims_nothing_that_came_while_it_was_found(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a scan reads is what was taken in when it began; the host goes on following."""
    one = world(query_deadline_s=PATIENCE_S)
    collection(one, cuts=1, hosts=1)
    query = unit(np.random.default_rng(8), 1, DIM)[0]
    whole, begun, gate = scan.best_listings, threading.Event(), threading.Event()

    def still(*given: Any, **named: Any) -> list[Listings]:
        begun.set()
        assert gate.wait(PATIENCE_S)
        return whole(*given, **named)

    with searcher(one) as find, ThreadPoolExecutor(1) as pool:
        until(lambda: find.search(Request(vectors=query[None])).followed_at is not None)
        monkeypatch.setattr(scan, "best_listings", still)
        asked = pool.submit(find.search, Request(vectors=query[None], k=1))
        assert begun.wait(PATIENCE_S)
        put(one, "brand new", query[None])
        there = datetime.now(UTC)
        (held,) = one.hosts[0][0]._held.values()
        until(lambda: held.followed_at is not None and held.followed_at > there)
        gate.set()
        result = asked.result()
        assert result.followed_at is not None
        assert result.followed_at < there
        assert result.hits[0].listing_id != "brand new"
        until(lambda: agrees(one, find, query))


def test_changes_beyond_the_room_of_a_host_are_counted(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "CHANGED_MIN", 0)
    one = world()
    one.fill(unit(np.random.default_rng(0), 2, DIM), ["a", "b"])
    one.host()
    rng = np.random.default_rng(1)
    with searcher(one) as find:
        put(one, "c", unit(rng, 2, DIM))
        until(lambda: find.search(Request(vectors=unit(rng, 1, DIM))).rows == 4)
        put(one, "d", unit(rng, 2, DIM))
        until(lambda: find.search(Request(vectors=unit(rng, 1, DIM))).behind == 1)
        assert find.search(Request(vectors=unit(rng, 1, DIM))).rows == 4


def test_only_what_is_in_stock_is_found_and_k_is_filled(world: Make) -> None:
    """Of 200 listings two are for sale, far down the ranking; then one more, then one fewer."""
    one = world()
    rng = np.random.default_rng(2)
    names = [f"l{n:03d}" for n in range(200)]
    one.fill(unit(rng, 200, DIM), names, cuts=3)
    query = unit(rng, 1, DIM)
    ranked = [hit[0] for hit in naive(one, query[0], 200)]
    one.store.levels = dict.fromkeys(names, 0) | {ranked[150]: 2, ranked[190]: 1}
    del one.store.levels[ranked[0]]  # unknown stock is none
    one.host(2)
    with searcher(one) as find:
        request = Request(vectors=query, k=2, in_stock=True)
        assert [hit.listing_id for hit in find.search(request).hits] == [ranked[150], ranked[190]]
        one.store.levels[ranked[20]] = 5
        one.store.note("stock", ranked[20])
        until(lambda: find.search(request).hits[0].listing_id == ranked[20])
        hit = find.search(request).hits[0]
        assert hit.inventory == 5
        assert hit.stock_read_at is not None
        assert datetime.now(UTC) - hit.stock_read_at < timedelta(seconds=5)
        # Sold a moment ago: hosts do not know it yet, the read of now does, and k is filled again.
        one.store.levels[ranked[150]] = 0
        found = find.search(request).hits
        assert [hit.listing_id for hit in found] == [ranked[20], ranked[190]]


def test_k_is_filled_when_most_hits_sold_out_a_moment_ago(world: Make) -> None:
    one = world()
    rng = np.random.default_rng(2)
    names = [f"l{n:03d}" for n in range(300)]
    one.fill(unit(rng, 300, DIM), names, cuts=2)
    one.store.levels = dict.fromkeys(names, 1)
    one.host()
    query = unit(rng, 1, DIM)
    ranked = [hit[0] for hit in naive(one, query[0], 300)]
    with searcher(one) as find:
        find.search(Request(vectors=query, k=1, in_stock=True))
        one.store.levels = dict.fromkeys(ranked[:250], 0) | dict.fromkeys(ranked[250:], 1)
        found = find.search(Request(vectors=query, k=20, in_stock=True))
        assert [hit.listing_id for hit in found.hits] == ranked[250:270]
        found = find.search(Request(vectors=query, k=200, in_stock=True))
        assert [hit.listing_id for hit in found.hits] == ranked[250:]


def test_stock_that_nobody_logged_is_found_by_and_by(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that died between its change and its entry in the log."""
    monkeypatch.setattr(follow, "RELOAD_S", 0.2)
    one = world()
    collection(one, cuts=2, hosts=1)
    query = unit(np.random.default_rng(8), 1, DIM)
    put(one, "brand new", query)
    with searcher(one) as find:
        request = Request(vectors=query, k=3, in_stock=True)
        until(lambda: agrees(one, find, query[0]))
        assert find.search(request).hits == ()
        one.store.levels = {"brand new": 1, "l003": 1}
        until(lambda: len(find.search(request).hits) == 2)


def test_a_new_listing_has_its_stock(world: Make) -> None:
    one = world()
    collection(one, cuts=2, hosts=1)
    query = unit(np.random.default_rng(8), 1, DIM)
    with searcher(one) as find:
        request = Request(vectors=query, k=3, in_stock=True)
        assert find.search(request).hits == ()
        one.store.levels["brand new"] = 1
        put(one, "brand new", query)
        until(lambda: len(find.search(request).hits) == 1)


def test_a_search_in_a_result_finds_no_other_listing(world: Make) -> None:
    one = world()
    collection(one, cuts=3, hosts=2)
    rng = np.random.default_rng(4)
    first, second = unit(rng, 2, DIM)
    with searcher(one) as find:
        outer = find.search(Request(vectors=first[None], k=6))
        inner = find.search(Request(vectors=second[None], k=4, within=outer.query.query_id))
        names = {hit.listing_id for hit in outer.hits}
        wanted = [hit for hit in naive(one, second, 1000) if hit[0] in names][:4]
        assert seen(inner) == wanted


def test_negatives_and_aggregates_equal_naive_loops(world: Make) -> None:
    one = world()
    collection(one, cuts=3, hosts=2)
    of = {
        own: [n for n, name in enumerate(one.owners) if name == own]
        for own in sorted(set(one.owners))
    }
    positive, other, negative = 3, 30, 40

    def row(at: int, example: int) -> np.float32:
        gain = np.float32(dot(one.vectors[example], one.vectors[at]))
        return gain - np.float32(dot(one.vectors[negative], one.vectors[at]))

    left = {own: rows for own, rows in of.items() if own not in {one.owners[3], one.owners[30]}}
    best = {own: {at: max(row(at, 3), row(at, 30)) for at in rows} for own, rows in left.items()}
    scores = {
        "max": {own: float(max(each.values())) for own, each in best.items()},
        "mean": {
            own: float(np.float32(np.mean(np.array(sorted(each.values())[-2:], np.float64))))
            for own, each in best.items()
        },
        "coverage": {
            own: float(min(max(row(at, example) for at in rows) for example in (3, 30)))
            for own, rows in left.items()
        },
    }
    with searcher(one) as find:
        for aggregate, wanted in scores.items():
            found = find.search(
                Request(
                    image_ids=(one.images[positive], one.images[other]),
                    negatives=(one.images[negative],),
                    aggregate=aggregate,
                    best=2,
                    k=7,
                )
            )
            ranked = sorted(wanted.items(), key=lambda item: (-item[1], item[0]))[:7]
            assert [(hit.listing_id, hit.score) for hit in found.hits] == ranked


def test_a_request_survives_its_spec() -> None:
    vectors = unit(np.random.default_rng(0), 2, 8)
    asked = Request(
        image_ids=(uuid4(), uuid4()),
        listing_id="a",
        vectors=vectors,
        negatives=(uuid4(),),
        aggregate="mean",
        best=4,
        within=uuid5(NAMESPACE, "q"),
        in_stock=True,
        k=7,
        exclude=False,
        source="upload:x",
    )
    again = Request.parse(asked.spec())
    assert again.spec() == asked.spec()
    assert again.vectors is not None
    np.testing.assert_array_equal(again.vectors, vectors)
    assert again.in_stock
    assert again.aggregate == "mean"


def test_stock_that_is_not_read_yet_is_waited_for(world: Make) -> None:
    one = world(query_deadline_s=0.6)
    one.fill(unit(np.random.default_rng(0), 3, DIM), ["a", "b", "c"])
    host = one.held()  # never polls
    try:
        with searcher(one) as find, pytest.raises(UnavailableError, match="stock must be known"):
            find.search(Request(listing_id="a", in_stock=True))
    finally:
        host.close()
