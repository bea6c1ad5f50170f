"""Projected gradient descent: FGSM again and again, never farther than epsilon."""

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from dosimeter.attacks.base import Candidate, Problem, check_positive
from dosimeter.attacks.best import Best
from dosimeter.attacks.losses import check_loss
from dosimeter.attacks.registry import Entry
from dosimeter.errors import DosimeterError

RESTARTS = 5
"""Starts of a harder one at least; twice those of one that has many."""


@dataclass(frozen=True)
class PGD:
    """Steps along the gradient's sign, projected to the ball; the best iterate is kept, not the last.

    The first start is FGSM's image, so PGD is never weaker than FGSM on the same loss; the others are random. An image
    that is misclassified is done.

    Args:
        steps: gradients of each start, one more for the first image.
        restarts: starts.
        step_size: of a step, as a share of epsilon.
        start: "fgsm", "image" (the textbook's without a random start) or "random".
        loss, channels: as `FGSM`.

    Source: Madry et al. 2018 (arXiv 1706.06083); Kurakin et al. 2016 (arXiv 1607.02533).
    """

    steps: int = 20
    restarts: int = 1
    step_size: float = 0.25
    start: Literal["fgsm", "image", "random"] = "fgsm"
    loss: str = "margin"
    channels: Literal["tied", "free"] = "tied"
    name: str = "pgd"

    def __post_init__(self) -> None:
        check_loss(self.loss, self.channels)
        check_positive(steps=self.steps, restarts=self.restarts, step_size=self.step_size)
        if self.start not in ("fgsm", "image", "random"):
            raise DosimeterError(f"start must be 'fgsm', 'image' or 'random', got '{self.start}'.")

    def harder(self) -> dict[str, "PGD"]:
        """Return itself with twice the steps (`n_doubled`) and with more starts (`n_restarts`); see `Escalating`."""
        more = max(RESTARTS, 2 * self.restarts)
        return {"n_doubled": replace(self, steps=2 * self.steps), "n_restarts": replace(self, restarts=more)}

    def perturb(self, problem: Problem, epsilon: Tensor) -> Candidate:
        """Return the best of all iterates."""
        best = Best.of(problem)
        for restart in range(self.restarts):
            if not len(best.open):
                break
            place, part = best.open, problem.take(best.open)
            dose = epsilon[place]
            images = self._first(part, dose, self.start if restart == 0 else "random")
            step = part.stride(self.step_size * dose).view(-1, 1, 1, 1)
            for _ in range(self.steps):
                logits, losses, gradient = part.gradient(images, self.loss, self.channels)
                going = ~best.note(place, images, losses, part.fooled(logits))
                if not going.any():
                    break
                which = going.nonzero()[:, 0]
                place, part, dose, step = place[which], part.take(which), dose[which], step[which]
                images = part.project(images[which] + step * gradient[which].sign(), dose)
            else:
                logits = part.ask(images)
                best.note(place, images, part.losses(logits, self.loss), part.fooled(logits))
        return best.candidate

    def _first(self, problem: Problem, epsilon: Tensor, start: str) -> Tensor:
        images = problem.images
        if start == "fgsm":
            _, _, gradient = problem.gradient(images, self.loss, self.channels)
            images = images + epsilon.view(-1, 1, 1, 1) * gradient.sign()
        elif start == "random":
            images = images + epsilon.view(-1, 1, 1, 1) * problem.noise(self.channels)
        return problem.project(images, epsilon)


EFFORT = {"quick": (10, 1), "standard": (20, 1), "thorough": (100, 5)}  # steps, restarts

ENTRY = Entry(
    build=lambda effort: PGD(*EFFORT[effort]),
    note="projected gradient descent from FGSM's image, best iterate kept",
    source="Madry et al. 2018, arXiv 1706.06083",
    title="PGD",
    family="iterative",
    rank=30,
    exhaustive=True,
    searches="budget",
)
