"""What an attack found for one case, as a path: the image at any epsilon."""

from bisect import bisect_right
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dosimeter.attacks.doses import perturb
from dosimeter.attacks.lattice import on_lattice


class Path(Protocol):
    """A case's adversarial images, or what a physical change makes of it."""

    @property
    def bounded(self) -> bool:
        """Whether its images keep to the ball of their epsilon, which is checked."""

    def at(self, image: Tensor, epsilon: float) -> Tensor:
        """Return the adversarial image (3, H, W) within `epsilon` of `image`."""

    def outside(self, image: Tensor, epsilon: float) -> float:
        """Return the share of values that left [0, 1] before clipping."""

    def found(self, epsilon: float) -> bool | None:
        """Return whether the attack says that it succeeded within `epsilon`; None: it makes no claim."""


class Still:
    """The image itself, at every epsilon: it is not attacked."""

    bounded = True

    def at(self, image: Tensor, epsilon: float) -> Tensor:
        """Return `image`."""
        return image

    def outside(self, image: Tensor, epsilon: float) -> float:
        """Return 0."""
        return 0.0

    def found(self, epsilon: float) -> bool | None:
        """Return None."""
        return None


class Ray(NamedTuple):
    """One direction for all epsilons.

    Attributes:
        sign: (3, H, W), in [-1, 1].
        reach: the farthest step.
        hit: whether the image at `reach` is adversarial, says the attack; None: it says nothing.
        levels: steps between black and white of the lattice that images lie on; None: floats.
    """

    sign: Tensor
    reach: float = float("inf")
    hit: bool | None = None
    levels: int | None = None

    @property
    def bounded(self) -> bool:
        """True: its images keep to their ball."""
        return True

    def at(self, image: Tensor, epsilon: float) -> Tensor:
        """Return clip(image + min(epsilon, reach) * sign, 0, 1), on the lattice if there is one."""
        step = min(epsilon, self.reach)
        moved = perturb(image, self.sign, step)
        if self.levels is None:
            return moved
        low, high = (image - step).clamp(min=0), (image + step).clamp(max=1)
        return torch.where(self.sign == 0, image, on_lattice(moved, image, low, high, self.levels))

    def outside(self, image: Tensor, epsilon: float) -> float:
        """Return the share of values that left [0, 1] before clipping."""
        moved = image + min(epsilon, self.reach) * self.sign
        return float(((moved < 0) | (moved > 1)).float().mean())

    def found(self, epsilon: float) -> bool | None:
        """Return whether `epsilon` is enough to get to the adversarial image; None on a lattice, which is not its."""
        return None if self.hit is None or self.levels is not None else self.hit and epsilon >= self.reach


class Finds:
    """What a search of several balls found.

    Args:
        continuous: whether images between those found may be had by going part of the way.
        nested: whether a success stands for every larger ball too; if not, each ball was searched for its own image.
    """

    bounded = True

    def __init__(self, *, continuous: bool = True, nested: bool = True) -> None:
        self._images: dict[float, tuple[Tensor, bool]] = {}
        self._continuous = continuous
        self._nested = nested

    def put(self, epsilon: float, image: Tensor, *, hit: bool) -> None:
        """Note the best image (3, H, W) of the ball `epsilon`, and whether it is adversarial."""
        self._images[epsilon] = image, hit

    def at(self, image: Tensor, epsilon: float) -> Tensor:
        """Return what was found at `epsilon`; if it was not searched, the nearest that lies within it.

        That is the first success within it; else, part of the way to the first success beyond it; else the best image
        of the largest ball within it. Where balls are not nested it is part of the way to the next ball's image.
        """
        if epsilon in self._images:
            return self._images[epsilon][0]
        searched = sorted(self._images)
        goals = [dose for dose in searched if (self._images[dose][1] if self._nested else dose > epsilon)]
        if goals and goals[0] <= epsilon:
            return self._images[goals[0]][0]
        if goals and self._continuous:
            moved = self._images[goals[0]][0] - image
            share = min(1.0, epsilon / max(float(moved.abs().amax()), 1e-12))
            return (image + share * moved).clamp(0, 1)
        place = bisect_right(searched, epsilon)
        return self._images[searched[place - 1]][0] if place else image

    def outside(self, image: Tensor, epsilon: float) -> float:
        """Return 0: a projection does not tell."""
        return 0.0

    def found(self, epsilon: float) -> bool | None:
        """Return whether there is an adversarial image within `epsilon`; None between searches."""
        if epsilon in self._images:
            return self._images[epsilon][1]
        if self._nested and any(hit and dose <= epsilon for dose, (_, hit) in self._images.items()):
            return True
        hits = [dose for dose, (_, hit) in self._images.items() if hit]
        return None if hits else False


class Changed:
    """An image at the severities of a physical change, which stand where attacks have epsilons.

    Args:
        images: by severity, each (3, H, W) in [0, 1].
    """

    bounded = False

    def __init__(self, images: Mapping[float, Tensor]) -> None:
        self._images = images

    def at(self, image: Tensor, severity: float) -> Tensor:
        """Return the image at a severity that was asked."""
        return self._images[severity]

    def outside(self, image: Tensor, severity: float) -> float:
        """Return 0: a change keeps to the range by itself."""
        return 0.0

    def found(self, severity: float) -> bool | None:
        """Return None: a change is after nothing."""
        return None
