"""Filters by their frequency response, images mirrored at the border; and noise of a power spectrum."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def frequencies(size: Sequence[int], *, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return v (H, 1) and u (1, W // 2 + 1), in cycles a pixel, as `torch.fft.rfft2` orders them."""
    height, width = size
    v = torch.fft.fftfreq(height, device=device)[:, None]
    return v, torch.fft.rfftfreq(width, device=device)[None]


def gaussian_response(size: Sequence[int], sigma_px: float, *, device: torch.device) -> Tensor:
    """Return the frequency response of a Gaussian blur (H, W // 2 + 1): exp(-2 (pi sigma f)^2)."""
    v, u = frequencies(size, device=device)
    return torch.exp(-2 * (math.pi * sigma_px) ** 2 * (u**2 + v**2))


def line_response(size: Sequence[int], length_px: float, *, device: torch.device) -> Tensor:
    """Return the frequency response of a motion along columns (H, W // 2 + 1): sinc(length v)."""
    v, u = frequencies(size, device=device)
    return torch.sinc(length_px * v).expand(-1, u.shape[1])


def filtered(images: Tensor, response: Callable[[Sequence[int]], Tensor]) -> Tensor:
    """Return images (batch, C, H, W) filtered as if they went on mirrored beyond their border.

    Args:
        response: the size of the mirrored images to their real, even frequency response, as `gaussian_response`.
    """
    height, width = images.shape[2:]
    twice = torch.cat([images, images.flip(2)], dim=2)
    twice = torch.cat([twice, twice.flip(3)], dim=3)
    size = (2 * height, 2 * width)
    made: Tensor = torch.fft.irfft2(torch.fft.rfft2(twice) * response(size), s=size)
    return made[..., :height, :width]


def blurred(images: Tensor, sigma_px: float) -> Tensor:
    """Return images blurred by a Gaussian."""
    return filtered(images, lambda size: gaussian_response(size, sigma_px, device=images.device))


def noise_like(white: Tensor, response: Tensor) -> Tensor:
    """Return noise whose power spectrum is `response` squared, of the variance of the white noise given.

    Args:
        white: (batch, C, H, W).
        response: (H, W // 2 + 1), as `torch.fft.rfft2` orders it.
    """
    height, width = white.shape[2:]
    power = response.square().expand(height, width // 2 + 1)
    twice = power.sum() + power[:, 1 : (width + 1) // 2].sum()  # of a real image's spectrum half is kept
    scale = torch.rsqrt(twice / (height * width))
    noise: Tensor = torch.fft.irfft2(torch.fft.rfft2(white) * response * scale, s=(height, width))
    return noise
