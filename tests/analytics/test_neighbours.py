"""The neighbour graph against brute force: exact, by cells, brought up to date, kept."""

import pickle
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import NAMESPACE_OID, uuid5

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics.graph import audit, cells, exhaustive, linking
from analytics.graph.extension import extend
from analytics.graph.linking import link
from analytics.making import kept
from analytics.neighbours import Collection, Graph
from analytics.parts import Arrays, Parts, cut
from cql.errors import InputError
from cql.progress import CancelledError
from tests.naive import dot, unit

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def collection(vectors: NDArray[np.float32], first: int = 0) -> Collection:
    """Rows with image ids in no order, which go with them."""
    count = len(vectors)
    ids = b"".join(uuid5(NAMESPACE_OID, str(first + row)).bytes for row in range(count))
    images = np.frombuffer(ids, np.uint8).reshape(-1, 16)
    return Collection(vectors, images, [f"l{row}" for row in range(count)], np.arange(count))


def some(rows: Collection, chosen: NDArray[np.int64]) -> Collection:
    return Collection(
        rows.vectors[chosen], rows.images[chosen], [f"l{row}" for row in chosen], chosen
    )


def blobs(count: int, *, dim: int = 24, groups: int = 20, seed: int = 3) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(groups, dim))
    vectors = middles[np.arange(count) % groups] + 0.3 * rng.normal(size=(count, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def naive(rows: Collection, k: int) -> tuple[list[list[int]], list[list[float]]]:
    """By loops over all pairs, scores as the glossary defines them."""
    found, scores = [], []
    for row in range(len(rows.vectors)):
        scored = sorted(
            (-dot(rows.vectors[row], rows.vectors[other]), rows.image_id(other), other)
            for other in range(len(rows.vectors))
            if other != row
        )[:k]
        found.append([other for _, _, other in scored])
        scores.append([-score for score, _, _ in scored])
    return found, scores


def equals(graph: Graph, rows: Collection, k: int) -> None:
    wanted, scores = naive(rows, k)
    assert graph.rows.tolist() == wanted
    assert graph.scores.tolist() == scores


def same(one: Graph, other: Graph) -> None:
    assert np.array_equal(one.rows, other.rows)
    assert np.array_equal(one.scores, other.scores)
    assert (one.exact, one.recall) == (other.exact, other.recall)


def sound(graph: Graph, count: int, k: int) -> None:
    """Whole lists in order, never the row itself, never one twice."""
    assert graph.rows.shape == graph.scores.shape == (count, k)
    assert (graph.rows >= 0).all()
    assert (graph.rows < count).all()
    assert not (graph.rows == np.arange(count)[:, None]).any()
    assert all(len(set(row)) == k for row in graph.rows.tolist())
    assert (np.diff(graph.scores, axis=1) <= 0).all()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 15, 60])
@pytest.mark.parametrize("exact", [True, False, None])
@pytest.mark.parametrize("k", [1, 5, 100])
def test_small_collections_equal_naive_loops(count: int, exact: bool | None, k: int) -> None:
    rows = collection(unit(np.random.default_rng(count), count, 7))
    graph = link(rows, k, exact=exact)
    assert graph.rows.shape == (count, max(0, min(k, count - 1)))
    equals(graph, rows, k)
    assert graph.recall == 1.0


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("kind", ["identical", "two places", "copies", "near copies"])
def test_equal_rows_are_ordered_by_image_id(kind: str, exact: bool) -> None:
    rng = np.random.default_rng(2)
    vectors = unit(rng, 70, 6)
    if kind == "identical":
        vectors[:] = vectors[0]
    elif kind == "two places":
        vectors = vectors[np.arange(70) % 2]
    elif kind == "copies":
        vectors[10:30] = vectors[3]
        vectors[50:53] = vectors[4]
    else:
        vectors[10:30] = vectors[3] + np.float32(1e-8) * rng.normal(size=(20, 6)).astype(np.float32)
    rows = collection(np.ascontiguousarray(vectors))
    graph = link(rows, 9, exact=exact)
    if exact or kind != "near copies":
        equals(graph, rows, 9)
    else:
        # Which of rows that score the same is among the last is open here, their scores are not.
        assert graph.scores.tolist() == naive(rows, 9)[1]


