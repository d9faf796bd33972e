"""The network of `sightline-small`, and its teacher: MobileNetV2 with hidden layers of any width.

MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) is a chain of inverted residual blocks; what
flows between blocks is narrow, what is inside a block is wide. The student keeps the chain and
narrows the insides, so that it can start from the teacher's own filters. Batch normalisation is
folded into the convolutions. Padding is TensorFlow's SAME, as the teacher was trained with.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from cql.errors import InputError, IntegrityError

ARCHITECTURE = "mobilenet-v2-slim"
"""Value of `architecture` in the JSON beside the weights that `build` fits."""

DIM = 384
"""Width D of the student's output."""

EXPANSION = 4
"""Hidden channels of a student block for each input channel; the teacher has 6."""

TOP = 1280
"""Channels before pooling."""

SETTLED = 7
"""Blocks that keep what `slim` gave them: filters of edges and textures serve any picture."""

_STAGES = (
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_EPSILON = 1e-5
_CHOOSING = 64
_CHUNK = 32
_RIDGE = 1e-5


class Shape(NamedTuple):
    """Channels and stride of one block; `hidden` equals `inputs` where nothing is expanded."""

    inputs: int
    hidden: int
    outputs: int
    stride: int


def shapes(expansion: int) -> tuple[Shape, ...]:
    """The seventeen blocks, with the insides of all but the first `expansion` times as wide."""
    found = [Shape(32, 32, 16, 1)]
    for _, outputs, repeats, stride in _STAGES:
        for repeat in range(repeats):
            inputs = found[-1].outputs
            found.append(Shape(inputs, inputs * expansion, outputs, stride if repeat == 0 else 1))
    return tuple(found)


class Block(nn.Module):
    """Inverted residual: 1x1 expansion, 3x3 depthwise, linear 1x1 projection."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        inputs, hidden, outputs, self.stride = shape
        self.expand = nn.Conv2d(inputs, hidden, 1) if hidden != inputs else None
        self.depthwise = nn.Conv2d(
            hidden, hidden, 3, self.stride, padding=self.stride % 2, groups=hidden
        )
        self.project = nn.Conv2d(hidden, outputs, 1)
        self.residual = self.stride == 1 and inputs == outputs

    def hidden(self, x: Tensor) -> Tensor:
        """What the projection reads: float32 (N, hidden, H, W)."""
        wide = x if self.expand is None else functional.relu6(self.expand(x))
        wide = same_padding(wide) if self.stride == 2 else wide
        return functional.relu6(self.depthwise(wide))

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, inputs, H, W) -> (N, outputs, ceil(H / stride), ceil(W / stride))."""
        out: Tensor = self.project(self.hidden(x))
        return x + out if self.residual else out


class Network(nn.Module):
    """Pictures to features: float32 (N, 3, S, S), normalised -> (N, D), of no particular norm.

    With `dim` the pooled features are scaled to unit norm and mapped linearly to D = `dim`; without
    it D is 1280, the pooled features themselves.
    """

    def __init__(self, blocks: tuple[Shape, ...], *, dim: int | None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, blocks[0].inputs, 3, 2)
        self.blocks = nn.ModuleList(Block(shape) for shape in blocks)
        self.top = nn.Conv2d(blocks[-1].outputs, TOP, 1)
        self.head = nn.Linear(TOP, dim) if dim is not None else None

    def early(self, x: Tensor) -> Tensor:
        """The stem and the first `SETTLED` blocks: float32 (N, 64, S / 16, S / 16)."""
        return self._through(functional.relu6(self.stem(same_padding(x))), 0, SETTLED)

    def late(self, x: Tensor) -> Tensor:
        """What `early` gave to features: (N, D)."""
        x = self._through(x, SETTLED, len(self.blocks))
        features = functional.relu6(self.top(x)).mean((2, 3))
        if self.head is None:
            return features
        out: Tensor = self.head(functional.normalize(features))
        return out

    def _through(self, x: Tensor, low: int, high: int) -> Tensor:
        for block in self.blocks[low:high]:
            x = block(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.late(self.early(x))


def same_padding(x: Tensor) -> Tensor:
    """Zeros for a 3x3 convolution of stride 2, where TensorFlow's SAME puts them."""
    height, width = x.shape[-2:]
    # An even side needs one zero, at its end; an odd one needs one at both ends.
    return functional.pad(x, (width % 2, 1, height % 2, 1))


def build() -> Network:
    """`sightline-small` with weights yet to be loaded."""
    return Network(shapes(EXPANSION), dim=DIM)


def load(description: Path) -> tuple[Network, dict[str, Any]]:
    """The student with the weights beside `description` (its JSON), in eval mode, and that JSON.

    Weights are stored as float16 and computed in float32. `IntegrityError` where the file's sha256
    is not the pinned one, `InputError` for another architecture.
    """
    content: dict[str, Any] = json.loads(description.read_text(encoding="utf-8"))
    if content["architecture"] != ARCHITECTURE or content["dim"] != DIM:
        raise InputError(
            f"{description.name} must describe {ARCHITECTURE} with D={DIM}, "
            f"got {content['architecture']} with D={content['dim']}"
        )
    weights = description.with_suffix(".safetensors").read_bytes()
    digest = hashlib.sha256(weights).hexdigest()
    if digest != content["sha256"]:
        raise IntegrityError(
            f"{description.with_suffix('.safetensors').name} must have sha256 {content['sha256']}, "
            f"got {digest}: check it out again"
        )
    network = build()
    network.load_state_dict({name: value.float() for name, value in from_bytes(weights).items()})
    return network.eval(), content


def teacher(path: Path) -> Network:
    """MobileNetV2 1.0 without its classifier, from torchvision's state names, in eval mode.

    Raises `InputError` for a file that is not there or holds another architecture.
    """
    if not path.is_file():
        raise InputError(f"the teacher's weights must be a safetensors file, {path} is not there")
    state = load_file(path)
    network = Network(shapes(6), dim=None)
    try:
        _copy(network.stem, _folded(state, "features.0.0", "features.0.1"))
        for number, block in enumerate(network.blocks):
            _fill(block, state, f"features.{number + 1}.conv")  # type: ignore[arg-type]
        _copy(network.top, _folded(state, "features.18.0", "features.18.1"))
    except (KeyError, RuntimeError) as error:
        raise InputError(
            f"{path} must hold torchvision's mobilenet_v2 (1.0), {error} does not fit"
        ) from error
    return network.eval()


def slim(
    source: Network, pictures: Tensor, *, expansion: int = EXPANSION, dim: int = DIM
) -> Network:
    """A narrower copy of `source`: each block keeps the hidden channels that matter most to it.

    A channel matters by what its projection adds to the block's output over `pictures` (float32
    (N, 3, S, S), normalised): the standard deviation of the channel times the norm of its column.
    Block by block, the projection is then fitted by least squares to give, from what the narrower
    network computes, what the wider one would (He et al. 2017, arXiv:1707.06168). The head is left
    as initialised.
    """
    network = Network(shapes(expansion), dim=dim)
    network.stem.load_state_dict(source.stem.state_dict())
    network.top.load_state_dict(source.top.state_dict())
    with torch.inference_mode():
        theirs = functional.relu6(source.stem(same_padding(pictures)))
        ours = theirs
        for wide, narrow in zip(source.blocks, network.blocks, strict=True):
            assert isinstance(wide, Block)  # noqa: S101
            assert isinstance(narrow, Block)  # noqa: S101
            _choose(wide, narrow, theirs[:_CHOOSING])
            theirs, ours = _fit(wide, narrow, theirs, ours)
    return network


def _choose(wide: Block, narrow: Block, x: Tensor) -> None:
    """Copy the filters of the channels that matter most; `_fit` sets the projection."""
    hidden = wide.hidden(x)
    weight = hidden.std((0, 2, 3)) * wide.project.weight[:, :, 0, 0].norm(dim=0)
    ranked = torch.argsort(weight, descending=True, stable=True)
    keep = ranked[: narrow.depthwise.out_channels].sort().values
    if wide.expand is not None and narrow.expand is not None:
        _copy(narrow.expand, (wide.expand.weight[keep], _bias(wide.expand)[keep]))
    _copy(narrow.depthwise, (wide.depthwise.weight[keep], _bias(wide.depthwise)[keep]))
    _copy(narrow.project, (wide.project.weight[:, keep], _bias(wide.project)))


def _fit(wide: Block, narrow: Block, theirs: Tensor, ours: Tensor) -> tuple[Tensor, Tensor]:
    """Fit the projection; the outputs of both blocks for their own inputs (N, C, H, W)."""
    width = narrow.project.in_channels
    products = torch.zeros(width + 1, width + 1, dtype=torch.float64)
    wanted = torch.zeros(width + 1, narrow.project.out_channels, dtype=torch.float64)
    hidden, outputs = [], []
    for their_part, our_part in zip(
        torch.split(theirs, _CHUNK), torch.split(ours, _CHUNK), strict=True
    ):
        hidden.append(narrow.hidden(our_part))
        outputs.append(wide(their_part))
        goal = outputs[-1] - our_part if narrow.residual else outputs[-1]
        left, right = _rows(hidden[-1]), _rows(goal)
        left = torch.cat([left, torch.ones(len(left), 1, dtype=left.dtype)], dim=1)
        products += (left.T @ left).double()
        wanted += (left.T @ right).double()
    # The ridge pulls towards the teacher's own weights, where the pictures say nothing.
    start = torch.cat([narrow.project.weight[:, :, 0, 0].T, _bias(narrow.project)[None]]).double()
    ridge = _RIDGE * products.diagonal().mean() * torch.eye(width + 1, dtype=torch.float64)
    found = torch.linalg.solve(products + ridge, wanted + ridge @ start).float()
    _copy(narrow.project, (found[:-1].T[:, :, None, None], found[-1]))
    out = torch.cat([narrow.project(part) for part in hidden])
    return torch.cat(outputs), ours + out if narrow.residual else out


def _rows(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (rows, C): every pixel of small maps, a regular part of large ones."""
    step = max(1, round(x.shape[-1] / 20))
    return x[:, :, ::step, ::step].permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _fill(block: Block, state: dict[str, Tensor], prefix: str) -> None:
    """Copy one torchvision `InvertedResidual`, whose layers are numbered."""
    start = 0
    if block.expand is not None:
        _copy(block.expand, _folded(state, f"{prefix}.0.0", f"{prefix}.0.1"))
        start = 1
    _copy(block.depthwise, _folded(state, f"{prefix}.{start}.0", f"{prefix}.{start}.1"))
    _copy(block.project, _folded(state, f"{prefix}.{start + 1}", f"{prefix}.{start + 2}"))


def _folded(state: dict[str, Tensor], conv: str, norm: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with its normalisation folded in, float32."""
    scale = state[f"{norm}.weight"].float() / torch.sqrt(
        state[f"{norm}.running_var"].float() + _EPSILON
    )
    bias = state[f"{norm}.bias"].float() - state[f"{norm}.running_mean"].float() * scale
    return state[f"{conv}.weight"].float() * scale[:, None, None, None], bias


def _copy(conv: nn.Conv2d, values: tuple[Tensor, Tensor]) -> None:
    conv.load_state_dict({"weight": values[0], "bias": values[1]})


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None, "every convolution here has a bias"  # noqa: S101
    return conv.bias
