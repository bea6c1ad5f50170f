"""HopSkipJump, the black box that sees only decisions, as Foolbox has it, begun where the change is least."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dosimeter.attacks.adapters import Planes, nearest_of_each, run_foolbox
from dosimeter.attacks.base import Direction, Problem, check_positive
from dosimeter.attacks.registry import Entry
from dosimeter.errors import DosimeterError

REACHES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""How far each beginning is followed, all of them to the first before any to the next."""

BLURS = (4, 8, 16, 32)
"""What blurred images are averaged over, in pixels."""

CLOUDS = 4 * (2, 3, 4, 6, 8)
"""Corners along a side of each cloud: smooth noise between black and white. Much of a network's answer depends on what
is as coarse; fine noise is one class to many."""

PROBE = 1 / 16
"""Root mean square of a probe's change of a pixel, as a share of the distance so far."""

AT_ONCE = {"cpu": 2**20}
"""Values of the images asked about in one pass, elsewhere 2 ** 23: a GPU is idle with few."""


@dataclass(frozen=True)
class HopSkipJump:
    """The nearest adversarial image under L-infinity, from decisions alone.

    It needs an adversarial image to begin with. Foolbox blends the image with uniform noise, which to many a radiology
    network is one class; this begins with the first that is adversarial among blurred images, flat greys, the
    negative, clouds and uniform noise, near before far. And it needs probes on both sides of the boundary: the paper's
    are so short that beyond some 100 pixels a side float32 does not hold them, and the search stands still after its
    first step; these are never shorter than a share of the distance. The decisions of an estimate are asked together,
    and its noise is the image's own. The rest is Foolbox's.

    Args:
        steps: gradient estimates.
        queries: decisions that an estimate takes at most; the first takes up to 100, and later ones more.
        channels: "tied" moves the planes of an image together.

    Source: Chen et al. 2020 (arXiv 1904.02144), algorithm 2.
    """

    steps: int = 10
    queries: int = 300
    channels: Literal["tied", "free"] = "tied"
    name: str = "hopskipjump"
    loss: str = "none"
    norm: str = "linf"

    def __post_init__(self) -> None:
        check_positive(steps=self.steps, queries=self.queries)
        _import_foolbox()

    def direction(self, problem: Problem) -> Direction:
        """Return the way to the nearest adversarial image found, and how far it is."""
        return nearest_of_each(problem, self.channels, self._moved)

    def _moved(self, problem: Problem, planes: Planes) -> Tensor:
        generator = problem.generators[0]
        start = None if _decided(problem, planes, planes.start) else begin(problem, planes)
        if start is None:  # misclassified as it is, or not to be had
            return torch.zeros_like(problem.images)
        attack = _asking_together(problem, planes, generator)(
            steps=self.steps,
            max_gradient_eval_steps=self.queries,
            initial_gradient_eval_steps=min(100, self.queries),
            constraint="linf",
        )
        last = run_foolbox(attack, problem, planes, starting_points=start)
        best = planes.images(attack.nearest) - problem.images
        return best if best.abs().amax() < last.abs().amax() else last


def _decided(problem: Problem, planes: Planes, moved: Tensor) -> Tensor:
    """Return (n,) True where the answer about planes (n, 1 or 3, H, W) is what the attack is after."""
    predicted: Tensor = planes(moved).argmax(dim=1)
    return predicted != problem.labels if problem.targets is None else predicted == problem.targets


def begin(problem: Problem, planes: Planes) -> Tensor | None:
    """Return the first adversarial image (1, 1 or 3, H, W) among those to begin with; None if there is none."""
    image = planes.start
    for reach in REACHES:
        for pattern in _patterns(image, problem.generators[0]):
            start = image + (pattern - image).clamp(-reach, reach)
            if _decided(problem, planes, start):
                return start
    return None


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


def _asking_together(problem: Problem, planes: Planes, generator: torch.Generator) -> Callable[..., Any]:
    """Return Foolbox's class for one image, which asks for many decisions of a gradient estimate together."""
    at_once = max(1, AT_ONCE.get(planes.start.device.type, 2**23) // problem.images.numel())

    class Together(_import_foolbox()):  # type: ignore[misc]
        nearest = planes.start.new_full(planes.start.shape, math.inf)

        def select_delta(self, originals: Any, distances: Any, step: int) -> Any:
            """Return how long (1,) probes are, by their L2 norm."""
            least = PROBE * distances.raw * math.sqrt(originals.raw.numel())
            return type(distances)(torch.maximum(super().select_delta(originals, distances, step).raw, least))

        def approximate_gradients(self, is_adversarial: Any, x_advs: Any, steps: int, delta: Any) -> Any:
            """Return the way to more adversarial images: probes that stay so, less their share of all (equation 16)."""
            image, radius = x_advs.raw, float(delta.item())
            self.nearest = min(self.nearest, image, key=lambda each: float((each - planes.start).abs().amax()))
            leading, every, n_leading = torch.zeros_like(image), torch.zeros_like(image), 0
            for first in range(0, steps, at_once):
                n = min(at_once, steps - first)
                noise = 2 * torch.rand(n, *image.shape[1:], generator=generator).to(image) - 1
                noise /= noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
                moved = (image + radius * noise).clamp(0, 1)
                adversarial = _decided(problem, planes, moved)
                leading += (moved - image)[adversarial].sum(dim=0)
                every += (moved - image).sum(dim=0)
                n_leading += int(adversarial.sum())
            if n_leading in (0, steps):
                return type(x_advs)(every if n_leading else -every)
            return type(x_advs)(leading - n_leading / steps * every)

    return Together


def _import_foolbox() -> Any:
    try:
        from foolbox.attacks import HopSkipJumpAttack
    except ImportError as error:
        raise DosimeterError("The hopskipjump attack needs Foolbox: pip install 'dosimeter[attacks]'.") from error
    return HopSkipJumpAttack


EFFORT = {"quick": (4, 100), "standard": (10, 300), "thorough": (64, 10_000)}
"""Steps, and queries of a gradient estimate at most. Quick takes some 500 queries an image, standard 2,500."""

ENTRY = Entry(
    build=lambda effort: HopSkipJump(*EFFORT[effort]),
    note="black box that sees only decisions (Foolbox)",
    needs_gradient=False,
    source="Chen et al. 2020, arXiv 1904.02144",
    searches="minimum",
    extra="attacks",
)
