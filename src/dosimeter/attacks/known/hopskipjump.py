"""HopSkipJump, the black box that sees only decisions: Foolbox's, begun where the change is least."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dosimeter.attacks.adapters import Planes, nearest_of_each, run_foolbox
from dosimeter.attacks.base import Direction, Problem, check_positive
from dosimeter.attacks.losses import check_channels
from dosimeter.attacks.registry import Entry
from dosimeter.errors import DosimeterError

FIRST_QUERIES = 100
"""Decisions of the first gradient estimate; the k-th takes sqrt(k) times as many."""

PROBE = 1 / 16
"""Root mean square of a probe's change of a pixel, as a share of the distance so far."""

REACHES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""How far each beginning is followed, all of them to the first before any to the next."""

BLURS = (4, 8, 16, 32)
"""What blurred images are averaged over, in pixels."""

CLOUDS = 4 * (2, 3, 4, 6, 8)
"""Corners along a side of each cloud: smooth noise between black and white. Much of a network's answer depends on what
is as coarse; fine noise is one class to many."""

CPU_VALUES, GPU_VALUES = 2**20, 2**23
"""Values of all images asked about in one pass, at most: more would leave a core's caches, and fewer a GPU idle."""

AT_ONCE = 64
"""Images asked about in one pass, at most."""


@dataclass(frozen=True)
class HopSkipJump:
    """The nearest adversarial image under L-infinity, from decisions alone.

    It needs an adversarial image to begin with. Foolbox blends the image with uniform noise, which to many a radiology
    network is one class; this begins with the first that is adversarial among blurred images, flat greys, the
    negative, clouds and uniform noise, near before far. And it needs probes on both sides of the boundary: the paper's
    are so short that beyond some 100 pixels a side float32 does not hold them, and the search stands still after its
    first step; these are never shorter than a share of the distance. Many decisions of an estimate are asked together,
    and its noise is the image's own. The rest is Foolbox's.

    Args:
        steps: gradient estimates.
        queries: decisions of an estimate, at most (see `FIRST_QUERIES`).
        channels: "tied" moves the planes of an image together.

    Raises:
        DosimeterError: Foolbox is missing.

    Source: Chen et al. 2020 (arXiv 1904.02144), algorithm 2.
    """

    steps: int = 10
    queries: int = 300
    channels: Literal["tied", "free"] = "tied"
    name: str = "hopskipjump"
    loss: str = "none"
    norm: str = "linf"

    def __post_init__(self) -> None:
        check_channels(self.channels)
        check_positive(steps=self.steps, queries=self.queries)
        _searching_class()

    @property
    def passes(self) -> float:
        """Queries that it takes for an image, about: estimates, and the search for the boundary after each."""
        estimates = sum(min(FIRST_QUERIES * math.sqrt(step), self.queries) for step in range(1, self.steps + 1))
        return estimates + 30 * (self.steps + 1)

    def direction(self, problem: Problem) -> Direction:
        """Return the way to the nearest adversarial image found, and how far it is."""
        return nearest_of_each(problem, self.channels, self._moved)

    def _moved(self, problem: Problem, planes: Planes) -> Tensor:
        start = None if _decided(problem, planes, planes.start) else begin(problem, planes)
        if start is None:  # misclassified as it is, or not to be had
            return torch.zeros_like(problem.images)
        search = _searching_class()(problem, planes, start, steps=self.steps, queries=self.queries)
        try:
            last = run_foolbox(search, problem, planes, starting_points=start)
        except (AssertionError, ValueError):  # Foolbox's words for a classifier that decides otherwise when asked again
            last = planes.images(start) - problem.images
        best = planes.images(search.nearest) - problem.images
        return best if best.abs().amax() < last.abs().amax() else last


