"""What images speak for of a model that nobody described: how many it gets right under usual ranges and resizes.

A count is evidence, no proof. It stands beside a question; no value is taken because of it.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dosimeter.cohorts.base import Case, Cohort
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier
from dosimeter.models.proof import FAR, activation_of
from dosimeter.models.source import Brought, classifier_of
from dosimeter.record.model_card import ModelCard

PLAIN: dict[str, Any] = {"scale": 1.0, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
RANGES: dict[str, dict[str, Any]] = {
    "black 0, white 1: scale 1, mean 0, std 1": PLAIN,
    "black -1, white 1: scale 1, mean 0.5, std 0.5": PLAIN | {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    "ImageNet's: scale 1, mean 0.485, 0.456, 0.406, std 0.229, 0.224, 0.225": {
        **PLAIN, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225),
    },
    "black 0, white 255: scale 255, mean 0, std 1": PLAIN | {"scale": 255.0},
    "blue first, less ImageNet's mean: bgr, scale 255, mean 103.939, 116.779, 123.68, std 1": {
        **PLAIN, "scale": 255.0, "mean": (103.939, 116.779, 123.68), "channel_order": "bgr",
    },
}  # fmt: skip
"""Ranges of pixels that networks are usually trained on, as people write them -> the keys of a card."""

RESIZES: dict[str, dict[str, Any]] = {
    "squash, bilinear": {"resize": "squash", "interpolation": "bilinear"},
    "squash, bilinear, antialias false": {"resize": "squash", "interpolation": "bilinear", "antialias": False},
    "squash, nearest": {"resize": "squash", "interpolation": "nearest"},
    "squash, bicubic": {"resize": "squash", "interpolation": "bicubic"},
    "squash, box": {"resize": "squash", "interpolation": "box"},
    "crop, bilinear": {"resize": "crop", "interpolation": "bilinear"},
    "crop, bilinear, crop_pct 0.875": {"resize": "crop", "interpolation": "bilinear", "crop_pct": 0.875},
    "letterbox, bilinear": {"resize": "letterbox", "interpolation": "bilinear"},
}
"""Ways of resizing that are usual -> the keys of a card."""

MOST_ORDERS = 4
"""Classes of which every order is counted."""


class Count(NamedTuple):
    """How much an order of the classes gets right: images, or of findings the share of those that are known."""

    right: float
    order: str

    def __str__(self) -> str:
        return f"{self.right:g} ({self.order})" if self.order else f"{self.right:.2f}"


class Evidence:
    """Asks a model about a few images of each class.

    Args:
        card: names its classes as the data does, or has placeholders.
        brought: the model.
        cohort: labelled images.
        n_images: how many are asked.

    Attributes:
        cases: those that are asked; none if the classes are not those of the data.
    """

    def __init__(self, card: ModelCard, brought: Brought, cohort: Cohort, *, n_images: int) -> None:
        self.card = card
        self._brought = replace(brought, classes=None)
        self._ordered = brought.classes is not None
        self._cohort = cohort
        names = cohort.findings or cohort.classes
        self.cases = draw(cohort, n_images) if set(card.classes) == set(names) else []

    @property
    def in_colour(self) -> bool:
        """Whether an image has colours."""
        return any(case.image.shape[0] == 3 for case in self.cases)

    def counts(self, facts: dict[str, Any]) -> list[Count]:
        """Return what is right with these keys of a card, the best order of the classes first."""
        classifier = candidate(self.card, self._brought, facts)
        logits = []
        with torch.inference_mode():
            for case in self.cases:
                logits.append(classifier(classifier.prepare(case)[None])[0].float().cpu())
        outputs = torch.stack(logits)
        if classifier.findings is not None:
            return [self._share(classifier, outputs)]
        names = self.card.classes
        orders = [names] if self._ordered or len(names) > MOST_ORDERS else list(permutations(names))
        truth = [self._cohort.classes[case.label] for case in self.cases]
        answers = outputs.argmax(dim=1).tolist()
        counted = [
            Count(sum(order[place] == label for place, label in zip(answers, truth, strict=True)), ", ".join(order))
            for order in orders
        ]
        return sorted(counted, key=lambda each: -each.right)

    def _share(self, classifier: Classifier, outputs: Tensor) -> Count:
        assert classifier.findings is not None
        places = [self._cohort.findings.index(name) for name in self.card.classes]
        rows = [[case.record.findings[place] for place in places] for case in self.cases]
        labels = torch.tensor([[np.nan if each is None else float(each) for each in row] for row in rows])
        n_known = int((~labels.isnan()).sum())
        return Count(float(classifier.findings.right(outputs, labels).sum()) / max(n_known, 1), "")


def candidate(card: ModelCard, brought: Brought, facts: dict[str, Any]) -> Classifier:
    """Return a model as a classifier with these keys of a card; pixels as they are where nobody says otherwise."""
    unsaid = {} if brought.mean is not None or card.mean is not None else PLAIN
    return classifier_of(card.model_copy(update=unsaid | facts), brought)


class Outputs(NamedTuple):
    """What a network gives for noise (n, n_outputs), and for what is no image."""

    within: Tensor
    beyond: Tensor

    @property
    def are_whole(self) -> bool:
        """Whether all are whole numbers."""
        both = torch.cat(self)
        return bool((both == both.round()).all())

    @property
    def stay_shares(self) -> bool:
        """Whether they never leave [0, 1]."""
        both = torch.cat(self)
        return bool(((both >= 0) & (both <= 1)).all())

    @property
    def activation(self) -> str:
        """ "softmax" or "sigmoid" if that is what they show, else ""."""
        return activation_of(self.within, self.beyond) if self.stay_shares else ""


def ask(card: ModelCard, brought: Brought) -> Outputs:
    """Return what a network itself gives.

    Raises:
        DosimeterError: it fails, or gives no tensor.
    """
    classifier = candidate(card, replace(brought, classes=None), {})
    images = torch.rand(3, 3, *classifier.grid.shape, generator=torch.Generator().manual_seed(0))
    within = _raw(classifier, images)
    try:
        beyond = _raw(classifier, torch.cat([pixel * images[:1] for pixel in FAR]))
    except DosimeterError:  # it refuses what is no image
        beyond = within[:0]
    return Outputs(within, beyond)


def _raw(classifier: Classifier, images: Tensor) -> Tensor:
    """Return a network's own outputs (n, n_outputs)."""
    try:
        with torch.inference_mode():
            outputs: Any = classifier.features(images)
    except Exception as error:  # a network that somebody brings may raise anything
        reason = " ".join(str(error).split())[:200]
        raise DosimeterError(f"the network fails on images of {classifier.grid.words} ({reason}).") from error
    if not isinstance(outputs, Tensor):
        raise DosimeterError(f"the network must answer with one tensor, got {type(outputs).__name__}.")
    return outputs.reshape(len(images), -1).float()


def draw(cohort: Cohort, n_images: int) -> Sequence[Case]:
    """Return some cases that can be read, of each class as many as there are room for.

    Raises:
        DosimeterError: there is none.
    """
    of_each = [np.flatnonzero(cohort.labels == label).tolist() for label in range(len(cohort.classes))]
    turns = [places[turn] for turn in range(max(map(len, of_each))) for places in of_each if turn < len(places)]
    cases: list[Case] = []
    reason = ""
    for place in turns:
        if len(cases) == n_images:
            break
        try:
            cases.append(cohort[place])
        except (DosimeterError, OSError, ValueError) as error:
            reason = reason or str(error)
    if not cases:
        raise DosimeterError(f"none of the {len(cohort)} images of {cohort.name} can be read. {reason}")
    return cases
