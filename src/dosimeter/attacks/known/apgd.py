"""Auto-PGD: PGD that chooses its own step."""

import math
from dataclasses import dataclass, fields
from typing import Literal, Self

import torch
from torch import Tensor

from dosimeter.attacks.base import Candidate, Problem, check_positive
from dosimeter.attacks.best import Best
from dosimeter.attacks.losses import check_loss
from dosimeter.attacks.registry import Entry
from dosimeter.errors import DosimeterError


@dataclass
class Climb:
    """Where each image of a run stands: all are (batch, ...) and shrink together.

    Attributes:
        epsilon: of each image.
        step: current step size; (batch, 1, 1, 1), like what multiplies images.
        images, previous: this iterate and the last.
        losses: of `images`; `gradient`: its gradient there.
        peak, peak_losses, peak_gradient: the same where the loss was largest.
        rises: steps since the last checkpoint that raised the loss.
        mark: `peak_losses` at the last checkpoint.
        halved: whether the step was halved there.
    """

    epsilon: Tensor
    step: Tensor
    images: Tensor
    previous: Tensor
    losses: Tensor
    gradient: Tensor
    peak: Tensor
    peak_losses: Tensor
    peak_gradient: Tensor
    rises: Tensor
    mark: Tensor
    halved: Tensor

    @classmethod
    def of(cls, images: Tensor, epsilon: Tensor) -> Self:
        """Begin at `images`, with a step of twice epsilon."""
        low, step = torch.full_like(epsilon, -torch.inf), 2 * epsilon.view(-1, 1, 1, 1)
        nothing, no = torch.zeros_like(epsilon), torch.zeros_like(epsilon, dtype=torch.bool)
        # The losses before the first: the first is a peak, and no rise.
        return cls(epsilon, step, images, images, -low, images, images, low, images, nothing, low, no)

    def take(self, which: Tensor) -> Self:
        """Return the images at the places `which` (m,) only."""
        return type(self)(*(getattr(self, field.name)[which] for field in fields(self)))

    def observe(self, losses: Tensor, gradient: Tensor) -> None:
        """Note what was found at `images`."""
        self.rises = self.rises + (losses > self.losses)
        self.losses, self.gradient = losses, gradient
        higher = losses > self.peak_losses
        self.peak_losses = torch.where(higher, losses, self.peak_losses)
        there = higher.view(-1, 1, 1, 1)
        self.peak = torch.where(there, self.images, self.peak)
        self.peak_gradient = torch.where(there, gradient, self.peak_gradient)

    def adapt(self, least_rises: float) -> None:
        """At a checkpoint, halve the step and return to the peak where the climb stalls (conditions 1 and 2)."""
        stalled = (self.rises < least_rises) | (~self.halved & (self.peak_losses == self.mark))
        there = stalled.view(-1, 1, 1, 1)
        self.step = torch.where(there, self.step / 2, self.step)
        self.images = torch.where(there, self.peak, self.images)
        self.gradient = torch.where(there, self.peak_gradient, self.gradient)
        self.losses = torch.where(stalled, self.peak_losses, self.losses)
        self.rises, self.mark, self.halved = torch.zeros_like(self.rises), self.peak_losses, stalled

    def advance(self, problem: Problem, share: float) -> None:
        """Go `share` of a projected gradient step and keep the rest of the last movement (equation 1)."""
        stepped = problem.project(self.images + problem.stride(self.step) * self.gradient.sign(), self.epsilon)
        moved = share * (stepped - self.images) + (1 - share) * (self.images - self.previous)
        self.images, self.previous = problem.project(self.images + moved, self.epsilon), self.images


@dataclass(frozen=True)
class APGD:
    """Projected gradient descent with momentum that halves its step where the loss no longer rises.

    Stronger than PGD at the same cost where PGD's step does not fit, and nothing to tune. From the image its first step
    is FGSM's, so it is never weaker than FGSM on the same loss. An image that is misclassified is done; the best
    iterate is kept. The paper's loss is `dlr`, which needs three classes.

    Args:
        steps: gradients of each start, one more for the last image's answer.
        restarts: starts; all after the first are random.
        share: of a new step in a movement, the paper's alpha; the rest is the last movement.
        rises: least share of the steps between two checkpoints that must raise the loss, the paper's rho.
        start: "image" or "random" (the paper).
        loss, channels: as `FGSM`.

    Source: Croce and Hein 2020 (arXiv 2003.01690), algorithm 1 and section 4.1.
    """

    steps: int = 50
    restarts: int = 1
    share: float = 0.75
    rises: float = 0.75
    start: Literal["image", "random"] = "image"
    loss: str = "margin"
    channels: Literal["tied", "free"] = "tied"
    name: str = "apgd"

    def __post_init__(self) -> None:
        check_loss(self.loss, self.channels)
        check_positive(steps=self.steps, restarts=self.restarts, share=self.share, rises=self.rises)
        if self.share > 1:
            raise DosimeterError(f"share must be at most 1, got {self.share}. The paper's is 0.75.")
        if self.start not in ("image", "random"):
            raise DosimeterError(f"start must be 'image' or 'random', got '{self.start}'.")

    def perturb(self, problem: Problem, epsilon: Tensor) -> Candidate:
        """Return the best of all iterates."""
        best = Best.of(problem)
        for restart in range(self.restarts):
            place = best.open
            if not len(place):
                break
            self._climb(best, place, problem.take(place), epsilon[place], "random" if restart else self.start)
        return best.candidate

    def _climb(self, best: Best, place: Tensor, part: Problem, epsilon: Tensor, start: str) -> None:
        climb = Climb.of(self._first(part, epsilon, start), epsilon)
        marks = checkpoints(self.steps)
        for step in range(self.steps):
            logits, losses, gradient = part.gradient(climb.images, self.loss, self.channels)
            climb.observe(losses, gradient)
            which = (~best.note(place, climb.images, losses, part.fooled(logits))).nonzero()[:, 0]
            if not len(which):
                return
            if len(which) < len(place):
                place, part, climb = place[which], part.take(which), climb.take(which)
            if step in marks[1:]:
                climb.adapt(self.rises * (step - marks[marks.index(step) - 1]))
            climb.advance(part, self.share if step else 1.0)
        logits = part.ask(climb.images)
        best.note(place, climb.images, part.losses(logits, self.loss), part.fooled(logits))

    def _first(self, problem: Problem, epsilon: Tensor, start: str) -> Tensor:
        if start == "image":
            return problem.images
        return problem.project(problem.images + epsilon.view(-1, 1, 1, 1) * problem.noise(self.channels), epsilon)


def checkpoints(steps: int) -> list[int]:
    """Return the steps at which the climb is judged: 0, 22 %, 41 %, 57 %, ... of all (the paper's section 4.1)."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return sorted({math.ceil(share * steps - 1e-9) for share in shares if share < 1})


EFFORT = {"quick": (20, 1), "standard": (50, 1), "thorough": (100, 5)}  # steps, restarts

ENTRY = Entry(
    build=lambda effort: APGD(*EFFORT[effort]),
    note="PGD that halves its own step, 20, 50 or 5 x 100 steps; nothing to tune",
    source="Croce and Hein 2020, arXiv 2003.01690",
    title="APGD",
    family="iterative",
    rank=40,
    exhaustive=True,
    searches="budget",
)
