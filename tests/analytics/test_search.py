"""Search against naive loops, over real Flight hosts in this process."""

import errno
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast
from uuid import UUID, uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics import shards
from analytics.graph.linking import link
from analytics.hosting import host as hosting
from analytics.hosting.host import warm
from analytics.neighbours import collect
from analytics.scanning import survey, sweep, tops
from analytics.scanning.codes import Codes
from analytics.search import K_MAX, Request, Searcher, _merge
from cql.errors import InputError, IntegrityError, NotFoundError, UnavailableError
from cql.records import Hit
from cql.store import Store
from cql.wire import Message
from tests.analytics.conftest import World
from tests.naive import dot, unit
from tests.waiting import until

Make = Callable[..., World]


def searcher(world: World, **changes: Any) -> Searcher:
    """A searcher with the settings of a world, or some of its own."""
    return Searcher(world.settings.replace(**changes), cast("Store", world.store))


def ragged(seed: int = 3, dim: int = 16) -> tuple[NDArray[np.float32], list[str]]:
    rng = np.random.default_rng(seed)
    owners = [f"l{n:03d}" for n in range(25) for _ in range(int(rng.integers(1, 6)))]
    vectors = unit(rng, len(owners), dim)
    vectors[10:14] = vectors[2]  # the same picture in several listings
    return vectors, owners


def naive(
    world: World, queries: NDArray[np.float32], k: int, excluded: set[str]
) -> list[tuple[str, UUID, float]]:
    best: dict[str, tuple[float, UUID]] = {}
    for vector, owner, image in zip(world.vectors, world.owners, world.images, strict=True):
        if owner in excluded:
            continue
        score = max(dot(query, vector) for query in queries)
        if owner not in best or (-score, image) < (-best[owner][0], best[owner][1]):
            best[owner] = (score, image)
    hits = [(owner, image, score) for owner, (score, image) in best.items()]
    return sorted(hits, key=lambda hit: (-hit[2], hit[0]))[:k]


@pytest.mark.parametrize("lacking", ["scores", "listings", "images"])
def test_a_reply_that_lacks_something_of_a_hit_is_refused(lacking: str) -> None:
    """Else hits of the next host would be put together from those of two."""
    some = {"scores": 2, "listings": 2, "images": 2} | {lacking: 1}
    short, whole = (
        Message(
            {"listings": ["a", "b"][: count["listings"]]},
            {
                "scores": np.ones(count["scores"], np.float32),
                "images": np.zeros((count["images"], 16), np.uint8),
            },
        )
        for count in (some, dict.fromkeys(some, 2))
    )
    assert len(_merge([whole, whole], 9)) == 4
    with pytest.raises(ValueError, match="zip"):
        _merge([short, whole], 9)


def seen(result: Any) -> list[tuple[str, UUID, float]]:
    return [(hit.listing_id, hit.image_id, hit.score) for hit in result.hits]


@pytest.mark.parametrize("cuts", [1, 2, 5])
@pytest.mark.parametrize("hosts", [1, 3])
def test_all_forms_equal_a_naive_loop(world: Make, cuts: int, hosts: int) -> None:
    one = world()
    vectors, owners = ragged()
    one.fill(vectors, owners, cuts=cuts)
    one.host(hosts)
    listing = owners[12]
    own = vectors[[n for n, name in enumerate(owners) if name == listing]]
    upload = unit(np.random.default_rng(8), 2, 16)
    with searcher(one) as find:
        for k in (1, 7, 1000):
            by_image = find.search(Request(image_ids=(one.images[5],), k=k))
            assert seen(by_image) == naive(one, vectors[5:6], k, {owners[5]})
            assert by_image.exact
            assert by_image.rows == by_image.rows_scanned == len(owners)
            kept = find.search(Request(image_ids=(one.images[5],), k=k, exclude=False))
            assert seen(kept) == naive(one, vectors[5:6], k, set())
            by_listing = find.search(Request(listing_id=listing, k=k))
            assert seen(by_listing) == naive(one, own, k, {listing})
            by_upload = find.search(Request(vectors=upload, k=k, source="upload:x"))
            assert seen(by_upload) == naive(one, upload, k, set())


