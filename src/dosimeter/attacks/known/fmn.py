"""The fast minimum-norm attack."""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch

from dosimeter.attacks.base import check_positive
from dosimeter.attacks.losses import check_loss
from dosimeter.attacks.nearest import NearestSearch, Start, anneal, check_below_one, lack, size, slope, unit
from dosimeter.attacks.registry import Entry


@dataclass(frozen=True)
class FMN(NearestSearch):
    """The nearest adversarial image under L-infinity: a ball that shrinks while it holds one and grows while not.

    One run gives each image's flip epsilon, hence the whole curve, at the cost of one PGD. An image that it finds is
    adversarial; the true minimum may be nearer. Until one is found the ball reaches to the linearised boundary and,
    unlike the paper's, a share `gamma` beyond: of a linear classifier the search would come to rest on the boundary.

    Args:
        steps: gradients.
        step_size: L2 length of the first step; the last is a hundredth of it.
        gamma: by what share the ball first changes; lastly by 0.001.
        channels: as `FGSM`.

    Source: Pintor et al. 2021 (arXiv 2102.12827), algorithm 1.
    """

    steps: int = 100
    step_size: float = 1.0
    gamma: float = 0.05
    channels: Literal["tied", "free"] = "tied"
    loss: str = field(default="margin", init=False)
    norm: str = field(default="linf", init=False)
    name: str = "fmn"

    def __post_init__(self) -> None:
        check_loss(self.loss, self.channels)
        check_positive(steps=self.steps, step_size=self.step_size, gamma=self.gamma)
        check_below_one(gamma=self.gamma)

    def _search(self, start: Start) -> None:
        nearest, place, part, missing, gradient = start
        images, epsilon = part.images, torch.full_like(missing, math.inf)
        fooled = torch.zeros_like(missing, dtype=torch.bool)
        for step in range(self.steps):
            if step > 0:
                logits, _, gradient = part.gradient(images, self.loss, self.channels)
                missing, fooled = lack(part, logits), nearest.note(place, images, part.fooled(logits))
            gamma, least = anneal(self.gamma, 0.001, step, self.steps), nearest.sizes[place]
            boundary = size(images - part.images, "linf") + missing / slope(gradient, "linf", self.channels)
            wider = (1 + gamma) * torch.where(least.isinf(), boundary, epsilon)
            epsilon = torch.where(fooled, torch.minimum((1 - gamma) * epsilon, least), wider).clamp(max=1)
            length = anneal(self.step_size, self.step_size / 100, step, self.steps)
            images = part.project(images + length * unit(gradient), epsilon)
        nearest.note(place, images, part.fooled(part.ask(images)))


STEPS = {"quick": 40, "standard": 50, "thorough": 200}

ENTRY = Entry(
    build=lambda effort: FMN(steps=STEPS[effort]),
    note="nearest adversarial image, largest change of a pixel; 40, 50 or 200 steps",
    source="Pintor et al. 2021, arXiv 2102.12827",
    title="FMN",
    family="minimum norm",
    rank=40,
    searches="minimum",
)
