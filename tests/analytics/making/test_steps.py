"""Steps that continue where they ended: kept results, and a map that is killed in each step."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics import analysis, arrowfile
from analytics.analysis import STEPS
from analytics.hierarchy.keys import keys, match
from analytics.making import kept, plan, steps
from analytics.making.steps import Step
from analytics.neighbours import Graph, codes
from cql.errors import InputError, IntegrityError
from cql.progress import silent
from cql.records import MapVersion
from cql.settings import Settings
from tests.analytics.conftest import World
from tests.analytics.test_analysis import QUICK, blobs, planted, run

Make = Callable[..., World]
NAMES = [step.name for step in STEPS]


@dataclass(frozen=True)
class Thing:
    numbers: NDArray[np.float32]
    names: list[str]
    count: int


THING = Thing(np.arange(6000, dtype=np.float32).reshape(-1, 3), ["ä", "", "b" * 99], 3)


def test_a_result_comes_back_as_it_was(tmp_path: Path) -> None:
    for rows in (0, 1, 2000):
        wanted = replace(THING, numbers=THING.numbers[:rows], names=THING.names[:rows])
        kept.save(tmp_path / "a", wanted, key="k")
        found = kept.load(tmp_path / "a", Thing, key="k")
        assert np.array_equal(found.numbers, wanted.numbers)
        assert found.numbers.dtype == np.float32
        assert (found.names, found.count) == (wanted.names, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_head_of_a_result_tells_its_key_and_what_is_plain(tmp_path: Path) -> None:
    kept.save(tmp_path / "a", THING, key="k")
    for each in tmp_path.glob("a/*.npy"):
        each.unlink()  # nothing else is read
    assert kept.head_of(tmp_path / "a") == ("k", {"count": 3})
    with pytest.raises(FileNotFoundError):
        kept.head_of(tmp_path / "b")
    (tmp_path / "a" / "about.json").write_text("[]")
    with pytest.raises(IntegrityError, match="must be a kept result"):
        kept.head_of(tmp_path / "a")


def test_of_earlier_graphs_only_the_one_of_the_model_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.zeros((2, 1), np.int64)
    for at, model in enumerate(["ours", "ours", "theirs"]):
        path = tmp_path / "graphs" / f"graph-{at}"
        kept.save(path, Graph(rows + at, rows.astype(np.float32), model_id=model), key=f"{at}")
        os.utime(path, (at, at))
    opened: list[str] = []
    real = kept.load

    def load(path: Path, kind: type[Any], *, key: str) -> Any:
        opened.append(path.name)
        return real(path, kind, key=key)

    monkeypatch.setattr(kept, "load", load)
    given: Any = SimpleNamespace(
        settings=Settings(data_dir=tmp_path), snapshot=SimpleNamespace(model_id="ours")
    )
    found = plan._earlier_graph(given)
    assert found is not None
    assert (found.rows[0, 0], opened) == (1, ["graph-1"])
    given.snapshot.model_id = "another"
    assert plan._earlier_graph(given) is None


@dataclass(frozen=True)
class Nest:
    inner: Thing | None
    shares: Mapping[str, NDArray[np.float64]]
    several: tuple[Any, ...]
    named: list[Thing]
    key: UUID


def test_results_may_be_nested(tmp_path: Path) -> None:
    key = UUID(int=7)
    for inner in (None, THING):
        wanted = Nest(
            inner,
            {"a": np.arange(3.0), "b": np.full((), 0.5)},
            (1, "x", None, [], (2.5, True)),
            [replace(THING, count=9)],
            key,
        )
        kept.save(tmp_path / "n", wanted, key="k")
        found = kept.load(tmp_path / "n", Nest, key="k")
        assert (found.several, found.key) == (wanted.several, key)
        assert found.shares["a"].tolist() == [0, 1, 2]
        assert found.shares["b"].shape == ()
        assert found.named[0].count == 9
        assert found.named[0].names == THING.names
        assert (found.inner is None) == (inner is None)
        if found.inner is not None:
            assert np.array_equal(found.inner.numbers, THING.numbers)


def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    for bad in (object(), np.array([object()])):
        with pytest.raises(InputError, match="kept"):
            kept.save(tmp_path / "n", replace(THING, count=cast("int", bad)), key="k")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["byte", "cut", "gone", "key", "about", "type", "older", "format"])
def test_a_damaged_result_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "a"
    kept.save(path, THING, key="k")
    if what == "byte":
        data = bytearray((path / "numbers.npy").read_bytes())
        data[-1] ^= 1
        (path / "numbers.npy").write_bytes(data)
    elif what == "cut":
        (path / "numbers.npy").write_bytes((path / "numbers.npy").read_bytes()[:-1])
    elif what == "gone":
        (path / "names.arrow").unlink()
    elif what == "format":
        older = json.loads((path / "about.json").read_text()) | {"format": 2}
        (path / "about.json").write_text(json.dumps(older))
    elif what == "about":
        (path / "about.json").write_text("{")
    elif what == "older":
        text = (path / "about.json").read_text().replace('"count"', '"size"')
        (path / "about.json").write_text(text)
    kind: type[Any] = Thing if what != "type" else Nest
    with pytest.raises(IntegrityError):
        kept.load(path, kind, key="other" if what == "key" else "k")
    with pytest.raises(FileNotFoundError):
        kept.load(tmp_path / "b", Thing, key="k")


def test_a_step_that_an_older_version_kept_is_made_again_once(tmp_path: Path) -> None:
    """Its sums are those of SHA-256."""
    made: list[int] = []

    def make(*_: Any) -> Thing:
        made.append(1)
        return THING

    own: Step[str] = Step(name="own", make=make, writes=Thing)
    steps.run([own], "", tmp_path, silent)
    (path,) = tmp_path.iterdir()
    about = json.loads((path / "about.json").read_text())
    sums = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in about["files"]}
    (path / "about.json").write_text(json.dumps({**about, "format": 2, "files": sums}))
    for _ in range(2):
        found = steps.run([own], "", tmp_path, silent)["own"]
        assert np.array_equal(found.numbers, THING.numbers)
    assert len(made) == 2


def test_keys_by_arrays_are_keys_by_sets() -> None:
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (400, 16), np.uint8)
    before = rng.integers(-1, 6, 400)
    now = np.where(rng.random(400) < 0.8, before, rng.integers(-1, 8, 400))
    now[now == 2] = 9  # none of 2: an empty cluster, as numbers have no gaps but the last ones may
    ids = [_uuid(row) for row in images]
    members = [
        frozenset(ids[row] for row in np.flatnonzero(before == number)) for number in range(6)
    ]
    old = keys(members, {})
    groups = [frozenset(ids[row] for row in np.flatnonzero(now == n)) for n in range(10)]
    wanted = keys(groups, dict(zip(old, members, strict=True)))
    sized = [(key, len(own)) for key, own in zip(old, members, strict=True)]
    assert match(now, images, before, sized) == wanted
    assert len(set(wanted) & set(old)) >= 4
    assert match(now, images, np.full(400, -1), []) == keys(groups, {})
    assert match(np.full(400, -1), images, before, sized) == []
    assert match(np.empty(0, np.int64), images[:0], np.empty(0, np.int64), []) == []


def _uuid(row: NDArray[np.uint8]) -> UUID:
    return UUID(bytes=row.tobytes())


def test_codes_are_in_the_order_of_names() -> None:
    names, rows = codes(["b", "ä", "b", "a", "Z"])
    assert names == ["Z", "a", "b", "ä"]
    assert rows.tolist() == [2, 3, 2, 1, 0]
    assert codes([])[0] == []


WANTED: list[tuple[Any, ...]] = []
"""What an uninterrupted run stores: made by the first test that asks."""


class Killed(BaseException):
    """What ends a process in the middle: nothing catches it."""


def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count how often each step is carried out."""
    seen: Counter[str] = Counter()

    def wrap(step: Any) -> Any:
        def make(*given: Any) -> Any:
            seen[step.name] += 1
            return step.make(*given)

        return replace(step, make=make)

    monkeypatch.setattr(analysis, "STEPS", tuple(wrap(step) for step in STEPS))
    return seen