def test_a_result_is_published_and_read_back(world: Make) -> None:
    one = world()
    vectors, owners = ragged()
    one.fill(vectors, owners, cuts=2)
    one.host()
    with searcher(one) as find:
        first = find.search(Request(image_ids=(one.images[0],), k=5, name="Like the first"))
        again = find.search(Request(image_ids=(one.images[0],), k=5, name="Like the first"))
    assert first.query.state == "done"
    assert first.query.hits == 5
    assert first.query.query_id == again.query.query_id
    assert first.query.attempt != again.query.attempt
    assert seen(first) == seen(again)
    assert json.loads(first.query.spec)["image_ids"] == [str(one.images[0])]


def test_hits_are_told_of_before_they_are_published(world: Make) -> None:
    one = world()
    vectors, owners = ragged()
    one.fill(vectors, owners, cuts=2)
    one.host()
    told: list[tuple[list[Hit], int]] = []
    with searcher(one) as find:
        found = find.search(
            Request(vectors=vectors[:1], k=5),
            meanwhile=lambda hits: told.append((list(hits), len(one.store.published))),
        )
    assert len(found.hits) == 5
    assert told == [(list(found.hits), 0)]


def test_more_hits_than_one_page_are_read_back(world: Make) -> None:
    one = world()
    vectors = unit(np.random.default_rng(0), 1200, 8)
    one.fill(vectors, [f"l{n:05d}" for n in range(1200)], cuts=2)
    one.host()
    with searcher(one) as find:
        assert len(find.search(Request(vectors=vectors[:1], k=1150)).hits) == 1150


@pytest.mark.parametrize(
    ("vectors", "rule"),
    [
        (np.zeros((1, 8), np.float32), "unit L2 norm"),
        (np.full((1, 8), np.nan, np.float32), "unit L2 norm"),
        (np.full((1, 8), 1.0, np.float32), "unit L2 norm"),
        (np.eye(1, 8, dtype=np.float64), "float32"),
        (np.eye(1, 9, dtype=np.float32), "snapshot expects D=8"),
        (np.ones(8, np.float32), "shape"),
        (np.empty((0, 8), np.float32), "at least one"),
    ],
)
def test_bad_vectors_are_refused(world: Make, vectors: NDArray[Any], rule: str) -> None:
    one = world()
    one.fill(unit(np.random.default_rng(0), 3, 8), ["a", "b", "b"])
    one.host()
    with searcher(one) as find, pytest.raises(InputError, match=rule):
        find.search(Request(vectors=vectors))


def test_requests_that_break_a_rule_are_refused(world: Make) -> None:
    one = world()
    one.fill(unit(np.random.default_rng(0), 3, 8), ["a", "b", "b"])
    one.host()
    with searcher(one) as find:
        for request in (
            Request(),
            Request(listing_id="a", aggregate="median"),
            Request(listing_id="a", best=0),
            Request(listing_id="a", vectors=np.zeros((300, 8), np.float32)),
            Request(image_ids=(one.images[0],), negatives=(one.images[0],)),
            Request(listing_id="a", k=0),
            Request(listing_id="a", k=K_MAX + 1),
        ):
            with pytest.raises(InputError):
                find.search(request)
        with pytest.raises(NotFoundError):
            find.search(Request(listing_id="nowhere"))
        with pytest.raises(NotFoundError):
            find.search(Request(image_ids=(uuid4(),)))
        one.store.features["a"] = []
        with pytest.raises(NotFoundError, match="run extract"):
            find.search(Request(listing_id="a"))


def test_an_empty_collection_has_no_hits(world: Make) -> None:
    one = world()
    one.vectors = np.empty((0, 8), np.float32)
    one.cut(1)
    with searcher(one) as find:
        assert find.ready()
        result = find.search(Request(vectors=unit(np.random.default_rng(0), 1, 8)))
    assert result.hits == ()
    assert (result.exact, result.rows, result.rows_scanned) == (True, 0, 0)


def test_without_a_snapshot_the_error_says_what_to_do(world: Make) -> None:
    one = world()
    with searcher(one) as find, pytest.raises(UnavailableError, match="sightline analyse"):
        find.search(Request(vectors=unit(np.random.default_rng(0), 1, 8)))


