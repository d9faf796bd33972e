"""Train `sightline-small`: distil the teacher's features into a smaller, faster network.

The student starts as the teacher with fewer hidden channels (`network.slim`) and learns to place
pictures as the teacher does. No label and no truth of the sample is used: the target of a picture
is what the teacher says of it, centred, rotated and half whitened (each principal axis divided by
the square root of its standard deviation), cut to D axes. The loss is the cosine distance to the
target plus the squared error of all similarities within a batch (relational distillation, Park et
al. 2019, arXiv:1904.05068). Everything is seeded; the same command on the same number of threads
of the same machine gives the same weights.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from cql.errors import InputError
from cql.progress import Progress, silent
from extraction import network
from extraction.split import GROCERY, Photo, Split, refuse_copies, rendered
from extraction.views import MEAN, STD, TEACHER_SIZE, observe, read, resize, square, tensor

NAME = "sightline-small"
WEIGHTS = Path(__file__).parent / "weights"
"""Where the committed weights lie: `<NAME>.json` and `<NAME>.safetensors`."""

INPUT_SIZE = 192
"""Side S of the student's input when it embeds, pixels."""

TRAIN_SIZE = 160
"""Side in training, pixels: crops enlarge what they show, so the larger S fits whole pictures."""

SLIM_PICTURES = 256
"""About how many training pictures show which channels matter."""

RELATIONAL_WEIGHT = 10.0
MAX_BYTES = 10 * 1024 * 1024

