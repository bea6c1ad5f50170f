"""What votes share: an image asked many times in random variants, and the mean of their answers.

An attacker who differentiates is given the mean of soft answers over draws of the attacker's own (expectation over
transformations): the answers' draws are never met. Each image is asked by itself, a few variants at a time, so that its
answer does not depend on its batch, and where gradients are wanted each few are computed again on the way back, so that
memory does not grow with the draws. Source: Athalye et al. 2018 (arXiv 1802.00420), section 4.2.
"""

import math
from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dosimeter.defences.settings import Within
from dosimeter.models.rings import Inside

CHUNK = 8
"""Variants of an image that are asked together."""

Draws = Annotated[int, Within(1, 100_000)]
Variants = Callable[[Tensor, int, torch.Generator], Tensor]
"""An image (3, H, W), how many, and a generator to the image's variants (n, 3, H, W)."""


def asked(image: Tensor, inside: Inside, variants: Variants, n: int, generator: torch.Generator) -> Tensor:
    """Return what is inside says of `n` variants of an image (3, H, W): outputs (n, n_outputs)."""

    def some(given: Tensor, seed: int, size: int) -> Tensor:
        return inside(variants(given, size, torch.Generator().manual_seed(seed))).outputs.float()

    sizes = [min(CHUNK, n - start) for start in range(0, n, CHUNK)]
    seeds = torch.randint(1 << 62, (len(sizes),), generator=generator).tolist()
    if torch.is_grad_enabled() and image.requires_grad:
        parts = [checkpoint(some, image, *each, use_reentrant=False) for each in zip(seeds, sizes, strict=True)]
    else:
        parts = [some(image, *each) for each in zip(seeds, sizes, strict=True)]
    return torch.cat(parts)


def log_mean(outputs: Tensor, n_classes: int, *, findings: bool) -> Tensor:
    """Return the logits (n_classes,) of the mean probabilities of outputs (n, n_outputs), stable where they saturate.

    A variant that is rejected inside has the less of a voice the surer that is. Of findings each is averaged by itself.
    """
    if findings:
        there, absent = (
            torch.nn.functional.logsigmoid(sign * outputs[:, :n_classes]).logsumexp(dim=0) for sign in (1, -1)
        )
        return there - absent
    logarithms = torch.log_softmax(outputs, dim=1)[:, :n_classes]
    return logarithms.logsumexp(dim=0) - math.log(len(outputs))