def test_blocks_meet_each_other_once_and_nobody_twice_at_a_time() -> None:
    for blocks in range(1, 10):
        met = list(exhaustive.turns(blocks))
        pairs = [tuple(sorted(pair)) for turn in met for pair in turn]
        wanted = [(one, other) for one in range(blocks) for other in range(one, blocks)]
        assert sorted(pairs) == wanted
        for turn in met[1:]:
            seats = [block for pair in turn for block in pair]
            assert len(seats) == len(set(seats))


@pytest.mark.parametrize("block", [7, 64, 1000])
def test_exact_lists_do_not_depend_on_blocks(block: int) -> None:
    rows = collection(blobs(300))
    with Parts(2) as parts:
        parts.put("vectors", rows.vectors)
        parts.put("ranks", linking.rank(rows.images))
        near, scores = exhaustive.exhaustive(parts, 6, block=block)
        wanted, values = naive(rows, 6)
        assert near.tolist() == wanted
        assert scores.tolist() == values


def test_rows_that_float32_cannot_tell_apart_are_compared_with_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Many rows within the error of a float32 product: the spare ones do not hold them all."""
    asked = []
    again = exhaustive.again

    def counted(parts: Parts, rows: NDArray[np.int64], **options: Any) -> None:
        asked.append(len(rows))
        again(parts, rows, **options)

    monkeypatch.setattr(exhaustive, "again", counted)
    rng = np.random.default_rng(4)
    vectors = unit(rng, 1, 16) + 1e-7 * rng.normal(size=(120, 16))
    rows = collection(vectors.astype(np.float32))
    equals(link(rows, 5, exact=True), rows, 5)
    assert asked[0] > 100


def test_cells_find_what_is_there_and_say_how_much() -> None:
    rows = collection(blobs(4000))
    exact, found = link(rows, 10, exact=True), link(rows, 10, exact=False)
    sound(found, 4000, 10)
    assert exact.exact
    assert exact.summary == "exact"
    assert not found.exact
    assert found.audited == 1000
    assert found.method == "cells and neighbours' neighbours"
    share = (found.scores >= exact.scores[:, -1:]).mean()
    assert share > 0.97
    assert abs(found.recall - share) < 0.01
    assert found.summary == f"approximate, recall {found.recall:.3f} on 1,000 rows"
    hit = found.rows == exact.rows
    assert np.array_equal(found.scores[hit], exact.scores[hit])


def test_cells_are_exact_where_it_is_easy() -> None:
    """Groups far from one another, each in a few cells."""
    rng = np.random.default_rng(8)
    vectors = unit(rng, 30, 64)[np.arange(3000) % 30] + 0.02 * rng.normal(size=(3000, 64))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = collection(vectors.astype(np.float32))
    found = link(rows, 8, exact=False)
    assert found.recall == 1.0
    assert np.array_equal(found.rows, link(rows, 8, exact=True).rows)


def test_the_seed_decides_and_the_number_of_threads_does_not() -> None:
    rows = collection(unit(np.random.default_rng(3), 9000, 40))
    one = link(rows, 6, exact=False, seed=5)
    same(one, link(rows, 6, exact=False, seed=5, threads=2))
    other = link(rows, 6, exact=False, seed=6)
    assert not np.array_equal(one.rows, other.rows)
    same(link(rows, 6, exact=True), link(rows, 6, exact=True, threads=2))


def test_a_graph_that_cells_cannot_find_becomes_exact_where_that_is_affordable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Noise in many dimensions has no near neighbours."""
    monkeypatch.setattr(linking, "EXACT", 0.0)
    rows = collection(unit(np.random.default_rng(1), 4000, 256))
    graph = link(rows, 10)
    assert graph.exact
    same(graph, link(rows, 10, exact=True))
    # Found out only by the audit, and kept where exact is not affordable.
    monkeypatch.setattr(linking, "HOPELESS", 0.0)
    assert link(rows, 10).exact
    monkeypatch.setattr(linking, "AFFORDABLE", 0.0)
    poor = link(rows, 10)
    assert not poor.exact
    assert poor.recall < linking.ENOUGH
    sound(poor, 4000, 10)