def test_a_part_of_the_data_is_never_answered_from(world: Make) -> None:
    one = world(query_deadline_s=0.5)
    vectors, owners = ragged()
    one.fill(vectors, owners, cuts=2)
    one.host(2)
    host, stop, thread = one.hosts.pop()
    stop.set()
    thread.join()
    host.close()
    with searcher(one) as find:
        assert not find.ready()
        with pytest.raises(UnavailableError, match="2 shards"):
            find.search(Request(vectors=vectors[:1]))


def test_a_query_waits_for_a_host_that_comes_back(world: Make) -> None:
    one = world(query_deadline_s=20.0)
    vectors, owners = ragged()
    one.fill(vectors, owners, cuts=2)
    one.host()
    host, stop, thread = one.hosts.pop()
    row = one.store.services("host")[0]
    stop.set()
    thread.join()
    host.close()
    # A host that was killed leaves its row behind until the TTL ends.
    one.store.heartbeat(row, 10)
    timer = threading.Timer(0.5, one.host)
    timer.start()
    with searcher(one) as find:
        result = find.search(Request(vectors=vectors[:1], k=5))
    timer.join()
    assert seen(result) == naive(one, vectors[:1], 5, set())


def test_a_new_snapshot_takes_over_while_queries_run(world: Make) -> None:
    one = world(query_deadline_s=10.0)
    vectors, owners = ragged()
    one.fill(vectors, owners, cuts=2)
    one.host(2)
    wanted = naive(one, vectors[:1], 5, set())
    done, wrong = threading.Event(), []

    def ask() -> None:
        with searcher(one) as find:
            while not done.is_set():
                if seen(find.search(Request(vectors=vectors[:1], k=5))) != wanted:
                    wrong.append(True)

    thread = threading.Thread(target=ask)
    thread.start()
    for cuts in (5, 1, 3):
        time.sleep(0.2)
        one.cut(cuts)
    time.sleep(0.3)
    done.set()
    thread.join()
    assert not wrong


def test_a_query_is_of_the_snapshot_that_is_live_when_it_is_asked(world: Make) -> None:
    """Hosts are asked on trust, of what was live before: what does not hold is not published."""
    one = world()
    vectors, owners = ragged()
    first = one.fill(vectors, owners, cuts=2)
    one.host()
    with searcher(one) as find:
        for k in (3, 4):
            assert find.search(Request(vectors=vectors[:1], k=k)).query.snapshot_id == (
                first.snapshot_id
            )
        for cuts in (1, 3):
            second = one.cut(cuts)
            one.store.published.clear()
            found = find.search(Request(vectors=vectors[:1], k=5))
            assert found.query.snapshot_id == second.snapshot_id
            assert seen(found) == naive(one, vectors[:1], 5, set())
            assert list(one.store.published) == [(found.query.query_id, found.query.attempt)]
        del one.store.pointers["snapshot"]
        with pytest.raises(UnavailableError, match="must be live"):
            find.search(Request(vectors=vectors[:1], k=5))


def test_more_queries_at_once_than_threads(world: Make) -> None:
    """Each waits for what is live; whoever reads that waits for none of them."""
    one = world(query_deadline_s=30.0)  # a hundred of them take turns on what may be two cores
    vectors, owners = ragged()
    one.fill(vectors, owners)
    one.host()
    read, live = [0], one.store.live

    def slowly(name: str) -> UUID | None:
        read[0] += 1
        time.sleep(0.05)
        return live(name)

    with searcher(one) as find, ThreadPoolExecutor(100) as pool:
        first = find.search(Request(vectors=vectors[:1], k=3))
        one.store.live = slowly  # type: ignore[method-assign]
        start = threading.Barrier(100)

        def ask(number: int) -> Any:
            start.wait()
            return find.search(Request(vectors=vectors[:1], k=3, name=str(number)))

        found = list(pool.map(ask, range(100), timeout=60))
    assert all(seen(each) == seen(first) for each in found)
    assert read[0] < 100, "queries that come together must share readings"


