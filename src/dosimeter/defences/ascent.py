"""Attacks inside training: a few steps up a loss within a ball, over whole batches.

They are not for evaluation: they keep the last image and not the best, and a student may compute in bfloat16. The
three planes of an image move together, as a grey image's do.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from dosimeter.models.training import loss_of

Objective = Callable[[Tensor], Tensor]
"""Images (batch, 3, H, W) to what is to grow: a sum over images, so that each has its own gradient."""


def ascend(
    objective: Objective, images: Tensor, *, start: Tensor, epsilon: float | Tensor, steps: int, step: float | Tensor
) -> Tensor:
    """Return images (batch, 3, H, W) after `steps` along the gradient's sign.

    Args:
        objective: see `Objective`.
        images: the middle of the balls.
        start: where the first gradient is taken.
        epsilon: radius of the balls, or of each (batch, 1, 1, 1).
        step: of each step, likewise.

    Source: Madry et al. 2018 (arXiv 1706.06083), section 2.1.
    """
    moved = within(start, images, epsilon)
    for _ in range(steps):
        moved = within(moved + step * tied(gradient_of(objective, moved)).sign(), images, epsilon)
    return moved


def pgd(
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    steps: int,
    noise: torch.Generator,
    step: float | None = None,
) -> Tensor:
    """Return images (b, 3, H, W) after projected gradient ascent of the loss from a random start.

    Args:
        step: of each step; by default so that the ball can be crossed, 2.5 epsilon / steps.
    """
    start = images + epsilon * uniform(images, noise)
    step = 2.5 * epsilon / steps if step is None else step
    return ascend(
        lambda moved: loss_of(network(moved), labels, "sum"),
        images,
        start=start,
        epsilon=epsilon,
        steps=steps,
        step=step,
    )


def gradient_of(objective: Objective, images: Tensor) -> Tensor:
    """Return the gradient of an objective at images, (batch, 3, H, W); the network's parameters get none."""
    images = images.detach().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(objective(images), images)
    return gradient


def within(moved: Tensor, images: Tensor, epsilon: float | Tensor) -> Tensor:
    """Return what is nearest to `moved` in the balls around `images` and in [0, 1]."""
    return torch.clamp(moved.detach(), images - epsilon, images + epsilon).clamp(0, 1)


def tied(gradient: Tensor) -> Tensor:
    """Return a gradient (batch, 3, H, W) of planes that move together."""
    return gradient.sum(dim=1, keepdim=True).expand_as(gradient)


def uniform(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return uniform noise in [-1, 1), the same in all planes: (batch, 1, H, W)."""
    return 2 * torch.rand(len(images), 1, *images.shape[2:], generator=generator).to(images) - 1


def normal(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return normal noise of deviation 1, the same in all planes: (batch, 1, H, W)."""
    return torch.randn(len(images), 1, *images.shape[2:], generator=generator).to(images)
