"""The probe on planted classes: what it finds, what it holds out, how sure it says it is."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics.learning import probe
from cql.errors import InputError
from tests.analytics.learning.test_linear import unit

DIM = 16


def planted(
    rows: int, *, noise: float, seed: int = 1
) -> tuple[NDArray[np.float32], list[str], list[str]]:
    """Three classes in three directions; two photos a listing, which are nearly the same."""
    rng = np.random.default_rng(seed)
    centres = unit(3, DIM, seed)
    own = np.repeat(rng.integers(0, 3, rows // 2), 2)
    scene = np.repeat(noise * rng.normal(size=(rows // 2, DIM)), 2, axis=0)
    vectors = centres[own] + scene + 0.01 * rng.normal(size=(rows, DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = ["gas", "joint", "pipe"]
    return (
        vectors.astype(np.float32),
        [names[n] for n in own],
        [f"l{n // 2:04d}" for n in range(rows)],
    )


def test_planted_classes_are_found_and_figures_are_of_held_out_rows() -> None:
    vectors, labels, listings = planted(240, noise=0.1)
    steps: list[tuple[int, int]] = []
    made = probe.train(vectors, labels, listings, step=lambda *each: steps.append(each))
    assert made.classes == ("gas", "joint", "pipe")
    fresh, wanted, _ = planted(240, noise=0.1, seed=1)
    given = made.linear.decide(fresh)[0]
    assert np.mean([made.classes[n] == each for n, each in zip(given, wanted, strict=True)]) > 0.95
    figures = made.measures
    assert figures.accuracy is not None
    assert figures.accuracy > 0.95
    assert (figures.labels, figures.listings, figures.held_out) == (240, 120, 240)
    assert sum(each.right for each in figures.classes) == round(figures.accuracy * 240)
    assert sum(each.images for each in figures.classes) == 240
    assert steps[-1] == (21, 21)
    again = probe.train(vectors, labels, listings)
    assert (again.linear.units == made.linear.units).all(), "the same seed, the same probe"
    assert probe.measures_of(json.loads(json.dumps(dataclasses.asdict(figures)))) == figures


def test_no_listing_is_on_both_sides_of_the_split() -> None:
    """Labels that only the listing tells: photos of one on both sides would give them away."""
    rng = np.random.default_rng(5)
    scenes = unit(80, 128, 5)
    vectors = np.repeat(scenes, 3, axis=0) + 0.01 * rng.normal(size=(240, 128))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    labels = np.repeat(rng.choice(["a", "b"], 80), 3).tolist()
    listings = [f"l{n // 3}" for n in range(240)]
    classes = np.array([label == "b" for label in labels], np.int64)
    folds = probe.deal(listings, classes, 5, seed=1)
    for name in set(listings):
        assert len({int(f) for f, own in zip(folds, listings, strict=True) if own == name}) == 1
    assert set(folds.tolist()) == set(range(5))
    honest = probe.train(vectors, labels, listings).measures.accuracy
    leaking = probe.train(vectors, labels, [str(n) for n in range(240)]).measures.accuracy
    assert honest is not None
    assert leaking is not None
    assert honest < 0.7
    assert leaking > 0.95


def test_a_temperature_brings_confidence_down_to_what_is_right() -> None:
    """Scores that are ten times too large: the error of calibration falls with the temperature."""
    rng = np.random.default_rng(2)
    true = rng.normal(size=(4_000, 3)) * 1.5
    shares = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
    classes = np.array([rng.choice(3, p=row) for row in shares])
    scores = 10 * true
    half = slice(0, 2_000)
    temperature = probe.temperature_of(scores[half], classes[half])
    assert temperature == pytest.approx(10, rel=0.1)
    test, right = scores[2_000:], scores[2_000:].argmax(axis=1) == classes[2_000:]
    before, _ = probe.calibration(probe._shares(test, 1.0).max(axis=1), right)
    after, bins = probe.calibration(probe._shares(test, temperature).max(axis=1), right)
    assert before > 0.2
    assert after < 0.04
    assert sum(each.rows for each in bins) == 2_000


def test_calibration_of_noisy_labels_is_better_with_the_temperature() -> None:
    vectors, labels, listings = planted(400, noise=0.28, seed=7)
    rng = np.random.default_rng(3)
    for row in range(0, 400, 2):
        if rng.random() < 0.25:
            labels[row] = labels[row + 1] = str(rng.choice(["gas", "joint", "pipe"]))
    figures = probe.train(vectors, labels, listings).measures
    assert figures.ece is not None
    assert figures.ece_before is not None
    assert figures.ece <= figures.ece_before + 0.01
    assert figures.ece < 0.12


def test_the_error_of_calibration_against_a_loop() -> None:
    rng = np.random.default_rng(8)
    shares, right = rng.random(200), rng.random(200) < 0.5
    total = 0.0
    for low in range(10):
        own = [n for n, s in enumerate(shares) if low / 10 <= s < (low + 1) / 10]
        if own:
            gap = sum(shares[n] for n in own) / len(own) - sum(right[n] for n in own) / len(own)
            total += len(own) / 200 * abs(gap)
    assert probe.calibration(shares, right)[0] == pytest.approx(total)
    assert probe.calibration(np.empty(0), np.empty(0, bool)) == (0.0, ())


def test_a_class_with_one_image_is_trained_and_not_measured() -> None:
    vectors, labels, listings = planted(60, noise=0.1)
    labels[0] = labels[1] = "rare"
    made = probe.train(vectors, labels, listings)
    rare = next(each for each in made.measures.classes if each.name == "rare")
    assert (rare.images, rare.listings, rare.held_out, rare.recall) == (2, 1, 0, None)
    assert made.measures.held_out == 58
    given = made.linear.decide(vectors[:2])[0]
    assert [made.classes[n] for n in given] == ["rare", "rare"]


def test_two_images_are_enough_to_train_and_too_few_to_measure() -> None:
    made = probe.train(unit(2, DIM), ["a", "b"], ["l1", "l2"])
    assert (made.measures.accuracy, made.measures.ece, made.temperature) == (None, None, 1.0)
    assert made.measures.held_out == 0
    assert made.linear.decide(unit(2, DIM))[0].tolist() == [0, 1]


def test_images_of_one_listing_alone_hold_nothing_out() -> None:
    vectors = unit(6, DIM)
    made = probe.train(vectors, ["a", "b"] * 3, ["l"] * 6)
    assert made.measures.accuracy is None


def test_identical_images_of_two_classes_are_as_unsure_as_they_are() -> None:
    vectors = np.repeat(unit(1, DIM), 20, axis=0)
    made = probe.train(vectors, ["a", "b"] * 10, [f"l{n}" for n in range(20)])
    _, sureties = made.linear.decide(vectors[:1])
    assert abs(float(sureties[0])) < 0.2


def test_what_cannot_be_trained_on_is_refused() -> None:
    vectors = unit(4, DIM)
    with pytest.raises(InputError, match="only 'a'"):
        probe.train(vectors, ["a"] * 4, list("wxyz"))
    with pytest.raises(InputError):
        probe.train(vectors[:0], [], [])
    with pytest.raises(InputError):
        probe.train(vectors, ["a", "b"], list("wxyz"))
    vectors[2, 1] = np.nan
    with pytest.raises(InputError):
        probe.train(vectors, ["a", "b", "a", "b"], list("wxyz"))