def test_the_default_model_may_change_between_queries(world: Make) -> None:
    one = world()
    vectors, owners = ragged()
    one.fill(vectors, owners)
    one.host()
    image = one.images[5]
    with searcher(one) as find:
        find.search(Request(image_ids=(image,), k=3))
        wide = unit(np.random.default_rng(1), len(owners), 24)
        other = one.fill(wide, owners, model="other@1")
        one.store.pointers["snapshot"] = other.snapshot_id
        found = find.search(Request(image_ids=(image,), k=3))
        assert found.query.model_id == "other@1"
        assert seen(found) == naive(one, wide[5:6], 3, {owners[5]})
        # Vectors of the model before meet the rule, and not a wait for it.
        with pytest.raises(InputError, match="D=24"):
            find.search(Request(vectors=vectors[:1], k=3))


def test_hosts_may_change_between_queries(world: Make) -> None:
    one = world()
    vectors, owners = ragged()
    one.fill(vectors, owners, cuts=3)
    one.host(2)
    with searcher(one) as find:
        for _ in range(3):
            assert seen(find.search(Request(vectors=vectors[:1], k=9))) == naive(
                one, vectors[:1], 9, set()
            )
            one.close()
            one.host(2)


PARTS = [*Codes._fields, "vectors", "offsets", "images", "listings"]


@pytest.mark.parametrize("damage", ["a flipped bit", "cut short", "empty", "gone"])
@pytest.mark.parametrize("part", PARTS)
def test_a_damaged_shard_is_reported_and_never_served(
    world: Make, monkeypatch: pytest.MonkeyPatch, part: str, damage: str
) -> None:
    monkeypatch.setattr(hosting, "_RETRY_S", 0.2)  # a host looks so long after it found damage
    one = world()
    vectors, owners = ragged()
    snapshot = one.fill(vectors, owners, cuts=2)
    name = next(n for n in one.store.shards(snapshot.snapshot_id)[1].files if f".{part}." in n)
    path = one.settings.data_dir / "shards" / str(snapshot.snapshot_id) / name
    whole = path.read_bytes()
    broken = {
        "a flipped bit": whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:],
        "cut short": whole[: len(whole) // 2],
        "empty": b"",
    }
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(broken[damage])
    one.host()
    assert [s.snapshot_id for s in one.store.services("host-damaged")] == [snapshot.snapshot_id]
    # The wait for what never comes is short, that for the right answer is not.
    with searcher(one, query_deadline_s=0.5) as find, pytest.raises(UnavailableError):
        find.search(Request(vectors=vectors[:1]))
    path.write_bytes(whole)
    with searcher(one) as find:
        until(find.ready)
        assert seen(find.search(Request(vectors=vectors[:1], k=5))) == naive(
            one, vectors[:1], 5, set()
        )
    assert one.store.services("host-damaged") == []


@pytest.mark.parametrize("part", PARTS)
def test_a_bit_that_flips_while_it_is_served_is_found(world: Make, part: str) -> None:
    one = world()
    vectors, owners = ragged()
    snapshot = one.fill(vectors, owners, cuts=2)
    one.host()
    ((host, _, _),) = one.hosts
    with searcher(one) as find:
        until(find.ready)
        host.check()
        assert find.ready()
        name = next(n for n in one.store.shards(snapshot.snapshot_id)[1].files if f".{part}." in n)
        path = one.settings.data_dir / "shards" / str(snapshot.snapshot_id) / name
        whole = path.read_bytes()
        with path.open("r+b") as file:
            file.seek(len(whole) - 5)
            file.write(bytes([whole[-5] ^ 1]))
        host.check()
        until(lambda: bool(one.store.services("host-damaged")))
        assert not find.ready()
        with path.open("r+b") as file:
            file.write(whole)
        until(find.ready)
        assert seen(find.search(Request(vectors=vectors[:1], k=5))) == naive(
            one, vectors[:1], 5, set()
        )


