"""A zoo: classifiers that hide their gradients, each in a known way, and honest ones; all small, all seeded.

The task is an opacity in noise, there or not, at 32 px: easy enough that a network learns it in a second, hard enough
that FGSM breaks it at a few hundredths of the range.
"""

import io
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, log_softmax, softmax

from dosimeter.attacks.base import Problem
from dosimeter.attacks.pgd import PGD
from dosimeter.attacks.presets import Preset, choose
from dosimeter.cohorts.base import Cohort, Decoded, Record, pseudonymise
from dosimeter.models.base import Classifier
from dosimeter.models.preprocessing import PREPROCESSINGS
from dosimeter.preflight import examine
from dosimeter.responses import compact, to_frame
from dosimeter.sweeps.convergence import examine_convergence
from dosimeter.sweeps.execute import execute_cell
from dosimeter.sweeps.plan import Setting, plan_cells

SIZE_PX = 32
CLASSES = ("clear", "opacity")
N_TRAIN, N_TEST = 480, 60
TEMPERATURE = 100.0


# --- the task -----------------------------------------------------------------------------------------------


def _draw(index: int) -> np.ndarray:
    """Return image `index`, (1, 32, 32) on the 8-bit grid; its label is index % 2."""
    rng = np.random.default_rng([7, index])
    rows, columns = np.mgrid[0:SIZE_PX, 0:SIZE_PX]
    x, y = rng.uniform(11, 21, 2)
    opacity = 0.02 + 0.07 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 32)
    image = np.clip(0.4 + opacity * (index % 2) + rng.normal(0, 0.12, opacity.shape), 0, 1)
    return (np.round(image * 255) / 255).astype(np.float32)[None]


def opacities(start: int, n: int) -> Cohort:
    """Return n images, as many of each class."""

    def record(index: int) -> Record:
        return Record(
            pseudonymise(index, f"{index:064x}"), index % 2, f"{index:064x}", lambda: Decoded(_draw(index), 8)
        )

    return Cohort("opacities", CLASSES, tuple(record(index) for index in range(start, start + n)), modality="xray")


@cache
def _training() -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(np.stack([_draw(index) for index in range(N_TRAIN)])).expand(-1, 3, -1, -1)
    return images.contiguous(), torch.arange(N_TRAIN) % 2


# --- networks -----------------------------------------------------------------------------------------------


