"""HopSkipJump, the black box that sees only decisions, as Foolbox has it, begun where the change is least."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dosimeter.attacks.adapters import FoolboxMinimum, Planes
from dosimeter.attacks.base import Problem
from dosimeter.attacks.registry import Entry
from dosimeter.errors import DosimeterError

EFFORT = {"quick": (4, 100), "standard": (10, 300), "thorough": (64, 10_000)}
"""Steps, and queries of a gradient estimate at most. Quick takes some 500 queries an image, standard 2,000."""

REACHES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""How far each beginning is followed, all of them to the first before any to the next."""

BLURS = (4, 8, 16, 32)
"""What blurred images are averaged over, in pixels."""

CLOUDS = 4 * (2, 3, 4, 6, 8)
"""Corners along a side of each cloud: smooth noise between black and white. Much of a network's answer depends on what
is as coarse; fine noise is one class to many."""


@dataclass(frozen=True)
class HopSkipJump(FoolboxMinimum):
    """The nearest adversarial image under L-infinity, from decisions alone.

    It needs an adversarial image to begin with. Foolbox blends the image with uniform noise, which to many a radiology
    network is one class; this begins with the first that is adversarial among blurred images, flat greys, the
    negative, clouds and uniform noise, near before far.

    Source: Chen et al. 2020 (arXiv 1904.02144).
    """

    def _moved(self, problem: Problem, planes: Planes, **how: Any) -> Tensor:
        nothing = torch.zeros_like(problem.images)
        if bool(problem.fooled(problem.ask(problem.images))[0]):
            return nothing  # it is misclassified as it is
        for reach in REACHES:
            for pattern in _patterns(planes.start, problem.generators[0]):
                start = planes.start + (pattern - planes.start).clamp(-reach, reach)
                if bool(problem.fooled(problem.ask(planes.images(start)))[0]):
                    return super()._moved(problem, planes, starting_points=start, **how)
        return nothing


def _patterns(image: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield what an `image` (1, planes, H, W) may be pushed towards, each of its shape."""
    planes, height, width = image.shape[1:]
    size = (height, width)
    for blur in BLURS:
        coarse = F.adaptive_avg_pool2d(image, (math.ceil(height / blur), math.ceil(width / blur)))
        yield F.interpolate(coarse, size=size, mode="bilinear")
    for grey in (0.0, 0.5, 1.0):
        yield torch.full_like(image, grey)
    yield 1 - image
    for corners in CLOUDS:
        noise = torch.rand(1, planes, corners, corners, generator=generator).round()
        yield F.interpolate(noise.to(image), size=size, mode="bilinear")
    yield torch.rand(image.shape, generator=generator).to(image)


def _build(effort: str) -> Any:
    try:
        from foolbox.attacks import HopSkipJumpAttack
    except ImportError as error:
        raise DosimeterError("The hopskipjump attack needs Foolbox: pip install 'dosimeter[attacks]'.") from error
    steps, queries = EFFORT[effort]
    attack = HopSkipJumpAttack(
        steps=steps, max_gradient_eval_steps=queries, initial_gradient_eval_steps=min(100, queries), constraint="linf"
    )
    return HopSkipJump(attack, f"steps={steps}, max_gradient_eval_steps={queries}", name="hopskipjump")


ENTRY = Entry(
    build=_build,
    note="black box that sees only decisions (Foolbox)",
    needs_gradient=False,
    source="Chen et al. 2020, arXiv 1904.02144",
    searches="minimum",
    extra="attacks",
)