def _decided(problem: Problem, planes: Planes, moved: Tensor) -> Tensor:
    """Return (n,) True where the answer about planes (n, 1 or 3, H, W) is what the attack is after."""
    logits = planes(moved)
    predicted: Tensor = logits.argmax(dim=1)
    reached = predicted != problem.labels if problem.targets is None else predicted == problem.targets
    finite: Tensor = logits.isfinite().all(dim=1)
    return reached & finite


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
        window = (min(blur, height), min(blur, width))
        coarse = F.avg_pool2d(image, window, ceil_mode=True, count_include_pad=False)
        yield F.interpolate(coarse, size=size, mode="bilinear")
    for grey in (0.0, 0.5, 1.0):
        yield torch.full_like(image, grey)
    yield 1 - image
    for corners in CLOUDS:
        noise = torch.rand(1, planes, corners, corners, generator=generator).round()
        yield F.interpolate(noise.to(image), size=size, mode="bilinear")
    yield torch.rand(image.shape, generator=generator).to(image)


@cache
def _searching_class() -> Any:
    """Return Foolbox's class with another gradient estimate; each object of it searches for one image."""
    try:
        from foolbox.attacks import HopSkipJumpAttack
    except ImportError as error:
        raise DosimeterError("The hopskipjump attack needs Foolbox: pip install 'dosimeter[attacks]'.") from error

    class Search(HopSkipJumpAttack):  # type: ignore[misc]
        """HopSkipJump for one image.

        Attributes:
            nearest: the adversarial image (1, 1 or 3, H, W) that was nearest so far.
        """

        def __init__(self, problem: Problem, planes: Planes, start: Tensor, *, steps: int, queries: int) -> None:
            first = min(FIRST_QUERIES, queries)
            super().__init__(
                steps=steps, initial_gradient_eval_steps=first, max_gradient_eval_steps=queries, constraint="linf"
            )
            self.problem, self.planes, self.nearest = problem, planes, start
            values = CPU_VALUES if start.device.type == "cpu" else GPU_VALUES
            self.at_once = min(AT_ONCE, max(1, values // problem.images.numel()))

        def select_delta(self, originals: Any, distances: Any, step: int) -> Any:
            """Return how long (1,) probes are, by their L2 norm: as the paper has it, but not lost in rounding."""
            least = PROBE * distances.raw * math.sqrt(originals.raw.numel())
            return type(distances)(torch.maximum(super().select_delta(originals, distances, step).raw, least))

        def approximate_gradients(self, is_adversarial: Any, x_advs: Any, steps: int, delta: Any) -> Any:
            """Return the way to more adversarial images: probes that stay so, less their share of all (equation 16)."""
            image, radius = x_advs.raw, float(delta.item())
            self.nearest = min(self.nearest, image, key=self._distance)
            leading, every, n_leading = torch.zeros_like(image), torch.zeros_like(image), 0
            for first in range(0, steps, self.at_once):
                shape = (min(self.at_once, steps - first), *image.shape[1:])
                noise = 2 * torch.rand(shape, generator=self.problem.generators[0]).to(image) - 1
                noise /= noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
                probes = (image + radius * noise).clamp(0, 1)
                adversarial = _decided(self.problem, self.planes, probes)
                leading += (probes - image)[adversarial].sum(dim=0)
                every += (probes - image).sum(dim=0)
                n_leading += int(adversarial.sum())
            if n_leading in (0, steps):
                return type(x_advs)(every if n_leading else -every)
            return type(x_advs)(leading - n_leading / steps * every)

        def _distance(self, image: Tensor) -> float:
            return float((image - self.planes.start).abs().amax())

    return Search


EFFORT = {"quick": (4, 100), "standard": (10, 300), "thorough": (64, 1000)}
"""Steps, and queries of a gradient estimate at most: some 550, 2,600 and 36,000 queries an image."""

ENTRY = Entry(
    build=lambda effort: HopSkipJump(*EFFORT[effort]),
    note="black box that sees only decisions, some 550, 2600 or 36000 queries (Foolbox)",
    source="Chen et al. 2020, arXiv 1904.02144",
    title="HopSkipJump",
    family="black box",
    access="decisions",
    rank=20,
    searches="minimum",
    extra="attacks",
)
