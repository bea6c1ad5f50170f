"""Noise without direction: the second control."""

from dataclasses import dataclass
from typing import Literal

import torch

from dosimeter.attacks.base import Direction, Problem
from dosimeter.attacks.losses import check_channels
from dosimeter.attacks.registry import Entry


@dataclass(frozen=True)
class UniformNoise:
    """Every pixel moved by a uniform amount in [-epsilon, epsilon].

    Args:
        channels: "tied" moves the three planes together, "free" each on its own.
    """

    channels: Literal["tied", "free"] = "tied"
    loss: str = "none"
    name: str = "uniform_noise"

    def __post_init__(self) -> None:
        check_channels(self.channels)

    def direction(self, problem: Problem) -> Direction:
        """Return a number in [-1, 1) at every pixel."""
        noise = problem.noise(self.channels).expand_as(problem.images)
        noise = noise if problem.mask is None else noise * problem.mask
        return Direction(noise, torch.zeros(len(problem), dtype=torch.bool))


ENTRY = Entry(
    build=lambda effort: UniformNoise(),
    note="uniform noise: what a poor sensor might do",
    source="control; Carlini et al. 2019, arXiv 1902.06705, section 5",
    title="uniform noise",
    family="control",
    access="nothing",
    rank=20,
)
