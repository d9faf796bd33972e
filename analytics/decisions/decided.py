"""Analysts' decisions: their subjects, and what is in force of them.

The ledger (`cql.work`) is append-only; the newest decision of a subject counts. An empty value
takes a decision back: no name, no verdict, no label, not merged, not split.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol
from uuid import UUID

from cql.records import Decision

RENAME, VERDICT, LABEL, MERGE, SPLIT = "rename", "verdict", "label", "merge", "split"
UNDO = "undo"

PREFIXES = {
    RENAME: "cluster:",
    VERDICT: "image:",
    LABEL: "label:",
    MERGE: "merge:",
    SPLIT: "split:",
    "duplicates": "duplicates:",
}
"""What the subject of each kind of decision begins with; after it comes an id."""

PREDICTED, CONFIDENCE = "predicted", "confidence"
DECIDED = {"cluster", "label", PREDICTED, CONFIDENCE}
"""Columns of a map that decisions change, or what is learned from them."""


class Ledger(Protocol):
    """The part of `cql.store.Store` that reads decisions."""

    def standing(self) -> Iterable[Decision]:
        """The newest decision of every subject."""
        ...


def subject_of(kind: str, key: object) -> str:
    """The ledger's subject of a decision of this kind about `key`."""
    return f"{PREFIXES[kind]}{key}"


def kind_of(subject: str) -> str:
    """Which kind of decision a subject has; "" for none that is known."""
    head = subject.partition(":")[0] + ":"
    return next((kind for kind, prefix in PREFIXES.items() if prefix == head), "")


def labels(store: Ledger) -> dict[UUID, str]:
    """Labels in force, by image id, over the whole ledger. Images without a label are left out."""
    return {UUID(key): value for key, value in _values(store, LABEL)}


def verdicts(store: Ledger) -> dict[UUID, str]:
    """Verdicts in force (`outlier` or `fine`), by image id, over the whole ledger."""
    return {UUID(key): value for key, value in _values(store, VERDICT)}


def _values(store: Ledger, kind: str) -> Iterator[tuple[str, str]]:
    prefix = PREFIXES[kind]
    for decision in store.standing():
        if decision.subject.startswith(prefix) and decision.value:
            yield decision.subject.removeprefix(prefix), decision.value
