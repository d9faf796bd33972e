"""What of an act is in force, judged by all that it decided, against the whole ledger."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pytest

from analytics.decisions.decided import LABEL
from cql.ledger import BATCH, Wanted
from cql.records import Decision
from dashboard.acts import ActView
from dashboard.history import SHOWN
from tests.dashboard.test_deciding import World
from tests.ledger import MemoryLedger


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def subjects(count: int) -> list[str]:
    """In the order in which a batch lists them."""
    return sorted(f"label:{uuid4()}" for _ in range(count))


def label(
    ledger: MemoryLedger, chosen: Iterable[str], value: str, *, stale: Iterable[str] = ()
) -> UUID:
    """Label as one batch; somebody was first with the newest version of the `stale`."""
    late, batch = set(stale), uuid4()
    wanted = [
        Wanted(
            subject=subject, kind=LABEL, value=value,
            expected_version=len(ledger.decisions(subject)) - (subject in late),
        )
        for subject in chosen
    ]  # fmt: skip
    ledger.append_decisions(wanted, batch=batch, kind=LABEL, author="ann")
    return batch


def change(ledger: MemoryLedger, chosen: Iterable[str]) -> None:
    for subject in chosen:
        version = len(ledger.decisions(subject))
        ledger.append_decision(subject, LABEL, "b", author="bob", expected_version=version)


def acts(world: World, *, limit: int = 200) -> dict[str, ActView]:
    """Acts by what undo takes: of one subject each version for itself."""
    found = world.services.history.page(limit=limit).acts
    return {f"{act.subject} {act.version}": act for act in found}


def naive(ledger: MemoryLedger) -> dict[str, tuple[int, int, str]]:
    """Decisions of each act, those that are the newest of their subject, and what that means."""
    made: dict[str, list[Decision]] = {}
    for each in ledger.iter_decisions():
        name = f"{BATCH}{each.batch_id} 1" if each.batch_id else f"{each.subject} {each.version}"
        made.setdefault(name, []).append(each)
    found = {}
    for name, own in made.items():
        standing = sum(ledger.decisions(each.subject)[0] == each for each in own)
        found[name] = (len(own), standing, "in force" if standing else "replaced")
    return found


def test_states_equal_a_loop_over_the_ledger(world: World) -> None:
    rng = np.random.default_rng(5)
    every = subjects(150)

    def some(count: int) -> list[str]:
        return [every[at] for at in rng.permutation(len(every))[:count]]

    for _ in range(40):
        batch = label(world.store, chosen := some(90), "abc"[rng.integers(3)], stale=chosen[:30])
        change(world.store, some(2))
        if rng.random() < 0.3:
            world.services.undo(f"{BATCH}{batch}", author="eve", expected_version=1)
        # Another worker's memory follows act by act, that of this one has a scan behind it.
        world.other.history.page(limit=1)
    found = acts(world)
    told = {name: (act.count, act.standing, act.state) for name, act in found.items()}
    assert told == naive(world.store)
    assert {state for _, _, state in told.values()} == {"in force", "replaced"}
    assert acts_of(world.other.history.page(limit=200).acts) == acts_of(found.values())


def acts_of(found: Iterable[ActView]) -> list[tuple[str, int, str]]:
    return [(act.subject, act.standing, act.state) for act in found]


@pytest.mark.parametrize("place", [0, 48, 4_999])
def test_of_an_act_of_many_any_one_may_be_replaced(world: World, place: int) -> None:
    every = subjects(5_000)
    name = f"{BATCH}{label(world.store, every, 'a')}"
    act = acts(world)[f"{name} 1"]
    assert (act.count, act.standing, act.state) == (5_000, 5_000, "in force")
    change(world.store, [every[place]])
    act = acts(world)[f"{name} 1"]
    assert (act.count, act.standing, act.state, act.undoable) == (5_000, 4_999, "in force", True)
    # Nothing is left of it once all others are changed, too.
    change(world.store, [each for each in every if each != every[place]])
    act = next(each for each in world.services.history.page(limit=5_001).acts if each.count > 1)
    assert (act.subject, act.standing, act.state, act.undoable) == (name, 0, "replaced", False)


@pytest.mark.parametrize("place", [0, 48, 4_999])
def test_an_act_of_many_can_be_undone_while_one_of_it_stands(world: World, place: int) -> None:
    every = subjects(5_000)
    name = f"{BATCH}{label(world.store, every, 'a')}"
    label(world.store, [each for each in every if each != every[place]], "b")
    act = acts(world)[f"{name} 1"]
    assert (act.count, act.standing, act.state, act.undoable) == (5_000, 1, "in force", True)
    world.services.undo(act.subject, author="eve", expected_version=act.newest)
    assert world.store.decisions(every[place])[0].value == ""
    act = acts(world)[f"{name} 1"]
    assert (act.standing, act.state, act.undoable) == (0, "replaced", False)


def test_an_act_of_which_the_first_were_refused_is_shown_by_the_others(world: World) -> None:
    every = subjects(300)
    change(world.store, every[:250])
    label(world.store, every, "b", stale=every[:250])
    (act,) = (act for act in acts(world, limit=300).values() if act.subject.startswith(BATCH))
    assert (act.what, act.count, act.standing) == ("Labelled 50 images “b”", 50, 50)
    assert [f"label:{image}" for image in act.images] == every[250 : 250 + SHOWN]
    label(world.store, every, "c", stale=every)
    assert len(acts(world, limit=300)) == 251, "nothing of the second was decided"


def test_a_page_of_acts_of_many_reads_few_decisions(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in force is in memory; of an act that is replaced the first decisions are read."""
    every = [subjects(500) for _ in range(20)]
    for chosen in every:
        label(world.store, chosen, "a")
    world.services.history.page(limit=1)
    read: list[int] = []
    at, of, batched = (world.store.decisions_at, world.store.decisions_of, world.store.batched)

    def counted(keys: Sequence[tuple[str, int]]) -> list[Decision]:
        read.append(len(keys))
        return at(keys)

    def newest(names: Iterable[str]) -> dict[str, Decision]:
        wanted = list(names)
        read.append(len(wanted))
        return of(wanted)

    def tried(batch: UUID, *, rows: int = 2_000) -> Iterable[tuple[str, int]]:
        read.append(rows)
        return batched(batch, rows=rows)

    monkeypatch.setattr(world.store, "decisions_at", counted)
    monkeypatch.setattr(world.store, "decisions_of", newest)
    monkeypatch.setattr(world.store, "batched", tried)
    assert len(world.services.history.page(limit=50).acts) == 20
    assert sum(read) <= 20 * 4 * SHOWN
    label(world.store, every[0], "b")
    world.services.history.page(limit=1)
    read.clear()
    assert len(world.services.history.page(limit=50).acts) == 21
    assert sum(read) <= 22 * 4 * SHOWN
