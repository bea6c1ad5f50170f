"""Carlini and Wagner's attack: the nearest adversarial image under L2, by an optimiser."""

import math
from dataclasses import dataclass, field, fields
from typing import Literal, Self

import torch
from torch import Tensor

from dosimeter.attacks.base import check_positive
from dosimeter.attacks.losses import check_loss
from dosimeter.attacks.nearest import TINY, NearestSearch, Start, lack, size, slope
from dosimeter.attacks.registry import Entry

SHRINK = 0.999999
"""Black and white would be infinite in tanh space."""

LARGEST = 1e10
"""Of all constants, in multiples of what a linear classifier needs: more would be of no use to float32."""

VANISHED = 1e20
"""What a linear classifier of a vanishing gradient is said to need: float32 holds its multiples."""

LEAST_CHECK = 10
"""Adam's loss goes up and down: an early stop looks back over no fewer steps than this."""


@dataclass
class Descent:
    """One constant's descent: all are (batch, ...) and shrink together.

    A move is `low + width * (tanh(variable) + 1) / 2`, so that the image stays in [0, 1]; one plane where channels are
    tied.

    Attributes:
        place: of each image among those that began.
        low, width: the range of each value's move.
        variable: what is optimised.
        mean, square: Adam's running mean of the gradient and of its square.
        constant: what the margin counts against the squared distance.
        checked: the loss when it was last looked at.
    """

    place: Tensor
    low: Tensor
    width: Tensor
    variable: Tensor
    mean: Tensor
    square: Tensor
    constant: Tensor
    checked: Tensor

    @classmethod
    def of(cls, images: Tensor, constant: Tensor, channels: str) -> Self:
        """Begin at `images` (batch, 3, H, W)."""
        low, high = -images, 1 - images
        if channels == "tied":
            low, high = low.amax(dim=1, keepdim=True), high.amin(dim=1, keepdim=True)
        width = (high - low).clamp(min=TINY)
        variable = torch.atanh(SHRINK * (-2 * low / width - 1).clamp(-1, 1))
        still, place = torch.zeros_like(variable), torch.arange(len(images), device=images.device)
        return cls(place, low, width, variable, still, still, constant, torch.full_like(constant, math.inf))

    def take(self, which: Tensor) -> Self:
        """Return the images at the places `which` (m,) only."""
        return type(self)(*(getattr(self, field.name)[which] for field in fields(self)))

    def move(self) -> Tensor:
        """Return how far each value is from its image, (batch, planes, H, W)."""
        return self.low + self.width * (torch.tanh(self.variable) + 1) / 2

    def adam(self, slope_of_move: Tensor, learning_rate: float, step: int) -> None:
        """Take Adam's step number `step`, from 0, against the loss's gradient by the move."""
        gradient = slope_of_move * self.width * (1 - torch.tanh(self.variable) ** 2) / 2
        self.mean = 0.9 * self.mean + 0.1 * gradient
        self.square = 0.999 * self.square + 0.001 * gradient**2
        mean, square = self.mean / (1 - 0.9 ** (step + 1)), self.square / (1 - 0.999 ** (step + 1))
        self.variable = self.variable - learning_rate * mean / (square.sqrt() + 1e-8)


@dataclass(frozen=True)
class CarliniWagner(NearestSearch):
    """Adam on the squared distance plus a constant times the margin that is left, for several constants.

    The reference among minimum-norm attacks under L2, and the dearest: it needs thousands of gradients where DDN needs
    tens. A pixel that is black or white hardly moves in tanh space.

    Args:
        searches: constants tried for each image: ten times larger until one succeeds, then by bisection.
        steps: gradients for each constant, at most.
        learning_rate: of Adam, in tanh space.
        constant: the first, as a multiple of what a linear classifier of the same gradient needs, 2 margin / ||g||^2
            (the paper starts at 0.001 for all images, which takes more searches).
        abort_early: stop an image whose loss has not fallen by 0.01 % over a tenth of the steps.
        channels: as `FGSM`.

    Source: Carlini and Wagner 2017 (arXiv 1608.04644), sections V and VI.A; f6 without confidence.
    """

    searches: int = 3
    steps: int = 50
    learning_rate: float = 0.01
    constant: float = 2.0
    abort_early: bool = True
    channels: Literal["tied", "free"] = "tied"
    loss: str = field(default="margin", init=False)
    norm: str = field(default="l2", init=False)
    name: str = "carlini_wagner"

    def __post_init__(self) -> None:
        check_loss(self.loss, self.channels)
        check_positive(searches=self.searches, steps=self.steps)
        check_positive(learning_rate=self.learning_rate, constant=self.constant)

    def _search(self, start: Start) -> None:
        needed = (2 * start.missing / slope(start.gradient, self.norm, self.channels) ** 2).clamp(max=VANISHED)
        constant, most = self.constant * needed, LARGEST * needed
        low, high = torch.zeros_like(constant), torch.full_like(constant, math.inf)
        for _ in range(self.searches):
            found = self._descend(start, constant)
            low, high = torch.where(found, low, constant), torch.where(found, constant, high)
            constant = torch.where(high.isinf(), 10 * constant, (low + high) / 2).minimum(most)

    def _descend(self, start: Start, constant: Tensor) -> Tensor:
        """Return (n,) True where an adversarial image was met; the nearest are noted."""
        nearest, place, part, missing, gradient = start
        descent = Descent.of(part.images, constant, self.channels)
        found = torch.zeros_like(missing, dtype=torch.bool)
        fooled, everywhere = found.clone(), torch.ones_like(missing)
        planes = part.images.shape[1] // descent.low.shape[1]  # that share a move
        period = max(math.ceil(self.steps / 10), LEAST_CHECK)
        for step in range(self.steps):
            if step > 0:
                images = part.project(part.images + descent.move(), everywhere)
                logits, _, gradient = part.gradient(images, self.loss, self.channels)
                fooled = nearest.note(place[descent.place], images, part.fooled(logits))
                found[descent.place] |= fooled
            if self.abort_early and step > 0 and step % period == 0:
                total = size(images - part.images, "l2") ** 2 + descent.constant * lack(part, logits).clamp(min=0)
                which = (total <= 0.9999 * descent.checked).nonzero()[:, 0]
                if not len(which):
                    return found
                descent.checked = total
                descent, part = descent.take(which), part.take(which)
                gradient, fooled, everywhere = gradient[which], fooled[which], everywhere[which]
            pull = (descent.constant * ~fooled).view(-1, 1, 1, 1) * gradient[:, : descent.low.shape[1]] / planes
            descent.adam(2 * descent.move() - pull, self.learning_rate, step)
        images = part.project(part.images + descent.move(), everywhere)
        fooled = nearest.note(place[descent.place], images, part.fooled(part.ask(images)))
        found[descent.place] |= fooled
        return found


EFFORT = {"quick": (2, 20), "standard": (3, 50), "thorough": (9, 200)}  # searches, steps

ENTRY = Entry(
    build=lambda effort: CarliniWagner(*EFFORT[effort]),
    note="nearest adversarial image by L2, with Adam; 2 x 20, 3 x 50 or 9 x 200 steps",
    source="Carlini and Wagner 2017, arXiv 1608.04644",
    title="Carlini-Wagner",
    family="minimum norm",
    rank=30,
    searches="minimum",
)
