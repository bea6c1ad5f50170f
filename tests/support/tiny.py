"""Networks small enough for a test, in the places of the real ones."""

import importlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dosimeter import registry
from dosimeter.models import backbones
from dosimeter.models.base import Classifier
from dosimeter.models.decisions import Findings
from dosimeter.models.preprocessing import PREPROCESSINGS
from dosimeter.models.weights import Weights, digest
from dosimeter.study.config import StudyConfig, load_config

SIZE_PX = 32


def _build() -> nn.Module:
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 6, 8, stride=4), norm=nn.BatchNorm2d(6), relu=nn.ReLU()))


def tiny_backbone(name: str) -> backbones.Backbone:
    head = backbones.HeadSpec(pool="whole" if name == "vgg16" else "none", hidden=8, dropout=0.5)
    real = importlib.import_module(f"dosimeter.models.known.{name}").ENTRY
    return backbones.Backbone(name, SIZE_PX, (6, 7, 7), _build, head, "tiny", title=real.title, load=tiny_weights)


def tiny_weights(network: str, *, file: Path | None = None, preprocessing: str | None = None) -> Weights:
    generator = torch.Generator().manual_seed(len(network))
    state = {
        "conv.weight": torch.randn(6, 3, 8, 8, generator=generator),
        "conv.bias": torch.randn(6, generator=generator),
        "norm.weight": torch.ones(6),
        "norm.bias": torch.zeros(6),
        "norm.running_mean": torch.zeros(6),
        "norm.running_var": torch.full((6,), 9.0),
    }
    chosen = PREPROCESSINGS[preprocessing or "minus1to1"]
    return Weights(network, "tiny", "made for a test", "none", digest(state), state, chosen, True, "random weights")


def install(set_item: Callable[..., None]) -> None:
    """Put the tiny networks in the real ones' places."""
    for name in ("vgg16", "inception_v3"):
        set_item(registry.ADDED, ("backbones", name), tiny_backbone(name))


def settings(images: Path, out: Path, **changes: object) -> StudyConfig:
    """What a study of the tiny networks on the tests' `image_folder` is asked for."""
    usual = {"cohort": f"csv:{images / 'cases.csv'}", "epochs": 3, "epsilons": "0.001,0.003,0.009,0.08", "out": out}
    return load_config(None, **{**usual, **changes})


class Linear(nn.Module):
    """Logits (0, w.x + b): its worst case under any norm is known in closed form."""

    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = bias

    def forward(self, images: Tensor) -> Tensor:
        score = (images * self.weight).flatten(1).sum(dim=1) + self.bias
        return torch.stack([torch.zeros_like(score), score], dim=1)


def linear_classifier(weight: Tensor, bias: float = 0.0, **card: Any) -> Classifier:
    """A classifier whose margin falls by epsilon * ||w||_1 under L-infinity; weight is (3, H, W)."""
    return Classifier(
        nn.Identity(),
        Linear(weight, bias),
        preprocessing=PREPROCESSINGS["unit"],
        size_px=(weight.shape[1], weight.shape[2]),
        classes=("clear", "opacity"),
        card={"model": "linear", "protocol": "paper", **card},
    )


def convolutional_classifier(
    seed: int = 0, *, scale: float = 1.0, classes: Sequence[str] | Findings = ("clear", "opacity")
) -> Classifier:
    """A small random network with a logit for each of `classes`, `scale` times as confident."""
    n_outputs = len(classes.names if isinstance(classes, Findings) else classes)
    generator = torch.Generator().manual_seed(seed)
    base = nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU())
    head = nn.Sequential(nn.Flatten(), nn.Linear(8 * 6 * 6, n_outputs))
    for parameter in [*base.parameters(), *head.parameters()]:
        nn.init.uniform_(parameter, -0.3, 0.3, generator=generator)
    last = head[1]
    assert isinstance(last, nn.Linear)
    last.weight.data *= scale
    last.bias.data *= scale
    return Classifier(
        base,
        head,
        preprocessing=replace(PREPROCESSINGS["minus1to1"]),
        size_px=SIZE_PX,
        classes=classes,
        card={"model": "convolutional", "protocol": "paper"},
    )
