"""A linear probe: from labelled features to a class and a calibrated confidence for every image.

Multinomial logistic regression on unit features (scikit-learn's `LogisticRegression`, classes
balanced). Listings, never images, are dealt into folds, so that no photo of a listing is on both
sides of the split. The penalty C is the one of the least held-out log loss; every figure below is
of held-out rows alone. Scores are divided by a temperature (Guo et al., On Calibration of Modern
Neural Networks, ICML 2017); the calibration error reported is of temperatures that were fitted
without the fold they are judged on. C is chosen on the same folds: with few labels the accuracy is
a little too good by that choice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analytics.learning.linear import Linear
from cql import codec
from cql.errors import InputError

FOLDS = 5
PENALTIES = (1.0, 10.0, 100.0, 1000.0)
"""Values of C: features of unit norm ask for large ones."""
BINS = 10
CLASSES_MAX = 200
_TEMPERATURES = (0.02, 50.0)

Step = Callable[[int, int], None]
"""Told how many of how many fits are done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFigures:
    """One class: labelled images and listings, held-out rows of it and how many were right.

    `predicted` held-out rows were given the class. A class whose listings cannot be on both sides
    of a split has no held-out rows.
    """

    name: str
    images: int
    listings: int
    held_out: int
    right: int
    predicted: int

    @property
    def recall(self) -> float | None:
        """Share of its held-out rows that were found."""
        return self.right / self.held_out if self.held_out else None

    @property
    def precision(self) -> float | None:
        """Share of right rows among those held out that were given it."""
        return self.right / self.predicted if self.predicted else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Held-out rows of a band of confidence: how many, their mean confidence, how many right."""

    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """Held-out figures; `accuracy` and what follows are None where nothing could be held out.

    `ece_before` and `ece`: expected calibration error (Naeini et al., AAAI 2015; ten bins of equal
    width) without and with the temperature; `bins` are with it. `guess`: accuracy of always
    saying the most frequent class, on the same rows.
    """

    labels: int
    listings: int
    held_out: int
    folds: int
    accuracy: float | None
    balanced: float | None
    guess: float | None
    ece_before: float | None
    ece: float | None
    classes: tuple[ClassFigures, ...]
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probe:
    """A trained probe: scores of `linear` are divided by the temperature already."""

    classes: tuple[str, ...]
    linear: Linear
    penalty: float
    temperature: float
    seed: int
    measures: Measures


def train(
    vectors: NDArray[np.float32],
    labels: Sequence[str],
    listings: Sequence[str],
    *,
    seed: int = 1,
    step: Step = lambda _done, _total: None,
) -> Probe:
    """Train on float32 (N, D) of unit norm, a label and a listing each.

    InputError for NaN, fewer than two classes, or more than 200.
    """
    names, classes = _checked(vectors, labels, listings)
    folds = deal(listings, classes, FOLDS, seed=seed)
    held = _evaluable(classes, folds)
    tests = [n for n in range(int(folds.max()) + 1) if (held & (folds == n)).any()]
    total, done = len(PENALTIES) * len(tests) + 1, 0
    best: tuple[float, float, NDArray[np.float64]] | None = None
    for penalty in PENALTIES if tests else ():
        scores = np.full((len(classes), len(names)), -np.inf)
        for number in tests:
            test = folds == number
            scores[test] = _fitted_scores(
                vectors, classes, test, penalty=penalty, count=len(names), seed=seed
            )
            done += 1
            step(done, total)
        loss = _log_loss(scores[held], classes[held], 1.0)
        if best is None or loss < best[0]:
            best = (loss, penalty, scores)
    penalty = best[1] if best else PENALTIES[1]
    temperature = temperature_of(best[2][held], classes[held]) if best else 1.0
    weights, biases = _fit(vectors, classes, penalty, len(names), seed)
    step(total, total)
    return Probe(
        classes=names,
        linear=Linear.of(weights, biases).scaled(temperature),
        penalty=penalty,
        temperature=temperature,
        seed=seed,
        measures=_measures(
            names,
            classes,
            listings,
            folds=folds,
            held=held,
            scores=best[2] if best else None,
            tests=len(tests),
        ),
    )


def deal(
    listings: Sequence[str], classes: NDArray[np.int64], count: int, *, seed: int
) -> NDArray[np.int64]:
    """Fold of each row, int64 (N,): a listing lies in one fold, classes in as many as they can.

    Listings come in a seeded order, those of rare classes first; each goes to the fold that has
    the fewest listings of its (most frequent) class, of equal ones the smallest.
    """
    own: dict[str, list[int]] = {}
    for row, name in enumerate(listings):
        own.setdefault(name, []).append(row)
    main = {
        name: Counter(classes[rows].tolist()).most_common(1)[0][0] for name, rows in own.items()
    }
    names = sorted(own)
    order = [names[at] for at in np.random.default_rng(seed).permutation(len(names))]
    size = Counter(main.values())
    order.sort(key=lambda name: size[main[name]])
    count = min(count, len(names))
    held: dict[int, Counter[int]] = {}
    rows_in = [0] * count
    folds = np.zeros(len(classes), np.int64)
    for name in order:
        mine = held.setdefault(main[name], Counter())
        fold = min(range(count), key=lambda n: (mine[n], rows_in[n], n))
        mine[fold] += 1
        rows_in[fold] += len(own[name])
        folds[own[name]] = fold
    return folds


def temperature_of(scores: NDArray[np.float64], classes: NDArray[np.int64]) -> float:
    """The temperature of the least log loss of scores (N, C), from 0.02 to 50."""
    from scipy.optimize import minimize_scalar

    low, high = np.log(_TEMPERATURES)
    found = minimize_scalar(
        lambda t: _log_loss(scores, classes, float(np.exp(t))), bounds=(low, high), method="bounded"
    )
    return float(np.exp(found.x))


def calibration(
    confidences: NDArray[np.float64], right: NDArray[np.bool_], bins: int = BINS
) -> tuple[float, tuple[Bin, ...]]:
    """Expected calibration error, and the bins of equal width that have rows."""
    at = np.minimum((confidences * bins).astype(np.int64), bins - 1)
    made = []
    for number in range(bins):
        own = at == number
        if own.any():
            made.append(
                Bin(
                    rows=int(own.sum()),
                    confidence=float(confidences[own].mean()),
                    accuracy=float(right[own].mean()),
                )
            )
    error = sum(each.rows * abs(each.confidence - each.accuracy) for each in made)
    return error / max(1, len(confidences)), tuple(made)


def _checked(
    vectors: NDArray[np.float32], labels: Sequence[str], listings: Sequence[str]
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    if not len(vectors) == len(labels) == len(listings):
        raise InputError(
            f"every vector needs a label and a listing, got {len(vectors)}, {len(labels)} and "
            f"{len(listings)}"
        )
    names = tuple(sorted(set(labels)))
    if not 2 <= len(names) <= CLASSES_MAX:
        seen = f"only {names[0]!r}" if len(names) == 1 else f"{len(names)}"
        raise InputError(
            f"2 to {CLASSES_MAX} classes can be told apart, labels name {seen}: label images of "
            "another class"
        )
    codec.check(np.asarray(vectors))
    number = {name: at for at, name in enumerate(names)}
    return names, np.array([number[each] for each in labels], np.int64)


def _evaluable(classes: NDArray[np.int64], folds: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Rows whose class is also in another fold, where that fold's rest has two classes."""
    held = np.zeros(len(classes), bool)
    for number in range(int(folds.max()) + 1):
        test = folds == number
        rest = np.unique(classes[~test])
        if len(rest) >= 2:
            held |= test & np.isin(classes, rest)
    return held


