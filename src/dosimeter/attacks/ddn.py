"""Decoupled direction and norm: the nearest adversarial image under L2."""

from dataclasses import dataclass, field
from typing import Literal

import torch

from dosimeter.attacks.base import Direction, Problem, check_positive
from dosimeter.attacks.fmn import TINY, Start, anneal, begin, check_below_one, size
from dosimeter.attacks.losses import check_loss
from dosimeter.attacks.registry import Entry


@dataclass(frozen=True)
class DDN:
    """Steps along the gradient, brought back to a sphere that shrinks after an adversarial image and grows after none.

    Finds in some tens of steps what Carlini and Wagner's attack finds in thousands. Give it more steps where the nearest
    image is far from `radius`: each changes it by a share `gamma` at most.

    Args:
        steps: gradients.
        radius: of the first sphere, L2 over all values of the image.
        gamma: by what share the sphere shrinks or grows.
        loss, channels: as `FGSM`; the paper's loss is "cross_entropy".

    Source: Rony et al. 2019 (arXiv 1811.09600), algorithm 1.
    """

    steps: int = 50
    radius: float = 1.0
    gamma: float = 0.05
    loss: str = "margin"
    channels: Literal["tied", "free"] = "tied"
    norm: str = field(default="l2", init=False)
    name: str = "ddn"

    def __post_init__(self) -> None:
        check_loss(self.loss, self.channels)
        check_positive(steps=self.steps, radius=self.radius, gamma=self.gamma)
        check_below_one(gamma=self.gamma)

    def direction(self, problem: Problem) -> Direction:
        """Return the way to the nearest adversarial images found.

        Raises:
            FloatingPointError: a gradient is not finite.
        """
        start = begin(problem, self.norm, self.loss, self.channels)
        if len(start.place):
            self._search(start)
        return start.nearest.direction()

    def _search(self, start: Start) -> None:
        nearest, place, part, losses, gradient = start
        images, radius = part.images, torch.full_like(losses, self.radius)
        everywhere = torch.ones_like(losses)
        fooled = torch.zeros_like(losses, dtype=torch.bool)
        for step in range(self.steps):
            if step > 0:
                logits, _, gradient = part.gradient(images, self.loss, self.channels)
                fooled = nearest.note(place, images, part.fooled(logits))
            radius = radius * torch.where(fooled, 1 - self.gamma, 1 + self.gamma)
            ahead = gradient / size(gradient, "l2").clamp(min=TINY).view(-1, 1, 1, 1)
            move = images - part.images + anneal(1.0, 0.01, step, self.steps) * ahead
            move = move * (radius / size(move, "l2").clamp(min=TINY)).view(-1, 1, 1, 1)
            images = part.project(part.images + move, everywhere)
        nearest.note(place, images, part.fooled(part.ask(images)))


STEPS = {"quick": 20, "standard": 50, "thorough": 200}

ENTRY = Entry(
    build=lambda effort: DDN(steps=STEPS[effort]),
    note="nearest adversarial image by L2; 20, 50 or 200 steps",
    needs_gradient=True,
    source="Rony et al. 2019, arXiv 1811.09600",
    searches="minimum",
)
