"""What was learned from labels and clicks, as pages show it and the API serialises it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassView:
    """A class: images labelled and predicted over all rows, held-out figures (or None)."""

    name: str
    labelled: int
    predicted: int
    held_out: int = 0
    recall: float | None = None
    precision: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BinView:
    """Held-out rows of a band of confidence."""

    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedView:
    """A trained classifier with its held-out figures (`analytics.learning.probe.Measures`)."""

    classifier_id: UUID
    model_id: str
    snapshot_id: UUID
    created_at: datetime
    seed: int
    labels: int
    listings: int
    held_out: int
    folds: int
    accuracy: float | None
    balanced: float | None
    guess: float | None
    ece_before: float | None
    ece: float | None
    penalty: float
    temperature: float
    bins: tuple[BinView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassesView:
    """Classes by labelled and predicted images. `stale`: labels changed since the training.

    `trained` is None before the first one; `usable`: it fits the live snapshot's model. Changes up
    to `counted_at` are in the numbers of predicted images; None: they are those of the training.
    """

    classes: tuple[ClassView, ...]
    labelled: int
    trained: TrainedView | None
    stale: bool
    usable: bool
    counted_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuessView:
    """An image, the class that it is given and how sure that is, and the label it has now.

    `version` of the label is what a change expects. Where a concept proposes the label, its
    `margin` stands in place of a confidence.
    """

    image_id: UUID
    listing_id: str
    title: str
    predicted: str
    confidence: float | None
    label: str
    version: int
    margin: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuessPage:
    """A page of images ranked over all `rows`, of the class `name` ("": least sure of all).

    Of a concept's proposals `name` is the concept, and `rows` counts the images that it proposed.
    """

    name: str
    rows: int
    ranked: int
    offset: int
    next_offset: int | None
    guesses: tuple[GuessView, ...]
    followed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareView:
    """A class and the share of confidence that an image gives it."""

    name: str
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SuggestedView:
    """A label that a concept proposes for an image that came after it."""

    image_id: UUID
    listing_id: str
    name: str
    version: int
    margin: float
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionView:
    """What was learned says of an image: `classes` by confidence, none before a training."""

    image_id: UUID
    classes: tuple[ShareView, ...]
    suggested: tuple[SuggestedView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginView:
    """An image and its margin: above 0 it has the concept."""

    image_id: UUID
    listing_id: str
    title: str
    margin: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaughtView:
    """The whole collection ranked by a concept: the best images and those it is unsure of.

    `taken` of all `rows` have a margin of at least `threshold`, at which held-out examples have
    `precision` and `recall`.
    """

    positives: tuple[UUID, ...]
    negatives: tuple[UUID, ...]
    sampled: int
    best: tuple[MarginView, ...]
    unsure: tuple[MarginView, ...]
    rows: int
    taken: int
    threshold: float
    precision: float
    recall: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptView:
    """A saved concept, its examples and the margin from which on it labels new images."""

    name: str
    version: int
    model_id: str
    positives: tuple[UUID, ...]
    negatives: tuple[UUID, ...]
    threshold: float
    precision: float
    recall: float
    sampled: int
    seed: int
    author: str
    created_at: datetime
