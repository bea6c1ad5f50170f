"""The networks the study knows: a frozen ImageNet base and the head that is trained on it."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dosimeter import registry
from dosimeter.errors import DosimeterError
from dosimeter.models.registries import Layers, Official, Package

Pool = Literal["whole", "none"] | int
"""Average pooling between base and head: over the whole map, none, or windows of that many cells a side."""


@dataclass(frozen=True)
class HeadSpec:
    """A head: average pooling, flatten, dense ReLU layer, dropout, dense logits."""

    pool: Pool
    hidden: int
    dropout: float


@dataclass(frozen=True)
class Backbone:
    """A frozen convolutional base and the head that the study puts on it.

    Attributes:
        size_px: side of the square images it is fed.
        map_shape: (channels, height, width) of the base's output for such an image.
        build: returns the base without values, on the meta device, its tensors named as in torchvision.
        build_keras: the same for weights that were trained in Keras, where its layers compute something else.
        head: the paper's head (section 2.3).
        note: one line for `dosimeter list models`.
        title: its name as people write it.
        official: torchvision's file of its weights, and which of them are the base's; None: `load` has them.
        load: returns its weights in place of `weights.load_weights`, with that function's arguments.
        package: a published one that carries its weights, for machines that reach package registries alone.
    """

    name: str
    size_px: int
    map_shape: tuple[int, int, int]
    build: Callable[[], nn.Module]
    head: HeadSpec
    note: str
    official: Official | None = None
    build_keras: Callable[[], nn.Module] | None = None
    package: Package | None = None
    load: Callable[..., Any] | None = None
    title: str = ""


def get_backbone(name: str) -> Backbone:
    """Return the backbone called `name`.

    Raises:
        DosimeterError: there is none, or what another package brings is not a `Backbone`.
    """
    found = registry.get("backbones", name)
    if not isinstance(found, Backbone):
        raise DosimeterError(f"backbone '{name}' must be a dosimeter.models.backbones.Backbone.")
    return found


class _Backbones(MutableMapping[str, Backbone]):
    """`BACKBONES` of before 0.2.0: a view of the registry, for one release."""

    def __getitem__(self, name: str) -> Backbone:
        if name not in registry.names("backbones"):
            raise KeyError(name)
        return get_backbone(name)

    def __setitem__(self, name: str, backbone: Backbone) -> None:
        registry.add("backbones", name, backbone)

    def __delitem__(self, name: str) -> None:
        registry.ADDED.pop(("backbones", name))

    def __iter__(self) -> Iterator[str]:
        return iter(registry.names("backbones"))

    def __len__(self) -> int:
        return len(registry.names("backbones"))


BACKBONES: MutableMapping[str, Backbone] = _Backbones()


def build_base(backbone: Backbone, state: Mapping[str, Tensor], layers: Layers = "torchvision") -> nn.Module:
    """Return the frozen base in evaluation mode, holding `state` (torchvision's names, float32).

    Args:
        layers: the framework that the values were trained in.
    """
    build = backbone.build_keras if layers == "keras" and backbone.build_keras else backbone.build
    with torch.device("meta"):
        base = build()
    for module in base.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.num_batches_tracked = torch.zeros((), dtype=torch.long)  # a training counter no source carries
    counters = {name: tensor for name, tensor in base.state_dict().items() if name.endswith("num_batches_tracked")}
    base.load_state_dict({**counters, **state}, assign=True)
    return base.requires_grad_(False).eval()


def build_head(backbone: Backbone, spec: HeadSpec, *, n_classes: int, generator: torch.Generator) -> nn.Sequential:
    """Return the head with Keras's initial values (Glorot uniform, zero bias), the paper's framework.

    Raises:
        DosimeterError: the pooling window does not fit the base's map.
    """
    head = plan_head(backbone, spec, n_classes=n_classes).to_empty(device="cpu")
    for layer in head:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)
    return head


def plan_head(backbone: Backbone, spec: HeadSpec, *, n_classes: int) -> nn.Sequential:
    """Return the head without values, on the meta device: it takes no memory, however large.

    Raises:
        DosimeterError: the pooling window does not fit the base's map.
    """
    channels, height, width = backbone.map_shape
    layers: list[nn.Module] = []
    if spec.pool != "none":
        side = height if spec.pool == "whole" else spec.pool
        if not 1 <= side <= height:
            raise DosimeterError(
                f"pool must be 'whole', 'none' or 1 to {height} cells for {backbone.name}, got {spec.pool}."
            )
        layers.append(nn.AvgPool2d(side))
        height, width = height // side, width // side
    first = nn.Linear(channels * height * width, spec.hidden, device="meta")
    last = nn.Linear(spec.hidden, n_classes, device="meta")
    return nn.Sequential(*layers, nn.Flatten(), first, nn.ReLU(), nn.Dropout(spec.dropout), last)
