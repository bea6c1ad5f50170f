"""Networks of the user's own: a small one, what may be made of it, and how it is swept."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from greys import cohort
from tiny import SIZE_PX
from torch import Tensor, nn

import dosimeter as dm
from dosimeter.models.preprocessing import PREPROCESSINGS


class Viewing(nn.Module):
    """Flattens with `view`, which needs one layout."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.conv, self.norm, self.drop = nn.Conv2d(3, 4, 5, stride=4), nn.BatchNorm2d(4), nn.Dropout(0.5)
        self.last = nn.Linear(4 * 7 * 7, 2)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.3, 0.3, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.drop(torch.relu(self.norm(self.conv(images))))
        return self.last(maps.view(maps.size(0), -1))


class Wrapped(nn.Module):
    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network, self.wrap = Viewing(), wrap

    def forward(self, images: Tensor) -> Any:
        return self.wrap(self.network(images))


class Undifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        return logits.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise NotImplementedError("no derivative\nhere")


def scripted(network: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: nn.Module = torch.jit.script(network.eval())
        return made


def frozen(network: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: nn.Module = torch.jit.freeze(scripted(network))
        return made


def exported(network: nn.Module) -> nn.Module:
    any_batch = ({0: torch.export.Dim("batch")},)
    return torch.export.export(network.eval(), (images(),), dynamic_shapes=any_batch).module()


def classifier(base: nn.Module, head: nn.Module | None = None, **options: Any) -> dm.Classifier:
    unit = PREPROCESSINGS["unit"]
    classes = ("clear", "opacity")
    return dm.Classifier(base, head or nn.Identity(), preprocessing=unit, size_px=SIZE_PX, classes=classes, **options)


def sweep(network: dm.Classifier, **options: Any) -> Any:
    quick: dict[str, Any] = {
        "epsilons": [0.01],
        "compute": dm.Compute(workers=1),
        "visibility": "none",
        "refine": False,
    }
    return dm.sweep(network, cohort(4), **quick | options).frame


def images(n: int = 3) -> Tensor:
    return torch.rand(n, 3, SIZE_PX, SIZE_PX, generator=torch.Generator().manual_seed(1))
