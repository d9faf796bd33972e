"""A model by name: backbone + transform + weights, and the vectors it makes of pictures.

Names: `sightline-small` (in the repository), `timm:<name>` (weights from the model hub), and
`file:<path>.safetensors:<architecture>`, where the architecture is a timm name or
`torchvision/mobilenet_v2_tf` (MobileNetV2 with 1001 classes and TensorFlow's SAME padding).
Weights are read from safetensors only, never from a pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cql.errors import InputError, UnavailableError
from cql.records import Model
from cql.settings import Settings
from extraction.decode import decode
from extraction.transforms import Transform

if TYPE_CHECKING:
    from torch import nn

EMBEDDED = "sightline-small"
"""Name of the model whose weights are part of the repository."""

WEIGHTS = Path(__file__).parent / "weights"
TEACHER = "torchvision/mobilenet_v2_tf"
_TEACHER_DIM = 1280
_TEACHER_TRANSFORM = Transform.square(224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
_SUFFIX = ".safetensors"
# Pictures in one pass on a CPU: the feature maps of eight stay in its cache, those of 32 do not,
# and a picture then takes half as long again (MobileNetV2, one core).
_CPU_BATCH = 8


@dataclass(frozen=True, slots=True)
class _Source:
    """A parsed name: where the weights come from and what they fit; `name` loads it again."""

    name: str
    kind: str
    architecture: str
    path: Path | None = None


class Embedder:
    """A loaded model. `model` is its record; `device` is `cpu` or `cuda:<n>`."""

    def __init__(
        self, model: Model, transform: Transform, network: nn.Module, *, device: str, batch: int
    ) -> None:
        import torch

        self.model = model
        self.transform = transform
        self.device = device
        self._batch = batch
        self._network = network.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._half = _half_type(device)
        mean, std = (torch.tensor(v, device=device) for v in (transform.mean, transform.std))
        self._scale, self._shift = 1.0 / (255.0 * std), mean / std

    def read(self, data: bytes, settings: Settings) -> Image.Image:
        """Decode a photo's bytes as this model wants them. `DecodeError` as for `decode.decode`.

        Everything that is compared with stored features goes through here: a large JPEG is halved
        while it is decoded, which changes its features in the third digit.
        """
        return decode(data, settings, detail=self.transform.detail)

    def embed(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """RGB pictures to float32 (N, D) of unit L2 norm, in their order.

        On a CPU the result is deterministic and a row does not depend on the others beyond 1e-5.
        Raises `InputError` for a picture whose features are zero or not finite.
        """
        rows = [self.transform.pixels(image) for image in images]
        parts = [
            self.forward(np.stack(rows[start : start + self._batch]))
            for start in range(0, len(rows), self._batch)
        ]
        vectors = np.concatenate(parts) if parts else np.empty((0, self.model.dim), np.float32)
        wrong = np.flatnonzero(np.isnan(vectors).any(axis=1))
        if wrong.size:
            raise InputError(
                f"features of a picture must be finite and not all zero, those of picture "
                f"{wrong[0]} are not: leave it out, or use another model"
            )
        return vectors

    def forward(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (N, S, S, 3) to float32 (N, D), unit L2 norm; a row without a direction is NaN."""
        size = (len(pixels) if self._half else _CPU_BATCH) or 1
        starts = range(0, len(pixels), size)
        parts = [self._forward(pixels[start : start + size]) for start in starts]
        return np.concatenate(parts) if parts else np.empty((0, self.model.dim), np.float32)

    def _forward(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            # (N, S, S, 3) is what channels_last means in memory: no copy is made.
            batch = torch.from_numpy(pixels).to(self.device, non_blocking=True).float()
            batch = (batch * self._scale - self._shift).permute(0, 3, 1, 2)
            if self._half is None:
                out = self._network(batch)
            else:
                with torch.autocast("cuda", dtype=self._half):
                    out = self._network(batch)
            out = out.double()
            norms = out.norm(dim=1, keepdim=True)
            unit = torch.where(norms > 1e-12, out / norms, torch.nan).float()
            vectors: NDArray[np.float32] = unit.cpu().numpy()
        vectors[~np.isfinite(vectors).all(axis=1)] = np.nan
        return vectors


def describe(name: str, settings: Settings) -> Model:
    """The record of a model; torch stays unloaded for the embedded default and the teacher."""
    source = parse(name)
    if source.kind == "embedded":
        return _embedded_model(_description())
    if source.architecture == TEACHER and source.path is not None:
        return _file_model(source, _TEACHER_TRANSFORM, _TEACHER_DIM)
    return load(name, settings, device="cpu").model


def load(
    name: str, settings: Settings, *, device: str | None = None, threads: int | None = None
) -> Embedder:
    """Load a model by name onto `device` (default: the first GPU if there is one, else the CPU).

    `threads` is how many of this process's threads torch may use (default: the setting `cores`).

    Raises `InputError` for an unknown name or weights that do not fit, `IntegrityError` for weights
    that are not the pinned ones, `UnavailableError` when the model hub cannot be reached.
    """
    import torch

    source = parse(name)
    torch.set_num_threads(threads or settings.cores or os.cpu_count() or 1)
    device = device or ("cuda:0" if torch.cuda.is_available() else "cpu")
    model, transform, network = _LOADERS[source.kind](source)
    return Embedder(model, transform, network, device=device, batch=settings.batch_size)


def parse(name: str) -> _Source:
    """Take a model name apart. `InputError` for one of no known form."""
    if name == EMBEDDED:
        return _Source(EMBEDDED, "embedded", EMBEDDED)
    if name.startswith("timm:") and len(name) > len("timm:"):
        return _Source(name, "timm", name.removeprefix("timm:"))
    if name.startswith("file:"):
        path, _, architecture = name.removeprefix("file:").rpartition(":")
        if path.endswith(_SUFFIX) and architecture:
            weights = Path(path).expanduser().absolute()
            return _Source(f"file:{weights}:{architecture}", "file", architecture, weights)
    raise InputError(
        f"a model is {EMBEDDED}, timm:<name> or file:<path>{_SUFFIX}:<architecture>, got {name!r}"
    )


def _model(source: _Source, label: str, *, sha256: str, transform: Transform, dim: int) -> Model:
    return Model(
        model_id=f"{label}@{sha256[:12]}-{transform.digest}",
        name=source.name,
        architecture=source.architecture,
        weights_sha256=sha256,
        transform=transform.text,
        dim=dim,
    )


def _description() -> dict[str, Any]:
    path = WEIGHTS / f"{EMBEDDED}.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"the weights of {EMBEDDED} must lie in extraction/weights, {path.name} is not there: "
            "check them out again, or run `sightline train distil`"
        ) from error
    return found