def contents(one: World, made: MapVersion) -> tuple[Any, ...]:
    """All that is stored of a map, and its table byte for byte."""
    table = one.settings.data_dir / "maps" / f"{made.map_id}.arrow"
    return (
        replace(made, created_at=made.created_at.min, snapshot_id=made.map_id, watermark=None),
        one.store.map_points[made.map_id],
        one.store.odd[made.map_id],
        one.store.clusters(made.map_id),
        one.store.groups(made.map_id),
        one.store.duplicate_run(made.map_id),
        one.store.doubles.get(made.map_id),
        one.store.means(made.map_id),
        [
            (replace(own, created_at=made.created_at.min), rest)
            for (map_id, _), (own, *rest) in one.store.compared.items()
            if map_id == made.map_id
        ],
        table.read_bytes(),
    )


@pytest.mark.parametrize(
    ("step", "late"),
    [(step, False) for step in (*NAMES, "store", "changes", "tiles")]
    + [(step, True) for step in ("graph", "store", "changes", "tiles")],
)
def test_a_map_killed_in_a_step_continues_after_the_last_finished_one(
    world: Make, monkeypatch: pytest.MonkeyPatch, step: str, late: bool
) -> None:
    if not WANTED:
        whole = planted(world)
        run(whole)
        WANTED.append(contents(whole, run(whole, seed=2)))
    one = planted(world)
    first = run(one)
    seen = counted(monkeypatch)
    calls: Counter[str] = Counter()

    def kill(name: str, *_: object) -> None:
        calls[name] += 1
        if name == step and calls[name] == (2 if late else 1):
            raise Killed

    with pytest.raises(Killed):
        run(one, seed=2, progress=kill)
    assert one.store.live("map") == first.map_id
    before = set(NAMES[: NAMES.index(step)]) if step in NAMES else set(NAMES)
    again: list[str] = []
    made = run(one, seed=2, progress=lambda name, *_: again.append(name))
    if step != "tiles":
        assert set(NAMES) <= set(again)
    assert all(seen[name] == 1 for name in before if name != "graph")
    assert seen["graph"] == 0  # the first map's: same data
    assert contents(one, made) == WANTED[0]
    assert one.store.live("map") == made.map_id
    assert not (one.settings.data_dir / "work" / str(made.map_id)).exists()


