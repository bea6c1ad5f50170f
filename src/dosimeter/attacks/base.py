"""What every attack shares: it proposes, the framework clips, checks and measures.

An attack with one direction for all epsilons computes it once, from one gradient. `perturb` walks along it; nothing
an attack returns is trusted to stay in its ball or in the image's range.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

BALL_TOLERANCE = 1e-6


class Direction(NamedTuple):
    """One direction for all epsilons.

    Attributes:
        sign: (batch, 3, H, W), each value -1, 0 or 1.
        grad_zero: (batch,), True where the whole gradient was exactly zero: that image cannot be perturbed.
    """

    sign: Tensor
    grad_zero: Tensor


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
    """Assert that `adversarial` is within `epsilon` of `image` and in [0, 1]; name the attack that left them."""
    distance = float((adversarial - image).abs().amax())
    assert distance <= epsilon + BALL_TOLERANCE, f"{attack} left its ball: {distance} > {epsilon}"
    low, high = (float(bound) for bound in torch.aminmax(adversarial))
    assert 0 <= low <= high <= 1, f"{attack} left the image range: [{low}, {high}]"
