"""Classes of all images: what the classifier says, whom to ask next, training it again."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Mapping
from uuid import UUID

import numpy as np

from analytics.decisions.decided import LABEL, PREFIXES
from analytics.identity import unpacked
from analytics.jobs import submit
from analytics.learning import ranking
from analytics.learning.linear import K_MAX, Ranked, Want, confidence
from analytics.learning.probe import measures_of
from analytics.learning.training import KIND_CLASSIFY, known, linear_of
from analytics.search import Searcher
from cql.errors import InputError, NotFoundError
from cql.records import Classifier, Suggestion
from cql.store import Store
from cql.taught import CLASSIFIER_LIVE
from dashboard import ledger, present
from dashboard.atlas import Atlas
from dashboard.counts import Counts
from dashboard.learned import (
    BinView,
    ClassesView,
    ClassView,
    GuessPage,
    GuessView,
    PredictionView,
    ShareView,
    SuggestedView,
    TrainedView,
)
from dashboard.views import JobView

_SPARE = 50
"""Rows asked for beyond the page: some may be of images that were deleted a moment ago."""


class Classes:
    """Keeps the live classifier's row, which never changes. Thread-safe."""

    def __init__(self, store: Store, searcher: Searcher, atlas: Atlas) -> None:
        self._store, self._searcher, self._atlas = store, searcher, atlas
        self._counts = Counts(store, searcher)
        self._lock = threading.Lock()
        self._kept: Classifier | None = None

    def classes(self) -> ClassesView:
        """Every class with its counts and figures, and whether a training would help.

        Predicted images are counted as they are now; where nothing can count them, those of the
        training stand.
        """
        standing = self._atlas.standing.read().moment(LABEL)
        labelled = Counter(decision.value for decision in standing.of(LABEL).values())
        live = self._live()
        figures = measures_of(json.loads(live.measures)) if live is not None else None
        usable = live is not None and self._fits(live)
        counted = self._counts.of(live) if live is not None and usable else None
        predicted: Mapping[str, int] = {}
        if live is not None:
            trained = dict(zip(live.classes, live.counts, strict=True))
            predicted = counted.images if counted is not None else trained
        held = {each.name: each for each in figures.classes} if figures is not None else {}
        names = sorted({*labelled, *predicted}, key=lambda n: (-predicted.get(n, 0), n))
        found = tuple(
            ClassView(
                name=name,
                labelled=labelled[name],
                predicted=predicted.get(name, 0),
                held_out=held[name].held_out if name in held else 0,
                recall=held[name].recall if name in held else None,
                precision=held[name].precision if name in held else None,
            )
            for name in names
        )
        return ClassesView(
            classes=found,
            labelled=labelled.total(),
            trained=trained_view(live) if live is not None else None,
            stale=live is not None and live.label_version != standing.token(LABEL),
            usable=usable,
            counted_at=counted.counted_at if counted is not None else None,
        )

    def train(self, *, seed: int = 1) -> JobView:
        """Queue the job that trains on the labels in force."""
        return present.job_view(submit(self._store, KIND_CLASSIFY, {"seed": seed}))

    def guesses(self, name: str = "", *, limit: int = 60, offset: int = 0) -> GuessPage:
        """Images ranked over all rows: the least sure first, or the surest of class `name` first.

        Labelled images are left out of the least sure: nobody needs to look at them again.
        NotFoundError before a training and for an unknown class, UnavailableError without hosts.
        """
        live = self._ready()
        if limit < 1 or offset < 0 or limit + offset > K_MAX:
            raise InputError(
                f"a page lies within the first {K_MAX:,} rows, got {offset} and {limit} more"
            )
        if name and name not in live.classes:
            raise NotFoundError(f"no class is called {name[:80]!r}: train again")
        k = min(K_MAX, offset + limit + _SPARE)
        held = self._atlas.standing.read().of(LABEL)
        if name:
            want = Want(k=k, of=live.classes.index(name))
        else:
            labelled = (UUID(subject.removeprefix(PREFIXES[LABEL])) for subject in held)
            want = Want(k=k, without=frozenset(each.bytes for each in labelled))
        answer = ranking.rank(self._searcher, linear_of(live), want)
        ranked = answer.found.best if name else answer.found.unsure
        page, more = self._guesses(live, ranked, offset, limit)
        total = int(answer.found.counts[live.classes.index(name)]) if name else answer.found.rows
        return GuessPage(
            name=name,
            rows=answer.found.rows,
            ranked=total,
            offset=offset,
            next_offset=offset + limit if more else None,
            guesses=page,
            followed_at=answer.followed_at,
        )

    def prediction(self, image_id: UUID) -> PredictionView:
        """What the classifier and the concepts say of one image, new ones included.

        NotFoundError for an unknown image; without a feature, or a training, there are no classes.
        """
        self._store.image(image_id)
        shares: tuple[ShareView, ...] = ()
        live = self._live()
        if live is not None:
            found = known(self._store, [image_id], live.model_id, live.dim)
            if found.images:
                scores = linear_of(live).scores(found.vectors)[0]
                raised = np.exp(scores - scores.max())
                order = np.argsort(-raised, kind="stable").tolist()
                total = float(raised.sum())
                shares = tuple(
                    ShareView(name=live.classes[at], confidence=float(raised[at]) / total)
                    for at in order
                )
        return PredictionView(
            image_id=image_id,
            classes=shares,
            suggested=tuple(suggested_view(each) for each in self._standing(image_id)),
        )

    def _standing(self, image_id: UUID) -> list[Suggestion]:
        """Suggestions of concepts that still are as they were when they made them."""
        kept = []
        for each in self._store.suggestions(image_id):
            concept = self._store.concept(each.name)
            if concept.positives and concept.version == each.version:
                kept.append(each)
        return kept

    def _guesses(
        self, live: Classifier, ranked: Ranked, offset: int, limit: int
    ) -> tuple[tuple[GuessView, ...], bool]:
        images = unpacked(ranked.images)
        owners = self._store.owners(images[offset:])
        there = [at for at in range(len(images)) if at < offset or images[at] in owners]
        page = there[offset : offset + limit]
        labels = ledger.labels_of(self._store, [images[at] for at in page])
        titles = self._store.titles_of(owners[images[at]] for at in page)
        shares = confidence(ranked.sureties)
        made = []
        for at in page:
            listing_id = owners[images[at]]
            label = labels[images[at]]
            made.append(
                GuessView(
                    image_id=images[at],
                    listing_id=listing_id,
                    title=titles.get(listing_id, ""),
                    predicted=live.classes[int(ranked.classes[at])],
                    confidence=float(shares[at]),
                    label=label.label,
                    version=label.version,
                )
            )
        return tuple(made), len(there) > offset + limit and offset + limit < K_MAX

    def _live(self) -> Classifier | None:
        version = self._store.live(CLASSIFIER_LIVE)
        if version is None:
            return None
        with self._lock:
            kept = self._kept
        if kept is None or kept.classifier_id != version:
            kept = self._store.classifier(version)
            with self._lock:
                self._kept = kept
        return kept

    def _ready(self) -> Classifier:
        live = self._live()
        if live is None:
            raise NotFoundError("no classifier is trained yet: label images, then train one")
        if not self._fits(live):
            raise NotFoundError(
                f"the classifier is of model {live.model_id}, the collection has another one now: "
                "train again"
            )
        return live

    def _fits(self, live: Classifier) -> bool:
        snapshot = self._store.live("snapshot")
        return snapshot is not None and self._store.snapshot(snapshot).model_id == live.model_id


def trained_view(live: Classifier) -> TrainedView:
    """A stored classifier with its figures."""
    figures = measures_of(json.loads(live.measures))
    return TrainedView(
        classifier_id=live.classifier_id,
        model_id=live.model_id,
        snapshot_id=live.snapshot_id,
        created_at=live.created_at,
        seed=live.seed,
        labels=figures.labels,
        listings=figures.listings,
        held_out=figures.held_out,
        folds=figures.folds,
        accuracy=figures.accuracy,
        balanced=figures.balanced,
        guess=figures.guess,
        ece_before=figures.ece_before,
        ece=figures.ece,
        penalty=live.penalty,
        temperature=live.temperature,
        bins=tuple(
            BinView(rows=each.rows, confidence=each.confidence, accuracy=each.accuracy)
            for each in figures.bins
        ),
    )


def suggested_view(suggestion: Suggestion) -> SuggestedView:
    """A stored suggestion."""
    return SuggestedView(
        image_id=suggestion.image_id,
        listing_id=suggestion.listing_id,
        name=suggestion.name,
        version=suggestion.version,
        margin=suggestion.margin,
        at=suggestion.at,
    )