Measure = Callable[[NDArray[np.float32], NDArray[np.int64]], Mapping[str, float]]
"""Retrieval figures of (features (N, D), labels (N,)); the caller brings it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistilReport:
    """What a training run did. `losses` has the mean loss of each epoch."""

    weights: Path
    sha256: str
    bytes: int
    pictures: int
    held_out_classes: int
    losses: tuple[float, ...]
    seconds: float


def distil(
    *,
    teacher: Path,
    photos: Path,
    sample: Path | None,
    out: Path = WEIGHTS,
    split: Path = GROCERY,
    epochs: int = 8,
    seed: int = 1,
    views: int = 4,
    batch: int = 32,
    rate: float = 7e-4,
    threads: int = 2,
    sample_pictures: int = 384,
    command: str = "",
    progress: Progress = silent,
) -> DistilReport:
    """Train the student and write `<NAME>.safetensors` and `<NAME>.json` into `out`.

    `teacher`: safetensors of MobileNetV2; `photos`: folder with `train.txt`, of which only classes
    in the split's `train` are learnt from; `sample`: a rendered sample or None, of which the first
    `sample_pictures` are taken. `InputError` for held-out or missing input.
    """
    started = time.monotonic()
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    parts = Split.load(split)
    chosen, held_out = parts.photos(photos, "train"), parts.photos(photos, "held_out")
    paths = training_paths(parts, chosen, held_out=held_out)
    if sample is not None:
        paths += rendered(sample)[:sample_pictures]
        refuse_copies(paths[len(chosen) :], held_out)
    if len(paths) < 2:
        raise InputError(f"training needs at least 2 pictures, got {len(paths)}: add photos")
    guide = network.teacher(teacher).to(memory_format=torch.channels_last)
    seen = observe(guide, paths, views=views, seed=seed, size=TRAIN_SIZE, progress=progress)
    mean, axes = projection(seen.features.reshape(-1, network.TOP), dim=network.DIM)
    student = network.slim(guide, tensor(seen.pixels[0, :: max(1, len(paths) // SLIM_PICTURES)]))
    start_head(student, mean, axes)
    targets = functional.normalize((torch.from_numpy(seen.features) - mean) @ axes, dim=-1)
    out.mkdir(parents=True, exist_ok=True)
    losses = fit(
        student,
        settle(student, seen.pixels, progress=progress),
        torch.cat([targets, targets[:1]]),
        epochs=epochs,
        batch=batch,
        rate=rate,
        seed=seed,
        checkpoint=out / f"{NAME}.partial.safetensors",
        progress=progress,
    )
    trained_with = {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "teacher": {"file": teacher.name, "sha256": _sha256(teacher.read_bytes())},
        "split": {"file": split.name, "sha256": _sha256(split.read_bytes())},
        "pictures": {
            "photos": len(chosen), "sample": len(paths) - len(chosen), "views": views,
            "sha256": _sha256(b"".join(path.read_bytes() for path in paths)),
        },
        "parameters": {
            "epochs": epochs, "seed": seed, "batch": batch, "rate": rate, "threads": threads,
            "size": TRAIN_SIZE,
        },
        "losses": [round(loss, 5) for loss in losses],
        "seconds": round(time.monotonic() - started),
        "torch": torch.__version__,
    }  # fmt: skip
    weights = write(student, out, trained_with)
    (out / f"{NAME}.partial.safetensors").unlink(missing_ok=True)
    content = weights.read_bytes()
    return DistilReport(
        weights=weights,
        sha256=_sha256(content),
        bytes=len(content),
        pictures=len(paths),
        held_out_classes=len(parts.held_out),
        losses=tuple(losses),
        seconds=time.monotonic() - started,
    )


def training_paths(
    split: Split, photos: Sequence[Photo], *, held_out: Sequence[Photo]
) -> list[Path]:
    """Paths of `photos`; `InputError` where a class, or the bytes of a photo, are held out."""
    split.refuse(photos)
    paths = [photo.path for photo in photos]
    refuse_copies(paths, held_out)
    return paths


def projection(features: NDArray[np.float32], *, dim: int) -> tuple[Tensor, Tensor]:
    """Mean (1280,) and axes (1280, dim) that centre, rotate, half whiten unit features (N, 1280).

    Signs are fixed (the largest entry of an axis is positive): a rerun gives the same axes.
    """
    wide = features.astype(np.float64)
    mean = wide.mean(axis=0)
    variances, vectors = np.linalg.eigh(np.cov((wide - mean).T))
    keep = np.argsort(-variances, kind="stable")[:dim]
    vectors = vectors[:, keep]
    vectors *= np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(dim)])
    # An axis that no picture moves along would be blown up without a floor.
    spread = np.sqrt(np.maximum(variances[keep], variances[keep[0]] * 1e-6))
    axes = vectors / np.sqrt(spread)
    return torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(axes.astype(np.float32))


def start_head(student: network.Network, mean: Tensor, axes: Tensor) -> None:
    """Let the student's head map pooled features as `projection` maps the teacher's."""
    if student.head is None:
        raise InputError("the student must have a head: build it with dim")
    student.head.load_state_dict({"weight": axes.T.contiguous(), "bias": -(mean @ axes)})


def settle(
    student: network.Network, pixels: NDArray[np.uint8], *, progress: Progress = silent
) -> Tensor:
    """What the student's early blocks make of views (K, P, S, S, 3): float16 (K + 1, P, 64, h, w).

    Those blocks are not trained, so once is enough. The last view is the first one mirrored.
    """
    student.eval().to(memory_format=torch.channels_last)
    views, count = pixels.shape[:2]
    found: list[Tensor] = []
    with torch.inference_mode():
        for view in (*range(views), 0):
            mirrored = len(found) == views
            parts = []
            for start in range(0, count, 32):
                some = tensor(pixels[view, start : start + 32])
                parts.append(student.early(some.flip(3) if mirrored else some).half())
                progress("settle", len(found) * count + start, (views + 1) * count)
            found.append(torch.cat(parts).contiguous())
    return torch.stack(found)


def fit(
    student: network.Network,
    maps: Tensor,
    targets: Tensor,
    *,
    epochs: int,
    batch: int,
    rate: float,
    seed: int,
    checkpoint: Path | None = None,
    progress: Progress = silent,
) -> list[float]:
    """Train the late part of `student` in place on `settle`'s maps; the mean loss of each epoch.

    In every epoch each picture is seen once, in its next view. `targets`: float32 (K + 1, P, D),
    unit L2 norm. The rate warms up over the first twentieth of the steps, then falls to 0 as a
    cosine. `InputError` when the loss is no longer finite.
    """
    views, count = maps.shape[:2]
    # Inference tensors cannot take part in training; a view of their memory can.
    maps = torch.from_numpy(maps.numpy())
    random = np.random.default_rng(seed)
    student.train().to(memory_format=torch.channels_last)
    late = [
        *student.blocks[network.SETTLED :].parameters(),
        *student.top.parameters(),
        *(student.head.parameters() if student.head is not None else ()),
    ]
    optimizer = torch.optim.AdamW(late, lr=rate, weight_decay=1e-4)
    steps = epochs * math.ceil(count / batch)
    warm = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warm, (1 + math.cos(math.pi * step / steps)) / 2),
    )
    losses, step = [], 0
    for epoch in range(epochs):
        total = 0.0
        for rows in np.array_split(random.permutation(count), math.ceil(count / batch)):
            which = (rows + epoch) % views
            inputs = maps[which, rows].float().contiguous(memory_format=torch.channels_last)
            value = loss(student.late(inputs), targets[which, rows])
            now = value.item()
            if not math.isfinite(now):
                raise InputError(f"the loss must stay finite, step {step} gave {now}: lower rate")
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(late, 1.0)
            optimizer.step()
            schedule.step()
            total += now * len(rows)
            step += 1
            progress("train", step, steps, f"epoch {epoch + 1}, loss {now:.4f}")
        losses.append(total / count)
        if checkpoint is not None:
            checkpoint.write_bytes(save(_stored(student)))
    student.eval()
    return losses


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Distance of outputs (B, D) from unit targets (B, D): their own, and between each other."""
    ours = functional.normalize(outputs)
    cosine = 1 - (ours * targets).sum(1).mean()
    pairs = (ours @ ours.T - targets @ targets.T).square().sum()
    return cosine + RELATIONAL_WEIGHT * pairs / max(1, len(ours) * (len(ours) - 1))


