"""What every attack shares: it proposes, the framework clips, checks and measures.

An attack with one direction for all epsilons computes it once, from one gradient. `perturb` walks along it; nothing
an attack returns is trusted to stay in its ball or in the image's range.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from dosimeter.errors import DosimeterError

BALL_TOLERANCE = 1e-6


class AttackError(DosimeterError):
    """An attack broke its contract; its numbers cannot be used."""


class Direction(NamedTuple):
    """One direction for all epsilons.

    Attributes:
        sign: (batch, 3, H, W), each value -1, 0 or 1.
        grad_zero: (batch,), True where the whole gradient was exactly zero: that image cannot be perturbed.
        logits: (batch, n_classes) of the unperturbed images, where the attack computed them on its way: they are not
            computed again.
    """

    sign: Tensor
    grad_zero: Tensor
    logits: Tensor | None = None


class Attack(Protocol):
    """A one-direction attack under the L-infinity norm."""

    @property
    def name(self) -> str:
        """Name in the table's `attack` column."""

    @property
    def loss(self) -> str:
        """Name of the loss it climbs."""

    @property
    def channels(self) -> str:
        """Whether the three planes of an image move together (`tied`) or apart (`free`)."""

    def direction(self, classifier: nn.Module, images: Tensor, labels: Tensor) -> Direction:
        """Return where to push `images` (batch, 3, H, W) in [0, 1] with true `labels` (batch,)."""


class Dose(NamedTuple):
    """The dose an image really received, against the nominal epsilon."""

    linf: float
    l2: float
    clipped_fraction: float  # share of values that left [0, 1] before clipping


def perturb(image: Tensor, sign: Tensor, epsilon: float) -> Tensor:
    """Return clip(image + epsilon * sign, 0, 1). Source: the paper, equations 1 and 2; Goodfellow 2014."""
    return (image + epsilon * sign).clamp_(0, 1)


def measure(image: Tensor, sign: Tensor, epsilon: float, stored: Tensor) -> Dose:
    """Return the realised dose of `stored`, what is left of the perturbed image after storage, against `image`."""
    difference = stored - image
    outside = image + epsilon * sign
    return Dose(
        linf=float(difference.abs().amax()),
        l2=float(difference.double().norm()),
        clipped_fraction=float(((outside < 0) | (outside > 1)).float().mean()),
    )


def check(image: Tensor, adversarial: Tensor, *, epsilon: float, attack: str) -> None:
    """Raise AttackError, naming the attack, unless `adversarial` is within `epsilon` of `image` and in [0, 1]."""
    distance = float((adversarial - image).abs().amax())
    if not distance <= epsilon + BALL_TOLERANCE:
        raise AttackError(
            f"the attack {attack} left its ball: it moved a pixel by {distance:g}, epsilon is {epsilon:g}."
        )
    low, high = (float(bound) for bound in torch.aminmax(adversarial))
    if not 0 <= low <= high <= 1:
        raise AttackError(f"the attack {attack} left the image range [0, 1]: its image spans [{low:g}, {high:g}].")
