"""Distillation: a tiny run that learns, and the guard that keeps held-out classes out."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cql.errors import InputError
from extraction import network, split, train, views
from extraction.split import Photo, Split


def write_photos(folder: Path, labels: list[int], *, side: int = 40, seed: int = 3) -> Path:
    """A folder like the grocery photos': coloured noise, one picture a label, and train.txt."""
    random = np.random.default_rng(seed)
    lines = []
    for number, label in enumerate(labels):
        tint = random.integers(0, 200, 3)
        pixels = (tint + random.integers(0, 56, (side, side + 6, 3))).astype(np.uint8)
        path = Path("train") / f"class{label}" / f"{number:03d}.png"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / path)
        lines.append(f"{path.as_posix()}, {label}, 0\n")
    (folder / "train.txt").write_text("".join(lines), encoding="utf-8")
    return folder


def write_split(path: Path, train_ids: list[int], held_out: list[int]) -> Path:
    content = {
        "train": [{"id": label, "name": str(label)} for label in train_ids],
        "held_out": [{"id": label, "name": str(label)} for label in held_out],
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_sample(folder: Path) -> Path:
    """Two pictures as the sample has them, and a truth that is no picture list at all."""
    for number in range(2):
        target = folder / "photos" / f"listing{number}" / "00.jpg"
        target.parent.mkdir(parents=True)
        Image.new("RGB", (50, 40), (40 * number, 90, 30)).save(target)
    (folder / "truth").mkdir()
    (folder / "truth" / "truth.csv").write_bytes(b"\xff\xfe never read")
    return folder


def test_committed_split_is_disjoint_and_a_third() -> None:
    content = json.loads(split.GROCERY.read_text(encoding="utf-8"))
    parts = Split.load()
    assert not parts.train & parts.held_out
    assert parts.train | parts.held_out == frozenset(range(81))
    assert len(parts.held_out) == 27
    assert [item["id"] for item in content["held_out"]] == sorted(parts.held_out)


@pytest.mark.shared
def test_committed_split_follows_its_rule(shared_data: Path) -> None:
    content = json.loads(split.GROCERY.read_text(encoding="utf-8"))
    lines = (shared_data / "grocery" / "classes.csv").read_text(encoding="utf-8").splitlines()[1:]
    classes = [line.split(",")[:4] for line in lines]

    def place(row: list[str]) -> tuple[int, str]:
        drawn = hashlib.sha256(f"{content['seed']}:{row[0]}".encode()).hexdigest()
        return int(row[3]), drawn

    ordered = sorted(classes, key=place)
    assert {int(row[1]) for row in ordered[1::3]} == Split.load().held_out
    names = {int(row[1]): row[0] for row in classes}
    for item in content["held_out"] + content["train"]:
        assert names[item["id"]] == item["name"]


@pytest.mark.shared
def test_training_list_is_disjoint_from_held_out_photos(shared_data: Path) -> None:
    parts = Split.load()
    folder = shared_data / "grocery"
    chosen, held_out = parts.photos(folder, "train"), parts.photos(folder, "held_out")
    assert len(chosen) + len(held_out) == 2640
    assert not {photo.label for photo in chosen} & {photo.label for photo in held_out}
    # Not by path, and not by the bytes of a copy either.
    paths = train.training_paths(parts, chosen, held_out=held_out)
    assert len(paths) == len(chosen)
    assert not set(paths) & {photo.path for photo in held_out}


def test_held_out_class_is_refused(tmp_path: Path) -> None:
    parts = Split(train=frozenset({1, 2}), held_out=frozenset({3}))
    seen, unseen = Photo(tmp_path / "a.jpg", 1), Photo(tmp_path / "b.jpg", 3)
    parts.refuse([seen])
    with pytest.raises(InputError, match=r"b\.jpg is of class 3"):
        parts.refuse([seen, unseen])
    with pytest.raises(InputError, match=r"b\.jpg is of class 3"):
        train.training_paths(parts, [seen, unseen], held_out=[])


def test_copy_of_a_held_out_photo_is_refused(tmp_path: Path) -> None:
    original = tmp_path / "held.jpg"
    original.write_bytes(b"the same bytes")
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(b"the same bytes")
    other = tmp_path / "other.jpg"
    other.write_bytes(b"other bytes")
    split.refuse_copies([other], [Photo(original, 3)])
    with pytest.raises(InputError, match=r"copy\.jpg is a copy of held\.jpg"):
        split.refuse_copies([other, copy], [Photo(original, 3)])


def test_class_in_both_parts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\[2\] in both"):
        Split.load(write_split(tmp_path / "split.json", [1, 2], [2, 3]))


def test_unnamed_class_is_refused(tmp_path: Path) -> None:
    folder = write_photos(tmp_path, [1, 9])
    parts = Split(train=frozenset({1}), held_out=frozenset({2}))
    with pytest.raises(InputError, match="class 9"):
        parts.photos(folder, "train")


def test_rendered_reads_pictures_only(tmp_path: Path) -> None:
    found = split.rendered(write_sample(tmp_path))
    assert [path.parent.name for path in found] == ["listing0", "listing1"]
    with pytest.raises(InputError, match="rendered sample"):
        split.rendered(tmp_path / "photos")


@pytest.mark.shared
def test_teacher_equals_torchvision(shared_data: Path) -> None:
    """The folded network is the published one: torchvision's layers, padding as SOURCE.txt says."""
    from safetensors.torch import load_file
    from torch import nn
    from torchvision.models import mobilenet_v2

    path = shared_data / "weights" / "mobilenetv2_100_tf2ptq_fp16.safetensors"
    reference = mobilenet_v2(num_classes=1001)
    reference.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    for module in list(reference.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d) and child.stride == (2, 2):
                child.padding = (0, 0)
                setattr(module, name, nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), child))
    pictures = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(5)) * 2 - 1
    with torch.inference_mode():
        expected = reference.features.eval()(pictures).mean((2, 3))
        ours = network.teacher(path)(pictures)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def lively(expansion: int, *, seed: int) -> network.Network:
    """A network whose random filters let a signal through, unlike PyTorch's default ones."""
    torch.manual_seed(seed)
    made = network.Network(network.shapes(expansion), dim=None).eval()
    for parameter in made.parameters():
        if parameter.ndim == 4:
            torch.nn.init.kaiming_normal_(parameter)
    return made


