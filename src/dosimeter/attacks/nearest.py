"""What attacks share that look for the nearest adversarial image."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from dosimeter.attacks.base import Direction, Problem
from dosimeter.errors import DosimeterError

TINY = torch.finfo(torch.float32).tiny


def size(move: Tensor, norm: str) -> Tensor:
    """Return how far (batch,) images move, by the norm "linf", "l2" or "l1"."""
    flat = move.flatten(1)
    largest = flat.abs().amax(dim=1)
    if norm == "linf":
        return largest
    shares = flat / largest.clamp(min=TINY)[:, None]  # the squares of a vanishing gradient would be 0
    sizes: Tensor = torch.linalg.vector_norm(shares, ord=int(norm[1:]), dim=1)
    return largest * sizes


def unit(move: Tensor) -> Tensor:
    """Return `move` (batch, 3, H, W) at an L2 length of 1, or 0 where it is 0."""
    return move / size(move, "l2").clamp(min=TINY).view(-1, 1, 1, 1)


def slope(gradient: Tensor, norm: str, channels: str) -> Tensor:
    """Return how fast (batch,) the loss rises along the steepest move of unit `norm`: the gradient's dual norm.

    Of tied planes each `gradient` (batch, 3, H, W) holds the sum, of which a plane's move earns its share.
    """
    planes = gradient.shape[1] if channels == "tied" else 1
    return (size(gradient, {"linf": "l1", "l2": "l2"}[norm]) / planes).clamp(min=TINY)


def lack(problem: Problem, logits: Tensor) -> Tensor:
    """Return how much (batch,) the margin must rise for the images of these `logits` to count as fooled.

    It aims a tenth beyond the room that success asks for: at exactly the room, rounding decides.
    """
    return 1.1 * problem.room(logits) - problem.losses(logits, "margin")


@dataclass
class Nearest:
    """The nearest adversarial image to each image so far.

    The search is in floats, whatever the lattice of the file to be written: what is stored is rounded, and asked about,
    later.

    Attributes:
        problem: of all images.
        norm: by which "near" is meant.
        images: (batch, 3, H, W), the image itself where none was found.
        sizes: (batch,), how far they are, infinity where none was found.
        logits, grad_zero: as `Direction`'s.
    """

    problem: Problem
    norm: str
    images: Tensor
    sizes: Tensor
    logits: Tensor
    grad_zero: Tensor

    def note(self, place: Tensor, images: Tensor, fooled: Tensor) -> Tensor:
        """Keep those of `images`, which stand at `place`, that fooled and are nearer than what was; return `fooled`."""
        sizes = size(images - self.problem.images[place], self.norm)
        better = fooled & (sizes < self.sizes[place])
        self.images[place[better]] = images[better]
        self.sizes[place[better]] = sizes[better]
        return fooled

    def direction(self) -> Direction:
        """Return the way to the nearest adversarial images."""
        move = self.images - self.problem.images
        reach = size(move, "linf")
        sign = move / reach.clamp(min=TINY).view(-1, 1, 1, 1)
        return Direction(sign, self.grad_zero, self.logits, reach, self.sizes.isfinite())


class Start(NamedTuple):
    """What is known before the first step.

    Attributes:
        nearest: knows the images that are misclassified as they are.
        place: (n,), places of the others that have a gradient.
        part: their problem.
        missing: (n,), what their margin lacks.
        gradient: (n, 3, H, W), the margin's at the images themselves.
    """

    nearest: Nearest
    place: Tensor
    part: Problem
    missing: Tensor
    gradient: Tensor


def begin(problem: Problem, norm: str, channels: str) -> Start:
    """Return the start of a search for the nearest adversarial images, after one gradient of the margin."""
    problem = replace(problem, levels=None)
    logits, _, gradient = problem.gradient(problem.images, "margin", channels)
    missing, fooled = lack(problem, logits), problem.fooled(logits)
    grad_zero = (gradient == 0).flatten(1).all(dim=1)
    sizes = torch.full_like(missing, math.inf).masked_fill(fooled, 0)
    nearest = Nearest(problem, norm, problem.images.clone(), sizes, logits, grad_zero)
    place = (~fooled & ~grad_zero).nonzero()[:, 0]
    return Start(nearest, place, problem.take(place), missing[place], gradient[place])


class NearestSearch:
    """An attack that looks for the nearest adversarial image; what differs is how `_search` goes about it."""

    norm: str
    channels: str

    def direction(self, problem: Problem) -> Direction:
        """Return the way to the nearest adversarial images found.

        Raises:
            FloatingPointError: a gradient is not finite.
        """
        start = begin(problem, self.norm, self.channels)
        if len(start.place):
            self._search(start)
        return start.nearest.direction()

    def _search(self, start: Start) -> None:
        """Note adversarial images in `start.nearest`; there is at least one image to search for."""
        raise NotImplementedError


def anneal(first: float, last: float, step: int, steps: int) -> float:
    """Return what falls from `first` to `last` along half a cosine, at `step` of `steps`."""
    return last + (first - last) * (1 + math.cos(math.pi * step / steps)) / 2


def check_below_one(**numbers: float) -> None:
    """Raise DosimeterError, naming it, if a number is not below 1."""
    for name, value in numbers.items():
        if not value < 1:
            raise DosimeterError(f"{name} must be below 1, got {value}.")
