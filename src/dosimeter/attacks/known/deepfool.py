"""DeepFool: to the nearest boundary of the linearised classifier, again and again."""

from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dosimeter.attacks.base import Problem, check_positive
from dosimeter.attacks.losses import check_loss
from dosimeter.attacks.nearest import NearestSearch, Start, lack, slope, unit
from dosimeter.attacks.registry import Entry
from dosimeter.errors import DosimeterError


class Boundary(NamedTuple):
    """A boundary of the linearised classifier: how far it is (batch,) and the gradient (batch, 3, H, W) to it."""

    distance: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class DeepFool(NearestSearch):
    """Step by step to where the linearised classifier changes its mind; the first adversarial image counts.

    The cheapest of the minimum-norm attacks, some steps an image, and the least exact: it overshoots, and does not
    come back. Compare FMN.

    Args:
        steps: at most. Each costs a gradient for every other class considered.
        norm: "linf" or "l2", by which "near" is meant.
        overshoot: by what share each image is pushed beyond the boundary.
        candidates: other classes considered, of the largest logits.
        channels: as `FGSM`.

    Source: Moosavi-Dezfooli et al. 2016 (arXiv 1511.04599), algorithm 2 and equations 10 to 12.
    """

    steps: int = 30
    norm: Literal["linf", "l2"] = "linf"
    overshoot: float = 0.02
    candidates: int = 10
    channels: Literal["tied", "free"] = "tied"
    loss: str = field(default="margin", init=False)
    name: str = "deepfool"

    def __post_init__(self) -> None:
        check_loss(self.loss, self.channels)
        check_positive(steps=self.steps, overshoot=self.overshoot, candidates=self.candidates)
        if self.norm not in ("linf", "l2"):
            raise DosimeterError(f"norm must be 'linf' or 'l2', got '{self.norm}'.")

    def _search(self, start: Start) -> None:
        nearest, place, part, _, gradient = start
        images, move, logits = part.images, torch.zeros_like(part.images), nearest.logits[place]
        for _ in range(self.steps):
            distance, gradient = self._boundary(part, images, logits, gradient)
            move = move + distance.view(-1, 1, 1, 1) * self._steepest(gradient)
            images = part.project(part.images + (1 + self.overshoot) * move, torch.ones_like(distance))
            logits, _, gradient = part.gradient(images, self.loss, self.channels)
            which = (~nearest.note(place, images, part.fooled(logits))).nonzero()[:, 0]
            if not len(which):
                return
            place, part, images, move = place[which], part.take(which), images[which], move[which]
            logits, gradient = logits[which], gradient[which]

    def _boundary(self, part: Problem, images: Tensor, logits: Tensor, gradient: Tensor) -> Boundary:
        """Return the nearest boundary; `gradient`, the margin's, is that of the boundary to the second best class."""
        best = self._towards(part, logits, gradient)
        if part.targets is not None:
            return best
        others = logits.masked_fill(one_hot(part.labels, logits.shape[1]).bool(), -torch.inf).argsort(descending=True)
        for classes in others[:, 1 : min(self.candidates, logits.shape[1] - 1)].unbind(dim=1):
            # While the true class leads, a target's margin is its logit minus the true one.
            to_class = replace(part, targets=classes)
            _, _, gradient = to_class.gradient(images, self.loss, self.channels)
            other = self._towards(to_class, logits, gradient)
            nearer = other.distance < best.distance
            closest = torch.where(nearer.view(-1, 1, 1, 1), other.gradient, best.gradient)
            best = Boundary(torch.where(nearer, other.distance, best.distance), closest)
        return best

    def _towards(self, problem: Problem, logits: Tensor, gradient: Tensor) -> Boundary:
        distance = lack(problem, logits) / slope(gradient, self.norm, self.channels)
        return Boundary(distance.clamp(max=gradient[0].numel() ** 0.5), gradient)  # no farther than from black to white

    def _steepest(self, gradient: Tensor) -> Tensor:
        """Return the move of unit norm that the loss rises most along."""
        return gradient.sign() if self.norm == "linf" else unit(gradient)


STEPS = {"quick": 10, "standard": 30, "thorough": 50}

ENTRY = Entry(
    build=lambda effort: DeepFool(steps=STEPS[effort]),
    note="nearest linearised boundary, at most 10, 30 or 50 steps; quick, not exact",
    source="Moosavi-Dezfooli et al. 2016, arXiv 1511.04599",
    title="DeepFool",
    family="minimum norm",
    rank=10,
    searches="minimum",
)