def test_slim_at_full_width_changes_nothing() -> None:
    source = lively(6, seed=2)
    pictures = torch.rand(4, 3, 64, 64) * 2 - 1
    same = network.slim(source, pictures, expansion=6, dim=8).eval()
    same.head = None
    with torch.inference_mode():
        expected = source(pictures)
        assert expected.std() > 0.1
        torch.testing.assert_close(same(pictures), expected, rtol=1e-2, atol=1e-2)


def test_fitted_projection_beats_a_copied_one() -> None:
    """Least squares may not be worse, on its own pictures, than dropping channels."""
    torch.manual_seed(4)
    wide, narrow = (network.Block(network.Shape(8, 8 * n, 8, 1)) for n in (6, 2))
    x = torch.randn(4, 8, 12, 12)
    with torch.inference_mode():
        network._choose(wide, narrow, x)
        copied = (narrow(x) - wide(x)).square().mean()
        theirs, ours = network._fit(wide, narrow, x, x)
        torch.testing.assert_close(theirs, wide(x))
        torch.testing.assert_close(ours, narrow(x))
        assert (ours - theirs).square().mean() < 0.8 * copied


def test_early_and_late_make_the_whole() -> None:
    student = network.build().eval()
    pictures = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        maps = student.early(pictures)
        assert maps.shape == (2, 64, 4, 4)
        assert student(pictures).shape == (2, network.DIM)
        torch.testing.assert_close(student.late(maps), student(pictures))


