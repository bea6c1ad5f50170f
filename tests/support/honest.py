"""Honest classifiers: their gradients are the derivatives of what they answer, and lead to adversarial images."""

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from zoo import (
    SIZE_PX,
    Layer,
    Parts,
    behind,
    classifier_of,
    convolutional,
    convolutions,
    followed,
    imbalanced,
    opacities,
    tinted,
    trained,
    training,
)

from dosimeter.attacks.base import Problem
from dosimeter.attacks.known.pgd import PGD
from dosimeter.cohorts.base import Cohort
from dosimeter.models.base import Classifier
from dosimeter.models.outputs import OneLogit


class Honest(NamedTuple):
    """An honest classifier.

    Attributes:
        build: makes it.
        cohort: (start, n) to the images that it is examined on.
        n: how many of them, if not as many as of the others.
        because: the check that rightly says CAUTION, "" if none does.
    """

    build: Callable[[], Classifier]
    cohort: Callable[[int, int], Cohort] = opacities
    n: int | None = None
    because: str = ""


@cache
def adversarially_trained(epsilon: float = 0.02) -> Classifier:
    """Source: Madry et al. 2018 (arXiv 1706.06083): trained on PGD's images instead of the clean ones."""

    def attacked(classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
        attack = PGD(steps=3, step_size=0.5, start="random")
        return attack.perturb(Problem(classifier, images, labels), torch.full((len(images),), epsilon)).images

    return trained("adversarially trained", attacked=attacked, epochs=8)


def _means() -> Tensor:
    images, labels = training()
    return torch.stack([images[labels == label].mean(dim=0).flatten() for label in (0, 1)])


@cache
def linear() -> Classifier:
    """The difference of the class means as weights, the mean score as threshold."""
    means = _means()
    head = nn.Linear(3 * SIZE_PX**2, 2)
    head.weight.data = means
    head.bias.data = -means.square().sum(dim=1) / 2
    return classifier_of(Parts(nn.Identity(), nn.Sequential(nn.Flatten(), head)), "linear", "unit")


def nearest_centroid() -> Classifier:
    """Minus the squared distances to the class means."""
    means = _means()
    distances = Layer(lambda images: -(images.flatten(1)[:, None] - means).square().sum(dim=2))
    return classifier_of(Parts(nn.Identity(), distances), "nearest centroid", "unit")


def _perceptron() -> Parts:
    layers = nn.Linear(3 * SIZE_PX**2, 64), nn.ReLU(), nn.Linear(64, 2)
    return Parts(nn.Identity(), nn.Sequential(nn.Flatten(), *layers))


def _small_fields() -> Parts:
    """Fields of 3 x 3, a pixel apart from the next, then the mean over the image."""
    base = nn.Sequential(nn.Conv2d(3, 24, 3, stride=4), nn.ReLU(), nn.Conv2d(24, 24, 1), nn.ReLU())
    return Parts(base, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 2)))


def _averages() -> Parts:
    return Parts(nn.AvgPool2d(4), nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.ReLU(), nn.Linear(32, 2)))


def _maxima() -> Parts:
    """The largest of each 2 x 2 pixels first: three quarters of the pixels have a gradient of 0."""
    base, head = convolutions()
    return Parts(nn.Sequential(nn.AvgPool2d(2), nn.MaxPool2d(2), nn.Upsample(scale_factor=4), *base), head)


def _normalised() -> Parts:
    base, head = convolutions(partial(nn.LeakyReLU, 0.1))
    return Parts(nn.Sequential(base[0], nn.BatchNorm2d(12), *base[1:], nn.BatchNorm2d(12)), head)


def _dropped() -> Parts:
    base, head = convolutions()
    return Parts(nn.Sequential(*base, nn.Dropout2d(0.2)), nn.Sequential(*head[:-1], nn.Dropout(0.5), head[-1]))


def _one_logit() -> Parts:
    base, head = convolutions()
    return Parts(base, nn.Sequential(*head[:-1], nn.Linear(32, 1), OneLogit()))


def left_in_training_mode() -> Classifier:
    """Containers, convolutions and ReLUs in training mode, where they do what they always do."""
    classifier = behind(lambda images: images, "left in training mode")
    for module in classifier.modules():
        module.training = True
    return classifier


def _wide(images: Tensor) -> Tensor:
    """The middle alone: what is around it has no part in the answer."""
    return nn.functional.pad(images[:, :, 4:-4, 4:-4], (4, 4, 4, 4), value=0.4)


HONEST: dict[str, Honest] = {
    "convolutional": Honest(convolutional),
    "adversarially trained": Honest(adversarially_trained),
    "adversarially trained, 0.01": Honest(lambda: adversarially_trained(0.01)),
    "linear": Honest(linear),
    "nearest centroid": Honest(nearest_centroid),
    "perceptron": Honest(lambda: trained("perceptron", _perceptron)),
    "small fields": Honest(lambda: trained("small fields", _small_fields, epochs=40, decay=0)),
    "average pooling": Honest(lambda: trained("average pooling", _averages, epochs=12)),
    "max pooling": Honest(lambda: trained("max pooling", _maxima, epochs=16)),
    "softplus": Honest(lambda: trained("softplus", partial(convolutions, nn.Softplus), epochs=16)),
    "GELU": Honest(lambda: trained("GELU", partial(convolutions, nn.GELU))),
    "tanh": Honest(lambda: trained("tanh", partial(convolutions, nn.Tanh))),
    "batch normalisation": Honest(lambda: trained("batch normalisation", _normalised)),
    "dropout switched off": Honest(lambda: trained("dropout switched off", _dropped, epochs=12)),
    "left in training mode": Honest(left_in_training_mode),
    "well regularised": Honest(lambda: trained("well regularised", decay=0.03, epochs=12)),
    "wide margins": Honest(lambda: trained("wide margins", decay=0, epochs=40)),
    "one logit": Honest(lambda: trained("one logit", _one_logit)),
    "logits times 1000": Honest(lambda: followed(lambda logits: 1e3 * logits, "logits times 1000")),
    "logits times 1e-5": Honest(lambda: followed(lambda logits: 1e-5 * logits, "logits times 1e-5")),
    "logits plus 100": Honest(lambda: followed(lambda logits: logits + 100, "logits plus 100")),
    "log probabilities": Honest(lambda: followed(lambda logits: logits.log_softmax(dim=1), "log probabilities")),
    "cropped": Honest(lambda: behind(_wide, "cropped")),
    "in colour": Honest(convolutional, tinted),
    "five images": Honest(convolutional, n=5, because="The classifier is better than the larger class"),
    "one image in eight": Honest(convolutional, imbalanced, because="The classifier is better than the larger class"),
}
