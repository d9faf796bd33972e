"""Teach by click: rank the whole collection by examples, save it as a concept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from analytics.identity import unpacked
from analytics.learning import ranking
from analytics.learning.linear import Ranked, Want
from analytics.learning.training import SEED, Teacher, concept_of
from analytics.search import Searcher
from cql.errors import InputError, NotFoundError
from cql.records import Concept
from cql.store import Store
from cql.taught import NAME_LIMIT
from dashboard import ledger
from dashboard.classes import suggested_view
from dashboard.learned import (
    ConceptView,
    GuessPage,
    GuessView,
    MarginView,
    SuggestedView,
    TaughtView,
)

SHOWN_MAX = 200
"""Most images of each of the two lists."""
PROPOSED_MAX = 5_000
"""Most proposals of a concept that are read, the newest."""
_SPARE = 24


class Teaching:
    """Ranks and keeps concepts. Thread-safe: what it keeps is swapped whole."""

    def __init__(self, store: Store, searcher: Searcher) -> None:
        self._store, self._searcher = store, searcher
        self._teacher = Teacher(store, searcher)

    def rank(
        self,
        positives: Sequence[UUID],
        negatives: Sequence[UUID] = (),
        *,
        limit: int = 60,
        seed: int = SEED,
    ) -> TaughtView:
        """Fit on the examples and rank every image: the best, and those near the border.

        Examples are in neither list. InputError, UnavailableError without hosts.
        """
        if not 1 <= limit <= SHOWN_MAX:
            raise InputError(f"a list has 1 to {SHOWN_MAX} images, got {limit}: ask for fewer")
        began = time.monotonic()
        taught = self._teacher.teach(positives, negatives, seed=seed)
        ranker = taught.ranker
        without = frozenset(each.bytes for each in (*positives, *negatives))
        want = Want(k=limit + _SPARE, of=0, without=without, threshold=ranker.threshold)
        found = ranking.rank(self._searcher, ranker.linear, want).found
        return TaughtView(
            positives=tuple(taught.positives),
            negatives=tuple(taught.negatives),
            sampled=ranker.sampled,
            best=self._margins(found.best, limit),
            unsure=self._margins(found.unsure, limit),
            rows=found.rows,
            taken=int(found.counts[0]),
            threshold=ranker.threshold,
            precision=ranker.precision,
            recall=ranker.recall,
            seconds=time.monotonic() - began,
        )

    def save(
        self,
        name: str,
        positives: Sequence[UUID],
        negatives: Sequence[UUID] = (),
        *,
        author: str,
        expected_version: int | None = None,
        seed: int = SEED,
    ) -> ConceptView:
        """Save a concept, or a new version of it: images that arrive from now on are labelled.

        `expected_version`: that the caller saw (0: no such concept; None: whatever is there).
        ConflictError when somebody saved it meanwhile.
        """
        name = clean(name)
        taught = self._teacher.teach(positives, negatives, seed=seed)
        known = self._version(name) if expected_version is None else expected_version
        made = concept_of(taught, name, known + 1, author=author)
        return concept_view(self._store.append_concept(made))

    def remove(self, name: str, *, author: str, expected_version: int) -> None:
        """Take a concept back: it labels nothing any more. NotFoundError, ConflictError."""
        found = self._found(name)
        self._store.append_concept(
            replace(
                found,
                version=expected_version + 1,
                positives=(),
                negatives=(),
                author=author,
                created_at=datetime.now(UTC),
            )
        )

    def concepts(self) -> tuple[ConceptView, ...]:
        """Saved concepts, by name."""
        return tuple(concept_view(each) for each in self._store.concepts())

    def concept(self, name: str) -> ConceptView:
        """A saved concept. NotFoundError."""
        return concept_view(self._found(name))

    def suggested(self, name: str, *, limit: int = 60) -> tuple[SuggestedView, ...]:
        """Images that the concept's version in force labelled, newest first. NotFoundError."""
        found = self._found(name)
        lines = self._store.suggested(name, limit=limit)
        there = self._store.owners(each.image_id for each in lines)
        return tuple(
            suggested_view(each)
            for each in lines
            if each.version == found.version and each.image_id in there
        )

    def proposals(self, name: str, *, limit: int = 60, offset: int = 0) -> GuessPage:
        """Images that a concept labelled, newest first, with the label that each has now.

        To be confirmed: nothing of them is a decision. NotFoundError.
        """
        every = self.suggested(name, limit=PROPOSED_MAX)
        page = every[offset : offset + limit]
        titles = self._store.titles_of(each.listing_id for each in page)
        labels = ledger.labels_of(self._store, [each.image_id for each in page])
        guesses = []
        for each in page:
            label = labels[each.image_id]
            guesses.append(
                GuessView(
                    image_id=each.image_id,
                    listing_id=each.listing_id,
                    title=titles.get(each.listing_id, ""),
                    predicted=name,
                    confidence=None,
                    label=label.label,
                    version=label.version,
                    margin=each.margin,
                )
            )
        end = offset + len(page)
        return GuessPage(
            name=name,
            rows=len(every),
            ranked=len(every),
            offset=offset,
            next_offset=end if end < len(every) else None,
            guesses=tuple(guesses),
            followed_at=None,
        )

    def _found(self, name: str) -> Concept:
        found = self._store.concept(name)
        if not found.positives:
            raise NotFoundError(f"the concept {name[:80]!r} was taken back: save it again")
        return found

    def _version(self, name: str) -> int:
        try:
            return self._store.concept(name).version
        except NotFoundError:
            return 0

    def _margins(self, ranked: Ranked, limit: int) -> tuple[MarginView, ...]:
        images = unpacked(ranked.images)
        owners = self._store.owners(images)
        kept = [at for at, image in enumerate(images) if image in owners][:limit]
        titles = self._store.titles_of(owners[images[at]] for at in kept)
        made = []
        for at in kept:
            listing_id = owners[images[at]]
            made.append(
                MarginView(
                    image_id=images[at],
                    listing_id=listing_id,
                    title=titles.get(listing_id, ""),
                    margin=float(ranked.sureties[at]),
                )
            )
        return tuple(made)


def clean(name: str) -> str:
    """A concept's name as it is stored: one line of 1 to 80 characters. InputError."""
    text = ledger.one_line(name)
    if not 1 <= len(text) <= NAME_LIMIT:
        raise InputError(
            f"a concept's name has 1 to {NAME_LIMIT} characters, got {len(text)}: type another"
        )
    return text


def concept_view(found: Concept) -> ConceptView:
    """A stored concept, without its weights."""
    return ConceptView(
        name=found.name,
        version=found.version,
        model_id=found.model_id,
        positives=found.positives,
        negatives=found.negatives,
        threshold=found.threshold,
        precision=found.precision,
        recall=found.recall,
        sampled=found.sampled,
        seed=found.seed,
        author=found.author,
        created_at=found.created_at,
    )
