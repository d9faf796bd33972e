"""Training over the collection: the classifier from labels in force, concepts, suggestions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray

from analytics.decisions.decided import LABEL, PREFIXES
from analytics.decisions.standing import Standing
from analytics.identity import packed
from analytics.learning import concept, probe, ranking
from analytics.learning.linear import Linear
from analytics.learning.ranking import Hosts
from cql import codec
from cql.access import now
from cql.errors import ConflictError, InputError
from cql.predicted import Rows
from cql.progress import Progress, silent
from cql.records import Classifier, Concept, Feature, PredictionBatch, Suggestion
from cql.store import Store
from cql.taught import CLASSIFIER_LIVE

KIND_CLASSIFY, KIND_CONCEPTS = "classify", "concepts"
SEED = 1
OVERLAP = timedelta(minutes=2)
"""How far back the change log is read again: clocks differ, and a write takes a moment."""
_BLOCK = 256


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Images that have a feature: ids, the listing of each, float32 (N, D) of unit norm."""

    images: list[UUID]
    listings: list[str]
    vectors: NDArray[np.float32]


def known(store: Store, images: Iterable[UUID], model_id: str, dim: int) -> Known:
    """Read features of images; those that are gone, or have none of the model, are left out."""
    wanted = list(dict.fromkeys(images))
    owners = store.owners(wanted)
    there = [image for image in wanted if image in owners]
    found = store.features_at([(owners[image], model_id, image) for image in there])
    held = [
        (image, feature)
        for image, feature in zip(there, found, strict=True)
        if feature is not None and feature.dim == dim
    ]
    return Known(
        [image for image, _ in held],
        [owners[image] for image, _ in held],
        _decoded([feature for _, feature in held], dim),
    )


def linear_of(learned: Classifier | Concept) -> Linear:
    """The stored weights as what scores."""
    units = np.frombuffer(learned.weights, "<f4").astype(np.float32).reshape(-1, learned.dim)
    if isinstance(learned, Classifier):
        return Linear(units, np.array(learned.norms), np.array(learned.biases))
    return Linear(units, np.array([learned.norm]), np.array([learned.bias]))


# The classifier


def classify(
    store: Store, hosts: Hosts, *, seed: int = SEED, progress: Progress = silent
) -> Classifier:
    """Train on the labels in force, score every image, store it and make it the one that counts.

    InputError for labels that cannot be trained on, UnavailableError without hosts, ConflictError
    where another training ended first.
    """
    expected = store.live(CLASSIFIER_LIVE)
    standing = Standing(store).read()
    held, version = standing.of(LABEL), standing.token(LABEL)
    labels = {UUID(s.removeprefix(PREFIXES[LABEL])): d.value for s, d in held.items()}
    snapshot = hosts.snapshot()
    progress("read", 0, len(labels))
    found = known(store, sorted(labels), snapshot.model_id, snapshot.dim)
    if not found.images:
        raise InputError(
            f"classes are learned from labelled images that have features, {len(labels):,} have "
            "labels and none of them a feature: label some images"
        )
    progress("read", len(labels), len(labels), f"{len(found.images):,} labelled images")
    made = probe.train(
        found.vectors,
        [labels[image] for image in found.images],
        found.listings,
        seed=seed,
        step=lambda done, total: progress("train", done, total),
    )
    progress("score", 0, snapshot.rows)
    began = now()
    scored, every = ranking.classify(hosts, made.linear)
    rows = len(every.images)
    progress("score", rows, rows)
    stored = Classifier(
        classifier_id=uuid4(),
        model_id=scored.model_id,
        snapshot_id=scored.snapshot_id,
        classes=made.classes,
        counts=tuple(np.bincount(every.classes, minlength=len(made.classes)).tolist()),
        weights=made.linear.units.astype("<f4").tobytes(),
        norms=tuple(made.linear.norms.tolist()),
        biases=tuple(made.linear.biases.tolist()),
        dim=snapshot.dim,
        penalty=made.penalty,
        temperature=made.temperature,
        seed=seed,
        labels=len(found.images),
        label_version=version,
        measures=json.dumps(asdict(made.measures), sort_keys=True),
        created_at=now(),
    )
    store.put_classifier(stored)
    _append(store, stored.classifier_id, 1, (every.images, every.classes, every.sureties), began)
    try:
        store.set_live(CLASSIFIER_LIVE, stored.classifier_id, expected=expected)
    except ConflictError:
        store.delete_predictions(stored.classifier_id)
        raise
    if expected is not None:
        store.delete_predictions(expected)
    return stored


def predict(store: Store, model_id: str) -> int:
    """Let the classifier that counts judge images that came after its training; returns how many.

    The change log says which listings have new features. Every image of those is judged: what is
    said of an image twice is the same.
    """
    version = store.live(CLASSIFIER_LIVE)
    batches = [] if version is None else store.prediction_batches(version)
    if version is None or not batches:
        return 0
    made = store.classifier(version)
    if made.model_id != model_id:
        return 0
    began, linear = now(), linear_of(made)
    images: list[UUID] = []
    classes, sureties = [np.empty(0, np.int32)], [np.empty(0, np.float32)]
    for name in _arrived(store, batches[-1].read_to - OVERLAP, began + OVERLAP):
        found = [each for each in store.features_of(name, model_id) if each.dim == made.dim]
        if found:
            given, sure = linear.decide(_decoded(found, made.dim))
            images += [each.image_id for each in found]
            classes.append(given)
            sureties.append(sure)
    rows = (packed(images), np.concatenate(classes).astype(np.uint16), np.concatenate(sureties))
    # A batch of no images, too: the log is not read from so far back again.
    _append(store, version, batches[-1].number + 1, rows, began)
    return len(images)


