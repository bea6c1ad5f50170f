"""Small classifiers for checks of evaluations: their task, their training, and the parts that masks are made of.

The task is an opacity in noise, there or not, at 32 px: easy enough that a network learns it in a second, hard enough
that FGSM breaks it at a few hundredths of the range.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dosimeter.cohorts.base import Cohort, Decoded, Record, pseudonymise
from dosimeter.models.base import Classifier
from dosimeter.models.preprocessing import PREPROCESSINGS

SIZE_PX = 32
CLASSES = ("clear", "opacity")
N_TRAIN, N_TEST = 480, 60


# --- the task -----------------------------------------------------------------------------------------------


def _draw(index: int, label: int, planes: int = 1) -> np.ndarray:
    """Return image `index`, (planes, 32, 32) on the 8-bit grid; planes differ by a tint and a little noise."""
    rng = np.random.default_rng([7, index])
    rows, columns = np.mgrid[0:SIZE_PX, 0:SIZE_PX]
    x, y = rng.uniform(11, 21, 2)
    opacity = 0.02 + 0.07 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 32)
    image = 0.4 + opacity * label + rng.normal(0, 0.12, opacity.shape)
    tints = (0, -0.02, 0.02)[:planes]
    tinted = np.stack([image + tint + (rng.normal(0, 0.01, image.shape) if tint else 0) for tint in tints])
    return (np.round(np.clip(tinted, 0, 1) * 255) / 255).astype(np.float32)


def _cohort(labels: dict[int, int], planes: int = 1) -> Cohort:
    def record(index: int, label: int) -> Record:
        sha256 = f"{index:064x}"
        decoded = lambda: Decoded(_draw(index, label, planes), 8)  # noqa: E731
        return Record(pseudonymise(index, sha256), label, sha256, decoded)

    records = tuple(record(index, label) for index, label in labels.items())
    return Cohort("opacities", CLASSES, records, modality="xray")


def opacities(start: int, n: int) -> Cohort:
    """Return n images, as many of each class."""
    return _cohort({index: index % 2 for index in range(start, start + n)})


def imbalanced(start: int, n: int) -> Cohort:
    """Return n images, every eighth with an opacity."""
    return _cohort({index: int(index % 8 == 0) for index in range(start, start + n)})


def tinted(start: int, n: int) -> Cohort:
    """Return n images in colour, as many of each class."""
    return _cohort({index: index % 2 for index in range(start, start + n)}, planes=3)


@cache
def training() -> tuple[Tensor, Tensor]:
    """Return the images (n, 3, 32, 32) and labels (n,) that classifiers are trained on."""
    images = torch.from_numpy(np.stack([_draw(index, index % 2) for index in range(N_TRAIN)])).expand(-1, 3, -1, -1)
    return images.contiguous(), torch.arange(N_TRAIN) % 2


# --- networks -----------------------------------------------------------------------------------------------


class Parts(NamedTuple):
    """What a classifier consists of."""

    base: nn.Module
    head: nn.Module


def convolutions(activation: Callable[[], nn.Module] = nn.ReLU, n: int = 12) -> Parts:
    """Return two convolutions and two linear layers, untrained."""
    base = nn.Sequential(nn.Conv2d(3, n, 5, stride=2, padding=2), activation(), nn.Conv2d(n, n, 3, stride=2))
    layers = [activation(), nn.Flatten(), nn.Linear(n * 7 * 7, 32), activation(), nn.Linear(32, 2)]
    return Parts(base, nn.Sequential(*layers))


def classifier_of(parts: Parts, model: str, preprocessing: str = "minus1to1") -> Classifier:
    """Return the classifier of these parts, as they are."""
    card = {"model": model, "protocol": "paper"}
    chosen = PREPROCESSINGS[preprocessing]
    return Classifier(*parts, preprocessing=chosen, size_px=SIZE_PX, classes=CLASSES, card=card)


Attacked = Callable[[Classifier, Tensor, Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


def trained(
    model: str,
    parts: Callable[[], Parts] = convolutions,
    *,
    seed: int = 0,
    epochs: int = 6,
    decay: float = 1e-2,
    targets: Tensor | None = None,
    loss: Loss = cross_entropy,
    attacked: Attacked = lambda _, images, labels: images,
) -> Classifier:
    """Return a classifier trained on the task, on `targets` instead of labels if they are given."""
    images, labels = training()
    goals = labels if targets is None else targets
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = classifier_of(parts(), model)
        parameters = list(classifier.parameters())
        optimiser = torch.optim.Adam(parameters, lr=2e-3, weight_decay=decay)
        for _ in range(epochs):
            for batch in torch.randperm(len(images)).split(32):
                seen = attacked(classifier.eval(), images[batch], labels[batch])
                classifier.train().requires_grad_(True)
                optimiser.zero_grad()
                loss(classifier(seen), goals[batch]).backward()
                optimiser.step()
                classifier.requires_grad_(False)
    for parameter in parameters:
        parameter.grad = None
    return classifier.eval()


@cache
def convolutional() -> Classifier:
    """Return the network that most masks hide."""
    return trained("convolutional")


# --- what masks are made of ---------------------------------------------------------------------------------

Function = Callable[[Tensor], Tensor]


class Layer(nn.Module):
    """A function of a tensor as a layer."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, values: Tensor) -> Tensor:
        return self.function(values)


class _Lying(torch.autograd.Function):
    """A function with another one's backward pass."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, function: Function, backward: Function) -> Tensor:
        ctx.lie = backward
        return function(values).clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.lie(gradients[0]), None, None


def lying(backward: Function, function: Function = lambda values: values) -> Function:
    """Return `function`, by default the identity, whose gradient is `backward` of what comes from behind."""
    return lambda values: _Lying.apply(values, function, backward)


def behind(function: Function, model: str, honest: Classifier | None = None) -> Classifier:
    """Return a network, the convolutional one by default, that sees images in [0, 1] only through `function`."""
    honest = honest or convolutional()
    layers = Layer(function), Layer(honest.preprocessing.apply), honest.base
    return classifier_of(Parts(nn.Sequential(*layers), honest.head), model, "unit")


def followed(function: Function, model: str, honest: Classifier | None = None) -> Classifier:
    """Return a network, the convolutional one by default, whose logits go through `function`."""
    honest = honest or convolutional()
    return classifier_of(Parts(honest.base, nn.Sequential(honest.head, Layer(function))), model)
