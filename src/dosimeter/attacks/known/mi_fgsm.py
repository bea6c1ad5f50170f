"""The momentum iterative fast gradient sign method."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dosimeter.attacks.base import Candidate, Problem, check_positive
from dosimeter.attacks.best import Best
from dosimeter.attacks.losses import check_loss
from dosimeter.attacks.registry import Entry
from dosimeter.errors import DosimeterError


@dataclass(frozen=True)
class MIFGSM:
    """Steps along the sign of a running sum of gradients, each divided by its L1 norm.

    Use it to make images that fool other classifiers: the sum forgets what is peculiar to one point. Against the
    classifier itself PGD is stronger. An image that is misclassified is done; the best iterate is kept.

    Args:
        steps: gradients.
        momentum: share of the sum that each step keeps; 1 forgets nothing, 0 everything (see `bim`).
        step_size: of a step, as a share of epsilon; the paper's is 1 / steps.
        loss, channels: as `FGSM`.

    Source: Dong et al. 2018 (arXiv 1710.06081), algorithm 1, equations 6 and 7.
    """

    steps: int = 10
    momentum: float = 1.0
    step_size: float = 0.1
    loss: str = "margin"
    channels: Literal["tied", "free"] = "tied"
    name: str = "mi_fgsm"

    def __post_init__(self) -> None:
        check_loss(self.loss, self.channels)
        check_positive(steps=self.steps, step_size=self.step_size)
        if not 0 <= self.momentum <= 1:
            raise DosimeterError(f"momentum must be in [0, 1], got {self.momentum}. The paper's is 1.")

    def perturb(self, problem: Problem, epsilon: Tensor) -> Candidate:
        """Return the best of all iterates."""
        best = Best.of(problem)
        place, part, images, dose = best.open, problem, problem.images, epsilon
        trend = torch.zeros_like(images)
        for _ in range(self.steps):
            logits, losses, gradient = part.gradient(images, self.loss, self.channels)
            which = (~best.note(place, images, losses, part.fooled(logits))).nonzero()[:, 0]
            if not len(which):
                break
            place, part, dose = place[which], part.take(which), dose[which]
            size = gradient.abs().sum(dim=(1, 2, 3), keepdim=True).clamp(min=torch.finfo(gradient.dtype).tiny)
            trend = (self.momentum * trend + gradient / size)[which]
            step = part.stride(self.step_size * dose).view(-1, 1, 1, 1)
            images = part.project(images[which] + step * trend.sign(), dose)
        else:
            logits = part.ask(images)
            best.note(place, images, part.losses(logits, self.loss), part.fooled(logits))
        return best.candidate


STEPS = {"quick": 10, "standard": 10, "thorough": 40}

ENTRY = Entry(
    build=lambda effort: MIFGSM(steps=STEPS[effort], step_size=1 / STEPS[effort]),
    note="10 (thorough: 40) steps along a running sum of gradients; made for transfer",
    source="Dong et al. 2018, arXiv 1710.06081",
    title="MI-FGSM",
    family="iterative",
    rank=20,
    exhaustive=True,
    searches="budget",
)
