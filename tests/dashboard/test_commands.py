"""What the commands compute, over stores in memory: no service starts."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from cql.errors import InputError, NotFoundError
from cql.records import Feature, Listing, image_id_of
from cql.settings import Settings
from dashboard import cli, commands
from dashboard.pipeline import Step
from extraction.models import describe
from tests.dashboard import memory

DIM = 12


@dataclass
class FeatureStore:
    """Listings and the features of several models, in the order that they were put."""

    found: dict[str, Listing] = field(default_factory=dict)
    features: dict[tuple[str, str], list[Feature]] = field(default_factory=dict)

    def put(
        self, listing_id: str, model_id: str, vectors: NDArray[np.float32], **labels: str
    ) -> None:
        self.found[listing_id] = Listing(listing_id=listing_id, attributes=labels)
        rows = self.features.setdefault((listing_id, model_id), [])
        for number, vector in enumerate(vectors):
            data = vector.astype("<f4").tobytes()
            rows.append(
                Feature(
                    listing_id=listing_id,
                    model_id=model_id,
                    image_id=image_id_of(listing_id, str(number)),
                    vector=data,
                    dim=DIM,
                    crc32c=zlib.crc32(data),
                )
            )

    def iter_listings(self) -> Iterator[Listing]:
        return iter(self.found.values())

    def features_of(self, listing_id: str, model_id: str) -> list[Feature]:
        return self.features.get((listing_id, model_id), [])


def naive(vectors: NDArray[np.float32], labels: list[str], k: int) -> float:
    """Leave-one-out accuracy, image by image: most votes, then the nearest voter."""
    right = 0
    for row, vector in enumerate(vectors):
        scored = []
        for other, candidate in enumerate(vectors):
            if other != row:
                products = vector.astype(np.float64) * candidate.astype(np.float64)
                scored.append((-np.float32(products.sum()), other))
        voters = [labels[other] for _, other in sorted(scored)[:k]]
        votes = Counter(voters)
        winner = max(votes, key=lambda label: (votes[label], -voters.index(label)))
        right += winner == labels[row]
    return right / len(vectors)


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> tuple[NDArray[np.float32], list[str]]:
    """Noisy classes under the default model; a listing without a label, and another model."""
    rng = np.random.default_rng(11)
    model_id = describe("sightline-small", Settings()).model_id
    store = FeatureStore()
    centres = rng.normal(size=(4, DIM))
    vectors: list[NDArray[np.float32]] = []
    labels: list[str] = []
    for number in range(30):
        group = number % 4
        given = (centres[group] + 1.3 * rng.normal(size=(1 + number % 3, DIM))).astype(np.float32)
        given /= np.linalg.norm(given, axis=1, keepdims=True)
        store.put(f"listing-{number}", model_id, given, fine=f"class {group}")
        store.put(f"listing-{number}", "another@model", -given, fine=f"class {group}")
        vectors.extend(given)
        labels += [f"class {group}"] * len(given)
    unlabelled = np.eye(1, DIM, dtype=np.float32)
    store.put("without", model_id, unlabelled, coarse="x")

    @contextlib.contextmanager
    def opened(_settings: Settings) -> Iterator[FeatureStore]:
        yield store

    monkeypatch.setattr(commands, "_store", opened)
    return np.stack(vectors), labels


@pytest.mark.parametrize("k", [1, 5, 200])
def test_evaluate_equals_a_naive_computation(
    evaluated: tuple[NDArray[np.float32], list[str]],
    k: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    vectors, labels = evaluated
    with pytest.raises(SystemExit) as ended:
        cli.main(["evaluate", "fine", "-k", str(k), "--json"])
    assert not ended.value.code
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["labels"]) == (len(labels), 4)
    assert found[f"{k}-NN accuracy"] == naive(vectors, labels, k)
    assert found["precision@1"] == naive(vectors, labels, 1)
    # A figure of 0 or 1 would agree by accident.
    assert 0.1 < found["precision@1"] < 0.95


def test_evaluate_names_the_attributes_that_there_are(
    evaluated: tuple[NDArray[np.float32], list[str]],
) -> None:
    assert len(evaluated[1]) > 0
    with pytest.raises(NotFoundError, match=r"'colour' \(attributes: coarse, fine\)"):
        commands.evaluate(Settings(), "colour", k=5)


@pytest.mark.parametrize("what", ["image", "listing"])
def test_delete_takes_out_what_was_named_and_nothing_else(
    what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, _ = memory.collection(3, photos=2)
    image = store.images_of("listing-001")[0].image_id
    name = str(image) if what == "image" else "listing-001"

    @contextlib.contextmanager
    def opened(_settings: Settings) -> Iterator[memory.MemoryStore]:
        yield store

    monkeypatch.setattr(commands, "_store", opened)
    worked: list[Step] = []

    def work(_settings: Settings, steps: list[Step]) -> list[object]:
        worked.extend(steps)
        return []

    monkeypatch.setattr(commands, "work", work)
    for code in (0, 1):  # the second time it is not there
        with pytest.raises(SystemExit) as ended:
            cli.main(["delete", f"--{what}", name, "--yes", "--json"])
        assert (ended.value.code or 0) == code
        out, err = capsys.readouterr()
        if code:
            assert name in err
        else:
            assert json.loads(out) == {"deleted": what, "id": name, "jobs": []}
            assert [step.kind for step in worked] == ["snapshot", "analyse"]
    left = {listing: len(store.images_of(listing)) for listing in store.listings_}
    assert left == (
        {"listing-000": 2, "listing-001": 1, "listing-002": 2}
        if what == "image"
        else {"listing-000": 2, "listing-002": 2}
    )


def test_delete_refuses_what_is_no_image_id_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(commands, "_store")
    with pytest.raises(InputError, match="must be an image id"):
        commands.delete(Settings(), image="photo.jpg", listing=None)


@pytest.mark.parametrize("around", [False, True])
def test_status_says_what_was_placed_around_landmarks(
    around: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    version = {
        "rows": 90, "rows_scored": 90, "clusters": 3, "model_id": "m", "placed": 2,
        "quality": {"landmarks": 40.0, "placed": 50.0} if around else {},
    }  # fmt: skip
    collection = {"files_ready": 90, "files_failed": 0, "state": "ready", "map": version}
    commands.show_status(
        {"data_dir": "d", "collection": collection, "health": {"checks": ()}, "jobs": ()}
    )
    said = " ".join(capsys.readouterr().out.split())
    assert "90 of 90 images and 2 placed since, 3 clusters, model m" in said
    assert ("50 placed around 40 landmarks" in said) == around