def write(student: network.Network, out: Path, trained_with: Mapping[str, Any]) -> Path:
    """Write weights (float16) and their description into `out`; the weights' path."""
    content = save(_stored(student))
    if len(content) > MAX_BYTES:
        raise InputError(f"weights must fit {MAX_BYTES} bytes, got {len(content)}: lower DIM")
    weights = out / f"{NAME}.safetensors"
    weights.write_bytes(content)
    description = {
        "name": NAME,
        "architecture": network.ARCHITECTURE,
        "sha256": _sha256(content),
        "dim": network.DIM,
        "input_size": INPUT_SIZE,
        "mean": MEAN,
        "std": STD,
        "trained_with": dict(trained_with),
    }
    text = json.dumps(description, indent=2) + "\n"
    weights.with_suffix(".json").write_text(text, encoding="utf-8")
    return weights


def embed(
    model: network.Network,
    photos: Sequence[Photo],
    *,
    size: int,
    batch: int = 32,
    progress: Progress = silent,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features float32 (N, D) of unit L2 norm, and labels (N,), of whole photos (centre square)."""
    found = []
    for start in range(0, len(photos), batch):
        some = photos[start : start + batch]
        pixels = np.stack([resize(square(read(p.path)), size) for p in some])
        with torch.inference_mode():
            found.append(functional.normalize(model(tensor(pixels))).numpy())
        progress("embed", start + len(some), len(photos))
    return np.concatenate(found), np.array([photo.label for photo in photos], dtype=np.int64)


def evaluate(
    *,
    teacher: Path,
    photos: Path,
    measure: Measure,
    description: Path = WEIGHTS / f"{NAME}.json",
    split: Path = GROCERY,
    threads: int = 2,
    progress: Progress = silent,
) -> dict[str, dict[str, float]]:
    """Figures of student and teacher on the held-out classes, written into the description too."""
    torch.set_num_threads(threads)
    student, content = network.load(description)
    held_out = Split.load(split).photos(photos, "held_out")
    models = {
        NAME: (student, int(content["input_size"])),
        "teacher": (network.teacher(teacher), TEACHER_SIZE),
    }
    figures: dict[str, dict[str, float]] = {}
    for name, (model, size) in models.items():
        model.to(memory_format=torch.channels_last)
        started = time.monotonic()
        features, labels = embed(model, held_out, size=size, progress=progress)
        rate = len(labels) / (time.monotonic() - started)
        figures[name] = {**measure(features, labels), "images_per_s": round(rate, 1)}
    content["trained_with"]["held_out_figures"] = figures
    description.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return figures


def _stored(student: network.Network) -> dict[str, Tensor]:
    return {name: value.half().contiguous() for name, value in student.state_dict().items()}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
