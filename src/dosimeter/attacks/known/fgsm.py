"""The fast gradient sign method."""

from dataclasses import dataclass
from typing import Literal

from dosimeter.attacks.base import Direction, Problem
from dosimeter.attacks.losses import check_loss
from dosimeter.attacks.registry import Entry


@dataclass(frozen=True)
class FGSM:
    """One step of epsilon along the sign of the loss's gradient with respect to the image, true label known.

    Use it to reproduce published FGSM figures and as the cheapest upper bound on robustness; an iterative attack
    bounds it tighter.

    Args:
        loss: "margin" (default), "cross_entropy" or "keras_bce" (the paper's framework); see `losses`.
        channels: "tied" sums the gradient over the three planes before its sign, so that a grey image stays grey;
            "free" lets each plane move apart, which no grey file can hold (the paper).

    Source: the paper, equations 1 and 2; Goodfellow et al. 2014 (arXiv 1412.6572).
    """

    loss: str = "margin"
    channels: Literal["tied", "free"] = "tied"
    name: str = "fgsm"

    def __post_init__(self) -> None:
        check_loss(self.loss, self.channels)

    def direction(self, problem: Problem) -> Direction:
        """Return the gradient's sign from one forward and one backward pass.

        Raises:
            FloatingPointError: a gradient is not finite.
        """
        logits, _, gradient = problem.gradient(problem.images, self.loss, self.channels)
        grad_zero = (gradient == 0).flatten(1).all(dim=1)
        return Direction(gradient.sign(), grad_zero, logits)


ENTRY = Entry(
    build=lambda effort: FGSM(),
    note="one step along the sign of the gradient; the cheapest upper bound",
    source="Goodfellow et al. 2014, arXiv 1412.6572",
    title="FGSM",
    family="one step",
    rank=10,
)