def test_a_damaged_step_is_made_again(world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = planted(world)
    wanted = contents(one, run(one))
    two = planted(world)

    def stop(name: str, *_: object) -> None:
        if name == "store":
            raise Killed

    with pytest.raises(Killed):
        run(two, progress=stop)
    (work,) = (two.settings.data_dir / "work").iterdir()
    (space,) = work.glob("space-*")
    (space / "rows.npy").write_bytes(b"damaged")
    seen = counted(monkeypatch)
    assert contents(two, run(two)) == wanted
    assert seen == {"space": 1}


def test_one_graph_serves_every_map_of_the_same_data(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = planted(world)
    seen = counted(monkeypatch)
    run(one)
    run(one, seed=2)
    one.cut(3)
    run(one, seed=3)
    assert seen["graph"] == 1
    held = one.settings.data_dir / "graphs"
    assert len(list(held.iterdir())) == 1
    (first,) = held.iterdir()
    run(one, parameters=replace(QUICK, neighbours=11))
    run(one, seed=4)
    run(one, parameters=replace(QUICK, neighbours=12))
    assert len(list(held.iterdir())) == 2
    assert first.is_dir()  # the other one was used longer ago


def test_work_of_another_map_stays_for_a_day(world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = planted(world)
    left = one.settings.data_dir / "work" / "other"
    half = one.settings.data_dir / "graphs" / ".graph-half"
    for path in (left, half):
        path.mkdir(parents=True)
    draft = one.settings.data_dir / "maps" / ".some.arrow.77.1"
    draft.parent.mkdir(exist_ok=True)
    draft.write_bytes(b"half")
    run(one)
    assert left.is_dir()
    assert half.is_dir()
    assert draft.exists()
    monkeypatch.setattr(arrowfile, "ABANDONED_S", -1.0)
    monkeypatch.setattr(analysis, "LEFT_S", -1.0)
    run(one)
    assert not left.exists()
    assert not half.exists()
    assert not draft.exists()
    assert len(list(half.parent.iterdir())) == 1


def test_a_map_over_resharded_data_keeps_what_was_made(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = planted(world)

    def stop(name: str, *_: object) -> None:
        if name == "outliers":
            raise Killed

    with pytest.raises(Killed):
        run(one, progress=stop)
    one.cut(3)
    seen = counted(monkeypatch)
    run(one)
    assert seen == {"collect": 1, "outliers": 1, "curve": 1, "duplicates": 1}


def test_previous_keys_follow_an_empty_map(world: Make) -> None:
    one = world()
    one.vectors = blobs()[0][:0]
    one.cut(1)
    run(one)
    vectors, labels = blobs(size=30)
    one.fill(vectors, [f"l{n // 3:03d}" for n in range(len(labels))])
    one.host()
    assert run(one).clusters == 3
