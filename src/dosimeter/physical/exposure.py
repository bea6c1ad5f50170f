"""Grey levels of a radiograph as exposure, and the noise that a dose leaves in it.

A radiograph shown with bone white has grey g = 0 where most quanta arrived. With the usual logarithmic look-up the
number of quanta is q 10^(-D g): q of them where it is black, D decades fewer where it is white.

Source: Veldkamp et al., J. Digit. Imaging 22 (2009) 114: scaled raw pixels and the missing noise.
"""

import torch
from torch import Tensor

from dosimeter.physical.filters import gaussian_response, noise_like

LEAST_SHARE = 1e-6
"""Of the quanta expected, what noise leaves at least: a logarithm must be taken of it."""


def quanta_of(images: Tensor, *, quanta: float, decades: float) -> Tensor:
    """Return the quanta that each grey level stands for, in the shape of `images`."""
    return quanta * torch.pow(10.0, -decades * images)


def with_quanta(images: Tensor, ratio: Tensor, *, decades: float) -> Tensor:
    """Return images of which each pixel receives `ratio` times its quanta, in [0, 1]; the same where it is 1."""
    return (images - torch.log10(ratio.clamp(min=LEAST_SHARE)) / decades).clamp(0, 1)


def correlated_noise(white: Tensor, blur_px: float) -> Tensor:
    """Return noise of variance 1 whose power spectrum is the squared MTF of a Gaussian of `blur_px`.

    Args:
        white: (batch, 1, H, W), of variance 1.
        blur_px: sigma of the detector's point spread; 0: the noise stays white.
    """
    return noise_like(white, gaussian_response(white.shape[2:], blur_px, device=white.device)) if blur_px else white


def missing_variance(quanta: Tensor, fraction: float, electronic: float) -> Tensor:
    """Return what an image at `fraction` of the dose has in variance beyond what scaling the given one leaves it.

    Of the given image the variance is N + e^2, so of the scaled one f^2 (N + e^2); it should be f N + e^2.
    """
    return fraction * (1 - fraction) * quanta + (1 - fraction**2) * electronic**2