def _embedded_model(content: dict[str, Any]) -> Model:
    source = _Source(EMBEDDED, "embedded", content["architecture"])
    transform = _embedded_transform(content)
    return _model(
        source, EMBEDDED, sha256=content["sha256"], transform=transform, dim=content["dim"]
    )


def _embedded_transform(content: dict[str, Any]) -> Transform:
    return Transform.square(content["input_size"], mean=content["mean"], std=content["std"])


def _load_embedded(source: _Source) -> tuple[Model, Transform, nn.Module]:
    from extraction import network

    del source
    _description()
    module, content = network.load(WEIGHTS / f"{EMBEDDED}.json")
    return _embedded_model(content), _embedded_transform(content), module


def _file_model(source: _Source, transform: Transform, dim: int) -> Model:
    path = source.path
    if path is None or not path.is_file():
        raise InputError(f"weights must be a file that exists, {path} is not: check the path")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    label = path.name.removesuffix(_SUFFIX)
    return _model(source, label, sha256=sha256, transform=transform, dim=dim)


def _load_file(source: _Source) -> tuple[Model, Transform, nn.Module]:
    if source.architecture == TEACHER:
        from extraction import network

        model = _file_model(source, _TEACHER_TRANSFORM, _TEACHER_DIM)
        with _readable(_path(source)):
            return model, _TEACHER_TRANSFORM, network.teacher(_path(source))
    _file_model(source, _TEACHER_TRANSFORM, 1)  # says at once when there is no such file
    module, transform, classifiers = _timm_module(source.architecture, pretrained=False)
    _fill(module, _path(source), classifiers)
    return _file_model(source, transform, int(module.num_features)), transform, module


def _load_timm(source: _Source) -> tuple[Model, Transform, nn.Module]:
    module, transform, _ = _timm_module(source.architecture, pretrained=True)
    digest = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        digest.update(f"{key}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(value.contiguous().cpu().numpy().tobytes())
    sha256, dim = digest.hexdigest(), int(module.num_features)
    model = _model(source, source.name, sha256=sha256, transform=transform, dim=dim)
    return model, transform, module


_LOADERS = {"embedded": _load_embedded, "file": _load_file, "timm": _load_timm}


def _path(source: _Source) -> Path:
    if source.path is None:
        raise InputError(f"the model {source.architecture} has no weights file")
    return source.path


def _timm_module(name: str, *, pretrained: bool) -> tuple[Any, Transform, tuple[str, ...]]:
    """A timm model without classifier, its transform, and the prefixes of its classifier's keys."""
    import timm
    from timm.data.config import resolve_data_config

    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.split('.', maxsplit=1)[0][:8]}*")[:5])
        raise InputError(
            f"timm knows no architecture {name!r}: "
            + (f"did you mean one of {near}?" if near else "see timm.list_models()")
        )
    extra: dict[str, Any] = {}
    if pretrained:
        # The file name keeps timm's loader from falling back to a pickle.
        extra = {"pretrained_cfg_overlay": {"hf_hub_filename": "model.safetensors"}}
    try:
        module: Any = timm.create_model(name, pretrained=pretrained, num_classes=0, **extra)
    except Exception as error:
        if not pretrained:
            raise
        raise UnavailableError(
            f"weights of timm:{name} must come from the model hub, which gave none "
            f"({type(error).__name__}: {str(error)[:200]}): check the network, or use "
            f"file:<path>{_SUFFIX}:{name} or {EMBEDDED}"
        ) from error
    config: Any = resolve_data_config({}, model=module)
    transform = Transform.from_timm(config)
    classifier = module.pretrained_cfg.get("classifier") or ()
    classifiers = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    return module, transform, classifiers


def _fill(module: Any, path: Path, classifiers: tuple[str, ...]) -> None:
    """Load weights strictly; only the classifier that the features do without may be left over."""
    from safetensors.torch import load_file

    with _readable(path):
        state = load_file(path)
    state = {
        key: value.float() if value.is_floating_point() else value
        for key, value in state.items()
        if not any(key.startswith(f"{prefix}.") for prefix in classifiers)
    }
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise InputError(f"{path} must hold weights of this architecture: {error}") from error


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} must be a safetensors file: {error}") from error


def _half_type(device: str) -> Any:
    """The 16-bit type that a GPU computes in; None on a CPU, which computes in float32."""
    import torch

    if not device.startswith("cuda"):
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
