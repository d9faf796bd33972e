"""Decisions in force, followed act by act, against a scan of the whole ledger."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from analytics.decisions.decided import LABEL, MERGE, RENAME, labels
from analytics.decisions.standing import OVERLAP, Standing
from cql.ledger import Wanted
from cql.records import Decision
from tests.ledger import MemoryLedger


class Counting(MemoryLedger):
    """A ledger that counts what it is asked."""

    scans = 0
    read = 0

    def standing(self) -> Any:
        self.scans += 1
        return super().standing()

    def decisions_of(self, subjects: Any) -> dict[str, Decision]:
        found = super().decisions_of(subjects)
        self.read += len(found)
        return found


def scanned(ledger: MemoryLedger, kind: str, prefix: str) -> dict[str, str]:
    return {
        subject: history[0].value for subject, history in ledger.decisions_.items()
        if subject.startswith(prefix) and history[0].value
    }  # fmt: skip


def test_what_any_process_decided_is_there_at_the_next_reading() -> None:
    ledger = Counting()
    rng = np.random.default_rng(3)
    first, second = Standing(ledger), Standing(ledger)
    for step in range(120):
        subject = f"label:{rng.integers(8)}"
        version = len(ledger.decisions(subject))
        value = ["", "a", "b"][rng.integers(3)]
        ledger.append_decision(subject, LABEL, value, author="x", expected_version=version)
        if step % 7 == 0:
            wanted = [
                Wanted(
                    subject=f"label:b{n}", kind=LABEL, value=f"{step}",
                    expected_version=len(ledger.decisions(f"label:b{n}")),
                )
                for n in range(5)
            ]  # fmt: skip
            ledger.append_decisions(wanted, batch=uuid4(), kind=LABEL, author="x")
        if step % 3 == 0:
            first.read()
        found = {s: d.value for s, d in second.read().of(LABEL).items()}
        assert found == scanned(ledger, LABEL, "label:")
    first.read()
    assert first.of(LABEL) == second.of(LABEL)
    assert first.token(LABEL) == second.token(LABEL) == Standing(ledger).read().token(LABEL)
    assert ledger.scans == 3


def test_a_reading_without_news_reads_no_decision_again() -> None:
    ledger = Counting()
    wanted = [
        Wanted(subject=f"label:{n}", kind=LABEL, value="a", expected_version=0) for n in range(50)
    ]
    standing = Standing(ledger).read()
    ledger.append_decisions(wanted, batch=uuid4(), kind=LABEL, author="x")
    standing.read()
    assert ledger.read == 50
    for _ in range(5):
        standing.read()
    assert ledger.read == 50


def test_an_act_whose_decision_is_late_is_waited_for() -> None:
    """An act is listed before its decision is made; a reading in between must not miss it."""
    ledger = Counting()
    standing = Standing(ledger).read()
    ledger.append_decision("label:1", LABEL, "a", author="x", expected_version=0)
    (hidden,) = ledger.decisions_.pop("label:1")
    assert standing.read().of(LABEL) == {}
    ledger.decisions_["label:1"] = [hidden]
    assert standing.read().of(LABEL) == {"label:1": hidden}


def test_a_token_is_of_its_kinds_alone_and_tells_versions_apart() -> None:
    ledger = MemoryLedger()
    standing = Standing(ledger).read()
    before = standing.token(MERGE), standing.token(LABEL, MERGE)
    ledger.append_decision("label:1", LABEL, "a", author="x", expected_version=0)
    standing.read()
    after = standing.token(MERGE), standing.token(LABEL, MERGE)
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)
    ledger.append_decision("label:1", LABEL, "", author="x", expected_version=1)
    assert standing.read().of(LABEL) == {}
    assert standing.token(LABEL, MERGE) not in {before[1], after[1]}


def test_a_moment_stays_as_it_was_and_knows_versions_of_what_was_taken_back() -> None:
    ledger = MemoryLedger()
    ledger.append_decision("label:1", LABEL, "a", author="x", expected_version=0)
    ledger.append_decision("label:1", LABEL, "", author="x", expected_version=1)
    ledger.append_decision("cluster:1", RENAME, "b", author="x", expected_version=0)
    standing = Standing(ledger).read()
    before, token = standing.moment(LABEL), standing.token(LABEL)
    ledger.append_decision("label:2", LABEL, "c", author="x", expected_version=0)
    standing.read()
    assert (before.of(LABEL), before.of(RENAME), before.token(LABEL)) == ({}, {}, token)
    assert before.versions(LABEL, RENAME) == {"label:1": 2}
    now = standing.moment(LABEL)
    assert {s: d.value for s, d in now.of(LABEL).items()} == {"label:2": "c"}
    assert now.token(LABEL) == standing.token(LABEL) != token


def test_a_reading_may_be_as_old_as_it_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = MemoryLedger()
    standing = Standing(ledger).read()
    ledger.append_decision("cluster:1", RENAME, "a", author="x", expected_version=0)
    assert standing.read(max_age_s=60).of(RENAME) == {}
    assert len(standing.read().of(RENAME)) == 1
    assert timedelta(minutes=1) <= OVERLAP <= timedelta(minutes=10)


def test_labels_are_those_in_force() -> None:
    ledger = MemoryLedger()
    one, two, three = uuid4(), uuid4(), uuid4()
    for image, values in ((one, ["a", "b"]), (two, ["a", ""]), (three, ["c"])):
        for version, value in enumerate(values):
            ledger.append_decision(
                f"label:{image}", LABEL, value, author="x", expected_version=version
            )
    ledger.append_decision(f"image:{one}", "verdict", "fine", author="x", expected_version=0)
    assert labels(ledger) == {one: "b", three: "c"}
    assert labels(MemoryLedger()) == {}
