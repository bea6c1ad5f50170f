"""The floor: bare torch loops of one gradient and K forward passes, with all that makes torch fast.

Frozen weights, channels_last, inference mode. It reads no file, checks no ball and writes no table.
"""

import torch
from answers import Answers
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


def sweep(
    network: nn.Module, images: Tensor, labels: Tensor, epsilons: tuple[float, ...], *, batch_size: int
) -> Answers:
    """Return the answers to FGSM on cross-entropy.

    Args:
        network: frozen, in evaluation mode.
        images: (n, 3, H, W) in [0, 1].
        labels: (n,) true labels.
        batch_size: epsilons of one image that are asked at once.
    """
    logits = []
    for image, label in zip(images.split(1), labels.split(1), strict=True):
        pushed = image.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(cross_entropy(network(pushed), label), pushed)
        sign = gradient.sign()  # (1, 3, H, W)
        with torch.inference_mode():
            for first in range(0, len(epsilons), batch_size):
                doses = epsilons[first : first + batch_size]
                logits.append(network(torch.cat([(image + epsilon * sign).clamp(0, 1) for epsilon in doses])))
    return Answers.of(torch.cat(logits).view(len(images), len(epsilons), -1))
