"""Linear scores of all rows against a loop over them, however they are divided."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics.learning import ranking
from analytics.learning.linear import K_MAX, Linear, Want, classified, confidence, decided
from analytics.search import Searcher
from cql import codec
from cql.errors import InputError
from cql.records import Feature
from tests.analytics.conftest import MODEL, World
from tests.waiting import until

Rows = list[tuple[UUID, NDArray[np.float32]]]


def unit(rows: int, dim: int, seed: int = 1) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def model(classes: int, dim: int, seed: int = 2, scale: float = 8.0) -> Linear:
    rng = np.random.default_rng(seed)
    return Linear.of(rng.normal(size=(classes, dim)) * scale, rng.normal(size=classes))


def naive(rows: Rows, linear: Linear, want: Want) -> dict[str, Any]:
    """What every row has, one at a time, in plain floats."""
    found = []
    for image, vector in rows:
        scores = [
            norm * sum(float(u) * float(x) for u, x in zip(units, vector, strict=True)) + bias
            for units, norm, bias in zip(
                linear.units, linear.norms.tolist(), linear.biases.tolist(), strict=True
            )
        ]
        best = max(range(len(scores)), key=lambda c: (scores[c], -c))
        if len(scores) == 1:
            surety = scores[0]
        else:
            rest = [z for c, z in enumerate(scores) if c != best]
            top = max(rest)
            surety = scores[best] - top - math.log(sum(math.exp(z - top) for z in rest))
        found.append((float(np.float32(surety)), best, image))
    single = len(linear.units) == 1
    ranked = [each for each in found if each[2].bytes not in want.without]
    unsure = sorted(ranked, key=lambda r: (abs(r[0]) if single else r[0], r[2].bytes))[: want.k]
    of = [each for each in ranked if each[1] == want.of]
    best_rows = sorted(of, key=lambda r: (-r[0], r[2].bytes))[: want.k]
    if single:
        counts = [sum(s >= float(np.float32(want.threshold)) for s, _, _ in found)]
    else:
        counts = [sum(c == n for _, c, _ in found) for n in range(len(linear.units))]
    return {"counts": counts, "unsure": unsure, "best": best_rows, "rows": len(found)}


def same(found: ranking.Answer, wanted: dict[str, Any]) -> None:
    assert found.found.rows == wanted["rows"]
    assert found.found.counts.tolist() == wanted["counts"]
    for name in ("unsure", "best"):
        got, expected = getattr(found.found, name), wanted[name]
        assert [UUID(bytes=each.tobytes()) for each in got.images] == [r[2] for r in expected]
        assert got.classes.tolist() == [r[1] for r in expected]
        np.testing.assert_allclose(got.sureties, [r[0] for r in expected], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_every_division_says_what_a_loop_says(
    world: Callable[..., World], classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analytics.learning.linear.CHUNK_BYTES", 2048)  # several chunks a shard
    made = world()
    vectors = unit(450, 6)
    vectors[100:140] = vectors[7]  # ties are broken by image id
    made.fill(vectors, [f"l{n // 3:04d}" for n in range(len(vectors))])
    rows = list(zip(made.images, vectors, strict=True))
    linear = model(classes, 6)
    left_out = frozenset(image.bytes for image in made.images[:50])
    wants = [
        Want(k=40, of=0),
        Want(k=40, of=classes - 1, without=left_out, threshold=1.5),
        Want(k=K_MAX, of=0),
    ]
    answers = [naive(rows, linear, want) for want in wants]
    for cuts in (1, 7):
        made.close()
        made.cut(cuts)
        made.host(min(cuts, 3))
        with Searcher(made.settings, made.store) as searcher:  # type: ignore[arg-type]
            until(searcher.ready)
            for want, answer in zip(wants, answers, strict=True):
                same(ranking.rank(searcher, linear, want), answer)


@pytest.mark.parametrize("classes", [2, 5])
def test_every_division_gives_every_row_the_class_of_a_loop(
    world: Callable[..., World], classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analytics.learning.linear.CHUNK_BYTES", 4096)  # several chunks a shard
    made = world()
    vectors = unit(450, 6)
    vectors[100:140] = vectors[7]
    made.fill(vectors, [f"l{n // 3:04d}" for n in range(len(vectors))])
    linear = model(classes, 6)
    linear.units[1], linear.norms[1] = linear.units[0], linear.norms[0]
    linear.biases[1] = linear.biases[0]  # of equal scores the first class counts
    wanted = {}
    for image, vector in zip(made.images, vectors, strict=True):
        own = naive([(image, vector)], linear, Want(k=1))
        wanted[image] = (own["unsure"][0][1], own["unsure"][0][0])
    exact = dict(zip(made.images, linear.decide(vectors)[1].tolist(), strict=True))
    for cuts in (1, 7):
        made.close()
        made.cut(cuts)
        made.host(min(cuts, 3))
        with Searcher(made.settings, made.store) as searcher:  # type: ignore[arg-type]
            until(searcher.ready)
            snapshot, found = ranking.classify(searcher, linear)
        assert snapshot.rows == len(found.images) == 450
        images = [UUID(bytes=each.tobytes()) for each in found.images]
        assert dict(zip(images, found.classes.tolist(), strict=True)) == {
            image: own for image, (own, _) in wanted.items()
        }
        assert dict(zip(images, found.sureties.tolist(), strict=True)) == exact, "to the bit"
        np.testing.assert_allclose(
            found.sureties, [wanted[image][1] for image in images], rtol=1e-6, atol=1e-6
        )


def test_rows_that_float64_cannot_tell_apart_are_scored_as_defined() -> None:
    vectors = unit(300, 24)
    block: Any = SimpleNamespace(
        rows=300, vectors=vectors, images=np.zeros((300, 16), np.uint8),
        gather=lambda rows: vectors[rows],
    )  # fmt: skip
    part: Any = SimpleNamespace(blocks=(block,), alive=np.r_[0, np.ones(299)].astype(np.uint8))
    linear = model(4, 24)
    linear.biases[:] += 1e8
    asked: list[int] = []

    class Counted(Linear):
        def decide(self, rows: Any) -> Any:
            asked.append(len(rows))
            return super().decide(rows)

    found = classified([part], Counted(linear.units, linear.norms, linear.biases))
    own, sure = linear.decide(vectors[1:])
    assert sum(asked) > 0, "what is left of two large scores errs by more than float32 rounds"
    assert found.classes.tolist() == own.tolist()
    assert found.sureties.tolist() == sure.tolist()
    asked.clear()
    small = model(4, 24)
    found = classified([part], Counted(small.units, small.norms, small.biases))
    assert sum(asked) < 3, "hardly a row has to be scored again"
    assert found.sureties.tolist() == small.decide(vectors[1:])[1].tolist()


def test_changed_and_deleted_listings_are_seen_as_they_are(world: Callable[..., World]) -> None:
    made = world()
    vectors = unit(60, 5)
    made.fill(vectors, [f"l{n // 2:02d}" for n in range(60)], cuts=3)
    made.host(2)
    gone = made.store.features.pop("l03")
    (fresh,), (crc,) = codec.encode(unit(1, 5, seed=9))
    image = uuid4()
    made.store.features["new"] = [
        Feature(
            listing_id="new", model_id=MODEL, image_id=image, vector=fresh, dim=5, crc32c=crc
        )
    ]  # fmt: skip
    made.store.note("listing_changed", "l03")
    made.store.note("feature_added", "new")
    taken_out = {each.image_id for each in gone}
    rows = [(i, v) for i, v in zip(made.images, vectors, strict=True) if i not in taken_out]
    rows.append((image, np.frombuffer(fresh, "<f4").astype(np.float32)))
    linear, want = model(3, 5), Want(k=100, of=1)
    with Searcher(made.settings, made.store) as searcher:  # type: ignore[arg-type]
        until(searcher.ready)
        until(lambda: image.bytes in _images(ranking.rank(searcher, linear, want)))
        until(
            lambda: not {i.bytes for i in taken_out} & _images(ranking.rank(searcher, linear, want))
        )
        # Changes count before the look at the log that found them has ended, on both hosts.
        until(lambda: ranking.rank(searcher, linear, want).followed_at is not None)
        answer = ranking.rank(searcher, linear, want)
        same(answer, naive(rows, linear, want))
        assert answer.followed_at is not None
        _, every = ranking.classify(searcher, linear)
        own, sure = linear.decide(np.array([v for _, v in rows]))
        assert {
            each.tobytes(): (int(given), float(surety))
            for each, given, surety in zip(every.images, every.classes, every.sureties, strict=True)
        } == {i.bytes: (int(own[at]), float(sure[at])) for at, (i, _) in enumerate(rows)}
        _, drawn = ranking.sample(searcher, 1_000, seed=3)
        assert len(drawn) == 58, "rows of the changed listing are left out"


def _images(answer: ranking.Answer) -> set[bytes]:
    return {each.tobytes() for each in answer.found.unsure.images}


def test_a_sample_is_of_the_seed_and_not_of_the_shards(world: Callable[..., World]) -> None:
    made = world()
    vectors = unit(200, 4)
    made.fill(vectors, [f"l{n:03d}" for n in range(200)])
    drawn = []
    for cuts in (1, 5):
        made.close()
        made.cut(cuts)
        made.host(2 if cuts > 1 else 1)
        with Searcher(made.settings, made.store) as searcher:  # type: ignore[arg-type]
            until(searcher.ready)
            drawn.append(ranking.sample(searcher, 30, seed=4)[1])
    assert drawn[0].shape == (30, 4)
    assert (drawn[0] == drawn[1]).all()


@pytest.mark.parametrize("classes", [1, 3])
def test_one_image_and_identical_images(world: Callable[..., World], classes: int) -> None:
    for vectors in (unit(1, 4), np.repeat(unit(1, 4), 30, axis=0)):
        made = world()
        made.fill(vectors, [f"l{n:02d}" for n in range(len(vectors))])
        linear = model(classes, 4)
        own = int(linear.decide(vectors)[0][0])
        wants = [Want(k=7, of=own), Want(k=50, without=frozenset(i.bytes for i in made.images))]
        made.host()
        with Searcher(made.settings, made.store) as searcher:  # type: ignore[arg-type]
            until(searcher.ready)
            for want in wants:
                rows = list(zip(made.images, vectors, strict=True))
                same(ranking.rank(searcher, linear, want), naive(rows, linear, want))


def test_identical_rows_and_classes_without_weights() -> None:
    linear = Linear.of(np.zeros((3, 4)), np.zeros(3))
    classes, sureties = linear.decide(np.repeat(unit(1, 4), 5, axis=0))
    assert classes.tolist() == [0] * 5, "of equal scores the first class"
    np.testing.assert_allclose(sureties, math.log(0.5), rtol=1e-6)
    np.testing.assert_allclose(confidence(sureties), 1 / 3, rtol=1e-6)


def test_sure_rows_keep_their_order_where_a_share_would_not() -> None:
    _, sureties = decided(np.array([[200.0, 0.0], [300.0, 0.0], [-400.0, 400.0]]))
    assert sureties.tolist() == [200.0, 300.0, 800.0]
    _, rough = decided(np.array([[200.0, 0.0], [300.0, 0.0]], np.float32))
    assert rough.tolist() == [200.0, 300.0]


@pytest.mark.parametrize(
    ("weights", "biases"),
    [
        (np.full((2, 3), np.nan), np.zeros(2)),
        (np.ones((2, 3)), np.array([0.0, np.inf])),
        (np.ones((2, 3)), np.zeros(3)),
        (np.ones((0, 3)), np.zeros(0)),
    ],
)
def test_weights_that_cannot_score_are_refused(weights: Any, biases: Any) -> None:
    with pytest.raises(InputError):
        Linear.of(weights, biases)


@pytest.mark.parametrize(
    "want", [Want(k=0), Want(k=K_MAX + 1), Want(k=1, of=3), Want(k=1, threshold=math.nan)]
)
def test_questions_that_break_a_rule_are_refused(want: Want) -> None:
    with pytest.raises(InputError):
        want.check(3)
