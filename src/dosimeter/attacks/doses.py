"""What images receive: moved by an epsilon, measured, and held against the ball of their attack."""

from typing import NamedTuple

from torch import Tensor, aminmax

from dosimeter.attacks.base import AttackError

BALL_TOLERANCE = 1e-6


class Dose(NamedTuple):
    """The dose an image really received, against the nominal epsilon."""

    linf: float
    l2: float
    clipped_fraction: float  # share of values that left [0, 1] before clipping


def perturb(image: Tensor, sign: Tensor, epsilon: float) -> Tensor:
    """Return clip(image + epsilon * sign, 0, 1). Source: the paper, equations 1 and 2; Goodfellow 2014."""
    return (image + epsilon * sign).clamp_(0, 1)


def measure(image: Tensor, stored: Tensor, *, outside: float) -> Dose:
    """Return the realised dose of `stored`, what is left of the perturbed image after storage, against `image`."""
    difference = stored - image
    return Dose(linf=float(difference.abs().amax()), l2=float(difference.double().norm()), clipped_fraction=outside)


def check(image: Tensor, adversarial: Tensor, *, epsilon: float, attack: str) -> None:
    """Raise AttackError, naming the attack, unless `adversarial` is within `epsilon` of `image` and in [0, 1]."""
    distance = float((adversarial - image).abs().amax())
    if not distance <= epsilon + BALL_TOLERANCE:
        raise AttackError(
            f"the attack {attack} left its ball: it moved a pixel by {distance:g}, epsilon is {epsilon:g}."
        )
    low, high = (float(bound) for bound in aminmax(adversarial))
    if not 0 <= low <= high <= 1:
        raise AttackError(f"the attack {attack} left the image range [0, 1]: its image spans [{low:g}, {high:g}].")