def _network(seed: int) -> tuple[nn.Sequential, nn.Sequential]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        base = nn.Sequential(
            nn.Conv2d(3, 12, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(12, 12, 3, stride=2), nn.ReLU()
        )
        head = nn.Sequential(nn.Flatten(), nn.Linear(12 * 7 * 7, 32), nn.ReLU(), nn.Linear(32, 2))
    return base, head


def _classifier(base: nn.Module, head: nn.Module, model: str, preprocessing: str = "minus1to1") -> Classifier:
    card = {"model": model, "protocol": "paper"}
    chosen = PREPROCESSINGS[preprocessing]
    return Classifier(base, head, preprocessing=chosen, size_px=SIZE_PX, classes=CLASSES, card=card)


Attacked = Callable[[Classifier, Tensor, Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


def _trained(
    model: str,
    *,
    seed: int = 0,
    epochs: int = 6,
    decay: float = 1e-2,
    targets: Tensor | None = None,
    loss: Loss = cross_entropy,
    attacked: Attacked = lambda _, images, labels: images,
) -> Classifier:
    """Return a small convolutional network trained on the task, on `targets` instead of labels if they are given."""
    images, labels = _training()
    goals = labels if targets is None else targets
    classifier = _classifier(*_network(seed), model)
    parameters = list(classifier.parameters())
    optimiser = torch.optim.Adam(parameters, lr=2e-3, weight_decay=decay)
    order = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for batch in torch.randperm(len(images), generator=order).split(32):
            seen = attacked(classifier, images[batch], labels[batch])
            classifier.requires_grad_(True)
            optimiser.zero_grad()
            loss(classifier(seen), goals[batch]).backward()
            optimiser.step()
            classifier.requires_grad_(False)
    for parameter in parameters:
        parameter.grad = None
    return classifier


@cache
def convolutional() -> Classifier:
    return _trained("convolutional")


@cache
def adversarially_trained() -> Classifier:
    """Source: Madry et al. 2018 (arXiv 1706.06083): trained on PGD's images instead of the clean ones."""

    def attacked(classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
        attack = PGD(steps=3, step_size=0.5, start="random")
        return attack.perturb(Problem(classifier, images, labels), torch.full((len(images),), 0.02)).images

    return _trained("adversarially trained", attacked=attacked, epochs=8)


@cache
def linear() -> Classifier:
    """The difference of the class means as weights, the mean score as threshold."""
    images, labels = _training()
    means = [images[labels == label].mean(dim=0) for label in (0, 1)]
    head = nn.Linear(3 * SIZE_PX**2, 2)
    head.weight.data = torch.stack([mean.flatten() for mean in means])
    head.bias.data = torch.stack([-mean.square().sum() / 2 for mean in means])
    return _classifier(nn.Identity(), nn.Sequential(nn.Flatten(), head), "linear", "unit")


HONEST: dict[str, Callable[[], Classifier]] = {
    "convolutional": convolutional,
    "adversarially trained": adversarially_trained,
    "linear": linear,
}


# --- masks --------------------------------------------------------------------------------------------------


class Layer(nn.Module):
    """A function of a tensor as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, values: Tensor) -> Tensor:
        return self.function(values)


def _behind(function: Callable[[Tensor], Tensor], model: str) -> Classifier:
    """Return the convolutional network that sees images only through `function`."""
    honest = convolutional()
    inside = Layer(honest.preprocessing.apply)
    return _classifier(nn.Sequential(Layer(function), inside, honest.base), honest.head, model, "unit")


def _followed(function: Callable[[Tensor], Tensor], model: str) -> Classifier:
    """Return the convolutional network whose logits go through `function`."""
    honest = convolutional()
    return _classifier(honest.base, nn.Sequential(honest.head, Layer(function)), model)


def _resized(images: Tensor) -> Tensor:
    """Source: Xie et al. 2018 (arXiv 1711.01991), without the padding."""
    side = int(torch.randint(SIZE_PX - 8, SIZE_PX + 9, ()))
    smaller = interpolate(images, size=side, mode="bilinear", align_corners=False)
    return interpolate(smaller, size=SIZE_PX, mode="bilinear", align_corners=False)


def _through_jpeg(images: Tensor) -> Tensor:
    """Source: Dziugaite et al. 2016 (arXiv 1608.00853). No gradient goes through it."""
    levels = (images.detach() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    read = []
    for pixels in levels:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="JPEG", quality=75)
        read.append(np.asarray(Image.open(buffer)))
    return torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2) / 255


@cache
def distilled() -> Classifier:
    """Defensive distillation at T = 100, deployed at T = 1. Source: Papernot et al. 2016 (arXiv 1511.04508)."""

    def softened(logits: Tensor, goals: Tensor) -> Tensor:
        if goals.ndim == 1:
            return cross_entropy(logits / TEMPERATURE, goals)
        return -(goals * log_softmax(logits / TEMPERATURE, dim=1)).sum(dim=1).mean()

    teacher = _trained("teacher", loss=softened, epochs=20, decay=0)
    with torch.no_grad():
        targets = softmax(teacher(_training()[0]) / TEMPERATURE, dim=1)
    return _trained("distilled at T = 100", seed=1, targets=targets, loss=softened, epochs=20, decay=0)


def dropout_left_on() -> Classifier:
    """The convolutional network with a dropout in its head that somebody forgot to switch off."""
    honest, left_on = convolutional(), nn.Dropout(0.5)
    classifier = _classifier(honest.base, nn.Sequential(left_on, honest.head), "dropout left on")
    left_on.train()
    return classifier


MASKED: dict[str, Callable[[], Classifier]] = {
    "saturated softmax": lambda: _followed(lambda logits: 50 * logits, "saturated softmax"),
    "distilled at T = 100": distilled,
    "quantising input layer": lambda: _behind(lambda images: (images * 15).round() / 15, "quantising input layer"),
    "random-resize input layer": lambda: _behind(_resized, "random-resize input layer"),
    "JPEG input layer": lambda: _behind(_through_jpeg, "JPEG input layer"),
    "logits times 1e4": lambda: _followed(lambda logits: 1e4 * logits, "logits times 1e4"),
    "dropout left on": dropout_left_on,
    "normalised twice": lambda: _behind(PREPROCESSINGS["torchvision"].apply, "normalised twice"),
    "probabilities for logits": lambda: _followed(lambda logits: softmax(logits, dim=1), "probabilities for logits"),
}


# --- an evaluation ------------------------------------------------------------------------------------------

EPSILONS = (0.003, 0.01, 0.02, 0.03, 0.05, 0.1)
ATTACKS = ("pgd", "apgd", "square", "random_sign", "uniform_noise")
DECLARED = 1.0
"""The accuracy that the convolutional network and all that stand before or behind it should have."""


class Evidence(NamedTuple):
    """What `evaluate` takes."""

    frame: pd.DataFrame
    preflights: list[dict[str, Any]]
    convergence: list[dict[str, Any]]


@torch.random.fork_rng(devices=[])
def examined(
    classifier: Classifier,
    *,
    n: int = N_TEST,
    epsilons: tuple[float, ...] = EPSILONS,
    attacks: tuple[str, ...] = ATTACKS,
) -> Evidence:
    """Return a whole evaluation of a classifier of the zoo, as a study would make it, every ball searched.

    Without a gradient it has the attacks that need none. What is random in a classifier is the same again.
    """
    torch.manual_seed(0)
    cohort = opacities(N_TRAIN, n)  # no classifier was trained on these
    preflights = [
        examine(classifier, cohort, loss=loss, channels=channels, declared_accuracy=DECLARED)
        for loss, channels in (("margin", "tied"), ("keras_bce", "free"))
    ]
    presets = choose(("paper", "sound"), attacks, "quick")
    if preflights[0]["graph"]["error"]:
        presets = [preset for preset in presets if preset.name in ("square", "random_sign", "uniform_noise")]
    settings = [_setting(preset, epsilons) for preset in presets]
    frames = [_swept(classifier, cohort, setting) for setting in settings]
    convergence = []
    for setting, frame in zip(settings, frames, strict=True):
        if isinstance(setting.preset.attack, PGD):
            found = examine_convergence(setting.preset.attack, classifier, cohort, compact(frame), setting)
            names = {name: frame[name].iloc[0] for name in ("cohort", "protocol", "model")}
            convergence += [{**names, **found}] if found else []
    return Evidence(pd.concat(frames, ignore_index=True), preflights, convergence)


def _setting(preset: Preset, epsilons: tuple[float, ...]) -> Setting:
    return Setting(
        protocol="paper",
        preset=preset if preset.effort is None else replace(preset, effort="thorough"),
        epsilons=(0.0, *epsilons),
        seed=0,
        patients={},
        refine=False,
        exhaustive=True,
    )


def _swept(classifier: Classifier, cohort: Cohort, setting: Setting) -> pd.DataFrame:
    return to_frame(row for cell in plan_cells(cohort, classifier, setting) for row in execute_cell(cell, classifier))
