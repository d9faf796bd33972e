"""The committed weights: what their description pins, and the quality it states."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from analytics import retrieval
from cql.errors import InputError, IntegrityError
from cql.settings import Settings
from extraction import models, network, train
from extraction.split import Split

DESCRIPTION = train.WEIGHTS / "sightline-small.json"


def described() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(DESCRIPTION.read_text(encoding="utf-8"))
    return content


def test_description_pins_the_file() -> None:
    content = described()
    weights = DESCRIPTION.with_suffix(".safetensors").read_bytes()
    assert content["name"] == "sightline-small"
    assert content["sha256"] == hashlib.sha256(weights).hexdigest()
    assert len(weights) <= train.MAX_BYTES
    assert content["input_size"] % 32 == 0
    assert content["trained_with"]["split"]["file"] == "grocery.json"
    assert content["trained_with"]["parameters"]["epochs"] >= 1
    # No machine's path, whoever trained it.
    assert "/" not in content["trained_with"]["teacher"]["file"]


def test_split_has_not_changed_since_training() -> None:
    from extraction.split import GROCERY

    expected = hashlib.sha256(GROCERY.read_bytes()).hexdigest()
    assert described()["trained_with"]["split"]["sha256"] == expected


def test_weights_load_and_embed() -> None:
    embedder = models.load("sightline-small", Settings(), device="cpu")
    colours = [(250, 10, 10), (10, 200, 30), (90, 90, 90)]
    pictures = [Image.new("RGB", (300 + 40 * n, 260), colour) for n, colour in enumerate(colours)]
    vectors = embedder.embed(pictures)
    assert vectors.shape == (3, described()["dim"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    assert (vectors @ vectors.T)[~np.eye(3, dtype=bool)].max() < 0.999
    np.testing.assert_array_equal(vectors, embedder.embed(pictures))


def test_weights_are_finite_and_complete() -> None:
    student, content = network.load(DESCRIPTION)
    assert not student.training
    assert student.head is not None
    assert student.head.out_features == content["dim"]
    for name, value in student.state_dict().items():
        assert torch.isfinite(value).all(), name
        assert value.dtype == torch.float32


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    content = DESCRIPTION.with_suffix(".safetensors").read_bytes()
    changed = bytearray(content)
    changed[-1] ^= 1
    copy = tmp_path / DESCRIPTION.name
    copy.write_bytes(DESCRIPTION.read_bytes())
    copy.with_suffix(".safetensors").write_bytes(changed)
    with pytest.raises(IntegrityError, match="must have sha256"):
        network.load(copy)


@pytest.mark.parametrize("change", [{"architecture": "other"}, {"dim": 7}])
def test_another_architecture_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    copy = tmp_path / DESCRIPTION.name
    copy.write_text(json.dumps(described() | change), encoding="utf-8")
    with pytest.raises(InputError, match="mobilenet-v2-slim"):
        network.load(copy)


@pytest.mark.slow
@pytest.mark.shared
def test_quality_on_held_out_classes_is_as_stated(shared_data: Path) -> None:
    """All photos of the held-out third, through the pipeline's own door."""
    stated = described()["trained_with"]["held_out_figures"]
    settings = Settings()
    embedder = models.load("sightline-small", settings, device="cpu")
    photos = Split.load().photos(shared_data / "grocery", "held_out")
    pictures = [embedder.read(photo.path.read_bytes(), settings) for photo in photos]
    labels = [photo.label for photo in photos]
    figures = retrieval.quality(embedder.embed(pictures), labels).as_dict()
    ours, teacher = stated["sightline-small"], stated["teacher"]
    assert figures["images"] == ours["images"] == teacher["images"]
    for name in ("knn_accuracy", "precision_at_1", "mean_average_precision"):
        assert figures[name] >= ours[name] - 0.01, name
    assert ours["precision_at_1"] >= teacher["precision_at_1"] - 0.02
    assert ours["mean_average_precision"] >= teacher["mean_average_precision"]
