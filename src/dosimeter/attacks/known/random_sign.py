"""Every pixel up or down by chance: the control for any directed attack."""

from dataclasses import dataclass
from typing import Literal

import torch

from dosimeter.attacks.base import Direction, Problem
from dosimeter.attacks.losses import check_channels
from dosimeter.attacks.registry import Entry


@dataclass(frozen=True)
class RandomSign:
    """A direction without knowledge of the classifier, as large as FGSM's.

    What it breaks is not the gradient's merit: the report subtracts it from an attack's effect.

    Args:
        channels: "tied" moves the three planes together, "free" each on its own.
    """

    channels: Literal["tied", "free"] = "tied"
    loss: str = "none"
    name: str = "random_sign"

    def __post_init__(self) -> None:
        check_channels(self.channels)

    def direction(self, problem: Problem) -> Direction:
        """Return -1 or 1 at every pixel."""
        planes = problem.images.shape[1] if self.channels == "free" else 1
        noise = problem.random(torch.rand, planes, *problem.images.shape[2:])
        sign = torch.where(noise < 0.5, -1.0, 1.0).expand_as(problem.images)
        sign = sign if problem.mask is None else sign * problem.mask
        return Direction(sign, torch.zeros(len(problem), dtype=torch.bool))


ENTRY = Entry(
    build=lambda effort: RandomSign(),
    note="every pixel up or down by chance: the control at the same epsilon",
    source="control; Carlini et al. 2019, arXiv 1902.06705, section 5",
    title="random sign",
    family="control",
    access="nothing",
    rank=10,
)
