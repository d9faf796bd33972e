"""Classifiers, concepts and suggestions in memory; `tests/cql` tests the real ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from cql.errors import ConflictError, NotFoundError
from cql.records import Concept, Suggestion
from tests.ledger import now
from tests.predicted import MemoryPredicted


@dataclass
class MemoryTaught(MemoryPredicted):
    """With the rules of `cql.taught.Taught`."""

    concepts_: dict[str, list[Concept]] = field(default_factory=dict)
    suggestions_: dict[tuple[UUID, str], Suggestion] = field(default_factory=dict)
    read_to_: dict[tuple[str, int], datetime] = field(default_factory=dict)
    pointers_: dict[str, UUID] = field(default_factory=dict)

    def set_live(self, name: str, version: UUID, *, expected: UUID | None) -> None:
        if self.pointers_.get(name) != expected:
            raise ConflictError(f"the live {name} moved")
        self.pointers_[name] = version

    def append_concept(self, concept: Concept) -> Concept:
        stored = replace(concept, created_at=now())
        history = self.concepts_.setdefault(stored.name, [])
        if len(history) != stored.version - 1:
            raise ConflictError(f"concept {stored.name!r} was expected at another version")
        history.append(stored)
        return stored

    def concept(self, name: str) -> Concept:
        if not self.concepts_.get(name):
            raise NotFoundError(f"no concept is called {name!r}: see the list of concepts")
        return self.concepts_[name][-1]

    def concept_since(self, name: str) -> datetime:
        since = None
        for version in reversed(self.concepts_[name]):
            if not version.positives:
                break
            since = version.created_at
        assert since is not None
        return since

    def concepts(self) -> list[Concept]:
        newest = [self.concepts_[name][-1] for name in sorted(self.concepts_)]
        return [each for each in newest if each.positives]

    def concept_read_to(self, name: str, version: int) -> datetime | None:
        return self.read_to_.get((name, version))

    def set_concept_read_to(self, name: str, version: int, read_to: datetime) -> None:
        self.read_to_[name, version] = read_to

    def put_suggestions(self, suggestions: Iterable[Suggestion]) -> int:
        fresh = 0
        for each in suggestions:
            known = self.suggestions_.get((each.image_id, each.name))
            if known is None or known.version < each.version:
                self.suggestions_[each.image_id, each.name] = each
                fresh += 1
        return fresh

    def suggestions(self, image_id: UUID) -> list[Suggestion]:
        found = [each for (image, _), each in self.suggestions_.items() if image == image_id]
        return sorted(found, key=lambda each: each.name)

    def suggested(self, name: str, *, limit: int) -> list[Suggestion]:
        found = [each for (_, own), each in self.suggestions_.items() if own == name]
        return sorted(found, key=lambda each: each.at, reverse=True)[:limit]
