"""Finite differences of the margin: does a gradient say what the classifier does?"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from dosimeter.attacks.losses import margin

RISE = 0.01  # of how far the logits are apart: the change of the margin that a difference should make
STEPS = (1e-5, 4 / 255)  # least and largest step, of the image range
LADDER = (1.0, 1 / 8, 1 / 64, 8.0)  # steps tried, in multiples of the first; kinks make long ones disagree
RESOLUTION = 1e-6  # of the largest logit: smaller changes are rounding in float32
TOLERANCE = 0.25
"""Slope and gradient agree if they differ by less than this share of the gradient's size."""


class Slope(NamedTuple):
    """Along one direction from one image: what the gradient says, what the margin does, and the gradient's size."""

    said: float
    done: float
    size: float

    @property
    def wrong(self) -> bool:
        """Whether the margin falls where it should rise, or the other way round."""
        return self.done * self.said <= 0

    @property
    def error(self) -> float:
        """How far the two are apart, as a share of the gradient's size."""
        return abs(self.done - self.said) / self.size

    @property
    def off(self) -> bool:
        """Whether they disagree."""
        return not self.error < TOLERANCE


def slope(
    ask: Callable[[Tensor], Tensor],
    image: Tensor,
    label: int,
    gradient: Tensor,
    signs: Tensor,
    *,
    scale: float,
    power: int,
    said: float | None = None,
) -> Slope | None:
    """Return the slope of the margin along `signs`, a central difference by the step of `LADDER` that agrees best.

    A step is so long that the margin should change by the share `RISE` of `scale`: long enough for float32
    whatever the logits' scale, short enough for a network of ReLUs. Pixels without room for it on both sides stay.

    Args:
        ask: images (n, 3, H, W) to logits (n, n_classes).
        image: (3, H, W) in [0, 1].
        gradient: (3, H, W) of the margin there, each plane's own.
        signs: (3, H, W), of -1, 0 and 1.
        scale: how far the logits are apart.
        power: of the norm that is the gradient's size: 1 along its own sign; 2 along random signs, what these give on
            average.
        said: what the margin's slope should be; None: what `gradient` says.

    Returns:
        None if there is nothing to move, nothing that the gradient says, or nothing but rounding to be seen of it.
    """
    best: Slope | None = None
    typical = float(gradient.double().norm(power))
    for factor in LADDER if typical > 0 else ():
        step = min(max(factor * RISE * scale / typical, STEPS[0]), STEPS[1])
        room = (image >= step) & (image <= 1 - step)
        inside, direction = gradient.double() * room, signs * room
        size = float(inside.norm(power))
        if size == 0:
            continue
        logits = ask(torch.stack([image + step * direction, image - step * direction]))
        ends = margin(logits.double(), torch.tensor([label, label], device=logits.device))
        if not size * 2 * step > RESOLUTION * float(logits.abs().amax()):
            continue  # the change would be lost in the logits' rounding
        told = float((inside * direction).sum()) if said is None else said
        found = Slope(told, float(ends[0] - ends[1]) / (2 * step), size)
        if best is None or found.error < best.error:
            best = found
        if not best.off:
            break
    return best
