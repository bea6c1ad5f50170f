"""Fidelity of one plane to another: SSIM, MS-SSIM and HaarPSI.

On chest X-rays that experts rated, PSNR and SSIM agreed with them least and HaarPSI best (Breger et al. 2024, arXiv
2405.19224); those were degradations, not attacks.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

MS_SSIM_LEAST_PX = 176
"""Side below which MS-SSIM is undefined: a window of 11 pixels must fit into a sixteenth of the image."""

SSIM_LEAST_PX = 6
"""Side below which SSIM is undefined: its window of 11 pixels reaches 5 beyond the border, and reflects them."""

HAARPSI_LEAST_PX = 16
HAARPSI_C, HAARPSI_ALPHA = 5.0, 4.9
"""Fitted to medical images (Karner et al. 2024, arXiv 2410.24098); to photographs: 30 and 4.2."""


class Fidelity(NamedTuple):
    """1 is identical. None where the image is too small."""

    ssim: float | None
    ms_ssim: float | None
    haarpsi: float | None


def fidelity(reference: Tensor, image: Tensor) -> Fidelity:
    """Return the fidelity of `image` (H, W) to `reference` (H, W), values in [0, 1], data range 1."""
    least = min(image.shape)
    if least < SSIM_LEAST_PX:
        return Fidelity(None, None, None)
    if torch.equal(reference, image):
        return Fidelity(1.0, 1.0 if least >= MS_SSIM_LEAST_PX else None, 1.0 if least >= HAARPSI_LEAST_PX else None)
    from torchmetrics.functional.image import (  # imported where it is needed: it takes seconds
        multiscale_structural_similarity_index_measure as ms_ssim,
    )
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    planes = image[None, None], reference[None, None]
    similarity = ssim(*planes, data_range=1.0)
    assert isinstance(similarity, Tensor)
    return Fidelity(
        ssim=float(similarity),
        ms_ssim=float(ms_ssim(*planes, data_range=1.0)) if least >= MS_SSIM_LEAST_PX else None,
        haarpsi=haarpsi(reference, image) if least >= HAARPSI_LEAST_PX else None,
    )


def haarpsi(reference: Tensor, image: Tensor, *, c: float = HAARPSI_C, alpha: float = HAARPSI_ALPHA) -> float:
    """Return the Haar wavelet perceptual similarity of two grey images (H, W) in [0, 1].

    Args:
        c: how large a coefficient must be, of 255, for its change to matter.
        alpha: steepness of the logistic function.

    Source: Reisenhofer et al., Signal Process. Image Commun. 61 (2018) 33; as there, the images are first halved by
        2 by 2 means.
    """
    pair = 255 * torch.stack([reference, image])[:, None].float()
    height, width = pair.shape[2:]
    odd = max(height % 2, width % 2)
    pair = F.avg_pool2d(F.pad(pair, (0, odd, 0, odd)), 2)  # (2, 1, H / 2, W / 2)
    coefficients = torch.stack([_haar(pair, 2**scale) for scale in (1, 2, 3)], dim=1)  # (2, scale, direction, h, w)
    first, second = coefficients.double().abs()  # the logit below magnifies rounding
    similarity = ((2 * first * second + c) / (first**2 + second**2 + c))[:2].mean(dim=0)  # (direction, h, w)
    weight = torch.maximum(first[2], second[2])
    total = float(weight.sum())
    if total == 0:  # two images without any structure
        return 1.0
    score = float((torch.sigmoid(alpha * similarity) * weight).sum()) / total
    return (math.log(score / (1 - score)) / alpha) ** 2


def _haar(planes: Tensor, size_px: int) -> Tensor:
    """Return the coefficients (n, 2, H, W) of `planes` (n, 1, H, W), across and along."""
    kernel = torch.full((size_px, size_px), 1 / size_px)
    kernel[size_px // 2 :] *= -1
    before, after = size_px // 2 - 1, size_px // 2
    padded = F.pad(planes, (before, after, before, after))
    return F.conv2d(padded, torch.stack([kernel, kernel.T])[:, None])
