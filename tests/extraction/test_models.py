import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cql.errors import InputError, IntegrityError
from cql.settings import Settings
from extraction import models
from extraction.models import Embedder
from tests.extraction.pictures import gradient

SETTINGS = Settings(cores=1, batch_size=4)
PICTURES = [gradient(40 + 11 * n, 60 - 3 * n, seed=n) for n in range(9)]


@pytest.fixture(scope="module")
def small() -> Embedder:
    return models.load("sightline-small", SETTINGS, device="cpu", threads=1)


def test_the_embedded_default_loads_offline_and_is_described_without_torch(small: Embedder) -> None:
    assert small.model == models.describe("sightline-small", SETTINGS)
    assert small.device == "cpu"
    content = json.loads((models.WEIGHTS / "sightline-small.json").read_text())
    weights = (models.WEIGHTS / "sightline-small.safetensors").read_bytes()
    assert small.model.weights_sha256 == hashlib.sha256(weights).hexdigest() == content["sha256"]
    name, digest = small.model.model_id.split("@")
    assert name == "sightline-small"
    assert digest.startswith(small.model.weights_sha256[:12] + "-")


def test_features_are_unit_float32_and_deterministic(small: Embedder) -> None:
    vectors = small.embed(PICTURES)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(PICTURES), small.model.dim)
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(vectors, small.embed(PICTURES))
    assert len(np.unique(vectors, axis=0)) == len(PICTURES)


def test_a_row_does_not_depend_on_its_batch(small: Embedder) -> None:
    together = small.embed(PICTURES)
    alone = np.concatenate([small.embed([picture]) for picture in PICTURES])
    shuffled = small.embed(PICTURES[::-1])[::-1]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together, shuffled, atol=1e-5)


def test_features_equal_a_naive_single_image_pass(small: Embedder) -> None:
    from extraction import network

    module, content = network.load(models.WEIGHTS / "sightline-small.json")
    mean, std = (torch.tensor(content[key]).reshape(3, 1, 1) for key in ("mean", "std"))
    for picture, found in zip(PICTURES, small.embed(PICTURES), strict=True):
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        cut = picture.crop((left, top, left + side, top + side))
        pixels = np.array(cut.resize((content["input_size"],) * 2, 3))
        tensor = (torch.from_numpy(pixels).permute(2, 0, 1).float() / 255 - mean) / std
        with torch.inference_mode():
            expected = torch.nn.functional.normalize(module(tensor[None]))[0].numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_no_pictures_give_no_rows(small: Embedder) -> None:
    assert small.embed([]).shape == (0, small.model.dim)


def test_a_picture_without_direction_is_an_error(small: Embedder) -> None:
    class Zero(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(x), 384)

    still = Embedder(small.model, small.transform, Zero(), device="cpu", batch=4)
    assert np.isnan(still.forward(np.zeros((2, 192, 192, 3), np.uint8))).all()
    with pytest.raises(InputError, match="picture 0"):
        still.embed(PICTURES[:2])


def test_changed_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix in (".json", ".safetensors"):
        data = bytearray((models.WEIGHTS / f"sightline-small{suffix}").read_bytes())
        if suffix == ".safetensors":
            data[-1] ^= 1
        (tmp_path / f"sightline-small{suffix}").write_bytes(data)
    monkeypatch.setattr(models, "WEIGHTS", tmp_path)
    with pytest.raises(IntegrityError, match="sha256"):
        models.load("sightline-small", SETTINGS)


@pytest.mark.parametrize(
    "name", ["", "resnet", "timm:", "file:", "file:x.safetensors", "file:x.pt:resnet18", "http://x"]
)
def test_a_name_of_no_known_form_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="a model is"):
        models.describe(name, SETTINGS)


def test_weights_that_are_not_there_are_named() -> None:
    with pytest.raises(InputError, match="nowhere"):
        models.describe("file:/nowhere.safetensors:torchvision/mobilenet_v2_tf", SETTINGS)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "evil.safetensors"
    torch.save({"x": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="safetensors"):
        models.load(f"file:{path}:torchvision/mobilenet_v2_tf", SETTINGS)


@pytest.mark.slow
def test_a_timm_architecture_from_a_file(tmp_path: Path) -> None:
    import timm
    from timm.data.config import resolve_data_config
    from timm.data.transforms_factory import create_transform

    torch.manual_seed(1)
    reference = timm.create_model("mobilenetv3_small_050", pretrained=False).eval()
    path = tmp_path / "mine.safetensors"
    save_file({k: v.contiguous() for k, v in reference.state_dict().items()}, path)
    name = f"file:{path}:mobilenetv3_small_050"
    embedder = models.load(name, SETTINGS, device="cpu", threads=1)
    assert embedder.model.model_id.startswith("mine@")
    assert embedder.model.dim == reference.num_features
    config = resolve_data_config({}, model=reference)
    transform = create_transform(**config)
    reference.reset_classifier(0)
    for picture, found in zip(PICTURES, embedder.embed(PICTURES), strict=True):
        with torch.inference_mode():
            out = reference(transform(picture)[None])
        expected = torch.nn.functional.normalize(out)[0].numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4)
    save_file({"wrong": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="must hold weights of this architecture"):
        models.load(name, SETTINGS)
    with pytest.raises(InputError, match="knows no architecture"):
        models.load(f"file:{path}:mobilenetv9", SETTINGS)


@pytest.mark.slow
@pytest.mark.shared
def test_the_teacher_equals_torchvision_with_same_padding(shared_data: Path) -> None:
    from safetensors.torch import load_file
    from torch import nn
    from torchvision.models import mobilenet_v2

    path = shared_data / "weights" / "mobilenetv2_100_tf2ptq_fp16.safetensors"
    reference = mobilenet_v2(num_classes=1001).eval()
    reference.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    for module in list(reference.modules()):
        for child_name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d) and child.stride == (2, 2):
                child.padding = (0, 0)
                setattr(module, child_name, nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), child))
    name = f"file:{path}:torchvision/mobilenet_v2_tf"
    embedder = models.load(name, SETTINGS, device="cpu", threads=1)
    assert embedder.model == models.describe(name, SETTINGS)
    assert embedder.model.dim == 1280
    for picture, found in zip(PICTURES[:3], embedder.embed(PICTURES[:3]), strict=True):
        pixels = torch.from_numpy(embedder.transform.pixels(picture).copy()).permute(2, 0, 1)
        with torch.inference_mode():
            features = reference.features(pixels[None].float() / 127.5 - 1).mean((2, 3))
        expected = nn.functional.normalize(features)[0].numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)