def test_the_size_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = collection(blobs(600))
    assert link(rows, 5).exact
    monkeypatch.setattr(linking, "EXACT", 599.0**2 * 24)
    assert not link(rows, 5).exact


def test_an_audit_equals_a_naive_one() -> None:
    rows = collection(blobs(500))
    graph = link(rows, 5, exact=True)
    with Parts(2) as parts:
        parts.put("vectors", rows.vectors)
        judged = audit.chosen(500, 3, 100)
        kth = audit.truth(parts, judged, 5)
    assert len(set(judged.tolist())) == 100
    assert kth.tolist() == graph.scores[judged, -1].tolist()
    assert audit.recall(graph.scores[judged], kth) == 1.0
    worse = graph.scores[judged].copy()
    worse[:50, 2:] = -1
    assert audit.recall(worse, kth) == pytest.approx(1 - 0.5 * 3 / 5)


def test_a_hundred_thousand_copies_cost_as_much_as_one() -> None:
    vectors = unit(np.random.default_rng(1), 500, 8)[np.r_[np.arange(500), np.zeros(100_000, int)]]
    rows = collection(np.ascontiguousarray(vectors))
    graph = link(rows, 5, exact=False)
    sound(graph, 100_500, 5)
    order = np.argsort(linking.rank(rows.images))
    copies = order[np.isin(order, np.r_[0, np.arange(500, 100_500)])]
    for row in (0, 500, 7777, 100_499):
        assert graph.rows[row].tolist() == [n for n in copies[:6].tolist() if n != row][:5]