def test_settled_maps_end_with_the_mirrored_view() -> None:
    student = network.build().eval()
    pixels = np.random.default_rng(1).integers(0, 256, (2, 3, 64, 64, 3), dtype=np.uint8)
    maps = train.settle(student, pixels)
    assert maps.shape == (3, 3, 64, 4, 4)
    with torch.inference_mode():
        first = student.early(views.tensor(pixels[0]))
        mirrored = student.early(views.tensor(pixels[0, :, :, ::-1]))
    torch.testing.assert_close(maps[0].float(), first, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(maps[2].float(), mirrored, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("side", [63, 64, 65])
def test_same_padding_is_tensorflows(side: int) -> None:
    padded = network.same_padding(torch.ones(1, 1, side, side))
    total = max((-(-side // 2) - 1) * 2 + 3 - side, 0)
    before = total // 2
    assert padded.shape[-1] == side + total
    assert padded[0, 0, before : before + side, before : before + side].sum() == side * side
    assert padded.sum() == side * side


def test_projection_half_whitens() -> None:
    random = np.random.default_rng(4)
    features = random.normal(size=(400, network.TOP)).astype(np.float32)
    features[:, :5] *= np.array([9, 7, 5, 4, 3])
    features += 2.0
    mean, axes = train.projection(features, dim=5)
    moved = (features - mean.numpy()) @ axes.numpy()
    # Divided by the square root of its deviation, an axis keeps the square root of its deviation.
    eigenvalues = np.linalg.eigvalsh(np.cov(features.astype(np.float64).T))[::-1][:5]
    np.testing.assert_allclose(moved.std(axis=0, ddof=1), eigenvalues**0.25, rtol=1e-3)
    np.testing.assert_allclose(np.corrcoef(moved.T), np.eye(5), atol=1e-3)


def test_loss_is_zero_at_the_target_alone() -> None:
    random = torch.Generator().manual_seed(6)
    targets = torch.nn.functional.normalize(torch.randn(5, 8, generator=random))
    assert train.loss(3 * targets, targets).item() == pytest.approx(0.0, abs=1e-6)
    ours, wrong = targets.flip(0), 0.0
    for i in range(5):
        wrong += (1 - float(ours[i] @ targets[i])) / 5
        for j in range(5):
            error = float(ours[i] @ ours[j]) - float(targets[i] @ targets[j])
            wrong += train.RELATIONAL_WEIGHT * error**2 / 20
    assert train.loss(ours, targets).item() == pytest.approx(wrong, rel=1e-5)


def test_fit_lowers_the_loss_and_repeats_itself() -> None:
    random = torch.Generator().manual_seed(8)
    maps = torch.rand(2, 6, 64, 4, 4, generator=random)
    targets = torch.nn.functional.normalize(torch.randn(2, 6, 16, generator=random), dim=-1)
    runs, students = [], []
    for _ in range(2):
        student = lively(1, seed=1)
        student.head = torch.nn.Linear(network.TOP, 16)
        before = {name: value.clone() for name, value in student.state_dict().items()}
        runs.append(train.fit(student, maps, targets, epochs=6, batch=6, rate=1e-3, seed=5))
        students.append((before, student.state_dict()))
    assert runs[0] == runs[1]
    assert np.isfinite(runs[0]).all()
    assert runs[0][-1] < runs[0][0]
    before, after = students[0]
    settled = {f"blocks.{number}." for number in range(network.SETTLED)} | {"stem."}
    for name in before:
        same = torch.equal(before[name], after[name])
        assert same == any(name.startswith(prefix) for prefix in settled), name


def test_infinite_loss_stops_training() -> None:
    student = network.Network(network.shapes(1), dim=4)
    maps, targets = torch.zeros(1, 2, 64, 2, 2), torch.full((1, 2, 4), torch.nan)
    with pytest.raises(InputError, match="finite, step 0"):
        train.fit(student, maps, targets, epochs=1, batch=2, rate=1e-3, seed=1)


def test_crops_stay_inside_and_repeat() -> None:
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (30, 20, 3), np.uint8))
    for seed in range(20):
        first, second = (views.crop(picture, np.random.default_rng(seed)) for _ in range(2))
        assert first.tobytes() == second.tobytes()
        assert 1 <= first.width <= 20
        assert 1 <= first.height <= 30
    assert views.crop(Image.new("RGB", (1, 1)), np.random.default_rng(0)).size == (1, 1)
    assert views.square(picture).size == (20, 20)


@pytest.mark.shared
def test_tiny_run_end_to_end(tmp_path: Path, shared_data: Path) -> None:
    """Everything but the amount: real teacher, two views, one epoch, files that load."""
    teacher = shared_data / "weights" / "mobilenetv2_100_tf2ptq_fp16.safetensors"
    folder = write_photos(tmp_path / "photos", [1, 1, 2, 2, 3, 3])
    parts = write_split(tmp_path / "split.json", [1, 2], [3])
    steps: list[tuple[str, int, int]] = []
    report = train.distil(
        teacher=teacher,
        photos=folder,
        sample=write_sample(tmp_path / "sample"),
        out=tmp_path / "out",
        split=parts,
        epochs=1,
        views=2,
        batch=3,
        sample_pictures=1,
        progress=lambda step, done, total, message="": steps.append((step, done, total)),
    )
    assert report.pictures == 5
    assert report.held_out_classes == 1
    assert np.isfinite(report.losses).all()
    assert steps[-1] == ("train", 2, 2)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "sightline-small.json", "sightline-small.safetensors",
    }  # fmt: skip
    description = tmp_path / "out" / "sightline-small.json"
    student, content = network.load(description)
    assert content["sha256"] == report.sha256
    assert content["trained_with"]["pictures"].items() >= {"photos": 4, "sample": 1}.items()
    assert str(tmp_path) not in description.read_text(encoding="utf-8")
    figures = train.evaluate(
        teacher=teacher,
        photos=folder,
        measure=lambda features, labels: {"photos": len(labels), "dim": features.shape[1]},
        description=description,
        split=parts,
    )
    assert figures["sightline-small"].items() >= {"photos": 2, "dim": network.DIM}.items()
    assert figures["teacher"].items() >= {"photos": 2, "dim": network.TOP}.items()
    assert "held_out_figures" in json.loads(description.read_text(encoding="utf-8"))["trained_with"]
    assert student.head is not None


@pytest.mark.shared
def test_sample_with_a_held_out_photo_is_refused(tmp_path: Path, shared_data: Path) -> None:
    folder = write_photos(tmp_path / "photos", [1, 1, 3])
    sample = write_sample(tmp_path / "sample")
    held_out = next((folder / "train" / "class3").iterdir())
    (sample / "photos" / "listing1" / "01.png").write_bytes(held_out.read_bytes())
    with pytest.raises(InputError, match=r"01\.png is a copy of 002\.png"):
        train.distil(
            teacher=shared_data / "weights" / "mobilenetv2_100_tf2ptq_fp16.safetensors",
            photos=folder,
            sample=sample,
            out=tmp_path / "out",
            split=write_split(tmp_path / "split.json", [1, 2], [3]),
        )
