"""Projected gradient descent for an image that will be stored: what it finds is what the file holds."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from dosimeter.attacks.base import Candidate, Problem, check_positive
from dosimeter.attacks.best import Best
from dosimeter.attacks.losses import check_loss
from dosimeter.attacks.registry import Entry
from dosimeter.attacks.threat import as_levels

SHARES = (1 / 64, 1 / 16, 1 / 4, 1.0)
"""Of the values that a repair could move, those with the largest expected gain are moved together."""


@dataclass(frozen=True)
class StoredPGD:
    """PGD whose every iterate lies on the grey levels of a file, and a greedy repair among them.

    Steps move a continuous image; its nearest on the lattice within the ball is what the network is asked about, and
    the gradient found there moves the continuous one (straight-through rounding), so that steps shorter than a level
    add up. Images that are still classified correctly are then repaired: of the best iterate the values with the
    largest expected gain go to the far end of the ball, and what raises the loss most is kept. Naive rounding, PGD's
    image stored afterwards, is what it is to be compared with.

    Args:
        bits: of the file. A problem with a lattice of its own has that.
        steps: gradients before the repair.
        repairs: rounds of the repair, a gradient and a few answers each.
        step_size: of a step, as a share of epsilon.
        loss, channels: as `FGSM`.

    Source: Madry et al. 2018 (arXiv 1706.06083) for the steps; Bengio et al. 2013 (arXiv 1308.3432) for gradients
        through rounding; Carlini & Wagner 2017 (arXiv 1608.04644), section V-D, for the search on the lattice.
    """

    bits: int = 8
    steps: int = 20
    repairs: int = 5
    step_size: float = 0.25
    loss: str = "margin"
    channels: Literal["tied", "free"] = "tied"
    name: str = "stored_pgd"

    def __post_init__(self) -> None:
        check_loss(self.loss, self.channels)
        check_positive(steps=self.steps, step_size=self.step_size)
        if self.repairs != 0:
            check_positive(repairs=self.repairs)
        as_levels(self.bits)

    @property
    def levels(self) -> int:
        """Steps between black and white."""
        return (1 << self.bits) - 1

    def perturb(self, problem: Problem, epsilon: Tensor) -> Candidate:
        """Return the best image on the lattice within `epsilon` (batch,)."""
        if problem.levels is None:
            problem = replace(problem, levels=self.levels)
        best = Best.of(problem)
        self._descend(problem, epsilon, best)
        for _ in range(self.repairs):
            place = best.open
            if not len(place):
                break
            self._repair(problem.take(place), epsilon[place], place, best)
        return best.candidate

    def _descend(self, problem: Problem, epsilon: Tensor, best: Best) -> None:
        place, part, dose = best.open, problem, epsilon
        continuous = lattice = part.images
        for step in range(self.steps + 1):
            logits, losses, gradient = part.gradient(lattice, self.loss, self.channels)
            going = ~best.note(place, lattice, losses, part.fooled(logits))
            if step == 0:
                going &= _movable(part, dose)
            which = going.nonzero()[:, 0]
            if not len(which):
                return
            place, part, dose = place[which], part.take(which), dose[which]
            reach = 1.0 if step == 0 else self.step_size  # the first goes to FGSM's image
            moved = continuous[which] + (reach * dose).view(-1, 1, 1, 1) * gradient[which].sign()
            continuous = replace(part, levels=None).project(moved, dose)
            lattice = part.project(continuous, dose)
        logits = part.ask(lattice)
        best.note(place, lattice, part.losses(logits, self.loss), part.fooled(logits))

    def _repair(self, problem: Problem, epsilon: Tensor, place: Tensor, best: Best) -> None:
        """Move the values that promise most, in growing shares, and keep what is better than the best so far."""
        images = best.candidate.images[place]
        _, _, gradient = problem.gradient(images, self.loss, self.channels)
        ends = problem.project(problem.images + epsilon.view(-1, 1, 1, 1) * gradient.sign(), epsilon)
        gain = (gradient * (ends - images)).clamp(min=0)
        if self.channels == "tied":
            gain = gain.sum(dim=1, keepdim=True)  # planes move together or not at all
        ranks = gain.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1).view_as(gain)
        for share in SHARES:
            limit = (share * (gain > 0).flatten(1).sum(dim=1)).ceil().view(-1, 1, 1, 1)
            moved = torch.where((ranks < limit) & (gain > 0), ends, images)
            logits = problem.ask(moved)
            best.note(place, moved, problem.losses(logits, self.loss), problem.fooled(logits))


def _movable(problem: Problem, epsilon: Tensor) -> Tensor:
    """Return (batch,) True where another level is within reach of any value."""
    reach = epsilon.view(-1, 1, 1, 1)
    ends = [problem.project(problem.images + side * reach, epsilon) for side in (-1, 1)]
    return torch.stack([(end != problem.images).flatten(1).any(dim=1) for end in ends]).any(dim=0)


EFFORT = {"quick": (10, 2), "standard": (20, 5), "thorough": (100, 10)}  # steps, repairs

ENTRY = Entry(
    build=lambda effort: StoredPGD(steps=EFFORT[effort][0], repairs=EFFORT[effort][1]),
    note="PGD on the grey levels of an 8-bit file, then repaired there: its image is its file's",
    source="Madry et al. 2018, arXiv 1706.06083; Bengio et al. 2013, arXiv 1308.3432",
    title="PGD for 8-bit files",
    family="iterative",
    rank=50,
    aware=True,
    searches="budget",
    storages=("float", "png8"),
)