def test_near_copies_in_one_cell_are_not_compared_all_with_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    search = cells._search

    def counted(arrays: Arrays, first: int, last: int) -> int:
        sizes = np.diff(arrays["starts"])
        asked.append(int(sizes[arrays["near"][first:last]].sum()))
        return search(arrays, first, last)

    monkeypatch.setattr(cells, "_search", counted)
    rng = np.random.default_rng(1)
    vectors = np.r_[unit(rng, 2000, 8), unit(rng, 1, 8) + 1e-4 * rng.normal(size=(18_000, 8))]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = collection(vectors.astype(np.float32))
    graph = link(rows, 5, exact=False, threads=2)
    sound(graph, 20_000, 5)
    limit = cells.SPLIT * -(-20_000 // (20_000 // cells.ROWS))
    assert sum(asked) <= 20_000 * cells.PROBES * limit
    assert sum(asked) < 18_000 * 18_000 / 3


@pytest.mark.parametrize("probes", [1, cells.PROBES])
def test_a_cell_with_one_row(probes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one probe its row is compared with nobody, and still gets its neighbours."""
    vectors = blobs(1000, groups=2)
    vectors[500] = -vectors[:2].mean(axis=0)
    vectors[500] /= np.linalg.norm(vectors[500])
    rows = collection(vectors)
    sizes: list[int] = []
    search = cells._search

    def noted(arrays: Arrays, first: int, last: int) -> int:
        sizes.extend(np.diff(arrays["starts"]).tolist())
        return search(arrays, first, last)

    monkeypatch.setattr(cells, "_centres", lambda *_: vectors[[0, 1, 500]])
    monkeypatch.setattr(cells, "_search", noted)
    monkeypatch.setattr(cells, "PROBES", probes)
    graph = link(rows, 5, exact=False)
    assert 1 in sizes
    sound(graph, 1000, 5)
    assert graph.recall > 0.97
    exact = link(rows, 5, exact=True)
    assert np.array_equal(graph.rows[500], exact.rows[500])


@pytest.mark.parametrize("value", [np.nan, np.inf, 2.0])
def test_vectors_that_are_none_are_refused(value: float) -> None:
    vectors = unit(np.random.default_rng(1), 20, 8)
    vectors[7, 3] = value
    with pytest.raises(InputError, match="row 7"):
        link(collection(vectors), 3)
    with pytest.raises(InputError, match="row 7"):
        extend(link(collection(vectors[:5]), 3), collection(vectors))
    with pytest.raises(InputError, match="at least 0"):
        link(collection(vectors[:5]), -1)


def test_cancelling_ends_it_between_parts() -> None:
    seen: list[str] = []

    def stop(step: str, done: int, total: int, message: str = "") -> None:
        assert step == "neighbours"
        assert 0 <= done <= total == 20_000
        seen.append(message)
        if message == "search":
            raise CancelledError("stop")

    before = set(threading.enumerate())
    with pytest.raises(CancelledError):
        link(collection(blobs(20_000)), 5, exact=False, threads=2, progress=stop)
    assert seen[-1] == "search"
    # Threads of other tests may end meanwhile.
    assert set(threading.enumerate()) <= before


def test_progress_does_not_go_back() -> None:
    told: list[int] = []

    def note(step: str, done: int, total: int, message: str = "") -> None:
        told.append(done)

    for exact in (True, False):
        told.clear()
        link(collection(blobs(5000)), 5, exact=exact, progress=note)
        assert told == sorted(told)
        assert told[-1] == 5000


Change = Callable[[Collection], tuple[NDArray[np.int64], NDArray[np.int64]]]
CHANGES: dict[str, Any] = {
    "nothing": lambda n: (np.arange(n), np.arange(n)),
    "one more": lambda n: (np.arange(n - 1), np.arange(n)),
    "a few more": lambda n: (np.arange(n)[np.arange(n) % 20 > 0], np.arange(n)),
    "a few less": lambda n: (np.arange(n), np.arange(n)[np.arange(n) % 40 > 0]),
    "both": lambda n: (np.arange(n)[np.arange(n) % 30 > 0], np.arange(n)[np.arange(n) % 47 > 0]),
    "in another order": lambda n: (np.arange(n)[np.arange(n) % 25 > 0], np.arange(n)[::-1]),
    "nothing stays": lambda n: (np.arange(n // 2), np.arange(n // 2, n)),
    "from nothing": lambda n: (np.arange(0), np.arange(n)),
    "to nothing": lambda n: (np.arange(n), np.arange(0)),
    "to one": lambda n: (np.arange(n), np.arange(1)),
    "from two": lambda n: (np.arange(2), np.arange(n)),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_an_exact_graph_brought_up_to_date_equals_a_new_one(change: str) -> None:
    every = collection(blobs(400))
    before, after = (some(every, rows) for rows in CHANGES[change](400))
    old = link(before, 7, exact=True, model_id="m", data="old")
    new = extend(old, after, k=7, model_id="m", data="new", threads=2)
    same(new, link(after, 7, exact=True))
    assert (new.model_id, new.data) == ("m", "new")
    # And once more from there.
    same(extend(new, before, k=7, model_id="m"), link(before, 7, exact=True))


def test_bringing_up_to_date_searches_for_what_changed_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    every = collection(blobs(1000))
    old = link(some(every, np.arange(990)), 7)
    asked = []
    again = exhaustive.again

    def counted(parts: Parts, rows: NDArray[np.int64], **options: Any) -> None:
        asked.append(len(rows))
        again(parts, rows, **options)

    monkeypatch.setattr(exhaustive, "again", counted)
    same(extend(old, every), link(every, 7))
    assert asked[0] == 10


def test_a_vector_that_changed_is_a_new_row() -> None:
    rows = collection(blobs(300))
    old = link(rows, 6)
    vectors = rows.vectors.copy()
    vectors[5] = vectors[100]
    vectors[200] = -vectors[200]
    changed = Collection(vectors, rows.images, rows.listings, rows.place)
    same(extend(old, changed), link(changed, 6))


def test_many_equal_rows_are_linked_anew() -> None:
    vectors = blobs(300)
    vectors[100:140] = vectors[7]
    rows = collection(vectors)
    old = link(some(rows, np.arange(295)), 6)
    same(extend(old, rows), link(rows, 6))


@pytest.mark.parametrize("affordable", [True, False])
def test_an_approximate_graph_brought_up_to_date_is_as_good(
    affordable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = collection(blobs(6000, groups=30))
    rng = np.random.default_rng(1)
    before = some(every, np.sort(rng.choice(6000, 5700, replace=False)))
    after = some(every, np.sort(rng.choice(6000, 5960, replace=False)))
    old, anew = link(before, 10, exact=False), link(after, 10, exact=False)
    if not affordable:
        monkeypatch.setattr(linking, "EXACT", 0.0)
    new = extend(old, after)
    sound(new, len(after.vectors), 10)
    exact = link(after, 10, exact=True)
    share = (new.scores >= exact.scores[:, -1:]).mean()
    assert abs(new.recall - share) < 0.01
    assert new.recall > anew.recall - 0.01
    assert not new.exact
    assert new.audited == 1000
    same(new, extend(old, after, threads=2))


def test_a_graph_of_another_model_is_refused() -> None:
    rows = collection(blobs(30))
    with pytest.raises(InputError, match="of its own model 'one', these are of 'two'"):
        extend(link(rows, 3, model_id="one"), rows, model_id="two")
    graph = link(rows, 3)
    with pytest.raises(InputError, match="know its images"):
        extend(Graph(graph.rows, graph.scores), rows)


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_a_saved_graph_is_the_same(count: int, tmp_path: Path) -> None:
    graph = link(collection(blobs(count)), 4, exact=False, model_id="m", data="d", seed=9)
    path = tmp_path / "graphs" / "g"
    kept.save(path, graph, key="k")
    found = kept.load(path, Graph, key="k")
    same(graph, found)
    assert found.rows.dtype == np.int64
    assert np.array_equal(found.images, graph.images)
    assert np.array_equal(found.marks, graph.marks)
    for name in ("audited", "method", "seed", "model_id", "data", "summary"):
        assert getattr(found, name) == getattr(graph, name)
    same(extend(found, collection(blobs(count)), model_id="m"), graph)


class Tasks:
    """A Spark context that carries out pickled tasks here, the last ones first."""

    def __init__(self) -> None:
        self.sparkContext = self
        self.given: list[Any] = []
        self.done = 0

    def parallelize(self, given: list[Any], slices: int) -> "Tasks":
        assert slices == len(given)
        self.given = list(given)
        return self

    def map(self, task: Callable[[Any], int]) -> "Tasks":
        again = pickle.loads(pickle.dumps(task))
        self.done += len(self.given)
        self.given = [again(part) for part in reversed(self.given)][::-1]
        return self

    def collect(self) -> list[int]:
        return self.given


@pytest.mark.parametrize("exact", [True, False])
def test_tasks_over_mapped_files_make_the_same_graph(exact: bool, tmp_path: Path) -> None:
    vectors = blobs(9000)
    vectors[100:120] = vectors[5]
    rows = collection(vectors)
    tasks, folder = Tasks(), tmp_path / "work"
    spark = cast("SparkSession", tasks)
    graph = link(rows, 6, exact=exact, spark=spark, folder=folder)
    same(graph, link(rows, 6, exact=exact, threads=2))
    assert tasks.done > 10
    assert list(folder.iterdir()) == []
    less = some(rows, np.arange(8500))
    same(extend(graph, less, spark=spark, folder=folder), extend(graph, less))
    assert list(folder.iterdir()) == []


def test_no_part_is_begun_after_a_cancel() -> None:
    def stop(step: str, done: int, total: int, message: str = "") -> None:
        raise CancelledError("stop")

    with Parts(1) as parts:
        counts = parts.make("counts", (500,), np.int64)
        counts[:] = 0
        with pytest.raises(CancelledError) as raised:
            parts.run(_count, cut(500, 1), ("counts",), progress=stop)
        assert str(raised.value) == "stop"
        # A few may begin before this thread learns of the first, not what takes seconds.
        assert 1 <= counts.sum() < 250


def _count(arrays: Arrays, first: int, last: int) -> int:
    arrays["counts"][first] = 1
    time.sleep(0.02)
    return 0


def test_what_fails_in_a_thread_is_raised() -> None:
    with Parts(2) as parts:
        parts.put("x", np.zeros(3))
        with pytest.raises(ZeroDivisionError):
            parts.run(_broken, cut(10, 1), ("x",))


def _broken(arrays: Arrays, first: int, last: int) -> int:
    return 1 // (first - 3)
