"""Decoupled direction and norm: the nearest adversarial image under L2."""

from dataclasses import dataclass, field
from typing import Literal

import torch

from dosimeter.attacks.base import check_positive
from dosimeter.attacks.losses import check_loss
from dosimeter.attacks.nearest import NearestSearch, Start, anneal, check_below_one, slope, unit
from dosimeter.attacks.registry import Entry


@dataclass(frozen=True)
class DDN(NearestSearch):
    """Steps along the gradient, brought back to a sphere that shrinks after an adversarial image and grows after none.

    Finds in some tens of steps what Carlini and Wagner's attack finds in thousands. It climbs the margin; for two
    classes the paper's cross-entropy has the same direction, unless it saturates.

    Args:
        steps: gradients.
        radius: of the first sphere, as a multiple of the distance to the linearised boundary. (The paper's is 1 in L2
            for all images; as a step changes it by `gamma` only, few steps would not reach an image far nearer or
            farther.) Steps are as long as the sphere's radius at first, lastly a hundredth of it.
        gamma: by what share the sphere shrinks or grows.
        channels: as `FGSM`.

    Source: Rony et al. 2019 (arXiv 1811.09600), algorithm 1.
    """

    steps: int = 50
    radius: float = 1.0
    gamma: float = 0.05
    channels: Literal["tied", "free"] = "tied"
    loss: str = field(default="margin", init=False)
    norm: str = field(default="l2", init=False)
    name: str = "ddn"

    def __post_init__(self) -> None:
        check_loss(self.loss, self.channels)
        check_positive(steps=self.steps, radius=self.radius, gamma=self.gamma)
        check_below_one(gamma=self.gamma)

    def _search(self, start: Start) -> None:
        nearest, place, part, missing, gradient = start
        images, everywhere = part.images, torch.ones_like(missing)
        radius = self.radius * missing / slope(gradient, self.norm, self.channels)
        radius = radius.clamp(max=part.images[0].numel() ** 0.5)  # black to white
        fooled = torch.zeros_like(missing, dtype=torch.bool)
        for step in range(self.steps):
            if step > 0:
                logits, _, gradient = part.gradient(images, self.loss, self.channels)
                fooled = nearest.note(place, images, part.fooled(logits))
            radius = radius * torch.where(fooled, 1 - self.gamma, 1 + self.gamma)
            length = (anneal(1.0, 0.01, step, self.steps) * radius).view(-1, 1, 1, 1)
            move = unit(images - part.images + length * unit(gradient))
            images = part.project(part.images + radius.view(-1, 1, 1, 1) * move, everywhere)
        nearest.note(place, images, part.fooled(part.ask(images)))


STEPS = {"quick": 20, "standard": 50, "thorough": 200}

ENTRY = Entry(
    build=lambda effort: DDN(steps=STEPS[effort]),
    note="nearest adversarial image by L2; 20, 50 or 200 steps",
    source="Rony et al. 2019, arXiv 1811.09600",
    title="DDN",
    family="minimum norm",
    rank=20,
    searches="minimum",
)
