"""The floor: bare torch loops of one gradient and K forward passes, with all that makes torch fast.

Frozen weights, channels_last, inference mode. It reads no file, checks no ball and writes no table.
"""

from typing import NamedTuple

import torch
from answers import Answers
from timing import timed
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Epsilons = tuple[float, ...]


class Batches(NamedTuple):
    """How many images go through the network at once, when gradients are taken and when answers are."""

    gradients: int
    answers: int


def aim(network: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int) -> Tensor:
    """Return FGSM's directions on cross-entropy, (n, 3, H, W), for images in [0, 1] with true labels (n,)."""
    signs = []
    for batch, true in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        pushed = batch.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(cross_entropy(network(pushed), true, reduction="sum"), pushed)
        signs.append(gradient.sign())
    return torch.cat(signs)


def ask(network: nn.Module, images: Tensor, signs: Tensor, epsilons: Epsilons, *, batch_size: int) -> Answers:
    """Return the answers to `images` (n, 3, H, W) along `signs`, `batch_size` epsilons of an image at once."""
    logits = []
    with torch.inference_mode():
        for image, sign in zip(images.split(1), signs.split(1), strict=True):
            for first in range(0, len(epsilons), batch_size):
                doses = epsilons[first : first + batch_size]
                logits.append(network(torch.cat([(image + epsilon * sign).clamp(0, 1) for epsilon in doses])))
    return Answers.of(torch.cat(logits).view(len(images), len(epsilons), -1))


def sweep(network: nn.Module, images: Tensor, labels: Tensor, epsilons: Epsilons, batches: Batches) -> Answers:
    """Return the answers to FGSM on cross-entropy; `network` is frozen and in evaluation mode."""
    signs = aim(network, images, labels, batch_size=batches.gradients)
    return ask(network, images, signs, epsilons, batch_size=batches.answers)


def find_batches(network: nn.Module, images: Tensor, labels: Tensor, epsilons: Epsilons) -> Batches:
    """Return the fastest batches: of 1, 2 or all of `images` for gradients, of 1, 2 or all epsilons for answers."""

    def gradients(size: int) -> float:
        return min(timed(lambda: aim(network, images, labels, batch_size=size)).seconds for _ in range(2))

    def answers(size: int) -> float:
        return min(timed(lambda: ask(network, one, sign, epsilons, batch_size=size)).seconds for _ in range(2))

    one = images[:1]
    sign = aim(network, one, labels[:1], batch_size=1)
    return Batches(min((1, 2, len(images)), key=gradients), min((1, 2, len(epsilons)), key=answers))