def _append(store: Store, classifier_id: UUID, number: int, rows: Rows, read_to: datetime) -> None:
    batch = PredictionBatch(
        classifier_id=classifier_id,
        number=number,
        batch_id=uuid4(),
        rows=len(rows[0]),
        read_to=read_to,
    )
    store.append_predictions(batch, rows)


def _arrived(store: Store, since: datetime, until: datetime) -> list[str]:
    """Listings with new features, by the change log."""
    changes = store.changes(since, until)
    return list(dict.fromkeys(each.listing_id for each in changes if each.kind == "feature_added"))


# Concepts


@dataclass(frozen=True, slots=True, eq=False)
class Taught:
    """A ranker with what it was taught with; examples without a feature are left out of it."""

    ranker: concept.Ranker
    snapshot_id: UUID
    model_id: str
    positives: list[UUID]
    negatives: list[UUID]


class Teacher:
    """Fits concepts. It keeps the sample of one snapshot and seed, so that a click costs a fit."""

    def __init__(self, store: Store, hosts: Hosts) -> None:
        self._store, self._hosts = store, hosts
        self._drawn: tuple[tuple[UUID, int], NDArray[np.float32]] | None = None

    def teach(
        self, positives: Sequence[UUID], negatives: Sequence[UUID], *, seed: int = SEED
    ) -> Taught:
        """Fit on examples. InputError where none has a feature, or one is on both sides."""
        both = set(positives) & set(negatives)
        if both:
            raise InputError(f"an image is for or against, {min(both)} is both: mark it again")
        snapshot = self._hosts.snapshot()
        drawn = self._sample(snapshot.snapshot_id, seed)
        yes, no = (
            known(self._store, images, snapshot.model_id, snapshot.dim)
            for images in (positives, negatives)
        )
        if not yes.images:
            raise InputError(
                f"a concept needs an image that has it, of {len(positives)} none has a feature: "
                "choose others"
            )
        ranker = concept.teach(
            yes.vectors, no.vectors, drawn, groups=[*yes.listings, *no.listings], seed=seed
        )
        return Taught(ranker, snapshot.snapshot_id, snapshot.model_id, yes.images, no.images)

    def _sample(self, snapshot_id: UUID, seed: int) -> NDArray[np.float32]:
        kept = self._drawn
        if kept is not None and kept[0] == (snapshot_id, seed):
            return kept[1]
        snapshot, drawn = ranking.sample(self._hosts, concept.SAMPLE, seed=seed)
        self._drawn = (snapshot.snapshot_id, seed), drawn
        return drawn


def concept_of(taught: Taught, name: str, version: int, *, author: str) -> Concept:
    """What is stored of a concept."""
    ranker = taught.ranker
    return Concept(
        name=name,
        version=version,
        model_id=taught.model_id,
        snapshot_id=taught.snapshot_id,
        positives=tuple(taught.positives),
        negatives=tuple(taught.negatives),
        weights=ranker.linear.units.astype("<f4").tobytes(),
        norm=float(ranker.linear.norms[0]),
        bias=float(ranker.linear.biases[0]),
        dim=ranker.linear.units.shape[1],
        threshold=ranker.threshold,
        precision=ranker.precision,
        recall=ranker.recall,
        sampled=ranker.sampled,
        seed=ranker.seed,
        author=author,
        created_at=now(),
    )


def judge(store: Store, model_id: str, *, progress: Progress = silent) -> None:
    """Let the classifier and the concepts judge what came after them."""
    predict(store, model_id)
    suggest(store, model_id, progress=progress)


def suggest(store: Store, model_id: str, *, progress: Progress = silent) -> int:
    """Score images that came after a concept was saved, and store the labels that they deserve.

    The change log says which listings have new features; each version of a concept reads it once,
    from the time on at which the concept was first saved. Images added after that time are new.
    Returns how many labels are new. They are suggestions: the ledger of decisions is not touched.
    """
    concepts = [each for each in store.concepts() if each.model_id == model_id]
    total = 0
    for done, each in enumerate(concepts):
        progress(KIND_CONCEPTS, done, len(concepts))
        began = now()
        first = store.concept_since(each.name)
        since = store.concept_read_to(each.name, each.version) or first
        names = _arrived(store, since - OVERLAP, began + OVERLAP)
        found = list(_fresh(store, each, names, first))
        total += store.put_suggestions(found)
        # What was logged while this ran is read again: a label is stored once.
        store.set_concept_read_to(each.name, each.version, began)
    progress(KIND_CONCEPTS, len(concepts), len(concepts), f"{total:,} new labels suggested")
    return total


def _fresh(
    store: Store, made: Concept, names: Sequence[str], first: datetime
) -> Iterator[Suggestion]:
    linear, examples = linear_of(made), {*made.positives, *made.negatives}
    for start in range(0, len(names), _BLOCK):
        features: list[Feature] = []
        for name in names[start : start + _BLOCK]:
            new = {
                image.image_id
                for image in store.images_of(name)
                if image.added_at is not None and image.added_at >= first
            } - examples
            if new:
                features += [
                    each
                    for each in store.features_of(name, made.model_id)
                    if each.image_id in new and each.dim == made.dim
                ]
        margins = linear.scores(_decoded(features, made.dim))[:, 0]
        for feature, margin in zip(features, margins.tolist(), strict=True):
            if margin >= made.threshold:
                yield Suggestion(
                    image_id=feature.image_id,
                    listing_id=feature.listing_id,
                    name=made.name,
                    version=made.version,
                    margin=margin,
                    at=now(),
                )


def _decoded(features: Sequence[Feature], dim: int) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = codec.decode(
        [each.vector for each in features], [each.crc32c for each in features], dim=dim
    )
    return vectors
