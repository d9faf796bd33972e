"""The ledger against real Cassandra: batches, races, the newest first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from cql.errors import ConflictError
from cql.ledger import Wanted
from cql.store import Store

pytestmark = pytest.mark.service

KINDS = {
    "rename": "cluster:race",
    "verdict": "image:race",
    "label": "label:race",
    "merge": "merge:race",
    "split": "split:race",
    "duplicates": "duplicates:race",
}


def wanted(count: int, value: str, version: int = 0, prefix: str = "label:b") -> list[Wanted]:
    return [
        Wanted(subject=f"{prefix}{n}", kind="label", value=value, expected_version=version)
        for n in range(count)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_of_two_writers_at_once_one_sees_both_versions(store: Store, kind: str) -> None:
    def decide(name: str) -> Any:
        try:
            return store.append_decision(
                KINDS[kind], kind, f"of {name}", author=name, expected_version=0
            )
        except ConflictError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(decide, ("ann", "bob")))
    (conflict,) = [each for each in done if isinstance(each, ConflictError)]
    (winner,) = [each for each in done if not isinstance(each, ConflictError)]
    assert store.decisions(KINDS[kind]) == [winner]
    loser = "bob" if winner.author == "ann" else "ann"
    text = str(conflict)
    assert (conflict.expected, conflict.found) == ("0", "1")
    assert f"“of {winner.author}” by {winner.author}" in text
    assert f"“of {loser}” by {loser}" in text
    assert "version 0" in text
    assert "moved it to 1" in text


def test_a_batch_stands_decision_by_decision(store: Store) -> None:
    store.append_decision("label:b3", "label", "pipe", author="ann", expected_version=0)
    batch = uuid4()
    done, refused = store.append_decisions(
        wanted(300, "joint"), batch=batch, kind="label", author="bob", reason="near"
    )
    assert [each.subject for each in done] == [f"label:b{n}" for n in range(300) if n != 3]
    assert {(each.value, each.author, each.reason, each.batch_id) for each in done} == {
        ("joint", "bob", "near", batch)
    }
    (conflict,) = refused
    assert "“pipe” by ann" in str(conflict)
    # As stored, and a version that nobody wrote before is not skipped.
    assert store.decisions_of(["label:b0", "label:b3"])["label:b0"] == done[0]
    assert store.decisions("label:b3")[0].value == "pipe"
    late, refused = store.append_decisions(
        wanted(2, "x", version=5), batch=uuid4(), kind="label", author="bob"
    )
    assert late == []
    assert [error.found for error in refused] == ["1", "1"]
    assert sorted(store.batched(batch)) == sorted((f"label:b{n}", 1) for n in range(300))
    keys = [("label:b0", 1), ("label:b0", 2), ("label:b3", 1)]
    assert [each.author for each in store.decisions_at(keys)] == ["bob", "ann"]


def test_of_two_batches_at_once_every_subject_has_one_winner(store: Store) -> None:
    def decide(name: str) -> Any:
        return store.append_decisions(
            wanted(100, name, prefix="label:r"), batch=uuid4(), kind="label", author=name
        )

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(decide, ("ann", "bob")))
    won = [each.subject for appended, _ in done for each in appended]
    assert sorted(won) == sorted(f"label:r{n}" for n in range(100))
    assert sum(len(refused) for _, refused in done) == 100
    stored = store.decisions_of(f"label:r{n}" for n in range(100))
    assert {each.subject: each for appended, _ in done for each in appended} == stored


def test_the_newest_acts_come_first_and_a_batch_is_one_line(store: Store) -> None:
    began = datetime.now(UTC) - timedelta(milliseconds=2)
    first = store.append_decision("cluster:h", "rename", "a", author="ann", expected_version=0)
    batch = uuid4()
    store.append_decisions(
        wanted(5, "joint", prefix="label:h"), batch=batch, kind="label", author="ann"
    )
    last = store.append_decision("cluster:h", "rename", "b", author="bob", expected_version=1)
    acts = [act for act in store.acts() if act.at >= began]
    assert [(act.subject, act.version, act.kind) for act in acts] == [
        ("cluster:h", 2, "rename"),
        (f"batch:{batch}", 5, "label"),
        ("cluster:h", 1, "rename"),
    ]
    assert [act for act in store.acts(before=last.at) if act.at >= began] == acts[1:]
    since = store.acts_since(first.at)
    assert sorted(since, key=lambda act: act.at) == acts[::-1]
    assert store.acts_since(last.at + timedelta(seconds=1)) == []


def test_standing_decisions_are_the_newest_of_each_subject(store: Store) -> None:
    for version, value in enumerate(("a", "b", "c")):
        store.append_decision("cluster:s", "rename", value, author="ann", expected_version=version)
    standing = [each for each in store.standing() if each.subject == "cluster:s"]
    assert [(each.version, each.value) for each in standing] == [(3, "c")]
    every = [each.version for each in store.iter_decisions() if each.subject == "cluster:s"]
    assert every == [3, 2, 1]


def test_a_decision_about_many_images_is_kept_whole(store: Store) -> None:
    value = ",".join(str(UUID(int=n)) for n in range(100_000))
    store.append_decision("split:large", "split", value, author="ann", expected_version=0)
    assert store.decisions("split:large")[0].value == value
