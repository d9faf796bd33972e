"""What was learned from labels and clicks: classifiers, concepts and the labels they propose."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from cql import statements as cql
from cql.access import Access, conflict, now, record, utc, values_of
from cql.errors import InputError, NotFoundError
from cql.records import Classifier, Concept, Suggestion

NAME_LIMIT = 80
"""Characters of a concept's name, as of a label."""
SUGGESTION_DAYS = 400
"""How far back lists of suggestions go."""
CLASSIFIER_LIVE = "classifier"
"""The live pointer of the classifier that counts."""


class Taught:
    """The part of the store about classifiers and concepts."""

    _access: Access

    # Classifiers

    def put_classifier(self, classifier: Classifier) -> None:
        """Write a classifier; `set_live` of `CLASSIFIER_LIVE` makes it the one that counts."""
        wide = (len(classifier.counts), len(classifier.norms), len(classifier.biases))
        if set(wide) != {len(classifier.classes)} or len(classifier.weights) != (
            4 * classifier.dim * len(classifier.classes)
        ):
            raise InputError(
                f"a classifier of {len(classifier.classes)} classes and D={classifier.dim} needs "
                f"as many counts, norms, biases and rows of weights, got {wide} and "
                f"{len(classifier.weights)} bytes"
            )
        lists = {name: list(getattr(classifier, name)) for name in _LISTS}
        self._access.run(
            cql.PUT_CLASSIFIER, *values_of(classifier, cql.CLASSIFIER_COLUMNS, **lists)
        )

    def classifier(self, classifier_id: UUID) -> Classifier:
        """One classifier. NotFoundError."""
        row = self._access.one(cql.CLASSIFIER, classifier_id)
        if row is None:
            raise NotFoundError(f"no classifier has the id {classifier_id}")
        return record(Classifier, row)

    # Concepts

    def append_concept(self, concept: Concept) -> Concept:
        """Append a version of a concept if the newest one is the version before.

        ConflictError names both versions. Returns it with its time.
        """
        stored = Concept(
            **{
                **{name: getattr(concept, name) for name in cql.CONCEPT_COLUMNS.split()},
                "created_at": now(),
            }
        )
        row = self._access.serial(cql.CONCEPT, stored.name)
        newest = 0 if row is None else int(row.version)
        if newest != stored.version - 1:
            raise conflict(f"concept {stored.name!r}", stored.version - 1, newest)
        lists = {name: list(getattr(stored, name)) for name in ("positives", "negatives")}

        def settled() -> bool:
            own = self._access.serial(cql.CONCEPT_VERSION, stored.name, stored.version)
            return own is not None and record(Concept, own) == stored

        if not self._access.cas(
            cql.ADD_CONCEPT, values_of(stored, cql.CONCEPT_COLUMNS, **lists), settled=settled
        ):
            row = self._access.serial(cql.CONCEPT, stored.name)
            raise conflict(f"concept {stored.name!r}", stored.version - 1, row.version)
        return stored

    def concept(self, name: str) -> Concept:
        """The newest version of a concept, one taken back included. NotFoundError."""
        row = self._access.one(cql.CONCEPT, name)
        if row is None:
            raise NotFoundError(f"no concept is called {name[:80]!r}: see the list of concepts")
        return record(Concept, row)

    def concept_since(self, name: str) -> datetime:
        """When a concept was first saved, or saved again after it was taken back. NotFoundError."""
        since: datetime | None = None
        for row in self._access.each(cql.CONCEPT_VERSIONS, name):  # newest first
            version = record(Concept, row)
            if not version.positives:
                break
            since = version.created_at
        if since is None:
            raise NotFoundError(f"no concept is called {name[:80]!r}: see the list of concepts")
        return since

    def concepts(self) -> list[Concept]:
        """The newest version of every concept that was not taken back, by name."""
        found = [record(Concept, row) for row in self._access.each(cql.CONCEPTS)]
        return sorted((each for each in found if each.positives), key=lambda each: each.name)

    def concept_read_to(self, name: str, version: int) -> datetime | None:
        """Up to when the change log was read for a version of a concept; None: not yet."""
        row = self._access.one(cql.PROGRESS, name, version)
        return None if row is None else utc(row.read_to)

    def set_concept_read_to(self, name: str, version: int, read_to: datetime) -> None:
        """Take note of it."""
        self._access.run(cql.PUT_PROGRESS, name, version, read_to)

    # Suggestions

    def put_suggestions(self, suggestions: Iterable[Suggestion]) -> int:
        """Write labels that concepts propose; returns how many are new.

        An image has one of each concept: that of a later version takes the place of it; the same
        version's is not written again.
        """
        every = list(suggestions)
        found = self._access.many(cql.SUGGESTION, ((e.image_id, e.name) for e in every))
        fresh = [
            each
            for each, rows in zip(every, found, strict=True)
            if not rows or rows[0].version < each.version
        ]
        # The list first: a line too many is left out by its reader, one too few would be lost.
        self._access.write(
            cql.PUT_SUGGESTION_DAY,
            (
                (e.name, _day(e.at), e.at, e.image_id, e.version, e.listing_id, e.margin)
                for e in fresh
            ),
        )
        self._access.write(
            cql.PUT_SUGGESTION, (values_of(each, cql.SUGGESTION_COLUMNS) for each in fresh)
        )
        written = {line_key(each) for each in fresh}
        replaced = (
            line_key(record(Suggestion, rows[0]))
            for each, rows in zip(every, found, strict=True)
            if rows and rows[0].version < each.version
        )
        self._access.write(
            cql.DELETE_SUGGESTION_DAY, (key for key in replaced if key not in written)
        )
        return len(fresh)

    def suggestions(self, image_id: UUID) -> list[Suggestion]:
        """Labels that concepts propose for an image, by name."""
        return [record(Suggestion, row) for row in self._access.each(cql.SUGGESTIONS, image_id)]

    def suggested(self, name: str, *, limit: int, days: int = SUGGESTION_DAYS) -> list[Suggestion]:
        """The newest images that a concept labelled, newest first."""
        kept: list[Suggestion] = []
        day, step = now().date() + timedelta(days=1), 3  # a clock elsewhere may be ahead
        last = day - timedelta(days=days)
        while len(kept) < limit and day > last:
            run = [day - timedelta(days=count) for count in range(min(step, (day - last).days))]
            keys = [(name, int(each.strftime("%Y%m%d"))) for each in run]
            rows = [r for block in self._access.many(cql.SUGGESTIONS_OF_DAY, keys) for r in block]
            lines = [record(Suggestion, row) for row in rows]
            there = self._access.many(cql.SUGGESTION, ((e.image_id, e.name) for e in lines))
            kept += [
                each
                for each, found in zip(lines, there, strict=True)
                if found and record(Suggestion, found[0]) == each
            ]
            day -= timedelta(days=len(run))
            step *= 4
        return kept[:limit]


def line_key(suggestion: Suggestion) -> tuple[str, int, datetime, UUID]:
    """The key of a suggestion in the list of its concept: name, day, moment, image."""
    return suggestion.name, _day(suggestion.at), suggestion.at, suggestion.image_id


_LISTS = ("classes", "counts", "norms", "biases")


def _day(moment: datetime) -> int:
    return int(moment.strftime("%Y%m%d"))