def test_files_that_are_deleted_while_they_are_checked_are_no_damage(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot that nobody wants any more still answers whoever found it a moment ago."""
    one = world()
    vectors, owners = ragged()
    snapshot = one.fill(vectors, owners)
    one.host()
    ((host, _, _),) = one.hosts
    with searcher(one) as find:
        until(find.ready)

        def deleted(*_: object) -> None:
            one.fill(vectors, owners, cuts=2)
            raise IntegrityError("it must exist")

        monkeypatch.setattr(shards, "check_files", deleted)
        host.check()
    assert snapshot.snapshot_id in host._held
    assert one.store.pointers["snapshot"] != snapshot.snapshot_id


@pytest.mark.parametrize(("number", "trusted"), [(errno.EMFILE, True), (errno.EIO, False)])
def test_a_file_that_cannot_be_read_is_damage_unless_the_process_lacks_something(
    world: Make, monkeypatch: pytest.MonkeyPatch, number: int, trusted: bool
) -> None:
    one = world()
    vectors, owners = ragged()
    snapshot = one.fill(vectors, owners)
    one.host()
    ((host, _, _),) = one.hosts
    with searcher(one) as find:
        until(find.ready)

        def refused(*_: object) -> None:
            raise OSError(number, "no")

        monkeypatch.setattr(shards, "check_files", refused)
        host.check()
        assert (snapshot.snapshot_id in host._held) is trusted


def test_no_query_waits_for_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    called = set()

    def counted(name: str, whole: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            called.add(name)
            return whole(*given)

        return call

    passes = {
        "scan": sweep, "first_pass": survey, "second_pass": survey, "only_pass": survey,
        "fill": tops, "peaks": tops,
    }  # fmt: skip
    for name, module in passes.items():
        monkeypatch.setattr(module, name, counted(name, getattr(module, name)))
    warm(24)
    assert called == set(passes)


def test_vectors_that_are_cut_short_while_they_are_served_end_no_query_wrongly(world: Make) -> None:
    one = world()
    vectors, owners = ragged()
    snapshot = one.fill(vectors, owners)
    one.host()
    with searcher(one) as find, searcher(one, query_deadline_s=0.5) as impatient:
        wanted = naive(one, vectors[:1], 5, set())
        assert seen(find.search(Request(vectors=vectors[:1], k=5))) == wanted
        (shard,) = one.store.shards(snapshot.snapshot_id)
        name = next(name for name in shard.files if ".vectors." in name)
        path = one.settings.data_dir / "shards" / str(snapshot.snapshot_id) / name
        whole = path.read_bytes()
        with path.open("r+b") as file:
            file.truncate(200)
        with pytest.raises(UnavailableError):
            impatient.search(Request(vectors=vectors[:1], k=len(owners)))
        until(lambda: bool(one.store.services("host-damaged")))
        with path.open("r+b") as file:
            file.write(whole)
        until(find.ready)
        assert seen(find.search(Request(vectors=vectors[:1], k=5))) == wanted


@pytest.mark.parametrize("cuts", [1, 2, 5])
def test_the_graph_equals_brute_force(world: Make, cuts: int) -> None:
    one = world()
    vectors, owners = ragged()
    snapshot = one.fill(vectors, owners, cuts=cuts)
    one.host(2)
    with searcher(one) as find:
        rows = collect(find, snapshot)
        found = link(rows, 6)
    order = sorted(range(len(owners)), key=lambda n: (owners[n], one.images[n]))
    assert [rows.image_id(n) for n in range(len(owners))] == [one.images[n] for n in order]
    assert np.array_equal(rows.vectors, vectors[order])
    for row in range(len(order)):
        scored = [
            (-dot(rows.vectors[row], rows.vectors[other]), rows.image_id(other), other)
            for other in range(len(order))
            if other != row
        ]
        wanted = sorted(scored)[:6]
        assert found.rows[row].tolist() == [other for _, _, other in wanted]
        assert found.scores[row].tolist() == [-score for score, _, _ in wanted]


def test_the_graph_of_equal_rows_leaves_out_the_row_itself(world: Make) -> None:
    one = world()
    vectors = np.repeat(unit(np.random.default_rng(1), 1, 8), 9, axis=0)
    snapshot = one.fill(vectors, [f"l{n}" for n in range(9)], cuts=2)
    one.host()
    with searcher(one) as find:
        found = link(collect(find, snapshot), 3)
    assert found.rows.shape == (9, 3)
    for row in range(9):
        assert row not in found.rows[row]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_graph_of_hardly_any_rows(world: Make, count: int) -> None:
    one = world()
    vectors = unit(np.random.default_rng(1), count, 8)
    if count:
        snapshot = one.fill(vectors, [f"l{n}" for n in range(count)])
        one.host()
    else:
        one.vectors = vectors
        snapshot = one.cut(1)
    with searcher(one) as find:
        found = link(collect(find, snapshot), 5)
    assert found.rows.shape == (count, max(0, count - 1))