def _fitted_scores(
    vectors: NDArray[np.float32],
    classes: NDArray[np.int64],
    test: NDArray[np.bool_],
    *,
    penalty: float,
    count: int,
    seed: int,
) -> NDArray[np.float64]:
    weights, biases = _fit(vectors[~test], classes[~test], penalty, count, seed)
    return np.asarray(vectors[test].astype(np.float64) @ weights.T + biases)


def _fit(
    vectors: NDArray[np.float32], classes: NDArray[np.int64], penalty: float, count: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (C, D) and biases (C,); a class that is not among the rows has a bias of -inf."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(
        C=penalty, class_weight="balanced", max_iter=2_000, random_state=seed
    ).fit(vectors.astype(np.float64), classes)
    weights = np.zeros((count, vectors.shape[1]))
    biases = np.full(count, -np.inf)
    there: NDArray[np.int64] = fitted.classes_
    if len(there) == 2:  # one score for two classes: its sign tells them apart
        biases[there[0]] = 0.0
        there, rows, free = there[1:], fitted.coef_, fitted.intercept_
    else:
        rows, free = fitted.coef_, fitted.intercept_
    weights[there], biases[there] = rows, free
    return weights, biases


def _shares(scores: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    wide = scores / temperature
    raised = np.exp(wide - wide.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _log_loss(scores: NDArray[np.float64], classes: NDArray[np.int64], temperature: float) -> float:
    own = _shares(scores, temperature)[np.arange(len(classes)), classes]
    return float(-np.log(np.maximum(own, 1e-300)).mean())


def _measures(
    names: tuple[str, ...],
    classes: NDArray[np.int64],
    listings: Sequence[str],
    *,
    folds: NDArray[np.int64],
    held: NDArray[np.bool_],
    scores: NDArray[np.float64] | None,
    tests: int,
) -> Measures:
    mine, given = classes[held], np.empty(0, np.int64)
    before = after = guess = balanced = accuracy = None
    bins: tuple[Bin, ...] = ()
    if scores is not None:
        kept, own_folds = scores[held], folds[held]
        given = kept.argmax(axis=1)
        right = given == mine
        accuracy = float(right.mean())
        guess = float((mine == np.bincount(classes).argmax()).mean())
        balanced = float(np.mean([right[mine == c].mean() for c in np.unique(mine)]))
        before, _ = calibration(_shares(kept, 1.0).max(axis=1), right)
        shares = np.empty(len(mine))
        for number in np.unique(own_folds):
            test = own_folds == number
            others = kept[~test], mine[~test]
            one = temperature_of(*others) if len(others[1]) else 1.0
            shares[test] = _shares(kept[test], one).max(axis=1)
        after, bins = calibration(shares, right)
    figures = _by_class(names, classes, listings, mine, given)
    return Measures(
        labels=len(classes),
        listings=len(set(listings)),
        held_out=int(held.sum()),
        folds=tests,
        accuracy=accuracy,
        balanced=balanced,
        guess=guess,
        ece_before=before,
        ece=after,
        classes=figures,
        bins=bins,
    )


def _by_class(
    names: tuple[str, ...],
    classes: NDArray[np.int64],
    listings: Sequence[str],
    mine: NDArray[np.int64],
    given: NDArray[np.int64],
) -> tuple[ClassFigures, ...]:
    owners = np.array(listings, object)
    return tuple(
        ClassFigures(
            name=name,
            images=int((classes == at).sum()),
            listings=len(set(owners[classes == at])),
            held_out=int((mine == at).sum()),
            right=int(((mine == at) & (given == at)).sum()) if len(given) else 0,
            predicted=int((given == at).sum()),
        )
        for at, name in enumerate(names)
    )


def measures_of(value: Mapping[str, Any]) -> Measures:
    """Read figures back from the JSON that `dataclasses.asdict` of them became."""
    classes = tuple(ClassFigures(**each) for each in value["classes"])
    bins = tuple(Bin(**each) for each in value["bins"])
    return Measures(**{**value, "classes": classes, "bins": bins})
