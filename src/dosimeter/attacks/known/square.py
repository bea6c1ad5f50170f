"""The Square attack: random squares, kept where the answer gets worse."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dosimeter.attacks.base import Candidate, Problem, check_positive
from dosimeter.attacks.best import Best
from dosimeter.attacks.losses import check_loss
from dosimeter.attacks.registry import Entry
from dosimeter.errors import DosimeterError

HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Shares of all queries after which a square's area is halved (the paper's 10, 50, 200, ... of 10,000)."""


@dataclass(frozen=True)
class Square:
    """A search that needs logits only: squares of random sign at the edge of the ball, smaller and smaller.

    Use it where there is no gradient, and as a check on attacks that have one: if it finds what they did not, their
    gradient misleads. It starts from vertical stripes. An image that is misclassified is done.

    Args:
        queries: answers asked for each image, at most.
        area: of the first squares, as a share of the image.
        loss, channels: as `FGSM`.

    Source: Andriushchenko et al. 2020 (arXiv 1912.00049), algorithms 1 and 2; area as in Croce and Hein 2020.
    """

    queries: int = 300
    area: float = 0.8
    loss: str = "margin"
    channels: Literal["tied", "free"] = "tied"
    name: str = "square"

    def __post_init__(self) -> None:
        check_loss(self.loss, self.channels)
        check_positive(queries=self.queries, area=self.area)
        if self.area > 1:
            raise DosimeterError(f"area must be at most 1, the whole image, got {self.area}.")

    def perturb(self, problem: Problem, epsilon: Tensor) -> Candidate:
        """Return the image of the largest loss."""
        best = Best.of(problem)
        place, part, dose = best.open, problem, epsilon
        for query in range(self.queries):
            images = self._stripes(part, dose) if query == 0 else self._square(part, dose, best, place, query)
            logits = part.ask(images)
            which = (~best.note(place, images, part.losses(logits, self.loss), part.fooled(logits))).nonzero()[:, 0]
            if not len(which):
                break
            if len(which) < len(place):
                place, part, dose = place[which], part.take(which), dose[which]
        return best.candidate

    def _stripes(self, problem: Problem, epsilon: Tensor) -> Tensor:
        signs = self._signs(problem, 1, problem.images.shape[3])
        return problem.project(problem.images + epsilon.view(-1, 1, 1, 1) * signs, epsilon)

    def _square(self, problem: Problem, epsilon: Tensor, best: Best, place: Tensor, query: int) -> Tensor:
        """Return the best images so far with one square each set to the edge of the ball."""
        height, width = problem.images.shape[2:]
        halvings = sum(query / self.queries > share for share in HALVINGS)
        side = max(1, round((self.area / 2**halvings * height * width) ** 0.5))
        down, across = min(side, height), min(side, width)
        corner = problem.random(torch.rand, 2)
        top = (corner[:, 0] * (height - down + 1)).long().view(-1, 1, 1, 1)
        left = (corner[:, 1] * (width - across + 1)).long().view(-1, 1, 1, 1)
        rows = torch.arange(height, device=top.device).view(-1, 1)
        columns = torch.arange(width, device=top.device)
        inside = (rows >= top) & (rows < top + down) & (columns >= left) & (columns < left + across)
        edge = problem.images + epsilon.view(-1, 1, 1, 1) * self._signs(problem, 1, 1)
        return problem.project(torch.where(inside, edge, best.candidate.images[place]), epsilon)

    def _signs(self, problem: Problem, *shape: int) -> Tensor:
        planes = 1 if self.channels == "tied" else problem.images.shape[1]
        return torch.where(problem.random(torch.rand, planes, *shape) < 0.5, -1.0, 1.0)


QUERIES = {"quick": 100, "standard": 300, "thorough": 5000}

ENTRY = Entry(
    build=lambda effort: Square(queries=QUERIES[effort]),
    note="random squares, 100, 300 or 5000 queries; needs logits only",
    source="Andriushchenko et al. 2020, arXiv 1912.00049",
    title="Square",
    family="black box",
    access="scores",
    rank=10,
    searches="budget",
)
